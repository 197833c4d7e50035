// SPDX-License-Identifier: Apache-2.0
//! The OCI hook: a runtime tells the agent of a container before its first program, and waits.
//!
//! [`main`] is the program `gorget-hook`. As a hook it reads the container's state, tells the agent and
//! ends when the agent has answered that the container's rules are in force. Called by the name of a
//! runtime it adds itself to the container's hooks and becomes that runtime: for managers that know no
//! directory of hooks. [`serve`] is the agent's end.
//!
//! One connection is one [`Message`] as JSON, ended by closing that direction, and one [`Answer`].
//!
//! Failure: when the agent does not answer in time, says no, or cannot be told, the container starts
//! or does not, as [`Settings`] says, and is counted in a file that the agent reads ([`missed`]).

pub mod missed;
mod program;
mod runtime;
mod server;
mod settings;

pub use program::main;
pub use server::{Question, serve};
pub use settings::{CONFIG, Settings, SettingsError, WhenDown};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What a message may have; most of it are annotations, of which Kubernetes allows 256 KiB.
const LARGEST_MESSAGE: u64 = 1 << 20;
/// What an answer may have: a reason, for people.
const LARGEST_ANSWER: u64 = 64 << 10;

/// What the hook tells the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Message {
    /// A container is about to run its first program.
    Starting(Starting),
    /// A container has ended.
    Stopped {
        /// As the runtime calls it.
        id: String,
    },
}

/// A container that has a cgroup and a first process, which has not yet executed the container's
/// program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Starting {
    /// As the runtime calls it.
    pub id: String,
    /// The first process, in the initial pid namespace.
    pub pid: u32,
    /// The directory that the runtime has made it from.
    pub bundle: PathBuf,
    /// Its root directory as the runtime sees it.
    #[serde(default)]
    pub root: Option<PathBuf>,
    /// What the container manager noted for itself.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub enum Answer {
    /// Done: the container's rules are in force, or what was told is noted.
    Done,
    /// The container's rules are not in force.
    Failed {
        /// Why.
        reason: String,
    },
    /// The message is none, or is not from root.
    Refused {
        /// What is wrong with it.
        reason: String,
    },
}
