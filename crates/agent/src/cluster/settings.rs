// SPDX-License-Identifier: Apache-2.0
//! Whether a cluster is followed, and which: `kubernetes` in the configuration, `--kubernetes`.

use gorget_k8s::{Access, is_in_cluster};
use serde::Deserialize;
use std::collections::BTreeSet;
use std::env;
use std::path::PathBuf;

/// Where a pod is told on which node it is; the second as KubeArmor has it.
const NODE_NAMES: [&str; 2] = ["NODE_NAME", "KUBEARMOR_NODENAME"];
/// COMPAT: where nothing is enforced or told, unless it is said.
const UNTRACKED: &str = "kube-system,kubearmor";

/// `kubernetes` as written.
#[derive(Clone, Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "`auto`, `off`, or a mapping with `kubeconfig`, `context`, `node`"
)]
pub(crate) enum KubernetesSpec {
    /// What YAML takes `off` and `on` for.
    Switch(bool),
    Word(String),
    At(KubeconfigSpec),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct KubeconfigSpec {
    kubeconfig: Option<PathBuf>,
    context: Option<String>,
    node: Option<String>,
}

/// What `kubernetes` says means nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KubernetesSpecError {
    #[error("kubernetes: `{0}` is not one of `auto`, `off`, or the path of a kubeconfig")]
    Word(String),
    #[error("kubernetes.context: there is no `kubernetes.kubeconfig` that it could be of")]
    ContextOfNothing,
}

/// The cluster that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClusterSettings {
    pub(crate) access: Access,
    /// What this machine is called there.
    pub(crate) node: String,
    /// Namespaces in which nothing is enforced or told, unless a ConfigMap says which.
    pub(crate) untracked: BTreeSet<String>,
}

impl ClusterSettings {
    /// `None`: no cluster is followed. `host` is the machine's name when nothing else says what the node is
    /// called.
    pub(crate) fn from_spec(
        spec: Option<KubernetesSpec>,
        untracked: Option<&str>,
        host: &str,
    ) -> Result<Option<Self>, KubernetesSpecError> {
        let (access, node) = match spec {
            None => (in_cluster(), None),
            Some(KubernetesSpec::Switch(false)) => (None, None),
            Some(KubernetesSpec::Switch(true)) => {
                return Err(KubernetesSpecError::Word("on".to_owned()));
            }
            Some(KubernetesSpec::Word(word)) => match word.as_str() {
                "auto" => (in_cluster(), None),
                "off" | "none" => (None, None),
                path if path.contains('/') => (Some(kubeconfig(path.into(), None)), None),
                _ => return Err(KubernetesSpecError::Word(word)),
            },
            Some(KubernetesSpec::At(KubeconfigSpec {
                kubeconfig: path,
                context,
                node,
            })) => match (path, context) {
                (Some(path), context) => (Some(kubeconfig(path, context)), node),
                (None, Some(_)) => return Err(KubernetesSpecError::ContextOfNothing),
                (None, None) => (in_cluster(), node),
            },
        };
        let told = || {
            let names = NODE_NAMES.into_iter();
            names
                .filter_map(|name| env::var(name).ok())
                .find(|name| !name.is_empty())
        };
        let untracked = untracked.unwrap_or(UNTRACKED).split(',').map(str::trim);
        let untracked = untracked.filter(|name| !name.is_empty());
        let untracked = untracked.map(str::to_owned).collect();
        Ok(access.map(|access| Self {
            access,
            node: node.or_else(told).unwrap_or_else(|| host.to_owned()),
            untracked,
        }))
    }
}

fn in_cluster() -> Option<Access> {
    is_in_cluster().then_some(Access::InCluster)
}

fn kubeconfig(path: PathBuf, context: Option<String>) -> Access {
    Access::Kubeconfig { path, context }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Option<ClusterSettings>, String> {
        let spec = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
        ClusterSettings::from_spec(Some(spec), None, "machine").map_err(|error| error.to_string())
    }

    #[test]
    fn a_cluster_is_named_by_a_kubeconfig_or_not_at_all() {
        assert_eq!(settings("off"), Ok(None));
        // Tests run in no cluster.
        assert_eq!(settings("auto"), Ok(None));
        let found = settings("/etc/k/config").unwrap().unwrap();
        assert_eq!(found.access, kubeconfig("/etc/k/config".into(), None));
        assert_eq!(found.node, "machine");
        assert_eq!(found.untracked.len(), 2);
        let found = settings("{kubeconfig: /c, context: prod, node: worker-1}");
        let found = found.unwrap().unwrap();
        assert_eq!(
            found.access,
            kubeconfig("/c".into(), Some("prod".to_owned()))
        );
        assert_eq!(found.node, "worker-1");
    }

    #[test]
    fn what_means_nothing_is_an_error_that_says_what_would() {
        let error = settings("on").unwrap_err();
        assert!(
            error.contains("`on` is not one of `auto`, `off`"),
            "{error}"
        );
        let error = settings("{context: prod}").unwrap_err();
        assert!(error.contains("kubernetes.kubeconfig"), "{error}");
        assert!(settings("{kubeConfig: /c}").is_err());
    }
}
