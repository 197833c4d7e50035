// SPDX-License-Identifier: Apache-2.0
//! What of the configuration can be changed while the agent runs: what is visible.
//!
//! `gorgetd --reload`, or systemd, sends SIGHUP. A file that cannot be used changes nothing.

use crate::config::{Args, Config};
use crate::enforcer::Command;
use crate::report::Reporter;
use gorget_model::with_causes;
use std::sync::mpsc::Sender;
use tokio::signal::unix::Signal;

/// Reads the configuration again whenever the signal comes.
pub(crate) async fn follow(
    mut signal: Signal,
    args: Args,
    host_name: String,
    commands: Sender<Command>,
    reporter: Reporter,
) {
    while signal.recv().await.is_some() {
        match Config::load(&args, &host_name) {
            Ok(config) => {
                reporter.info("the configuration was read again for what is visible");
                if commands.send(Command::Visibility(config.visible)).is_err() {
                    return;
                }
            }
            Err(error) => reporter.error(format!(
                "the configuration was not read again, what was configured stays: {}",
                with_causes(&error)
            )),
        }
    }
}
