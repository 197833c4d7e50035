// SPDX-License-Identifier: Apache-2.0
//! `gorget version`: the version and the commit it was built from.
//!
//! The commit is `unknown` for builds outside a git checkout.

use crate::render;
use clap::Args;
use std::process::ExitCode;

const VERSION: &str = env!("CARGO_PKG_VERSION");
const REVISION: &str = env!("GORGET_REVISION");

/// What `--version` says after the name.
pub(crate) const LONG: &str = concat!(
    env!("CARGO_PKG_VERSION"),
    " (",
    env!("GORGET_REVISION"),
    ")"
);

#[derive(Args)]
pub(crate) struct Arguments {
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let text = if arguments.json {
        json()
    } else {
        format!("gorget {LONG}")
    };
    render::print(&format!("{text}\n"))?;
    Ok(ExitCode::SUCCESS)
}

/// As JSON.
pub(crate) fn json() -> String {
    serde_json::json!({ "version": VERSION, "revision": REVISION }).to_string()
}
