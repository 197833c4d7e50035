// SPDX-License-Identifier: Apache-2.0
//! The vocabulary that every other crate shares.
//!
//! Plain values without behaviour of their own: who acts ([`Workload`]), what was attempted
//! ([`Access`]), what was decided ([`Verdict`]), what the kernel reported ([`KernelEvent`]) and what
//! people are told ([`Event`]). Nothing here performs I/O, reads a clock or knows a file format; the
//! meaning of a policy is in `gorget-engine`, wire formats are in `gorget-telemetry`.
#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::wildcard_enum_match_arm)]

mod access;
mod capability;
mod causes;
mod device;
mod event;
mod kernel;
mod log;
pub mod network;
mod preset;
mod syscall;
mod visibility;
mod workload;

pub use access::{Access, Category, Modes, Object, Subject};
pub use access::{Cause, Outcome, RuleId, Verdict};
pub use capability::Capability;
pub use causes::with_causes;
pub use device::{Device, class_by_name};
pub use event::{
    Alert, AlertAction, AlertKind, Event, ExecSession, Level, Log, Message, Node, PolicyRef,
    Process, Threshold,
};
pub use kernel::{FileHash, Hashes, KernelEvent, Loss, LossStage, Operation, OtherPath};
pub use kernel::{Session, Tamper, TaskInfo};
pub use log::{Address, Asked, KernelLog, KernelRepeats, Logged, LoggedPath, Repeats};
pub use network::{Protocol, Socket};
pub use preset::Preset;
pub use syscall::Syscall;
pub use visibility::{UnknownVisibility, Visibility};
pub use workload::{Container, Host, Mode, Owner, PROFILE_PREFIX, Posture, Postures, Workload};
