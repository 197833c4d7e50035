// SPDX-License-Identifier: Apache-2.0
//! Whether two rulesets mean the same, and where they do not.
//!
//! Decided on the automata: every combination of an old and a new row that some object has, of an old
//! and a new source class that some image has, of a variant and of arguments that some program can be
//! given is compared. So no difference is missed, and each has a witness: an access that can happen,
//! which the two rulesets decide differently.
//!
//! Meaning is the outcome. Which rule decides, and what the alert says of it, may change without the
//! meaning; such changes are counted only ([`Difference::renamed`]).
//!
//! Failure: the work is bounded. Rulesets whose patterns multiply each other are refused with a
//! [`DiffError`]; nothing is said about them.

pub(crate) mod assumed;
pub(crate) mod grammar;
pub(crate) mod subjects;
pub(crate) mod walk;

use crate::compile::Part;
use crate::decisions::{Branch, Decision};
use crate::nfa::index;
use crate::objects::object_from_bytes;
use crate::ruleset::{RuleInfo, Ruleset};
use crate::table::{DecisionTable, Variant};
use assumed::{Assumed, Question};
use gorget_model::{Access, Category, Cause, Modes, Object, Outcome, RuleId, Subject, Verdict};
use grammar::Grammar;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;
use subjects::Subjects;
use walk::walk;

/// What a comparison may cost.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// States of one product of automata. A thousand realistic rules and their next version make
    /// 40,000.
    pub(crate) states: usize,
    /// Pairs of cells, and steps through branches, of all categories.
    pub(crate) answers: usize,
}

pub(crate) const LIMITS: Limits = Limits {
    states: 2 << 20,
    answers: 32 << 20,
};

/// Why two rulesets cannot be compared, or one cannot be searched for rules that decide nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiffError {
    /// Their patterns multiply each other.
    #[error("going through {part} rules takes more than {limit} states")]
    TooComplex {
        /// Which automata.
        part: Part,
        /// How many there may be.
        limit: usize,
    },
    /// Too many objects and subjects are treated differently.
    #[error("going through {part} rules takes more than {limit} decisions")]
    TooManyDecisions {
        /// Which table.
        part: Part,
        /// How many there may be.
        limit: usize,
    },
}

/// What changes from an old ruleset to a new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// What was not blocked and now is.
    pub newly_denied: Vec<Region>,
    /// What was blocked and now is not.
    pub newly_allowed: Vec<Region>,
    /// What passes before and after, but with an alert only before or only after.
    pub alerts: Vec<Region>,
    /// How many pairs of rules (or postures) give the same outcome but another alert: the alert
    /// names another policy, severity, tag, message or action. No difference in meaning.
    pub renamed: usize,
}

impl Difference {
    /// Whether both rulesets give every access the same outcome.
    pub fn is_empty(&self) -> bool {
        self.regions().next().is_none()
    }

    /// All of them.
    pub fn regions(&self) -> impl Iterator<Item = &Region> {
        let denied_and_allowed = self.newly_denied.iter().chain(&self.newly_allowed);
        denied_and_allowed.chain(&self.alerts)
    }
}

/// Accesses that one decision decided before and one other now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Of which category.
    pub category: Category,
    /// What the old ruleset says.
    pub old: Answer,
    /// What the new ruleset says.
    pub new: Answer,
    /// One of these accesses, with the shortest object.
    pub witness: Access,
    /// Every kind of access for which there is an object in the region.
    pub variants: Vec<Variant>,
    /// One subject of each class for which there is; the witness's is among them.
    pub subjects: Vec<Subject>,
    /// There is for subjects of every class, so that naming some would mislead.
    pub any_subject: bool,
}

/// A verdict that says what a person wants to know about the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What happens.
    pub outcome: Outcome,
    /// Why.
    pub decider: Decider,
}

/// Why something happens; as [`Cause`], with the rule itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decider {
    /// No rule applies and the category is not in allow-list mode.
    NoRule,
    /// The default posture decides.
    DefaultPosture,
    /// This rule won.
    Rule(RuleInfo),
}

