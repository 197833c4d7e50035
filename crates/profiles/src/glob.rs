// SPDX-License-Identifier: Apache-2.0
//! Patterns over paths, without alternatives, and what can be done with them.
//!
//! A path is absolute, has no two slashes in a row and none at its end, but for the root. What a
//! pattern says about anything else is of no meaning here; in a profile a directory has a slash at
//! its end, which `text` adds.
//!
//! INVARIANT: a pattern begins with a slash; a [`Piece::Set`] is not empty and has no slash; no two
//! runs are neighbours; only the pattern for the root ends with a slash; no two slashes are
//! neighbours.

use gorget_engine::Token;
use std::collections::BTreeSet;

/// Patterns that one with alternatives may stand for.
const MOST_ALTERNATIVES: usize = 1024;

/// Some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ByteSet([u64; 4]);

impl ByteSet {
    pub(crate) const EMPTY: Self = Self([0; 4]);

    /// Every byte that can be in a component of a path.
    pub(crate) fn component() -> Self {
        let [first, rest @ ..] = [u64::MAX; 4];
        Self([first & !1 & !(1 << b'/'), rest[0], rest[1], rest[2]])
    }

    pub(crate) fn contains(self, byte: u8) -> bool {
        let word = self.0.get(usize::from(byte >> 6));
        word.is_some_and(|word| word >> (byte & 63) & 1 == 1)
    }

    fn insert(&mut self, byte: u8) {
        if let Some(word) = self.0.get_mut(usize::from(byte >> 6)) {
            *word |= 1 << (byte & 63);
        }
    }

    pub(crate) fn and(self, other: Self) -> Self {
        let (Self([a, b, c, d]), Self([e, f, g, h])) = (self, other);
        Self([a & e, b & f, c & g, d & h])
    }

    pub(crate) fn bytes(self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(move |byte| self.contains(*byte))
    }
}

impl FromIterator<u8> for ByteSet {
    fn from_iter<I: IntoIterator<Item = u8>>(bytes: I) -> Self {
        let mut set = Self::EMPTY;
        bytes.into_iter().for_each(|byte| set.insert(byte));
        set
    }
}

/// One element of a [`Glob`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Piece {
    /// This byte.
    Byte(u8),
    /// One of these, never a slash.
    Set(ByteSet),
    /// Any run, also an empty one, without a slash.
    Run,
    /// Any run, also an empty one.
    Deep,
}

impl Piece {
    /// One of these bytes; `None` when there are none.
    pub(crate) fn of(set: ByteSet) -> Option<Self> {
        let mut bytes = set.bytes();
        match (bytes.next(), bytes.next()) {
            (None, _) => None,
            (Some(byte), None) => Some(Self::Byte(byte)),
            (Some(_), Some(_)) => Some(Self::Set(set)),
        }
    }
}

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Glob(pub(crate) Vec<Piece>);

