// SPDX-License-Identifier: Apache-2.0
//! Why a policy set cannot be compiled, in words that lead to the rules to change.

use gorget_model::Category;
use gorget_policy::Location;
use std::fmt;

/// Why a policy set cannot be compiled. Nothing of it is in force then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The names in its rules multiply each other.
    #[error("{part} rules need more than {limit} {of}{}", culprits(expensive))]
    TooComplex {
        /// Which automaton.
        part: Part,
        /// What ran out.
        of: &'static str,
        /// How much there may be.
        limit: usize,
        /// The patterns that took most of it, the worst first.
        expensive: Vec<(Location, String)>,
    },
    /// Too many different objects and sources.
    #[error(
        "{part} rules need more than {limit} decisions: \
         {answers} combinations of objects and sources are treated differently"
    )]
    TooManyDecisions {
        /// Which table.
        part: Part,
        /// How many there may be.
        limit: usize,
        /// Combinations of objects and subjects that rules treat differently, so far.
        answers: usize,
    },
    /// Too many different `allowedArgs` compete for the same programs.
    #[error(
        "{part} rules with `allowedArgs` for the same object depend on each other in more than {limit} ways"
    )]
    TooManyTests {
        /// Which table.
        part: Part,
        /// How many there may be.
        limit: usize,
    },
}

/// A part of a ruleset, in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// Objects of a category.
    Objects(Category),
    /// `fromSource` of all categories.
    Sources,
    /// `allowedArgs`.
    Arguments,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Objects(category) => category.fmt(f),
            Self::Sources => f.write_str("`fromSource`"),
            Self::Arguments => f.write_str("`allowedArgs`"),
        }
    }
}

fn culprits(expensive: &[(Location, String)]) -> String {
    let named: Vec<_> = expensive
        .iter()
        .map(|(at, pattern)| format!("`{pattern}` at {at}"))
        .collect();
    if named.is_empty() {
        String::new()
    } else {
        format!("; most go to {}", named.join(", "))
    }
}
