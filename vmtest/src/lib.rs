// SPDX-License-Identifier: Apache-2.0
//! What the scenarios inside the virtual machine are made of.
//!
//! The tests in `tests/` run as root in a throw-away guest, one after the other, and drive the agent
//! as its users do: a policy directory goes in, JSON lines come out, containers are started by a real
//! containerd. Nothing of the agent is linked. Outside the guest they refuse to run.
//!
//! Waiting is always for a condition: a line the agent says, an alert that must come. [`TIMEOUT`]
//! only turns a wait that will never end into a failure.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test tool runs programs, waits for them and prints what they do"
)]

mod actor;
mod agent;
#[cfg(feature = "cluster")]
pub mod cluster;
mod container;
pub mod files;
mod lines;
pub mod objects;
pub mod perl;
pub mod raw_calls;
mod small_root;

pub use actor::{Actor, Done, Operation};
pub use agent::{Agent, alert_field, reload, uninstall};
pub use container::{Container, Containerd};
pub use small_root::{packed, small_root};

use std::path::Path;
use std::time::Duration;

/// Longer than anything takes in a guest under software emulation on a busy machine.
pub const TIMEOUT: Duration = Duration::from_secs(240);

/// Where the job's files are in the guest.
pub const JOB: &str = "/job";

/// Panics anywhere but in the guest: these tests enforce policies on the machine they run on.
pub fn only_in_the_guest() {
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    assert!(
        hostname.trim() == "gorget-vm" && Path::new(JOB).is_dir(),
        "these tests run in the virtual machine only: use `cargo xtask test`"
    );
}

/// How often a test repeats something that it repeats `all` times in the long run, which is
/// `cargo xtask test --all-kernels` or `--kernel`: a tenth of that in the default run.
pub fn times(all: usize) -> usize {
    match std::env::var_os("GORGET_LONG_RUN") {
        Some(_) => all,
        None => all / 10,
    }
}

/// Whether the guest was booted with `bpf` among its security modules: without it nothing is denied.
pub fn has_bpf_lsm() -> bool {
    let modules = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    modules.trim().split(',').any(|name| name == "bpf")
}
