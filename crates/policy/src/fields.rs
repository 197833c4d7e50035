// SPDX-License-Identifier: Apache-2.0
//! Typed reading of mappings: one call for each field, every problem reported with its path.
//!
//! `null` is the same as absent. A field of the wrong type is reported and then read as absent, so
//! that reading goes on and finds what else is wrong; the reported error keeps the document from
//! becoming a policy. Values of [`Value::Refused`] are passed over, they are reported already.

use crate::problem::{Position, Problems, quote};
use crate::yaml::{Entry, Mapping, Node, Value};
use std::fmt::{self, Display};

/// The path of a field, for messages. Lives on the stack of the readers.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Field<'f> {
    Document,
    Key(&'f Self, &'f str),
    Index(&'f Self, usize),
}

impl Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Document => Ok(()),
            Self::Key(Self::Document, key) => f.write_str(quote(key).trim_matches('`')),
            Self::Key(parent, key) => write!(f, "{parent}.{}", quote(key).trim_matches('`')),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// Which names a mapping may have.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Names {
    /// These are read.
    pub(crate) known: &'static [&'static str],
    /// KubeArmor has these; they are refused when they say something.
    pub(crate) unsupported: &'static [&'static str],
}

/// A string and where it is written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text<'n> {
    pub(crate) text: &'n str,
    pub(crate) at: Position,
}

/// A mapping that is being read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'n> {
    pub(crate) at: Position,
    pub(crate) field: Field<'n>,
    entries: &'n Mapping,
}

impl<'n> Fields<'n> {
    /// Takes `node` for a mapping. Names that it may not have are reported.
    pub(crate) fn open(
        node: &'n Node,
        field: Field<'n>,
        names: Names,
        problems: &mut Problems,
    ) -> Option<Self> {
        let fields = Self::open_any(node, field, problems)?;
        for (name, entry) in fields.entries {
            if !names.known.contains(&name.as_str()) {
                fields.refuse(name, entry, names, problems);
            }
        }
        Some(fields)
    }

    /// Takes `node` for a mapping with any names.
    pub(crate) fn open_any(
        node: &'n Node,
        field: Field<'n>,
        problems: &mut Problems,
    ) -> Option<Self> {
        match &node.value {
            Value::Mapping(entries) => Some(Self {
                at: node.at,
                field,
                entries,
            }),
            Value::Refused => None,
            Value::Null
            | Value::Boolean(..)
            | Value::Number(_)
            | Value::Text(_)
            | Value::Sequence(_) => {
                wrong_type(node, field, "a mapping", problems);
                None
            }
        }
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'n str, &'n Entry)> {
        self.entries
            .iter()
            .map(|(name, entry)| (name.as_str(), entry))
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'n Node> {
        let node = &self.entries.get(name)?.node;
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    /// Like [`Self::get`], and reports when there is nothing.
    pub(crate) fn need(&self, name: &str, problems: &mut Problems) -> Option<&'n Node> {
        let node = self.get(name);
        if node.is_none() {
            problems.error(self.at, Field::Key(&self.field, name), "is missing");
        }
        node
    }

    pub(crate) fn text(&self, name: &str, problems: &mut Problems) -> Option<Text<'n>> {
        let field = Field::Key(&self.field, name);
        self.get(name).and_then(|node| text(node, field, problems))
    }

    /// Like [`Self::text`], and reports when there is nothing.
    pub(crate) fn need_text(&self, name: &str, problems: &mut Problems) -> Option<Text<'n>> {
        let node = self.need(name, problems)?;
        text(node, Field::Key(&self.field, name), problems)
    }

    pub(crate) fn flag(&self, name: &str, problems: &mut Problems) -> bool {
        let Some(node) = self.get(name) else {
            return false;
        };
        match &node.value {
            Value::Boolean(value, _) => return *value,
            Value::Refused => {}
            Value::Null
            | Value::Number(_)
            | Value::Text(_)
            | Value::Sequence(_)
            | Value::Mapping(_) => {
                wrong_type(
                    node,
                    Field::Key(&self.field, name),
                    "`true` or `false`",
                    problems,
                );
            }
        }
        false
    }

    pub(crate) fn list(&self, name: &str, problems: &mut Problems) -> &'n [Node] {
        let Some(node) = self.get(name) else {
            return &[];
        };
        match &node.value {
            Value::Sequence(items) => return items,
            Value::Refused => {}
            Value::Null
            | Value::Boolean(..)
            | Value::Number(_)
            | Value::Text(_)
            | Value::Mapping(_) => {
                wrong_type(node, Field::Key(&self.field, name), "a list", problems);
            }
        }
        &[]
    }

    fn refuse(&self, name: &str, entry: &Entry, names: Names, problems: &mut Problems) {
        let field = Field::Key(&self.field, name);
        if names.unsupported.contains(&name) {
            if !says_nothing(&entry.node.value) {
                let reason = format!("`{name}` is not supported by this version");
                problems.error(entry.key_at, field, reason);
            }
            return;
        }
        let allowed: Vec<String> = names.known.iter().map(|name| format!("`{name}`")).collect();
        let mut help = format!("allowed here: {}", allowed.join(", "));
        if let Some(similar) = most_similar(name, names) {
            help.insert_str(0, &format!("did you mean `{similar}`? "));
        }
        problems.error_with_help(
            entry.key_at,
            field,
            format!("unknown field {}", quote(name)),
            help,
        );
    }
}

