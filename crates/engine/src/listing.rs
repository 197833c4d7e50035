// SPDX-License-Identifier: Apache-2.0
//! The paths of a category as lists of names, for backends that are told patterns and not automata.
//!
//! For one class of subjects and one variant of the access, a [`Listing`] is what `precedence` says,
//! written as a list in which the first step that names a path decides about it. The steps of rules
//! whose `fromSource` matched come first; in each half come paths, names of programs, and then
//! patterns and directories, of which a pattern stands before or after a directory by what it asks
//! for. A directory gives way to longer ones that ask for something else: they are its exceptions.
//!
//! What nobody can know who is only told patterns, is taken to be as the rule wants it: the task has
//! no terminal, the arguments are in the list. Moving a directory is not in the lists.

use crate::compile::{CompileError, Compiler, MAX_CELLS, PolicySet, Prepared};
use crate::forms::{Form, Rank};
use crate::precedence::{Circumstances, Effect, effect};
use crate::subsets::BUDGET;
use crate::table::Variant;
use gorget_model::{Category, Outcome, RuleId};
use gorget_policy::Token;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// Some paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Named {
    /// Exactly this one.
    Path(Vec<u8>),
    /// This directory and what is in it.
    Directory {
        /// Without a slash at its end, so empty for the root.
        dir: Vec<u8>,
        /// Everything below, not only direct children.
        recursive: bool,
    },
    /// All that match. A name of programs is `**/NAME`.
    Pattern(Vec<Token>),
}

impl Named {
    fn of(form: &Form) -> Vec<Self> {
        let literal = || form.literal.clone().unwrap_or_default();
        match form.rank {
            Rank::Path => vec![Self::Path(literal())],
            Rank::Directory { recursive, .. } => {
                let mut dir = literal();
                if dir.as_slice() == crate::forms::ROOT {
                    dir.clear();
                }
                vec![Self::Directory { dir, recursive }]
            }
            Rank::ExecName | Rank::Pattern | Rank::Listed | Rank::Device(_) => {
                form.names.iter().cloned().map(Self::Pattern).collect()
            }
        }
    }

    /// Whether a path is among them; `None` for patterns, which are not asked.
    pub fn contains(&self, path: &[u8]) -> Option<bool> {
        match self {
            Self::Path(this) => Some(this == path),
            Self::Directory { dir, recursive } => {
                let inside = path.strip_prefix(dir.as_slice());
                Some(match inside {
                    None => false,
                    Some([]) => true,
                    Some([b'/', rest @ ..]) => *recursive || !rest.contains(&b'/'),
                    Some(_) => false,
                })
            }
            Self::Pattern(_) => None,
        }
    }

    /// Whether this directory is stronger than another that may hold the same paths.
    fn beats(&self, other: &Self) -> bool {
        let (
            Self::Directory { dir, recursive },
            Self::Directory {
                dir: outer,
                recursive: outer_recursive,
            },
        ) = (self, other)
        else {
            return false;
        };
        let below = dir.strip_prefix(outer.as_slice());
        match below {
            Some([]) => !recursive && *outer_recursive,
            Some([b'/', ..]) => true,
            Some(_) | None => false,
        }
    }
}

/// One step: what is decided about some paths that no step before names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Step {
    /// The paths.
    pub named: Named,
    /// Directories whose paths the step leaves to others.
    pub except: Vec<Named>,
    /// What is decided.
    pub outcome: Outcome,
    /// By this rule.
    pub rule: RuleId,
}

impl Step {
    /// Whether the step names a path; `None` for patterns.
    pub fn contains(&self, path: &[u8]) -> Option<bool> {
        let excepted = |named: &Named| named.contains(path) == Some(true);
        let named = self.named.contains(path)?;
        Some(named && !self.except.iter().any(excepted))
    }
}

/// What is decided about every path, for one class of subjects and one variant of the access.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Listing {
    /// The first that names a path decides.
    pub steps: Vec<Step>,
    /// What is decided when none does.
    pub unlisted: Outcome,
}

/// A policy set, read as lists of names.
#[derive(Debug)]
pub struct Listings {
    sources: Vec<Named>,
    /// By category, source class, and the variant's `WRITE` and `OWNER` bits.
    lists: BTreeMap<(Category, u32, u8), Listing>,
}

