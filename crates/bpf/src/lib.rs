// SPDX-License-Identifier: Apache-2.0
//! The kernel side: programs, maps, events.
//!
//! [`Kernel::load`] loads and attaches the programs of `bpf/`; from then on
//! [`Kernel::bind`] makes a cgroup a workload and [`Kernel::apply`] puts a ruleset in force for it,
//! by one store that names another table. [`Reader`] turns the ring buffer into
//! [`gorget_model::KernelEvent`]s. Layouts are written once, in `bpf/abi.h`; nothing outside this
//! crate knows them.
//!
//! Synchronous. One thread owns [`Kernel`], one owns [`Reader`]. A failure changes nothing that is
//! in force.

mod abi;
mod attach;
mod attachable;
mod calls;
mod costs;
mod decode;
mod decode_log;
mod guard;
mod harness;
mod hashes;
mod hooks;
mod kernel;
mod logs;
mod lower;
mod pins;
mod probe;
mod programs;
mod refusal;
mod report;
mod ring;
mod self_test;
mod starting;
mod tables;

pub use attach::LoadError;
pub use attachable::attachable;
pub use costs::{Fill, Measured, ProgramCost, Statistics, are_always_on};
pub use decode::DecodeError;
pub use decode_log::LogRecord;
pub use guard::Protection;
pub use harness::Harness;
pub use hooks::LeftOut;
pub use kernel::{Applied, ApplyError, Kernel, SettleError, WorkloadIndex};
pub use logs::LogCounts;
pub use lower::{LowerError, Table, lower};
pub use pins::{PinError, is_in_force, running_agent, uninstall};
pub use probe::{Feature, Requirement, Support, features, probe};
pub use programs::Programs;
pub use refusal::Refusal;
pub use report::{Outcome, Report, Tried, report};
pub use ring::{LogReader, Reader};
pub use self_test::{SelfTestError, self_test};
pub use starting::{Beginning, Beginnings, Start};
pub use tables::RulesetNumber;
