// SPDX-License-Identifier: Apache-2.0
//! Cutting paths and directories out of patterns.
//!
//! AppArmor has no "but not": what allows everything in a directory but one file has to say what the
//! file's name is not. A trie of the names that matter is walked together with the patterns. Where
//! a path leaves the trie, all paths that leave it there are alike, but for having another slash or
//! not (which matters to directories that are not recursive), so one of them is asked.

use crate::glob::{ByteSet, Glob, Piece, TooMany, can_end, joined, step};
use gorget_engine::Named;
use std::collections::{BTreeMap, BTreeSet};

/// Longer names are not cut out: every byte of one is a pattern.
const LONGEST_NAME: usize = 512;

/// The bytes of all patterns that one cut may take.
const MOST_BYTES: usize = 1 << 20;

/// Where names part.
#[derive(Debug, Default)]
pub(crate) struct Trie {
    children: BTreeMap<u8, Trie>,
    /// About how many bytes it takes to say what is not in it.
    bytes: usize,
    longest: usize,
}

impl Trie {
    pub(crate) fn of<'a>(names: impl Iterator<Item = &'a Named>) -> Self {
        let mut trie = Self::default();
        for named in names {
            match named {
                Named::Path(path) => trie.insert(path),
                Named::Directory { dir, recursive: _ } => {
                    trie.insert(&[dir.as_slice(), b"/"].concat());
                }
                Named::Pattern(_) => {}
            }
        }
        trie
    }

    fn insert(&mut self, path: &[u8]) {
        self.longest = self.longest.max(path.len());
        self.bytes = self
            .bytes
            .saturating_add(path.len().saturating_mul(path.len()));
        let mut node = self;
        for byte in path {
            node = node.children.entry(*byte).or_default();
        }
    }
}

/// Places in patterns: which pattern, and where.
type State = BTreeSet<(usize, usize)>;

/// What is left of the patterns of which `keep` says so, path by path. `keep` must not tell paths apart that the
/// trie does not tell apart.
///
/// # Errors
///
/// When it takes too much to say so.
pub(crate) fn carve(
    globs: &[Glob],
    trie: &Trie,
    keep: &dyn Fn(&[u8]) -> bool,
) -> Result<Vec<Glob>, TooMany> {
    if trie.longest > LONGEST_NAME || trie.bytes > MOST_BYTES {
        return Err(TooMany);
    }
    let carver = Carver { globs, keep };
    let none = Trie::default();
    let below = trie.children.get(&b'/').unwrap_or(&none);
    let start: State = (0..globs.len()).map(|number| (number, 0)).collect();
    let state = carver.after(&start, b'/');
    Ok(match carver.visit(&mut b"/".to_vec(), &state, below) {
        Left::All => globs.to_vec(),
        Left::Nothing => Vec::new(),
        Left::Some(mut left) => {
            left.sort_unstable();
            left.dedup();
            left
        }
    })
}

enum Left {
    /// All or nothing of what begins with the prefix. Where there is nothing to begin with, both.
    All,
    Nothing,
    Some(Vec<Glob>),
}

/// Paths that begin alike and are alike.
struct Cell {
    kept: bool,
    rest: Vec<Vec<Piece>>,
}

struct Carver<'a> {
    globs: &'a [Glob],
    keep: &'a dyn Fn(&[u8]) -> bool,
}

