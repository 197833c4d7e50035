// SPDX-License-Identifier: Apache-2.0
//! Looking for an access that each rule decides.
//!
//! Two passes over every set of rules that some object has together, for every group of subjects and
//! every variant:
//! 1. which rules win. Most rules are found here, and nothing more is asked of them;
//! 2. for those that never won: who wins where they say something, and whether the outcome would be
//!    another without them; this also where directories move, for the sake of what is below them.
//!
//! Each answer is worked out by the code that the compiler uses (`precedence`, `trees`), rule by
//! rule, because a table of verdicts no longer knows which rules were in the running.

use super::ShadowedError;
use crate::compile::{Compiler, Named, Names, Part};
use crate::decisions::{Known, Test};
use crate::diff::assumed::{Assumed, Question};
use crate::diff::subjects::Subjects;
use crate::diff::{DiffError, Limits, modes, objects, variants};
use crate::minimise::minimise;
use crate::precedence::{Candidate, Circumstances, Judge};
use crate::table::Variant;
use crate::trees::{Guard, Reach, strictest};
use gorget_model::{Access, Category, Cause, Object, RuleId, Subject, Verdict};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a rule.
#[derive(Clone, Debug, Default)]
pub(super) struct Finding {
    /// Where it wins.
    pub(super) decides: Option<Access>,
    /// Where the outcome would be another without it.
    pub(super) matters: Option<Access>,
    /// Some object is one that it names.
    pub(super) named: bool,
    /// Some subject is one that it is about.
    pub(super) meant: bool,
    /// Who wins where it says something, and the smallest access.
    pub(super) hidden: BTreeMap<RuleId, Access>,
}

pub(super) struct Findings {
    /// By rule id.
    pub(super) rules: Vec<Finding>,
    /// The first access of a category to which no rule applies, so that allow-list mode counts.
    pub(super) unlisted: BTreeMap<Category, Access>,
}

/// Rules that name an object together.
struct Place {
    object: Object,
    candidates: Vec<Candidate>,
    guarding: Vec<(usize, Reach)>,
    local: bool,
}

/// A category with every place in it.
struct Area<'a> {
    category: Category,
    judge: Judge<'a>,
    guards: Vec<Guard>,
    /// By guard, the rules that name its literal object.
    beside_guard: Vec<Vec<Candidate>>,
    places: Vec<Place>,
}

/// One way of accessing an object.
#[derive(Clone, Copy)]
struct Case<'a> {
    category: Category,
    object: &'a Object,
    subject: &'a Subject,
    variant: Variant,
}

pub(super) struct Search<'a> {
    compiler: &'a Compiler<'a>,
    subjects: Subjects<1>,
    limits: Limits,
    steps: Steps,
    findings: Findings,
}

/// How much work is left.
struct Steps {
    left: usize,
    limit: usize,
}

impl Finding {
    /// Nothing is known that keeps the rule from being reported.
    pub(super) fn is_idle(&self) -> bool {
        self.decides.is_none() && self.matters.is_none()
    }
}

impl Steps {
    fn take(&mut self, count: usize, category: Category) -> Result<(), ShadowedError> {
        let left = self.left.checked_sub(count);
        self.left = left.ok_or(ShadowedError::Search(DiffError::TooManyDecisions {
            part: Part::Objects(category),
            limit: self.limit,
        }))?;
        Ok(())
    }
}

impl<'a> Search<'a> {
    pub(super) fn new(compiler: &'a Compiler<'a>, limits: Limits) -> Result<Self, ShadowedError> {
        let sources = [&compiler.prepared.sources.automaton];
        let subjects = Subjects::told_apart_by(sources, limits.states);
        Ok(Self {
            compiler,
            subjects: subjects.map_err(ShadowedError::Search)?,
            limits,
            steps: Steps {
                left: limits.answers,
                limit: limits.answers,
            },
            findings: Findings {
                rules: vec![Finding::default(); compiler.prepared.rules.len()],
                unlisted: BTreeMap::new(),
            },
        })
    }

    pub(super) fn run(mut self) -> Result<Findings, ShadowedError> {
        let mut areas = Vec::new();
        for category in Category::ALL {
            let rules = &self.compiler.prepared.rules;
            let guards = category == Category::File;
            if guards || rules.iter().any(|placed| placed.rule.category == category) {
                areas.push(self.area(category)?);
            }
        }
        for area in &areas {
            for place in &area.places {
                self.who_wins(area, place)?;
            }
        }
        for area in &areas {
            for place in &area.places {
                self.who_hides(area, place)?;
                self.who_keeps_in_place(area, place)?;
            }
        }
        Ok(self.findings)
    }

