// SPDX-License-Identifier: Apache-2.0
//! What `gorgetd --probe` found out by trying, as the JSON that it prints and `gorget probe` reads.
//!
//! Fields may be added; a reader takes what it knows.

use serde::{Deserialize, Serialize};

/// Everything that was tried.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tried {
    /// What the kernel programs are made of.
    pub features: Vec<Feature>,
    /// Whether a program that lets everything pass can be at a hook of security modules.
    pub attach: Outcome,
}

/// Something that the kernel's BPF can do, or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Feature {
    /// What.
    pub name: String,
    /// The first Linux that has it.
    pub since: String,
    /// What Gorget needs it for.
    pub used_for: String,
    /// Only enforcing needs it.
    pub only_to_enforce: bool,
    /// What came of trying it.
    pub outcome: Outcome,
}

/// What came of trying something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// It works.
    Works,
    /// The kernel does not have it.
    Lacking,
    /// The kernel refused, for another reason.
    Refused(String),
    /// It was not tried, because of this.
    NotTried(String),
    /// Nothing is said about it.
    #[default]
    Unknown,
}
