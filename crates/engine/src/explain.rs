// SPDX-License-Identifier: Apache-2.0
//! Why an access is answered as it is.
//!
//! [`explain`] walks the rules one by one and says of each that names the object, or whose
//! `fromSource` names the subject, whether it decides and otherwise why not. It is a second
//! implementation of what a policy means: it shares the order of the rules with `compile` and nothing
//! else, no automaton and no table, and tests hold the two against each other. It is as slow as it
//! looks and bounded: a pattern takes its length times the path's length.
//!
//! INVARIANT: the verdict is that of [`crate::decide`]; exactly one rule has [`Fate::Decides`] when
//! a rule decided, and at most one has [`Fate::LeavesToPosture`].
//!
//! A file that is read and written is two questions and a directory that moves is one more for each
//! rule that keeps it in place (`moving`); what is said about the rules is said about the question
//! whose answer counted ([`Explanation::side`]).

mod fate;
mod moving;
mod naming;

pub use fate::{Effect, Fate, Modifier};
pub use naming::Naming;

use crate::PolicySet;
use crate::compile::{Placed, in_order};
use fate::{asks, satisfied_modifiers};
use gorget_model::network::{AF_NETLINK, AF_UNIX};
use gorget_model::{Access, Category, Cause, Object, Outcome, Posture, RuleId, Subject, Verdict};
use gorget_policy::{Action, Location};
use naming::{Match, Standing};
use std::fmt;

/// The answer to one access, and how it came about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// What [`crate::decide`] answers. Rule ids are those of the compiled set.
    pub verdict: Verdict,
    /// Which side of the access had the answer that counted.
    pub side: Side,
    /// What happens to what no rule applies to.
    pub unlisted: Unlisted,
    /// The rule that decides first, then the others by id.
    pub rules: Vec<Considered>,
}

/// A side of an access. A file that is read and written is judged twice, and the stricter answer
/// counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// It has only one.
    Whole,
    /// That content is read.
    Reading,
    /// That something is changed.
    Writing,
    /// That a directory moves, with what is below it.
    Moving,
}

/// What happens to an access to which no rule applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unlisted {
    /// It passes: no rule of the category has action Allow, or the category knows no allow lists.
    Passes,
    /// It passes, although the category is in allow-list mode: local communication is exempt.
    Exempt,
    /// The category is in allow-list mode.
    Posture {
        /// What decides.
        posture: Posture,
        /// The rules with action Allow, by id. Not empty.
        because_of: Vec<RuleRef>,
    },
}

/// A rule, and where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRef {
    /// In the compiled set.
    pub id: RuleId,
    /// `namespace/name` of its policy.
    pub policy: String,
    /// What it asks for when its modifiers do not say otherwise.
    pub action: Action,
    /// First character.
    pub at: Location,
    /// Last line.
    pub last_line: u32,
}

/// A rule that has to do with the access.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Considered {
    /// Which.
    pub rule: RuleRef,
    /// How it names the object; `None` when it does not.
    pub names: Option<Naming>,
    /// What it asks for, given the access; `None` when it says nothing about it.
    pub asks: Option<Effect>,
    /// What became of it.
    pub fate: Fate,
}

/// Explains one access. The set need not compile; limits are the compiler's.
pub fn explain(set: &PolicySet, access: &Access) -> Explanation {
    let rules = in_order(&set.policies);
    let writes = access.modes.write || access.modes.tree;
    let question = |write| Question {
        set,
        rules: &rules,
        access,
        object: &access.object,
        write,
        owner: access.modes.owner,
    };
    let (answer, side) = if access.category == Category::File && writes {
        let written = question(true).answer();
        let (changed, side) = if access.modes.tree {
            question(true).moved(written)
        } else {
            (written, Side::Writing)
        };
        let read = access.modes.read.then(|| question(false).answer());
        match read {
            Some(read) if read.verdict.outcome > changed.verdict.outcome => (read, Side::Reading),
            Some(_) | None => (changed, side),
        }
    } else {
        (question(false).answer(), Side::Whole)
    };
    let Answer {
        verdict,
        considered: mut rules_considered,
    } = answer;
    rules_considered.sort_by_key(|considered| (!considered.fate.wins(), considered.rule.id));
    Explanation {
        verdict,
        side,
        unlisted: question(writes).unlisted(),
        rules: rules_considered,
    }
}

