// SPDX-License-Identifier: Apache-2.0
//! From a list in which the first step decides to what is allowed and what is denied.
//!
//! In a profile everything that some rule allows is allowed, unless some rule denies it. A step that
//! blocks is written in one of two ways:
//!
//! - *denied*: what it names, without what steps before it let pass. That can be said as long as
//!   those are paths and directories;
//! - *omitted*: cut out of everything that steps after it let pass. That can be said as long as the
//!   step itself is a path or a directory.
//!
//! Either way the answer is exact. Where neither can be said, because a pattern lets pass what a
//! pattern blocks, the step is left out and named.

use crate::carve::{Trie, carve};
use crate::glob::{Glob, TooMany};
use gorget_engine::{Listing, Named, Step};
use gorget_model::{Outcome, RuleId};

/// What a list comes to.
#[derive(Debug, Default)]
pub(crate) struct Cut {
    pub(crate) allowed: Vec<Allowed>,
    pub(crate) denied: Vec<Glob>,
    pub(crate) left_out: Vec<(RuleId, LeftOut)>,
}

#[derive(Debug)]
pub(crate) struct Allowed {
    pub(crate) glob: Glob,
    pub(crate) audited: bool,
}

/// Why a step is not in a profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LeftOut {
    /// A pattern lets pass what this pattern blocks.
    Crossed,
    /// The pattern has too many alternatives, or saying what it is not takes too much.
    TooLong,
}

/// A step with its patterns.
struct Region<'a> {
    step: &'a Step,
    globs: Vec<Glob>,
}

impl Region<'_> {
    fn passes(&self) -> bool {
        self.step.outcome != Outcome::Block
    }

    fn is_pattern(&self) -> bool {
        matches!(self.step.named, Named::Pattern(_))
    }

    /// Whether it surely holds a path. Patterns are not asked.
    fn holds(&self, path: &[u8]) -> bool {
        self.step.contains(path) == Some(true)
    }

    fn names(&self) -> impl Iterator<Item = &Named> {
        [&self.step.named].into_iter().chain(&self.step.except)
    }

    fn overlaps(&self, other: &Self) -> bool {
        match (&self.step.named, &other.step.named) {
            (Named::Path(path), Named::Pattern(_)) => other.matches(path),
            (Named::Pattern(_), Named::Path(path)) => self.matches(path),
            (Named::Path(path), _) => other.holds(path),
            (_, Named::Path(path)) => self.holds(path),
            (Named::Directory { dir: a, .. }, Named::Directory { dir: b, .. }) => {
                a.starts_with(b) || b.starts_with(a)
            }
            (Named::Pattern(_), _) | (_, Named::Pattern(_)) => {
                let pairs = |a: &Glob| other.globs.iter().any(|b| a.overlaps(b));
                self.globs.iter().any(pairs)
            }
        }
    }

    fn matches(&self, path: &[u8]) -> bool {
        self.globs.iter().any(|glob| glob.matches(path))
    }
}

fn globs(named: &Named) -> Result<Vec<Glob>, TooMany> {
    match named {
        Named::Path(path) => Ok(vec![Glob::literal(path)]),
        Named::Directory { dir, recursive } => Ok(Glob::directory(dir, *recursive)),
        Named::Pattern(tokens) => Glob::of_tokens(tokens),
    }
}