/// A pattern has more alternatives than can be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl Glob {
    /// Exactly this path.
    pub(crate) fn literal(path: &[u8]) -> Self {
        Self(path.iter().copied().map(Piece::Byte).collect())
    }

    /// Every path.
    pub(crate) fn all() -> Vec<Self> {
        let slash = Piece::Byte(b'/');
        vec![Self(vec![slash]), Self(vec![slash, Piece::Deep])]
    }

    /// A directory, without a slash at its end, and what is in it.
    pub(crate) fn directory(dir: &[u8], recursive: bool) -> Vec<Self> {
        let itself = if dir.is_empty() { b"/" } else { dir };
        let mut inside = Self::literal(dir).0;
        inside.push(Piece::Byte(b'/'));
        inside.push(if recursive { Piece::Deep } else { Piece::Run });
        vec![Self::literal(itself), Self(inside)]
    }

    /// What the tokens of a policy's pattern match.
    pub(crate) fn of_tokens(tokens: &[Token]) -> Result<Vec<Self>, TooMany> {
        let mut globs = BTreeSet::new();
        for sequence in expanded(tokens)? {
            globs.extend(rooted(&joined(&sequence)));
        }
        let root = Self(vec![Piece::Byte(b'/')]);
        if globs.iter().any(|glob| glob.matches(b"/")) {
            globs.insert(root);
        }
        Ok(globs.into_iter().collect())
    }

    /// The path, when it matches exactly one.
    pub(crate) fn as_literal(&self) -> Option<Vec<u8>> {
        let bytes = self.0.iter().map(|piece| match piece {
            Piece::Byte(byte) => Some(*byte),
            Piece::Set(_) | Piece::Run | Piece::Deep => None,
        });
        bytes.collect()
    }

    /// Whether it matches a path.
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        let mut state = BTreeSet::from([0]);
        for byte in path {
            state = state
                .iter()
                .flat_map(|at| step(&self.0, *at, *byte))
                .collect();
        }
        state.iter().any(|at| can_end(&self.0, *at))
    }

    /// Whether some path could match both.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let (mut open, mut seen) = (vec![(0, 0)], BTreeSet::new());
        while let Some((a, b)) = open.pop() {
            if !seen.insert((a, b)) {
                continue;
            }
            if can_end(&self.0, a) && can_end(&other.0, b) {
                return true;
            }
            // Both end, so bytes that neither names are all alike.
            for byte in self.telling(other) {
                for a in step(&self.0, a, byte) {
                    open.extend(step(&other.0, b, byte).into_iter().map(|b| (a, b)));
                }
            }
        }
        false
    }

    /// One byte of each sort that the two tell apart.
    fn telling(&self, other: &Self) -> Vec<u8> {
        let pieces: BTreeSet<Piece> = self.0.iter().chain(&other.0).copied().collect();
        let mut seen = BTreeSet::new();
        let sorts = (1..=u8::MAX).filter(|byte| {
            let sort: Vec<bool> = pieces.iter().map(|p| takes(*p, *byte)).collect();
            seen.insert(sort)
        });
        sorts.collect()
    }
}

pub(crate) fn takes(piece: Piece, byte: u8) -> bool {
    match piece {
        Piece::Byte(this) => this == byte,
        Piece::Set(set) => set.contains(byte),
        Piece::Run => byte != b'/',
        Piece::Deep => true,
    }
}

/// Where a pattern can be after a byte, from a place in it.
pub(crate) fn step(pieces: &[Piece], mut at: usize, byte: u8) -> Vec<usize> {
    let mut after = Vec::new();
    while let Some(piece) = pieces.get(at) {
        let run = matches!(piece, Piece::Run | Piece::Deep);
        if takes(*piece, byte) {
            after.push(if run { at } else { at + 1 });
        }
        if !run {
            break;
        }
        at += 1;
    }
    after
}

/// Whether nothing more is needed from a place in a pattern.
pub(crate) fn can_end(pieces: &[Piece], at: usize) -> bool {
    let rest = pieces.get(at..).unwrap_or_default();
    rest.iter()
        .all(|piece| matches!(piece, Piece::Run | Piece::Deep))
}

/// Every sequence without alternatives, and without classes that have a slash.
fn expanded(tokens: &[Token]) -> Result<Vec<Vec<Piece>>, TooMany> {
    let mut all = vec![Vec::new()];
    for token in tokens {
        match token {
            Token::Byte(byte) => push(&mut all, Piece::Byte(*byte)),
            Token::One => push(&mut all, Piece::Set(ByteSet::component())),
            Token::Run => push(&mut all, Piece::Run),
            Token::DeepRun => push(&mut all, Piece::Deep),
            Token::Class(ranges) => {
                let within = |byte: u8| {
                    ranges
                        .iter()
                        .any(|(low, high)| *low <= byte && byte <= *high)
                };
                let component = ByteSet::component().bytes();
                let set: ByteSet = component.filter(|byte| within(*byte)).collect();
                let slash = within(b'/').then_some(Piece::Byte(b'/'));
                let other = Piece::of(set);
                let choices: Vec<_> = slash
                    .into_iter()
                    .chain(other)
                    .map(|piece| vec![piece])
                    .collect();
                all = each_with_each(&all, &choices)?;
            }
            Token::Alternatives(alternatives) => {
                let mut choices = Vec::new();
                for alternative in alternatives {
                    choices.extend(expanded(alternative)?);
                }
                all = each_with_each(&all, &choices)?;
            }
        }
    }
    Ok(all)
}

fn push(all: &mut [Vec<Piece>], piece: Piece) {
    all.iter_mut().for_each(|sequence| sequence.push(piece));
}