impl Listings {
    /// Reads a policy set. Source classes are those of the compiled [`crate::Ruleset`].
    ///
    /// # Errors
    ///
    /// As [`crate::compile`], as far as subjects and arguments are concerned.
    pub fn new(set: &PolicySet) -> Result<Self, CompileError> {
        let prepared = Prepared::new(set, BUDGET)?;
        let compiler = Compiler {
            set,
            prepared: &prepared,
            budget: BUDGET,
            max_cells: MAX_CELLS,
        };
        let sources: BTreeSet<Named> = prepared
            .rules
            .iter()
            .flat_map(|placed| &placed.rule.sources)
            .flat_map(|source| Form::all_of_source(source, &set.aliases))
            .flat_map(|form| Named::of(&form))
            .collect();
        let mut lists = BTreeMap::new();
        for category in [Category::Process, Category::File] {
            for (source, _) in (0..).zip(0..prepared.sources.count()) {
                for bits in 0..=(Variant::WRITE | Variant::OWNER) {
                    let listing = listing(&compiler, category, source, bits);
                    lists.insert((category, source, bits), listing);
                }
            }
        }
        Ok(Self {
            sources: sources.into_iter().collect(),
            lists,
        })
    }

    /// Every path and directory that some `fromSource` names.
    pub fn sources(&self) -> &[Named] {
        &self.sources
    }

    /// For [`Category::Process`] and [`Category::File`]. Of the variant, only `WRITE` and `OWNER`
    /// count.
    pub fn listing(&self, category: Category, source: u32, variant: Variant) -> Option<&Listing> {
        let bits = variant.bits() & (Variant::WRITE | Variant::OWNER);
        self.lists.get(&(category, source, bits))
    }
}

/// The strictest of what is asked for some paths.
type Asked<K> = BTreeMap<K, (Effect, RuleId)>;

/// The rules with a `fromSource`, or those without.
#[derive(Default)]
struct Half {
    paths: Asked<Named>,
    programs: Asked<Named>,
    /// Longer ones first, then those that are not recursive.
    directories: Asked<(Reverse<usize>, bool, Named)>,
    patterns: Asked<Named>,
}

fn listing(compiler: &Compiler<'_>, category: Category, source: u32, bits: u8) -> Listing {
    let judge = compiler.judge(category);
    let access = Circumstances {
        write: category == Category::File && bits & Variant::WRITE != 0,
        owner: bits & Variant::OWNER != 0,
    };
    let (mut sourced, mut general) = (Half::default(), Half::default());
    for (rule, form, _) in compiler.forms().filter(|(_, _, r)| r.category == category) {
        let Some(facts) = judge.facts(rule) else {
            continue;
        };
        let half = match facts.condition {
            None => &mut general,
            Some(condition) if compiler.holds(source as usize, condition) => &mut sourced,
            Some(_) => continue,
        };
        if let Some(effect) = effect(facts, access) {
            half.add(&form, (effect, rule));
        }
    }
    let outcome = |asked| judge.verdict_of(Some(asked)).outcome;
    let halves = [sourced, general].into_iter();
    Listing {
        steps: halves.flat_map(|half| half.steps(&outcome)).collect(),
        unlisted: judge.verdict_of(None).outcome,
    }
}

impl Half {
    fn add(&mut self, form: &Form, asked: (Effect, RuleId)) {
        for named in Named::of(form) {
            match form.rank {
                Rank::Path => strictest(&mut self.paths, named, asked),
                Rank::ExecName => strictest(&mut self.programs, named, asked),
                Rank::Directory { length, recursive } => {
                    let key = (Reverse(length), recursive, named);
                    strictest(&mut self.directories, key, asked);
                }
                Rank::Pattern | Rank::Listed | Rank::Device(_) => {
                    strictest(&mut self.patterns, named, asked);
                }
            }
        }
    }

    fn steps(self, outcome: &dyn Fn((Effect, RuleId)) -> Outcome) -> Vec<Step> {
        let plain = |named: Named, asked: (Effect, RuleId)| Step {
            named,
            except: Vec::new(),
            outcome: outcome(asked),
            rule: asked.1,
        };
        let first = self.paths.into_iter().chain(self.programs);
        let mut steps: Vec<Step> = first.map(|(named, asked)| plain(named, asked)).collect();
        for effect in Effect::ALL {
            let patterns = self.patterns.iter().filter(|(_, (e, _))| *e == effect);
            steps.extend(patterns.map(|(named, asked)| plain(named.clone(), *asked)));
            for ((_, _, named), asked) in self.directories.iter().filter(|(_, a)| a.0 == effect) {
                let others = self.directories.iter();
                let stronger = others
                    .filter(|((_, _, other), (asks, _))| *asks != effect && other.beats(named));
                steps.push(Step {
                    except: stronger.map(|((_, _, other), _)| other.clone()).collect(),
                    ..plain(named.clone(), *asked)
                });
            }
        }
        steps
    }
}

fn strictest<K: Ord>(all: &mut Asked<K>, key: K, asked: (Effect, RuleId)) {
    let known = all.entry(key).or_insert(asked);
    *known = asked.min(*known);
}