impl Answer {
    /// `verdict` in words; a rule that `rules` does not have is no rule.
    pub fn new(rules: &Ruleset, verdict: Verdict) -> Self {
        let decider = match verdict.cause {
            Cause::NoRule => Decider::NoRule,
            Cause::DefaultPosture => Decider::DefaultPosture,
            Cause::Rule(RuleId(id)) => match rules.rules().get(id as usize) {
                Some(rule) => Decider::Rule(rule.clone()),
                None => Decider::NoRule,
            },
        };
        Self {
            outcome: verdict.outcome,
            decider,
        }
    }
}

/// Compares two rulesets.
///
/// Guarantees: [`crate::decide`] gives every witness the answers that are said here, and two rulesets
/// without a difference give every access the same outcome.
///
/// # Errors
///
/// When there are more combinations than can be gone through.
pub fn diff(old: &Ruleset, new: &Ruleset) -> Result<Difference, DiffError> {
    diff_within(old, new, LIMITS)
}

pub(crate) fn diff_within(
    old: &Ruleset,
    new: &Ruleset,
    limits: Limits,
) -> Result<Difference, DiffError> {
    if old.content_id() == new.content_id() {
        return Ok(Difference::default());
    }
    let mut comparison = Comparison {
        rulesets: [old, new],
        alerts: alerts([old, new]),
        subjects: Subjects::of([old, new], limits.states)?,
        regions: BTreeMap::new(),
        renamed: HashSet::new(),
        limit: limits.answers,
        left: limits.answers,
    };
    for category in Category::ALL {
        comparison.compare(category, limits.states)?;
    }
    Ok(comparison.finish())
}

/// The variants in which an object can be accessed, the most ordinary first. Only a path can be a
/// directory that is moved.
pub(crate) fn variants(category: Category, object: &Object) -> &'static [u8] {
    const WRITE: u8 = Variant::WRITE;
    const OWNER: u8 = Variant::OWNER;
    const MOVE: u8 = Variant::WRITE | Variant::TREE;
    match (category, object) {
        (Category::File, Object::Path(_)) => &[0, WRITE, OWNER, WRITE | OWNER, MOVE, MOVE | OWNER],
        (Category::File, _) => &[0, WRITE, OWNER, WRITE | OWNER],
        (
            Category::Process
            | Category::Network
            | Category::Dns
            | Category::Capability
            | Category::Syscall
            | Category::Device
            | Category::Preset,
            _,
        ) => &[0, OWNER],
    }
}

/// How a task accesses an object in one variant.
pub(crate) fn modes(category: Category, variant: Variant, terminal: bool) -> Modes {
    let has = |bit| variant.bits() & bit != 0;
    let file = category == Category::File;
    Modes {
        read: file && !has(Variant::WRITE),
        write: file && has(Variant::WRITE),
        owner: has(Variant::OWNER),
        tree: file && has(Variant::TREE),
        terminal,
    }
}

/// The objects of a category that can be told apart, smallest first.
pub(crate) fn objects<const N: usize>(
    category: Category,
    automata: [&crate::Automaton; N],
    limit: usize,
) -> Result<Vec<(Object, [u32; N])>, DiffError> {
    let part = Part::Objects(category);
    let found = walk(automata, Grammar::of(category), limit)
        .map_err(|walk::TooManyStates| DiffError::TooComplex { part, limit })?;
    let mut objects: Vec<(Object, [u32; N])> = found
        .into_iter()
        .filter_map(|found| Some((object_from_bytes(category, &found.bytes)?, found.values)))
        .collect();
    let of_paths = matches!(category, Category::Process | Category::File);
    if of_paths && !objects.iter().any(|(_, rows)| *rows == [0; N]) {
        objects.push((Object::Nameless, [0; N]));
    }
    Ok(objects)
}

/// For each rule of both rulesets, the number of what its alerts say.
fn alerts(rulesets: [&Ruleset; 2]) -> [Vec<u32>; 2] {
    let mut numbers = HashMap::new();
    rulesets.map(|rules| {
        let alerts = rules.rules().iter().map(|rule| {
            let RuleInfo {
                policy,
                namespace,
                kind,
                severity,
                tags,
                message,
                action,
                at: _,
            } = rule;
            let new = index(numbers.len());
            let alert = (policy, namespace, kind, severity, tags, message, action);
            *numbers.entry(alert).or_insert(new)
        });
        alerts.collect()
    })
}