/// Works out what is allowed and what is denied. With `log`, what is audited is told apart.
pub(crate) fn cut(listing: &Listing, log: bool) -> Cut {
    let mut cut = Cut::default();
    let mut regions = Vec::new();
    for step in &listing.steps {
        match globs(&step.named) {
            Ok(globs) => regions.push(Region { step, globs }),
            Err(TooMany) => cut.left_out.push((step.rule, LeftOut::TooLong)),
        }
    }
    let mut omitted = Vec::new();
    for (at, region) in regions.iter().enumerate() {
        if region.passes() {
            continue;
        }
        match deny(region, regions.get(..at).unwrap_or_default()) {
            Ok(globs) => cut.denied.extend(globs),
            Err(_) if !region.is_pattern() => omitted.push(at),
            Err(why) => cut.left_out.push((region.step.rule, why)),
        }
    }
    let default = match listing.unlisted {
        Outcome::Pass => Some(false),
        Outcome::Audit => Some(log),
        Outcome::Block => None,
    };
    let allow = Allow {
        regions: &regions,
        omitted: &omitted,
        log,
    };
    for (at, region) in regions.iter().enumerate().filter(|(_, r)| r.passes()) {
        let audited = log && region.step.outcome == Outcome::Audit;
        let cut_into = omitted
            .iter()
            .filter_map(|o| regions.get(*o))
            .any(|o| o.overlaps(region));
        if default == Some(false) && !audited && !cut_into {
            continue;
        }
        match allow.of(at, &region.globs, audited, Some(region)) {
            Ok(globs) => cut.allow(globs, audited),
            Err(TooMany) => cut.left_out.push((region.step.rule, LeftOut::TooLong)),
        }
    }
    if let Some(audited) = default {
        match allow.of(regions.len(), &Glob::all(), audited, None) {
            Ok(globs) => cut.allow(globs, audited),
            Err(TooMany) => {
                // What is omitted cannot be said: it is let pass, and told.
                let rules = omitted.iter().filter_map(|o| regions.get(*o));
                cut.left_out
                    .extend(rules.map(|region| (region.step.rule, LeftOut::TooLong)));
                cut.allow(Glob::all(), audited);
            }
        }
    }
    cut
}

impl Cut {
    fn allow(&mut self, globs: Vec<Glob>, audited: bool) {
        let allowed = globs.into_iter().map(|glob| Allowed { glob, audited });
        self.allowed.extend(allowed);
    }
}

/// What a region denies, after what was decided before it.
fn deny(region: &Region<'_>, before: &[Region<'_>]) -> Result<Vec<Glob>, LeftOut> {
    let passed: Vec<&Region<'_>> = before
        .iter()
        .filter(|other| other.passes() && other.overlaps(region))
        .collect();
    if passed.iter().any(|other| other.is_pattern()) {
        return Err(LeftOut::Crossed);
    }
    let own = region.step.except.iter();
    let trie = Trie::of(own.chain(passed.iter().flat_map(|other| other.names())));
    let keep = |path: &[u8]| {
        let own = region.is_pattern() || !region.excepts(path);
        own && !passed.iter().any(|other| other.holds(path))
    };
    carve(&region.globs, &trie, &keep).map_err(|TooMany| LeftOut::TooLong)
}

impl Region<'_> {
    fn excepts(&self, path: &[u8]) -> bool {
        let mut except = self.step.except.iter();
        except.any(|named| named.contains(path) == Some(true))
    }
}

struct Allow<'a> {
    regions: &'a [Region<'a>],
    omitted: &'a [usize],
    log: bool,
}

impl Allow<'_> {
    fn omits(&self, named: &Named) -> bool {
        let mut omitted = self.omitted.iter().filter_map(|o| self.regions.get(*o));
        omitted.any(|region| region.step.named == *named)
    }

    /// What is let pass of some patterns by the step at a place in the list.
    fn of(
        &self,
        at: usize,
        globs: &[Glob],
        audited: bool,
        region: Option<&Region<'_>>,
    ) -> Result<Vec<Glob>, TooMany> {
        let before = self.omitted.iter().filter(|omitted| **omitted < at);
        let omitted: Vec<&Region<'_>> = before.filter_map(|o| self.regions.get(*o)).collect();
        // What passes unaudited must not be audited by a step that comes after.
        let quiet: Vec<&Region<'_>> = self
            .regions
            .iter()
            .take(at)
            .filter(|other| self.log && audited && other.step.outcome == Outcome::Pass)
            .collect();
        let left = |quiet: &[&Region<'_>]| {
            // What a step leaves to others is denied by them, or let pass by them, too; only what they
            // omit has to be left out.
            let own: Vec<&Named> = region
                .iter()
                .flat_map(|region| &region.step.except)
                .filter(|named| audited || self.omits(named))
                .collect();
            let others = omitted.iter().chain(quiet).flat_map(|other| other.names());
            let keep = |path: &[u8]| {
                let left = own.iter().any(|named| named.contains(path) == Some(true));
                let mut others = omitted.iter().chain(quiet);
                !left && !others.any(|other| other.holds(path))
            };
            carve(globs, &Trie::of(own.iter().copied().chain(others)), &keep)
        };
        // Telling of too much is better than allowing too little.
        left(&quiet).or_else(|TooMany| left(&[]))
    }
}
