// SPDX-License-Identifier: Apache-2.0
//! `gorget policy test`: test files beside policies, as unit tests are beside code.
//!
//! The form of a test file is in `gorget_engine::verify` and in `docs/policy-language.md`; files with
//! policies that it names are looked for beside it. A case that fails is shown with the rule that
//! decided, so that one knows where to look.
//!
//! A test file that cannot be used does not keep the others from being run, but decides the exit
//! status; and so does one without cases, because nothing was tested.

use super::words::{self, JsonAccess};
use super::{EXIT_FOUND, EXIT_NO_ANSWER, Form, count, counted};
use crate::render::{Painter, Style};
use anyhow::{Context, ensure};
use clap::Args;
use gorget_engine::{Case, Scenario, explain, verify};
use serde::Serialize;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(Args)]
pub(crate) struct Arguments {
    /// Test files
    #[arg(value_name = "FILE", required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    form: Form,
}

/// A case that did not go as expected.
#[derive(Serialize)]
struct Failure {
    file: String,
    line: u32,
    access: JsonAccess,
    expected: String,
    observed: String,
    /// Which rule decided, when one did.
    because: Option<String>,
    #[serde(skip)]
    access_text: String,
}

#[derive(Default, Serialize)]
struct Results {
    files: usize,
    cases: usize,
    failures: Vec<Failure>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut results = Results::default();
    let mut unusable = Vec::new();
    for path in &arguments.paths {
        if let Err(error) = results.run(path) {
            unusable.push(error);
        }
    }
    arguments
        .form
        .print(|painter| results.text(painter), || &results)?;
    let mut stderr = io::stderr().lock();
    for error in &unusable {
        writeln!(stderr, "gorget: {error:#}")?;
    }
    Ok(if !unusable.is_empty() {
        ExitCode::from(EXIT_NO_ANSWER)
    } else if results.failures.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(EXIT_FOUND)
    })
}

impl Results {
    fn run(&mut self, path: &Path) -> anyhow::Result<()> {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).with_context(|| format!("cannot read `{name}`"))?;
        let beside = path.parent().unwrap_or_else(|| Path::new(""));
        let scenario = Scenario::parse_with(&name, &text, &mut |policies| {
            fs::read_to_string(beside.join(policies)).map_err(Into::into)
        })?;
        ensure!(!scenario.cases.is_empty(), "`{name}` has no cases");
        let verified = verify(&scenario)
            .with_context(|| format!("the policies of `{name}` cannot be compiled"))?;
        self.files += 1;
        self.cases += verified.len();
        for case in verified.iter().filter(|case| !case.passed) {
            self.failures.push(Failure {
                file: name.clone(),
                line: case.case.line,
                access: words::json_access(&case.case.access),
                expected: case.case.to_string(),
                observed: case.observed.to_string(),
                because: because(&scenario, case.case),
                access_text: words::access(&case.case.access),
            });
        }
        Ok(())
    }

    fn text(&self, painter: Painter) -> String {
        let mut text = String::new();
        for failure in &self.failures {
            let Failure {
                file,
                line,
                access: _,
                expected,
                observed,
                because,
                access_text,
            } = failure;
            let place = painter.paint(Style::Strong, &format!("{file}:{line}:"));
            text.push_str(&format!(
                "{place} {}: {expected}, got {observed}\n",
                access_text
            ));
            if let Some(because) = because {
                text.push_str(&format!("  {because}\n"));
            }
        }
        let failed = self.failures.len();
        let totals = [
            count(counted(self.files), "file", "files"),
            count(counted(self.cases), "case", "cases"),
            format!("{failed} failed"),
        ];
        let style = if failed == 0 {
            Style::Good
        } else {
            Style::Alarm
        };
        text.push_str(&painter.paint(style, &totals.join(", ")));
        text.push('\n');
        text
    }
}

/// The rule that decided.
fn because(scenario: &Scenario, case: &Case) -> Option<String> {
    let explanation = explain(&scenario.set, &case.access);
    let winner = explanation.winner()?;
    let rule = &winner.rule;
    // Policies in the test file count their lines from where they begin.
    let place = if *rule.at.file == *scenario.file {
        format!("line {} of its policies", rule.at.line)
    } else {
        words::place(&rule.at)
    };
    Some(format!(
        "{place} ({:?}, policy `{}`): {}",
        rule.action, rule.policy, winner.fate
    ))
}
