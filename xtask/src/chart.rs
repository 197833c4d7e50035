// SPDX-License-Identifier: Apache-2.0
//! The chart, checked and rendered by Helm.
//!
//! `deploy/manifests` is what the chart renders, for those who do not use Helm and for `gorget install`:
//! without the labels that say that Helm manages it, and with a namespace. `cargo xtask manifests` writes
//! it; `cargo xtask test --cluster` checks that it is what the chart says, and applies it.

use crate::{command, go};
use anyhow::{Context as _, Result, bail};
use std::fs;
use std::path::PathBuf;

const CHART: &str = "deploy/helm/gorget";
const MANIFESTS: &str = "deploy/manifests";
const NAMESPACE: &str = "gorget";

/// The newest release that the chart is tested with; Helm has an idea of its own otherwise.
const KUBERNETES: &str = "1.34.0";

const HELM: go::Program<'_> = go::Program {
    name: "helm",
    package: "helm.sh/helm/v3/cmd/helm",
    module: "xtask/helm",
    versions: include_str!("../helm/go.mod"),
    sums: include_str!("../helm/go.sum"),
    link_flags: "-s -w",
    duration: "about 3 min",
};

/// In front of the agent's manifests. Helm makes it at the user's word.
const OF_NAMESPACE: &str = "apiVersion: v1
kind: Namespace
metadata:
  name: gorget
  labels:
    app.kubernetes.io/part-of: gorget
    # hostPID, and directories of the node.
    pod-security.kubernetes.io/enforce: privileged
";

/// One of the files.
struct Manifest {
    file: &'static str,
    /// What it is, as a comment.
    about: &'static str,
    has_namespace: bool,
    arguments: &'static [&'static str],
}

const ALL: [Manifest; 3] = [
    Manifest {
        file: "gorget.yaml",
        about: "\
# The agent alone, as the chart with `relay.enabled=false,operator.enabled=false` renders it, and its namespace. The CRDs:
#   kubectl apply --server-side -f deploy/crds/ -f deploy/manifests/gorget.yaml
",
        has_namespace: true,
        arguments: &["--set", "relay.enabled=false,operator.enabled=false"],
    },
    Manifest {
        file: "gorget-with-relay.yaml",
        about: "\
# Agent and relay, as the chart with `feedTls.generate=false,operator.enabled=false` renders them: for who brings the certificates, as the
# Secret `gorget-feed-tls` with ca.crt, tls.crt and tls.key (docs/kubernetes.md). Instead of gorget.yaml.
# `gorget install` applies this, gorget-operator.yaml and the CRDs, and makes the certificates.
",
        has_namespace: true,
        arguments: &["--set", "feedTls.generate=false,operator.enabled=false"],
    },
    Manifest {
        file: "gorget-operator.yaml",
        about: "\
# The operator, as the chart renders it, beside gorget-with-relay.yaml, whose namespace and certificates it uses:
#   kubectl apply --server-side -f deploy/crds/ -f deploy/manifests/gorget-with-relay.yaml -f deploy/manifests/gorget-operator.yaml
",
        has_namespace: false,
        arguments: &[
            "--set",
            "feedTls.generate=false",
            "--show-only",
            "templates/operator.yaml",
        ],
    },
];

/// What can be switched on, of which a rendering is at least YAML.
const EVERYTHING: &str = "relay.exposed=true,relay.logs=true,relay.otlp=http://o:4317,\
    relay.elasticsearch.url=https://e:9200,relay.elasticsearch.secretName=e,podMonitor.enabled=true,\
    operator.appArmorProfiles=true,operator.installCrds=true,operator.failurePolicy=Fail,\
    agent.kubearmorNamespace=kubearmor,agent.seccomp=Unconfined,agent.seLinuxOptions.type=spc_t,\
    agent.extraCapabilities={SYS_ADMIN},image.pullSecrets[0].name=p,config.onStop=detach";

