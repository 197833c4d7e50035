// SPDX-License-Identifier: Apache-2.0
//! What a change of policies changes, for all workloads that it could concern.
//!
//! Which workloads there are is not known from policies. They are made up: for every policy that is
//! only on one side, the workloads that its selector asks for, and these joined with what every other
//! selector asks for, as long as one workload can be all of it. So a difference that only shows
//! where several policies meet is found too. Workloads that no changed policy selects cannot differ.
//!
//! Limits, all of them told in the result:
//! - a selector for which no example is found is not compared ([`PolicyDifference::not_compared`]);
//! - a `NotIn` is met by leaving out, not by every other value that there is;
//! - the number of comparisons is bounded ([`PolicyDifference::complete`]); workloads that few
//!   selectors make come first;
//! - symbolic links and search domains of workloads are not known, so there are none; all
//!   workloads have the postures that are given;
//! - what only AppArmor can read (`apparmor:`) is not compared.

use crate::compile::{CompileError, PolicySet, compile};
use crate::diff::examples::Wanted;
use crate::diff::{DiffError, Difference, Region, diff};
use gorget_model::{Postures, Workload};
use gorget_policy::{Location, Policy};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Each costs two compilations; a set of a hundred rules takes 10 ms.
const MOST_COMPARISONS: usize = 200;
/// Workloads that are made up in all. Most of them are selected by the same policies as another.
const MOST_WORKLOADS: usize = 5_000;

/// What changes from some policies to others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyDifference {
    /// Workloads for which something changes that does not change for one before.
    pub workloads: Vec<WorkloadDifference>,
    /// Changed policies (`namespace/name`) of which no workload could be thought of.
    pub not_compared: Vec<String>,
    /// False when there were more combinations of selectors than are compared.
    pub complete: bool,
    /// The most pairs of rules, in one workload, of which only what the alert says changes.
    pub renamed: usize,
}

impl PolicyDifference {
    /// Whether everything was compared and nothing differs.
    pub fn is_none(&self) -> bool {
        self.workloads.is_empty() && self.not_compared.is_empty() && self.complete
    }
}

/// What changes for a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkloadDifference {
    /// One that has what the selectors ask for and nothing else.
    pub workload: Workload,
    /// The old policies (`namespace/name`) that select it.
    pub old: Vec<String>,
    /// The new policies that select it.
    pub new: Vec<String>,
    /// What changes, without what is said of a workload before.
    pub difference: Difference,
}

/// Why policies cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiffPoliciesError {
    /// Some of them cannot be compiled together.
    #[error("{} cannot be compiled together", list(policies))]
    Compile {
        /// Which (`namespace/name`).
        policies: Vec<String>,
        /// Why.
        source: CompileError,
    },
    /// Some of them cannot be compared with others.
    #[error("{} cannot be compared with {}", list(old), list(new))]
    Diff {
        /// The old ones (`namespace/name`).
        old: Vec<String>,
        /// The new ones.
        new: Vec<String>,
        /// Why.
        source: DiffError,
    },
}

fn list(policies: &[String]) -> String {
    let quoted: Vec<_> = policies.iter().map(|name| format!("`{name}`")).collect();
    if quoted.is_empty() {
        "no policy".to_owned()
    } else {
        quoted.join(", ")
    }
}

/// Compares policies as they concern workloads. Where in a file a policy stands is of no concern.
///
/// # Errors
///
/// When policies that select one workload cannot be compiled or compared.
pub fn diff_policies(
    old: &[Arc<Policy>],
    new: &[Arc<Policy>],
    postures: Postures,
) -> Result<PolicyDifference, DiffPoliciesError> {
    let sides = [old, new].map(|policies| {
        let sides = policies.iter().map(|policy| Side {
            policy,
            content: without_places(policy),
        });
        sides.collect::<Vec<_>>()
    });
    let [old_sides, new_sides] = &sides;
    let mut found = PolicyDifference {
        complete: true,
        ..PolicyDifference::default()
    };
    let (mut changed, mut others) = (BTreeSet::new(), BTreeSet::new());
    for (these, those) in [(old_sides, new_sides), (new_sides, old_sides)] {
        for side in these {
            let wanted = Wanted::all_of(side.policy);
            if those.iter().any(|other| other.content == side.content) {
                others.extend(wanted);
            } else if wanted.is_empty() {
                found.not_compared.push(side.policy.qualified_name());
            } else {
                changed.extend(wanted);
            }
        }
    }
    found.not_compared.sort();
    found.not_compared.dedup();
    let mut compared = Compared {
        sides: [old_sides, new_sides],
        postures,
        pairs: BTreeSet::new(),
        said: Vec::new(),
    };
    let singles: Vec<Wanted> = changed.union(&others).cloned().collect();
    let mut known = changed.clone();
    let mut waiting: VecDeque<Wanted> = changed.into_iter().collect();
    while let Some(wanted) = waiting.pop_front() {
        if compared.pairs.len() >= MOST_COMPARISONS {
            found.complete = false;
            break;
        }
        compared.compare(&wanted, &mut found)?;
        for joined in singles.iter().filter_map(|single| wanted.and(single)) {
            if known.contains(&joined) {
                continue;
            }
            if known.len() >= MOST_WORKLOADS {
                found.complete = false;
                break;
            }
            known.insert(joined.clone());
            waiting.push_back(joined);
        }
    }
    Ok(found)
}