impl Carver<'_> {
    fn pieces(&self, number: usize) -> &[Piece] {
        self.globs.get(number).map_or(&[], |glob| glob.0.as_slice())
    }

    fn after(&self, state: &State, byte: u8) -> State {
        let next = state.iter().flat_map(|(number, at)| {
            let places = step(self.pieces(*number), *at, byte);
            places.into_iter().map(|at| (*number, at))
        });
        next.collect()
    }

    fn rests(&self, state: &State) -> impl Iterator<Item = &[Piece]> {
        state
            .iter()
            .map(|(number, at)| self.pieces(*number).get(*at..).unwrap_or_default())
    }

    fn kept(&self, prefix: &[u8], end: &[u8]) -> bool {
        (self.keep)(&[prefix, end].concat())
    }

    fn visit(&self, prefix: &mut Vec<u8>, state: &State, node: &Trie) -> Left {
        if state.is_empty() {
            return Left::All;
        }
        let mut cells = Vec::new();
        let ends = state
            .iter()
            .any(|(number, at)| can_end(self.pieces(*number), *at));
        let is_path = prefix.len() == 1 || prefix.last() != Some(&b'/');
        if ends && is_path {
            cells.push(Cell {
                kept: self.kept(prefix, b""),
                rest: vec![Vec::new()],
            });
        }
        let mut whole = ByteSet::EMPTY;
        let mut parts = Vec::new();
        let mut nothing = true;
        for (byte, child) in &node.children {
            let next = self.after(state, *byte);
            prefix.push(*byte);
            let left = self.visit(prefix, &next, child);
            prefix.pop();
            match left {
                Left::All if next.is_empty() => {}
                Left::All if *byte == b'/' => {
                    cells.push(Cell {
                        kept: true,
                        rest: self.rests(state).flat_map(slash_first).collect(),
                    });
                }
                Left::All => whole = [*byte].into_iter().chain(whole.bytes()).collect(),
                Left::Nothing => cells.push(Cell {
                    kept: false,
                    rest: vec![Vec::new()],
                }),
                Left::Some(globs) => {
                    nothing = false;
                    parts.extend(globs);
                }
            }
        }
        let mixed = !parts.is_empty();
        cells.extend(self.leaving(prefix, state, node, whole));
        cells.retain(|cell| !cell.rest.is_empty());
        if !mixed && cells.iter().all(|cell| cell.kept) {
            return Left::All;
        }
        if nothing && cells.iter().all(|cell| !cell.kept) {
            return Left::Nothing;
        }
        let start: Vec<Piece> = prefix.iter().copied().map(Piece::Byte).collect();
        for cell in cells.iter().filter(|cell| cell.kept) {
            for rest in &cell.rest {
                parts.push(Glob(joined(&[start.as_slice(), rest].concat())));
            }
        }
        parts.retain(Glob::is_possible);
        Left::Some(parts)
    }

    /// The paths that leave the trie here, and those that go on in it and are kept `whole`.
    fn leaving(&self, prefix: &[u8], state: &State, node: &Trie, whole: ByteSet) -> Vec<Cell> {
        let component = ByteSet::component().bytes();
        let leaves: ByteSet = component
            .filter(|byte| !node.children.contains_key(byte))
            .collect();
        let some = leaves.bytes().next().unwrap_or(1);
        let rest = |first: ByteSet| -> Vec<Vec<Piece>> {
            self.rests(state)
                .flat_map(|rest| first_in(rest, first))
                .collect()
        };
        let mut cells = Vec::new();
        let alone = self.kept(prefix, &[some]);
        let deeper = self.kept(prefix, &[some, b'/', some]);
        if alone && deeper {
            let first = leaves.bytes().chain(whole.bytes()).collect();
            cells.push(Cell {
                kept: true,
                rest: rest(first),
            });
        } else {
            cells.push(Cell {
                kept: true,
                rest: rest(whole),
            });
            cells.push(Cell {
                kept: alone,
                rest: rest(leaves).iter().filter_map(|r| flat(r)).collect(),
            });
            cells.push(Cell {
                kept: deeper,
                rest: rest(leaves).iter().flat_map(|r| with_slash(r)).collect(),
            });
        }
        if !node.children.contains_key(&b'/') && prefix.last() != Some(&b'/') {
            cells.push(Cell {
                kept: self.kept(prefix, &[b'/', some]),
                rest: self.rests(state).flat_map(slash_first).collect(),
            });
        }
        cells
    }
}

/// What of a sequence begins with one of these bytes, none of which is a slash.
fn first_in(pieces: &[Piece], first: ByteSet) -> Vec<Vec<Piece>> {
    let Some((piece, rest)) = pieces.split_first() else {
        return Vec::new();
    };
    match piece {
        Piece::Byte(byte) if first.contains(*byte) => vec![pieces.to_vec()],
        Piece::Byte(_) => Vec::new(),
        Piece::Set(set) => Piece::of(set.and(first))
            .map(|piece| [&[piece], rest].concat())
            .into_iter()
            .collect(),
        Piece::Run | Piece::Deep => {
            let mut found = first_in(rest, first);
            found.extend(Piece::of(first).map(|begin| [&[begin], pieces].concat()));
            found
        }
    }
}

