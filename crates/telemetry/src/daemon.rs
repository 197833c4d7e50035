// SPDX-License-Identifier: Apache-2.0
//! A daemon's beginning and end.

use std::fmt::Display;
use std::process::ExitCode;
use tracing_subscriber::EnvFilter;

/// What a daemon says of itself goes to standard error, as far as this variable says in `tracing`'s notation;
/// `info` without it.
const FILTER: &str = "GORGET_LOG";

/// Runs a daemon; why it failed is the last thing that it says.
pub fn run_daemon<E: Display>(daemon: impl FnOnce() -> Result<(), E>) -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(
            EnvFilter::try_from_env(FILTER).unwrap_or_else(|_unset| EnvFilter::new("info")),
        )
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
    match daemon() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