struct Comparison<'a> {
    rulesets: [&'a Ruleset; 2],
    alerts: [Vec<u32>; 2],
    subjects: Subjects<2>,
    regions: BTreeMap<(Category, [Verdict; 2]), Growing>,
    renamed: HashSet<(Category, Outcome, [Option<u32>; 2])>,
    limit: usize,
    left: usize,
}

/// A region while it is found.
struct Growing {
    witness: Access,
    /// Where the witness was found.
    rank: usize,
    variants: BTreeSet<Variant>,
    subjects: BTreeSet<usize>,
}

/// One object in one variant, for some subjects.
struct Place<'a> {
    category: Category,
    object: &'a Object,
    variant: Variant,
    /// Numbers in `Comparison::subjects`.
    subjects: &'a [usize],
    rank: usize,
}

impl<'a> Comparison<'a> {
    fn compare(&mut self, category: Category, limit: usize) -> Result<(), DiffError> {
        let automata = self.rulesets.map(|rules| rules.objects(category));
        let tables = self.rulesets.map(|rules| rules.decisions(category));
        let mut groups = Groups::default();
        let objects = objects(category, automata, limit)?;
        for (rank, (object, rows)) in objects.iter().enumerate() {
            let (pairs, [old_first, new_first]) = groups.of(&self.subjects, tables, *rows);
            for bits in variants(category, object) {
                let variant = Variant::from_bits(*bits);
                for ([old, new], subjects) in &*pairs {
                    let place = Place {
                        category,
                        object,
                        variant,
                        subjects,
                        rank,
                    };
                    let [in_old, in_new] = tables;
                    let old = in_old.of_group(old_first + old, variant);
                    let new = in_new.of_group(new_first + new, variant);
                    self.follow(&place, tables, [old, new], &mut Assumed::default())?;
                }
            }
        }
        Ok(())
    }

    /// Goes every way through the branches that some task could go.
    fn follow(
        &mut self,
        place: &Place<'_>,
        tables: [&'a DecisionTable; 2],
        decisions: [Decision; 2],
        assumed: &mut Assumed<'a>,
    ) -> Result<(), DiffError> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or(DiffError::TooManyDecisions {
                part: Part::Objects(place.category),
                limit: self.limit,
            })?;
        let [old, new] = decisions;
        let [in_old, in_new] = tables;
        let [old_rules, new_rules] = self.rulesets;
        let (number, table, rules) = match (old, new) {
            (Decision::Verdict(old), Decision::Verdict(new)) => {
                self.note(place, [old, new], assumed);
                return Ok(());
            }
            (Decision::Branch(number), _) => (number, in_old, old_rules),
            (Decision::Verdict(_), Decision::Branch(number)) => (number, in_new, new_rules),
        };
        let Some(branch) = table.branches().get(number as usize) else {
            return Ok(());
        };
        let Some(question) = Question::of(branch.test, rules.arguments()) else {
            return Ok(());
        };
        let onward = |answer: bool| {
            let Branch {
                test: _,
                holds,
                otherwise,
            } = *branch;
            let next = if answer { holds } else { otherwise };
            match old {
                Decision::Branch(_) => [next, new],
                Decision::Verdict(_) => [old, next],
            }
        };
        if let Some(holds) = assumed.get(question) {
            return self.follow(place, tables, onward(holds), assumed);
        }
        for holds in [true, false] {
            assumed.0.push((question, holds));
            if assumed.arguments().is_some() {
                self.follow(place, tables, onward(holds), assumed)?;
            }
            assumed.0.pop();
        }
        Ok(())
    }

