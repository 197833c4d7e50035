// SPDX-License-Identifier: Apache-2.0
//! Follows policies, and writes their statuses when this replica is the one that writes.
//!
//! INVARIANT: a status is written when it is to say something else, and for the same version of a policy not
//! sooner than [`GAP`] after the last time. So a roll-out of agents costs a policy a few writes, and not
//! one for each node. A version that nobody spoke of yet is written at once.
//!
//! Before it is written an object is read: what another replica wrote before is not written again. A status that
//! the server refuses is counted, and tried again like one that is to say something else; it keeps no other
//! policy waiting. Who waits longest is first.

use super::render::render;
use super::{Nodes, Wanted, aggregate};
use crate::admission::{Judged, Verdict, judge_text};
use crate::api::{AskError, Objects, Written};
use crate::counts::Counts;
use crate::lease::hold::Leading;
use gorget_k8s::{Key, Object, PolicyKey, PolicyObject, PolicyResource, Seen, Watched};
use gorget_telemetry::utc;
use kube::Client;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Between two writes about one version of a policy.
const GAP: Duration = Duration::from_secs(20);
/// How often what is to be said is worked out anew; for a thousand policies and a thousand nodes it is a
/// million look-ups.
const PERIOD: Duration = Duration::from_secs(5);
/// Sooner than that not even for policies that changed, so that many at once are one round.
const SOON: Duration = Duration::from_millis(200);
/// Writes in one round; the others follow in the next.
const MOST_WRITES: usize = 100;

/// One policy.
#[derive(Debug)]
struct Followed {
    object: PolicyObject,
    judged: Judged,
    said: Option<Said>,
}

/// What was written last, by this replica or another, or was refused.
#[derive(Debug)]
struct Said {
    wanted: Wanted,
    uid: String,
    at: Instant,
    is_written: bool,
}

/// Policies, and what was said of them.
pub(crate) struct Writer {
    client: Client,
    policies: BTreeMap<PolicyKey, Followed>,
    leading: Leading,
    counts: Arc<Counts>,
    is_failing: bool,
    named: watch::Sender<Arc<Named>>,
}

/// Containers that policies name, by namespace.
pub(crate) type Named = BTreeMap<String, BTreeSet<String>>;

impl Writer {
    pub(crate) fn new(client: Client, leading: Leading, counts: Arc<Counts>) -> Self {
        Self {
            client,
            policies: BTreeMap::new(),
            leading,
            counts,
            is_failing: false,
            named: watch::Sender::default(),
        }
    }

    /// Which containers policies name, whether this replica writes or not.
    pub(crate) fn named(&self) -> watch::Receiver<Arc<Named>> {
        self.named.subscribe()
    }

    fn tell_named(&self) {
        let mut named = Named::new();
        for (name, followed) in &self.policies {
            let containers = followed.judged.containers.iter().cloned();
            let of = named.entry(name.key.namespace.clone()).or_default();
            of.extend(containers);
        }
        named.retain(|_, containers| !containers.is_empty());
        self.named.send_if_modified(|told| {
            let is_news = **told != named;
            if is_news {
                *told = Arc::new(named);
            }
            is_news
        });
    }

    /// Until nothing is seen any more. `now`: microseconds since 1970.
    pub(crate) async fn run(
        mut self,
        mut seen: mpsc::Receiver<Seen>,
        nodes: watch::Receiver<Arc<Nodes>>,
        now: impl Fn() -> i64,
    ) {
        let mut next = Instant::now() + PERIOD;
        loop {
            tokio::select! {
                heard = seen.recv() => match heard {
                    Some(heard) => {
                        if self.take(heard) {
                            next = next.min(Instant::now() + SOON);
                        }
                    }
                    None => return,
                },
                () = tokio::time::sleep_until(next) => {
                    self.tell_named();
                    let nodes = Arc::clone(&nodes.borrow());
                    self.round(&nodes, &utc(now())).await;
                    next = Instant::now() + PERIOD;
                }
            }
        }
    }

    /// Whether something about a policy changed.
    pub(crate) fn take(&mut self, seen: Seen) -> bool {
        match seen {
            Seen::Listed {
                what: Watched::Policies(resource),
                objects,
                unreadable,
            } => {
                let stays = |key: &Key| {
                    objects.iter().any(|it| it.key() == *key) || unreadable.contains(key)
                };
                self.policies
                    .retain(|name, _| name.resource != resource || stays(&name.key));
                for object in objects {
                    self.put(object);
                }
                true
            }
            Seen::Changed { object, .. } => self.put(object),
            Seen::Gone {
                what: Watched::Policies(resource),
                key,
            } => {
                self.policies.remove(&PolicyKey { resource, key });
                false
            }
            Seen::Unreadable { what, key, reason } => {
                let key = key.map(|key| key.to_string()).unwrap_or_default();
                tracing::warn!("{what}: `{key}` cannot be read: {reason}");
                false
            }
            Seen::Away { what, trouble } => {
                tracing::warn!("{what}: {trouble}");
                false
            }
            Seen::Listed { .. } | Seen::Gone { .. } | Seen::Connected { .. } => false,
        }
    }

