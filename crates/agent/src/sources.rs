// SPDX-License-Identifier: Apache-2.0
//! Where policies come from: the directory that people write, what clients applied, and the cluster.
//!
//! One task owns all, so that a change is put in force before the next is looked at. What clients
//! apply is answered when it is in force.

mod cluster;

use crate::cluster::Policies;
use crate::documents::documents;
use crate::enforcer::{Command, named};
use crate::policies::{PolicyDir, Scan};
use crate::report::Reporter;
use crate::store::{self, Store};
use anyhow::Context as _;
use cluster::ClusterPolicies;
use gorget_engine::{Backend, limits};
use gorget_policy::Policy;
use gorget_telemetry::policies::Asked;
use gorget_telemetry::proto::v1::{GetRequest, Given, Limit, PolicyName, PolicyState, Refused};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// How long the directory must be quiet before it is read: an editor's write is several events.
const SETTLE: Duration = Duration::from_millis(50);
/// Below the state directory: what clients applied, and what files said last.
const APPLIED: &str = "policies";
const LAST_GOOD: &str = "last-good";
/// Where a policy comes from, as it is told.
const DIRECTORY: &str = "directory";
const APPLIED_BY_CLIENT: &str = "applied";
const CLUSTER: &str = "cluster";

/// All policies, by where they come from.
#[derive(Debug)]
pub(crate) struct Sources {
    dir: PolicyDir,
    applied: PolicyDir,
    cluster: ClusterPolicies,
    clusters: watch::Receiver<Arc<Policies>>,
    store: Store,
    commands: Sender<Command>,
    reporter: Reporter,
    told: watch::Sender<Arc<Told>>,
    /// Whose limits are told.
    backend: Backend,
}

/// What there is, for those who ask.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// Without how many workloads they are for.
    pub(crate) policies: Vec<PolicyState>,
    pub(crate) refused: Vec<Refused>,
    /// Documents of policies that are in no file.
    pub(crate) texts: Vec<(PolicyName, String)>,
}

impl Sources {
    /// Puts in force what is there.
    pub(crate) async fn start(
        policy_dir: PathBuf,
        state_dir: &Path,
        commands: Sender<Command>,
        reporter: Reporter,
        (backend, clusters): (Backend, watch::Receiver<Arc<Policies>>),
    ) -> anyhow::Result<Self> {
        let (applied, copies) = (state_dir.join(APPLIED), state_dir.join(LAST_GOOD));
        let making = || {
            format!(
                "making directories in `{}` (`stateDir`)",
                state_dir.display()
            )
        };
        let store = Store::open(applied.clone()).with_context(making)?;
        let mut sources = Self {
            dir: PolicyDir::keeping(policy_dir, copies).with_context(making)?,
            applied: PolicyDir::new(applied),
            cluster: ClusterPolicies::default(),
            clusters,
            store,
            commands,
            reporter,
            told: watch::Sender::default(),
            backend,
        };
        sources.look().await?;
        Ok(sources)
    }

    /// What there is, now and later.
    pub(crate) fn told(&self) -> watch::Receiver<Arc<Told>> {
        self.told.subscribe()
    }

    /// Follows changes of the directory and answers clients until both are gone.
    pub(crate) async fn follow(
        mut self,
        mut changes: mpsc::Receiver<()>,
        mut asked: mpsc::Receiver<Asked>,
    ) {
        loop {
            let looked = tokio::select! {
                Some(()) = changes.recv() => {
                    while let Ok(Some(())) = tokio::time::timeout(SETTLE, changes.recv()).await {}
                    self.look().await
                }
                Some(asked) = asked.recv() => self.answer(asked).await,
                Ok(()) = self.clusters.changed() => self.look().await,
                else => break,
            };
            if let Err(error) = looked {
                self.reporter.error(format!("{error:#}"));
            }
        }
        // Nobody asks, nothing is noticed: what is in force stays.
        std::future::pending::<()>().await;
    }

    async fn answer(&mut self, asked: Asked) -> anyhow::Result<()> {
        // Whoever asked may have stopped waiting: then nobody gets the answer.
        match asked {
            Asked::Apply(request, answer) => {
                let applied = self.store.apply(&request);
                self.look().await?;
                drop(answer.send(applied));
            }
            Asked::Delete(policy, answer) => {
                let deleted = self.store.delete(&policy);
                self.look().await?;
                drop(answer.send(deleted));
            }
            Asked::Event(kind, event, answer) => {
                let (status, why) = self.store.event(kind, &event);
                if let Some(why) = why {
                    let status = status.as_str_name();
                    self.reporter
                        .warn(format!("a client's {kind}, status `{status}`: {why}"));
                }
                self.look().await?;
                let (Ok(()) | Err(_)) = answer.send(status);
            }
            Asked::Get(request, answer) => drop(answer.send(self.given(&request))),
            Asked::List(answer) => {
                let all = self.dir.by_file().chain(self.applied.by_file());
                let cluster = self.cluster.all();
                let cluster = cluster.map(|(_, policy)| (Path::new(CLUSTER), policy));
                let all = all.chain(cluster);
                let listed = all.map(|(file, policy)| store::listed(policy, file));
                drop(answer.send(listed.collect()));
            }
        }
        Ok(())
    }

