// SPDX-License-Identifier: Apache-2.0
//! Typed reading of mappings: one call for each field, every problem reported with its path.
//!
//! Which names there are, which are required and what numbers and words they take comes from the
//! mapping's [`Shape`]; a field that is not in it reads as absent.
//!
//! `null` is the same as absent. A field of the wrong type is reported and then read as absent, so
//! that reading goes on and finds what else is wrong; the reported error keeps the document from
//! becoming a policy. Values of [`Value::Refused`] are passed over, they are reported already.

use crate::problem::{Position, Problems, quote};
use crate::shape::{Shape, Type, Words};
use crate::yaml::{Entry, Mapping, Node, Value};
use std::cmp::Reverse;
use std::fmt::{self, Display};

/// More words than this are not listed in a message.
const MOST_LISTED: usize = 15;

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
    pub(crate) last_line: u32,
    pub(crate) field: Field<'n>,
    entries: &'n Mapping,
    shape: &'static Shape,
}

impl<'n> Fields<'n> {
    /// Takes `node` for a mapping of this shape. Names that it may not have are reported, and those
    /// that it must have and has not.
    pub(crate) fn open(
        node: &'n Node,
        field: Field<'n>,
        shape: &'static Shape,
        problems: &mut Problems,
    ) -> Option<Self> {
        let fields = Self::open_any(node, field, shape, problems)?;
        for needed in shape.fields().filter(|field| field.required) {
            if fields.get(needed.name).is_none() {
                let field = Field::Key(&fields.field, needed.name);
                problems.error(fields.at, field, "is missing");
            }
        }
        if !shape.open {
            for (name, entry) in fields.entries {
                if shape.field(name).is_none() {
                    fields.refuse(name, entry, problems);
                }
            }
        }
        Some(fields)
    }

    /// Takes `node` for a mapping, and leaves it at that.
    pub(crate) fn open_any(
        node: &'n Node,
        field: Field<'n>,
        shape: &'static Shape,
        problems: &mut Problems,
    ) -> Option<Self> {
        match &node.value {
            Value::Mapping(entries) => Some(Self {
                at: node.at,
                last_line: node.last_line,
                field,
                entries,
                shape,
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

    pub(crate) fn get(&self, name: &str) -> Option<&'n Node> {
        self.shape.field(name)?;
        let node = &self.entries.get(name)?.node;
        (!matches!(node.value, Value::Null)).then_some(node)
    }

    /// The field's mapping, opened.
    pub(crate) fn mapping<'s>(
        &'s self,
        name: &'s str,
        problems: &mut Problems,
    ) -> Option<Fields<'s>> {
        let shape = self.shape.field(name)?.mapping()?;
        Fields::open(
            self.get(name)?,
            Field::Key(&self.field, name),
            shape,
            problems,
        )
    }

    /// Calls `read` with every mapping of the field's list.
    pub(crate) fn each(
        &self,
        name: &str,
        problems: &mut Problems,
        mut read: impl FnMut(&Fields<'_>, &mut Problems),
    ) {
        let Some(shape) = self.shape.field(name).and_then(|field| field.mapping()) else {
            return;
        };
        let list_field = Field::Key(&self.field, name);
        for (index, node) in self.list(name, problems).iter().enumerate() {
            let field = Field::Index(&list_field, index);
            if let Some(fields) = Fields::open(node, field, shape, problems) {
                read(&fields, problems);
            }
        }
    }

    pub(crate) fn text(&self, name: &str, problems: &mut Problems) -> Option<Text<'n>> {
        let field = Field::Key(&self.field, name);
        self.get(name).and_then(|node| text(node, field, problems))
    }

    /// The strings of the field's list.
    pub(crate) fn texts(&self, name: &str, problems: &mut Problems) -> Vec<Text<'n>> {
        let list_field = Field::Key(&self.field, name);
        let items = self.list(name, problems).iter().enumerate();
        items
            .filter_map(|(index, node)| text(node, Field::Index(&list_field, index), problems))
            .collect()
    }

    /// What the field's word stands for.
    pub(crate) fn choice<T: Copy>(
        &self,
        name: &str,
        words: Words<T>,
        problems: &mut Problems,
    ) -> Option<T> {
        let written = self.text(name, problems)?;
        let mut known = words.iter();
        if let Some((_, meaning)) = known.find(|(word, _)| *word == written.text) {
            return Some(*meaning);
        }
        let words = crate::shape::words(words);
        let field = Field::Key(&self.field, name);
        not_one_of(written, field, &words, problems);
        None
    }

