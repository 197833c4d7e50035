// SPDX-License-Identifier: Apache-2.0
//! Which events a client wants, as the text that is `RequestMessage.Filter` on the wire.
//!
//! KubeArmor's `all`, `policy` (alerts) and `system` (logs) mean what they mean there. Further terms
//! come after a comma, in any order:
//!
//! | term | events |
//! |---|---|
//! | `namespace=default` | with exactly this value |
//! | `resource=~^/etc/` | with a value in which the regular expression is found, anchored or not |
//! | `since=5m`, `since=1767323045` | that happened since then, as far as they are kept, and all later ones |
//! | `kept` | and no later ones: the stream ends; without `since`, all that are kept |
//!
//! Fields are `namespace`, `pod`, `container`, `operation`, `policy`, `action`, `result`, `source` and
//! `resource`; the names of the protobuf messages (`NamespaceName`, `policyName`) mean the same. Terms about one field are
//! alternatives, terms about different fields must all hold. An event that lacks the field (a log has
//! no policy) has the empty value. Expressions are about bytes; classes and `(?i)` mean ASCII. `\,` is a comma that ends no term, and `\\` a backslash; in
//! expressions only the comma is written so.
//!
//! No text panics; one that means nothing is a [`FilterError`] that says what is wrong with it.

use crate::convert;
use crate::proto;
use gorget_model::{Alert, Event, Log, Threshold};
use regex::bytes::{Regex, RegexBuilder};
use std::fmt;

/// Longer texts are refused: a term for every field with a path in it has a tenth of that.
const MAX_BYTES: usize = 8 << 10;
/// More terms are refused, because each is looked at for each event.
const MAX_TERMS: usize = 32;
/// What one compiled expression may take, as for expressions in policies.
const MAX_COMPILED: usize = 64 << 10;
const MICROS: i64 = 1_000_000;
/// The term that asks for nothing later.
const KEPT: &str = "kept";

/// Which sort of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    /// `all`, or nothing.
    #[default]
    All,
    /// `policy`: alerts.
    Policy,
    /// `system`: logs.
    System,
}

impl Sort {
    const ALL: [(&str, Self); 3] = [
        ("all", Self::All),
        ("policy", Self::Policy),
        ("system", Self::System),
    ];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Policy => "policy",
            Self::System => "system",
        }
    }
}

/// What can be asked of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Empty for the host.
    Namespace,
    /// Empty where there is none.
    Pod,
    /// The container's name.
    Container,
    /// `Process`, `File` and so on.
    Operation,
    /// Of alerts.
    Policy,
    /// Of alerts: `Block`, `Audit` and so on.
    Action,
    /// `Passed`, or why not.
    Result,
    /// Who.
    Source,
    /// What was acted upon.
    Resource,
}

impl Field {
    /// Every field, with its name.
    pub const ALL: [(&str, Self); 9] = [
        ("namespace", Self::Namespace),
        ("pod", Self::Pod),
        ("container", Self::Container),
        ("operation", Self::Operation),
        ("policy", Self::Policy),
        ("action", Self::Action),
        ("result", Self::Result),
        ("source", Self::Source),
        ("resource", Self::Resource),
    ];

    fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        let short = match name.strip_suffix("name") {
            Some(short @ ("namespace" | "pod" | "container" | "policy")) => short,
            _ => &name,
        };
        let mut all = Self::ALL.iter();
        all.find(|(known, _)| *known == short).map(|(_, it)| *it)
    }

    /// The only values that it has, if they can be listed.
    fn values(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Operation => Some(&[
                "Process",
                "File",
                "Network",
                "Capabilities",
                "Syscall",
                "Device",
                "NetworkFirewall",
                "AlertThreshold",
                "Dropped",
            ]),
            Self::Action => Some(&["Audit", "Block", "Audit (Allow)", "Audit (Block)", "Allow"]),
            Self::Namespace
            | Self::Pod
            | Self::Container
            | Self::Policy
            | Self::Result
            | Self::Source
            | Self::Resource => None,
        }
    }
}