    /// Policies of a name, as they were given.
    fn given(&self, request: &GetRequest) -> Vec<Given> {
        let origins = [(&self.dir, DIRECTORY), (&self.applied, APPLIED_BY_CLIENT)];
        let given = origins.into_iter().flat_map(|(dir, origin)| {
            let asked = dir
                .by_file()
                .filter(|(_, policy)| is_asked_for(request, policy));
            asked.map(move |(file, policy)| {
                let (text, generation) = dir.given(file).unwrap_or_default();
                Given {
                    policy: Some(store::listed(policy, file)),
                    origin: origin.to_owned(),
                    generation,
                    text: text_of(text, policy),
                }
            })
        });
        let cluster = self.cluster.all();
        let cluster = cluster.filter(|(_, policy)| is_asked_for(request, policy));
        let cluster = cluster.map(|(object, policy)| Given {
            policy: Some(store::listed(policy, Path::new(CLUSTER))),
            origin: CLUSTER.to_owned(),
            generation: u64::try_from(object.generation).unwrap_or_default(),
            text: object.text.clone(),
        });
        given.chain(cluster).collect()
    }

    /// Looks at everything, and waits until what changed is in force.
    async fn look(&mut self) -> anyhow::Result<()> {
        let cluster = Arc::clone(&self.clusters.borrow_and_update());
        let scans = [
            self.dir.scan(),
            self.applied.scan(),
            self.cluster.set(&cluster),
        ];
        let changed = scans.iter().any(|scan| scan.changed);
        for scan in scans {
            self.report(scan);
        }
        if changed {
            let all = self.dir.by_file().chain(self.applied.by_file());
            let all = all.map(|(_, policy)| policy);
            let all = all.chain(self.cluster.all().map(|(_, policy)| policy));
            let policies = all.cloned().collect();
            self.commands
                .send(Command::Policies(policies))
                .context("the enforcer ended")?;
        }
        self.tell();
        let (told, done) = oneshot::channel();
        self.commands
            .send(Command::Done(told))
            .context("the enforcer ended")?;
        done.await.context("the enforcer ended")
    }

    /// Tells those who ask, if anything is different.
    fn tell(&self) {
        let state = |policy: &Arc<Policy>| PolicyState {
            policy: Some(named(policy)),
            limits: limits(self.backend, policy)
                .into_iter()
                .map(|limit| Limit {
                    what: limit.what.to_string(),
                    count: u32::try_from(limit.count).unwrap_or(u32::MAX),
                    reason: limit.reason.to_owned(),
                    line: limit.at.map_or(0, |at| at.line),
                })
                .collect(),
            ..PolicyState::default()
        };
        let origins = [(&self.dir, DIRECTORY), (&self.applied, APPLIED_BY_CLIENT)];
        let of_files = origins.into_iter().flat_map(|(dir, origin)| {
            dir.by_file().map(move |(file, policy)| {
                let (_, generation) = dir.given(file).unwrap_or_default();
                PolicyState {
                    file: file.display().to_string(),
                    origin: origin.to_owned(),
                    generation: i64::try_from(generation).unwrap_or(i64::MAX),
                    ..state(policy)
                }
            })
        });
        let of_cluster = self.cluster.all().map(|(object, policy)| PolicyState {
            file: CLUSTER.to_owned(),
            origin: CLUSTER.to_owned(),
            generation: object.generation,
            uid: object.uid.clone(),
            ..state(policy)
        });
        let policies = of_files.chain(of_cluster).collect();
        let texts = self.cluster.all();
        let mut refused = self.dir.refused();
        refused.extend(self.applied.refused());
        refused.extend(self.cluster.refused());
        let told = Told {
            policies,
            refused,
            texts: texts
                .map(|(object, policy)| (named(policy), object.text.clone()))
                .collect(),
        };
        self.told.send_replace(Arc::new(told));
    }

    fn report(&self, scan: Scan) {
        let reporter = &self.reporter;
        scan.notes.into_iter().for_each(|note| reporter.info(note));
        for warning in scan.warnings {
            reporter.warn(warning);
        }
        for problem in scan.problems {
            reporter.error(problem);
        }
    }
}

fn is_asked_for(request: &GetRequest, policy: &Policy) -> bool {
    let GetRequest {
        name,
        kind,
        namespace,
    } = request;
    policy.name == *name
        && (kind.is_empty() || policy.kind.name() == kind)
        && (namespace.is_empty() || policy.namespace.as_ref() == Some(namespace))
}

/// The document of a policy in its file's text; the whole text where it cannot be cut.
fn text_of(text: &str, policy: &Policy) -> String {
    let documents = documents(text).unwrap_or_default();
    let document = documents.iter().find(|(_, said)| {
        let described = store::described(said);
        described.kind == policy.kind.name()
            && described.name == policy.name
            && described.namespace == policy.namespace.as_deref().unwrap_or_default()
    });
    document.map_or(text, |(document, _)| document).to_owned()
}

/// Watches a policy directory. Without it changes are not noticed, and that is said.
pub(crate) fn watch(
    dir: &Path,
    reporter: &Reporter,
) -> (Option<RecommendedWatcher>, mpsc::Receiver<()>) {
    let (changed, changes) = mpsc::channel(1);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading the directory raises access events: they are not changes. A full channel means
        // that a look at the directory is due already.
        if !matches!(&event, Ok(event) if event.kind.is_access()) && changed.try_send(()).is_err() {
            tracing::trace!("a look at the policy directory is due already");
        }
    })
    .and_then(|mut watcher| {
        watcher.watch(dir, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    match watcher {
        Ok(watcher) => (Some(watcher), changes),
        Err(error) => {
            reporter.error(format!(
                "changes in `{}` will not be noticed: {error}; create it and restart",
                dir.display()
            ));
            (None, changes)
        }
    }
}
