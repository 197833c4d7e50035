// SPDX-License-Identifier: Apache-2.0
//! What policies would have made of accesses that were recorded.
//!
//! [`Replay`] takes one access at a time, decides it for its workload and counts by the rule that
//! decided. An access that may have been a little different from what the record says comes with the
//! other possibilities; when their outcome differs it is counted as unsure. What could not be read at
//! all is counted by reason.
//!
//! Memory is bounded whatever the record holds: a few samples for each rule and reason, and compiled
//! rulesets for a limited number of workloads, which are compiled again when there are more.
//!
//! Failure: the first workload whose policies do not compile ends the replay.

use crate::compile::in_order;
use crate::{Aliases, CompileError, OperationSpec, PolicySet, RuleRef, Ruleset, compile, decide};
use gorget_model::{
    Access, Category, Cause, Outcome, Postures, RuleId, Subject, Verdict, Workload,
};
use gorget_policy::Policy;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Enough to see what a rule is about.
const MOST_SAMPLES: usize = 5;

/// Different selections of policies that are kept compiled. Nodes run some hundred containers of far
/// fewer sorts.
const MOST_RULESETS: usize = 256;

/// Workloads whose selection is remembered.
const MOST_WORKLOADS: usize = 16_384;

/// Different reasons that are counted apart; callers have a fixed list, this is for those that do not.
const MOST_REASONS: usize = 64;

/// Bytes of a line that are kept as a sample.
const SAMPLE_BYTES: usize = 400;

/// An access that was recorded.
#[derive(Clone, Copy, Debug)]
pub struct RecordedAccess<'a> {
    /// In which line of the record; only for samples.
    pub line: u64,
    /// Where it happened.
    pub workload: &'a Workload,
    /// What was attempted, as far as the record tells.
    pub access: &'a Access,
    /// What else it may have been.
    pub or: &'a [Access],
    /// What policies made of it then; `None` when it failed for another reason.
    pub happened: Option<Outcome>,
}

/// Decides recorded accesses.
#[derive(Debug)]
pub struct Replay {
    policies: Vec<Arc<Policy>>,
    postures: Postures,
    search_domains: Vec<String>,
    /// By the indexes of the selected policies.
    rulesets: HashMap<Vec<usize>, Arc<Prepared>>,
    workloads: HashMap<String, Arc<Prepared>>,
    report: Replayed,
}

#[derive(Debug)]
struct Prepared {
    rules: Ruleset,
    /// By rule id: the index in [`Replayed::by_rule`].
    uses: Vec<usize>,
}

/// What came of a replay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Replayed {
    /// Over everything.
    pub total: Tally,
    /// What no rule decided and no posture.
    pub no_rule: Tally,
    /// What the default posture decided, by category.
    pub by_posture: BTreeMap<Category, Use>,
    /// Every rule with what it decided, also those that decided nothing; in the order of rule ids.
    pub by_rule: Vec<RuleUse>,
    /// By reason, what could not be read.
    pub unreadable: BTreeMap<String, Unread>,
    /// Different workloads; of very many only the most at a time.
    pub workloads: usize,
}

/// How many accesses came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Would pass without an alert.
    pub allowed: u64,
    /// Would pass with an alert.
    pub audited: u64,
    /// Would be denied.
    pub denied: u64,
    /// Of those denied: what was not denied by a policy when it was recorded.
    pub newly_denied: u64,
    /// Of those allowed or audited: what was denied.
    pub newly_allowed: u64,
    /// Of all: what may come to something else, because the record does not tell enough.
    pub unsure: u64,
}

/// What one cause decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// How often.
    pub tally: Tally,
    /// Some of it; changes before what stays as it is.
    pub samples: Vec<Sample>,
}

/// A rule, and what it decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleUse {
    /// Which. Its id is that among all policies.
    pub rule: RuleRef,
    /// What it decided.
    pub used: Use,
}

/// An access, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// In which line of the record.
    pub line: u64,
    /// As [`OperationSpec`] displays it.
    pub operation: String,
    /// Path of the image, or `runtime`.
    pub subject: String,
    /// `namespace/container` or the name of the host.
    pub workload: String,
    /// What happened; `None` when it failed for another reason.
    pub happened: Option<Outcome>,
    /// What would happen.
    pub would: Outcome,
}