/// Something that has the fields.
pub trait Fields {
    /// The value; empty where there is none.
    fn field(&self, field: Field) -> &str;
}

#[derive(Clone, Debug)]
enum Value {
    Exactly(String),
    Matching(Regex),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Since {
    /// Seconds before the client asked.
    Ago(i64),
    /// Microseconds since 1970.
    At(i64),
}

/// What a client wants. The default is everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    sort: Sort,
    /// By field, so that alternatives are beside each other.
    terms: Vec<(Field, Vec<Value>)>,
    since: Option<Since>,
    only_kept: bool,
}

/// A text that is no filter.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FilterError {
    /// A word that is neither a sort nor a term.
    #[error(
        "unknown filter `{0}`, allowed are `all`, `policy`, `system`, and terms such as \
         `namespace=default` or `resource=~^/etc/` and `kept`"
    )]
    Unknown(String),
    /// Two words for the sort.
    #[error("`{0}` and `{1}` contradict each other")]
    Contradiction(&'static str, &'static str),
    /// A field that there is not.
    #[error("unknown field `{0}`, allowed are {fields} and `since`", fields = field_names())]
    Field(String),
    /// A field without a value.
    #[error("`{0}` has no value")]
    NoValue(String),
    /// A value that the field never has.
    #[error("`{field}` is never `{value}`, allowed are {allowed}")]
    NeverSo {
        /// The field as written.
        field: String,
        /// The value as written.
        value: String,
        /// What it can be.
        allowed: String,
    },
    /// No regular expression.
    #[error("`{expression}` is no regular expression: {reason}")]
    Expression {
        /// As written.
        expression: String,
        /// What is wrong.
        reason: String,
    },
    /// No time.
    #[error(
        "`since={0}` is neither a time span such as `30s`, `5m`, `2h`, `1d` nor a UNIX time in seconds"
    )]
    Since(String),
    /// `since` twice.
    #[error("`since` is given twice")]
    SinceTwice,
    /// Too long.
    #[error("it has {0} bytes, the limit is {MAX_BYTES}")]
    TooLong(usize),
    /// Too many terms.
    #[error("it has {0} terms, the limit is {MAX_TERMS}")]
    TooMany(usize),
}

fn field_names() -> String {
    let names = Field::ALL.map(|(name, _)| format!("`{name}`"));
    names.join(", ")
}

