// SPDX-License-Identifier: Apache-2.0
//! Glob syntax, in AppArmor's dialect.
//!
//! `*` is any run without `/`, `**` any run, `?` one byte but `/`, `[...]` and `[^...]` a class,
//! `{a,b}` alternatives, `\` quotes the next character. Everything else stands for itself, also `^`,
//! `$` and `!`. Patterns are about bytes: a character that is several bytes is several tokens, and
//! cannot be in a class.
//!
//! What can be read but can never match is accepted; [`Glob::never_matches`] says why.

use crate::paths::MOST_PATH;
use std::iter::Peekable;
use std::str::CharIndices;

/// As in AppArmor's parser. People write two.
const MOST_NESTED: usize = 50;

/// A parsed glob over a whole path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Glob {
    /// As written.
    pub text: String,
    /// What it says.
    pub tokens: Vec<Token>,
}

/// One element of a [`Glob`]. Everything is about bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Token {
    /// This byte.
    Byte(u8),
    /// `?`: any byte but `/`.
    One,
    /// `[...]`: any byte in one of these inclusive ranges; never `/` when negated (the parser has
    /// already turned `[^...]` into ranges).
    Class(Vec<(u8, u8)>),
    /// `*`: any run, also an empty one, of bytes but `/`.
    Run,
    /// `**`: any run of bytes, also an empty one.
    DeepRun,
    /// `{a,b}`.
    Alternatives(Vec<Vec<Self>>),
}

/// Why something is not a pattern. Columns count the pattern's characters from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum GlobError {
    #[error("is empty")]
    Empty,
    #[error("is longer than {MOST_PATH} bytes")]
    Long,
    #[error("contains a NUL byte at column {0}")]
    Nul(usize),
    #[error("has a `[` at column {0} that is never closed")]
    OpenClass(usize),
    #[error("has a `]` at column {0} that was never opened")]
    StrayBracket(usize),
    #[error("has an empty class at column {0}")]
    EmptyClass(usize),
    #[error("has a range at column {0} whose end comes before its beginning")]
    ReversedRange(usize),
    #[error(
        "has a character at column {0} that cannot be in a class, since classes are about bytes"
    )]
    WideClass(usize),
    #[error("has a `{{` at column {0} that is never closed")]
    OpenBrace(usize),
    #[error("has a `}}` at column {0} that was never opened")]
    StrayBrace(usize),
    #[error("has a `{{` at column {0} with only one alternative")]
    OneAlternative(usize),
    #[error("has braces nested more than {MOST_NESTED} deep at column {0}")]
    Nested(usize),
    #[error("ends with a `\\` that quotes nothing")]
    DanglingQuote,
}

impl GlobError {
    pub(crate) fn help(self) -> Option<&'static str> {
        match self {
            Self::OpenClass(_) | Self::StrayBracket(_) => {
                Some("write `\\[` or `\\]` for the character itself")
            }
            Self::EmptyClass(_) => Some("write `\\]` for a `]` in a class"),
            Self::OpenBrace(_) | Self::StrayBrace(_) => {
                Some("write `\\{` or `\\}` for the character itself")
            }
            Self::OneAlternative(_) => {
                Some("write `\\{` for the character itself; variables are not supported")
            }
            Self::WideClass(_) => Some("write the characters as alternatives: `{ä,ö}`"),
            Self::DanglingQuote => Some("write `\\\\` for the character itself"),
            Self::Empty | Self::Long | Self::Nul(_) | Self::ReversedRange(_) | Self::Nested(_) => {
                None
            }
        }
    }
}

impl Glob {
    pub(crate) fn parse(text: &str) -> Result<Self, GlobError> {
        if text.is_empty() {
            return Err(GlobError::Empty);
        }
        if text.len() > MOST_PATH {
            return Err(GlobError::Long);
        }
        if let Some(index) = text.chars().position(|c| c == '\0') {
            return Err(GlobError::Nul(index + 1));
        }
        let mut parser = GlobParser {
            rest: text.char_indices().peekable(),
            column: 0,
        };
        let tokens = parser.sequence(0)?;
        match parser.next() {
            None => Ok(Self {
                text: text.to_owned(),
                tokens,
            }),
            Some(_) => Err(GlobError::StrayBrace(parser.column)),
        }
    }

    /// Why no path can match, if that is so. Paths begin with `/`, do not end with it, and have no
    /// two in a row.
    pub(crate) fn never_matches(&self) -> Option<&'static str> {
        let slash = Token::Byte(b'/');
        if !begins_with_slash(&self.tokens).possible {
            return Some("does not begin with `/`, as every path does");
        }
        if self.tokens.len() > 1 && self.tokens.last() == Some(&slash) {
            return Some("ends with `/`, which no path does");
        }
        let mut pairs = self.tokens.iter().zip(self.tokens.iter().skip(1));
        if pairs.any(|(left, right)| *left == slash && *right == slash) {
            return Some("has two `/` in a row, which no path has");
        }
        None
    }
}

/// What a sequence of tokens can begin with.
struct Beginning {
    /// Something that begins with `/`.
    possible: bool,
    /// Nothing at all.
    empty: bool,
}