/// Lines that could not be read for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unread {
    /// How many.
    pub count: u64,
    /// Line number and beginning of the first.
    pub sample: (u64, String),
}

impl Replay {
    /// For all workloads: `policies` are all there are, each access is decided by those that select
    /// its workload.
    pub fn new(
        policies: Vec<Arc<Policy>>,
        postures: Postures,
        search_domains: Vec<String>,
    ) -> Self {
        let by_rule = (0..)
            .zip(in_order(&policies))
            .map(|(id, placed)| RuleUse {
                rule: placed.reference(RuleId(id)),
                used: Use::default(),
            })
            .collect();
        Self {
            policies,
            postures,
            search_domains,
            rulesets: HashMap::new(),
            workloads: HashMap::new(),
            report: Replayed {
                by_rule,
                ..Replayed::default()
            },
        }
    }

    /// Decides one access and counts it.
    ///
    /// # Errors
    ///
    /// When the policies of its workload do not compile. Nothing is counted then.
    pub fn access(&mut self, recorded: RecordedAccess<'_>) -> Result<Verdict, CompileError> {
        let prepared = self.prepared(recorded.workload)?;
        let verdict = decide(&prepared.rules, recorded.access);
        let sure = recorded
            .or
            .iter()
            .all(|or| decide(&prepared.rules, or).outcome == verdict.outcome);
        let counted = Tally::of(verdict.outcome, recorded.happened, sure);
        self.report.total.add(counted);
        let used = match verdict.cause {
            Cause::NoRule => {
                self.report.no_rule.add(counted);
                return Ok(verdict);
            }
            Cause::DefaultPosture => {
                let category = recorded.access.category;
                Some(self.report.by_posture.entry(category).or_default())
            }
            Cause::Rule(id) => prepared
                .uses
                .get(id.0 as usize)
                .and_then(|at| self.report.by_rule.get_mut(*at))
                .map(|rule| &mut rule.used),
        };
        if let Some(used) = used {
            used.tally.add(counted);
            used.keep(&recorded, verdict.outcome);
        }
        Ok(verdict)
    }

    /// Counts a line that could not be read. `reason` is one of a few.
    pub fn unreadable(&mut self, line: u64, text: &[u8], reason: &str) {
        let unread = &mut self.report.unreadable;
        let reason = if unread.len() < MOST_REASONS || unread.contains_key(reason) {
            reason
        } else {
            "is unreadable for many different reasons"
        };
        let entry = unread.entry(reason.to_owned()).or_insert_with(|| {
            let beginning = text.get(..SAMPLE_BYTES).unwrap_or(text);
            Unread {
                count: 0,
                sample: (line, String::from_utf8_lossy(beginning).into_owned()),
            }
        });
        entry.count += 1;
    }

    /// What it came to.
    pub fn finish(self) -> Replayed {
        self.report
    }

    fn prepared(&mut self, workload: &Workload) -> Result<Arc<Prepared>, CompileError> {
        let key = identity(workload);
        if let Some(prepared) = self.workloads.get(&key) {
            return Ok(Arc::clone(prepared));
        }
        let selected: Vec<usize> = (0..)
            .zip(&self.policies)
            .filter(|(_, policy)| policy.selects(workload))
            .map(|(index, _)| index)
            .collect();
        let prepared = match self.rulesets.get(&selected) {
            Some(prepared) => Arc::clone(prepared),
            None => self.prepare(selected)?,
        };
        if self.workloads.len() >= MOST_WORKLOADS {
            self.workloads.clear();
        } else {
            self.report.workloads = self.report.workloads.max(self.workloads.len() + 1);
        }
        self.workloads.insert(key, Arc::clone(&prepared));
        Ok(prepared)
    }

