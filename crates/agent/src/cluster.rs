// SPDX-License-Identifier: Apache-2.0
//! The cluster that the node is in: what its API server says is put together, kept on disk, and handed to
//! who acts on it.
//!
//! The enforcer gets what is known of pods, namespaces and the node as one value that is replaced; the
//! sources of policies get all policies. Both have what an earlier agent knew before the server is asked
//! for the first time, so that a restart needs no server.
//!
//! Failure: a server that is away, or refuses, changes nothing; it is told, counted, and asked again. A
//! state on disk that cannot be read is told and counts as none.

mod settings;

pub(crate) use settings::{ClusterSettings, KubernetesSpec, KubernetesSpecError};

use crate::durable;
use crate::enforcer::{Command, lock};
use crate::report::Reporter;
use crate::throttle::Limit;
use gorget_k8s::{Connection, Index, Kept, PolicyKey, PolicyObject, Seen, Touched, Trouble};
use gorget_k8s::{Watched, Watching, connect, watch};
use gorget_model::Node;
use gorget_model::with_causes;
use gorget_observe::Tracker;
use gorget_telemetry::proto::v1;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{fs, io};
use tokio::sync::{mpsc, watch as channel};
use tokio::time::{Instant, sleep, sleep_until};

/// Below the state directory.
const FILE: &str = "cluster.json";
/// The file is written no more often.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// Larger states are not ours: 500 pods and 1,000 policies are a few megabytes.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// Until what says where the server is is looked at again.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// All policies of the cluster.
pub(crate) type Policies = BTreeMap<PolicyKey, Arc<PolicyObject>>;

/// What others learn of the cluster, now and later.
#[derive(Clone, Debug)]
pub(crate) struct Heard {
    pub(crate) policies: channel::Receiver<Arc<Policies>>,
    /// Absent when no cluster is followed.
    pub(crate) known: channel::Receiver<Option<Arc<Index>>>,
    pub(crate) status: channel::Receiver<Option<v1::Cluster>>,
    /// From when on alerts are only counted.
    pub(crate) throttle: channel::Receiver<Option<Limit>>,
}

/// What the agent says to others of the cluster.
#[derive(Debug)]
struct Telling {
    policies: channel::Sender<Arc<Policies>>,
    known: channel::Sender<Option<Arc<Index>>>,
    status: channel::Sender<Option<v1::Cluster>>,
    throttle: channel::Sender<Option<Limit>>,
}

impl Telling {
    fn new(throttle: Option<Limit>) -> (Self, Heard) {
        let (policies, policies_heard) = channel::channel(Arc::default());
        let (known, known_heard) = channel::channel(None);
        let (status, status_heard) = channel::channel(None);
        let (throttle, throttle_heard) = channel::channel(throttle);
        let heard = Heard {
            policies: policies_heard,
            known: known_heard,
            status: status_heard,
            throttle: throttle_heard,
        };
        let telling = Self {
            policies,
            known,
            status,
            throttle,
        };
        (telling, heard)
    }
}

/// What others learn when no cluster is followed.
pub(crate) fn none(throttle: Option<Limit>) -> Heard {
    Telling::new(throttle).1
}

/// What must be known to follow a cluster.
#[derive(Debug)]
pub(crate) struct Setup {
    pub(crate) settings: ClusterSettings,
    pub(crate) state_dir: PathBuf,
    pub(crate) commands: Sender<Command>,
    pub(crate) reporter: Reporter,
    pub(crate) tracker: Arc<Mutex<Tracker>>,
    /// Of events, unless a ConfigMap says how the cluster is called.
    pub(crate) node: Arc<Node>,
    /// Unless a ConfigMap says otherwise.
    pub(crate) throttle: Option<Limit>,
}

/// Follows the cluster.
#[derive(Debug)]
pub(crate) struct Cluster {
    setup: Setup,
    index: Index,
    file: PathBuf,
    telling: Telling,
    server: String,
    /// Kinds about which the server does not answer.
    silent: BTreeSet<Watched>,
    interruptions: u64,
    /// Why there is no way to the server.
    unreachable: Option<String>,
    /// When what is on disk is to be what is known.
    write_at: Option<Instant>,
    unwritten: Option<String>,
}

