// SPDX-License-Identifier: Apache-2.0
//! Moving a directory: what a rule protects cannot be carried out of its reach.
//!
//! The write to the directory itself is one answer. Every Block rule for files or processes and
//! every Allow rule for processes that names the directory or something below it by its literal part
//! gives another; the strictest counts, on a tie the write's own, then the rule with the smaller id.

use super::fate::{Effect, Fate};
use super::naming::{self, Match, Naming, Standing};
use super::{Answer, Considered, Question, Side, by_posture};
use crate::compile::Placed;
use gorget_model::{Category, Cause, Object, Outcome, RuleId, Verdict};
use gorget_policy::Action;
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// What a rule says about the directory's staying where it is.
struct Guard {
    entry: Considered,
    /// `None` when its `fromSource` names somebody else.
    verdict: Option<Verdict>,
}

impl Question<'_> {
    /// `own` is the answer to the write to the directory.
    pub(super) fn moved(&self, own: Answer) -> (Answer, Side) {
        let mut guards = self.guards();
        let said = guards.iter().filter_map(|guard| guard.verdict);
        let strictest = said.min_by_key(|verdict| (Reverse(verdict.outcome), verdict.cause));
        let Answer {
            verdict: own_verdict,
            mut considered,
        } = own;
        let winner = strictest.filter(|guard| guard.outcome > own_verdict.outcome);
        if let Some(winner) = winner {
            for entry in &mut considered {
                if entry.fate.wins() {
                    entry.fate = Fate::MilderThanBelow;
                }
            }
            self.crown(winner, &mut guards);
        }
        let named: BTreeSet<RuleId> = considered.iter().map(|entry| entry.rule.id).collect();
        let guards = guards.into_iter().map(|guard| guard.entry);
        considered
            .extend(guards.filter(|entry| entry.fate.wins() || !named.contains(&entry.rule.id)));
        let answer = Answer {
            verdict: winner.unwrap_or(own_verdict),
            considered,
        };
        (answer, Side::Moving)
    }

    /// Writes the fate of the guard whose verdict counts. The rule that decides at a guard's object
    /// may be another one, and is then added.
    fn crown(&self, winner: Verdict, guards: &mut Vec<Guard>) {
        let fate = match winner.cause {
            Cause::Rule(_) => Fate::Decides,
            Cause::DefaultPosture | Cause::NoRule => Fate::LeavesToPosture,
        };
        let decides = |guard: &Guard| match winner.cause {
            Cause::Rule(id) => guard.entry.rule.id == id,
            Cause::DefaultPosture | Cause::NoRule => guard.verdict == Some(winner),
        };
        if let Some(guard) = guards.iter_mut().find(|guard| decides(guard)) {
            guard.entry.fate = fate;
            return;
        }
        let Cause::Rule(id) = winner.cause else {
            return;
        };
        let where_it_decides = guards.iter().find(|guard| guard.verdict == Some(winner));
        let names = where_it_decides.and_then(|guard| guard.entry.names.clone());
        if let Some((_, placed)) = self.numbered().find(|(number, _)| *number == id) {
            let asks = match winner.outcome {
                Outcome::Block => Effect::Block,
                Outcome::Audit => Effect::Audit,
                Outcome::Pass => Effect::Allow,
            };
            guards.push(Guard {
                entry: Considered {
                    rule: placed.reference(id),
                    names,
                    asks: Some(asks),
                    fate,
                },
                verdict: Some(winner),
            });
        }
    }

    fn guards(&self) -> Vec<Guard> {
        let Object::Path(directory) = self.object else {
            return Vec::new();
        };
        let mut guards = Vec::new();
        for (id, placed) in self.numbered() {
            for (literal, matched) in naming::literals(self.set, placed.rule) {
                if let Some(reach) = Reach::of(&literal, directory) {
                    guards.extend(self.guard(id, placed, &literal, matched, reach));
                }
            }
        }
        guards
    }

    fn guard(
        &self,
        id: RuleId,
        placed: &Placed<'_>,
        literal: &[u8],
        matched: Match,
        reach: Reach,
    ) -> Option<Guard> {
        let standing = matched.standing;
        let (asks, verdict, fate) = match (placed.rule.category, placed.rule.action) {
            (Category::File, Action::Block) if !self.source_names(placed) => {
                (None, None, Fate::SourceDiffers)
            }
            (Category::File, Action::Block) => {
                let object = Object::Path(literal.to_vec());
                let there = Question {
                    object: &object,
                    write: true,
                    owner: self.owner && reach == Reach::Itself,
                    ..*self
                };
                let verdict = there.answer_with(Some((id, matched))).verdict;
                let fate = if verdict.cause == Cause::Rule(id) {
                    Fate::NotStricter
                } else {
                    Fate::OverruledBelow
                };
                (Some(Effect::Block), Some(verdict), fate)
            }
            (Category::Process, Action::Block) => {
                let verdict = Verdict {
                    outcome: Outcome::Block,
                    cause: Cause::Rule(id),
                };
                (Some(Effect::Block), Some(verdict), Fate::NotStricter)
            }
            // An unlisted program could get the listed name; a directory of that name cannot.
            (Category::Process, Action::Allow)
                if reach == Reach::Below || standing != Standing::Path =>
            {
                let verdict = by_posture(self.posture());
                (Some(Effect::Posture), Some(verdict), Fate::NotStricter)
            }
            (Category::File | Category::Process, Action::Allow | Action::Audit)
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
        let names = Naming::Below(String::from_utf8_lossy(literal).into_owned());
        Some(Guard {
            entry: Considered {
                rule: placed.reference(id),
                names: Some(names),
                asks,
                fate,
            },
            verdict,
        })
    }
}

/// How a guard's object lies to the directory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Itself,
    Below,
}

impl Reach {
    fn of(literal: &[u8], directory: &[u8]) -> Option<Self> {
        let below = literal.strip_prefix(directory)?;
        if below.is_empty() {
            Some(Self::Itself)
        } else if directory == b"/" || below.starts_with(b"/") {
            Some(Self::Below)
        } else {
            None
        }
    }
}
