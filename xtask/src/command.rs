// SPDX-License-Identifier: Apache-2.0
//! Running other programs.
//!
//! Build tasks are mostly a matter of calling cargo, Debian's tools and QEMU.
//! This is the one place that makes a `Command`, so that failures are reported
//! alike: with the program's name, its status and the end of what it said.

use anyhow::{Context as _, Result, bail};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

/// How much of a failed program's messages an error repeats.
const MESSAGE_LINES: usize = 15;

pub(crate) fn new(program: impl AsRef<OsStr>) -> Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "INVARIANT: the rule is for the agent; tasks run other programs"
    )]
    Command::new(program)
}

/// A program that has to run as root: through `sudo` unless this is root.
pub(crate) fn as_root(program: &str) -> Result<Command> {
    let own = fs::metadata("/proc/self").context("cannot find out which user this is")?;
    if own.uid() == 0 {
        return Ok(new(program));
    }
    let mut sudo = new("sudo");
    sudo.arg(program);
    Ok(sudo)
}

/// Runs a program to its end and returns what it wrote to its output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let ended = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run `{name}`"))?;
    if !ended.status.success() {
        let messages = String::from_utf8_lossy(&ended.stderr).into_owned();
        bail!("`{name}` failed ({}):\n{}", ended.status, tail(&messages));
    }
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}

/// Runs a program to its end; what it says is shown only if it fails.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// The last lines of what a program said.
pub(crate) fn tail(messages: &str) -> String {
    let lines: Vec<&str> = messages.lines().collect();
    let skipped = lines.len().saturating_sub(MESSAGE_LINES);
    lines
        .into_iter()
        .skip(skipped)
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_is_named_with_its_last_messages() {
        let error = output(new("sh").args(["-c", "seq 1 40 >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("`sh` failed (exit status: 3)"), "{text}");
        assert!(text.ends_with("\n40") && !text.contains("\n25\n"), "{text}");
    }

    #[test]
    fn the_output_of_a_program_is_returned() {
        assert_eq!(output(new("echo").arg("one")).unwrap(), "one\n");
    }
}
