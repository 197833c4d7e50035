// SPDX-License-Identifier: Apache-2.0
//! YAML documents as trees that know where everything is written.
//!
//! Built from the parser's events with an own stack, so nesting costs no call depth. What a value
//! means is not decided here, except which plain words are not text: null, booleans, numbers.
//! Booleans are those of YAML 1.1 (`yes`, `on`), because that is what Kubernetes reads.
//!
//! INVARIANT: for every [`Value::Refused`] an error has been reported.
//!
//! A document that is not YAML, is too deep or too large is reported and skipped; reading goes on at
//! the next `---`. Aliases are refused: policies do not use them, and expanding them without a
//! budget is how small files become large ones.

use crate::problem::{Position, Problems, quote};
use granit_parser::{
    Event, Marker, Options, Parser, ScalarStyle, ScanError, Span, StrInput, StructureStyle, Tag,
};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// A policy needs 7.
const MOST_DEPTH: usize = 64;

/// Some 30,000 rules; a document takes at most about 25 MiB while it is read.
const MOST_NODES: usize = 250_000;

/// A file with more is not a policy file.
const MOST_BROKEN_DOCUMENTS: usize = 100;

/// A value, where it begins, and the last line of it.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: Position,
    pub(crate) last_line: u32,
    pub(crate) value: Value,
}

impl Node {
    /// A node of one line.
    fn new(at: Position, value: Value) -> Self {
        Self {
            at,
            last_line: at.line,
            value,
        }
    }
}

#[derive(Debug)]
pub(crate) enum Value {
    Null,
    /// A plain word that YAML takes for a boolean, as written.
    Boolean(bool, String),
    /// A plain word that YAML takes for a number, as written.
    Number(String),
    Text(String),
    Sequence(Vec<Node>),
    Mapping(Mapping),
    /// Something that is already reported.
    Refused,
}

pub(crate) type Mapping = BTreeMap<String, Entry>;

/// A value in a mapping and where its key begins.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) key_at: Position,
    pub(crate) node: Node,
}

/// The documents of a file, one after the other.
pub(crate) struct Documents<'t> {
    parser: Parser<'t, StrInput<'t>>,
    broken: usize,
    ended: bool,
}

impl<'t> Documents<'t> {
    pub(crate) fn new(text: &'t str) -> Self {
        let mut options = Options::default();
        options.set_emit_comments(false);
        options.emit_unresolved_aliases = true;
        Self {
            parser: Parser::new_from_str_with_options(text, options),
            broken: 0,
            ended: false,
        }
    }

    /// The next document; [`Value::Refused`] in place of one that cannot be read. `None` at the end
    /// of the file.
    pub(crate) fn next(&mut self, problems: &mut Problems) -> Option<Node> {
        if self.ended {
            return None;
        }
        let Unreadable { at, reason } = match self.document(problems) {
            Ok(document) => return document,
            Err(unreadable) => unreadable,
        };
        problems.error(at, "", reason);
        self.broken += 1;
        if self.broken == MOST_BROKEN_DOCUMENTS {
            let reason = "too many broken documents; the rest of the file was not read";
            problems.error(at, "", reason);
            self.ended = true;
        } else {
            // It fails only where its input does, and text in memory does not.
            self.ended = !self.parser.proceed_next_document().unwrap_or(false);
        }
        Some(Node::new(at, Value::Refused))
    }