impl Explanation {
    /// The rule that decided, or that left the decision to the posture.
    pub fn winner(&self) -> Option<&Considered> {
        self.rules
            .first()
            .filter(|considered| considered.fate.wins())
    }
}

/// One object, one subject, one kind of access.
#[derive(Clone, Copy)]
struct Question<'a> {
    set: &'a PolicySet,
    rules: &'a [Placed<'a>],
    access: &'a Access,
    object: &'a Object,
    write: bool,
    owner: bool,
}

struct Answer {
    verdict: Verdict,
    considered: Vec<Considered>,
}

/// A rule that applies.
struct Candidate {
    at: usize,
    sourced: bool,
    standing: Standing,
    naming: Naming,
    asks: Effect,
    id: RuleId,
}

impl<'a> Question<'a> {
    fn answer(&self) -> Answer {
        self.answer_with(None)
    }

    /// `guest` is a rule that counts as naming the object in this way, whether or not it does.
    fn answer_with(&self, guest: Option<(RuleId, Match)>) -> Answer {
        let mut considered = Vec::new();
        let mut candidates = Vec::new();
        for (id, placed) in self.numbered() {
            let rule = placed.rule;
            let as_guest = guest.clone().filter(|(guest, _)| *guest == id);
            if rule.category != self.access.category {
                continue;
            }
            let matched = naming::best(self.set, rule, self.object)
                .into_iter()
                .chain(as_guest.map(|(_, matched)| matched))
                .min_by_key(|matched| matched.standing);
            let named_subject = self.source_names(placed);
            let asks = asks(rule, self.access, self.write, self.owner);
            let sourced = !rule.sources.is_empty();
            let fate = match (&matched, named_subject, asks) {
                (None, true, _) if sourced => Fate::ObjectDiffers,
                (None, _, _) => continue,
                (Some(_), false, _) => Fate::SourceDiffers,
                (Some(_), true, None) => Fate::Silenced(satisfied_modifiers(rule)),
                (Some(matched), true, Some(asks)) => {
                    candidates.push(Candidate {
                        at: considered.len(),
                        sourced,
                        standing: matched.standing,
                        naming: matched.naming.clone(),
                        asks,
                        id,
                    });
                    // Until the contest says otherwise.
                    Fate::Decides
                }
            };
            considered.push(Considered {
                rule: placed.reference(id),
                names: matched.map(|matched| matched.naming),
                asks,
                fate,
            });
        }
        let winner = contest(&candidates, &mut considered);
        Answer {
            verdict: self.verdict(winner),
            considered,
        }
    }

    fn numbered(&self) -> impl Iterator<Item = (RuleId, &'a Placed<'a>)> + use<'a> {
        (0..).map(RuleId).zip(self.rules)
    }

    /// Also when there is no `fromSource`.
    fn source_names(&self, placed: &Placed<'_>) -> bool {
        let sources = &placed.rule.sources;
        let image = match &self.access.subject {
            Subject::Runtime => None,
            Subject::Image(image) => Some(image),
        };
        sources.is_empty()
            || image.is_some_and(|image| {
                let mut sources = sources.iter();
                sources.any(|source| naming::source_names(self.set, source, image))
            })
    }

    fn verdict(&self, winner: Option<&Candidate>) -> Verdict {
        let Some(winner) = winner else {
            return match self.unlisted() {
                Unlisted::Posture { posture, .. } => by_posture(posture),
                Unlisted::Passes | Unlisted::Exempt => Verdict {
                    outcome: Outcome::Pass,
                    cause: Cause::NoRule,
                },
            };
        };
        let by_rule = |outcome| Verdict {
            outcome,
            cause: Cause::Rule(winner.id),
        };
        match winner.asks {
            Effect::Block => by_rule(Outcome::Block),
            Effect::Audit => by_rule(Outcome::Audit),
            Effect::Allow => by_rule(Outcome::Pass),
            Effect::Posture => by_posture(self.posture()),
        }
    }

    fn posture(&self) -> Posture {
        let posture = self.set.postures.of(self.access.category);
        posture.unwrap_or(Posture::Allow)
    }

    fn unlisted(&self) -> Unlisted {
        let category = self.access.category;
        let because_of: Vec<RuleRef> = self
            .numbered()
            .filter(|(_, placed)| {
                placed.rule.category == category && placed.rule.action == Action::Allow
            })
            .map(|(id, placed)| placed.reference(id))
            .collect();
        let Some(posture) = self.set.postures.of(category) else {
            return Unlisted::Passes;
        };
        match self.object {
            _ if because_of.is_empty() => Unlisted::Passes,
            Object::Socket(socket) if [AF_UNIX, AF_NETLINK].contains(&socket.family) => {
                Unlisted::Exempt
            }
            Object::Path(_)
            | Object::Nameless
            | Object::Socket(_)
            | Object::Domain(_)
            | Object::Capability(_)
            | Object::Syscall { .. }
            | Object::Device(_)
            | Object::Preset(_) => Unlisted::Posture {
                posture,
                because_of,
            },
        }
    }
}

