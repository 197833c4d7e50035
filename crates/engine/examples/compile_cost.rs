// SPDX-License-Identifier: Apache-2.0
//! What compiling costs: `cargo xtask bench compile`.
//!
//! Makes policies of a realistic shape (60 % paths, 25 % directories, 15 % patterns, a tenth of the
//! rules from one source, a third about processes), always the same for a number of rules, and prints
//! for each number the fastest of several runs and the size of what comes out. Peak memory is the
//! process's own, so each number of rules is given to a process of its own.
#![expect(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement is printed and needs a clock"
)]

use gorget_engine::{PolicySet, compile};
use gorget_model::{Category, Postures};
use gorget_policy::{Policy, parse};
use std::error::Error;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

const RUNS: u32 = 10;

const WORDS: [&str; 24] = [
    "usr",
    "bin",
    "etc",
    "lib",
    "var",
    "home",
    "opt",
    "share",
    "log",
    "data",
    "app",
    "config",
    "secret",
    "python3",
    "node",
    "nginx",
    "run",
    "cache",
    "local",
    "sbin",
    "systemd",
    "service",
    "kubernetes",
    "tmp",
];

/// A linear congruential generator (Knuth's MMIX): the rules must be the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = self.0.wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn word(&mut self) -> &'static str {
        let at = usize::try_from(self.below(24)).unwrap_or_default();
        WORDS.get(at).copied().unwrap_or_default()
    }

    fn path(&mut self) -> String {
        let mut path = String::new();
        for _ in 0..2 + self.below(4) {
            path.push('/');
            path.push_str(self.word());
            if self.below(3) == 0 {
                path.push_str(&self.below(1000).to_string());
            }
        }
        path
    }

    /// The entry of a list, and which list: 0 paths, 1 directories, 2 patterns.
    fn rule(&mut self) -> (usize, String) {
        let path = self.path();
        let action = ["Block", "Allow", "Audit"]
            .get(usize::try_from(self.below(3)).unwrap_or_default())
            .copied()
            .unwrap_or_default();
        let source = match self.below(10) {
            0 => format!(
                ", fromSource: [{{path: /usr/bin/{}{}}}]",
                self.word(),
                self.below(5)
            ),
            _ => String::new(),
        };
        match self.below(100) {
            0..60 => (0, format!("{{path: {path}, action: {action}{source}}}")),
            60..85 => {
                let recursive = self.below(2) == 0;
                let entry = format!("dir: {path}/, recursive: {recursive}");
                (1, format!("{{{entry}, action: {action}{source}}}"))
            }
            _ => {
                let pattern = match self.below(4) {
                    0 => format!("{path}/*.{}", self.word()),
                    1 => format!("{path}*/{}/*", self.word()),
                    2 => format!("{path}/**"),
                    _ => format!("/home/*{path}"),
                };
                (2, format!("{{pattern: \"{pattern}\", action: {action}}}"))
            }
        }
    }
}

/// One policy as people write it.
fn policy(rules: u64) -> Result<String, Box<dyn Error>> {
    let mut random = Random(12_345);
    let mut blocks = [const { [const { String::new() }; 3] }; 2];
    for _ in 0..rules {
        let block = usize::from(random.below(3) != 0);
        let (list, entry) = random.rule();
        if let Some(list) = blocks.get_mut(block).and_then(|lists| lists.get_mut(list)) {
            writeln!(list, "        - {entry}")?;
        }
    }
    let mut text = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
                    metadata: {name: large}\nspec:\n  selector: {matchLabels: {app: a}}\n"
        .to_owned();
    for (name, lists) in ["process", "file"].iter().zip(&blocks) {
        writeln!(text, "  {name}:")?;
        for (list, entries) in ["matchPaths", "matchDirectories", "matchPatterns"]
            .iter()
            .zip(lists)
        {
            if !entries.is_empty() {
                write!(text, "    {list}:\n{entries}")?;
            }
        }
    }
    Ok(text)
}

fn fastest<T>(mut work: impl FnMut() -> T) -> (Duration, T) {
    let start = Instant::now();
    let mut result = work();
    let mut best = start.elapsed();
    for _ in 1..RUNS {
        let start = Instant::now();
        result = work();
        best = best.min(start.elapsed());
    }
    (best, result)
}

/// `VmHWM` of this process in KiB (proc(5)).
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

fn main() -> Result<(), Box<dyn Error>> {
    let rules = std::env::args()
        .nth(1)
        .ok_or("give the number of rules")?
        .parse()?;
    let text = policy(rules)?;
    let before = peak_memory().unwrap_or_default();
    let (parsing, parsed) = fastest(|| parse("large.yaml", &text));
    if let Some(problem) = parsed.problems.first() {
        return Err(problem.to_string().into());
    }
    let policies: Vec<Arc<Policy>> = parsed.policies.into_iter().map(Arc::new).collect();
    let set = PolicySet::new(policies, Postures::default());
    let (compiling, compiled) = fastest(|| compile(&set));
    let compiled = compiled?;
    let after = peak_memory().unwrap_or_default();
    let states = |category| compiled.objects(category).state_count();
    println!(
        "{rules},{:.2},{:.2},{},{},{},{}",
        parsing.as_secs_f64() * 1e3,
        compiling.as_secs_f64() * 1e3,
        after - before,
        states(Category::File),
        states(Category::Process),
        compiled.source_classes(),
    );
    Ok(())
}
