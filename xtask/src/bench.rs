// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench`: what things cost, with the method beside the figures in
//! `docs/performance.md`.

use crate::command;
use anyhow::{Context as _, Result};

/// Numbers of rules for which compiling is measured.
const RULES: [&str; 6] = ["10", "100", "1000", "3000", "5000", "10000"];

/// Compiling policies: time and memory, on the host, in a release build.
pub(crate) fn compile() -> Result<u8> {
    let example = [
        "--quiet",
        "--release",
        "-p",
        "gorget-engine",
        "--example",
        "compile_cost",
    ];
    command::run(command::new("cargo").arg("build").args(example))?;
    println!("rules  parse ms  compile ms  peak KiB  file states  process states  source classes");
    for rules in RULES {
        let run = command::output(
            command::new("cargo")
                .arg("run")
                .args(example)
                .args(["--", rules]),
        )?;
        let figures: Vec<&str> = run.trim().split(',').collect();
        let [rules, parse, compile, peak, file, process, sources] = figures
            .try_into()
            .ok()
            .context("the measurement did not say its seven figures")?;
        println!(
            "{rules:>5} {parse:>9} {compile:>11} {peak:>9} {file:>12} {process:>15} {sources:>15}"
        );
    }
    Ok(0)
}