    fn prepare(&mut self, selected: Vec<usize>) -> Result<Arc<Prepared>, CompileError> {
        let policies: Vec<Arc<Policy>> = selected
            .iter()
            .filter_map(|index| self.policies.get(*index).cloned())
            .collect();
        let uses = places(&policies, &self.policies);
        let rules = compile(&PolicySet {
            policies,
            postures: self.postures,
            aliases: Aliases::default(),
            search_domains: self.search_domains.clone(),
        })?;
        if self.rulesets.len() >= MOST_RULESETS {
            self.rulesets.clear();
            self.workloads.clear();
        }
        let prepared = Arc::new(Prepared { rules, uses });
        self.rulesets.insert(selected, Arc::clone(&prepared));
        Ok(prepared)
    }
}

/// For every rule of `some` in its order, its place among the rules of `all`, which has them in the
/// same order.
fn places(some: &[Arc<Policy>], all: &[Arc<Policy>]) -> Vec<usize> {
    let all = in_order(all);
    let mut rest = (0..).zip(&all);
    in_order(some)
        .iter()
        .filter_map(|placed| {
            let found = rest.find(|(_, other)| other.is_same(placed));
            found.map(|(place, _)| place)
        })
        .collect()
}

/// Everything by which policies select.
fn identity(workload: &Workload) -> String {
    match workload {
        Workload::Host(host) => format!("host\n{}\n{:?}", host.name, host.labels),
        Workload::Container(container) => format!(
            "container\n{:?}\n{}\n{:?}",
            container.namespace, container.name, container.labels
        ),
    }
}

impl Tally {
    fn of(would: Outcome, happened: Option<Outcome>, sure: bool) -> Self {
        let was_denied = happened == Some(Outcome::Block);
        let count = u64::from;
        let denied = would == Outcome::Block;
        Self {
            allowed: count(would == Outcome::Pass),
            audited: count(would == Outcome::Audit),
            denied: count(denied),
            newly_denied: count(denied && !was_denied),
            newly_allowed: count(!denied && was_denied),
            unsure: count(!sure),
        }
    }

    fn add(&mut self, other: Self) {
        let Self {
            allowed,
            audited,
            denied,
            newly_denied,
            newly_allowed,
            unsure,
        } = other;
        self.allowed += allowed;
        self.audited += audited;
        self.denied += denied;
        self.newly_denied += newly_denied;
        self.newly_allowed += newly_allowed;
        self.unsure += unsure;
    }

    /// How many accesses there were.
    pub fn accesses(&self) -> u64 {
        self.allowed + self.audited + self.denied
    }
}

impl Use {
    /// Keeps a sample if there is room, or if it is a change and there is one that is none.
    fn keep(&mut self, recorded: &RecordedAccess<'_>, would: Outcome) {
        let changed = |happened: Option<Outcome>, would: Outcome| {
            (happened == Some(Outcome::Block)) != (would == Outcome::Block)
        };
        let place = if self.samples.len() < MOST_SAMPLES {
            self.samples.len()
        } else if changed(recorded.happened, would) {
            let unchanged = |sample: &Sample| !changed(sample.happened, sample.would);
            match self.samples.iter().position(unchanged) {
                Some(place) => place,
                None => return,
            }
        } else {
            return;
        };
        let sample = Sample::new(recorded, would);
        let alike = self.samples.iter().any(|other| {
            let line = other.line;
            *other
                == Sample {
                    line,
                    ..sample.clone()
                }
        });
        if alike {
            return;
        }
        match self.samples.get_mut(place) {
            Some(unchanged) => *unchanged = sample,
            None => self.samples.push(sample),
        }
    }
}

impl Sample {
    fn new(recorded: &RecordedAccess<'_>, would: Outcome) -> Self {
        Self {
            line: recorded.line,
            operation: OperationSpec::of_access(recorded.access).to_string(),
            subject: match &recorded.access.subject {
                Subject::Runtime => "runtime".to_owned(),
                Subject::Image(path) => String::from_utf8_lossy(path).into_owned(),
            },
            workload: match recorded.workload {
                Workload::Host(host) => host.name.clone(),
                Workload::Container(container) => match &container.namespace {
                    Some(namespace) => format!("{namespace}/{}", container.name),
                    None => container.name.clone(),
                },
            },
            happened: recorded.happened,
            would,
        }
    }
}
