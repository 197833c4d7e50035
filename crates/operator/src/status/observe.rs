// SPDX-License-Identifier: Apache-2.0
//! Hears every agent, again and again, over connections that stay.
//!
//! What an agent said counts until it says something else, or has not answered for [`BELIEVED`]. An agent
//! that is gone from the endpoints is gone from the count. Why one does not answer is said once.

use super::{Digest, Nodes};
use gorget_k8s::Listeners;
use gorget_model::with_causes;
use gorget_telemetry::{Address, Client, ClientTls};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// How often every agent is asked.
pub(crate) const PERIOD: Duration = Duration::from_secs(15);
/// How long an answer may take, with the connection.
const LIMIT: Duration = Duration::from_secs(10);
/// How long an answer counts that no other followed: three questions in vain.
const BELIEVED: Duration = Duration::from_secs(50);
/// How many are asked at a time.
const AT_ONCE: usize = 16;

/// What is known of one agent.
#[derive(Debug, Default)]
struct Agent {
    address: String,
    client: Option<Client>,
    heard: Option<(Instant, Arc<Digest>)>,
    is_silent: bool,
}

/// All agents.
pub(crate) struct Observer {
    listeners: Listeners,
    tls: Option<Arc<ClientTls>>,
    agents: BTreeMap<String, Agent>,
    told: watch::Sender<Arc<Nodes>>,
    is_failing: bool,
}

impl Observer {
    pub(crate) fn new(
        listeners: Listeners,
        tls: Option<ClientTls>,
    ) -> (Self, watch::Receiver<Arc<Nodes>>) {
        let (told, nodes) = watch::channel(Arc::default());
        let observer = Self {
            listeners,
            tls: tls.map(Arc::new),
            agents: BTreeMap::new(),
            told,
            is_failing: false,
        };
        (observer, nodes)
    }

    /// For ever.
    pub(crate) async fn run(mut self) {
        loop {
            match self.listeners.list().await {
                Ok(found) => {
                    if std::mem::replace(&mut self.is_failing, false) {
                        tracing::info!("it is known again which agents there are");
                    }
                    self.compare(found);
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.is_failing, true) {
                        tracing::error!("it is not known which agents there are: {error}");
                    }
                }
            }
            self.ask().await;
            self.tell(Instant::now());
            tokio::time::sleep(PERIOD).await;
        }
    }

    fn compare(&mut self, found: BTreeMap<String, String>) {
        self.agents.retain(|node, _| found.contains_key(node));
        for (node, address) in found {
            let agent = self.agents.entry(node).or_default();
            if agent.address != address {
                agent.address = address;
                agent.client = None;
            }
        }
    }

    async fn ask(&mut self) {
        let places = Arc::new(Semaphore::new(AT_ONCE));
        let mut asked = JoinSet::new();
        for (node, agent) in &mut self.agents {
            let (places, tls) = (Arc::clone(&places), self.tls.clone());
            let (node, address) = (node.clone(), agent.address.clone());
            let client = agent.client.take();
            asked.spawn(async move {
                let _place = places.acquire_owned().await;
                let answer = timeout(LIMIT, status(&address, client, tls.as_deref())).await;
                let late = |_late| Err("it does not answer in time".to_owned());
                (node, answer.unwrap_or_else(late))
            });
        }
        while let Some(ended) = asked.join_next().await {
            if let Ok((node, answer)) = ended
                && let Some(agent) = self.agents.get_mut(&node)
            {
                agent.take(&node, answer);
            }
        }
    }

    fn tell(&self, now: Instant) {
        let nodes = self.agents.iter().map(|(node, agent)| {
            let heard = agent.heard.as_ref();
            let fresh = heard.filter(|(at, _)| now.saturating_duration_since(*at) < BELIEVED);
            (node.clone(), fresh.map(|(_, digest)| Arc::clone(digest)))
        });
        let nodes: Nodes = nodes.collect();
        self.told.send_if_modified(|told| {
            let is_news = **told != nodes;
            if is_news {
                *told = Arc::new(nodes);
            }
            is_news
        });
    }
}

