// SPDX-License-Identifier: Apache-2.0
//! What many workloads on a node cost: `cargo xtask bench node`, inside the virtual machine.
//!
//! `node WORKLOADS RULESETS RULES` makes that many control groups, binds each as a workload, and gives
//! each one of so many rulesets of so many rules; it then looks at the machine's free memory and ends
//! with one line: KiB for the loaded programs, KiB for all workloads and rulesets, rulesets in the kernel.
#![expect(clippy::print_stdout, reason = "a measurement is printed")]

use gorget_bpf::{Applied, Kernel, Programs, uninstall};
use gorget_engine::{PolicySet, Ruleset, compile};
use gorget_model::{Mode, Postures};
use gorget_policy::parse;
use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

const GROUPS: &str = "/sys/fs/cgroup/gorget-node";

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<usize>());
    let mut next = move || -> Result<usize, Box<dyn Error>> {
        Ok(arguments.next().ok_or("three numbers are needed")??)
    };
    let (workloads, rulesets, rules) = (next()?, next()?, next()?);
    let rulesets: Vec<Ruleset> = (0..rulesets)
        .map(|number| ruleset(number, rules))
        .collect::<Result<_, _>>()?;
    for workload in 0..workloads {
        fs::create_dir_all(group(workload))?;
    }

    let empty = used_kib()?;
    let mut kernel = Kernel::load(Programs::Enforcing)?;
    let loaded = used_kib()?;
    let mut numbers = BTreeSet::new();
    for (workload, ruleset) in (0..workloads).zip(rulesets.iter().cycle()) {
        let index = kernel.bind(fs::metadata(group(workload))?.ino())?;
        match kernel.apply(index, Some(ruleset), Mode::Enforced)? {
            Applied::Ruleset(number) => numbers.insert(number),
            Applied::Nothing => return Err("a ruleset says nothing".into()),
        };
    }
    let full = used_kib()?;
    println!(
        "{},{},{}",
        loaded.saturating_sub(empty),
        full.saturating_sub(loaded),
        numbers.len()
    );
    drop(kernel);
    uninstall()?;
    for workload in 0..workloads {
        fs::remove_dir(group(workload))?;
    }
    Ok(fs::remove_dir(GROUPS)?)
}

fn group(workload: usize) -> String {
    format!("{GROUPS}/{workload}")
}

fn ruleset(number: usize, rules: usize) -> Result<Ruleset, Box<dyn Error>> {
    let mut text = format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
         metadata: {{name: p{number}}}\nspec:\n  selector: {{matchLabels: {{app: a}}}}\n  \
         file:\n    matchPaths:\n"
    );
    for rule in 0..rules {
        writeln!(text, "    - {{path: /srv/{number}/data/{rule}.conf}}")?;
    }
    let parsed = parse("node.yaml", &text);
    let policies = parsed.policies.into_iter().map(Arc::new).collect();
    Ok(compile(&PolicySet::new(policies, Postures::default()))?)
}

/// Memory in use, kernel's included, but for what can be given back.
fn used_kib() -> Result<u64, Box<dyn Error>> {
    let info = fs::read_to_string("/proc/meminfo")?;
    let field = |name: &str| -> Result<u64, Box<dyn Error>> {
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|rest| rest.split_whitespace().next());
        Ok(number.ok_or("no such line in /proc/meminfo")?.parse()?)
    };
    Ok(field("MemTotal:")?.saturating_sub(field("MemAvailable:")?))
}
