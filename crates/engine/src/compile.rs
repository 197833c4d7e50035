// SPDX-License-Identifier: Apache-2.0
//! From policies to a [`Ruleset`].
//!
//! 1. Rules get their ids, in an order that does not depend on how the policies arrived.
//! 2. The distinct `fromSource` lists become numbered conditions; one automaton over the image path
//!    tells which conditions hold. Each set of conditions that can hold together is a source class.
//! 3. For each category, one automaton tells which rules name a path. Each set of rules that can name
//!    a path together gives one row of answers, worked out by `precedence` and `trees` for every
//!    source class and variant. Sets with the same answers share a row.
//! 4. The automata are minimised with rows as their values.
//!
//! Failure: the work is bounded. A set that exceeds a bound is refused as a whole.

mod error;

use crate::arguments::Arguments;
use crate::automaton::Automaton;
use crate::decisions::{Decisions, MOST_TESTS, TooManyTests};
use crate::forms::{Aliases, Form, local_sockets};
use crate::minimise::minimise;
use crate::nfa::{Nfa, Overflow, index};
use crate::precedence::{Candidate, Circumstances, Facts, Judge};
use crate::ruleset::{Compiled, RuleInfo, Ruleset, content_id};
use crate::subsets::{BUDGET, Budget, Raw, determinise};
use crate::table::{Cell, DecisionTable, Row, Variant};
use crate::trees::{Guard, Reach, guarded_directories, strictest};
use gorget_model::{Category, Posture, Postures, RuleId};
use gorget_policy::{Action, Location, ObjectMatcher, Policy, Rule, Source, Token};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

pub use error::{CompileError, Part};

/// Different answers of one category, in cells. Ten thousand rules about a hundred different sources
/// need 60,000; four million cells are 16 MiB here and in the kernel.
pub(crate) const MAX_CELLS: usize = 4 << 20;

/// Different sets of rules often come to the same row; this many to one, on average, are worked out
/// before that is taken for an attempt to keep the compiler busy.
const SETS_PER_ROW: usize = 16;

/// How many patterns an error names: enough to see the pair that multiply each other.
const NAMED_PATTERNS: usize = 3;

/// What [`compile`] works on: everything that decides for one workload.
#[derive(Clone, Debug)]
pub struct PolicySet {
    /// Every policy that selects the workload, in any order.
    pub policies: Vec<Arc<Policy>>,
    /// What decides in allow-list mode about what is not listed.
    pub postures: Postures,
    /// Symbolic links inside the workload.
    pub aliases: Aliases,
    /// Domains with which the workload's resolver completes names, such as
    /// `shop.svc.cluster.local`: a rule for a domain also names the completed ones.
    pub search_domains: Vec<String>,
}

impl PolicySet {
    /// Without links and search domains.
    pub fn new(policies: Vec<Arc<Policy>>, postures: Postures) -> Self {
        Self {
            policies,
            postures,
            aliases: Aliases::default(),
            search_domains: Vec::new(),
        }
    }
}

/// Compiles a policy set. The same policies in another order give an equal ruleset.
///
/// # Errors
///
/// When patterns or the number of rules exceed what the tables may take.
pub fn compile(set: &PolicySet) -> Result<Ruleset, CompileError> {
    compile_within(set, BUDGET, MAX_CELLS)
}

pub(crate) fn compile_within(
    set: &PolicySet,
    budget: Budget,
    max_cells: usize,
) -> Result<Ruleset, CompileError> {
    let prepared = Prepared::new(set, budget)?;
    let compiler = Compiler {
        set,
        prepared: &prepared,
        budget,
        max_cells,
    };
    let categories = compiler.categories()?;
    let Prepared {
        rules,
        sources,
        arguments,
        facts: _,
    } = prepared;
    let rules: Vec<RuleInfo> = rules.iter().map(Placed::info).collect();
    let source_classes = index(sources.held.len());
    let content_id = content_id(
        &categories,
        &arguments,
        &sources.automaton,
        source_classes,
        &rules,
    );
    Ok(Ruleset {
        categories,
        arguments,
        sources: sources.automaton,
        source_classes,
        rules,
        content_id,
    })
}