/// Takes `node` for a string.
pub(crate) fn text<'n>(
    node: &'n Node,
    field: Field<'_>,
    problems: &mut Problems,
) -> Option<Text<'n>> {
    match &node.value {
        Value::Text(text) => return Some(Text { text, at: node.at }),
        Value::Refused => {}
        Value::Null
        | Value::Boolean(..)
        | Value::Number(_)
        | Value::Sequence(_)
        | Value::Mapping(_) => wrong_type(node, field, "a string", problems),
    }
    None
}

pub(crate) fn wrong_type(node: &Node, field: Field<'_>, expected: &str, problems: &mut Problems) {
    let found = match &node.value {
        Value::Null => "empty".to_owned(),
        Value::Boolean(_, text) => format!("the boolean {}", quote(text)),
        Value::Number(text) => format!("the number {}", quote(text)),
        Value::Text(text) => format!("the string {}", quote(text)),
        Value::Sequence(_) => "a list".to_owned(),
        Value::Mapping(_) => "a mapping".to_owned(),
        Value::Refused => return,
    };
    let reason = format!("must be {expected}, but is {found}");
    match &node.value {
        Value::Boolean(_, text) | Value::Number(text) if expected == "a string" => {
            let help = format!("quote it: `\"{}\"`", quote(text).trim_matches('`'));
            problems.error_with_help(node.at, field, reason, help);
        }
        Value::Null
        | Value::Boolean(..)
        | Value::Number(_)
        | Value::Text(_)
        | Value::Sequence(_)
        | Value::Mapping(_)
        | Value::Refused => problems.error(node.at, field, reason),
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Refused => true,
        Value::Text(text) => text.is_empty(),
        Value::Sequence(items) => items.is_empty(),
        Value::Mapping(entries) => entries.is_empty(),
        Value::Boolean(..) | Value::Number(_) => false,
    }
}

/// The allowed name that was probably meant.
fn most_similar(name: &str, names: Names) -> Option<&'static str> {
    similar_word(name, names.known).or_else(|| {
        let name = name.to_ascii_lowercase();
        let contains =
            |known: &&&str| name.len() >= 4 && known.to_ascii_lowercase().ends_with(&name);
        names.known.iter().find(contains).copied()
    })
}

/// The word among `words` that differs from `word` by little more than a slip.
pub(crate) fn similar_word(word: &str, words: &[&'static str]) -> Option<&'static str> {
    let word = word.to_lowercase();
    let most = match word.chars().count() {
        0..=3 => 1,
        4..=8 => 2,
        _ => 3,
    };
    let close = words
        .iter()
        .filter(|other| other.len().abs_diff(word.len()) <= 3);
    close
        .map(|other| (edit_distance(&word, &other.to_lowercase()), *other))
        .filter(|(distance, _)| *distance <= most)
        .min()
        .map(|(_, other)| other)
}

/// Levenshtein's distance.
fn edit_distance(left: &str, right: &str) -> usize {
    let mut row: Vec<usize> = (0..=right.chars().count()).collect();
    for (index, from) in left.chars().enumerate() {
        let mut diagonal = index;
        let mut before = index + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(right.chars()) {
            let replaced = diagonal + usize::from(from != to);
            diagonal = *cell;
            before = replaced.min(diagonal + 1).min(before + 1);
            *cell = before;
        }
        if let Some(first) = row.first_mut() {
            *first = index + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edit_distance_counts_single_changes() {
        assert_eq!(edit_distance("recurive", "recursive"), 1);
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("abc", ""), 3);
    }

    #[test]
    fn a_slip_has_a_similar_word_and_another_word_has_none() {
        let words = &["path", "execname", "matchPaths"];
        assert_eq!(similar_word("paht", words), Some("path"));
        assert_eq!(similar_word("pathh", words), Some("path"));
        assert_eq!(similar_word("Path", words), Some("path"));
        assert_eq!(similar_word("matchpath", words), Some("matchPaths"));
        assert_eq!(similar_word("volume", words), None);
    }
}