fn each_with_each(all: &[Vec<Piece>], choices: &[Vec<Piece>]) -> Result<Vec<Vec<Piece>>, TooMany> {
    if all.len().saturating_mul(choices.len()) > MOST_ALTERNATIVES {
        return Err(TooMany);
    }
    let pairs = all.iter().flat_map(|before| {
        choices
            .iter()
            .map(move |after| [before.as_slice(), after].concat())
    });
    Ok(pairs.collect())
}

/// Neighbouring runs as one.
pub(crate) fn joined(pieces: &[Piece]) -> Vec<Piece> {
    let mut joined: Vec<Piece> = Vec::new();
    for piece in pieces {
        match (joined.last_mut(), piece) {
            (Some(Piece::Run), Piece::Run) | (Some(Piece::Deep), Piece::Run | Piece::Deep) => {}
            (Some(last @ Piece::Run), Piece::Deep) => *last = Piece::Deep,
            _ => joined.push(*piece),
        }
    }
    joined
}

/// What of a sequence can match a path.
fn rooted(pieces: &[Piece]) -> Vec<Glob> {
    let slash = Piece::Byte(b'/');
    match pieces {
        [Piece::Byte(b'/'), ..] => Some(Glob(pieces.to_vec()))
            .filter(Glob::is_possible)
            .into_iter()
            .collect(),
        [Piece::Run, rest @ ..] => rooted(rest),
        [Piece::Deep, rest @ ..] => {
            let mut globs = rooted(rest);
            globs.extend(rooted(&[&[slash], pieces].concat()));
            globs
        }
        [] | [Piece::Byte(_) | Piece::Set(_), ..] => Vec::new(),
    }
}

impl Glob {
    /// Not when slashes come together, or at the end.
    pub(crate) fn is_possible(&self) -> bool {
        let slash = Some(&Piece::Byte(b'/'));
        let mut neighbours = self.0.iter().zip(self.0.iter().skip(1));
        let together = neighbours.any(|(a, b)| Some(a) == slash && Some(b) == slash);
        !together && (self.0.len() == 1 || self.0.last() != slash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(tokens: &[Token]) -> Vec<Glob> {
        Glob::of_tokens(tokens).unwrap()
    }

    fn bytes(text: &str) -> Vec<Token> {
        text.bytes().map(Token::Byte).collect()
    }

    fn any(globs: &[Glob], path: &str) -> bool {
        globs.iter().any(|glob| glob.matches(path.as_bytes()))
    }

    #[test]
    fn a_program_s_name_is_found_at_any_depth() {
        let tokens = [vec![Token::DeepRun], bytes("/sh")].concat();
        let globs = globs(&tokens);
        for (path, found) in [("/sh", true), ("/bin/sh", true), ("/bin/ash", false)] {
            assert_eq!(any(&globs, path), found, "{path}");
        }
    }

    #[test]
    fn what_begins_with_no_slash_or_ends_with_one_matches_nothing() {
        assert_eq!(globs(&bytes("etc")), []);
        assert_eq!(globs(&bytes("/etc/")), []);
        assert_eq!(globs(&bytes("/a//b")), []);
        assert_eq!(globs(&bytes("/")).len(), 1);
    }

    #[test]
    fn a_class_with_a_slash_is_two_patterns() {
        let class = Token::Class(vec![(b'.', b'0')]);
        let globs = globs(&[bytes("/a"), vec![class], bytes("b")].concat());
        for path in ["/a/b", "/a.b", "/a0b"] {
            assert!(any(&globs, path), "{path}");
        }
        assert_eq!(globs.len(), 2);
    }

    #[test]
    fn too_many_alternatives_are_refused() {
        let pair = Token::Alternatives(vec![bytes("a"), bytes("b")]);
        let tokens = [bytes("/"), vec![pair; 11]].concat();
        assert_eq!(Glob::of_tokens(&tokens), Err(TooMany));
    }

    #[test]
    fn patterns_overlap_when_a_path_matches_both() {
        let one = |tokens: &[Token]| globs(tokens).pop().unwrap();
        let pem = one(&[bytes("/k/"), vec![Token::Run], bytes(".pem")].concat());
        let app = one(&[bytes("/k/app"), vec![Token::Run]].concat());
        let deep = one(&[bytes("/k/app/"), vec![Token::DeepRun]].concat());
        assert!(pem.overlaps(&app));
        assert!(!pem.overlaps(&deep));
    }
}
