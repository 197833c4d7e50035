// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test`: every tier, in the order of what fails soonest.
//!
//! The first tier that fails stops the run; those that did not run are named. The guests of the
//! virtual machine are the last tiers, and run side by side. Tests are counted, and
//! a tier with fewer than `xtask/minimums.toml` says fails: a test that was lost or filtered out by
//! mistake must not look like success. All cargo commands build for the same target with the same
//! flags as the static programs of the virtual machine, so that nothing is compiled twice.

mod guests;

use crate::vm::Kernel;
use crate::{binaries, chart, command, tidy, tools};
use anyhow::{Context as _, Result, bail};
use cargo_metadata::{MetadataCommand, TargetKind};
use guests::Guest;
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Gives the number of tests, where it counts any.
type Task = fn() -> Result<Option<u64>>;

const HERE: [(&str, Task); 7] = [
    ("format", format),
    ("format of C", format_c),
    ("tidy", tidy_up),
    ("clippy", clippy),
    ("doc", doc),
    ("unit", unit),
    ("harness", harness),
];

/// Helm is built from a Go module, as the cluster is.
const CHART: [(&str, Task); 1] = [("chart", || chart::check().map(|()| None))];

/// What is tested.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All that needs no virtual machine.
    Quick,
    /// Everything, on two kernels.
    Default,
    /// Everything, on every kernel.
    AllKernels,
    /// The tests of the virtual machine, on one kernel.
    Kernel(Kernel),
    /// The tests in a cluster.
    Cluster,
}

impl Scope {
    /// The tiers that run here, in their order.
    fn here(self) -> &'static [(&'static str, Task)] {
        match self {
            Self::Quick | Self::Default | Self::AllKernels => &HERE,
            Self::Cluster => &CHART,
            Self::Kernel(_) => &[],
        }
    }

    /// The tiers that run in the virtual machine.
    fn guests(self) -> Vec<Guest> {
        match self {
            Self::Quick | Self::Cluster => Vec::new(),
            Self::Default => Guest::default_run(),
            Self::AllKernels => Guest::all(),
            Self::Kernel(kernel) => vec![Guest::of(kernel)],
        }
    }
}

/// What came of a tier.
struct Ran {
    name: String,
    tests: Option<u64>,
    minimum: Option<u64>,
    took: Duration,
}

/// The tiers that ended well so far, and what each must come to.
struct Run {
    minimums: BTreeMap<String, u64>,
    ran: Vec<Ran>,
}

impl Run {
    /// Takes down what came of a tier. False when it failed.
    fn ended(&mut self, name: String, tests: Result<Option<u64>>, took: Duration) -> bool {
        let minimum = self.minimums.get(&name).copied();
        match tests.and_then(|tests| enough(tests, minimum).map(|()| tests)) {
            Ok(tests) => {
                self.ran.push(Ran {
                    name,
                    tests,
                    minimum,
                    took,
                });
                true
            }
            Err(error) => {
                let seconds = took.as_secs();
                println!("\ntier `{name}` failed after {seconds} s: {error:#}");
                false
            }
        }
    }

    fn print(&self) {
        println!(
            "\n{:<18} {:>7} {:>8} {:>8}",
            "tier", "passed", "minimum", "seconds"
        );
        for tier in &self.ran {
            let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
            println!(
                "{:<18} {:>7} {:>8} {:>8}",
                tier.name,
                number(tier.tests),
                number(tier.minimum),
                tier.took.as_secs()
            );
        }
    }
}

