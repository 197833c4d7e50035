// SPDX-License-Identifier: Apache-2.0
//! Filling a namespace and labels into the text of a recommended policy.
//!
//! Lines are replaced and the rest, comments above all, stays as it is. INVARIANT: every shipped text has
//! one line of `metadata.name` and one line with its whole selector; a test holds it against that.

use super::set::{Recommended, only_policy};
use anyhow::{Context as _, Result, bail, ensure};
use gorget_policy::Kind;

/// Characters of a namespace.
const LONGEST_NAMESPACE: usize = 63;

/// For whom the policies are wanted.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    namespace: Option<&'a str>,
    labels: Vec<(&'a str, &'a str)>,
}

impl<'a> Wanted<'a> {
    /// # Errors
    ///
    /// What is no namespace, and what is no label.
    pub(super) fn new(namespace: Option<&'a str>, labels: &'a [String]) -> Result<Self> {
        if let Some(namespace) = namespace {
            ensure!(
                is_namespace(namespace),
                "`{namespace}` cannot be a namespace: its name has small letters, digits and `-`, \
                 which is not at an end"
            );
        }
        let mut wanted: Vec<(&str, &str)> = Vec::new();
        for label in labels {
            let parts = label.split_once('=').filter(|(key, _)| !key.is_empty());
            let (key, value) =
                parts.with_context(|| format!("`{label}` is no label: write KEY=VALUE"))?;
            ensure!(
                !wanted.iter().any(|(other, _)| *other == key),
                "the label `{key}` is given twice, and nothing has two values of it"
            );
            wanted.push((key, value));
        }
        Ok(Self {
            namespace,
            labels: wanted,
        })
    }

    /// Whether nothing is to be filled in.
    pub(super) fn is_everything(&self) -> bool {
        self.namespace.is_none() && self.labels.is_empty()
    }

    /// The text of a policy for these.
    ///
    /// # Errors
    ///
    /// When it cannot be for a namespace, or what is filled in makes no policy.
    pub(super) fn filled_in(&self, policy: &Recommended) -> Result<String> {
        if self.is_everything() {
            return Ok(policy.text.to_owned());
        }
        let name = policy.name;
        let kind = policy.kind();
        if kind == Kind::Host && self.namespace.is_some() {
            bail!(
                "`{name}` is for machines, which are in no namespace; ask for it without \
                 `--namespace`"
            );
        }
        let mut text = String::new();
        for line in policy.text.lines() {
            if is_selector(line) && (kind != Kind::Container || !self.labels.is_empty()) {
                text.push_str(&self.selector(kind)?);
                continue;
            }
            text.push_str(line);
            text.push('\n');
            if let Some(namespace) = self.namespace
                && kind == Kind::Container
                && is_name(line)
            {
                text.push_str(&format!("  namespace: {}\n", quoted(namespace)?));
            }
        }
        only_policy(name, &text).with_context(|| format!("`{name}` cannot be for these"))?;
        Ok(text)
    }

    fn selector(&self, kind: Kind) -> Result<String> {
        let mut text = String::new();
        match kind {
            Kind::Container | Kind::Host => {
                let field = if kind == Kind::Host {
                    "nodeSelector"
                } else {
                    "selector"
                };
                text.push_str(&format!("  {field}:\n    matchLabels:\n"));
                for (key, value) in &self.labels {
                    text.push_str(&format!("      {}: {}\n", quoted(key)?, quoted(value)?));
                }
            }
            Kind::Cluster => {
                text.push_str("  selector:\n    matchExpressions:\n");
                let namespace = self
                    .namespace
                    .map(|namespace| ("namespace", namespace.to_owned()));
                let labels = self.labels.iter();
                let labels = labels.map(|(key, value)| ("label", format!("{key}={value}")));
                for (key, value) in namespace.into_iter().chain(labels) {
                    let value = quoted(&value)?;
                    text.push_str(&format!(
                        "    - {{ key: {key}, operator: In, values: [{value}] }}\n"
                    ));
                }
            }
        }
        Ok(text)
    }
}