impl Filter {
    /// Reads a filter.
    ///
    /// # Errors
    ///
    /// What is wrong with the first term that is.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        if text.len() > MAX_BYTES {
            return Err(FilterError::TooLong(text.len()));
        }
        let mut filter = Self::default();
        let mut sort = None;
        let terms = terms(text);
        if terms.len() > MAX_TERMS {
            return Err(FilterError::TooMany(terms.len()));
        }
        for term in terms {
            match term.split_once('=') {
                Some((field, value)) => filter.add(field.trim(), value)?,
                None if term.trim().is_empty() => {}
                None if term.trim() == KEPT => filter.only_kept = true,
                None => {
                    let term = term.trim();
                    let named = Sort::ALL.into_iter().find(|(name, _)| *name == term);
                    let (_, new) = named.ok_or_else(|| FilterError::Unknown(term.to_owned()))?;
                    if let Some(before) = sort.replace(new).filter(|before| *before != new) {
                        return Err(FilterError::Contradiction(before.name(), new.name()));
                    }
                }
            }
        }
        filter.sort = sort.unwrap_or_default();
        Ok(filter)
    }

    fn add(&mut self, name: &str, value: &str) -> Result<(), FilterError> {
        if name == "since" {
            let since = Since::parse(value.trim());
            let since = since.ok_or_else(|| FilterError::Since(value.to_owned()))?;
            return match self.since.replace(since) {
                Some(_) => Err(FilterError::SinceTwice),
                None => Ok(()),
            };
        }
        let field = Field::named(name).ok_or_else(|| FilterError::Field(name.to_owned()))?;
        let value = match value.strip_prefix('~') {
            Some(expression) => expression_of(expression)?,
            None => exactly(field, name, value)?,
        };
        match self.terms.iter_mut().find(|(known, _)| *known == field) {
            Some((_, alternatives)) => alternatives.push(value),
            None => self.terms.push((field, vec![value])),
        }
        Ok(())
    }

    /// A term of a filter: that a field has a value, or that an expression is found in it.
    pub fn term(field: Field, value: &str, is_expression: bool) -> String {
        let name = Field::ALL.iter().find(|(_, known)| *known == field);
        let name = name.map_or("", |(name, _)| name);
        match is_expression {
            true => format!("{name}=~{}", value.replace(',', "\\,")),
            false => {
                let value = value.replace('\\', "\\\\").replace(',', "\\,");
                // Else it would be an expression.
                let escape = if value.starts_with('~') { "\\" } else { "" };
                format!("{name}={escape}{value}")
            }
        }
    }

    /// Which sort it asks for.
    pub fn sort(&self) -> Sort {
        self.sort
    }

    /// Whether it asks for nothing that happens from now on.
    pub fn only_kept(&self) -> bool {
        self.only_kept
    }

    /// Since when, in microseconds since 1970, for a client that asks `now`.
    pub fn since(&self, now: i64) -> Option<i64> {
        let everything = self.only_kept.then_some(Since::At(i64::MIN));
        self.since.or(everything).map(|since| match since {
            Since::Ago(seconds) => now.saturating_sub(seconds.saturating_mul(MICROS)),
            Since::At(micros) => micros,
        })
    }

    /// Whether it asks for what has these fields, whatever sort that is.
    pub fn matches(&self, event: &impl Fields) -> bool {
        self.terms.iter().all(|(field, alternatives)| {
            let there = event.field(*field);
            alternatives.iter().any(|value| match value {
                Value::Exactly(value) => value == there,
                Value::Matching(expression) => expression.is_match(there.as_bytes()),
            })
        })
    }
}

impl Since {
    fn parse(text: &str) -> Option<Self> {
        let units = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            digits.then(|| text.parse::<i64>().ok()).flatten()
        };
        for (unit, seconds) in units {
            if let Some(count) = text.strip_suffix(unit) {
                return Some(Self::Ago(number(count)?.checked_mul(seconds)?));
            }
        }
        Some(Self::At(number(text)?.checked_mul(MICROS)?))
    }
}

/// The text between commas that no backslash is before.
fn terms(text: &str) -> Vec<String> {
    let mut terms = vec![String::new()];
    let mut escaped = false;
    for character in text.chars() {
        if character == ',' && !escaped {
            terms.push(String::new());
        } else if let Some(term) = terms.last_mut() {
            term.push(character);
        }
        escaped = character == '\\' && !escaped;
    }
    terms
}

fn exactly(field: Field, name: &str, value: &str) -> Result<Value, FilterError> {
    let mut plain = String::with_capacity(value.len());
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '\\' => characters.next().unwrap_or('\\'),
            other => other,
        });
    }
    if plain.is_empty() && field != Field::Namespace && field != Field::Pod {
        return Err(FilterError::NoValue(name.to_owned()));
    }
    let Some(values) = field.values() else {
        return Ok(Value::Exactly(plain));
    };
    let known = values
        .iter()
        .find(|known| known.eq_ignore_ascii_case(&plain));
    match known {
        Some(known) => Ok(Value::Exactly((*known).to_owned())),
        None => Err(FilterError::NeverSo {
            field: name.to_owned(),
            value: plain,
            allowed: values
                .iter()
                .map(|value| format!("`{value}`"))
                .collect::<Vec<_>>()
                .join(", "),
        }),
    }
}

fn expression_of(expression: &str) -> Result<Value, FilterError> {
    let plain = without_escaped_commas(expression);
    // Classes and `(?i)` mean ASCII: tables of all of Unicode would be most of the program.
    let compiled = RegexBuilder::new(&plain)
        .unicode(false)
        .size_limit(MAX_COMPILED)
        .build();
    compiled
        .map(Value::Matching)
        .map_err(|error| FilterError::Expression {
            expression: plain,
            reason: reason(&error),
        })
}

