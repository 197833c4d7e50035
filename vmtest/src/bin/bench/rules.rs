// SPDX-License-Identifier: Apache-2.0
//! Policies of any number of rules, always the same for a number.
//!
//! The shape is that of `cargo xtask bench compile`: of a hundred rules 60 paths, 25 directories and
//! 15 patterns. The rules are in force on the whole machine and must not forbid what it needs, so
//! they block names that do not exist, below directories that do. The first rule of a category matches
//! what is measured as matching and lets it pass without an event: it forbids writing only.

use anyhow::Result;
use std::fmt::Write as _;

/// Below it, what a rule matches; below the other, what no rule matches.
pub(crate) const MATCHED: &str = "/matched";
pub(crate) const UNMATCHED: &str = "/another";

/// Directories that rules speak of; those of the measured files are among them.
const TOPS: [&str; 8] = [
    "/matched/app",
    "/another/app",
    "/another/app/data/cache",
    "/etc",
    "/var/lib",
    "/home",
    "/usr/share",
    "/srv",
];
const WORDS: [&str; 16] = [
    "bin", "config", "data", "log", "python3", "node", "nginx", "run", "cache", "local", "secret",
    "service", "share", "systemd", "tmp", "app",
];

/// A linear congruential generator (Knuth's MMIX): the rules must be the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap_or_default() % limit
    }

    fn of(&mut self, words: &[&'static str]) -> &'static str {
        let at = self.below(words.len());
        words.get(at).copied().unwrap_or_default()
    }

    /// A name that does not exist, below a directory that may.
    fn path(&mut self) -> String {
        let mut path = self.of(&TOPS).to_owned();
        for _ in 0..=self.below(3) {
            path.push('/');
            path.push_str(self.of(&WORDS));
            path.push_str(&self.below(1000).to_string());
        }
        path
    }
}

/// The lists of a category with so many rules.
fn lists(rules: usize) -> Result<String> {
    let mut random = Random(12_345);
    let (mut paths, mut patterns) = (String::new(), String::new());
    let mut directories =
        format!("      - {{dir: {MATCHED}/, recursive: true, readOnly: true, action: Block}}\n");
    for number in 1..rules {
        let path = random.path();
        match number % 20 {
            // A rule about every directory: no path is decided before its last byte.
            1 if number == 1 => writeln!(patterns, "      - {{pattern: \"/**/*.never\"}}"),
            1..=3 => writeln!(patterns, "      - {{pattern: \"{path}/*.key\"}}"),
            4..=8 => writeln!(
                directories,
                "      - {{dir: {path}/, recursive: {}}}",
                number % 2 == 0
            ),
            _ => writeln!(paths, "      - {{path: {path}}}"),
        }?;
    }
    let mut text = format!("    matchDirectories:\n{directories}");
    for (list, entries) in [("matchPaths", paths), ("matchPatterns", patterns)] {
        if !entries.is_empty() {
            write!(text, "    {list}:\n{entries}")?;
        }
    }
    Ok(text)
}

/// Directories of programs are matched by another modifier: `readOnly` is not for them.
fn process_lists(rules: usize) -> Result<String> {
    Ok(lists(rules)?.replace("readOnly", "ownerOnly"))
}

const NETWORK: &str = "  network:\n    matchProtocols: [{protocol: icmp}]\n";
const CAPABILITIES: &str =
    "  capabilities:\n    matchCapabilities: [{capability: audit_control}]\n";

/// A policy for the host, named by what it consists of.
pub(crate) struct Rules {
    pub(crate) name: String,
    pub(crate) text: String,
}

fn policy(name: &str, spec: &str) -> Rules {
    let text = format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\n\
         metadata: {{name: {name}}}\nspec:\n  action: Block\n\
         \x20 nodeSelector: {{matchLabels: {{kubernetes.io/hostname: \"*\"}}}}\n{spec}"
    );
    Rules {
        name: name.to_owned(),
        text,
    }
}

/// Rules about files only.
pub(crate) fn files(rules: usize) -> Result<Rules> {
    let spec = format!("  file:\n{}", lists(rules)?);
    Ok(policy(&format!("files-{rules}"), &spec))
}

/// Rules about processes only.
pub(crate) fn processes(rules: usize) -> Result<Rules> {
    let spec = format!("  process:\n{}", process_lists(rules)?);
    Ok(policy(&format!("processes-{rules}"), &spec))
}

/// Rules about the network only.
pub(crate) fn network() -> Rules {
    policy("network-1", NETWORK)
}

/// So many rules about files, as many about processes, and some in each other category.
pub(crate) fn everything(rules: usize) -> Result<Rules> {
    let spec = format!(
        "  file:\n{}  process:\n{}{NETWORK}{CAPABILITIES}",
        lists(rules)?,
        process_lists(rules)?
    );
    Ok(policy(&format!("everything-{rules}"), &spec))
}

/// Every opening of these files is reported.
pub(crate) fn audit(files: &[&str]) -> Rules {
    let rule = |file: &&str| format!("      - {{path: {file}, action: Audit}}\n");
    let rules: String = files.iter().map(rule).collect();
    policy("audit", &format!("  file:\n    matchPaths:\n{rules}"))
}
