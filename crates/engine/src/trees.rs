// SPDX-License-Identifier: Apache-2.0
//! Moving a tree: what a rule protects cannot be carried out of its reach.
//!
//! Moving or removing a directory is a write to it and to every object at or below it that a *guard*
//! names by its literal part. Guards are the Block rules of both categories and the Allow rules for
//! processes. The answer is the strictest of the write to the directory itself, which wins ties, and
//! of what each guard says:
//!
//! - a Block rule for files, if its `fromSource` names the subject: the verdict of a write to its
//!   literal object, by the rules that name that object and the guard itself. A source-specific
//!   Allow for the object therefore beats it;
//! - a Block rule for processes: Block, whoever acts;
//! - an Allow rule for processes: the default posture, because the move would let an unlisted image
//!   run under a listed name. A `path` does not guard a directory of exactly that name.
//!
//! Who owns an object below the directory is not known when the directory moves, so nobody counts
//! as its owner. A guard's literal object that *is* the directory has the directory's owner.

use crate::decisions::{Known, Test};
use crate::forms::{Form, ROOT, Rank};
use crate::precedence::{Candidate, Circumstances, Judge, by_rule};

use gorget_model::{Category, Outcome, RuleId, Verdict};
use gorget_policy::Action;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A rule that keeps directories in place.
#[derive(Debug)]
pub(crate) struct Guard {
    pub(crate) candidate: Candidate,
    pub(crate) literal: Vec<u8>,
    sort: Sort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    FileBlock,
    ProcessBlock,
    ProcessAllow,
}

/// How a guard's literal part lies to a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    Itself,
    Below,
}

impl Guard {
    /// `None` when the rule does not guard, or names nothing without wildcards.
    pub(crate) fn new(
        rule: RuleId,
        category: Category,
        action: Action,
        form: &Form,
    ) -> Option<Self> {
        let sort = match (category, action) {
            (Category::File, Action::Block) => Sort::FileBlock,
            (Category::Process, Action::Block) => Sort::ProcessBlock,
            (Category::Process, Action::Allow) => Sort::ProcessAllow,
            (Category::File, Action::Allow | Action::Audit)
            | (Category::Process, Action::Audit)
            | (
                Category::Network
                | Category::Dns
                | Category::Capability
                | Category::Syscall
                | Category::Device
                | Category::Preset,
                _,
            ) => return None,
        };
        let candidate = Candidate {
            rule,
            rank: form.rank,
        };
        Some(Self {
            candidate,
            literal: form.literal.clone()?,
            sort,
        })
    }

    /// Whether the guard says anything to a subject that fulfils the conditions that hold.
    pub(crate) fn speaks(&self, judge: &Judge<'_>, holds: &dyn Fn(u32) -> bool) -> bool {
        let condition = judge
            .facts(self.candidate.rule)
            .map(|facts| facts.condition);
        self.sort != Sort::FileBlock || condition.is_some_and(|c| c.is_none_or(holds))
    }

    /// What the guard says when its directory moves. `named` are the rules for files that name
    /// its literal object; `judge` decides for files.
    pub(crate) fn verdict(
        &self,
        judge: &Judge<'_>,
        named: &[Candidate],
        holds: &dyn Fn(u32) -> bool,
        owner: bool,
        known: &Known,
    ) -> Result<Verdict, Test> {
        match self.sort {
            Sort::ProcessBlock => Ok(by_rule(Outcome::Block, self.candidate.rule)),
            Sort::ProcessAllow => Ok(judge.by_posture()),
            Sort::FileBlock => {
                let mut named = named.to_vec();
                named.push(self.candidate);
                judge.verdict(&named, holds, Circumstances { write: true, owner }, known)
            }
        }
    }
}

/// For every directory that some guard keeps in place, the guards (by index) and how they lie.
pub(crate) fn guarded_directories(guards: &[Guard]) -> BTreeMap<Vec<u8>, Vec<(usize, Reach)>> {
    let mut directories: BTreeMap<Vec<u8>, Vec<(usize, Reach)>> = BTreeMap::new();
    for (number, guard) in guards.iter().enumerate() {
        if guard.sort != Sort::ProcessAllow || guard.candidate.rank != Rank::Path {
            directories
                .entry(guard.literal.clone())
                .or_default()
                .push((number, Reach::Itself));
        }
        for directory in ancestors(&guard.literal) {
            directories
                .entry(directory.to_vec())
                .or_default()
                .push((number, Reach::Below));
        }
    }
    directories
}

/// Every proper ancestor directory.
fn ancestors(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    let below_root = path.len() > ROOT.len();
    let slashes = path
        .iter()
        .enumerate()
        .filter(|(_, byte)| **byte == b'/')
        .map(|(at, _)| at);
    slashes
        .filter(move |_| below_root)
        .map(|at| match path.get(..at) {
            None | Some([]) => ROOT,
            Some(directory) => directory,
        })
}

/// The strictest; on a tie the move's own write verdict, then the guard with the smallest rule id.
pub(crate) fn strictest(own: Verdict, guards: impl Iterator<Item = Verdict>) -> Verdict {
    let guard = guards.min_by_key(|verdict| (Reverse(verdict.outcome), verdict.cause));
    match guard {
        Some(guard) if guard.outcome > own.outcome => guard,
        Some(_) | None => own,
    }
}
