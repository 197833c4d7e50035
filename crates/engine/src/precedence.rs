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

use crate::decisions::{Known, Test};
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
    /// Number of its `allowedArgs` list; `None` when it allows any.
    pub(crate) arguments: Option<u32>,
}

/// What an access is, as far as one object's rules are concerned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Circumstances {
    pub(crate) write: bool,
    pub(crate) owner: bool,
}

/// What a rule asks for, given the access. Ordered as step 3 wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effect {
    Block,
    Audit,
    Allow,
    Posture,
}

impl Effect {
    pub(crate) const ALL: [Self; 4] = [Self::Block, Self::Audit, Self::Allow, Self::Posture];
}

/// What a rule says about an access, as far as it is known.
#[derive(Clone, Copy)]
enum Said {
    Surely(Effect),
    /// That depends on `test`; at best (in the order of step 3) this. It may be nothing at all.
    Perhaps {
        test: Test,
        best: Effect,
        or_nothing: bool,
    },
}

/// `None`: the rule says nothing about this access.
fn said(facts: &Facts, access: Circumstances, known: &Known) -> Option<Said> {
    let Modifiers {
        read_only,
        owner_only,
        no_terminal,
    } = facts.modifiers;
    let permits = read_only || owner_only || facts.arguments.is_some();
    let unsatisfied = match facts.action {
        Action::Allow => Effect::Posture,
        Action::Block => Effect::Block,
        Action::Audit => Effect::Audit,
    };
    let satisfied = match facts.action {
        Action::Allow => Some(Effect::Allow),
        Action::Block if permits => Some(Effect::Allow),
        Action::Block if no_terminal => None,
        Action::Block => Some(Effect::Block),
        Action::Audit if permits || no_terminal => None,
        Action::Audit => Some(Effect::Audit),
    };
    if read_only && access.write || owner_only && !access.owner {
        return Some(Said::Surely(unsatisfied));
    }
    let terminal = no_terminal.then_some(Test::NoTerminal);
    let tests = terminal
        .into_iter()
        .chain(facts.arguments.map(Test::Arguments));
    let mut open = None;
    for test in tests {
        match known.get(test) {
            Some(true) => {}
            Some(false) => return Some(Said::Surely(unsatisfied)),
            None => open = open.or(Some(test)),
        }
    }
    match open {
        None => satisfied.map(Said::Surely),
        Some(test) => Some(Said::Perhaps {
            test,
            best: satisfied.map_or(unsatisfied, |effect| effect.min(unsatisfied)),
            or_nothing: satisfied.is_none(),
        }),
    }
}

/// What a rule says about an access if every test goes as the rule wants; `None` when it says
/// nothing.
pub(crate) fn effect(facts: &Facts, access: Circumstances) -> Option<Effect> {
    let mut known = Known::default();
    loop {
        match said(facts, access, &known)? {
            Said::Surely(effect) => return Some(effect),
            Said::Perhaps { test, .. } => known = known.and(test, true),
        }
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
    ///
    /// # Errors
    ///
    /// The test whose answer decides, when it is not known.
    pub(crate) fn verdict(
        &self,
        named: &[Candidate],
        holds: &dyn Fn(u32) -> bool,
        access: Circumstances,
        known: &Known,
    ) -> Result<Verdict, Test> {
        let winner = self.winner(named, holds, access, known)?;
        Ok(self.verdict_of(winner))
    }

    /// What it comes to that this rule wins, or none.
    pub(crate) fn verdict_of(&self, winner: Option<(Effect, RuleId)>) -> Verdict {
        match winner {
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

    /// The rule that wins, as [`Judge::verdict`].
    pub(crate) fn winner(
        &self,
        named: &[Candidate],
        holds: &dyn Fn(u32) -> bool,
        access: Circumstances,
        known: &Known,
    ) -> Result<Option<(Effect, RuleId)>, Test> {
        let mut left: Vec<(Candidate, bool, Said)> = named
            .iter()
            .filter_map(|candidate| {
                let facts = self.facts(candidate.rule)?;
                let applies = facts.condition.is_none_or(holds);
                let said = said(facts, access, known).filter(|_| applies)?;
                Some((*candidate, facts.condition.is_some(), said))
            })
            .collect();
        if left.iter().any(|(_, sourced, _)| *sourced) {
            left.retain(|(_, sourced, _)| *sourced);
        }
        let best = left
            .iter()
            .map(|(candidate, ..)| standing(candidate.rank))
            .min();
        if let Some(best) = best {
            left.retain(|(candidate, ..)| stays_beside(candidate.rank, best));
        }

        let (mut sure, mut possible) = (None, None);
        // Whether what is left stays so, whatever the tests say.
        let (mut held, mut may_vanish) = (false, false);
        for (candidate, _, said) in &left {
            match *said {
                Said::Surely(effect) => {
                    held |= Some(standing(candidate.rank)) == best;
                    let this = (effect, candidate.rule);
                    sure = Some(sure.map_or(this, |other| this.min(other)));
                }
                Said::Perhaps {
                    test,
                    best,
                    or_nothing,
                } => {
                    may_vanish |= or_nothing;
                    let this = (best, candidate.rule, test);
                    possible = Some(possible.map_or(this, |other| this.min(other)));
                }
            }
        }
        if let Some((effect, rule, test)) = possible {
            let settled = held || !may_vanish;
            if !settled || sure.is_none_or(|sure| sure > (effect, rule)) {
                return Err(test);
            }
        }
        Ok(sure)
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
    Listed,
    Device(std::cmp::Reverse<u8>),
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
        Rank::Listed => Standing::Listed,
        Rank::Device(says) => Standing::Device(std::cmp::Reverse(says)),
    }
}

fn stays_beside(rank: Rank, best: Standing) -> bool {
    match best {
        Standing::Path
        | Standing::ExecName
        | Standing::Pattern
        | Standing::Listed
        | Standing::Device(_) => standing(rank) == best,
        Standing::Directory { .. } => standing(rank) == best || rank == Rank::Pattern,
    }
}
