// SPDX-License-Identifier: Apache-2.0
//! Which agents there are: [`Resolve`], from a list or from the API server.
//!
//! In a cluster agents are the endpoints of a service. Those that are not ready count as well: an agent
//! that cannot put something in force is not ready and has the more to tell. Endpoints are asked for every
//! [`PERIOD`], from the server's cache: a thousand agents are ten objects.

use gorget_telemetry::Address;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams};
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

/// How often the API server is asked.
const PERIOD: Duration = Duration::from_secs(10);
/// The label that Kubernetes gives to slices.
const SERVICE: &str = "kubernetes.io/service-name";

/// Agents by the name of their node.
pub type Agents = BTreeMap<String, Address>;

/// Tells which agents there are.
pub trait Resolve {
    /// The agents, whenever it is time to compare; or why they are not known now, and then those that were
    /// known are followed on.
    fn next(&mut self) -> impl Future<Output = Result<Agents, String>> + Send;
}

/// A list that does not change.
#[derive(Debug)]
pub struct Static(Option<Agents>);

impl Static {
    /// Each under its address.
    pub fn new(addresses: impl IntoIterator<Item = Address>) -> Self {
        let named = addresses.into_iter().map(|it| (it.to_string(), it));
        Self(Some(named.collect()))
    }
}

impl Resolve for Static {
    async fn next(&mut self) -> Result<Agents, String> {
        match self.0.take() {
            Some(agents) => Ok(agents),
            None => std::future::pending().await,
        }
    }
}

/// The endpoints of a service.
pub struct Kubernetes {
    slices: Api<EndpointSlice>,
    service: String,
    port: u16,
    has_asked: bool,
}

impl std::fmt::Debug for Kubernetes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kubernetes")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

impl Kubernetes {
    /// Agents behind a service, on this port each.
    pub fn new(client: kube::Client, namespace: &str, service: String, port: u16) -> Self {
        Self {
            slices: Api::namespaced(client, namespace),
            service,
            port,
            has_asked: false,
        }
    }
}

impl Resolve for Kubernetes {
    async fn next(&mut self) -> Result<Agents, String> {
        if std::mem::replace(&mut self.has_asked, true) {
            tokio::time::sleep(PERIOD).await;
        }
        let wanted = ListParams::default()
            .labels(&format!("{SERVICE}={}", self.service))
            .match_any();
        match self.slices.list(&wanted).await {
            Ok(slices) => Ok(agents(&slices.items, self.port)),
            Err(error) => Err(format!("the endpoints of `{}`: {error}", self.service)),
        }
    }
}

fn agents(slices: &[EndpointSlice], port: u16) -> Agents {
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    let named = endpoints.filter_map(|endpoint| {
        let address = endpoint.addresses.first()?;
        let bracketed = match address.contains(':') {
            true => format!("[{address}]:{port}"),
            false => format!("{address}:{port}"),
        };
        let name = endpoint.node_name.as_ref().unwrap_or(address);
        Some((name.clone(), bracketed.parse().ok()?))
    });
    named.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_are_named_after_their_nodes_whether_ready_or_not() {
        let slice = serde_json::json!({
            "addressType": "IPv4",
            "metadata": { "name": "gorget-agents-x" },
            "endpoints": [
                { "addresses": ["10.0.0.1"], "nodeName": "a", "conditions": { "ready": true } },
                { "addresses": ["fd00::2"], "nodeName": "b", "conditions": { "ready": false } },
                { "addresses": ["10.0.0.3"] },
                { "addresses": [], "nodeName": "d" },
            ],
        });
        let slice: EndpointSlice = serde_json::from_value(slice).unwrap();
        let found = agents(&[slice], 32_767);
        let found: Vec<_> = found.iter().map(|(n, a)| format!("{n} {a}")).collect();
        assert_eq!(
            found,
            [
                "10.0.0.3 10.0.0.3:32767",
                "a 10.0.0.1:32767",
                "b [fd00::2]:32767"
            ]
        );
    }
}