impl Agent {
    fn take(&mut self, node: &str, answer: Result<(Client, Digest), String>) {
        match answer {
            Ok((client, digest)) => {
                self.client = Some(client);
                self.heard = Some((Instant::now(), Arc::new(digest)));
                if std::mem::replace(&mut self.is_silent, false) {
                    tracing::info!("the agent of `{node}` answers again");
                }
            }
            Err(why) => {
                if !std::mem::replace(&mut self.is_silent, true) {
                    tracing::warn!("the agent of `{node}`: {why}");
                }
            }
        }
    }
}

async fn status(
    address: &str,
    client: Option<Client>,
    tls: Option<&ClientTls>,
) -> Result<(Client, Digest), String> {
    let mut client = match client {
        Some(client) => client,
        None => {
            let address: Address = address.parse().map_err(|error| format!("{error}"))?;
            let connected = Client::connect_to(&address, tls).await;
            connected.map_err(|error| with_causes(&error))?
        }
    };
    match client.status().await {
        Ok(status) => Ok((client, Digest::of(status))),
        Err(status) => Err(format!(
            "it answers `{}`: {}",
            status.code(),
            status.message()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::store::Store;
    use gorget_engine::Backend;
    use gorget_telemetry::proto::v1;
    use gorget_telemetry::status::{Asked, Status};
    use gorget_telemetry::{Feeder, Services, bind};
    use tokio::sync::{mpsc, oneshot};

    fn observer() -> (Observer, watch::Receiver<Arc<Nodes>>) {
        let client = Store::default().client();
        let listeners = Listeners::new(client, "gorget", "gorget-agents".to_owned(), 1);
        Observer::new(listeners, None)
    }

    /// An agent behind a socket, until `stop`.
    async fn agent(listener: tokio::net::UnixListener, stop: oneshot::Receiver<()>) {
        let (asking, mut asked) = mpsc::channel(1);
        let (_state, state) = watch::channel(Arc::default());
        let services = Services::new(Feeder::new());
        let services = services.with_status(Status { asking, state });
        let answering = async move {
            while let Some(asked) = asked.recv().await {
                if let Asked::Status(answer) = asked {
                    let status = v1::AgentStatus {
                        backend: "bpf".to_owned(),
                        ..v1::AgentStatus::default()
                    };
                    drop(answer.send(status));
                }
            }
        };
        let stopped = async { stop.await.unwrap_or_default() };
        tokio::select! {
            served = services.serve(listener, stopped) => served.unwrap(),
            () = answering => {}
        }
    }

    #[test]
    fn what_an_agent_said_counts_until_it_has_not_answered_for_long() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("agent.sock");
        runtime.block_on(async {
            let (mut observer, nodes) = observer();
            let found = || [("a", &socket)].map(|(n, s)| (n.to_owned(), s.display().to_string()));
            observer.compare(found().into());
            observer.ask().await;
            observer.tell(Instant::now());
            assert_eq!(nodes.borrow().get("a"), Some(&None));
            let (stop, stopped) = oneshot::channel();
            let mut running = JoinSet::new();
            running.spawn(agent(bind(&socket).unwrap(), stopped));
            observer.ask().await;
            let heard = Instant::now();
            observer.tell(heard);
            let backends = super::super::backends(&nodes.borrow());
            assert_eq!(backends, [Backend::BpfLsm].into());
            stop.send(()).unwrap();
            while running.join_next().await.is_some() {}
            observer.ask().await;
            observer.tell(heard + BELIEVED / 2);
            assert!(nodes.borrow()["a"].is_some());
            observer.tell(heard + BELIEVED);
            assert!(nodes.borrow()["a"].is_none());
            observer.compare(BTreeMap::new());
            observer.tell(heard);
            assert!(nodes.borrow().is_empty());
        });
    }
}
