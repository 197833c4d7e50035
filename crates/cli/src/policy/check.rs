// SPDX-License-Identifier: Apache-2.0
//! `gorget policy check`: what the agent would say about policy files, before it gets them.
//!
//! Every file is read to its end and everything found is shown. The policies of one file are then
//! compiled together, so that a set which exceeds a limit is found here too. Nothing is asked of an
//! agent or a cluster: symbolic links of workloads are unknown, and so is what a selector selects.
//!
//! What a backend cannot enforce of a valid policy is listed as its limits; that is no error, because
//! another backend may enforce it.
//!
//! A file that cannot be read does not keep the others from being checked, but decides the exit
//! status, and so does a directory without policy files: "no errors" must mean that something was
//! checked.

use super::input::files;
use super::{EXIT_FOUND, EXIT_NO_ANSWER, Form, count, counted};
use crate::render::{self, Painter, Style};
use clap::Args;
use gorget_engine::{Backend, CompileError, Limit, PolicySet, compile, limits, network_limits};
use gorget_model::Postures;
use gorget_policy::{Location, Policy, Problem, ProblemSeverity, parse};
use serde::Serialize;
use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::{fs, iter};

#[derive(Args)]
pub(crate) struct Arguments {
    /// Files, or directories in which all `*.yaml`, `*.yml` and `*.json` are checked
    #[arg(value_name = "FILE", required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    form: Form,
}

/// What was found in all files.
#[derive(Debug, Default)]
struct Findings {
    files: usize,
    policies: usize,
    errors: usize,
    warnings: usize,
    /// Of every policy and every backend.
    limits: Vec<(String, Limit)>,
    /// With the line each is about.
    problems: Vec<(Problem, String)>,
}

/// What is wrong, and what is right and yet not enforced.
#[derive(Serialize)]
#[serde(untagged)]
enum JsonFinding<'a> {
    Problem(JsonProblem<'a>),
    Limit(JsonLimit<'a>),
}

#[derive(Serialize)]
struct JsonLimit<'a> {
    file: &'a str,
    line: Option<u32>,
    column: Option<u32>,
    severity: &'static str,
    backend: String,
    policy: &'a str,
    what: String,
    count: usize,
    reason: &'a str,
}

#[derive(Serialize)]
struct JsonProblem<'a> {
    file: &'a str,
    line: u32,
    column: u32,
    severity: String,
    field: &'a str,
    reason: &'a str,
    help: Option<&'a str>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let mut unreadable = Vec::new();
    let mut findings = Findings::default();
    for path in &arguments.paths {
        match files(path) {
            Ok(files) => {
                for file in files {
                    match fs::read_to_string(&file) {
                        Ok(text) => findings.check(&file.display().to_string(), &text),
                        Err(error) => unreadable.push((file, error)),
                    }
                }
            }
            Err(error) => unreadable.push((path.clone(), error)),
        }
    }
    arguments
        .form
        .print(|painter| findings.text(painter), || findings.json())?;
    let mut stderr = io::stderr().lock();
    for (path, error) in &unreadable {
        writeln!(stderr, "gorget: cannot read `{}`: {error}", path.display())?;
    }
    Ok(if !unreadable.is_empty() {
        ExitCode::from(EXIT_NO_ANSWER)
    } else if findings.errors > 0 {
        ExitCode::from(EXIT_FOUND)
    } else {
        ExitCode::SUCCESS
    })
}

impl Findings {
    fn check(&mut self, file: &str, text: &str) {
        let parsed = parse(file, text);
        for backend in Backend::ALL {
            let (policies, network) = (parsed.policies.iter(), parsed.network_policies.iter());
            let found = policies.flat_map(|policy| limits(backend, policy));
            let found = found.chain(network.flat_map(|policy| network_limits(backend, policy)));
            self.limits
                .extend(found.map(|limit| (file.to_owned(), limit)));
        }
        self.policies += parsed.network_policies.len();
        let policies: Vec<_> = parsed.policies.into_iter().map(Arc::new).collect();
        self.files += 1;
        self.policies += policies.len();
        let set = PolicySet::new(policies.clone(), Postures::default());
        let refused = compile(&set).err();
        let refused = refused.map(|error| too_much(file, &policies, &error));
        let lines: Vec<_> = text
            .strip_prefix('\u{feff}')
            .unwrap_or(text)
            .lines()
            .collect();
        for problem in parsed.problems.into_iter().chain(refused) {
            match problem.severity {
                ProblemSeverity::Error => self.errors += 1,
                ProblemSeverity::Warning => self.warnings += 1,
            }
            let line = lines.get(index(problem.at.line).saturating_sub(1));
            let line = line.map_or_else(String::new, |line| (*line).to_owned());
            self.problems.push((problem, line));
        }
    }

