// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask test`: every tier, in the order of what fails soonest.
//!
//! The first tier that fails stops the run; those that did not run are named. Tests are counted, and
//! a tier with fewer than `xtask/minimums.toml` says fails: a test that was lost or filtered out by
//! mistake must not look like success. All cargo commands build for the same target with the same
//! flags as the static programs of the virtual machine, so that nothing is compiled twice.

use crate::kernel_support::FOUND;
use crate::vm::{Job, Kernel, Vm};
use crate::{binaries, command, print, tidy, tools, vm};
use anyhow::{Context as _, Result, bail};
use cargo_metadata::{MetadataCommand, TargetKind};
use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The kernel whose tests are never left out.
const FIRST: Kernel = Kernel::V6_1;

/// What the default run tests as well: the newest kernel that a Debian release has.
const SECOND: Guest = Guest {
    kernel: Kernel::V6_12,
    remark: " in short",
    append: "",
    tests: "t_kernels t_agent",
};

/// The scenarios in the virtual machine take minutes under emulation on a busy machine.
const VM_TIMEOUT: Duration = Duration::from_secs(3600);

/// Runs each test program that a pattern finds, and ends with 1 when one failed.
const VM_COMMAND: &str = "failed=0; for t in PATTERN; do echo \"== $t\"; \
    ./$t --test-threads=1 --color=never || failed=1; done; exit $failed";

/// A boot of the virtual machine and the test programs that run in it.
#[derive(Debug, Clone, Copy)]
struct Guest {
    kernel: Kernel,
    /// What the tier's name ends with.
    remark: &'static str,
    append: &'static str,
    tests: &'static str,
}

impl Guest {
    /// Everything that there is for a kernel.
    fn of(kernel: Kernel) -> Self {
        let tests = match kernel {
            Kernel::V5_10 => "t_kernels",
            Kernel::V6_1 | Kernel::V6_12 | Kernel::V7 => "t_*",
        };
        Self {
            kernel,
            remark: "",
            append: "",
            tests,
        }
    }

    /// With the security modules of a kernel that nobody has prepared.
    const WITHOUT_BPF: Self = Self {
        kernel: FIRST,
        remark: " without bpf",
        append: "lsm=lockdown,yama,apparmor",
        tests: "t_kernels",
    };
}

struct Tier {
    name: String,
    run: Run,
}

/// Gives the number of tests, where it counts any.
#[derive(Clone, Copy)]
enum Run {
    Here(Task),
    InVm(Guest),
}

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
}

impl Scope {
    /// The tiers in their order, with one for each kernel that is booted.
    fn tiers(self) -> Vec<Tier> {
        let (here, guests): (&[_], _) = match self {
            Self::Quick => (&HERE, Vec::new()),
            Self::Default => (&HERE, vec![Guest::of(FIRST), Guest::WITHOUT_BPF, SECOND]),
            Self::AllKernels => {
                let mut guests: Vec<_> = Kernel::ALL.into_iter().map(Guest::of).collect();
                guests.push(Guest::WITHOUT_BPF);
                (&HERE, guests)
            }
            Self::Kernel(kernel) => (&[], vec![Guest::of(kernel)]),
        };
        let here = here.iter().map(|(name, run)| Tier {
            name: (*name).to_owned(),
            run: Run::Here(*run),
        });
        let in_vm = guests.into_iter().map(|guest| Tier {
            name: format!("vm {}{}", guest.kernel.name(), guest.remark),
            run: Run::InVm(guest),
        });
        here.chain(in_vm).collect()
    }
}

/// What came of a tier.
struct Ran {
    name: String,
    tests: Option<u64>,
    minimum: Option<u64>,
    seconds: f64,
}

