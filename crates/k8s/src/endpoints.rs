// SPDX-License-Identifier: Apache-2.0
//! Where the agents of a cluster listen: the endpoints of a service.
//!
//! Those that are not ready count as well: an agent that cannot put something in force is not ready and has
//! the more to tell. A list is answered from the server's cache: a thousand agents are ten objects.

use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::Client;
use kube::api::{Api, ListParams};
use std::collections::BTreeMap;

/// The label that Kubernetes gives to slices.
const SERVICE: &str = "kubernetes.io/service-name";

/// The endpoints of a service, on one port each.
pub struct Listeners {
    slices: Api<EndpointSlice>,
    service: String,
    port: u16,
}

impl std::fmt::Debug for Listeners {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listeners")
            .field("service", &self.service)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

/// It is not known who listens.
#[derive(Debug, thiserror::Error)]
#[error("the endpoints of `{service}`: {source}")]
pub struct EndpointsError {
    service: String,
    source: kube::Error,
}

impl Listeners {
    /// Whoever is behind a service.
    pub fn new(client: Client, namespace: &str, service: String, port: u16) -> Self {
        Self {
            slices: Api::namespaced(client, namespace),
            service,
            port,
        }
    }

    /// Host and port of each by the name of its node; by its address where that is not known.
    ///
    /// # Errors
    ///
    /// When the server does not answer, or refuses.
    pub async fn list(&self) -> Result<BTreeMap<String, String>, EndpointsError> {
        let wanted = ListParams::default()
            .labels(&format!("{SERVICE}={}", self.service))
            .match_any();
        match self.slices.list(&wanted).await {
            Ok(slices) => Ok(listeners(&slices.items, self.port)),
            Err(source) => Err(EndpointsError {
                service: self.service.clone(),
                source,
            }),
        }
    }
}

fn listeners(slices: &[EndpointSlice], port: u16) -> BTreeMap<String, String> {
    let endpoints = slices.iter().flat_map(|slice| &slice.endpoints);
    let named = endpoints.filter_map(|endpoint| {
        let address = endpoint.addresses.first()?;
        let listener = match address.contains(':') {
            true => format!("[{address}]:{port}"),
            false => format!("{address}:{port}"),
        };
        let name = endpoint.node_name.as_ref().unwrap_or(address);
        Some((name.clone(), listener))
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
        let found = listeners(&[slice], 32_767);
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
