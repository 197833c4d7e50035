// SPDX-License-Identifier: Apache-2.0
//! What the guest's kernel can do, held against what is written down about it.
//!
//! These run on every kernel, those that Gorget refuses included. `GORGET_KERNEL` is the name of the
//! kernel in `kernels.toml`, which `cargo xtask kernel-support` writes.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "runs the agent and the report")]

use gorget_vmtest::{JOB, has_bpf_lsm, only_in_the_guest};
use std::fs;
use std::process::{Command, Output};
use toml::{Table, Value};

/// By how much the verifier may go through more or fewer instructions, in percent.
const TOLERANCE: i64 = 10;

/// A table and what is in it, by name.
fn entries(report: &Table, table: &str) -> Vec<(String, Value)> {
    let entries = report[table].as_table().expect("a table");
    entries
        .iter()
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// What is written down about this kernel.
fn written() -> Table {
    only_in_the_guest();
    let kernel = std::env::var("GORGET_KERNEL").expect("`GORGET_KERNEL` names the kernel");
    let all: Table = fs::read_to_string(format!("{JOB}/kernels.toml"))
        .expect("`kernels.toml` is in the job")
        .parse()
        .expect("`kernels.toml` is TOML");
    all[&kernel].as_table().expect("a table").clone()
}

fn run(program: &str, arguments: &[&str]) -> Output {
    only_in_the_guest();
    Command::new(format!("{JOB}/{program}"))
        .args(arguments)
        .output()
        .expect("the program runs")
}

/// Programs that do not do what is written about them.
fn differences(written: &Table, found: &Table) -> Vec<String> {
    let set = |set| differences_of(entries(written, set), entries(found, set));
    ["programs", "audit_only", "logs"]
        .into_iter()
        .flat_map(set)
        .collect()
}

fn differences_of(known: Vec<(String, Value)>, found: Vec<(String, Value)>) -> Vec<String> {
    let mut differences: Vec<_> = known
        .iter()
        .filter(|(name, _)| !found.iter().any(|(other, _)| other == name))
        .map(|(name, _)| format!("`{name}` is gone"))
        .collect();
    for (name, now) in found {
        let before = known.iter().find(|(other, _)| *other == name);
        let Some((_, before)) = before else {
            differences.push(format!("`{name}` is new"));
            continue;
        };
        let count = |program: &Value| program.get("instructions")?.as_integer();
        let same = match (count(before), count(&now)) {
            (Some(before), Some(now)) => (now - before).abs() * 100 <= before * TOLERANCE,
            _ => *before == now,
        };
        if !same {
            differences.push(format!("`{name}` was {before}, is {now}"));
        }
    }
    differences
}

#[test]
fn the_kernel_takes_every_program_as_it_is_written() {
    let written = written();
    let report = run("kernel_report", &[]);
    assert!(report.status.success(), "{report:?}");
    let found: Table = String::from_utf8(report.stdout)
        .expect("a report is text")
        .parse()
        .expect("a report is TOML");
    let differences = differences(&written, &found);
    assert!(
        differences.is_empty(),
        "compiled by {}, the figures are for {}; if this is meant, run `cargo xtask \
         kernel-support`: {differences:#?}",
        found["compiler"],
        written["compiler"]
    );
    assert_eq!(written["features"], found["features"]);
}

#[test]
fn a_program_that_grew_by_more_than_a_tenth_is_noticed() {
    let table = |count: u32| -> Table {
        format!("[audit_only]\n[logs]\n[programs]\nfile_open = {{ hook = \"lsm/file_open\", instructions = {count} }}")
            .parse()
            .unwrap()
    };
    assert!(differences(&table(1000), &table(1100)).is_empty());
    assert!(differences(&table(1000), &table(900)).is_empty());
    assert_eq!(differences(&table(1000), &table(1101)).len(), 1);
    assert_eq!(differences(&table(1000), &table(899)).len(), 1);
    let none: Table = "[audit_only]\n[logs]\n[programs]".parse().unwrap();
    assert_eq!(differences(&table(1), &none), ["`file_open` is gone"]);
    assert_eq!(differences(&none, &table(1)), ["`file_open` is new"]);
}

#[test]
fn the_agent_checks_the_machine_and_names_everything_that_it_lacks() {
    let lacking: Vec<_> = entries(&written(), "features")
        .into_iter()
        .filter(|(_, feature)| feature["works"].as_bool() == Some(false))
        .collect();
    let active = has_bpf_lsm();
    let modules = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let by_profiles = lacking.is_empty() && !active && modules.contains("apparmor");
    let checked = run("gorgetd", &["--check"]);
    let said = String::from_utf8_lossy(&checked.stderr);
    assert_eq!(
        checked.status.success(),
        lacking.is_empty() && active || by_profiles,
        "{said}"
    );
    let can_audit = lacking.is_empty();
    for (name, feature) in lacking {
        let since = feature["since"].as_str().expect("a version");
        let line = said
            .lines()
            .find(|line| line.contains(&format!("{name} is missing")));
        let remedy = format!("to get it: run Linux {since} or newer");
        assert!(
            line.is_some_and(|line| line.contains(&remedy)),
            "{name}: {said}"
        );
    }
    let refused = said.contains("BPF LSM is missing") && said.contains("add `bpf` to the list");
    assert_eq!(refused, !active, "{said}");
    assert_eq!(said.contains("AppArmor enforces"), by_profiles, "{said}");
    if !checked.status.success() || by_profiles {
        let nothing = can_audit && !by_profiles;
        assert_eq!(said.contains("NOTHING IS DENIED"), nothing, "{said}");
        // Asked to enforce, it ends instead of running without doing so.
        fs::write("/tmp/enforce.yaml", "lsm: bpf\n").expect("a configuration is written");
        let started = run("gorgetd", &["--config", "/tmp/enforce.yaml"]);
        let said = String::from_utf8_lossy(&started.stderr);
        assert!(!started.status.success(), "{said}");
        assert!(
            said.contains("this machine cannot enforce policies"),
            "{said}"
        );
    }
}

#[test]
fn the_probe_finds_out_by_trying_what_is_written_down() {
    let tried = run("gorgetd", &["--probe"]);
    let said = String::from_utf8_lossy(&tried.stderr);
    let tried: serde_json::Value = serde_json::from_slice(&tried.stdout).expect("JSON");
    let features = tried["features"].as_array().expect("an array");
    let mut lacking = 0;
    for (name, feature) in entries(&written(), "features") {
        let works = feature["works"].as_bool().expect("yes or no");
        lacking += usize::from(!works);
        let found = features.iter().find(|found| found["name"] == name.as_str());
        let found = found.unwrap_or_else(|| panic!("{name} was tried: {said}"));
        assert_eq!(found["outcome"] == "works", works, "{found}");
    }
    let active = has_bpf_lsm();
    assert_eq!(tried["attach"] == "works", active, "{tried}: {said}");

    let probed = run("gorget", &["probe", "-o", "json"]);
    let report: serde_json::Value = serde_json::from_slice(&probed.stdout).expect("JSON");
    let expected = match (lacking, active) {
        (0, true) => 0,
        (0, false) => 1,
        (_, _) => 2,
    };
    assert_eq!(probed.status.code(), Some(expected), "{report:#}");
    assert_eq!(report["complete"], true, "{report:#}");
}