    fn area(&self, category: Category) -> Result<Area<'a>, ShadowedError> {
        let names = self.compiler.names(category);
        let names = names.map_err(ShadowedError::Compile)?;
        let raw = &names.raw;
        let automaton = minimise(&raw.classes, &raw.next, &raw.accepts);
        let objects = objects(category, [&automaton], self.limits.states);
        let places = objects
            .map_err(ShadowedError::Search)?
            .into_iter()
            .map(|(object, [set])| {
                let set = raw.accept_sets.get(set as usize);
                place(object, set.map_or(&[], Vec::as_slice), &names)
            })
            .collect();
        let beside = names.guards.iter().map(|guard| {
            let set = raw.accepted(&guard.literal);
            place(Object::Nameless, set, &names).candidates
        });
        Ok(Area {
            category,
            judge: self.compiler.judge(category),
            beside_guard: beside.collect(),
            guards: names.guards,
            places,
        })
    }

    fn finding(&mut self, rule: RuleId) -> Option<&mut Finding> {
        self.findings.rules.get_mut(rule.0 as usize)
    }

    fn is_idle(&self, rule: RuleId) -> bool {
        let finding = self.findings.rules.get(rule.0 as usize);
        finding.is_some_and(Finding::is_idle)
    }

    /// One subject for each group that `conditions` tell apart, with its source class.
    fn groups(&self, conditions: Vec<u32>) -> Vec<(Subject, usize)> {
        let partition = self.compiler.partition(conditions);
        let mut seen = BTreeSet::new();
        let subjects = self.subjects.iter().filter(|(_, [class])| {
            let group = partition.group_of.get(*class as usize);
            seen.insert(group.copied().unwrap_or_default())
        });
        subjects
            .map(|(subject, [class])| (subject.clone(), *class as usize))
            .collect()
    }

    fn who_wins(&mut self, area: &Area<'_>, place: &Place) -> Result<(), ShadowedError> {
        let judge = judge_at(area, place);
        let looks_for_unlisted =
            judge.allow_list && !self.findings.unlisted.contains_key(&area.category);
        for candidate in &place.candidates {
            if let Some(finding) = self.finding(candidate.rule) {
                finding.named = true;
            }
        }
        if !looks_for_unlisted && !place.candidates.iter().any(|c| self.is_idle(c.rule)) {
            return Ok(());
        }
        let compiler = self.compiler;
        let conditions = compiler.conditions(&place.candidates).collect();
        for (subject, class) in self.groups(conditions) {
            let holds = |condition| compiler.holds(class, condition);
            self.note_meant(&place.candidates, &holds);
            for case in ordinary(area.category, &place.object, &subject) {
                self.each_way(&case, &mut |search, known| {
                    let access = case.circumstances();
                    match judge.winner(&place.candidates, &holds, access, known)? {
                        Some((_, rule)) => search.note_decides(rule, &case, known),
                        None if judge.allow_list => search.note_unlisted(&case, known),
                        None => {}
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    fn note_meant(&mut self, candidates: &[Candidate], holds: &dyn Fn(u32) -> bool) {
        for candidate in candidates {
            let facts = self.compiler.prepared.facts.get(candidate.rule.0 as usize);
            let meant = facts.is_some_and(|facts| facts.condition.is_none_or(holds));
            if let Some(finding) = self.finding(candidate.rule) {
                finding.meant |= meant;
            }
        }
    }

    fn note_decides(&mut self, rule: RuleId, case: &Case<'_>, known: &Known) {
        if self.is_idle(rule) {
            let access = self.access(case, known);
            if let Some(finding) = self.finding(rule) {
                finding.decides = Some(access);
            }
        }
    }

    fn note_matters(&mut self, rule: RuleId, case: &Case<'_>, known: &Known) {
        if self.is_idle(rule) {
            let access = self.access(case, known);
            if let Some(finding) = self.finding(rule) {
                finding.matters = Some(access);
            }
        }
    }

    fn note_unlisted(&mut self, case: &Case<'_>, known: &Known) {
        if !self.findings.unlisted.contains_key(&case.category) {
            let access = self.access(case, known);
            self.findings.unlisted.insert(case.category, access);
        }
    }

    fn who_hides(&mut self, area: &Area<'_>, place: &Place) -> Result<(), ShadowedError> {
        let idle = self.idle(place.candidates.iter());
        if idle.is_empty() {
            return Ok(());
        }
        let judge = judge_at(area, place);
        let compiler = self.compiler;
        let conditions = compiler.conditions(&place.candidates).collect();
        for (subject, class) in self.groups(conditions) {
            let holds = |condition| compiler.holds(class, condition);
            for case in ordinary(area.category, &place.object, &subject) {
                let access = case.circumstances();
                self.steps.take(idle.len(), area.category)?;
                self.each_way(&case, &mut |search, known| {
                    let all = &place.candidates;
                    let winner = judge.winner(all, &holds, access, known)?;
                    let Some((_, deciding)) = winner else {
                        return Ok(());
                    };
                    for rule in &idle {
                        let (alone, others) = apart(all, *rule);
                        if judge.winner(&alone, &holds, access, known)?.is_none() {
                            continue;
                        }
                        let without = judge.winner(&others, &holds, access, known)?;
                        let [with, without] =
                            [winner, without].map(|winner| judge.verdict_of(winner).outcome);
                        if with != without {
                            search.note_matters(*rule, &case, known);
                        }
                        search.note_hidden(*rule, deciding, &case, known);
                    }
                    Ok(())
                })?;
            }
        }
        Ok(())
    }

    fn note_hidden(&mut self, rule: RuleId, by: RuleId, case: &Case<'_>, known: &Known) {
        let finding = self.findings.rules.get(rule.0 as usize);
        if finding.is_some_and(|finding| !finding.hidden.contains_key(&by)) {
            let witness = self.access(case, known);
            if let Some(finding) = self.finding(rule) {
                finding.hidden.insert(by, witness);
            }
        }
    }

    /// What moving a directory comes to, with each idle rule and without.
    fn who_keeps_in_place(&mut self, area: &Area<'_>, place: &Place) -> Result<(), ShadowedError> {
        let guards = guards_at(area, place);
        if guards.is_empty() {
            return Ok(());
        }
        let concerned: Vec<Candidate> = guards
            .iter()
            .flat_map(|(guard, beside, _)| beside.iter().chain([&guard.candidate]))
            .chain(&place.candidates)
            .copied()
            .collect();
        let idle = self.idle(concerned.iter());
        if idle.is_empty() {
            return Ok(());
        }
        let compiler = self.compiler;
        let conditions = compiler.conditions(&concerned).collect();
        for (subject, class) in self.groups(conditions) {
            for case in moving(area.category, &place.object, &subject) {
                let moved = Moved {
                    judge: judge_at(area, place),
                    guards: &guards,
                    candidates: &place.candidates,
                    holds: &|condition| compiler.holds(class, condition),
                    access: case.circumstances(),
                };
                self.each_way(&case, &mut |search, known| {
                    search.take_out(&idle, &moved, &case, known)
                })?;
                self.steps
                    .take(guards.len().saturating_mul(idle.len()), area.category)?;
            }
        }
        Ok(())
    }

    fn take_out(
        &mut self,
        idle: &BTreeSet<RuleId>,
        moved: &Moved<'_>,
        case: &Case<'_>,
        known: &Known,
    ) -> Result<(), Test> {
        let said = moved.said(known)?;
        let with = strictest(
            moved.own(moved.candidates, known)?,
            said.iter().copied().flatten(),
        );
        if let Cause::Rule(rule) = with.cause {
            self.note_decides(rule, case, known);
        }
        for rule in idle {
            let without = moved.without(*rule, &said, known)?;
            if with.outcome != without.outcome {
                self.note_matters(*rule, case, known);
            }
        }
        Ok(())
    }

    fn idle<'c>(&self, candidates: impl Iterator<Item = &'c Candidate>) -> BTreeSet<RuleId> {
        candidates
            .map(|candidate| candidate.rule)
            .filter(|rule| self.is_idle(*rule))
            .collect()
    }

    /// Asks `ask` for every task that there can be, as far as it depends on the task.
    fn each_way(
        &mut self,
        case: &Case<'_>,
        ask: &mut dyn FnMut(&mut Self, &Known) -> Result<(), Test>,
    ) -> Result<(), ShadowedError> {
        let mut waiting = vec![Known::default()];
        while let Some(known) = waiting.pop() {
            self.steps.take(1, case.category)?;
            if self.assumed(&known).arguments().is_none() {
                continue;
            }
            if let Err(test) = ask(self, &known) {
                waiting.extend([false, true].map(|holds| known.and(test, holds)));
            }
        }
        Ok(())
    }

    fn assumed(&self, known: &Known) -> Assumed<'a> {
        let arguments = &self.compiler.prepared.arguments;
        let answers = known.answers().iter();
        let assumed =
            answers.filter_map(|(test, holds)| Some((Question::of(*test, arguments)?, *holds)));
        Assumed(assumed.collect())
    }

    fn access(&self, case: &Case<'_>, known: &Known) -> Access {
        let assumed = self.assumed(known);
        Access {
            category: case.category,
            subject: case.subject.clone(),
            object: case.object.clone(),
            modes: modes(case.category, case.variant, assumed.terminal()),
            arguments: assumed.arguments().unwrap_or_default(),
        }
    }
}

fn place(object: Object, set: &[u32], names: &Names) -> Place {
    let mut place = Place {
        object,
        candidates: Vec::new(),
        guarding: Vec::new(),
        local: false,
    };
    for value in set {
        match names.named.get(*value as usize) {
            Some(Named::By(candidate)) => place.candidates.push(*candidate),
            Some(Named::Guarded(guards)) => place.guarding.extend(guards),
            Some(Named::Local) => place.local = true,
            None => {}
        }
    }
    place
}

fn judge_at<'a>(area: &Area<'a>, place: &Place) -> Judge<'a> {
    Judge {
        allow_list: area.judge.allow_list && !place.local,
        ..area.judge
    }
}

/// A guard, the rules that name its literal object, and how that lies.
type GuardAt<'a> = (&'a Guard, &'a [Candidate], Reach);

fn guards_at<'a>(area: &'a Area<'_>, place: &Place) -> Vec<GuardAt<'a>> {
    let guarding = place.guarding.iter();
    guarding
        .filter_map(|(number, reach)| {
            let beside = area.beside_guard.get(*number)?;
            Some((area.guards.get(*number)?, beside.as_slice(), *reach))
        })
        .collect()
}

/// The candidates of a rule, and all others.
fn apart(candidates: &[Candidate], rule: RuleId) -> (Vec<Candidate>, Vec<Candidate>) {
    candidates
        .iter()
        .partition(|candidate| candidate.rule == rule)
}

fn ordinary<'a>(
    category: Category,
    object: &'a Object,
    subject: &'a Subject,
) -> impl Iterator<Item = Case<'a>> {
    cases(category, object, subject, false)
}

