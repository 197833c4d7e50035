// SPDX-License-Identifier: Apache-2.0
//! Tells the program which commit it is built from, as `GORGET_REVISION`.
//!
//! Outside a git checkout, as in a source archive, and without git the revision is `unknown`: a
//! build never fails for it. A `.git` of a directory further up is not ours and is not asked.
#![expect(clippy::disallowed_methods, reason = "asks git, at build time only")]

use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let revision = if Path::new("../../.git").exists() {
        // HEAD changes with the branch, its log with every commit.
        for file in ["HEAD", "logs/HEAD"] {
            if let Some(path) = git(&["rev-parse", "--git-path", file])
                && Path::new(&path).exists()
            {
                println!("cargo::rerun-if-changed={path}");
            }
        }
        git(&["rev-parse", "--short=12", "HEAD"])
    } else {
        None
    };
    let revision = revision.as_deref().unwrap_or("unknown");
    println!("cargo::rustc-env=GORGET_REVISION={revision}");
}

/// What git prints, if it does not fail.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}
