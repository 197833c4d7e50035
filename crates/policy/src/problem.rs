// SPDX-License-Identifier: Apache-2.0
//! What is wrong with a policy file, and the list in which it is collected.
//!
//! A file is read to its end and everything found is reported at once. Whether a document gives a
//! policy is decided by comparing [`Problems::errors`] before and after it; the count is right even
//! when the list itself has reached its limit.
//!
//! User text goes into messages only through [`quote`], which cuts it and escapes what would break
//! a line or a terminal.

use crate::Location;
use std::fmt::{self, Display};
use std::sync::Arc;

/// A file whose every line is wrong should not fill the memory or the screen.
const MOST_PROBLEMS: usize = 1_000;

/// Long enough for any path somebody would recognise, short enough for one line.
const MOST_QUOTED: usize = 80;

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProblemSeverity {
    /// The document gives no policy.
    Error,
    /// The policy is used, but probably does not do what was meant.
    Warning,
}

impl Display for ProblemSeverity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
        })
    }
}

/// One thing that is wrong with a policy file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub at: Location,
    /// How bad.
    pub severity: ProblemSeverity,
    /// Which field, such as `spec.process.matchPaths[0].path`; empty when it is about the document.
    pub field: String,
    /// What is wrong.
    pub reason: String,
    /// What to do about it, when that is known.
    pub help: Option<String>,
}

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.at, self.severity)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(&self.reason)?;
        match &self.help {
            Some(help) => write!(f, " ({help})"),
            None => Ok(()),
        }
    }
}

/// A place in the file that is being read. Both count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) line: u32,
    pub(crate) column: u32,
}

impl Position {
    pub(crate) const START: Self = Self { line: 1, column: 1 };
}

/// Collects problems.
#[derive(Debug)]
pub(crate) struct Problems {
    file: Arc<str>,
    list: Vec<Problem>,
    errors: usize,
    unlisted: usize,
}

impl Problems {
    pub(crate) fn new(file: &str) -> Self {
        Self {
            file: file.into(),
            list: Vec::new(),
            errors: 0,
            unlisted: 0,
        }
    }

    pub(crate) fn location(&self, at: Position) -> Location {
        Location {
            file: Arc::clone(&self.file),
            line: at.line,
            column: at.column,
        }
    }

    /// How many errors there were so far.
    pub(crate) fn errors(&self) -> usize {
        self.errors
    }

    pub(crate) fn error(&mut self, at: Position, field: impl Display, reason: impl Into<String>) {
        self.add(ProblemSeverity::Error, at, &field, reason.into(), None);
    }

    pub(crate) fn error_with_help(
        &mut self,
        at: Position,
        field: impl Display,
        reason: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.add(
            ProblemSeverity::Error,
            at,
            &field,
            reason.into(),
            Some(help.into()),
        );
    }

    pub(crate) fn warning(
        &mut self,
        at: Position,
        field: impl Display,
        reason: impl Into<String>,
        help: impl Into<String>,
    ) {
        self.add(
            ProblemSeverity::Warning,
            at,
            &field,
            reason.into(),
            Some(help.into()),
        );
    }

    fn add(
        &mut self,
        severity: ProblemSeverity,
        at: Position,
        field: &dyn Display,
        reason: String,
        help: Option<String>,
    ) {
        match severity {
            ProblemSeverity::Error => self.errors += 1,
            ProblemSeverity::Warning => {}
        }
        if self.list.len() < MOST_PROBLEMS {
            let at = self.location(at);
            self.list.push(Problem {
                at,
                severity,
                field: field.to_string(),
                reason,
                help,
            });
        } else {
            self.unlisted += 1;
        }
    }

    /// Everything found, in the order of the file.
    pub(crate) fn finish(mut self) -> Vec<Problem> {
        self.list
            .sort_by_key(|problem| (problem.at.line, problem.at.column));
        if let (1.., Some(last)) = (self.unlisted, self.list.last()) {
            let at = last.at.clone();
            let reason = format!("{} more problems are not listed", self.unlisted);
            let severity = ProblemSeverity::Error;
            self.list.push(Problem {
                at,
                severity,
                field: String::new(),
                reason,
                help: None,
            });
        }
        self.list
    }
}

/// The user's words in backticks, on one line.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::from("`");
    for (index, character) in text.chars().enumerate() {
        match character {
            _ if index == MOST_QUOTED => {
                quoted.push('…');
                break;
            }
            '\'' | '"' | '\\' => quoted.push(character),
            other => quoted.extend(other.escape_debug()),
        }
    }
    quoted.push('`');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_shown_on_one_line() {
        let mut problems = Problems::new("a.yaml");
        let at = Position { line: 3, column: 7 };
        problems.error_with_help(
            at,
            "spec.action",
            "`Bock` is not an action",
            "did you mean `Block`?",
        );
        problems.error(at, "", "not valid YAML");
        let shown: Vec<String> = problems.finish().iter().map(Problem::to_string).collect();
        assert_eq!(
            shown,
            [
                "a.yaml:3:7: error: spec.action: `Bock` is not an action (did you mean `Block`?)",
                "a.yaml:3:7: error: not valid YAML",
            ]
        );
    }

    #[test]
    fn user_text_cannot_break_the_line_or_fill_it() {
        assert_eq!(
            quote("a\n\u{1b}[31m\u{202e}'\"\\"),
            "`a\\n\\u{1b}[31m\\u{202e}'\"\\`"
        );
        assert_eq!(quote(&"x".repeat(500)), format!("`{}…`", "x".repeat(80)));
    }

    #[test]
    fn problems_beyond_the_limit_are_counted() {
        let mut problems = Problems::new("a.yaml");
        for line in 1..=1_500 {
            problems.error(Position { line, column: 1 }, "", "wrong");
        }
        assert_eq!(problems.errors(), 1_500);
        let list = problems.finish();
        assert_eq!(list.len(), 1_001);
        assert_eq!(
            list.last().unwrap().to_string(),
            "a.yaml:1000:1: error: 500 more problems are not listed"
        );
    }
}