    fn text(&self, painter: Painter) -> String {
        let mut text = String::new();
        for (problem, line) in &self.problems {
            text.push_str(&shown(problem, line, painter));
        }
        for (file, limit) in &self.limits {
            let at = match &limit.at {
                Some(at) => format!("{at}:"),
                None => format!("{file}:"),
            };
            let at = painter.paint(Style::Strong, &at);
            let severity = painter.paint(Style::Place, "limit:");
            text.push_str(&format!("{at} {severity} {limit}\n"));
        }
        if !self.limits.is_empty() {
            text.push('\n');
        }
        let totals = [
            count(counted(self.files), "file", "files"),
            count(counted(self.policies), "policy", "policies"),
            count(counted(self.errors), "error", "errors"),
            count(counted(self.warnings), "warning", "warnings"),
        ];
        let style = match (self.errors, self.warnings) {
            (0, 0) => Style::Good,
            (0, _) => Style::Caution,
            (_, _) => Style::Alarm,
        };
        text.push_str(&painter.paint(style, &totals.join(", ")));
        text.push('\n');
        text.push_str(&self.limit_totals());
        text
    }

    /// A line for each backend that cannot enforce everything.
    fn limit_totals(&self) -> String {
        let mut text = String::new();
        for backend in Backend::ALL {
            let of_backend = self.limits.iter().map(|(_, limit)| limit);
            let of_backend = of_backend.filter(|limit| limit.backend == backend);
            let policies: BTreeSet<_> = of_backend.map(|limit| &limit.policy).collect();
            if !policies.is_empty() {
                let policies = count(counted(policies.len()), "policy", "policies");
                text.push_str(&format!("{backend} does not enforce all of {policies}\n"));
            }
        }
        text
    }

    fn json(&self) -> Vec<JsonFinding<'_>> {
        let problems = self.problems.iter().map(|(problem, _)| {
            JsonFinding::Problem(JsonProblem {
                file: &problem.at.file,
                line: problem.at.line,
                column: problem.at.column,
                severity: problem.severity.to_string(),
                field: &problem.field,
                reason: &problem.reason,
                help: problem.help.as_deref(),
            })
        });
        let limits = self.limits.iter().map(|(file, limit)| {
            JsonFinding::Limit(JsonLimit {
                file,
                line: limit.at.as_ref().map(|at| at.line),
                column: limit.at.as_ref().map(|at| at.column),
                severity: "limit",
                backend: limit.backend.to_string(),
                policy: &limit.policy,
                what: limit.what.to_string(),
                count: limit.count,
                reason: limit.reason,
            })
        });
        problems.chain(limits).collect()
    }
}

/// The problem of a file whose policies are each valid and together too much.
fn too_much(file: &str, policies: &[Arc<Policy>], error: &CompileError) -> Problem {
    let worst = match error {
        CompileError::TooComplex { expensive, .. } => expensive.first().map(|(at, _)| at),
        CompileError::TooManyDecisions { .. } | CompileError::TooManyTests { .. } => None,
    };
    let first = || {
        let rule = policies.iter().find_map(|policy| policy.rules.first())?;
        Some(&rule.at)
    };
    let at = worst.or_else(first).cloned().unwrap_or_else(|| Location {
        file: file.into(),
        line: 1,
        column: 1,
    });
    Problem {
        at,
        severity: ProblemSeverity::Error,
        field: String::new(),
        reason: error.to_string(),
        help: Some("none of these policies would be in force".to_owned()),
    }
}

/// A problem with the line it is about.
fn shown(problem: &Problem, line: &str, painter: Painter) -> String {
    let style = match problem.severity {
        ProblemSeverity::Error => Style::Alarm,
        ProblemSeverity::Warning => Style::Caution,
    };
    let severity = painter.paint(style, &format!("{}:", problem.severity));
    let at = painter.paint(Style::Strong, &format!("{}:", problem.at));
    let mut text = format!("{at} {severity} ");
    if !problem.field.is_empty() {
        text.push_str(&problem.field);
        text.push_str(": ");
    }
    text.push_str(&problem.reason);
    text.push('\n');

    let number = problem.at.line.to_string();
    let margin: String = iter::repeat_n(' ', number.len()).collect();
    if !line.trim().is_empty() {
        let (line, caret) = render::excerpt(line, index(problem.at.column));
        let blank = caret.trim_end_matches('^');
        let bar = painter.paint(Style::Faint, "|");
        let number = painter.paint(Style::Faint, &number);
        let caret = painter.paint(style, "^");
        text.push_str(&format!("  {number} {bar} {line}\n"));
        text.push_str(&format!("  {margin} {bar} {blank}{caret}\n"));
    }
    if let Some(help) = &problem.help {
        let label = painter.paint(Style::Strong, "help:");
        text.push_str(&format!("  {margin} {label} {help}\n"));
    }
    text.push('\n');
    text
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
