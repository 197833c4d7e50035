// SPDX-License-Identifier: Apache-2.0
//! The Lease as the API has it (`coordination.k8s.io/v1`), read, written and given back.

use super::{Election, PERIOD, Record, Step, TERM};
use crate::api::{AskError, Objects, Written, with};
use gorget_telemetry::utc;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Tells whether this replica writes. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Leading(watch::Receiver<Option<Instant>>);

impl Leading {
    pub(crate) fn now(&self) -> bool {
        self.0.borrow().is_some_and(|until| Instant::now() < until)
    }
}

/// One replica's part in the election.
#[derive(Debug)]
pub(crate) struct Candidate {
    leases: Objects,
    namespace: String,
    name: String,
    election: Election,
    told: watch::Sender<Option<Instant>>,
}

impl Candidate {
    pub(crate) fn new(
        leases: Objects,
        namespace: &str,
        name: &str,
        identity: String,
    ) -> (Self, Leading) {
        let (told, leading) = watch::channel(None);
        let candidate = Self {
            leases,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            election: Election::new(identity),
            told,
        };
        (candidate, Leading(leading))
    }

    /// Until `stop`; then the Lease is given back. `now`: microseconds since 1970, for who reads the Lease.
    pub(crate) async fn run(mut self, now: impl Fn() -> i64, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut is_failing = false;
        loop {
            match self.round(now()).await {
                Ok(()) => is_failing = false,
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!("which replica writes: {error}");
                    }
                }
            }
            tokio::select! {
                () = &mut stop => break,
                () = tokio::time::sleep(PERIOD) => {}
            }
        }
        if let Err(error) = self.give_back(now()).await {
            tracing::warn!("giving back the Lease: {error}");
        }
    }

    /// One look, and what follows from it.
    pub(crate) async fn round(&mut self, now: i64) -> Result<(), AskError> {
        let held = self.election.held_until().is_some();
        let result = self.look(now).await;
        let holds = self.election.held_until();
        self.told.send_replace(holds);
        match (held, holds.is_some()) {
            (false, true) => tracing::info!("this replica writes now"),
            (true, false) => tracing::info!("this replica does not write any more"),
            (true, true) | (false, false) => {}
        }
        result
    }

    async fn look(&mut self, now: i64) -> Result<(), AskError> {
        let object = self.leases.get(&self.name).await?;
        let record = object.as_ref().map(read);
        let asked = Instant::now();
        let step = self.election.look(record.as_ref(), asked);
        let record = record.unwrap_or_default();
        let identity = self.election.identity();
        let next = |transitions| spec(identity, now, transitions);
        let written = match (step, object) {
            (Step::Wait, _) => return Ok(()),
            (Step::Create, _) | (Step::Renew | Step::Take, None) => {
                let metadata = json!({ "name": self.name, "namespace": self.namespace });
                let lease = json!({
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "metadata": metadata,
                    "spec": next(0),
                });
                self.leases.create(&self.name, &lease).await?
            }
            (Step::Renew, Some(lease)) => {
                let mut renewed = next(record.transitions);
                if let Some(acquired) = lease.pointer("/spec/acquireTime") {
                    renewed = with(renewed, "acquireTime", acquired.clone());
                }
                let lease = with(lease, "spec", renewed);
                self.leases.replace(&self.name, &lease).await?
            }
            (Step::Take, Some(lease)) => {
                let taken = next(record.transitions.saturating_add(1));
                let lease = with(lease, "spec", taken);
                self.leases.replace(&self.name, &lease).await?
            }
        };
        match written {
            Written::Done(_) => self.election.written(asked),
            Written::Conflict => self.election.lost(),
        }
        Ok(())
    }

    async fn give_back(&mut self, now: i64) -> Result<(), AskError> {
        let was_held = self.election.held_until().is_some();
        self.election.lost();
        self.told.send_replace(None);
        let Some(lease) = self.leases.get(&self.name).await? else {
            return Ok(());
        };
        let record = read(&lease);
        if was_held && record.holder == self.election.identity() {
            let lease = with(lease, "spec", spec("", now, record.transitions));
            self.leases.replace(&self.name, &lease).await?;
        }
        Ok(())
    }
}

fn spec(holder: &str, now: i64, transitions: i64) -> Value {
    json!({
        "holderIdentity": holder,
        "leaseDurationSeconds": TERM.as_secs(),
        "acquireTime": utc(now),
        "renewTime": utc(now),
        "leaseTransitions": transitions,
    })
}

fn read(lease: &Value) -> Record {
    let field = |key: &str| lease.get("spec").and_then(|spec| spec.get(key));
    let text = |key| field(key).and_then(Value::as_str).unwrap_or_default();
    let term = field("leaseDurationSeconds").and_then(Value::as_u64);
    let transitions = field("leaseTransitions").and_then(Value::as_i64);
    Record {
        holder: text("holderIdentity").to_owned(),
        term: term.map(Duration::from_secs),
        renewed: text("renewTime").to_owned(),
        transitions: transitions.unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::store::Store;

    const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/gorget/leases/gorget-operator";

    fn candidate(store: &Store, identity: &str) -> (Candidate, Leading) {
        let client = store.client();
        let leases = Objects::new(&client, "coordination.k8s.io/v1", "gorget", "leases");
        Candidate::new(leases, "gorget", "gorget-operator", identity.to_owned())
    }

    fn holder(store: &Store) -> Value {
        store.get(LEASE).unwrap()["spec"]["holderIdentity"].clone()
    }

    /// Time passes as fast as everybody waits.
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().start_paused(true).build().unwrap();
        runtime.block_on(future)
    }

    #[test]
    fn of_two_replicas_one_writes_and_the_other_follows_it() {
        block_on(async {
            let store = Store::default();
            let (mut one, leads_one) = candidate(&store, "one");
            let (mut two, leads_two) = candidate(&store, "two");
            for round in 0..20 {
                one.round(round).await.unwrap();
                two.round(round).await.unwrap();
                assert!(leads_one.now() && !leads_two.now());
                tokio::time::advance(PERIOD).await;
            }
            let mut was_nobody = false;
            for round in 20..40 {
                two.round(round).await.unwrap();
                was_nobody |= !leads_one.now() && !leads_two.now();
                assert!(!(leads_one.now() && leads_two.now()));
                tokio::time::advance(PERIOD).await;
            }
            assert!(was_nobody && leads_two.now());
            let spec = &store.get(LEASE).unwrap()["spec"];
            assert_eq!(spec["holderIdentity"], "two");
            assert_eq!(spec["leaseTransitions"], 1);
            // The first one comes back.
            one.round(40).await.unwrap();
            assert!(!leads_one.now());
        });
    }

    #[test]
    fn who_ends_gives_it_back_so_that_nobody_waits() {
        block_on(async {
            let store = Store::default();
            let (one, leads_one) = candidate(&store, "one");
            one.run(|| 1, std::future::ready(())).await;
            assert!(!leads_one.now());
            assert_eq!(holder(&store), "");
            let (mut two, leads_two) = candidate(&store, "two");
            two.round(2).await.unwrap();
            assert!(leads_two.now());
        });
    }

    #[test]
    fn a_lease_that_is_nonsense_is_taken() {
        block_on(async {
            let store = Store::default();
            store.put(
                LEASE,
                json!({ "metadata": { "name": "gorget-operator" }, "spec": "x" }),
            );
            let (mut one, leads) = candidate(&store, "one");
            one.round(1).await.unwrap();
            assert!(leads.now());
            assert_eq!(holder(&store), "one");
        });
    }
}