/// The rules of a policy set, and the automata that are common to all categories.
pub(crate) struct Prepared<'a> {
    /// By rule id.
    pub(crate) rules: Vec<Placed<'a>>,
    /// By rule id.
    pub(crate) facts: Vec<Facts>,
    pub(crate) sources: Sources,
    pub(crate) arguments: Arguments,
}

impl<'a> Prepared<'a> {
    pub(crate) fn new(set: &'a PolicySet, budget: Budget) -> Result<Self, CompileError> {
        let rules = in_order(&set.policies);
        let sources = Sources::compile(&rules, &set.aliases, budget)?;
        let (arguments, list_numbers) = compile_arguments(&rules, budget)?;
        let facts = rules
            .iter()
            .map(|Placed { rule, .. }| Facts {
                action: rule.action,
                modifiers: rule.modifiers,
                condition: sources.condition(rule),
                arguments: list_numbers.get(&rule.allowed_arguments).copied(),
            })
            .collect();
        Ok(Self {
            rules,
            facts,
            sources,
            arguments,
        })
    }
}

/// A rule with what its place in the order depends on.
#[derive(PartialEq)]
pub(crate) struct Placed<'a> {
    pub(crate) qualified_name: String,
    policy: &'a Policy,
    pub(crate) rule: &'a Rule,
}

/// By kind, `namespace/name`, place, content. Ids follow this order, so it settles ties.
pub(crate) fn in_order(policies: &[Arc<Policy>]) -> Vec<Placed<'_>> {
    let mut rules: Vec<Placed<'_>> = policies
        .iter()
        .flat_map(|policy| {
            policy.rules.iter().map(|rule| Placed {
                qualified_name: policy.qualified_name(),
                policy,
                rule,
            })
        })
        .collect();
    rules.sort_by(|a, b| a.key().cmp(&b.key()));
    rules.dedup_by(|a, b| a.is_same(b));
    rules
}

impl Placed<'_> {
    /// Whether they have the same place in the order.
    pub(crate) fn is_same(&self, other: &Placed<'_>) -> bool {
        self.key() == other.key()
    }

    fn key(&self) -> impl Ord {
        let Self {
            qualified_name,
            policy,
            rule,
        } = self;
        let Rule {
            category,
            object,
            sources,
            modifiers,
            allowed_arguments,
            action,
            severity,
            tags,
            message,
            at,
            last_line: _,
        } = rule;
        (
            (policy.kind, qualified_name, &policy.namespace, at),
            (category, object, sources, modifiers, allowed_arguments),
            (action, severity, tags, message),
        )
    }

    pub(crate) fn info(&self) -> RuleInfo {
        RuleInfo {
            policy: self.policy.name.clone(),
            namespace: self.policy.namespace.clone(),
            kind: self.policy.kind,
            severity: self.rule.severity,
            tags: self.rule.tags.clone(),
            message: self.rule.message.clone(),
            action: self.rule.action,
            at: self.rule.at.clone(),
        }
    }
}

/// The conditions that rules put on subjects, and the classes of subjects that they make.
pub(crate) struct Sources {
    pub(crate) automaton: Automaton,
    /// By source class, which conditions hold. Sorted.
    held: Vec<Vec<u32>>,
    conditions: BTreeMap<BTreeSet<Source>, u32>,
}

