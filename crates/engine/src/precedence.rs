// SPDX-License-Identifier: Apache-2.0
//! Which of the rules that name an object decides, for one source and one access.
//!
//! The order, first difference wins:
//! 1. a rule whose `fromSource` matched beats rules without;
//! 2. `path` beats `execname` beats directories and patterns; among directories the longest, then
//!    the one that is not recursive; patterns stay beside the winning directory;
//! 3. Block, Audit, Allow, Posture;
//! 4. the rule id, which sorts by `namespace/name` of the policy and then by place in it.
//!
//! A rule whose modifiers make it say nothing about an access takes no part in any of these steps:
//! it is as if it were not there.

use crate::forms::Rank;
use gorget_model::{Cause, Outcome, Posture, RuleId, Verdict};
use gorget_policy::{Action, Modifiers};

/// A rule that names the object, and in which way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate {
    pub(crate) rule: RuleId,
    pub(crate) rank: Rank,
}

/// What deciding needs to know of a rule.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) action: Action,
    pub(crate) modifiers: Modifiers,
    /// Number of its `fromSource` list; `None` when it speaks about any subject.
    pub(crate) condition: Option<u32>,
}

/// What an access is, as far as one object's rules are concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances {
    pub(crate) write: bool,
    pub(crate) owner: bool,
}

/// What a rule asks for, given the access. Ordered as step 3 wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    Block,
    Audit,
    Allow,
    Posture,
}

/// `None`: the rule says nothing about this access.
fn effect(facts: &Facts, access: Circumstances) -> Option<Effect> {
    let Modifiers {
        read_only,
        owner_only,
    } = facts.modifiers;
    let satisfied = (!read_only || !access.write) && (!owner_only || access.owner);
    let conditional = read_only || owner_only;
    match facts.action {
        Action::Allow if satisfied => Some(Effect::Allow),
        Action::Allow => Some(Effect::Posture),
        Action::Block if conditional && satisfied => Some(Effect::Allow),
        Action::Block => Some(Effect::Block),
        Action::Audit if conditional && satisfied => None,
        Action::Audit => Some(Effect::Audit),
    }
}

/// Decides for one category of one policy set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Judge<'a> {
    /// By rule id.
    pub(crate) facts: &'a [Facts],
    /// Some rule of the category has action Allow.
    pub(crate) allow_list: bool,
    pub(crate) posture: Posture,
}

impl Judge<'_> {
    /// The rule's condition, if the rule is there at all.
    pub(crate) fn facts(&self, rule: RuleId) -> Option<&Facts> {
        self.facts.get(rule.0 as usize)
    }

    /// `holds` says which conditions the subject fulfils.
    pub(crate) fn verdict(
        &self,
        named: &[Candidate],
        holds: impl Fn(u32) -> bool,
        access: Circumstances,
    ) -> Verdict {
        let mut left: Vec<(Candidate, bool, Effect)> = named
            .iter()
            .filter_map(|candidate| {
                let facts = self.facts(candidate.rule)?;
                let applies = facts.condition.is_none_or(&holds);
                let effect = effect(facts, access).filter(|_| applies)?;
                Some((*candidate, facts.condition.is_some(), effect))
            })
            .collect();
        if left.iter().any(|(_, sourced, _)| *sourced) {
            left.retain(|(_, sourced, _)| *sourced);
        }
        if let Some(best) = left
            .iter()
            .map(|(candidate, ..)| standing(candidate.rank))
            .min()
        {
            left.retain(|(candidate, ..)| stays_beside(candidate.rank, best));
        }
        match left
            .iter()
            .map(|(candidate, _, effect)| (*effect, candidate.rule))
            .min()
        {
            Some((Effect::Block, rule)) => by_rule(Outcome::Block, rule),
            Some((Effect::Audit, rule)) => by_rule(Outcome::Audit, rule),
            Some((Effect::Allow, rule)) => by_rule(Outcome::Pass, rule),
            Some((Effect::Posture, _)) => self.by_posture(),
            None if self.allow_list => self.by_posture(),
            None => Verdict {
                outcome: Outcome::Pass,
                cause: Cause::NoRule,
            },
        }
    }

    /// What the default posture says.
    pub(crate) fn by_posture(&self) -> Verdict {
        let outcome = match self.posture {
            Posture::Allow => Outcome::Pass,
            Posture::Audit => Outcome::Audit,
            Posture::Block => Outcome::Block,
        };
        Verdict {
            outcome,
            cause: Cause::DefaultPosture,
        }
    }
}

pub(crate) fn by_rule(outcome: Outcome, rule: RuleId) -> Verdict {
    Verdict {
        outcome,
        cause: Cause::Rule(rule),
    }
}

/// Smaller is better. Patterns come last so that the smallest is the winning directory if any.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Standing {
    Path,
    ExecName,
    Directory {
        shorter: std::cmp::Reverse<usize>,
        recursive: bool,
    },
    Pattern,
}

fn standing(rank: Rank) -> Standing {
    match rank {
        Rank::Path => Standing::Path,
        Rank::ExecName => Standing::ExecName,
        Rank::Directory { length, recursive } => Standing::Directory {
            shorter: std::cmp::Reverse(length),
            recursive,
        },
        Rank::Pattern => Standing::Pattern,
    }
}

fn stays_beside(rank: Rank, best: Standing) -> bool {
    match best {
        Standing::Path | Standing::ExecName | Standing::Pattern => standing(rank) == best,
        Standing::Directory { .. } => standing(rank) == best || rank == Rank::Pattern,
    }
}
