// SPDX-License-Identifier: Apache-2.0
//! The tests in the virtual machine: which of them run on which kernel.
//!
//! As many guests run at once as there are processors. Each is busy with one thing at a time, so two
//! take little longer than one. Their lines are told apart by the kernel in front. A guest that fails
//! does not end the others: what they find would be found next anyway.

use crate::binaries::Tests;
use crate::kernel_support::FOUND;
use crate::vm::{Job, Kernel, Line, Outcome, Suite, Vm};
use crate::{binaries, cluster, vm};
use anyhow::{Result, anyhow, bail};
use std::num::NonZero;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// All tests of a kernel, in full, under emulation on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(3 * 3600);

/// Runs each test program that a pattern finds, and ends with 1 when one failed. Within one, agents take
/// over what others loaded; the next one begins with nothing.
const COMMAND: &str = "failed=0; for t in PATTERN; do \
    case ' EXCEPT ' in *\" $t \"*) continue;; esac; echo \"== $t\"; \
    ./$t --test-threads=1 --color=never || failed=1; ./gorgetd --uninstall || failed=1; done; exit $failed";

/// Tests that repeat things, and what makes both guests of the default run last about as long.
const LASTING: &str = "t_survival t_switching t_churn t_storm t_visibility";

/// Tests that need runtimes newer than bookworm's.
const NEWER: &str = "t_nri";

/// Those, and tests of what enforces where BPF LSM is missing.
const ELSEWHERE: &str = "t_nri t_apparmor";

/// What the rest of the default run leaves out.
const APART: &str =
    "t_survival t_switching t_churn t_storm t_visibility t_nri t_apparmor t_audit_only";

/// Where `--all-kernels` repeats as often as in the long run; `--kernel` does on any.
const IN_FULL: Kernel = Kernel::V6_12;

/// The tier of the tests that need a cluster.
pub(super) const CLUSTER: &str = "vm cluster";

/// A boot of the virtual machine and the test programs that run in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guest {
    kernel: Kernel,
    user_space: Suite,
    /// What the name ends with.
    remark: &'static str,
    /// Kernel arguments.
    append: &'static str,
    /// A pattern of names.
    tests: &'static str,
    /// Names that are left out.
    except: &'static str,
    /// Tests that repeat something do it as often as in the long run.
    in_full: bool,
}

impl Guest {
    /// What the rest of the default run leaves out.
    const LASTING: Self = Self {
        kernel: Kernel::V6_1,
        user_space: Suite::Bookworm,
        remark: " at length",
        append: "",
        tests: LASTING,
        except: "",
        in_full: false,
    };

    /// What the default run tests besides 6.1: the newest kernel that a Debian release has.
    const IN_SHORT: Self = Self {
        kernel: Kernel::V6_12,
        user_space: Suite::Bookworm,
        remark: " in short",
        append: "",
        tests: "t_kernels t_conformance",
        except: "",
        in_full: false,
    };

    /// containerd 1.7, which can be had to ask before it starts containers.
    const TRIXIE: Self = Self {
        kernel: Kernel::V6_12,
        user_space: Suite::Trixie,
        remark: " with trixie",
        append: "",
        tests: NEWER,
        except: "",
        in_full: false,
    };

    /// Everything that there is for a kernel.
    pub(super) fn of(kernel: Kernel) -> Self {
        let tests = match kernel {
            // It is refused.
            Kernel::V5_10 => "t_kernels",
            Kernel::V6_1 | Kernel::V6_12 | Kernel::V7 => "t_*",
        };
        Self {
            kernel,
            user_space: Suite::Bookworm,
            remark: "",
            append: "",
            tests,
            except: ELSEWHERE,
            in_full: true,
        }
    }

    /// The security modules of a machine that nobody has prepared: nothing is denied, everything told.
    fn without_bpf(kernel: Kernel) -> Self {
        Self {
            kernel,
            user_space: Suite::Bookworm,
            remark: " without bpf",
            append: "lsm=lockdown,yama,apparmor",
            tests: "t_kernels t_conformance t_audit_only t_apparmor",
            except: "",
            in_full: false,
        }
    }

    /// Those of the default run, the one that takes longest first.
    pub(super) fn default_run() -> Vec<Self> {
        let rest = Self {
            except: APART,
            in_full: false,
            ..Self::of(Kernel::V6_1)
        };
        vec![
            Self::LASTING,
            rest,
            Self::without_bpf(Kernel::V6_1),
            Self::IN_SHORT,
        ]
    }

    /// Every kernel, the slowest first.
    pub(super) fn all() -> Vec<Self> {
        let mut all: Vec<_> = Kernel::ALL.into_iter().rev().map(Self::of).collect();
        // 5.10 is refused either way.
        let others = Kernel::ALL.into_iter().filter(|k| *k != Kernel::V5_10);
        all.extend(others.map(Self::without_bpf));
        all.push(Self::TRIXIE);
        // What is repeated finds nothing on one kernel that it does not on another, and takes hours.
        for guest in &mut all {
            guest.in_full = guest.kernel == IN_FULL;
        }
        all
    }

