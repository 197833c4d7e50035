// SPDX-License-Identifier: Apache-2.0
//! The configuration file. A field that is not known, or a value that means nothing, is an error that
//! names it; the relay does not start on it.

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use gorget_telemetry::{Address, Filter, TlsFiles};
use serde::Deserialize;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// The relay: the feeds of all agents of a cluster as one.
#[derive(Clone, Debug, Parser)]
#[command(name = "gorget-relay", version)]
pub struct Args {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/gorget/relay.yaml")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ConfigSpec {
    /// Where clients connect.
    pub(crate) listen: SocketAddr,
    /// Certificates for clients; without them only this machine may connect.
    pub(crate) tls: Option<TlsFiles>,
    /// Everybody may connect without certificates.
    #[serde(default)]
    pub(crate) plain: bool,
    pub(crate) metrics_listen: Option<SocketAddr>,
    pub(crate) agents: AgentsSpec,
    /// Logs as well, and not only alerts and messages.
    #[serde(default)]
    pub(crate) logs: bool,
    /// From when on an agent is asked that was not followed before.
    #[serde(default = "five_minutes")]
    pub(crate) since: String,
    pub(crate) otlp: Option<String>,
    pub(crate) elasticsearch: Option<ElasticSpec>,
}

fn five_minutes() -> String {
    "5m".to_owned()
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AgentsSpec {
    /// A service of this namespace whose endpoints are agents.
    pub(crate) service: Option<String>,
    #[serde(default = "agents_port")]
    pub(crate) port: u16,
    /// Or a list.
    #[serde(default)]
    pub(crate) addresses: Vec<String>,
    pub(crate) tls: Option<TlsFiles>,
}

fn agents_port() -> u16 {
    32_767
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct ElasticSpec {
    pub(crate) url: String,
    pub(crate) alerts_index: String,
    pub(crate) logs_index: Option<String>,
    /// A file with the value of the `Authorization` header.
    pub(crate) authorization_file: Option<PathBuf>,
    pub(crate) ca_file: Option<PathBuf>,
}

pub(crate) fn load(path: &Path) -> Result<ConfigSpec> {
    let text = fs::read_to_string(path).with_context(|| format!("reading `{}`", path.display()))?;
    parse(&text).with_context(|| format!("configuration file `{}`", path.display()))
}

fn parse(text: &str) -> Result<ConfigSpec> {
    let spec: ConfigSpec = serde_saphyr::from_str(text)?;
    match (&spec.agents.service, spec.agents.addresses.is_empty()) {
        (Some(_), true) | (None, false) => {}
        (_, _) => bail!("`agents` needs either `service` or `addresses`"),
    }
    match (&spec.tls, spec.plain) {
        (Some(_), true) => bail!("`plain` and `tls` contradict each other"),
        (None, false) if !spec.listen.ip().is_loopback() => bail!(
            "`listen`: `{}` can be reached from other machines, which needs `tls`, or `plain: true`",
            spec.listen
        ),
        (_, _) => {}
    }
    let since = format!("since={}", spec.since);
    Filter::parse(&since).context("`since`")?;
    Ok(spec)
}

impl AgentsSpec {
    pub(crate) fn parsed(&self) -> Result<Vec<Address>> {
        let all = self.addresses.iter().map(|text| text.parse());
        all.collect::<Result<_, _>>().context("`agents.addresses`")
    }
}

pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| format!("reading `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_says_who_may_connect_and_where_agents_are() {
        let good = "listen: 0.0.0.0:32767\nplain: true\nagents: {service: gorget-agents}\n";
        assert_eq!(parse(good).unwrap().since, "5m");
        for (bad, about) in [
            ("listen: 0.0.0.0:1\nagents: {service: a}\n", "`tls`"),
            ("listen: 127.0.0.1:1\nagents: {}\n", "`addresses`"),
            (
                "listen: 127.0.0.1:1\nagents: {service: a, addresses: ['b:1']}\n",
                "either",
            ),
            (
                "listen: 127.0.0.1:1\nsince: soon\nagents: {service: a}\n",
                "since",
            ),
            (
                "listen: 127.0.0.1:1\nport: 1\nagents: {service: a}\n",
                "port",
            ),
        ] {
            let error = format!("{:#}", parse(bad).unwrap_err());
            assert!(error.contains(about), "{error}");
        }
    }

    #[test]
    fn what_the_chart_writes_is_a_configuration() {
        let manifest = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../deploy/manifests/gorget-with-relay.yaml"
        );
        let text = fs::read_to_string(manifest).unwrap();
        let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&text).unwrap();
        let map = objects.iter().find(|object| {
            object["kind"] == "ConfigMap" && object["metadata"]["name"] == "gorget-relay"
        });
        let spec = parse(map.unwrap()["data"]["relay.yaml"].as_str().unwrap()).unwrap();
        assert_eq!(spec.agents.service.as_deref(), Some("gorget-agents"));
        assert!(spec.listen.ip().is_loopback());
        let name = spec.agents.tls.unwrap().server_name;
        assert_eq!(name.as_deref(), Some("gorget-agent"));
    }
}