    fn put(&mut self, object: Object) -> bool {
        let Object::Policy(object) = object else {
            return false;
        };
        let before = self.policies.remove(&object.name);
        let (judged, said, is_news) = match before {
            // A status that was written comes back as a change.
            Some(before) if before.object == object => (before.judged, before.said, false),
            before => (
                judge_text(&object.text, &Verdict::errors_only()),
                before.and_then(|before| before.said),
                true,
            ),
        };
        let followed = Followed {
            object,
            judged,
            said,
        };
        self.policies.insert(followed.object.name.clone(), followed);
        is_news
    }

    /// Writes what is due.
    pub(crate) async fn round(&mut self, nodes: &Nodes, now: &str) {
        let mut due: Vec<_> = self
            .policies
            .values_mut()
            .filter_map(|followed| {
                let wanted = aggregate(&followed.object, &followed.judged, nodes);
                let is_due = followed.is_due(&wanted, Instant::now());
                is_due.then_some((followed, wanted))
            })
            .collect();
        due.sort_by_key(|(followed, _)| followed.said.as_ref().map(|said| said.at));
        for (followed, wanted) in due.into_iter().take(MOST_WRITES) {
            if !self.leading.now() {
                return;
            }
            let written = write(&self.client, &followed.object, &wanted, now).await;
            self.counts.status(written.is_ok());
            let is_written = match written {
                Ok(()) => {
                    self.is_failing = false;
                    true
                }
                Err(error) => {
                    if !std::mem::replace(&mut self.is_failing, true) {
                        tracing::warn!("the status of {}: {error}", followed.object.name);
                    }
                    if !error.is_refusal() {
                        // The next one would not be heard either.
                        return;
                    }
                    false
                }
            };
            followed.said = Some(Said {
                wanted,
                uid: followed.object.uid.clone(),
                at: Instant::now(),
                is_written,
            });
        }
    }
}

impl Followed {
    fn is_due(&self, wanted: &Wanted, now: Instant) -> bool {
        let Some(said) = &self.said else { return true };
        let is_of_this =
            said.uid == self.object.uid && said.wanted.generation == self.object.generation;
        match is_of_this {
            true => {
                let is_news = said.wanted != *wanted || !said.is_written;
                is_news && now.saturating_duration_since(said.at) >= GAP
            }
            false => true,
        }
    }
}