/// `\,` is a comma; everything else is the expression's.
fn without_escaped_commas(expression: &str) -> String {
    let mut plain = String::with_capacity(expression.len());
    let mut characters = expression.chars().peekable();
    while let Some(character) = characters.next() {
        match (character, characters.peek()) {
            ('\\', Some(',')) => {}
            ('\\', Some(_)) => {
                plain.push(character);
                plain.extend(characters.next());
            }
            _ => plain.push(character),
        }
    }
    plain
}

/// The last line of what is said: those before it draw a picture.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default().trim();
    last.strip_prefix("error: ").unwrap_or(last).to_owned()
}

impl Fields for proto::Alert {
    fn field(&self, field: Field) -> &str {
        match field {
            Field::Namespace => &self.namespace_name,
            Field::Pod => &self.pod_name,
            Field::Container => &self.container_name,
            Field::Operation => &self.operation,
            Field::Policy => &self.policy_name,
            Field::Action => &self.action,
            Field::Result => &self.result,
            Field::Source => &self.source,
            Field::Resource => &self.resource,
        }
    }
}

impl Fields for proto::Log {
    fn field(&self, field: Field) -> &str {
        match field {
            Field::Namespace => &self.namespace_name,
            Field::Pod => &self.pod_name,
            Field::Container => &self.container_name,
            Field::Operation => &self.operation,
            Field::Policy | Field::Action => "",
            Field::Result => &self.result,
            Field::Source => &self.source,
            Field::Resource => &self.resource,
        }
    }
}

impl Fields for Alert {
    fn field(&self, field: Field) -> &str {
        match field {
            Field::Namespace => convert::namespace(&self.workload),
            Field::Pod => convert::pod(&self.workload),
            Field::Container => convert::container(&self.workload),
            Field::Operation => convert::operation(self.category),
            Field::Policy => &self.policy.name,
            Field::Action => convert::action(self.action),
            Field::Result => self.result,
            Field::Source => &self.source,
            Field::Resource => &self.resource,
        }
    }
}

impl Fields for Log {
    fn field(&self, field: Field) -> &str {
        match field {
            Field::Namespace => convert::namespace(&self.workload),
            Field::Pod => convert::pod(&self.workload),
            Field::Container => convert::container(&self.workload),
            Field::Operation => convert::operation(self.category),
            Field::Policy | Field::Action => "",
            Field::Result => self.result,
            Field::Source => &self.source,
            Field::Resource => &self.resource,
        }
    }
}

impl Fields for Threshold {
    fn field(&self, field: Field) -> &str {
        match field {
            Field::Namespace => convert::namespace(&self.workload),
            Field::Pod => convert::pod(&self.workload),
            Field::Container => convert::container(&self.workload),
            Field::Operation => convert::THRESHOLD,
            Field::Policy => &self.policy,
            Field::Result => "Passed",
            Field::Action | Field::Source | Field::Resource => "",
        }
    }
}

/// Which events a subscriber gets.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Alerts that the filter matches.
    pub alerts: bool,
    /// Logs that the filter matches.
    pub logs: bool,
    /// What the agent says of itself, whatever the filter asks for: it has none of its fields.
    pub messages: bool,
    /// Which of them.
    pub filter: Filter,
}

impl Wanted {
    /// Everything.
    pub fn everything() -> Self {
        Self {
            alerts: true,
            logs: true,
            messages: true,
            filter: Filter::default(),
        }
    }

    /// Nothing, of which a field can be changed.
    pub fn nothing(filter: Filter) -> Self {
        Self {
            alerts: false,
            logs: false,
            messages: false,
            filter,
        }
    }

    pub(crate) fn is(&self, event: &Event) -> bool {
        match event {
            Event::Alert(alert) => self.alerts && self.filter.matches(alert),
            Event::Log(log) => self.logs && self.filter.matches(log),
            Event::Message(_) => self.messages,
            Event::Threshold(threshold) => self.alerts && self.filter.matches(threshold),
        }
    }
}

impl fmt::Display for Sort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests;