impl Sources {
    fn compile(
        rules: &[Placed<'_>],
        aliases: &Aliases,
        budget: Budget,
    ) -> Result<Self, CompileError> {
        let lists: BTreeSet<BTreeSet<Source>> = rules
            .iter()
            .filter_map(|placed| condition_of(placed.rule))
            .collect();
        let conditions: BTreeMap<_, _> = lists.into_iter().zip(0..).collect();
        let mut nfa = Nfa::new();
        for (list, number) in &conditions {
            for form in list
                .iter()
                .flat_map(|source| Form::all_of_source(source, aliases))
            {
                for tokens in &form.names {
                    nfa.insert(tokens, *number);
                }
            }
        }
        let raw =
            build(nfa, budget).map_err(|overflow| too_complex(Part::Sources, &overflow, &[]))?;
        let (automaton, held) = numbered_sets(&raw);
        Ok(Self {
            automaton,
            held,
            conditions,
        })
    }

    /// Number of source classes.
    pub(crate) fn count(&self) -> usize {
        self.held.len()
    }

    fn condition(&self, rule: &Rule) -> Option<u32> {
        self.conditions.get(&condition_of(rule)?).copied()
    }
}

fn condition_of(rule: &Rule) -> Option<BTreeSet<Source>> {
    (!rule.sources.is_empty()).then(|| rule.sources.iter().cloned().collect())
}

/// The lists of `allowedArgs`, and their numbers.
fn compile_arguments<'a>(
    rules: &[Placed<'a>],
    budget: Budget,
) -> Result<(Arguments, BTreeMap<&'a BTreeSet<String>, u32>), CompileError> {
    let lists: BTreeSet<&BTreeSet<String>> = rules
        .iter()
        .map(|placed| &placed.rule.allowed_arguments)
        .filter(|list| !list.is_empty())
        .collect();
    let numbers: BTreeMap<_, _> = lists.into_iter().zip(0..).collect();
    let mut nfa = Nfa::new();
    for (list, number) in &numbers {
        for argument in *list {
            let tokens: Vec<Token> = argument.bytes().map(Token::Byte).collect();
            nfa.insert(&tokens, *number);
        }
    }
    let raw =
        build(nfa, budget).map_err(|overflow| too_complex(Part::Arguments, &overflow, &[]))?;
    let (automaton, containing) = numbered_sets(&raw);
    let lists = numbers.keys().map(|list| (*list).clone()).collect();
    let arguments = Arguments {
        automaton,
        containing,
        lists,
    };
    Ok((arguments, numbers))
}

/// An automaton that accepts the number of the set of values that a state accepts, and the sets in
/// their order; the empty one, which is always there, comes first.
fn numbered_sets(raw: &Raw) -> (Automaton, Vec<Vec<u32>>) {
    let mut sets = raw.accept_sets.clone();
    sets.sort_unstable();
    let numbers: HashMap<&Vec<u32>, u32> = sets.iter().zip(0..).collect();
    let labels: Vec<u32> = raw
        .accept_sets
        .iter()
        .map(|set| numbers.get(set).copied().unwrap_or_default())
        .collect();
    (minimised(raw, &labels), sets)
}

pub(crate) fn build(nfa: Nfa, budget: Budget) -> Result<Raw, Overflow> {
    determinise(&nfa.freeze(budget.members)?, budget)
}

/// `labels` by number of accept set.
fn minimised(raw: &Raw, labels: &[u32]) -> Automaton {
    let of_states: Vec<u32> = raw
        .accepts
        .iter()
        .map(|set| labels.get(*set as usize).copied().unwrap_or_default())
        .collect();
    minimise(&raw.classes, &raw.next, &of_states)
}

/// What an object can be to the rules of a category.
pub(crate) enum Named {
    By(Candidate),
    /// It is a socket that the posture does not concern.
    Local,
    /// It is a directory that these guards keep in place.
    Guarded(Vec<(usize, Reach)>),
}

/// A pattern and the trie nodes that it uses.
type PatternNodes<'a> = (&'a Location, String, Vec<u32>);

fn too_complex(part: Part, overflow: &Overflow, patterns: &[PatternNodes<'_>]) -> CompileError {
    let mut costs: Vec<(u64, &Location, &String)> = patterns
        .iter()
        .map(|(at, text, nodes)| {
            let cost = nodes
                .iter()
                .filter_map(|node| overflow.occurrences.get(node))
                .sum();
            (cost, *at, text)
        })
        .collect();
    costs.sort_unstable_by_key(|(cost, at, text)| (Reverse(*cost), *at, *text));
    costs.dedup();
    let expensive = costs
        .into_iter()
        .take(NAMED_PATTERNS)
        .map(|(_, at, text)| (at.clone(), text.clone()))
        .collect();
    CompileError::TooComplex {
        part,
        of: overflow.of,
        limit: overflow.limit,
        expensive,
    }
}

pub(crate) struct Compiler<'a> {
    pub(crate) set: &'a PolicySet,
    pub(crate) prepared: &'a Prepared<'a>,
    pub(crate) budget: Budget,
    pub(crate) max_cells: usize,
}

/// What the objects of a category are to its rules.
pub(crate) struct Names {
    /// By value in the accept sets of `raw`.
    pub(crate) named: Vec<Named>,
    pub(crate) guards: Vec<Guard>,
    pub(crate) raw: Raw,
}