async fn write(
    client: &Client,
    policy: &PolicyObject,
    wanted: &Wanted,
    now: &str,
) -> Result<(), AskError> {
    let Key { namespace, name } = &policy.name.key;
    let resource = policy.name.resource;
    let version = PolicyResource::API_VERSION;
    let objects = Objects::new(client, version, namespace, resource.plural());
    let Some(there) = objects.get(name).await? else {
        return Ok(());
    };
    let none = Value::Null;
    let Some(status) = render(wanted, there.get("status").unwrap_or(&none), now) else {
        return Ok(());
    };
    // Another policy of the same name is refused by its uid, and comes as a change of its own.
    let patch = json!({ "metadata": { "uid": policy.uid }, "status": status });
    match objects.merge_status(name, &patch).await? {
        Written::Done(_) | Written::Conflict => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::store::Store;
    use crate::lease::hold::Candidate;
    use crate::status::Digest;
    use gorget_telemetry::proto::v1;

    const PATH: &str = "/apis/security.kubearmor.com/v1/namespaces/shop/kubearmorpolicies/p";

    fn object(generation: i64) -> Value {
        json!({
            "metadata": {
                "name": "p", "namespace": "shop", "uid": "u", "generation": generation,
            },
            "spec": {
                "selector": { "matchLabels": { "app": "web" } },
                "file": { "matchPaths": [{ "path": "/a" }] },
                "action": "Block",
            },
        })
    }

    fn seen(generation: i64) -> Seen {
        let resource = PolicyResource::Container;
        let object = PolicyObject::read(resource, &object(generation)).unwrap();
        Seen::Changed {
            what: Watched::Policies(resource),
            object: Object::Policy(object),
        }
    }

    fn nodes(in_force: &[i64]) -> Nodes {
        let digest = |generation: &i64| {
            let policy = v1::PolicyName {
                kind: "KubeArmorPolicy".to_owned(),
                namespace: "shop".to_owned(),
                name: "p".to_owned(),
            };
            let state = v1::PolicyState {
                policy: Some(policy),
                origin: "cluster".to_owned(),
                generation: *generation,
                uid: "u".to_owned(),
                state: "enforced".to_owned(),
                ..v1::PolicyState::default()
            };
            Some(Arc::new(Digest::of(v1::AgentStatus {
                policies: vec![state],
                ..v1::AgentStatus::default()
            })))
        };
        let names = ('a'..='z').map(String::from);
        names.zip(in_force.iter().map(digest)).collect()
    }

    /// Time passes as fast as everybody waits.
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(future)
    }

    async fn candidate(store: &Store, identity: &str) -> (Candidate, Leading) {
        let leases = Objects::new(
            &store.client(),
            "coordination.k8s.io/v1",
            "gorget",
            "leases",
        );
        let identity = identity.to_owned();
        let (mut candidate, leading) = Candidate::new(leases, "gorget", "operator", identity);
        candidate.round(0).await.unwrap();
        (candidate, leading)
    }

    fn statuses(store: &Store) -> usize {
        let writes = store.writes();
        writes.iter().filter(|it| it.starts_with("PATCH")).count()
    }

    #[test]
    fn a_new_version_is_told_at_once_and_what_follows_of_it_later() {
        block_on(async {
            let store = Store::default();
            store.put(PATH, object(1));
            let (mut candidate, leading) = candidate(&store, "one").await;
            let mut writer = Writer::new(store.client(), leading, Arc::default());
            assert!(writer.take(seen(1)));
            writer.round(&nodes(&[0, 0]), "then").await;
            assert_eq!(store.get(PATH).unwrap()["status"]["status"], "Pending");
            // Agents come round one by one.
            for second in 0..40 {
                candidate.round(second).await.unwrap();
                let first = i64::from(second > 3);
                writer.round(&nodes(&[first, 1]), "now").await;
                tokio::time::advance(Duration::from_secs(1)).await;
            }
            assert_eq!(statuses(&store), 2);
            let status = store.get(PATH).unwrap()["status"].clone();
            assert_eq!(status["status"], "Enforced");
            assert_eq!(status["conditions"][1]["message"], "2 of 2 nodes");
            assert_eq!(status["conditions"][1]["lastTransitionTime"], "now");
            assert!(writer.take(seen(2)));
            writer.round(&nodes(&[1, 1]), "later").await;
            let status = store.get(PATH).unwrap()["status"].clone();
            assert_eq!(status["observedGeneration"], 2);
            assert_eq!(status["status"], "Pending");
        });
    }

    #[test]
    fn another_replica_and_what_comes_back_write_nothing_again() {
        block_on(async {
            let store = Store::default();
            store.put(PATH, object(1));
            let (mut first, leading) = candidate(&store, "one").await;
            let mut writer = Writer::new(store.client(), leading, Arc::default());
            writer.take(seen(1));
            writer.round(&nodes(&[1]), "then").await;
            assert!(!writer.take(seen(1)));
            // The same replica again, as after a restart.
            first.round(1).await.unwrap();
            let (_same, leading) = candidate(&store, "one").await;
            let mut again = Writer::new(store.client(), leading, Arc::default());
            again.take(seen(1));
            again.round(&nodes(&[1]), "now").await;
            assert_eq!(statuses(&store), 1);
        });
    }

    #[test]
    fn a_status_that_is_refused_is_counted_and_keeps_no_other_waiting() {
        block_on(async {
            let store = Store::default();
            let other = PATH.replace("policies/p", "policies/q");
            let named_q = || {
                let mut other = object(1);
                other["metadata"]["name"] = json!("q");
                other
            };
            store.put(PATH, object(1));
            store.put(&other, named_q());
            store.refuse(PATH);
            let (_first, leading) = candidate(&store, "one").await;
            let counts = Arc::new(Counts::default());
            let mut writer = Writer::new(store.client(), leading, Arc::clone(&counts));
            writer.take(seen(1));
            let resource = PolicyResource::Container;
            let second = PolicyObject::read(resource, &named_q()).unwrap();
            writer.put(Object::Policy(second));
            writer.round(&nodes(&[1]), "then").await;
            writer.round(&nodes(&[1]), "then").await;
            assert!(store.get(PATH).unwrap().get("status").is_none());
            let status = store.get(&other).unwrap()["status"].clone();
            assert_eq!(status["conditions"].as_array().unwrap().len(), 3);
            // Not again and again: the second round is too soon.
            assert_eq!(counts.statuses(), (1, 1));
        });
    }

    #[test]
    fn who_does_not_lead_writes_nothing() {
        block_on(async {
            let store = Store::default();
            store.put(PATH, object(1));
            let (_first, _leads) = candidate(&store, "one").await;
            let (_second, leading) = candidate(&store, "two").await;
            let mut writer = Writer::new(store.client(), leading, Arc::default());
            writer.take(seen(1));
            writer.round(&nodes(&[1]), "now").await;
            assert_eq!(statuses(&store), 0);
        });
    }

    #[test]
    fn a_policy_that_was_made_anew_gets_no_status_of_the_old_one() {
        block_on(async {
            let store = Store::default();
            let mut other = object(1);
            other["metadata"]["uid"] = json!("v");
            store.put(PATH, other);
            let (_first, leading) = candidate(&store, "one").await;
            let mut writer = Writer::new(store.client(), leading, Arc::default());
            writer.take(seen(1));
            writer.round(&nodes(&[1]), "now").await;
            assert!(store.get(PATH).unwrap().get("status").is_none());
        });
    }
}
