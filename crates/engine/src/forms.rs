// SPDX-License-Identifier: Apache-2.0
//! Which paths a rule names: object matchers and sources as sequences of glob tokens.
//!
//! A rule has one [`Form`] as written and, where its literal part is a symbolic link inside the
//! workload, a second one under the name that the kernel uses ([`Aliases`]). Each form knows how
//! it ranks against others and its *literal part*: the path that can be named without wildcards.
//!
//! INVARIANT: a literal part is absolute, has no trailing slash unless it is `/`, and contains no
//! wildcard.

use gorget_policy::{ObjectMatcher, Policy, Source, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rule path as written to what the kernel calls it in this workload, for paths that are or lie
/// below symbolic links. Whoever can see the workload's file system resolves them; a rule then
/// covers both names: for a directory both trees, for a pattern its literal directory prefix is
/// replaced, and sources likewise.
///
/// Keys are the paths that [`literal_paths`] returns; other keys have no effect. Neither side has
/// a trailing slash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aliases(pub BTreeMap<Vec<u8>, Vec<u8>>);

/// Every path for which an alias could exist: paths, directories and source paths as written, and
/// the literal directory prefixes of patterns. Without trailing slashes; the root is not among them.
pub fn literal_paths(policies: &[Arc<Policy>]) -> BTreeSet<Vec<u8>> {
    let mut paths = BTreeSet::new();
    for rule in policies.iter().flat_map(|policy| &policy.rules) {
        paths.extend(Form::of_object(&rule.object).literal);
        paths.extend(
            rule.sources
                .iter()
                .filter_map(|s| Form::of_source(s).literal),
        );
    }
    paths.remove(ROOT);
    paths
}

pub(crate) const ROOT: &[u8] = b"/";

/// How a form ranks against others that match the same object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Rank {
    Path,
    ExecName,
    /// `length` is that of the directory's name, trailing slash included.
    Directory {
        length: usize,
        recursive: bool,
    },
    Pattern,
}

/// One way in which a rule names paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) rank: Rank,
    /// `None` for names that no literal begins: an execname, a pattern that starts with a wildcard.
    pub(crate) literal: Option<Vec<u8>>,
    /// What is named: any path that one of these matches.
    pub(crate) names: Vec<Vec<Token>>,
}

impl Form {
    /// The form as written, and the one under the alias of its literal part if there is one.
    pub(crate) fn all_of_object(object: &ObjectMatcher, aliases: &Aliases) -> Vec<Self> {
        let written = Self::of_object(object);
        let aliased = written.alias(aliases).map(|target| match object {
            ObjectMatcher::Path(_) => Self::path(or_root(target)),
            ObjectMatcher::ExecName(name) => Self::exec_name(name),
            ObjectMatcher::Directory { dir: _, recursive } => Self::directory(target, *recursive),
            ObjectMatcher::Pattern(glob) => {
                let prefix = written.literal.as_ref().map_or(0, Vec::len);
                let rest = glob.tokens.get(prefix..).unwrap_or_default();
                let mut tokens = bytes(target);
                tokens.extend_from_slice(rest);
                Self::pattern(tokens)
            }
        });
        [written].into_iter().chain(aliased).collect()
    }

    /// As [`Form::all_of_object`], for a source.
    pub(crate) fn all_of_source(source: &Source, aliases: &Aliases) -> Vec<Self> {
        let written = Self::of_source(source);
        let aliased = written.alias(aliases).map(|target| match source {
            Source::Path(_) => Self::path(or_root(target)),
            Source::Directory { dir: _, recursive } => Self::directory(target, *recursive),
        });
        [written].into_iter().chain(aliased).collect()
    }

    fn of_object(object: &ObjectMatcher) -> Self {
        match object {
            ObjectMatcher::Path(path) => Self::path(path.as_bytes()),
            ObjectMatcher::ExecName(name) => Self::exec_name(name),
            ObjectMatcher::Directory { dir, recursive } => {
                Self::directory(without_slash(dir.as_bytes()), *recursive)
            }
            ObjectMatcher::Pattern(glob) => Self::pattern(glob.tokens.clone()),
        }
    }

    fn of_source(source: &Source) -> Self {
        match source {
            Source::Path(path) => Self::path(path.as_bytes()),
            Source::Directory { dir, recursive } => {
                Self::directory(without_slash(dir.as_bytes()), *recursive)
            }
        }
    }

    /// What to put in place of the literal part: its alias without trailing slash, so that the
    /// root is empty.
    fn alias<'a>(&self, aliases: &'a Aliases) -> Option<&'a [u8]> {
        let literal = self.literal.as_ref().filter(|path| *path != ROOT)?;
        let target = without_slash(aliases.0.get(literal)?);
        (target != literal).then_some(target)
    }

    fn path(path: &[u8]) -> Self {
        Self {
            rank: Rank::Path,
            literal: Some(or_root(without_slash(path)).to_vec()),
            names: vec![bytes(path)],
        }
    }

    fn exec_name(name: &str) -> Self {
        let mut tokens = vec![Token::DeepRun, Token::Byte(b'/')];
        tokens.extend(bytes(name.as_bytes()));
        Self {
            rank: Rank::ExecName,
            literal: None,
            names: vec![tokens],
        }
    }

    /// The directory itself, and what its name with a slash begins.
    fn directory(dir: &[u8], recursive: bool) -> Self {
        let mut inside = bytes(dir);
        inside.push(Token::Byte(b'/'));
        inside.push(if recursive {
            Token::DeepRun
        } else {
            Token::Run
        });
        let mut names = vec![inside];
        if !dir.is_empty() {
            names.push(bytes(dir));
        }
        Self {
            rank: Rank::Directory {
                length: dir.len().saturating_add(1),
                recursive,
            },
            literal: Some(or_root(dir).to_vec()),
            names,
        }
    }

    fn pattern(tokens: Vec<Token>) -> Self {
        let literal = literal_of_pattern(&tokens);
        Self {
            rank: Rank::Pattern,
            literal,
            names: vec![tokens],
        }
    }
}

/// The bytes up to the first wildcard, cut back to the last slash; all of them when there is none.
fn literal_of_pattern(tokens: &[Token]) -> Option<Vec<u8>> {
    let mut literal: Vec<u8> = tokens
        .iter()
        .map_while(|token| match token {
            Token::Byte(byte) => Some(*byte),
            Token::One | Token::Class(_) | Token::Run | Token::DeepRun | Token::Alternatives(_) => {
                None
            }
        })
        .collect();
    if literal.first() != Some(&b'/') {
        return None;
    }
    if literal.len() < tokens.len() {
        let slash = literal.iter().rposition(|byte| *byte == b'/');
        literal.truncate(slash.unwrap_or_default());
    }
    Some(or_root(without_slash(&literal)).to_vec())
}

fn bytes(literal: &[u8]) -> Vec<Token> {
    literal.iter().copied().map(Token::Byte).collect()
}

/// Empty for the root.
fn without_slash(mut path: &[u8]) -> &[u8] {
    while let Some(shorter) = path.strip_suffix(ROOT) {
        path = shorter;
    }
    path
}

fn or_root(path: &[u8]) -> &[u8] {
    if path.is_empty() { ROOT } else { path }
}