struct Side<'a> {
    policy: &'a Arc<Policy>,
    content: Policy,
}

/// A policy that selects a workload, with its number.
type Chosen<'a> = (usize, &'a Side<'a>);

/// The policy as it would be anywhere else.
fn without_places(policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    for rule in &mut policy.rules {
        rule.last_line = 0;
        rule.at = Location {
            file: "".into(),
            line: 0,
            column: 0,
        };
    }
    policy
}

struct Compared<'a> {
    sides: [&'a [Side<'a>]; 2],
    postures: Postures,
    /// Which policies of each side.
    pairs: BTreeSet<[Vec<usize>; 2]>,
    said: Vec<Region>,
}

impl Compared<'_> {
    fn compare(
        &mut self,
        wanted: &Wanted,
        found: &mut PolicyDifference,
    ) -> Result<(), DiffPoliciesError> {
        let workload = wanted.workload();
        let chosen = self.sides.map(|sides| {
            let chosen = sides.iter().enumerate();
            let chosen = chosen.filter(|(_, side)| side.policy.selects(&workload));
            chosen.collect::<Vec<_>>()
        });
        let numbers = chosen
            .each_ref()
            .map(|sides| sides.iter().map(|(number, _)| *number).collect());
        if !self.pairs.insert(numbers) {
            return Ok(());
        }
        let names = chosen.each_ref().map(|sides| {
            let names = sides.iter().map(|(_, side)| side.policy.qualified_name());
            names.collect::<Vec<_>>()
        });
        let [in_old, in_new] = &chosen;
        let [old_names, new_names] = names;
        let difference = self.difference([(in_old, &old_names), (in_new, &new_names)])?;
        found.renamed = found.renamed.max(difference.renamed);
        let difference = self.unsaid(difference);
        if !difference.is_empty() {
            found.workloads.push(WorkloadDifference {
                workload,
                old: old_names,
                new: new_names,
                difference,
            });
        }
        Ok(())
    }

    fn difference(
        &self,
        [(old, old_names), (new, new_names)]: [(&[Chosen<'_>], &[String]); 2],
    ) -> Result<Difference, DiffPoliciesError> {
        let compiled = |chosen: &[Chosen<'_>], names: &[String]| {
            let policies = chosen.iter().map(|(_, side)| Arc::clone(side.policy));
            let set = PolicySet::new(policies.collect(), self.postures);
            compile(&set).map_err(|source| DiffPoliciesError::Compile {
                policies: names.to_vec(),
                source,
            })
        };
        let (old, new) = (compiled(old, old_names)?, compiled(new, new_names)?);
        diff(&old, &new).map_err(|source| DiffPoliciesError::Diff {
            old: old_names.to_vec(),
            new: new_names.to_vec(),
            source,
        })
    }

    /// Without regions that were found for a workload before.
    fn unsaid(&mut self, mut difference: Difference) -> Difference {
        let Difference {
            newly_denied,
            newly_allowed,
            alerts,
            renamed: _,
        } = &mut difference;
        for list in [newly_denied, newly_allowed, alerts] {
            list.retain(|region| {
                let is_new = !self.said.iter().any(|said| same_reason(said, region));
                if is_new {
                    self.said.push(region.clone());
                }
                is_new
            });
        }
        difference
    }
}

/// Whether the same decisions are at odds in both.
fn same_reason(one: &Region, other: &Region) -> bool {
    (one.category, &one.old, &one.new) == (other.category, &other.old, &other.new)
}
