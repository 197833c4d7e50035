// SPDX-License-Identifier: Apache-2.0
//! The judgement as text, in 80 columns, for somebody who has never seen Gorget.

use super::facts::Facts;
use super::judge::{Check, Report, Section, Status, Verdict};
use crate::render::{Painter, Style, harmless, wrapped};

const COLUMNS: usize = 80;
/// Longest text of one kind that is shown; what the machine says of itself is shorter.
const MOST_SHOWN: usize = 600;
/// Before the name: two blanks, the mark, two blanks.
const MARGIN: usize = 8;
const MARKS: usize = 4;
const NAMES: usize = 22;

const INTRODUCTION: &str = "Gorget watches which programs run, which files they open and where they \
                            connect to, on this machine and in its containers, and reports or denies \
                            that as your policies say. For that it needs the kernel's help:";

/// The whole screen.
pub(crate) fn screen(facts: &Facts, report: &Report, painter: Painter) -> String {
    let mut text = String::from("Can this machine enforce Gorget's policies?\n\n");
    let style = match report.verdict {
        Verdict::Full => Style::Good,
        Verdict::Degraded => Style::Caution,
        Verdict::Impossible => Style::Alarm,
    };
    for line in wrapped(&report.answer, COLUMNS - 2) {
        text.push_str(&format!("  {}\n", painter.paint(style, &line)));
    }
    text.push('\n');
    for line in wrapped(INTRODUCTION, COLUMNS) {
        text.push_str(&line);
        text.push('\n');
    }
    let who = match facts.uid {
        0 => "root".to_owned(),
        uid => format!("user {uid}, who is not root"),
    };
    let title = format!("Asked on {} by {who}. Nothing was changed.", facts.host);
    for line in wrapped(&harmless(&title, MOST_SHOWN), COLUMNS) {
        text.push_str(&line);
        text.push('\n');
    }
    for section in [
        Section::Kernel,
        Section::Features,
        Section::Modules,
        Section::FileSystems,
        Section::Containers,
    ] {
        text.push_str(&format!(
            "\n{}\n",
            painter.paint(Style::Strong, heading(section))
        ));
        for check in report
            .checks
            .iter()
            .filter(|check| check.section == section)
        {
            text.push_str(&line(check, painter));
        }
    }
    text.push_str(&next(report, painter));
    text.push_str(
        "\nok: there. part: less than all. NO: needed and not there. ?: not found out.\n\
         -: not there, and nothing is lost by that.\n",
    );
    text
}

fn heading(section: Section) -> &'static str {
    match section {
        Section::Kernel => "Kernel",
        Section::Features => "What the kernel lets programs of the agent do",
        Section::Modules => "Security modules",
        Section::FileSystems => "File systems",
        Section::Containers => "Containers",
    }
}

fn line(check: &Check, painter: Painter) -> String {
    let (mark, style) = match check.status {
        Status::Supported => ("ok", Style::Good),
        Status::Degraded => ("part", Style::Caution),
        Status::Missing => ("NO", Style::Alarm),
        Status::Unknown => ("?", Style::Caution),
        Status::Unneeded => ("-", Style::Faint),
    };
    let name = harmless(&check.name, MOST_SHOWN);
    let found = harmless(&check.found, MOST_SHOWN);
    // Features are named in more words than there is room for beside what they are for.
    let (body, indent) = match check.section {
        Section::Features => (format!("{name}, {found}"), 0),
        Section::Kernel | Section::Modules | Section::FileSystems | Section::Containers => {
            (found, NAMES)
        }
    };
    let room = MARKS - mark.len();
    let mut text = format!("  {}{:room$}  ", painter.paint(style, mark), "");
    if indent > 0 {
        let room = (NAMES - 1).saturating_sub(name.chars().count());
        text.push_str(&format!("{name}{:room$} ", ""));
    }
    let hanging = MARGIN + indent;
    for (number, part) in wrapped(&body, COLUMNS - hanging).iter().enumerate() {
        if number > 0 {
            text.push_str(&" ".repeat(hanging));
        }
        text.push_str(part);
        text.push('\n');
    }
    for (label, said) in [("lost", &check.lost), ("what to do", &check.remedy)] {
        let Some(said) = said else { continue };
        let said = format!("{label}: {}", harmless(said, MOST_SHOWN));
        for (number, part) in wrapped(&said, COLUMNS - MARGIN - 4).iter().enumerate() {
            let indent = if number == 0 { MARGIN + 2 } else { MARGIN + 4 };
            text.push_str(&format!("{:indent$}{part}\n", ""));
        }
    }
    text
}

fn next(report: &Report, painter: Painter) -> String {
    let mut text = format!("\n{}\n", painter.paint(Style::Strong, "What to do next"));
    for (number, step) in report.next.iter().enumerate() {
        let step = harmless(step, MOST_SHOWN);
        for (line, part) in wrapped(&step, COLUMNS - 5).iter().enumerate() {
            match line {
                0 => text.push_str(&format!("  {}. {part}\n", number + 1)),
                _ => text.push_str(&format!("     {part}\n")),
            }
        }
    }
    text
}