impl Cluster {
    /// Hands on what an earlier agent knew.
    pub(crate) fn start(setup: Setup) -> (Self, Heard) {
        let (telling, heard) = Telling::new(setup.throttle);
        let file = setup.state_dir.join(FILE);
        let mut index = Index::new(setup.settings.untracked.clone());
        match read(&file) {
            Ok(Some(kept)) => index = index.restored(kept),
            Ok(None) => {}
            Err(reason) => setup.reporter.error(format!(
                "what was known of the cluster is not known any more: `{}`: {reason}",
                file.display()
            )),
        }
        let mut cluster = Self {
            setup,
            index,
            file,
            telling,
            server: String::new(),
            silent: BTreeSet::new(),
            interruptions: 0,
            unreachable: None,
            write_at: None,
            unwritten: None,
        };
        let (pods, policies) = (cluster.index.pods().count(), cluster.index.policies().len());
        if pods + policies > 0 {
            cluster.setup.reporter.info(format!(
                "known from before: {pods} pods of this node and {policies} policies of the cluster"
            ));
        }
        cluster.tell(Touched {
            workloads: true,
            policies: true,
            settings: true,
            ..Touched::default()
        });
        (cluster, heard)
    }

    /// Follows the server for as long as the agent runs.
    pub(crate) async fn follow(mut self) {
        let Connection {
            client,
            namespace,
            server,
        } = self.connection().await;
        self.server = server;
        self.unreachable = None;
        let watching = Watching {
            node: self.setup.settings.node.clone(),
            namespace,
        };
        let (seen, following) = watch(client, &watching);
        self.tell_status();
        tokio::select! {
            () = following => {}
            () = self.take_all(seen) => {}
        }
        // Neither ends.
        std::future::pending::<()>().await;
    }

