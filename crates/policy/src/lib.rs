// SPDX-License-Identifier: Apache-2.0
//! Policy documents: as written, and as validated ([`Policy`]).
//!
//! [`parse`] takes the text of a file with any number of YAML documents and gives back every policy
//! in it that is valid and every problem that was found, each with line, column, field, reason and
//! help. Inheritance of action, severity, tags and message is resolved here, so that nothing after
//! this crate needs to know that a rule can leave them out. [`Policy::selects`] tells whom a policy
//! is for. What a rule *means* is in `gorget-engine`.
//!
//! No input makes it panic or use memory without bound; every limit is a named constant where it is
//! applied. Steps, each in its module: `yaml` (text to trees with positions), `fields` (typed
//! access), `document`, `selector`, `meta` and `rules` (validation), `paths` and `glob` (the small
//! languages in strings), `problem` (what is reported).
#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::wildcard_enum_match_arm)]

mod document;
mod fields;
mod glob;
mod meta;
mod paths;
mod policy;
mod problem;
mod rules;
mod selector;
mod yaml;

pub use document::{Parsed, parse};
pub use glob::{Glob, Token};
pub use policy::{
    Action, DeviceMatcher, Kind, Location, Modifiers, ObjectMatcher, Policy, Rule, Selector, Source,
};
pub use problem::{Problem, ProblemSeverity};