fn moving<'a>(
    category: Category,
    object: &'a Object,
    subject: &'a Subject,
) -> impl Iterator<Item = Case<'a>> {
    cases(category, object, subject, true)
}

fn cases<'a>(
    category: Category,
    object: &'a Object,
    subject: &'a Subject,
    tree: bool,
) -> impl Iterator<Item = Case<'a>> {
    let wanted = variants(category, object).iter();
    let wanted = wanted.filter(move |bits| (**bits & Variant::TREE != 0) == tree);
    wanted.map(move |bits| Case {
        category,
        object,
        subject,
        variant: Variant::from_bits(*bits),
    })
}

impl Case<'_> {
    fn circumstances(&self) -> Circumstances {
        let has = |bit| self.variant.bits() & bit != 0;
        Circumstances {
            write: self.category == Category::File && has(Variant::WRITE),
            owner: has(Variant::OWNER),
        }
    }
}

/// A directory that is moved, by one kind of task.
struct Moved<'a> {
    judge: Judge<'a>,
    guards: &'a [GuardAt<'a>],
    candidates: &'a [Candidate],
    holds: &'a dyn Fn(u32) -> bool,
    access: Circumstances,
}

impl Moved<'_> {
    fn own(&self, candidates: &[Candidate], known: &Known) -> Result<Verdict, Test> {
        self.judge
            .verdict(candidates, self.holds, self.access, known)
    }

    /// What a guard says when only `beside` name its literal object.
    fn guard(
        &self,
        guard: &Guard,
        beside: &[Candidate],
        reach: Reach,
        known: &Known,
    ) -> Result<Option<Verdict>, Test> {
        if !guard.speaks(&self.judge, self.holds) {
            return Ok(None);
        }
        let owner = self.access.owner && reach == Reach::Itself;
        let verdict = guard.verdict(&self.judge, beside, self.holds, owner, known)?;
        Ok(Some(verdict))
    }

    fn said(&self, known: &Known) -> Result<Vec<Option<Verdict>>, Test> {
        let guards = self.guards.iter();
        guards
            .map(|(guard, beside, reach)| self.guard(guard, beside, *reach, known))
            .collect()
    }

    /// What the move would come to without `rule`; `said` is what guards say with it.
    fn without(
        &self,
        rule: RuleId,
        said: &[Option<Verdict>],
        known: &Known,
    ) -> Result<Verdict, Test> {
        let (_, others) = apart(self.candidates, rule);
        let mut verdicts = Vec::with_capacity(said.len());
        for ((guard, beside, reach), said) in self.guards.iter().zip(said) {
            if guard.candidate.rule == rule {
                continue;
            }
            let (its, others) = apart(beside, rule);
            verdicts.extend(if its.is_empty() {
                *said
            } else {
                self.guard(guard, &others, *reach, known)?
            });
        }
        Ok(strictest(self.own(&others, known)?, verdicts.into_iter()))
    }
}
