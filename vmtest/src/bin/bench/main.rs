// SPDX-License-Identifier: Apache-2.0
//! The guest's side of `cargo xtask bench`: puts the machine into one situation after the other and
//! measures in each what operations cost.
//!
//! The unit is the executed instruction: under QEMU's `-icount shift=0` the clock goes on by one
//! nanosecond with each. What is measured runs in a process of its own (`bench measure OPERATION`)
//! on the host's workload, by the same code before and after, and everything that the only processor
//! does meanwhile counts.
//!
//! Each figure is a line `figure SITUATION,OPERATION,VALUE` on standard output. Anything that goes
//! wrong ends the program, so that there are all figures or none.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measuring program runs programs and prints what it measured"
)]

mod operations;
mod rules;
mod situations;
mod storm;

use anyhow::{Context as _, Result, bail};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["measure", operation, rest @ ..] => operations::measure(operation, rest),
        ["all", rest @ ..] => situations::all(rest),
        _ => Err(anyhow::anyhow!("unknown arguments {words:?}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs `bench measure` with these arguments and returns what it printed.
fn measured(arguments: &[&str]) -> Result<u64> {
    let own = std::env::current_exe().context("cannot find this program")?;
    let output = std::process::Command::new(own)
        .arg("measure")
        .args(arguments)
        .output()
        .context("cannot run this program again")?;
    let said = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("measuring {arguments:?} failed: {}", why.trim());
    }
    said.trim()
        .parse()
        .with_context(|| format!("measuring {arguments:?} printed `{said}`"))
}

fn report(situation: &str, operation: &str, value: u64) {
    println!("figure {situation},{operation},{value}");
}
