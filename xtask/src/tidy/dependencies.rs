// SPDX-License-Identifier: Apache-2.0
//! Who depends on whom, and on what.
//!
//! The layers are a table: an edge that is not in it is a problem, and so is a crate. Dependencies
//! for tests and build scripts are free.

use anyhow::{Context as _, Result};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package, PackageId};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Crate, and the crates of ours that it may depend on.
const LAYERS: [(&str, &[&str]); 15] = [
    ("model", &[]),
    ("policy", &["model"]),
    ("engine", &["policy", "model"]),
    ("observe", &["model"]),
    ("bpf", &["engine", "model"]),
    ("profiles", &["engine", "model"]),
    ("containers", &["model"]),
    ("k8s", &["policy", "model"]),
    ("telemetry", &["model"]),
    (
        "agent",
        &[
            "bpf",
            "containers",
            "engine",
            "k8s",
            "model",
            "observe",
            "policy",
            "profiles",
            "telemetry",
        ],
    ),
    ("cli", &["policy", "engine", "k8s", "telemetry", "model"]),
    (
        "operator",
        &["k8s", "policy", "engine", "telemetry", "model"],
    ),
    ("relay", &["k8s", "telemetry", "model"]),
    ("vmtest", &["bpf", "engine", "telemetry", "policy", "model"]),
    ("xtask", &[]),
];

/// Crates without I/O, and what nothing they use may be.
const PURE: [&str; 4] = ["model", "policy", "engine", "observe"];
const IMPURE: [&str; 8] = [
    "tokio",
    "libc",
    "kube",
    "tonic",
    "libbpf-rs",
    "libbpf-sys",
    "rustix",
    "mio",
];

/// Crates with binaries that people run.
const SHIPPED: [&str; 4] = [
    "gorget-agent",
    "gorget-cli",
    "gorget-operator",
    "gorget-relay",
];

/// Edges that may be, and why.
const BORNE: [(&str, &str); 1] = [
    // On aarch64 only, to ask which instructions the processor has.
    ("cpufeatures", "libc"),
];

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    skip: Vec<Skip>,
}

/// A duplicate that is known, with the reason why it is borne.
#[derive(Deserialize)]
struct Skip {
    #[serde(rename = "crate")]
    name: String,
    #[expect(dead_code, reason = "for readers of deny.toml, and demanded there")]
    reason: String,
}

pub(super) fn check() -> Result<Vec<String>> {
    let metadata = MetadataCommand::new().exec().context("asking cargo")?;
    let deny: Deny =
        toml::from_str(&fs::read_to_string("deny.toml")?).context("reading `deny.toml`")?;
    let mut problems = Vec::new();
    let packages: BTreeMap<&PackageId, &Package> =
        metadata.packages.iter().map(|p| (&p.id, p)).collect();
    for package in metadata.workspace_packages() {
        let own = short(&package.name);
        let edges: Vec<&str> = package
            .dependencies
            .iter()
            .filter(|d| d.kind == DependencyKind::Normal && d.path.is_some())
            .map(|d| short(&d.name))
            .collect();
        problems.extend(layer_problems(own, &edges));
    }
    problems.extend(pure_problems(&metadata, &packages));
    let shipped = shipped(&metadata);
    problems.extend(source_problems(&packages, &deny.licenses.allow));
    let versions = shipped
        .iter()
        .filter_map(|id| packages.get(id))
        .map(|p| (p.name.to_string(), p.version.to_string()));
    let known: BTreeSet<&str> = deny.bans.skip.iter().map(|s| name_of(&s.name)).collect();
    problems.extend(duplicates(versions, &known));
    Ok(problems)
}

fn short(name: &str) -> &str {
    name.strip_prefix("gorget-").unwrap_or(name)
}

/// `name` of `name@1.2`.
fn name_of(spec: &str) -> &str {
    spec.split_once('@').map_or(spec, |(name, _)| name)
}

fn layer_problems(own: &str, edges: &[&str]) -> Vec<String> {
    let Some((_, allowed)) = LAYERS.iter().find(|(name, _)| *name == own) else {
        return vec![format!("crate `{own}` is not in the layer table")];
    };
    edges
        .iter()
        .filter(|edge| !allowed.contains(edge))
        .map(|edge| format!("crate `{own}` must not depend on `{edge}`"))
        .collect()
}

/// Ids that a package needs when it runs, transitively.
fn closure<'a>(metadata: &'a Metadata, from: &'a PackageId) -> BTreeSet<&'a PackageId> {
    let nodes: BTreeMap<_, _> = metadata
        .resolve
        .iter()
        .flat_map(|resolve| &resolve.nodes)
        .map(|node| (&node.id, node))
        .collect();
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(id) = open.pop() {
        if !seen.insert(id) {
            continue;
        }
        let normal = nodes
            .get(id)
            .into_iter()
            .flat_map(|node| &node.deps)
            .filter(|dep| {
                dep.dep_kinds.iter().any(|k| {
                    k.kind == DependencyKind::Normal
                        && k.target.as_ref().is_none_or(|t| !elsewhere(&t.to_string()))
                })
            });
        open.extend(normal.map(|dep| &dep.pkg));
    }
    seen
}