    /// Of its tier.
    pub(super) fn name(self) -> String {
        format!("vm {}{}", self.kernel.name(), self.remark)
    }
}

/// What came of a guest.
pub(super) struct Ended {
    pub(super) name: String,
    /// How many tests passed.
    pub(super) tests: Result<u64>,
    pub(super) took: Duration,
}

/// Runs the tests of all guests.
pub(super) fn run(guests: &[Guest]) -> Result<Vec<Ended>> {
    let files = files()?;
    let at_once = thread::available_parallelism().map_or(1, NonZero::get);
    let waiting = Mutex::new(guests.iter());
    let next = || {
        waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .next()
    };
    let work = || {
        let mut ended = Vec::new();
        while let Some(guest) = next() {
            let began = vm::now();
            ended.push(Ended {
                name: guest.name(),
                tests: in_vm(*guest, &files),
                took: began.elapsed(),
            });
        }
        ended
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..at_once.min(guests.len()))
            .map(|_| scope.spawn(work))
            .collect();
        let mut all = Vec::new();
        for worker in workers {
            all.extend(
                worker
                    .join()
                    .map_err(|_panic| anyhow!("a guest's thread ended"))?,
            );
        }
        Ok(all)
    })
}

/// What the tests need in the guest.
fn files() -> Result<Vec<(String, PathBuf)>> {
    let mut files = programs(Tests::InGuest)?;
    files.push(("conformance".to_owned(), PathBuf::from("conformance")));
    // Some scenarios are about these.
    files.push(("policies".to_owned(), PathBuf::from("policies")));
    files.push(("kernels.toml".to_owned(), PathBuf::from(FOUND)));
    Ok(files)
}

/// The project's programs, and tests.
fn programs(tests: Tests) -> Result<Vec<(String, PathBuf)>> {
    let built = binaries::build(tests)?;
    if built.tests.is_empty() {
        bail!("there are no tests for the virtual machine");
    }
    let mut files = built.programs();
    for test in &built.tests {
        let file = test.file_name().unwrap_or_default().to_string_lossy();
        let name = file
            .rsplit_once('-')
            .map_or_else(|| file.as_ref(), |(name, _hash)| name);
        files.push((format!("t_{name}"), test.clone()));
    }
    Ok(files)
}

/// Runs the tests that need a cluster; gives how many passed.
pub(super) fn in_cluster() -> Result<u64> {
    let command = format!(
        "export GORGET_KERNEL={}; {}",
        cluster::KERNEL.name(),
        COMMAND
            .replace("PATTERN", "t_cluster t_install t_scale")
            .replace("EXCEPT", "")
    );
    let mut files = programs(Tests::InCluster)?;
    let shown = ["deploy/crds", "deploy/manifests", "docs/kubernetes.md"];
    files.extend(shown.map(|path| {
        let name = path.rsplit('/').next().unwrap_or(path);
        (name.to_owned(), PathBuf::from(path))
    }));
    count(&cluster::test(files, &command)?)
}

fn in_vm(guest: Guest, files: &[(String, PathBuf)]) -> Result<u64> {
    let name = guest.kernel.name();
    let machine = Vm {
        kernel: guest.kernel,
        user_space: guest.user_space,
        append: guest.append.to_owned(),
        timeout: TIMEOUT,
        ..Vm::default()
    };
    let job = Job {
        files: files.to_vec(),
        command: format!(
            "export GORGET_KERNEL={name}{}; {}",
            if guest.in_full {
                " GORGET_LONG_RUN=1"
            } else {
                ""
            },
            COMMAND
                .replace("PATTERN", guest.tests)
                .replace("EXCEPT", guest.except)
        ),
        output: None,
    };
    let outcome = vm::run(&machine, &job, &mut |line| match line {
        Line::Output(text) => println!("[{name}] {text}"),
        Line::Kernel(text) => eprintln!("[{name} kernel] {text}"),
    })?;
    println!(
        "[{name}] booted in {:.1} s",
        outcome.booted_in.as_secs_f64()
    );
    count(&outcome)
}

/// How many tests passed, if all did.
fn count(outcome: &Outcome) -> Result<u64> {
    match &outcome.ending {
        Ok(0) => Ok(super::passed(&outcome.output)),
        Ok(code) => bail!("tests failed in the virtual machine (exit code {code})"),
        Err(why) => bail!("{why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kernel_is_tested_by_all_and_two_by_default() {
        let kernels = |guests: Vec<Guest>| -> BTreeSet<Kernel> {
            guests.into_iter().map(|guest| guest.kernel).collect()
        };
        assert_eq!(kernels(Guest::all()), Kernel::ALL.into_iter().collect());
        assert_eq!(
            kernels(Guest::default_run()),
            [Kernel::V6_1, Kernel::V6_12].into_iter().collect()
        );
    }
}