/// Section 4 of the semantics. Writes the losers' fates; the winner's entry is told as well when it
/// leaves the decision to the posture.
fn contest<'c>(
    candidates: &'c [Candidate],
    considered: &mut [Considered],
) -> Option<&'c Candidate> {
    let mut left: Vec<&Candidate> = candidates.iter().collect();
    let mut lose = |candidate: &Candidate, fate: Fate| {
        if let Some(entry) = considered.get_mut(candidate.at) {
            entry.fate = fate;
        }
    };

    if left.iter().any(|candidate| candidate.sourced) {
        left.retain(|candidate| {
            if !candidate.sourced {
                lose(candidate, Fate::NamesNoSource);
            }
            candidate.sourced
        });
    }
    if let Some(best) = left.iter().copied().min_by_key(|c| c.standing) {
        left.retain(|candidate| {
            let stays = candidate.standing.stays_beside(best.standing);
            if !stays {
                let winner = best.naming.clone();
                lose(candidate, Fate::LessSpecific { winner });
            }
            stays
        });
    }
    let winner = left.iter().copied().min_by_key(|c| (c.asks, c.id))?;
    for candidate in left {
        if candidate.id == winner.id {
            if winner.asks == Effect::Posture {
                lose(candidate, Fate::LeavesToPosture);
            }
        } else if candidate.asks == winner.asks {
            lose(candidate, Fate::Later);
        } else {
            let winner = winner.asks;
            lose(candidate, Fate::WeakerAction { winner });
        }
    }
    Some(winner)
}

fn by_posture(posture: Posture) -> Verdict {
    let outcome = match posture {
        Posture::Allow => Outcome::Pass,
        Posture::Audit => Outcome::Audit,
        Posture::Block => Outcome::Block,
    };
    Verdict {
        outcome,
        cause: Cause::DefaultPosture,
    }
}

impl Placed<'_> {
    pub(crate) fn reference(&self, id: RuleId) -> RuleRef {
        RuleRef {
            id,
            policy: self.qualified_name.clone(),
            action: self.rule.action,
            at: self.rule.at.clone(),
            last_line: self.rule.last_line,
        }
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Whole => "the access",
            Self::Reading => "reading",
            Self::Writing => "writing",
            Self::Moving => "moving the directory",
        })
    }
}

impl fmt::Display for Unlisted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passes => f.write_str("what no rule applies to passes"),
            Self::Exempt => f.write_str("local communication is exempt from allow lists"),
            Self::Posture {
                posture,
                because_of,
            } => {
                let posture = match posture {
                    Posture::Allow => "passes",
                    Posture::Audit => "passes with an alert",
                    Posture::Block => "is denied",
                };
                write!(
                    f,
                    "what no rule applies to {posture}, because there is an allow list"
                )?;
                match because_of.as_slice() {
                    [] => Ok(()),
                    [only] => write!(f, " ({})", only.at),
                    [first, rest @ ..] => write!(f, " ({} and {} more)", first.at, rest.len()),
                }
            }
        }
    }
}
