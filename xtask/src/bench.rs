// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask bench`: what things cost, with the method beside the figures in
//! `docs/performance.md`.
//!
//! What the kernel's side costs is measured in the virtual machine, in executed instructions
//! (`vmtest/src/bin/bench`), and written to `docs`: the page's generated part, plots, and a table of
//! all figures, which the next run is compared with. What compiling policies costs is measured on the
//! host and only printed.

mod figures;
mod page;
mod plot;

use crate::vm::{self, Job, Vm};
use crate::{binaries, command, print, tools};
use anyhow::{Context as _, Result, bail};
use figures::Figures;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// Workloads, different rulesets among them, and rules in each.
const NODES: [(u32, u32, u32); 4] = [
    (5_000, 1, 1_000),
    (5_000, 20, 1_000),
    (5_000, 500, 100),
    (1, 1, 10_000),
];

/// What many workloads cost a node: memory, in the virtual machine, in a release build.
pub(crate) fn node() -> Result<u8> {
    tools::for_building()?;
    let job = Job {
        files: vec![("node".to_owned(), binaries::node()?)],
        command: NODES
            .map(|(workloads, rulesets, rules)| {
                let it = format!("{workloads} {rulesets} {rules}");
                format!("echo \"$(./node {it}),{workloads},{rulesets},{rules}\"")
            })
            .join(" && "),
        output: None,
    };
    let outcome = vm::run(&Vm::default(), &job, &mut |_| ())?;
    match outcome.ending {
        Ok(0) => {}
        Ok(code) => bail!("measuring ended with exit code {code}: {}", outcome.output),
        Err(why) => bail!(why),
    }
    println!("workloads  rulesets  rules in each  programs KiB  workloads and rulesets KiB");
    for line in outcome.output.lines() {
        let figures: Vec<&str> = line.trim().split(',').collect();
        if let [programs, all, rulesets, workloads, _, rules] = figures.as_slice() {
            println!("{workloads:>9} {rulesets:>9} {rules:>14} {programs:>13} {all:>27}");
        }
    }
    Ok(0)
}

const FIGURES: &str = "docs/performance.csv";
const PAGE: &str = "docs/performance.md";
const BY_RULES: &str = "docs/performance-rules.svg";
const BY_DEPTH: &str = "docs/performance-depth.svg";

/// The guest runs at a tenth of the speed of its machine or less.
const TIMEOUT: Duration = Duration::from_hours(1);
/// Where things are in memory, and so how far apart in a cache or a hash table, is the same on every
/// boot.
const SAME_PLACES: &str = "nokaslr norandmaps";

/// What enforcement costs: executed instructions, in the virtual machine, in a release build.
pub(crate) fn enforcement() -> Result<u8> {
    tools::for_building()?;
    println!("building (release, minutes the first time) ...");
    let mut files = binaries::measured()?;
    let vm = Vm {
        icount: true,
        append: SAME_PLACES.to_owned(),
        timeout: TIMEOUT,
        ..Vm::default()
    };
    let compiler = vm::compiler(vm.user_space)?;
    files.push(("compiler.tar".to_owned(), compiler));
    let script = PathBuf::from("vmtest/guest/bench-macro.sh");
    files.push(("bench-macro.sh".to_owned(), script));
    println!("measuring (about ten minutes) ...");
    let job = Job {
        files,
        command: "tar -C / -xf compiler.tar --touch && ./bench all".to_owned(),
        output: None,
    };
    let outcome = vm::run(&vm, &job, &mut print)?;
    match outcome.ending {
        Ok(0) => {}
        Ok(code) => bail!("measuring ended with exit code {code}"),
        Err(why) => bail!(why),
    }
    let measured = Figures::in_output(&outcome.output)?;
    if let Ok(text) = fs::read_to_string(FIGURES) {
        println!("{}", measured.comparison(&Figures::in_table(&text)?));
    }
    write(&measured)?;
    Ok(0)
}

fn write(measured: &Figures) -> Result<()> {
    let page = fs::read_to_string(PAGE).with_context(|| format!("cannot read `{PAGE}`"))?;
    let page = page::with_generated(&page, &page::generated(measured)?)?;
    let results = [
        (FIGURES, measured.table()),
        (PAGE, page),
        (BY_RULES, plot::svg(&page::by_rules(measured)?)),
        (BY_DEPTH, plot::svg(&page::by_depth(measured)?)),
    ];
    for (file, text) in results {
        fs::write(Path::new(file), text).with_context(|| format!("cannot write `{file}`"))?;
    }
    println!("written: {FIGURES}, {PAGE}, {BY_RULES}, {BY_DEPTH}");
    Ok(())
}
