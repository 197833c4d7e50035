// SPDX-License-Identifier: Apache-2.0
//! What is measured in which situation, and the files that takes.

use crate::operations::{FILES, file_name};
use crate::rules::{MATCHED, Rules, UNMATCHED};
use crate::{measured, report, rules, storm};
use anyhow::{Context as _, Result, bail};
use gorget_vmtest::Agent;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Numbers of rules.
const RULES: [usize; 5] = [1, 10, 100, 1000, 10_000];
/// Where a depth is not varied.
const DEPTH: usize = 5;
const DEPTHS: [usize; 4] = [2, DEPTH, 10, 20];
/// Situations in which it is.
const DEPTHS_IN: [&str; 3] = ["none", "loaded", "files-100"];
/// Names of the directories down to the deepest file.
const NAMES: [&str; 18] = [
    "app", "data", "cache", "by-name", "2024", "january", "monday", "morning", "first", "a",
    "b-side", "c", "delta", "echo", "foxtrot", "golf", "hotel", "india",
];
/// In a file system of its own: removing files from one on a disk would measure the disk's, too.
const SCRATCH: &str = "/tmp/bench/app/data";
const TREE: &str = "/another/tree";
/// What `exec` runs, and a script for a real task.
const PROGRAM: &str = "/another/app/data/cache/nothing";
const MATCHED_PROGRAM: &str = "/matched/app/data/cache/nothing";
/// The smallest program there is: what is measured is the kernel's work for it.
const NOTHING: &str = "void _start(void) {
    __asm__ volatile(\"mov $60, %eax; xor %edi, %edi; syscall\");
}
";
const SCRIPT: &str = "/job/bench-macro.sh";

/// The directory whose files have this depth.
fn directory(top: &str, depth: usize) -> String {
    let mut path = top.to_owned();
    for name in NAMES.iter().take(depth.saturating_sub(2)) {
        path.push('/');
        path.push_str(name);
    }
    path
}

/// Measures everything, or with `quick` only what the first question needs.
pub(crate) fn all(arguments: &[&str]) -> Result<()> {
    let quick = arguments.contains(&"quick");
    prepare()?;
    everything_in("none", quick)?;
    let mut agent = Agent::start_with("", &[]);
    everything_in("loaded", quick)?;
    let mut in_force = |rules: &Rules| -> Result<()> {
        agent.write_policy("bench.yaml", &rules.text);
        agent.wait_for(&format!("in force for `gorget-vm`: {}", rules.name));
        Ok(())
    };
    in_force(&rules::network())?;
    everything_in("network-1", quick)?;
    for count in RULES {
        if quick && count != 100 {
            continue;
        }
        let rules = rules::files(count)?;
        in_force(&rules)?;
        files_in(&rules.name, quick)?;
        if count == 100 && !quick {
            others_in(&rules.name)?;
        }
    }
    if quick {
        return Ok(());
    }
    for count in RULES {
        let rules = rules::processes(count)?;
        in_force(&rules)?;
        processes_in(&rules.name)?;
    }
    let rules = rules::everything(100)?;
    in_force(&rules)?;
    everything_in(&rules.name, quick)?;
    drop(agent);
    visible()?;
    storm::measure()
}

/// No policy, but all that the host does is logged.
fn visible() -> Result<()> {
    let log = "/tmp/visible.json";
    let config = format!("hostVisibility: process,file,network,capabilities\nlogPath: {log}\n");
    let mut agent = Agent::start_with(&config, &[]);
    agent.wait_until("something is logged", || {
        fs::metadata(log).is_ok_and(|file| file.len() > 0)
    });
    everything_in("visible", false)
}

fn everything_in(situation: &str, quick: bool) -> Result<()> {
    files_in(situation, quick)?;
    if quick {
        return Ok(());
    }
    others_in(situation)
}

fn others_in(situation: &str) -> Result<()> {
    processes_in(situation)?;
    for operation in ["connect", "capable"] {
        report(situation, operation, measured(&[operation])?);
    }
    report(situation, "macro", measured(&["run", SCRIPT])?);
    Ok(())
}

fn files_in(situation: &str, quick: bool) -> Result<()> {
    for (top, label) in [(UNMATCHED, "unmatched"), (MATCHED, "matched")] {
        for depth in DEPTHS {
            if depth != DEPTH && (quick || !DEPTHS_IN.contains(&situation)) {
                continue;
            }
            for operation in ["open-again", "open-in-turn"] {
                let cost = measured(&[operation, &directory(top, depth)])?;
                report(situation, &format!("{operation}/{label}/{depth}"), cost);
            }
        }
    }
    if quick {
        return Ok(());
    }
    report(situation, "walk", measured(&["walk", TREE])?);
    report(situation, "unlink", measured(&["unlink", SCRATCH])?);
    Ok(())
}

fn processes_in(situation: &str) -> Result<()> {
    for (program, label) in [(PROGRAM, "unmatched"), (MATCHED_PROGRAM, "matched")] {
        let cost = measured(&["exec", program])?;
        report(situation, &format!("exec/{label}/{DEPTH}"), cost);
    }
    Ok(())
}

fn prepare() -> Result<()> {
    for top in [UNMATCHED, MATCHED] {
        for depth in DEPTHS {
            let directory = directory(top, depth);
            fs::create_dir_all(&directory)?;
            for number in 0..FILES {
                fs::write(file_name(&directory, number), "some text\n")?;
            }
        }
    }
    fs::create_dir_all(SCRATCH)?;
    for place in 0..5 {
        let directory = Path::new(TREE).join(format!("directory-{place:02}/inner"));
        fs::create_dir_all(&directory)?;
        for number in 0..18 {
            fs::write(directory.join(format!("entry-{number:02}")), "")?;
        }
    }
    fs::write("/tmp/nothing.c", NOTHING)?;
    for program in [PROGRAM, MATCHED_PROGRAM] {
        let arguments = ["-nostdlib", "-static", "-o", program, "/tmp/nothing.c"];
        let compiled = Command::new("tcc").args(arguments).status();
        if !compiled.context("cannot run `tcc`")?.success() {
            bail!("`{program}` cannot be made");
        }
    }
    rustix::fs::sync();
    Ok(())
}