    fn document(&mut self, problems: &mut Problems) -> Result<Option<Node>, Unreadable> {
        let mut tree = Tree::default();
        while let Some(event) = self.parser.next_event() {
            let (event, span) = event?;
            let at = Position::from(&span.start);
            #[expect(
                clippy::wildcard_enum_match_arm,
                reason = "the parser's enum is open; what is left are events without content"
            )]
            match event {
                Event::DocumentEnd => {
                    return Ok(Some(
                        tree.root.unwrap_or_else(|| Node::new(at, Value::Null)),
                    ));
                }
                Event::StreamEnd => return Ok(None),
                Event::Scalar(text, style, _, tag) => {
                    let last_line = last_line_of_scalar(&span, style);
                    tree.scalar(at, last_line, text, style, tag.as_deref(), problems)?;
                }
                Event::SequenceStart(style, _, tag) => {
                    tree.check_tag(at, tag.as_deref(), problems);
                    tree.open(at, style, Content::Sequence(Vec::new()))?;
                }
                Event::MappingStart(style, _, tag) => {
                    tree.check_tag(at, tag.as_deref(), problems);
                    tree.open(
                        at,
                        style,
                        Content::Mapping {
                            entries: Mapping::new(),
                            key: Key::Awaited,
                        },
                    )?;
                }
                Event::SequenceEnd | Event::MappingEnd => tree.close(at.line, problems),
                Event::Alias(_) | Event::UnresolvedAlias(_) => {
                    let help = "write the value out";
                    problems.error_with_help(at, tree.path(), "aliases are not supported", help);
                    tree.add(Node::new(at, Value::Refused), problems);
                }
                _ => {}
            }
        }
        Ok(None)
    }
}

/// Why a document could not be read.
struct Unreadable {
    at: Position,
    reason: String,
}

impl From<ScanError> for Unreadable {
    fn from(error: ScanError) -> Self {
        Self {
            at: error.marker().into(),
            reason: format!("not valid YAML: {}", error.info()),
        }
    }
}

impl From<&Marker> for Position {
    fn from(marker: &Marker) -> Self {
        let column = marker.col().saturating_add(1);
        Self {
            line: u32::try_from(marker.line()).unwrap_or(u32::MAX),
            column: u32::try_from(column).unwrap_or(u32::MAX),
        }
    }
}

/// A document under construction.
#[derive(Default)]
struct Tree {
    root: Option<Node>,
    open: Vec<Open>,
    nodes: usize,
}

/// A sequence or mapping whose end has not been seen.
struct Open {
    at: Position,
    /// Of what was read of it so far.
    last_line: u32,
    style: StructureStyle,
    content: Content,
}

enum Content {
    Sequence(Vec<Node>),
    Mapping { entries: Mapping, key: Key },
}

enum Key {
    Awaited,
    Read {
        at: Position,
        text: String,
    },
    /// Something that cannot be a key, and is reported: its value is read and dropped.
    Refused,
}