    pub(crate) fn flag(&self, name: &str, problems: &mut Problems) -> Option<bool> {
        let node = self.get(name)?;
        match &node.value {
            Value::Boolean(value, _) => return Some(*value),
            Value::Refused => {}
            Value::Null
            | Value::Number(_)
            | Value::Text(_)
            | Value::Sequence(_)
            | Value::Mapping(_) => {
                let field = Field::Key(&self.field, name);
                wrong_type(node, field, "`true` or `false`", problems);
            }
        }
        None
    }

    /// A whole number in the range that the shape gives.
    pub(crate) fn number(&self, name: &str, problems: &mut Problems) -> Option<u32> {
        let node = self.get(name)?;
        let Type::Integer { least, most } = self.shape.field(name)?.of else {
            return None;
        };
        let (found, help) = match &node.value {
            Value::Number(text) => match text.parse() {
                Ok(number) if (least..=most).contains(&number) => return Some(number),
                Ok(_) | Err(_) => (quote(text), None),
            },
            Value::Text(text) => (
                format!("the string {}", quote(text)),
                Some("write it without quotes"),
            ),
            Value::Boolean(_, text) => (quote(text), None),
            Value::Sequence(_) => ("a list".to_owned(), None),
            Value::Mapping(_) => ("a mapping".to_owned(), None),
            Value::Null | Value::Refused => return None,
        };
        let field = Field::Key(&self.field, name);
        let reason = format!("must be a whole number from {least} to {most}, but is {found}");
        match help {
            Some(help) => problems.error_with_help(node.at, field, reason, help),
            None => problems.error(node.at, field, reason),
        }
        None
    }

    pub(crate) fn list(&self, name: &str, problems: &mut Problems) -> &'n [Node] {
        let Some(node) = self.get(name) else {
            return &[];
        };
        let field = Field::Key(&self.field, name);
        match &node.value {
            Value::Sequence(items) => {
                if let Some(Type::Texts { most: Some(most) }) =
                    self.shape.field(name).map(|field| &field.of)
                    && items.len() > *most
                {
                    let reason = format!("has {} elements, more than {most}", items.len());
                    problems.error(node.at, field, reason);
                }
                return items;
            }
            Value::Refused => {}
            Value::Null
            | Value::Boolean(..)
            | Value::Number(_)
            | Value::Text(_)
            | Value::Mapping(_) => wrong_type(node, field, "a list", problems),
        }
        &[]
    }

    fn refuse(&self, name: &str, entry: &Entry, problems: &mut Problems) {
        let known: Vec<_> = self.shape.fields().map(|field| field.name).collect();
        let allowed: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
        let mut help = format!("allowed here: {}", allowed.join(", "));
        if let Some(similar) = most_similar(name, &known) {
            help.insert_str(0, &format!("did you mean `{similar}`? "));
        }
        problems.error_with_help(
            entry.key_at,
            Field::Key(&self.field, name),
            format!("unknown field {}", quote(name)),
            help,
        );
    }
}

/// Reports a word that is not one of `words`.
pub(crate) fn not_one_of(
    written: Text<'_>,
    field: Field<'_>,
    words: &[&'static str],
    problems: &mut Problems,
) {
    let help = match (similar_word(written.text, words), words) {
        (Some(similar), _) => format!("did you mean `{similar}`?"),
        (None, [only]) => format!("there is only `{only}`"),
        (None, _) if words.len() <= MOST_LISTED => {
            let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
            format!("there are {}", words.join(", "))
        }
        (None, _) => "names are as in the kernel's documentation".to_owned(),
    };
    let reason = format!("there is no {}", quote(written.text));
    problems.error_with_help(written.at, field, reason, help);
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

/// The allowed name that was probably meant.
fn most_similar(name: &str, known: &[&'static str]) -> Option<&'static str> {
    similar_word(name, known).or_else(|| {
        let name = name.to_ascii_lowercase();
        let contains =
            |known: &&&str| name.len() >= 4 && known.to_ascii_lowercase().ends_with(&name);
        known.iter().find(contains).copied()
    })
}

/// The word among `words` that differs from `word` by little more than a slip; of several, the one
/// that begins most like it.
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
        .map(|other| {
            let lower = other.to_lowercase();
            let distance = edit_distance(&word, &lower);
            let same = word.chars().zip(lower.chars()).take_while(|(a, b)| a == b);
            (distance, Reverse(same.count()), *other)
        })
        .filter(|(distance, ..)| *distance <= most)
        .min()
        .map(|(.., other)| other)
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
        let calls = &["mount", "umount2"];
        assert_eq!(similar_word("umount", calls), Some("umount2"));
    }
}