pub(crate) fn run(scope: Scope) -> Result<u8> {
    tools::for_building()?;
    let mut run = Run {
        minimums: toml::from_str(&fs::read_to_string("xtask/minimums.toml")?)
            .context("reading `xtask/minimums.toml`")?,
        ran: Vec::new(),
    };
    let guests = scope.guests();
    let mut left: Vec<_> = scope
        .here()
        .iter()
        .map(|(name, _)| (*name).to_owned())
        .collect();
    left.extend(guests.iter().map(|guest| guest.name()));
    for (name, task) in scope.here() {
        println!("\n=== {name} ===");
        left.retain(|other| other != name);
        let start = now();
        let tests = task();
        if !run.ended((*name).to_owned(), tests, start.elapsed()) {
            println!("not run: {}", left.join(", "));
            return Ok(1);
        }
    }
    let mut good = true;
    if !guests.is_empty() {
        println!("\n=== {} ===", left.join(", "));
        for guest in guests::run(&guests)? {
            good &= run.ended(guest.name, guest.tests.map(Some), guest.took);
        }
    }
    if scope == Scope::Cluster {
        println!("\n=== {} ===", guests::CLUSTER);
        let start = now();
        let tests = guests::in_cluster().map(Some);
        good &= run.ended(guests::CLUSTER.to_owned(), tests, start.elapsed());
    }
    run.print();
    if !good {
        return Ok(1);
    }
    if scope == Scope::Quick {
        println!("the virtual machine was left out (--quick)");
    }
    let total: u64 = run.ran.iter().filter_map(|tier| tier.tests).sum();
    println!("{total} passed, 0 failed");
    Ok(0)
}

fn now() -> Instant {
    #[expect(clippy::disallowed_methods, reason = "tells how long a tier took")]
    Instant::now()
}

fn enough(tests: Option<u64>, minimum: Option<u64>) -> Result<()> {
    match (tests, minimum) {
        (Some(tests), Some(minimum)) if tests < minimum => {
            bail!("{tests} tests passed, the minimum in `xtask/minimums.toml` is {minimum}")
        }
        (Some(_), None) => bail!("`xtask/minimums.toml` has no minimum for this tier"),
        _ => Ok(()),
    }
}

fn format() -> Result<Option<u64>> {
    stream(cargo(&["fmt", "--all", "--check"]))?;
    Ok(None)
}

fn format_c() -> Result<Option<u64>> {
    let mut check = command::new(tools::clang_format()?);
    check.args(["--dry-run", "-Werror"]);
    let mut files = 0;
    for entry in fs::read_dir("crates/bpf/bpf")? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "c" || e == "h") {
            check.arg(path);
            files += 1;
        }
    }
    if files == 0 {
        bail!("there are no C files in `crates/bpf/bpf`");
    }
    stream(check)?;
    Ok(None)
}

fn tidy_up() -> Result<Option<u64>> {
    let problems = tidy::check()?;
    if problems.is_empty() {
        return Ok(None);
    }
    bail!("{}", problems.join("\n"))
}

/// What is built for the tests in a cluster only.
const OF_THE_CLUSTER: [&str; 2] = ["--features", "gorget-vmtest/cluster"];

fn clippy() -> Result<Option<u64>> {
    let all = ["clippy", "--workspace", "--all-targets"];
    let mut lint = static_cargo(&all);
    lint.args(OF_THE_CLUSTER);
    lint.args(["--", "-D", "warnings"]);
    stream(lint)?;
    Ok(None)
}

fn doc() -> Result<Option<u64>> {
    let mut doc = static_cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
    doc.args(OF_THE_CLUSTER);
    doc.env("RUSTDOCFLAGS", "-D warnings");
    stream(doc)?;
    Ok(None)
}

/// All tests but those that need root, and those that need the virtual machine.
fn unit() -> Result<Option<u64>> {
    let mut test = static_cargo(&["test", "--workspace", "--exclude", "gorget-vmtest"]);
    test.args(["--no-fail-fast", "--lib", "--bins"]);
    let metadata = MetadataCommand::new().no_deps().exec()?;
    for package in &metadata.packages {
        if package.name.as_str() == "gorget-vmtest" {
            continue;
        }
        for target in &package.targets {
            if target.kind.contains(&TargetKind::Test) && target.name != "harness" {
                test.args(["--test", &target.name]);
            }
        }
    }
    stream(test).map(|output| Some(passed(&output)))
}

