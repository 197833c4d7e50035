// SPDX-License-Identifier: Apache-2.0
//! Rules that never decide anything, and why.
//!
//! A rule decides an access when it wins there, or when the access would have another outcome
//! without it: a directory that nothing asks about can keep a shorter one from deciding, and a rule
//! for a program keeps the directories above it in place. A rule of which no access can be found is
//! reported; taking it out changes no outcome. That is so of each reported rule alone: of two
//! equal rules the second is reported, and then the first is not.
//!
//! One effect is reported beside: an Allow rule that never decides can be the only one of its category,
//! so that the workload is in allow-list mode because of it ([`Shadowed::allow_list`]). Taking that out
//! changes what the default posture decides.
//!
//! Failure: the work is bounded as that of the compiler and of [`crate::diff`]; then nothing is said.

mod search;

use crate::compile::{CompileError, Compiler, MAX_CELLS, PolicySet, Prepared, build};
use crate::diff::grammar::Grammar;
use crate::diff::walk::walk;
use crate::diff::{DiffError, LIMITS, Limits};
use crate::forms::Form;
use crate::minimise::minimise;
use crate::nfa::Nfa;
use crate::ruleset::RuleInfo;
use crate::subsets::BUDGET;
use gorget_model::{Access, Category, Posture};
use gorget_policy::{Action, Rule};
use search::{Findings, Search};

/// A rule that never decides anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shadowed {
    /// Which.
    pub rule: RuleInfo,
    /// Of which category.
    pub category: Category,
    /// Why.
    pub why: Why,
    /// The rule still does something: without it the category is not in allow-list mode. This access
    /// then passes, and with the rule the default posture decides.
    pub allow_list: Option<Access>,
}

/// Why a rule never decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// No object can be what the rule names.
    NamesNothing {
        /// The shortest string that a path or pattern matches; it is no path. `None` when nothing
        /// is matched at all, and for objects that are no paths.
        matches: Option<Vec<u8>>,
    },
    /// No image can be what `fromSource` names.
    NoSubject,
    /// Its modifiers and its action together say nothing about any access.
    SaysNothing,
    /// Wherever it says something, another rule wins.
    Hidden(Vec<HiddenBy>),
}

/// A rule that wins over a shadowed one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HiddenBy {
    /// Which.
    pub rule: RuleInfo,
    /// The shortest access about which both say something.
    pub witness: Access,
}

/// Why a policy set cannot be searched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShadowedError {
    /// It cannot be compiled.
    #[error("the policies cannot be compiled")]
    Compile(#[source] CompileError),
    /// It takes too long.
    #[error("the policies say too many different things to go through")]
    Search(#[source] DiffError),
}

/// Every rule of the set that never decides anything, by rule id.
///
/// Guarantees: [`crate::decide`] gives every access the same outcome without a reported rule for
/// which `allow_list` is `None`. A witness is an access that can happen, about which the shadowed
/// rule says something and that the hiding rule decides.
///
/// # Errors
///
/// When the set cannot be compiled, or takes too many steps to go through.
pub fn shadowed(set: &PolicySet) -> Result<Vec<Shadowed>, ShadowedError> {
    shadowed_within(set, LIMITS)
}

pub(crate) fn shadowed_within(
    set: &PolicySet,
    limits: Limits,
) -> Result<Vec<Shadowed>, ShadowedError> {
    let prepared = Prepared::new(set, BUDGET).map_err(ShadowedError::Compile)?;
    let compiler = Compiler {
        set,
        prepared: &prepared,
        budget: BUDGET,
        max_cells: MAX_CELLS,
    };
    let findings = Search::new(&compiler, limits)?.run()?;
    let idle = (0..).zip(&prepared.rules).zip(&findings.rules);
    let idle = idle.filter(|(_, finding)| finding.is_idle());
    Ok(idle
        .map(|((id, placed), _)| Shadowed {
            rule: placed.info(),
            category: placed.rule.category,
            why: why(&compiler, &findings, id),
            allow_list: allow_list(&compiler, &findings, placed.rule),
        })
        .collect())
}

fn why(compiler: &Compiler<'_>, findings: &Findings, id: u32) -> Why {
    let rules = &compiler.prepared.rules;
    let Some((placed, finding)) = rules.get(id as usize).zip(findings.rules.get(id as usize))
    else {
        return Why::SaysNothing;
    };
    if !finding.named {
        return Why::NamesNothing {
            matches: matches(compiler, placed.rule),
        };
    }
    if !finding.meant {
        return Why::NoSubject;
    }
    let hidden = finding.hidden.iter().filter_map(|(winner, witness)| {
        let winner = rules.get(winner.0 as usize)?;
        Some(HiddenBy {
            rule: winner.info(),
            witness: witness.clone(),
        })
    });
    let hidden: Vec<HiddenBy> = hidden.collect();
    if hidden.is_empty() {
        Why::SaysNothing
    } else {
        Why::Hidden(hidden)
    }
}

/// The shortest string that the rule matches, if it is about paths.
fn matches(compiler: &Compiler<'_>, rule: &Rule) -> Option<Vec<u8>> {
    if !matches!(rule.category, Category::Process | Category::File) {
        return None;
    }
    let mut nfa = Nfa::new();
    for form in Form::all_of_object(rule, &compiler.set.aliases, &compiler.set.search_domains) {
        for tokens in &form.names {
            nfa.insert(tokens, 1);
        }
    }
    let raw = build(nfa, compiler.budget).ok()?;
    let automaton = minimise(&raw.classes, &raw.next, &raw.accepts);
    let found = walk([&automaton], Grammar::Anything, LIMITS.states).ok()?;
    let matched = found.into_iter().find(|found| found.values != [0]);
    matched.map(|found| found.bytes)
}

/// What the default posture decides only because of this rule.
fn allow_list(compiler: &Compiler<'_>, findings: &Findings, rule: &Rule) -> Option<Access> {
    let rules = compiler.prepared.rules.iter();
    let allows = rules.filter(|placed| {
        placed.rule.category == rule.category && placed.rule.action == Action::Allow
    });
    let alone = rule.action == Action::Allow && allows.count() == 1;
    let heard = match compiler.set.postures.of(rule.category) {
        Some(Posture::Audit | Posture::Block) => true,
        Some(Posture::Allow) | None => false,
    };
    let unlisted = findings.unlisted.get(&rule.category);
    unlisted.filter(|_| alone && heard).cloned()
}

#[cfg(test)]
mod tests;
