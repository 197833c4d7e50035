// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask kernel-support`: what works on which kernel.
//!
//! A report program tries everything on every kernel that can be booted. What it found is kept in
//! `crates/bpf/kernels.toml`, with the number of instructions that the verifier went through for each
//! program; the tests in the virtual machine hold each kernel against it. `docs/kernel-support.md` is
//! written from that file and from `xtask/kernel-support.md`, and `cargo xtask tidy` fails when it
//! is not what would be written now.

use crate::vm::{self, Job, Kernel, Vm};
use crate::{binaries, print, tools};
use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// What was found, by kernel; the tests in the virtual machine get it as well.
pub(crate) const FOUND: &str = "crates/bpf/kernels.toml";
const TEMPLATE: &str = "xtask/kernel-support.md";
const DOCUMENT: &str = "docs/kernel-support.md";

const HEAD: &str = "# What each kernel can do, and how many instructions its verifier goes through for each program.
# Written by `cargo xtask kernel-support`.
";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Report {
    release: String,
    compiler: String,
    features: BTreeMap<String, Feature>,
    programs: BTreeMap<String, Program>,
    /// Those for kernels without BPF LSM.
    audit_only: BTreeMap<String, Program>,
    /// Those that tell what workloads do.
    logs: BTreeMap<String, Program>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Feature {
    works: bool,
    since: String,
    used_for: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Program {
    hook: String,
    instructions: Option<u32>,
    instead: Option<String>,
    refused: Option<String>,
}

type Reports = BTreeMap<String, Report>;

pub(crate) fn run(text_only: bool) -> Result<u8> {
    if !text_only {
        let found = find_out()?;
        parse(&found)?;
        fs::write(FOUND, found)?;
        println!("\nwritten: `{FOUND}`");
    }
    let reports = parse(&fs::read_to_string(FOUND)?)?;
    let document = render(&fs::read_to_string(TEMPLATE)?, &reports)?;
    fs::write(DOCUMENT, document)?;
    println!("written: `{DOCUMENT}`");
    Ok(0)
}

/// Boots each kernel and asks it.
fn find_out() -> Result<String> {
    tools::for_building()?;
    let program = binaries::kernel_report()?;
    let mut found = HEAD.to_owned();
    for kernel in Kernel::ALL {
        println!("\n=== {} ===", kernel.name());
        let machine = Vm {
            kernel,
            ..Vm::default()
        };
        let job = Job {
            files: vec![("kernel_report".to_owned(), program.clone())],
            command: "./kernel_report 2>/dev/null".to_owned(),
            output: None,
        };
        let outcome = vm::run(&machine, &job, &mut print)?;
        match outcome.ending {
            Ok(0) => found.push_str(&section(kernel, &outcome.output)),
            Ok(code) => bail!("the report ended with {code}"),
            Err(why) => bail!("{why}"),
        }
    }
    Ok(found)
}

/// What is wrong with the document.
pub(crate) fn check() -> Result<Vec<String>> {
    let reports = parse(&fs::read_to_string(FOUND).context(FOUND)?)?;
    let wanted = render(&fs::read_to_string(TEMPLATE).context(TEMPLATE)?, &reports)?;
    let mut problems = Vec::new();
    if fs::read_to_string(DOCUMENT).context(DOCUMENT)? != wanted {
        problems.push(format!(
            "{DOCUMENT}: is not what `{TEMPLATE}` and `{FOUND}` give: run `cargo xtask kernel-support --text-only`"
        ));
    }
    Ok(problems)
}

/// A report as a table of its own in the file of all.
fn section(kernel: Kernel, report: &str) -> String {
    let mut text = format!("\n[\"{}\"]\n", kernel.name());
    for line in report.lines() {
        let line = line.trim_end();
        match line.strip_prefix('[') {
            Some(table) => text.push_str(&format!("[\"{}\".{table}", kernel.name())),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

fn parse(found: &str) -> Result<Reports> {
    let reports: Reports = toml::from_str(found).with_context(|| format!("reading `{FOUND}`"))?;
    for kernel in Kernel::ALL {
        if !reports.contains_key(kernel.name()) {
            bail!("`{FOUND}` has nothing about {}", kernel.name());
        }
    }
    Ok(reports)
}

/// In the order of kernels, and not of their names.
fn ordered(reports: &Reports) -> impl Iterator<Item = (Kernel, &Report)> {
    Kernel::ALL
        .into_iter()
        .filter_map(|kernel| Some((kernel, reports.get(kernel.name())?)))
}

fn render(template: &str, reports: &Reports) -> Result<String> {
    let mut text = template.to_owned();
    for (mark, table) in [
        ("<!-- kernels -->", kernels(reports)),
        ("<!-- features -->", features(reports)),
        ("<!-- hooks -->", hooks(reports, |report| &report.programs)),
        (
            "<!-- functions -->",
            hooks(reports, |report| &report.audit_only),
        ),
        ("<!-- logs -->", hooks(reports, |report| &report.logs)),
        ("<!-- instructions -->", instructions(reports)),
        ("<!-- compilers -->", compilers(reports)),
    ] {
        if text.matches(mark).count() != 1 {
            bail!("`{TEMPLATE}` must have `{mark}` once");
        }
        text = text.replace(mark, table.trim_end());
    }
    Ok(text)
}

fn kernels(reports: &Reports) -> String {
    let mut table =
        "| kernel | Debian | tested with | state |\n| --- | --- | --- | --- |\n".to_owned();
    for (kernel, report) in ordered(reports) {
        let state = if report.programs.values().any(|p| p.refused.is_some()) {
            "refused"
        } else {
            "enforces"
        };
        let lacks: Vec<_> = report
            .features
            .iter()
            .filter(|(_, feature)| !feature.works)
            .map(|(name, feature)| format!("{name} ({})", feature.since))
            .collect();
        let lacks = if lacks.is_empty() {
            String::new()
        } else {
            format!("; lacks {}", lacks.join(", "))
        };
        table.push_str(&format!(
            "| {} | {} | {} | {state}{lacks} |\n",
            kernel.name(),
            kernel.suite(),
            report.release
        ));
    }
    table
}

/// The first cells of a row, then one for each kernel.
fn row(table: &mut String, first: &str, reports: &Reports, cell: impl Fn(&Report) -> String) {
    let cells: Vec<_> = ordered(reports).map(|(_, report)| cell(report)).collect();
    table.push_str(&format!("| {first} | {} |\n", cells.join(" | ")));
}

fn header(table: &mut String, first: &[&'static str]) {
    let names = first
        .iter()
        .copied()
        .chain(Kernel::ALL.into_iter().map(Kernel::name));
    let names: Vec<_> = names.collect();
    table.push_str(&format!("| {} |\n", names.join(" | ")));
    table.push_str(&format!("|{}\n", " --- |".repeat(names.len())));
}

fn features(reports: &Reports) -> String {
    let mut known: Vec<_> = reports
        .values()
        .flat_map(|report| &report.features)
        .map(|(name, feature)| (version(&feature.since), name, feature))
        .collect();
    known.sort_by_key(|(since, name, _)| (since.clone(), *name));
    known.dedup_by_key(|(_, name, _)| *name);
    let mut table = String::new();
    header(&mut table, &["needs", "since", "used for"]);
    for (_, name, feature) in known {
        let first = format!("{name} | {} | {}", feature.since, feature.used_for);
        row(&mut table, &first, reports, |report| {
            let works = report.features.get(name).is_some_and(|f| f.works);
            if works { "yes" } else { "**no**" }.to_owned()
        });
    }
    table
}

/// `5.17` as numbers, so that it comes after `5.2`.
fn version(text: &str) -> Vec<u32> {
    text.split('.')
        .map(|number| number.parse().unwrap_or(0))
        .collect()
}

/// One of the sets of programs.
type Set = fn(&Report) -> &BTreeMap<String, Program>;

fn programs(reports: &Reports, set: Set) -> BTreeSet<(&str, &str)> {
    reports
        .values()
        .flat_map(set)
        .map(|(name, program)| (program.hook.as_str(), name.as_str()))
        .collect()
}

fn hooks(reports: &Reports, set: Set) -> String {
    let mut table = String::new();
    header(&mut table, &["hook", "program"]);
    for (hook, name) in programs(reports, set) {
        let first = format!("`{hook}` | `{name}`");
        row(&mut table, &first, reports, |report| {
            match set(report).get(name) {
                Some(Program {
                    instructions: Some(_),
                    ..
                }) => "yes".to_owned(),
                Some(Program {
                    instead: Some(hook),
                    ..
                }) => format!("no such hook: `{hook}` decides"),
                _ => "**no**".to_owned(),
            }
        });
    }
    for (kernel, report) in ordered(reports) {
        let reasons: BTreeSet<_> = set(report)
            .values()
            .filter_map(|program| program.refused.as_deref())
            .collect();
        for reason in reasons {
            table.push_str(&format!("\n{}: {reason}.\n", kernel.name()));
        }
    }
    table
}

fn instructions(reports: &Reports) -> String {
    let mut table = String::new();
    header(&mut table, &["program"]);
    let sets: [(Set, &str); 3] = [
        (|report| &report.programs, ""),
        (|report| &report.audit_only, ", audit only"),
        (|report| &report.logs, ", logs"),
    ];
    for (set, remark) in sets {
        for (_, name) in programs(reports, set) {
            row(
                &mut table,
                &format!("`{name}`{remark}"),
                reports,
                |report| {
                    set(report)
                        .get(name)
                        .and_then(|program| program.instructions)
                        .map_or_else(|| "-".to_owned(), |count| count.to_string())
                },
            );
        }
        row(
            &mut table,
            &format!("together{remark}"),
            reports,
            |report| {
                let counts = set(report).values().filter_map(|p| p.instructions);
                counts.sum::<u32>().to_string()
            },
        );
    }
    table
}

fn compilers(reports: &Reports) -> String {
    let names: BTreeSet<_> = reports.values().map(|r| r.compiler.as_str()).collect();
    names.into_iter().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORT: &str = r#"release = "RELEASE"
compiler = "clang 16"

[features]
"`bpf_loop`" = { works = WORKS, since = "5.17", used_for = "paths" }
"maps" = { works = true, since = "5.2", used_for = "rules" }

[programs]
file_open = { hook = "lsm/file_open", instructions = 100 }
file_truncate = { hook = "lsm/file_truncate", instead = "path_truncate" }

[audit_only]
file_open = { hook = "fexit/security_file_open", instructions = 90 }

[logs]
log_end = { hook = "fentry/taskstats_exit", instructions = 80 }
"#;

    fn reports() -> Reports {
        let mut found = HEAD.to_owned();
        for kernel in Kernel::ALL {
            let report = REPORT
                .replace("RELEASE", &format!("{}-cloud", kernel.name()))
                .replace("WORKS", &(kernel != Kernel::V5_10).to_string());
            found.push_str(&section(kernel, &report));
        }
        parse(&found).unwrap()
    }

    #[test]
    fn a_document_has_a_column_for_each_kernel() {
        let marks = "<!-- kernels -->\n<!-- features -->\n<!-- hooks -->\n<!-- functions -->\n\
                     <!-- logs -->\n<!-- instructions -->\n<!-- compilers -->\n";
        let text = render(marks, &reports()).unwrap();
        for line in [
            "| 5.10 | bullseye | 5.10-cloud | enforces; lacks `bpf_loop` (5.17) |",
            "| `bpf_loop` | 5.17 | paths | **no** | yes | yes | yes |",
            "| `lsm/file_open` | `file_open` | yes | yes | yes | yes |",
            "| `fexit/security_file_open` | `file_open` | yes | yes | yes | yes |",
            "| `file_open` | 100 | 100 | 100 | 100 |",
            "| `file_open`, audit only | 90 | 90 | 90 | 90 |",
            "| together | 100 | 100 | 100 | 100 |",
            "| `log_end`, logs | 80 | 80 | 80 | 80 |",
        ] {
            assert!(
                text.lines().any(|have| have == line),
                "{line}\nnot in\n{text}"
            );
        }
        assert!(text.contains("no such hook: `path_truncate` decides"));
        let (older, newer) = (text.find("| maps |"), text.find("| `bpf_loop` |"));
        assert!(older < newer, "features are ordered by version:\n{text}");
    }

    #[test]
    fn a_template_without_a_place_for_a_table_is_an_error() {
        let error = render("<!-- kernels -->", &reports()).unwrap_err();
        assert!(error.to_string().contains("<!-- features -->"), "{error}");
    }

    #[test]
    fn a_kernel_that_was_not_tried_is_missed() {
        let error = parse(&section(Kernel::V6_1, REPORT).replace("WORKS", "true")).unwrap_err();
        assert!(error.to_string().contains("5.10"), "{error}");
    }
}