pub(crate) fn run(scope: Scope) -> Result<u8> {
    tools::for_building()?;
    let minimums: BTreeMap<String, u64> =
        toml::from_str(&fs::read_to_string("xtask/minimums.toml")?)
            .context("reading `xtask/minimums.toml`")?;
    let tiers = scope.tiers();
    let names: Vec<_> = tiers.iter().map(|tier| tier.name.clone()).collect();
    let mut ran: Vec<Ran> = Vec::new();
    for tier in tiers {
        println!("\n=== {} ===", tier.name);
        let start = now();
        let minimum = minimums.get(&tier.name).copied();
        let tests = match tier.run {
            Run::Here(run) => run(),
            Run::InVm(guest) => in_vm(guest),
        };
        let tests = tests.and_then(|tests| enough(tests, minimum).map(|()| tests));
        let seconds = start.elapsed().as_secs_f64();
        match tests {
            Ok(tests) => ran.push(Ran {
                name: tier.name,
                tests,
                minimum,
                seconds,
            }),
            Err(error) => {
                println!(
                    "\ntier `{}` failed after {seconds:.0} s: {error:#}",
                    tier.name
                );
                let left = names.get(ran.len() + 1..).unwrap_or_default();
                if !left.is_empty() {
                    println!("not run: {}", left.join(", "));
                }
                return Ok(1);
            }
        }
    }
    println!(
        "\n{:<12} {:>7} {:>8} {:>8}",
        "tier", "passed", "minimum", "seconds"
    );
    for tier in &ran {
        let number = |n: Option<u64>| n.map_or_else(|| "-".to_owned(), |n| n.to_string());
        println!(
            "{:<12} {:>7} {:>8} {:>8.0}",
            tier.name,
            number(tier.tests),
            number(tier.minimum),
            tier.seconds
        );
    }
    if scope == Scope::Quick {
        println!("the virtual machine was left out (--quick)");
    }
    let total: u64 = ran.iter().filter_map(|tier| tier.tests).sum();
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

fn clippy() -> Result<Option<u64>> {
    let all = ["clippy", "--workspace", "--all-targets"];
    let mut lint = static_cargo(&all);
    lint.args(["--", "-D", "warnings"]);
    stream(lint)?;
    Ok(None)
}

fn doc() -> Result<Option<u64>> {
    let mut doc = static_cargo(&["doc", "--workspace", "--no-deps", "--quiet"]);
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

fn in_vm(guest: Guest) -> Result<Option<u64>> {
    let built = binaries::build(true)?;
    let mut files = built.programs();
    files.push(("conformance".to_owned(), PathBuf::from("conformance")));
    files.push(("kernel_report".to_owned(), binaries::kernel_report()?));
    files.push(("kernels.toml".to_owned(), PathBuf::from(FOUND)));
    if built.tests.is_empty() {
        bail!("there are no tests for the virtual machine");
    }
    for test in &built.tests {
        let file = test.file_name().unwrap_or_default().to_string_lossy();
        let name = file
            .rsplit_once('-')
            .map_or_else(|| file.as_ref(), |(name, _hash)| name);
        files.push((format!("t_{name}"), test.clone()));
    }
    let machine = Vm {
        kernel: guest.kernel,
        append: guest.append.to_owned(),
        timeout: VM_TIMEOUT,
        ..Vm::default()
    };
    let job = Job {
        files,
        command: format!(
            "export GORGET_KERNEL={}; {}",
            guest.kernel.name(),
            VM_COMMAND.replace("PATTERN", guest.tests)
        ),
        output: None,
    };
    let outcome = vm::run(&machine, &job, &mut print)?;
    println!("booted in {:.1} s", outcome.booted_in.as_secs_f64());
    match outcome.ending {
        Ok(0) => Ok(Some(passed(&outcome.output))),
        Ok(code) => bail!("tests failed in the virtual machine (exit code {code})"),
        Err(why) => bail!("{why}"),
    }
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
        let tiers = [Scope::Default, Scope::AllKernels].map(Scope::tiers);
        let mut counting: Vec<_> = tiers
            .into_iter()
            .flatten()
            .map(|tier| tier.name)
            .filter(|name| name.starts_with("vm ") || ["unit", "harness"].contains(&name.as_str()))
            .collect();
        counting.sort();
        counting.dedup();
        assert_eq!(counting, minimums.into_keys().collect::<Vec<_>>());
        assert!(Scope::Default.tiers().len() > Scope::Quick.tiers().len());
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
