// SPDX-License-Identifier: Apache-2.0
//! From what the kernel reports to what people are told.
//!
//! [`Tracker`] is a state machine without I/O: it is told which workloads and rulesets there are, and
//! turns a [`gorget_model::KernelEvent`] into an [`gorget_model::Event`]. It never decides again which rule it was; the kernel's
//! answer carries the rule's number. An event of a workload or ruleset that ended a moment ago is
//! still told rightly, because both are remembered for a while; one that nobody knows any more is
//! told as what it is, with what is known. [`Repeating`] does the same for what workloads do where that is to be
//! visible.
#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::wildcard_enum_match_arm)]

mod logs;
mod tracker;

pub use logs::Repeating;
pub use tracker::Tracker;