fn is_namespace(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().last()];
    text.len() <= LONGEST_NAMESPACE
        && ends.into_iter().all(|end| end.is_some_and(plain))
        && text.bytes().all(|byte| plain(byte) || byte == b'-')
}

fn is_selector(line: &str) -> bool {
    line.starts_with("  selector: ") || line.starts_with("  nodeSelector: ")
}

fn is_name(line: &str) -> bool {
    line.starts_with("  name: ")
}

/// A string of JSON is one of YAML, whatever is in it.
fn quoted(text: &str) -> Result<String> {
    let plain = |c: char| c.is_ascii_lowercase() || matches!(c, '-' | '.' | '/');
    // Words that YAML takes for something else have other letters, or are these.
    let taken = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
    if starts && text.chars().all(plain) && !taken.contains(&text) {
        return Ok(text.to_owned());
    }
    serde_json::to_string(text).context("quoting")
}

#[cfg(test)]
mod tests {
    use super::super::set::all;
    use super::*;
    use gorget_model::{Container, Host, Workload};
    use std::collections::BTreeMap;

    fn labels(labels: &[(&str, &str)]) -> BTreeMap<String, String> {
        let owned = |(key, value): &(&str, &str)| (key.to_string(), value.to_string());
        labels.iter().map(owned).collect()
    }

    #[test]
    fn every_text_has_the_lines_that_are_replaced() {
        for policy in all().unwrap() {
            let lines = |is: fn(&str) -> bool| policy.text.lines().filter(|line| is(line)).count();
            assert_eq!(
                (lines(is_name), lines(is_selector)),
                (1, 1),
                "{}",
                policy.name
            );
        }
    }

    #[test]
    fn what_is_filled_in_selects_what_was_asked_for_and_nothing_else() {
        let given = ["app=web".to_owned(), "tier=\"1\"".to_owned()];
        for policy in all().unwrap() {
            let namespace = (policy.kind() != Kind::Host).then_some("shop");
            let wanted = Wanted::new(namespace, &given).unwrap();
            let text = wanted.filled_in(&policy).unwrap();
            let filled = only_policy(policy.name, &text).unwrap();
            let both = labels(&[("app", "web"), ("tier", "\"1\"")]);
            let workload = |namespace: &str, labels: &BTreeMap<String, String>| {
                if policy.kind() == Kind::Host {
                    return Workload::Host(Host {
                        name: "node".to_owned(),
                        labels: labels.clone(),
                    });
                }
                Workload::Container(Container {
                    name: "web".to_owned(),
                    namespace: Some(namespace.to_owned()),
                    labels: labels.clone(),
                    ..Container::default()
                })
            };
            assert!(filled.selects(&workload("shop", &both)), "{text}");
            let one = labels(&[("app", "web")]);
            assert!(!filled.selects(&workload("shop", &one)), "{text}");
            if policy.kind() != Kind::Host {
                assert!(!filled.selects(&workload("other", &both)), "{text}");
            }
        }
    }

    #[test]
    fn words_that_yaml_takes_for_something_else_are_quoted() {
        for (text, shown) in [
            ("web", "web"),
            ("app.kubernetes.io/name", "app.kubernetes.io/name"),
            ("true", "\"true\""),
            ("1", "\"1\""),
            ("a: b", "\"a: b\""),
            ("", "\"\""),
            ("e-1", "\"e-1\""),
        ] {
            assert_eq!(quoted(text).unwrap(), shown);
        }
    }

    #[test]
    fn what_is_no_namespace_or_label_is_named() {
        for (namespace, label, named) in [
            (Some("Shop"), "a=b", "`Shop`"),
            (Some("-a"), "a=b", "`-a`"),
            (Some(""), "a=b", "``"),
            (None, "web", "`web`"),
            (None, "=web", "`=web`"),
        ] {
            let labels = [label.to_owned()];
            let error = Wanted::new(namespace, &labels).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
        let twice = ["a=b".to_owned(), "a=c".to_owned()];
        let error = Wanted::new(None, &twice).unwrap_err();
        assert!(error.to_string().contains("`a`"), "{error}");
    }
}
