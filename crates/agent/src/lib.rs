// SPDX-License-Identifier: Apache-2.0
//! The agent: wires policies, containers, kernel and telemetry together.
//!
//! Who owns what:
//!
//! - one thread owns the kernel side (`enforcer`): it alone knows what is in force and changes it;
//! - one thread reads the ring buffer and publishes alerts;
//! - one single-threaded tokio runtime watches the policy directory, containerd and signals, and
//!   serves the feed. Its tasks are spawned in `tasks` and nowhere else.
//!
//! Invariant: a change that cannot be made leaves in force what was in force, and is reported.
//! Nothing a policy file, containerd or a client sends can end the agent.

mod announce;
mod apparmor;
mod clock;
mod cluster;
mod config;
mod costs;
mod documents;
mod durable;
mod enforcer;
mod listen;
mod logs;
mod memory;
mod outputs;
mod policies;
mod reload;
mod report;
mod resolve;
mod run;
mod runtimes;
mod sinks;
mod sources;
mod status;
mod store;
mod tasks;
mod throttle;
mod tried;

pub use config::Args;
pub use run::run;