/// What of a sequence begins with a slash.
fn slash_first(pieces: &[Piece]) -> Vec<Vec<Piece>> {
    let Some((piece, rest)) = pieces.split_first() else {
        return Vec::new();
    };
    match piece {
        Piece::Byte(b'/') => vec![pieces.to_vec()],
        Piece::Byte(_) | Piece::Set(_) => Vec::new(),
        Piece::Run => slash_first(rest),
        Piece::Deep => {
            let mut found = slash_first(rest);
            found.push([&[Piece::Byte(b'/')], pieces].concat());
            found
        }
    }
}

/// What of a sequence has no slash.
fn flat(pieces: &[Piece]) -> Option<Vec<Piece>> {
    let pieces = pieces.iter().map(|piece| match piece {
        Piece::Byte(b'/') => None,
        Piece::Deep => Some(Piece::Run),
        Piece::Byte(_) | Piece::Set(_) | Piece::Run => Some(*piece),
    });
    pieces.collect()
}

/// What of a sequence has a slash.
fn with_slash(pieces: &[Piece]) -> Vec<Vec<Piece>> {
    let mut found = Vec::new();
    for (at, piece) in pieces.iter().enumerate() {
        let before = flat(pieces.get(..at).unwrap_or_default());
        let after = pieces.get(at..).unwrap_or_default();
        let Some(before) = before else { break };
        match piece {
            Piece::Byte(b'/') => found.push([before.as_slice(), after].concat()),
            Piece::Deep => {
                let slash = [Piece::Run, Piece::Byte(b'/')];
                found.push([before.as_slice(), &slash, after].concat());
            }
            Piece::Byte(_) | Piece::Set(_) | Piece::Run => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> Named {
        Named::Path(path.into())
    }

    fn dir(dir: &str, recursive: bool) -> Named {
        Named::Directory {
            dir: dir.into(),
            recursive,
        }
    }

    /// Every path of up to three components over a small alphabet.
    fn paths() -> Vec<String> {
        let names = ["a", "b", "ab", "abc"];
        let mut all = vec!["/".to_owned()];
        let mut last = vec![String::new()];
        for _ in 0..3 {
            last = last
                .iter()
                .flat_map(|p| names.iter().map(move |name| format!("{p}/{name}")))
                .collect();
            all.extend(last.clone());
        }
        all
    }

    fn assert_cut(globs: &[Glob], names: &[Named]) {
        let outside = |path: &[u8]| !names.iter().any(|n| n.contains(path) == Some(true));
        let left = carve(globs, &Trie::of(names.iter()), &outside).unwrap();
        for path in paths() {
            let before = globs.iter().any(|g| g.matches(path.as_bytes()));
            let after = left.iter().any(|g| g.matches(path.as_bytes()));
            let expected = before && outside(path.as_bytes());
            assert_eq!(after, expected, "{path} of {globs:?} without {names:?}");
        }
    }

    #[test]
    fn what_is_cut_out_is_gone_and_nothing_else() {
        let all = Glob::all();
        let flat = Glob::directory(b"/a", false);
        let deep = Glob::directory(b"/a", true);
        for globs in [all, flat, deep, vec![Glob::literal(b"/a/b")]] {
            assert_cut(&globs, &[path("/a")]);
            assert_cut(&globs, &[path("/a/b"), path("/ab/a")]);
            assert_cut(&globs, &[dir("/a", false)]);
            assert_cut(&globs, &[dir("/a", true), path("/ab")]);
            assert_cut(&globs, &[dir("/a/b", false), dir("/a/ab", true)]);
            assert_cut(&globs, &[dir("", false)]);
            assert_cut(&globs, &[dir("", true)]);
            assert_cut(&globs, &[]);
        }
    }

    #[test]
    fn patterns_that_nothing_is_cut_out_of_stay_as_they_are() {
        let deep = Glob::directory(b"/data", true);
        let names = [path("/etc/passwd")];
        let outside = |path: &[u8]| names.iter().all(|n| n.contains(path) != Some(true));
        assert_eq!(carve(&deep, &Trie::of(names.iter()), &outside), Ok(deep));
    }
}