fn begins_with_slash(tokens: &[Token]) -> Beginning {
    for token in tokens {
        let possible = match token {
            Token::Byte(byte) => *byte == b'/',
            Token::One => false,
            Token::Class(ranges) => ranges
                .iter()
                .any(|(low, high)| (*low..=*high).contains(&b'/')),
            Token::Run => continue,
            Token::DeepRun => true,
            Token::Alternatives(alternatives) => {
                let beginnings: Vec<_> =
                    alternatives.iter().map(|a| begins_with_slash(a)).collect();
                if beginnings.iter().any(|beginning| beginning.possible) {
                    true
                } else if beginnings.iter().any(|beginning| beginning.empty) {
                    continue;
                } else {
                    false
                }
            }
        };
        return Beginning {
            possible,
            empty: false,
        };
    }
    Beginning {
        possible: false,
        empty: true,
    }
}

struct GlobParser<'t> {
    rest: Peekable<CharIndices<'t>>,
    /// Of the character that was read last.
    column: usize,
}

impl GlobParser<'_> {
    fn next(&mut self) -> Option<char> {
        let (_, character) = self.rest.next()?;
        self.column += 1;
        Some(character)
    }

    fn peek(&mut self) -> Option<char> {
        self.rest.peek().map(|(_, character)| *character)
    }

    /// Everything up to the end, or up to a `}`, or a `,` between braces.
    fn sequence(&mut self, depth: usize) -> Result<Vec<Token>, GlobError> {
        let mut tokens = Vec::new();
        while let Some(next) = self.peek() {
            if next == '}' || (next == ',' && depth > 0) {
                break;
            }
            self.next();
            match next {
                '*' => tokens.push(self.run()),
                '?' => tokens.push(Token::One),
                '[' => tokens.push(self.class()?),
                ']' => return Err(GlobError::StrayBracket(self.column)),
                '{' => tokens.push(self.alternatives(depth + 1)?),
                '\\' => {
                    let quoted = self.next().ok_or(GlobError::DanglingQuote)?;
                    push_bytes(&mut tokens, quoted);
                }
                other => push_bytes(&mut tokens, other),
            }
        }
        Ok(tokens)
    }

    fn run(&mut self) -> Token {
        let mut token = Token::Run;
        while self.peek() == Some('*') {
            self.next();
            token = Token::DeepRun;
        }
        token
    }

    fn alternatives(&mut self, depth: usize) -> Result<Token, GlobError> {
        let opened = self.column;
        if depth > MOST_NESTED {
            return Err(GlobError::Nested(opened));
        }
        let mut alternatives = Vec::new();
        loop {
            alternatives.push(self.sequence(depth)?);
            match self.next() {
                Some(',') => {}
                Some(_) => break,
                None => return Err(GlobError::OpenBrace(opened)),
            }
        }
        if alternatives.len() < 2 {
            return Err(GlobError::OneAlternative(opened));
        }
        Ok(Token::Alternatives(alternatives))
    }

    fn class(&mut self) -> Result<Token, GlobError> {
        let opened = self.column;
        let negated = self.peek() == Some('^');
        if negated {
            self.next();
        }
        let mut ranges = Vec::new();
        while let Some((low, quoted)) = self.class_member(opened)? {
            let column = self.column;
            let mut ahead = self.rest.clone();
            let is_range = ahead.next().is_some_and(|(_, c)| c == '-')
                && ahead.next().is_some_and(|(_, c)| c != ']');
            let high = if is_range {
                self.next();
                self.class_member(opened)?.map_or(low, |(high, _)| high)
            } else {
                low
            };
            if high < low {
                return Err(GlobError::ReversedRange(column - usize::from(quoted)));
            }
            ranges.push((low, high));
        }
        if ranges.is_empty() {
            return Err(GlobError::EmptyClass(opened));
        }
        if negated {
            ranges.push((b'/', b'/'));
        }
        let ranges = merged(ranges);
        Ok(Token::Class(if negated {
            complement(&ranges)
        } else {
            ranges
        }))
    }

    /// A byte and whether it was quoted, or `None` at the end of the class.
    fn class_member(&mut self, opened: usize) -> Result<Option<(u8, bool)>, GlobError> {
        let (character, quoted) = match self.next() {
            None => return Err(GlobError::OpenClass(opened)),
            Some(']') => return Ok(None),
            Some('\\') => (self.next().ok_or(GlobError::OpenClass(opened))?, true),
            Some(other) => (other, false),
        };
        match u8::try_from(character) {
            Ok(byte) if byte.is_ascii() => Ok(Some((byte, quoted))),
            Ok(_) | Err(_) => Err(GlobError::WideClass(self.column)),
        }
    }
}

fn push_bytes(tokens: &mut Vec<Token>, character: char) {
    let mut buffer = [0; 4];
    tokens.extend(character.encode_utf8(&mut buffer).bytes().map(Token::Byte));
}

/// Sorted, without overlaps, so that equal classes are equal tokens.
fn merged(mut ranges: Vec<(u8, u8)>) -> Vec<(u8, u8)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u8, u8)> = Vec::new();
    for (low, high) in ranges {
        match merged.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            Some(_) | None => merged.push((low, high)),
        }
    }
    merged
}

/// Every other byte but NUL, which is in no path. `ranges` are sorted and without overlaps.
fn complement(ranges: &[(u8, u8)]) -> Vec<(u8, u8)> {
    let mut rest = Vec::new();
    let mut from = 1;
    for (low, high) in ranges {
        if from < *low {
            rest.push((from, low - 1));
        }
        from = high.saturating_add(1).max(from);
    }
    rest.push((from, u8::MAX));
    rest
}

#[cfg(test)]
mod tests;