    fn note(&mut self, place: &Place<'_>, verdicts: [Verdict; 2], assumed: &Assumed<'_>) {
        let [old, new] = verdicts;
        let category = place.category;
        if old.outcome == new.outcome {
            if old.outcome != Outcome::Pass {
                let alerts = self.alerts_of(verdicts);
                let [one, other] = alerts;
                if one != other {
                    self.renamed.insert((category, old.outcome, alerts));
                }
            }
            return;
        }
        let Self {
            subjects, regions, ..
        } = self;
        let region = regions.entry((category, verdicts)).or_insert_with(|| {
            let subject = place
                .subjects
                .first()
                .and_then(|first| subjects.get(*first));
            Growing {
                witness: Access {
                    category,
                    subject: subject.cloned().unwrap_or(Subject::Runtime),
                    object: place.object.clone(),
                    modes: modes(category, place.variant, assumed.terminal()),
                    arguments: assumed.arguments().unwrap_or_default(),
                },
                rank: place.rank,
                variants: BTreeSet::new(),
                subjects: BTreeSet::new(),
            }
        });
        region.variants.insert(place.variant);
        region.subjects.extend(place.subjects);
    }

    /// What the alerts about both verdicts say; `None` is the posture.
    fn alerts_of(&self, verdicts: [Verdict; 2]) -> [Option<u32>; 2] {
        let [old, new] = verdicts;
        let [in_old, in_new] = &self.alerts;
        let alert = |verdict: Verdict, alerts: &[u32]| match verdict.cause {
            Cause::Rule(RuleId(id)) => alerts.get(id as usize).copied(),
            Cause::NoRule | Cause::DefaultPosture => None,
        };
        [alert(old, in_old), alert(new, in_new)]
    }

    fn finish(self) -> Difference {
        let [old_rules, new_rules] = self.rulesets;
        let mut regions: Vec<_> = self.regions.into_iter().collect();
        regions.sort_by_key(|((category, verdicts), region)| (*category, region.rank, *verdicts));
        let mut difference = Difference {
            renamed: self.renamed.len(),
            ..Difference::default()
        };
        for ((category, [old, new]), region) in regions {
            let subjects = region.subjects.iter().filter_map(|n| self.subjects.get(*n));
            let list = match (old.outcome, new.outcome) {
                (_, Outcome::Block) => &mut difference.newly_denied,
                (Outcome::Block, _) => &mut difference.newly_allowed,
                (Outcome::Pass | Outcome::Audit, Outcome::Pass | Outcome::Audit) => {
                    &mut difference.alerts
                }
            };
            list.push(Region {
                category,
                old: Answer::new(old_rules, old),
                new: Answer::new(new_rules, new),
                witness: region.witness,
                variants: region.variants.into_iter().collect(),
                subjects: subjects.cloned().collect(),
                any_subject: region.subjects.len() == self.subjects.len(),
            });
        }
        difference
    }
}

/// Pairs of groups that some subject is in, counted from the first groups of two rows, and the
/// subjects by number.
type GroupPairs = Vec<([u32; 2], Vec<usize>)>;

/// Rows share maps from source classes to groups; each pair of maps is worked out once.
#[derive(Default)]
struct Groups(HashMap<[u32; 2], Rc<GroupPairs>>);

impl Groups {
    /// The pairs, and the first groups.
    fn of(
        &mut self,
        subjects: &Subjects<2>,
        [old, new]: [&DecisionTable; 2],
        [old_row, new_row]: [u32; 2],
    ) -> (Rc<GroupPairs>, [u32; 2]) {
        let row = |table: &DecisionTable, row: u32| table.rows().get(row as usize).copied();
        let (old_map, old_first) = row(old, old_row).unwrap_or_default();
        let (new_map, new_first) = row(new, new_row).unwrap_or_default();
        let pairs = self.0.entry([old_map, new_map]).or_insert_with(|| {
            let group = |table: &DecisionTable, map: u32, class: u32| {
                let map = table.maps().get(map as usize);
                map.and_then(|map| map.get(class as usize)).copied()
            };
            let mut numbers: HashMap<[u32; 2], usize> = HashMap::new();
            let mut pairs = GroupPairs::new();
            for (subject, [in_old, in_new]) in subjects.classes().enumerate() {
                let pair = [
                    group(old, old_map, in_old).unwrap_or_default(),
                    group(new, new_map, in_new).unwrap_or_default(),
                ];
                let number = *numbers.entry(pair).or_insert_with(|| {
                    pairs.push((pair, Vec::new()));
                    pairs.len() - 1
                });
                if let Some((_, subjects)) = pairs.get_mut(number) {
                    subjects.push(subject);
                }
            }
            Rc::new(pairs)
        });
        (Rc::clone(pairs), [old_first, new_first])
    }
}
