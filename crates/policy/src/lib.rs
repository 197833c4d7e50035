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
//! applied. Steps, each in its module: `yaml` (text to trees with positions), `shape` and `tables`
//! (which fields there are), `fields` (typed access), `document`, `selector`, `meta`, `rules`,
//! `objects`, `names` and `network_policy` (validation), `paths`, `glob` and `name_expression` (the
//! small languages in strings), `problem` (what is reported). [`schema`] renders the tables as CRDs.
#![forbid(unsafe_code)]
#![warn(missing_docs, clippy::wildcard_enum_match_arm)]

mod document;
mod fields;
mod glob;
mod image_reference;
mod meta;
mod name_expression;
mod names;
mod network_policy;
mod objects;
mod paths;
mod policy;
mod problem;
mod rules;
mod schema;
mod selector;
mod shape;
mod tables;
mod yaml;

pub use document::{Parsed, parse};
pub use glob::{Glob, Token};
pub use image_reference::ImageReference;
pub use name_expression::NameExpression;
pub use network_policy::{
    AddressRange, Direction, NetworkPolicy, NetworkRule, NetworkTarget, PortRange, Quota,
    QuotaScope, Transport,
};
pub use policy::{
    Action, DeviceMatcher, Expression, Kind, Location, Modifiers, ObjectMatcher, Operator, Policy,
    Rule, Selector, Source, Values,
};
pub use problem::{Problem, ProblemSeverity};
pub use schema::schema;
