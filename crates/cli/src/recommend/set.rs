// SPDX-License-Identifier: Apache-2.0
//! The recommended policies, as they are in the repository.
//!
//! What is said about one comes from its text: the first sentence of its comments, and what its rules
//! have. A test holds the list against the directory.

use anyhow::{Result, bail};
use gorget_policy::{Action, Kind, Policy, parse};

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../../policies/recommended/", $name, ".yaml")))),*]
    };
}

/// Names and texts, in the order in which they are listed.
const FILES: &[(&str, &str)] = files![
    "system-programs",
    "account-files",
    "configuration-files",
    "certificate-store",
    "scheduled-jobs",
    "package-managers",
    "dropped-programs",
    "fileless-execution",
    "crypto-miners",
    "remote-access-tools",
    "network-scanners",
    "service-account-token",
    "cloud-metadata",
    "stored-credentials",
    "passwords-and-histories",
    "environment-of-others",
    "runtime-sockets",
    "kernel-interfaces",
    "dangerous-capabilities",
    "escape-calls",
    "exec-sessions",
    "host-programs",
    "host-kernel-interfaces",
    "host-login-keys",
];

/// What every text begins with.
const LICENCE: &str = "# SPDX-License-Identifier: Apache-2.0\n";

/// A policy that is shipped.
#[derive(Debug)]
pub(super) struct Recommended {
    pub(super) name: &'static str,
    pub(super) text: &'static str,
    policy: Policy,
}

/// All of them.
pub(super) fn all() -> Result<Vec<Recommended>> {
    let mut all = Vec::new();
    for (name, text) in FILES {
        let policy = only_policy(name, text)?;
        all.push(Recommended { name, text, policy });
    }
    Ok(all)
}

/// The policy of a text that must have one, without a problem.
pub(super) fn only_policy(name: &str, text: &str) -> Result<Policy> {
    let parsed = parse(name, text);
    if let Some(problem) = parsed.problems.first() {
        bail!("{problem}");
    }
    let mut policies = parsed.policies.into_iter();
    match (policies.next(), policies.next()) {
        (Some(policy), None) => Ok(policy),
        (None, _) | (Some(_), Some(_)) => bail!("`{name}` is not one policy"),
    }
}

impl Recommended {
    pub(super) fn kind(&self) -> Kind {
        self.policy.kind
    }

    /// What it is for, in a sentence.
    pub(super) fn summary(&self) -> &'static str {
        let comments = self.text.strip_prefix(LICENCE).unwrap_or(self.text);
        let line = comments.lines().next().unwrap_or_default();
        line.trim_start_matches("# ")
    }

    pub(super) fn severity(&self) -> u8 {
        let severities = self.policy.rules.iter().filter_map(|rule| rule.severity);
        severities.max().unwrap_or(0)
    }

    /// The strictest of its rules.
    pub(super) fn action(&self) -> &'static str {
        match self.policy.rules.iter().map(|rule| rule.action).max() {
            Some(Action::Block) => "Block",
            Some(Action::Audit) => "Audit",
            Some(Action::Allow) | None => "Allow",
        }
    }

    pub(super) fn tags(&self) -> &[String] {
        let first = self.policy.rules.first();
        first.map_or(&[], |rule| rule.tags.as_slice())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::Path;

    #[test]
    fn every_file_of_the_directory_is_in_the_program() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/recommended");
        let entries = fs::read_dir(directory).unwrap();
        let files: BTreeSet<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        let known = FILES.iter().map(|(name, _)| format!("{name}.yaml"));
        assert_eq!(files, known.collect());
    }

    #[test]
    fn every_policy_says_what_it_is_for_what_it_may_break_and_how_bad_it_is() {
        for policy in all().unwrap() {
            let name = policy.name;
            assert_eq!(policy.policy.name, name);
            assert!(policy.text.starts_with(LICENCE), "{name}");
            assert!(policy.summary().ends_with('.'), "{name}");
            for part in ["\n# Prevents: ", "\n# May break: "] {
                assert_eq!(policy.text.matches(part).count(), 1, "{name}: {part}");
            }
            assert!(policy.severity() > 0 && !policy.tags().is_empty(), "{name}");
            for rule in &policy.policy.rules {
                assert!(!rule.message.is_empty(), "{name}");
            }
        }
    }
}