impl Compiler<'_> {
    fn categories(&self) -> Result<[Compiled; Category::ALL.len()], CompileError> {
        Ok([
            self.category(Category::Process)?,
            self.category(Category::File)?,
            self.category(Category::Network)?,
            self.category(Category::Dns)?,
            self.category(Category::Capability)?,
            self.category(Category::Syscall)?,
            self.category(Category::Device)?,
            self.category(Category::Preset)?,
        ])
    }

    pub(crate) fn names(&self, category: Category) -> Result<Names, CompileError> {
        let part = Part::Objects(category);
        let mut nfa = Nfa::new();
        let mut named = Vec::new();
        let mut patterns = Vec::new();
        for (id, form, rule) in self
            .forms()
            .filter(|(_, _, rule)| rule.category == category)
        {
            let value = index(named.len());
            named.push(Named::By(Candidate {
                rule: id,
                rank: form.rank,
            }));
            for tokens in &form.names {
                let nodes = nfa.insert(tokens, value);
                if let ObjectMatcher::Pattern(glob) = &rule.object {
                    patterns.push((&rule.at, glob.text.clone(), nodes));
                }
            }
        }
        let guards = if category == Category::File {
            self.guards()
        } else {
            Vec::new()
        };
        if category == Category::Network {
            let value = index(named.len());
            named.push(Named::Local);
            for tokens in local_sockets() {
                nfa.insert(&tokens, value);
            }
        }
        for (directory, guarding) in guarded_directories(&guards) {
            let value = index(named.len());
            named.push(Named::Guarded(guarding));
            let tokens: Vec<Token> = directory.into_iter().map(Token::Byte).collect();
            nfa.insert(&tokens, value);
        }

        let raw =
            build(nfa, self.budget).map_err(|overflow| too_complex(part, &overflow, &patterns))?;
        Ok(Names { named, guards, raw })
    }

    pub(crate) fn judge(&self, category: Category) -> Judge<'_> {
        let allows = |placed: &Placed<'_>| {
            placed.rule.category == category && placed.rule.action == Action::Allow
        };
        let posture = self.set.postures.of(category);
        Judge {
            facts: &self.prepared.facts,
            allow_list: posture.is_some() && self.prepared.rules.iter().any(allows),
            posture: posture.unwrap_or(Posture::Allow),
        }
    }

    fn category(&self, category: Category) -> Result<Compiled, CompileError> {
        let Names { named, guards, raw } = self.names(category)?;
        let rows = Rows {
            compiler: self,
            category,
            judge: self.judge(category),
            named: &named,
            raw: &raw,
            made: Decisions::default(),
        };
        let (decisions, labels) = rows.decide(&guards)?;
        Ok(Compiled {
            objects: minimised(&raw, &labels),
            decisions,
        })
    }

    pub(crate) fn forms(&self) -> impl Iterator<Item = (RuleId, Form, &Rule)> {
        (0..).zip(&self.prepared.rules).flat_map(|(id, placed)| {
            let PolicySet {
                aliases,
                search_domains,
                ..
            } = self.set;
            let forms = Form::all_of_object(placed.rule, aliases, search_domains);
            forms
                .into_iter()
                .map(move |form| (RuleId(id), form, placed.rule))
        })
    }

    fn guards(&self) -> Vec<Guard> {
        self.forms()
            .filter_map(|(id, form, rule)| Guard::new(id, rule.category, rule.action, &form))
            .collect()
    }

    /// The source classes that `conditions` tell apart.
    pub(crate) fn partition(&self, mut conditions: Vec<u32>) -> Partition {
        conditions.sort_unstable();
        conditions.dedup();
        let mut partition = Partition::default();
        let mut groups: HashMap<Vec<bool>, u32> = HashMap::new();
        for (source, held) in self.prepared.sources.held.iter().enumerate() {
            let which = conditions.iter().map(|c| held.binary_search(c).is_ok());
            let new = index(groups.len());
            let group = *groups.entry(which.collect()).or_insert(new);
            if group == new {
                partition.representatives.push(source);
            }
            partition.group_of.push(group);
        }
        partition
    }

    /// Whether the subjects of a source class fulfil a condition.
    pub(crate) fn holds(&self, source: usize, condition: u32) -> bool {
        let held = self.prepared.sources.held.get(source);
        held.is_some_and(|held| held.binary_search(&condition).is_ok())
    }

    pub(crate) fn conditions(&self, named: &[Candidate]) -> impl Iterator<Item = u32> {
        let facts = named
            .iter()
            .map(|c| self.prepared.facts.get(c.rule.0 as usize));
        facts.filter_map(|facts| facts?.condition)
    }
}