/// Writes the manifests.
pub(crate) fn write() -> Result<u8> {
    for (path, text) in rendered()? {
        fs::write(&path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        println!("written: {}", path.display());
    }
    Ok(0)
}

/// Has Helm look for mistakes, and compares the manifests with what it renders.
pub(crate) fn check() -> Result<()> {
    let helm = go::program(&HELM)?;
    for arguments in [&[][..], &["--set", EVERYTHING]] {
        let mut lint = command::new(&helm);
        command::run(lint.args(["lint", "--strict", CHART]).args(arguments))?;
    }
    for (path, text) in rendered()? {
        let is = fs::read_to_string(&path)
            .with_context(|| format!("cannot read `{}`", path.display()))?;
        if let Some((line, (is, rendered))) = first_difference(&is, &text) {
            bail!(
                "`{}:{line}` is not what the chart renders: `{is}` instead of `{rendered}`; \
                 `cargo xtask manifests` writes it again",
                path.display()
            );
        }
    }
    Ok(())
}

/// The number of the first line that differs, and both.
fn first_difference<'a>(is: &'a str, rendered: &'a str) -> Option<(usize, (&'a str, &'a str))> {
    let (mut left, mut right) = (is.lines(), rendered.lines());
    for number in 1.. {
        match (left.next(), right.next()) {
            (None, None) => return None,
            (is, rendered) if is == rendered => {}
            (is, rendered) => {
                let end = "the end of the file";
                return Some((number, (is.unwrap_or(end), rendered.unwrap_or(end))));
            }
        }
    }
    None
}

fn rendered() -> Result<Vec<(PathBuf, String)>> {
    let helm = go::program(&HELM)?;
    ALL.iter()
        .map(|manifest| {
            let mut template = command::new(&helm);
            template
                .args(["template", "gorget", CHART, "--namespace", NAMESPACE])
                .args(["--kube-version", KUBERNETES])
                .args(manifest.arguments);
            let text = command::output(&mut template)?;
            let path = PathBuf::from(MANIFESTS).join(manifest.file);
            Ok((path, with_head(manifest, &text)))
        })
        .collect()
}

fn with_head(manifest: &Manifest, rendered: &str) -> String {
    let mut text = format!("# SPDX-License-Identifier: Apache-2.0\n{}", manifest.about);
    let body = without_helm(rendered);
    if manifest.has_namespace {
        text.push_str(OF_NAMESPACE);
        text.push_str(&body);
    } else {
        text.push_str(body.trim_start_matches("---\n"));
    }
    text
}

/// What Helm says about itself and about its files, and empty lines, are left out.
fn without_helm(rendered: &str) -> String {
    let lines = rendered.lines().map(str::trim_end).filter(|line| {
        let said = line.trim_start();
        !(said.is_empty()
            || said.starts_with("# Source: ")
            || said.starts_with("# SPDX-License-Identifier: ")
            || said == "app.kubernetes.io/managed-by: Helm")
    });
    lines.flat_map(|line| [line, "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RENDERED: &str = "---\n# Source: gorget/templates/agent.yaml\n# SPDX-License-Identifier: Apache-2.0\n\
        kind: ConfigMap\nmetadata:\n  labels:\n    \n    app.kubernetes.io/managed-by: Helm\n    a: b  \n";

    #[test]
    fn manifests_say_nothing_of_helm() {
        let with = |has_namespace| Manifest {
            file: "f.yaml",
            about: "# What it is.\n",
            has_namespace,
            arguments: &[],
        };
        let head = "# SPDX-License-Identifier: Apache-2.0\n# What it is.\n";
        let object = "kind: ConfigMap\nmetadata:\n  labels:\n    a: b\n";
        assert_eq!(with_head(&with(false), RENDERED), format!("{head}{object}"));
        assert_eq!(
            with_head(&with(true), RENDERED),
            format!("{head}{OF_NAMESPACE}---\n{object}")
        );
    }

    #[test]
    fn the_first_difference_is_named_with_its_line() {
        assert_eq!(first_difference("a\nb\n", "a\nb\n"), None);
        assert_eq!(first_difference("a\nb\n", "a\nc\n"), Some((2, ("b", "c"))));
        let longer = first_difference("a\n", "a\nb\n");
        assert_eq!(longer, Some((2, ("the end of the file", "b"))));
    }
}
