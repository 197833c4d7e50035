// SPDX-License-Identifier: Apache-2.0
//! Follows every agent that there is.
//!
//! Each has a task and a connection of its own. When an agent goes and comes again, by its node's name, it
//! is followed from the last event on. Why it is not followed now is kept for metrics and said once.

use crate::hub::Hub;
use crate::resolve::{Agents, Resolve};
use gorget_telemetry::{Address, ClientTls, ConnectError, Following, Heard, Marks, Sorts};
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

/// What was heard of one agent and not handed on yet; handing on does not wait.
const QUEUE: usize = 16;
/// After an agent refused, which a new version may not.
const AFTER_REFUSAL: Duration = Duration::from_secs(60);
/// Agents that are gone of which is known how far they were heard.
const MAX_GONE: usize = 4_096;

/// How agents are followed.
#[derive(Clone, Debug)]
pub struct FleetSettings {
    /// Certificates.
    pub tls: Option<Arc<ClientTls>>,
    /// What of them.
    pub sorts: Sorts,
    /// From when on an agent is asked that was not followed before, such as `5m`.
    pub since: String,
}

/// The agents that are followed. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    agents: BTreeMap<String, Agent>,
    gone: BTreeMap<String, Marks>,
    /// Why it is not known which agents there are.
    unresolved: Option<String>,
    reconnects: u64,
}

#[derive(Debug)]
struct Agent {
    address: Address,
    marks: Marks,
    task: AbortHandle,
    is_connected: bool,
}

/// How the fleet fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Agents that there are.
    pub agents: usize,
    /// Those that are followed now.
    pub connected: usize,
    /// Connections that were made, all together.
    pub connections: u64,
    /// Why it is not known now which agents there are.
    pub unresolved: Option<String>,
}

impl Fleet {
    /// Follows for ever.
    pub async fn run(&self, mut resolve: impl Resolve, settings: FleetSettings, hub: Hub) {
        let mut tasks = JoinSet::new();
        loop {
            let found = tokio::select! {
                found = resolve.next() => found,
                // Ended ones are taken off, lest they pile up.
                Some(_) = tasks.join_next() => continue,
            };
            match found {
                Ok(agents) => {
                    if self.lock().unresolved.take().is_some() {
                        tracing::info!("it is known again which agents there are");
                    }
                    self.compare(agents, &settings, &hub, &mut tasks);
                }
                Err(why) => {
                    if self.lock().unresolved.replace(why.clone()).is_none() {
                        tracing::error!("it is not known which agents there are: {why}");
                    }
                }
            }
        }
    }

    /// How it fares.
    pub fn standing(&self) -> Standing {
        let shared = self.lock();
        Standing {
            agents: shared.agents.len(),
            connected: shared.agents.values().filter(|it| it.is_connected).count(),
            connections: shared.reconnects,
            unresolved: shared.unresolved.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Whole after every statement that has it locked.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn compare(&self, found: Agents, settings: &FleetSettings, hub: &Hub, tasks: &mut JoinSet<()>) {
        let mut shared = self.lock();
        let shared = &mut *shared;
        let is_there = |name: &String, agent: &mut Agent| found.get(name) == Some(&agent.address);
        let left: Vec<_> = shared
            .agents
            .extract_if(.., |n, a| !is_there(n, a))
            .collect();
        for (name, agent) in left {
            agent.task.abort();
            shared.gone.insert(name, agent.marks);
        }
        for (name, address) in found {
            if shared.agents.contains_key(&name) {
                continue;
            }
            let marks = shared.gone.remove(&name).unwrap_or_default();
            let following = Following {
                address: address.clone(),
                tls: settings.tls.clone(),
                sorts: settings.sorts,
                filter: "all".to_owned(),
                since: Some(settings.since.clone()),
                is_expected: true,
                explain: unreachable_because,
            };
            let one = One {
                fleet: self.clone(),
                hub: hub.clone(),
                name: name.clone(),
            };
            let task = tasks.spawn(one.follow(following, marks.clone()));
            let agent = Agent {
                address,
                marks,
                task,
                is_connected: false,
            };
            shared.agents.insert(name, agent);
        }
        while shared.gone.len() > MAX_GONE {
            shared.gone.pop_first();
        }
    }
}

fn unreachable_because(_address: &Address, error: &ConnectError) -> String {
    let mut last: &dyn Error = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    format!("{error}: {last}")
}

/// One agent that is followed.
struct One {
    fleet: Fleet,
    hub: Hub,
    name: String,
}

impl One {
    async fn follow(self, following: Following, marks: Marks) {
        loop {
            let (out, heard) = mpsc::channel(QUEUE);
            let run = following.clone().run(marks.clone(), out);
            tokio::join!(run, self.take(heard));
            tokio::time::sleep(AFTER_REFUSAL).await;
        }
    }

    async fn take(&self, mut heard: mpsc::Receiver<Heard>) {
        let mut is_said = false;
        while let Some(heard) = heard.recv().await {
            match heard {
                Heard::Event(event) => self.hub.publish(event),
                Heard::Connected(said) => {
                    tracing::info!("{}: {said}", self.name);
                    is_said = false;
                    self.connected(true);
                }
                Heard::Said(why) | Heard::Failed(why) => {
                    if !std::mem::replace(&mut is_said, true) {
                        tracing::warn!("{}: {why}", self.name);
                    }
                    self.connected(false);
                }
            }
        }
    }

    fn connected(&self, is_connected: bool) {
        let mut shared = self.fleet.lock();
        shared.reconnects += u64::from(is_connected);
        if let Some(agent) = shared.agents.get_mut(&self.name) {
            agent.is_connected = is_connected;
        }
    }
}