/// Source classes in groups.
#[derive(Debug, Default)]
pub(crate) struct Partition {
    /// By source class.
    pub(crate) group_of: Vec<u32>,
    /// By group, its first source class.
    representatives: Vec<usize>,
}

/// What a guard says: by group of source classes, to somebody else and to the owner of its literal
/// object.
struct GuardAnswers {
    conditions: Vec<u32>,
    partition: Partition,
    by_group: Vec<[Option<Cell>; 2]>,
}

impl GuardAnswers {
    fn to(&self, source: usize) -> [Option<Cell>; 2] {
        let group = self.partition.group_of.get(source);
        let answers = group.and_then(|group| self.by_group.get(*group as usize));
        answers.copied().unwrap_or_default()
    }
}

/// Works out the table of one category.
struct Rows<'a> {
    compiler: &'a Compiler<'a>,
    category: Category,
    judge: Judge<'a>,
    named: &'a [Named],
    raw: &'a Raw,
    made: Decisions,
}

impl Rows<'_> {
    /// The table, and for each accept set its row.
    fn decide(mut self, guards: &[Guard]) -> Result<(DecisionTable, Vec<u32>), CompileError> {
        self.check(guards.len())?;
        self.check(self.raw.accept_sets.len() / SETS_PER_ROW)?;
        let guard_answers = guards
            .iter()
            .map(|guard| self.guard(guard))
            .collect::<Result<Vec<_>, _>>()?;

        let mut rows: HashMap<Row, usize> = HashMap::new();
        let mut row_of_set = Vec::with_capacity(self.raw.accept_sets.len());
        let mut cells = 0_usize;
        for set in &self.raw.accept_sets {
            let row = self.row(set, &guard_answers)?;
            let (new, size) = (rows.len(), row.cells.len());
            let number = *rows.entry(row).or_insert(new);
            row_of_set.push(number);
            if number == new {
                cells += size;
                self.check(cells / Variant::COUNT as usize)?;
            }
        }

        let mut rows: Vec<(Row, usize)> = rows.into_iter().collect();
        let all_cells = rows.iter_mut().flat_map(|(row, _)| &mut row.cells);
        let branches = self.made.finish(all_cells);
        rows.sort_unstable_by(|a, b| (a.1 != 0, &a.0).cmp(&(b.1 != 0, &b.0)));
        let numbers: HashMap<usize, u32> = rows.iter().map(|row| row.1).zip(0..).collect();
        let labels = row_of_set
            .iter()
            .filter_map(|row| numbers.get(row).copied())
            .collect();
        let sources = index(self.compiler.prepared.sources.held.len());
        let rows = rows.into_iter().map(|(row, _)| row);
        Ok((DecisionTable::new(sources, rows, branches), labels))
    }

    /// `answers` is how many different answers there are to a combination of object and source.
    fn check(&self, answers: usize) -> Result<(), CompileError> {
        let limit = self.compiler.max_cells;
        if answers.saturating_mul(Variant::COUNT as usize) <= limit {
            return Ok(());
        }
        Err(CompileError::TooManyDecisions {
            part: Part::Objects(self.category),
            limit,
            answers,
        })
    }

    fn candidates(&self, set: &[u32]) -> Vec<Candidate> {
        let named = set
            .iter()
            .filter_map(|value| self.named.get(*value as usize));
        named
            .filter_map(|named| match named {
                Named::By(candidate) => Some(*candidate),
                Named::Guarded(_) | Named::Local => None,
            })
            .collect()
    }

    /// By the variant's WRITE and OWNER bits.
    fn answers(
        &mut self,
        named: &[Candidate],
        judge: Judge<'_>,
        source: usize,
    ) -> Result<[Cell; 4], CompileError> {
        let (compiler, category) = (self.compiler, self.category);
        let holds = |condition| compiler.holds(source, condition);
        let mut answer = |bits: u8| {
            let access = Circumstances {
                write: category == Category::File && bits & Variant::WRITE != 0,
                owner: bits & Variant::OWNER != 0,
            };
            self.made
                .solve(&|_, known| judge.verdict(named, &holds, access, known))
                .map_err(|TooManyTests| too_many_tests(category))
        };
        Ok([
            answer(0)?,
            answer(Variant::WRITE)?,
            answer(Variant::OWNER)?,
            answer(Variant::WRITE | Variant::OWNER)?,
        ])
    }

    fn guard(&mut self, guard: &Guard) -> Result<GuardAnswers, CompileError> {
        let named = self.candidates(self.raw.accepted(&guard.literal));
        let concerned: Vec<_> = named.iter().copied().chain([guard.candidate]).collect();
        let conditions: Vec<u32> = self.compiler.conditions(&concerned).collect();
        let partition = self.compiler.partition(conditions.clone());
        let (compiler, category, judge) = (self.compiler, self.category, self.judge);
        let mut by_group = Vec::with_capacity(partition.representatives.len());
        for source in &partition.representatives {
            let holds = |condition| compiler.holds(*source, condition);
            if !guard.speaks(&judge, &holds) {
                by_group.push([None, None]);
                continue;
            }
            let mut answer = |owner| {
                self.made
                    .solve(&|_, known| guard.verdict(&judge, &named, &holds, owner, known))
                    .map_err(|TooManyTests| too_many_tests(category))
            };
            by_group.push([Some(answer(false)?), Some(answer(true)?)]);
        }
        Ok(GuardAnswers {
            conditions,
            partition,
            by_group,
        })
    }

    fn row(&mut self, set: &[u32], guards: &[GuardAnswers]) -> Result<Row, CompileError> {
        let mut judge = self.judge;
        let mut guarding: Vec<(&GuardAnswers, Reach)> = Vec::new();
        for named in set.iter().filter_map(|v| self.named.get(*v as usize)) {
            match named {
                Named::Guarded(some) => guarding.extend(
                    some.iter()
                        .filter_map(|(guard, reach)| Some((guards.get(*guard)?, *reach))),
                ),
                Named::Local => judge.allow_list = false,
                Named::By(_) => {}
            }
        }
        let candidates = self.candidates(set);
        let mut conditions: Vec<u32> = self.compiler.conditions(&candidates).collect();
        conditions.extend(guarding.iter().flat_map(|(guard, _)| &guard.conditions));
        let partition = self.compiler.partition(conditions);

        let mut groups = Vec::with_capacity(partition.representatives.len());
        for source in &partition.representatives {
            let ordinary = self.answers(&candidates, judge, *source)?;
            let [_, other_writes, _, owner_writes] = ordinary;
            let said = |owner: bool| -> Vec<Cell> {
                let answers = guarding.iter().filter_map(|(guard, reach)| {
                    let [to_others, to_owner] = guard.to(*source);
                    match reach {
                        Reach::Itself if owner => to_owner,
                        Reach::Itself | Reach::Below => to_others,
                    }
                });
                answers.collect()
            };
            let others = self.tree(other_writes, &said(false))?;
            let owners = self.tree(owner_writes, &said(true))?;
            let [a, b, c, d] = ordinary;
            groups.push([a, b, c, d, others, others, owners, owners]);
        }
        Ok(Row::new(&partition.group_of, &groups))
    }

    /// The strictest of the write to a directory and of what its guards say.
    fn tree(&mut self, own: Cell, guards: &[Cell]) -> Result<Cell, CompileError> {
        if guards.is_empty() {
            return Ok(own);
        }
        let category = self.category;
        self.made
            .solve(&|made, known| {
                let own = made.follow(own, known)?;
                let said = guards.iter().map(|cell| made.follow(*cell, known));
                Ok(strictest(
                    own,
                    said.collect::<Result<Vec<_>, _>>()?.into_iter(),
                ))
            })
            .map_err(|TooManyTests| too_many_tests(category))
    }
}

fn too_many_tests(category: Category) -> CompileError {
    CompileError::TooManyTests {
        part: Part::Objects(category),
        limit: MOST_TESTS,
    }
}

#[cfg(test)]
mod tests;
