// SPDX-License-Identifier: Apache-2.0
//! Which agents there are: [`Resolve`], from a list or from the API server.
//!
//! In a cluster agents are the endpoints of a service, which are asked for every [`PERIOD`].

use gorget_k8s::Listeners;
use gorget_telemetry::Address;
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

/// How often the API server is asked.
const PERIOD: Duration = Duration::from_secs(10);

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
#[derive(Debug)]
pub struct Kubernetes {
    listeners: Listeners,
    has_asked: bool,
}

impl Kubernetes {
    /// Agents behind a service.
    pub fn new(listeners: Listeners) -> Self {
        Self {
            listeners,
            has_asked: false,
        }
    }
}

impl Resolve for Kubernetes {
    async fn next(&mut self) -> Result<Agents, String> {
        if std::mem::replace(&mut self.has_asked, true) {
            tokio::time::sleep(PERIOD).await;
        }
        let found = self.listeners.list().await;
        let found = found.map_err(|error| error.to_string())?.into_iter();
        Ok(found
            .filter_map(|(node, address)| Some((node, address.parse().ok()?)))
            .collect())
    }
}