impl Tree {
    fn count(&mut self, at: Position) -> Result<(), Unreadable> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            let reason = format!("the document has more than {MOST_NODES} values");
            return Err(Unreadable { at, reason });
        }
        Ok(())
    }

    fn open(
        &mut self,
        at: Position,
        style: StructureStyle,
        content: Content,
    ) -> Result<(), Unreadable> {
        self.count(at)?;
        if self.open.len() >= MOST_DEPTH {
            let reason = format!("the document is nested more than {MOST_DEPTH} levels deep");
            return Err(Unreadable { at, reason });
        }
        self.open.push(Open {
            at,
            last_line: at.line,
            style,
            content,
        });
        Ok(())
    }

    /// `line` is where the parser saw the end: of a block, that is where the next thing begins.
    fn close(&mut self, line: u32, problems: &mut Problems) {
        let Some(open) = self.open.pop() else { return };
        let last_line = match open.style {
            StructureStyle::Flow => line,
            StructureStyle::Block => open.last_line,
        };
        let value = match open.content {
            Content::Sequence(items) => Value::Sequence(items),
            Content::Mapping { entries, key: _ } => Value::Mapping(entries),
        };
        let at = open.at;
        self.add(
            Node {
                at,
                last_line,
                value,
            },
            problems,
        );
    }

    fn scalar(
        &mut self,
        at: Position,
        last_line: u32,
        text: Cow<'_, str>,
        style: ScalarStyle,
        tag: Option<&Tag>,
        problems: &mut Problems,
    ) -> Result<(), Unreadable> {
        self.count(at)?;
        let tagged_as_text = self.check_tag(at, tag, problems);
        if let Some(open) = self.open.last_mut()
            && let Content::Mapping {
                key: key @ Key::Awaited,
                ..
            } = &mut open.content
        {
            *key = Key::Read {
                at,
                text: text.into_owned(),
            };
            open.last_line = open.last_line.max(last_line);
            return Ok(());
        }
        let value = match style {
            ScalarStyle::Plain if !tagged_as_text => resolve(text.into_owned()),
            ScalarStyle::Plain
            | ScalarStyle::SingleQuoted
            | ScalarStyle::DoubleQuoted
            | ScalarStyle::Literal
            | ScalarStyle::Folded => Value::Text(text.into_owned()),
        };
        self.add(
            Node {
                at,
                last_line,
                value,
            },
            problems,
        );
        Ok(())
    }

    /// Returns true for a tag that makes a plain word text. Reports tags that are not YAML's own.
    fn check_tag(&self, at: Position, tag: Option<&Tag>, problems: &mut Problems) -> bool {
        let Some(tag) = tag else { return false };
        match tag.core_suffix() {
            Some(suffix) => suffix == "str",
            None if tag.original() == "!" => true,
            None => {
                let reason = format!("the tag {} is not supported", quote(&tag.original()));
                problems.error(at, self.path(), reason);
                false
            }
        }
    }

    fn add(&mut self, node: Node, problems: &mut Problems) {
        self.check_key(&node, problems);
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        open.last_line = open.last_line.max(node.last_line);
        match &mut open.content {
            Content::Sequence(items) => items.push(node),
            Content::Mapping { entries, key } => {
                *key = match std::mem::replace(key, Key::Awaited) {
                    Key::Awaited => Key::Refused,
                    Key::Refused => Key::Awaited,
                    Key::Read { at, text } => {
                        entries.insert(text, Entry { key_at: at, node });
                        Key::Awaited
                    }
                };
            }
        }
    }

    /// Reports a node that takes the place of a key, and a key that is there already.
    fn check_key(&self, node: &Node, problems: &mut Problems) {
        let Some(Content::Mapping { entries, key }) = self.open.last().map(|open| &open.content)
        else {
            return;
        };
        match key {
            Key::Awaited => {
                if !matches!(node.value, Value::Refused) {
                    let help = "quote it if it is meant as text";
                    problems.error_with_help(node.at, self.path(), "a key must be a word", help);
                }
            }
            Key::Read { at, text } => {
                if entries.contains_key(text) {
                    // COMPAT: the last one wins, as in sigs.k8s.io/yaml.
                    let reason = format!("{} is given twice", quote(text));
                    problems.warning(*at, self.path(), reason, "the last one counts");
                }
            }
            Key::Refused => {}
        }
    }

    /// The field that is being read.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.open {
            match &open.content {
                Content::Sequence(items) => path.push_str(&format!("[{}]", items.len())),
                Content::Mapping {
                    key: Key::Read { text, .. },
                    ..
                } => {
                    if !path.is_empty() {
                        path.push('.');
                    }
                    path.push_str(quote(text).trim_matches('`'));
                }
                Content::Mapping {
                    key: Key::Awaited | Key::Refused,
                    ..
                } => {}
            }
        }
        path
    }
}

/// A text block ends, for the parser, where the next thing begins; blank lines between them are
/// taken for part of it.
fn last_line_of_scalar(span: &Span, style: ScalarStyle) -> u32 {
    let (first, last) = (Position::from(&span.start), Position::from(&span.end));
    match style {
        ScalarStyle::Literal | ScalarStyle::Folded => last.line.saturating_sub(1).max(first.line),
        ScalarStyle::Plain | ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => last.line,
    }
}

/// Whether a plain word is text.
pub(crate) fn is_text(word: &str) -> bool {
    matches!(resolve(word.to_owned()), Value::Text(_))
}

/// What YAML takes a plain word for.
fn resolve(text: String) -> Value {
    match text.as_str() {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
            Value::Boolean(true, text)
        }
        "false" | "False" | "FALSE" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
            Value::Boolean(false, text)
        }
        other if is_number(other) => Value::Number(text),
        _ => Value::Text(text),
    }
}

fn is_number(text: &str) -> bool {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return true;
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = unsigned.strip_prefix(prefix) {
            return !digits.is_empty() && digits.chars().all(|c| c == '_' || c.is_digit(radix));
        }
    }
    // Without this, Rust would take `inf` and `nan` for numbers.
    if !unsigned.starts_with(|c: char| c == '.' || c.is_ascii_digit()) {
        return false;
    }
    unsigned.replace('_', "").parse::<f64>().is_ok()
}

#[cfg(test)]
mod tests;