fn harness() -> Result<Option<u64>> {
    let mut test = static_cargo(&["test", "-p", "gorget-bpf", "--test", "harness"]);
    test.args(["--", "--nocapture"]);
    if command::as_root("true")?.get_program() != "true" {
        let (triple, _) = binaries::static_env();
        let runner = format!(
            "CARGO_TARGET_{}_RUNNER",
            triple.to_uppercase().replace('-', "_")
        );
        test.env(runner, "sudo -E");
    }
    stream(test).map(|output| Some(passed(&output)))
}

fn cargo(args: &[&str]) -> Command {
    let mut cargo = command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(args);
    cargo
}

/// Cargo with the target and flags of the static programs.
fn static_cargo(args: &[&str]) -> Command {
    let (triple, (variable, flags)) = binaries::static_env();
    let mut cargo = cargo(args);
    cargo.args(["--target", &triple]).env(variable, flags);
    cargo
}

/// Runs a program, shows what it says as it says it, and gives that back.
fn stream(mut program: Command) -> Result<String> {
    let name = format!("{program:?}");
    let (read, write) = std::io::pipe().context("making a pipe")?;
    program
        .stdin(Stdio::null())
        .stdout(write.try_clone().context("making a pipe")?)
        .stderr(write);
    let mut child = program.spawn().with_context(|| format!("running {name}"))?;
    // It holds the writing ends: they would never close.
    drop(program);
    let mut output = String::new();
    for line in BufReader::new(read).lines() {
        let line = line.context("reading what it says")?;
        println!("{line}");
        output.push_str(&line);
        output.push('\n');
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("{name} ended with {status}");
    }
    Ok(output)
}

/// The number of passed tests in what test programs printed.
fn passed(output: &str) -> u64 {
    output
        .lines()
        .filter_map(|line| {
            let counts = line.trim().strip_prefix("test result: ok. ")?;
            counts.split_once(" passed")?.0.parse::<u64>().ok()
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_of_all_programs_are_added() {
        let output = "running 2 tests\ntest a ... ok\n\
            test result: ok. 2 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out\n\
            test result: ok. 40 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
            test result: FAILED. 7 passed; 1 failed; 0 ignored\n";
        assert_eq!(passed(output), 42);
        assert_eq!(passed("nothing"), 0);
    }

    #[test]
    fn every_tier_that_counts_has_a_minimum() {
        let minimums: BTreeMap<String, u64> =
            toml::from_str(include_str!("../minimums.toml")).unwrap();
        let guests = [Scope::Default, Scope::AllKernels].map(Scope::guests);
        let mut counting: Vec<_> = guests.iter().flatten().map(|guest| guest.name()).collect();
        counting.extend(["unit", "harness", guests::CLUSTER].map(str::to_owned));
        counting.sort();
        counting.dedup();
        assert_eq!(counting, minimums.into_keys().collect::<Vec<_>>());
        for name in ["unit", "harness"] {
            assert!(HERE.iter().any(|(task, _)| *task == name));
        }
    }

    #[test]
    fn fewer_tests_than_recorded_are_a_failure() {
        assert!(enough(Some(5), Some(5)).is_ok());
        assert!(enough(None, None).is_ok());
        let error = enough(Some(4), Some(5)).unwrap_err().to_string();
        assert!(error.contains("4 tests") && error.contains('5'), "{error}");
        assert!(enough(Some(4), None).is_err());
    }

    #[test]
    fn what_a_program_says_is_shown_and_kept_and_a_failure_is_named() {
        let mut both = command::new("sh");
        both.args(["-c", "echo out; echo err >&2"]);
        assert_eq!(stream(both).unwrap(), "out\nerr\n");
        let mut fails = command::new("sh");
        fails.args(["-c", "exit 3"]);
        assert!(
            stream(fails)
                .unwrap_err()
                .to_string()
                .contains("exit status: 3")
        );
    }
}