    async fn connection(&mut self) -> Connection {
        loop {
            let reason = match connect(&self.setup.settings.access).await {
                Ok(connection) => return connection,
                Err(error) => with_causes(&error),
            };
            if self.unreachable.as_ref() != Some(&reason) {
                self.setup.reporter.error(format!(
                    "the API server cannot be asked, what was known of the cluster counts: {reason}"
                ));
                self.unreachable = Some(reason);
                self.tell_status();
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn take_all(&mut self, mut seen: mpsc::Receiver<Seen>) {
        loop {
            let write_at = self.write_at;
            let due = async {
                match write_at {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                next = seen.recv() => {
                    let Some(next) = next else { return };
                    let mut touched = self.take(next);
                    // What comes at once is acted on once.
                    while let Ok(next) = seen.try_recv() {
                        touched.and(self.take(next));
                    }
                    self.tell(touched);
                }
                () = due => self.write(),
            }
        }
    }

    fn take(&mut self, seen: Seen) -> Touched {
        match &seen {
            Seen::Away { what, trouble } => self.away(what, trouble),
            Seen::Connected { what } => self.back(what),
            Seen::Listed { .. }
            | Seen::Changed { .. }
            | Seen::Gone { .. }
            | Seen::Unreadable { .. } => {}
        }
        self.index.see(seen)
    }

    fn away(&mut self, what: &Watched, trouble: &Trouble) {
        let reporter = &self.setup.reporter;
        match trouble {
            Trouble::NotInstalled => reporter.info(format!(
                "the cluster has no {what}; they are looked for until it has"
            )),
            Trouble::Refused { .. } => reporter.error(format!(
                "the API server refuses to tell of {what}: {trouble}"
            )),
            Trouble::Unanswered { .. } => {
                // Once for all kinds.
                if self.silent.is_empty() {
                    self.interruptions += 1;
                    reporter.warn(format!(
                        "the API server does not answer, what was known of the cluster counts: {what}: \
                         {trouble}"
                    ));
                }
                self.silent.insert(what.clone());
            }
        }
    }

    fn back(&mut self, what: &Watched) {
        if self.silent.remove(what) && self.silent.is_empty() {
            self.setup.reporter.info("the API server answers again");
        }
    }

    /// Hands on what is different.
    fn tell(&mut self, touched: Touched) {
        let reporter = &self.setup.reporter;
        for problem in &touched.problems {
            reporter.warn(format!("cluster: {problem}"));
        }
        if touched.any() {
            self.write_at
                .get_or_insert_with(|| Instant::now() + WRITE_INTERVAL);
        }
        if touched.settings {
            self.tell_settings();
        }
        let index = Arc::new(self.index.clone());
        if touched.workloads {
            let command = Command::Cluster(Arc::clone(&index));
            // It ends only with the agent.
            drop(self.setup.commands.send(command));
        }
        // Whoever waits for a pod knows that the enforcer has been told of it.
        self.telling.known.send_replace(Some(index));
        if touched.policies {
            let policies = Arc::new(self.index.policies().clone());
            self.telling.policies.send_replace(policies);
        }
        self.tell_status();
    }

    fn tell_settings(&self) {
        let settings = self.index.settings();
        let otherwise = &self.setup.throttle;
        let number = |said: Option<u32>, configured: Option<u32>, default: u32| {
            said.or(configured).unwrap_or(default)
        };
        let is_on = settings.throttling.unwrap_or_else(|| otherwise.is_some());
        let limit = is_on.then(|| Limit {
            max_per_second: number(
                settings.max_alert_per_sec,
                otherwise.map(|limit| limit.max_per_second),
                Limit::DEFAULT.max_per_second,
            ),
            seconds: number(
                settings.throttle_sec,
                otherwise.map(|limit| limit.seconds),
                Limit::DEFAULT.seconds,
            ),
        });
        self.telling.throttle.send_replace(limit);
        let node = &self.setup.node;
        let cluster = settings.cluster.as_ref().unwrap_or(&node.cluster);
        let node = Node {
            cluster: cluster.clone(),
            ..Node::clone(node)
        };
        lock(&self.setup.tracker).is_on(Arc::new(node));
    }

    fn tell_status(&self) {
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let troubles = self.unreachable.iter().cloned();
        let troubles = troubles.chain(self.unwritten.iter().cloned());
        let status = v1::Cluster {
            server: self.server.clone(),
            node: self.setup.settings.node.clone(),
            current: self.index.is_current(),
            troubles: troubles.chain(self.index.troubles()).collect(),
            not_installed: self
                .index
                .not_installed()
                .map(ToString::to_string)
                .collect(),
            pods: count(self.index.pods().count()),
            policies: count(self.index.policies().len()),
            interruptions: self.interruptions,
        };
        self.telling.status.send_if_modified(|told| {
            let status = Some(status);
            let is_new = *told != status;
            *told = status;
            is_new
        });
    }

    /// Has on disk what is known. What cannot be written is tried again when something is different.
    fn write(&mut self) {
        self.write_at = None;
        let failed = self.write_file().err().map(|error| {
            let file = self.file.display();
            format!("cannot keep `{file}`, a restart without the API server needs it: {error}")
        });
        if self.unwritten != failed {
            if let Some(why) = &failed {
                self.setup.reporter.error(why.clone());
            }
            self.unwritten = failed;
            self.tell_status();
        }
    }

    fn write_file(&self) -> io::Result<()> {
        durable::make(&self.setup.state_dir)?;
        let text = serde_json::to_vec(&self.index.keep())?;
        durable::write(&self.file, &text)
    }
}

/// What an earlier agent knew.
fn read(file: &Path) -> Result<Option<Kept>, String> {
    let bytes = match fs::metadata(file) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    if bytes > MAX_FILE_BYTES {
        return Err(format!("it has {bytes} bytes, which is too much"));
    }
    let text = fs::read(file).map_err(|error| error.to_string())?;
    let kept = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    Ok(Some(kept))
}

#[cfg(test)]
mod tests;
