// SPDX-License-Identifier: Apache-2.0
//! The configuration file. A field that is not known, or a value that means nothing, is an error that
//! names it; the operator does not start on it.

use anyhow::{Context as _, Result};
use clap::Parser;
use gorget_telemetry::TlsFiles;
use serde::Deserialize;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The operator: refuses policies that are wrong, and says of the others what became of them.
#[derive(Clone, Debug, Parser)]
#[command(name = "gorget-operator", version)]
pub struct Args {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/gorget/operator.yaml")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ConfigSpec {
    /// Where the API server asks.
    pub(crate) listen: SocketAddr,
    pub(crate) metrics_listen: Option<SocketAddr>,
    /// Kubeconfig for who runs outside of a cluster.
    pub(crate) kubeconfig: Option<PathBuf>,
    /// As what the API server knows the port.
    #[serde(default = "own_name")]
    pub(crate) service: String,
    /// Where the certificate is kept.
    #[serde(default = "secret")]
    pub(crate) secret: String,
    /// What says which replica writes.
    #[serde(default = "own_name")]
    pub(crate) lease: String,
    /// `ValidatingWebhookConfiguration`s that are to believe the certificate.
    #[serde(default)]
    pub(crate) validating: Vec<String>,
    /// The same of `MutatingWebhookConfiguration`s.
    #[serde(default)]
    pub(crate) mutating: Vec<String>,
    /// Where all nodes have AppArmor, pods are started in the profiles of containers that policies name.
    #[serde(default)]
    pub(crate) app_armor_profiles: bool,
    pub(crate) agents: AgentsSpec,
    /// Nodes are labelled with what enforces there.
    #[serde(default)]
    pub(crate) node_labels: bool,
    /// CRDs that are missing are made.
    #[serde(default)]
    pub(crate) install_crds: bool,
}

fn own_name() -> String {
    "gorget-operator".to_owned()
}

fn secret() -> String {
    "gorget-operator-tls".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AgentsSpec {
    /// A service of this namespace whose endpoints are agents.
    pub(crate) service: String,
    #[serde(default = "agents_port")]
    pub(crate) port: u16,
    pub(crate) tls: Option<TlsFiles>,
}

fn agents_port() -> u16 {
    32_767
}

pub(crate) fn load(path: &Path) -> Result<ConfigSpec> {
    let text = fs::read_to_string(path).with_context(|| format!("reading `{}`", path.display()))?;
    let spec = serde_saphyr::from_str(&text);
    spec.with_context(|| format!("configuration file `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_chart_unless_said_otherwise() {
        let text = "listen: 0.0.0.0:9443\nagents: {service: gorget-agents}\n";
        let spec: ConfigSpec = serde_saphyr::from_str(text).unwrap();
        assert_eq!(spec.service, "gorget-operator");
        assert_eq!(spec.secret, "gorget-operator-tls");
        assert_eq!(spec.agents.port, 32_767);
    }

    #[test]
    fn what_the_chart_writes_fits_together() {
        let manifest = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../deploy/manifests/gorget-operator.yaml"
        );
        let text = fs::read_to_string(manifest).unwrap();
        let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
        let of = |kind: &str| objects.iter().find(|it| it["kind"] == kind).unwrap();
        let config = objects
            .iter()
            .find_map(|it| it["data"]["operator.yaml"].as_str());
        let config = config.unwrap();
        let spec: ConfigSpec = serde_saphyr::from_str(config).unwrap();
        let hook = of("ValidatingWebhookConfiguration");
        assert_eq!(
            spec.validating,
            [hook["metadata"]["name"].as_str().unwrap()]
        );
        let service = &hook["webhooks"][0]["clientConfig"]["service"];
        assert_eq!(service["path"], crate::serve::POLICIES);
        assert_eq!(service["name"], spec.service);
        assert_eq!(of("Service")["metadata"]["name"], spec.service);
        assert_eq!(of("Secret")["metadata"]["name"], spec.secret);
        let name = spec.agents.tls.unwrap().server_name;
        assert_eq!(name.as_deref(), Some("gorget-agent"));
        let rules = of("Role")["rules"].to_string();
        for named in [&spec.secret, &spec.lease] {
            assert!(rules.contains(&format!("[\"{named}\"]")), "{rules}");
        }
    }

    #[test]
    fn what_means_nothing_is_named() {
        for (bad, about) in [
            ("agents: {service: a}\n", "listen"),
            ("listen: 0.0.0.0:1\n", "agents"),
            ("listen: 0.0.0.0:1\nport: 1\nagents: {service: a}\n", "port"),
        ] {
            let spec: Result<ConfigSpec, _> = serde_saphyr::from_str(bad);
            let error = spec.unwrap_err().to_string();
            assert!(error.contains(about), "{bad}: {error}");
        }
    }
}
