// SPDX-License-Identifier: Apache-2.0
//! Does this kernel decide as the reference does?
//!
//! Loading is not enough: Linux 6.1 was seen to compile a correct program to wrong code without an
//! error. So before anything is enforced, the decision code answers some questions in this very
//! kernel, whose right answers the reference gives. Takes milliseconds and attaches to nothing.

use crate::attach::LoadError;
use crate::harness::Harness;
use crate::kernel::ApplyError;
use gorget_engine::conformance::{Scenario, ScenarioError};
use gorget_engine::{CompileError, compile, decide};
use gorget_model::{Access, Category, Modes, Object, Subject, Verdict};

/// Every kind of matcher, sources, modifiers, and allow-list mode for both categories.
const SCENARIO: &str = include_str!("self_test.yaml");

/// Paths that match some rules, nearly match, or do not; of all lengths up to the longest.
const OBJECTS: [&str; 14] = [
    "/",
    "/secret",
    "/secret/key",
    "/secret/deep/er/key",
    "/secrets",
    "/etc/app/a.conf",
    "/etc/app/sub/a.conf",
    "/etc/app/a.config",
    "/usr/bin/tool",
    "/usr/bin/toolbox",
    "/opt/x/bin/tool",
    "/var/log/app/1/2/3.log",
    "/home/u/read-me",
    "/home/u/mine",
];

/// The first of these, none to all three, are given to a program.
const ARGUMENTS: [&[u8]; 3] = [b"start", b"--verbose", b"now"];

const SUBJECTS: [&str; 3] = ["/usr/bin/reader", "/usr/bin/other", "/usr/lib/app/worker"];

/// The kernel does not decide as it should, or could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum SelfTestError {
    /// The decision code could not be loaded.
    #[error("loading the self-test")]
    Load(#[source] LoadError),
    /// Its rules could not be read.
    #[error("reading the self-test's rules")]
    Scenario(#[source] ScenarioError),
    /// Its rules could not be compiled.
    #[error("compiling the self-test's rules")]
    Compile(#[source] CompileError),
    /// It could not be run.
    #[error("running the self-test")]
    Run(#[source] ApplyError),
    /// A decision differs from the reference.
    #[error("this kernel decides wrongly: {access:?} gives {kernel:?} instead of {reference:?}")]
    Differs {
        /// What was asked.
        access: Box<Access>,
        /// The kernel's answer.
        kernel: Verdict,
        /// The right one.
        reference: Verdict,
    },
}

/// Asks the kernel and compares. Returns the number of questions.
///
/// # Errors
///
/// At the first wrong answer, or when the kernel cannot be asked.
pub fn self_test() -> Result<usize, SelfTestError> {
    let scenario = Scenario::parse("self-test", SCENARIO).map_err(SelfTestError::Scenario)?;
    let rules = compile(&scenario.set).map_err(SelfTestError::Compile)?;
    let accesses = accesses();
    let mut harness = Harness::load().map_err(SelfTestError::Load)?;
    let verdicts = harness
        .decide(&rules, &accesses)
        .map_err(SelfTestError::Run)?;
    for (access, kernel) in accesses.iter().zip(verdicts) {
        let reference = decide(&rules, access);
        if kernel != reference {
            return Err(SelfTestError::Differs {
                access: Box::new(access.clone()),
                kernel,
                reference,
            });
        }
    }
    Ok(accesses.len())
}

fn accesses() -> Vec<Access> {
    let long = format!("/secret{}", "/directory".repeat(400));
    let mut all = Vec::new();
    for object in OBJECTS.into_iter().chain([long.as_str()]) {
        for subject in SUBJECTS {
            for bits in 0..16u8 {
                let modes = Modes {
                    read: bits & 1 != 0,
                    write: bits & 2 != 0,
                    owner: bits & 4 != 0,
                    tree: bits & 8 != 0,
                    terminal: bits & 3 == 0,
                };
                for category in [Category::Process, Category::File] {
                    all.push(Access {
                        category,
                        subject: Subject::Image(subject.into()),
                        object: Object::Path(object.into()),
                        modes,
                        arguments: ARGUMENTS
                            .iter()
                            .take(usize::from(bits % 4))
                            .map(|a| a.to_vec())
                            .collect(),
                    });
                }
            }
        }
    }
    all
}