/// Dependencies of other platforms are not ours.
fn elsewhere(platform: &str) -> bool {
    [
        "windows", "macos", "wasm", "apple", "redox", "hermit", "wasi", "solid", "uefi", "cygwin",
        "bsd",
    ]
    .iter()
    .any(|other| platform.contains(other) && !platform.contains("not("))
}

fn pure_problems(metadata: &Metadata, packages: &BTreeMap<&PackageId, &Package>) -> Vec<String> {
    let mut problems = Vec::new();
    for package in metadata.workspace_packages() {
        if !PURE.contains(&short(&package.name)) {
            continue;
        }
        for user in closure(metadata, &package.id) {
            let Some(user) = packages.get(user) else {
                continue;
            };
            for used in &user.dependencies {
                let edge = (user.name.as_str(), used.name.as_str());
                let counts = used.kind == DependencyKind::Normal && !used.optional;
                if counts && IMPURE.contains(&edge.1) && !BORNE.contains(&edge) {
                    problems.push(format!(
                        "`{}` is pure and must not use `{}`, as `{}` does",
                        package.name, edge.1, edge.0
                    ));
                }
            }
        }
    }
    problems
}

/// Everything in the binaries that people run.
fn shipped(metadata: &Metadata) -> BTreeSet<&PackageId> {
    metadata
        .workspace_packages()
        .into_iter()
        .filter(|p| SHIPPED.contains(&p.name.as_str()))
        .flat_map(|p| closure(metadata, &p.id))
        .collect()
}

fn source_problems(packages: &BTreeMap<&PackageId, &Package>, allowed: &[String]) -> Vec<String> {
    let mut problems = Vec::new();
    for package in packages.values() {
        if let Some(source) = &package.source
            && !source.is_crates_io()
        {
            problems.push(format!("`{}` comes from elsewhere: {source}", package.name));
        }
        let licence = package.license.as_deref().unwrap_or_default();
        if !is_allowed(licence, allowed) {
            let name = &package.name;
            problems.push(format!(
                "licence `{licence}` of `{name}` is not in `deny.toml`"
            ));
        }
    }
    problems
}

/// Whether an SPDX expression can be satisfied by what is allowed.
fn is_allowed(expression: &str, allowed: &[String]) -> bool {
    let plain = expression.replace('/', " OR ").replace(['(', ')'], " ");
    // Every AND needs one allowed alternative; alternatives bind weaker only in parentheses, which
    // are the form that crates use.
    plain.split(" AND ").all(|part| {
        part.split(" OR ").any(|one| {
            let name = one.trim();
            let name = name
                .split_once(" WITH ")
                .map_or(name, |(name, _exception)| name);
            allowed.iter().any(|allowed| allowed == name)
        })
    })
}

fn duplicates(
    versions: impl Iterator<Item = (String, String)>,
    known: &BTreeSet<&str>,
) -> Vec<String> {
    let mut by_name: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (name, version) in versions {
        by_name.entry(name).or_default().insert(version);
    }
    by_name
        .into_iter()
        .filter(|(name, versions)| versions.len() > 1 && !known.contains(name.as_str()))
        .map(|(name, versions)| {
            let versions: Vec<_> = versions.into_iter().collect();
            format!(
                "`{name}` is there in versions {}; unify, or skip it in `deny.toml` with a reason",
                versions.join(", ")
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_that_is_not_in_the_table_is_a_problem() {
        assert!(layer_problems("engine", &["policy", "model"]).is_empty());
        assert_eq!(
            layer_problems("policy", &["model", "engine"]),
            ["crate `policy` must not depend on `engine`"]
        );
        assert_eq!(
            layer_problems("helpers", &[]),
            ["crate `helpers` is not in the layer table"]
        );
    }

    #[test]
    fn licences_are_alternatives_and_sums() {
        let allowed = [
            "MIT".to_owned(),
            "Apache-2.0".to_owned(),
            "Unicode-3.0".to_owned(),
        ];
        for good in [
            "MIT",
            "GPL-2.0 OR MIT",
            "MIT/GPL-3.0",
            "(MIT OR GPL-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(is_allowed(good, &allowed), "{good}");
        }
        for bad in ["", "GPL-2.0", "MIT AND GPL-2.0"] {
            assert!(!is_allowed(bad, &allowed), "{bad}");
        }
    }

    #[test]
    fn two_versions_are_a_problem_unless_known() {
        let versions = || {
            [("a", "1.0"), ("a", "2.0"), ("b", "1.0")]
                .map(|(n, v)| (n.to_owned(), v.to_owned()))
                .into_iter()
        };
        assert_eq!(duplicates(versions(), &BTreeSet::new()).len(), 1);
        assert!(duplicates(versions(), &BTreeSet::from(["a"])).is_empty());
    }
}
