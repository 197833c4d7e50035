// SPDX-License-Identifier: Apache-2.0
//! An API server for tests, which keeps objects by their paths and does as it is told.
//!
//! Applying puts what is written over what is there. Workloads are ready as soon as they are applied, and kinds
//! served, unless something else is asked for; nothing else of a cluster is played.

use super::api::Api;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex};

/// Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    objects: BTreeMap<String, Value>,
    /// Path, and who else has set something there.
    owned: BTreeMap<String, String>,
    stuck: BTreeSet<String>,
    written: Vec<String>,
    /// Questions that are to come again.
    busy: u32,
}

impl Fake {
    pub(crate) fn api(&self) -> Api {
        let fake = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let fake = fake.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let query = parts.uri.query().unwrap_or_default();
                let (code, answer) = fake.answer(&parts.method, parts.uri.path(), query, &body);
                let body = Full::new(Bytes::from(answer.to_string()));
                let code = StatusCode::from_u16(code).unwrap();
                let response = Response::builder().status(code).body(body).unwrap();
                Ok::<_, io::Error>(response)
            }
        });
        Api::new(Client::new(service, "default"), "http://fake/")
    }

    pub(crate) fn put(&self, path: &str, object: Value) {
        self.0
            .lock()
            .unwrap()
            .objects
            .insert(path.to_owned(), object);
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().unwrap().objects.get(path).cloned()
    }

    /// Has somebody else have set something of an object.
    pub(crate) fn own(&self, path: &str, manager: &str) {
        let mut kept = self.0.lock().unwrap();
        kept.owned.insert(path.to_owned(), manager.to_owned());
    }

    /// Has a workload never become ready.
    pub(crate) fn stick(&self, path: &str) {
        self.0.lock().unwrap().stuck.insert(path.to_owned());
    }

    /// Has the next questions come again.
    pub(crate) fn be_busy(&self, questions: u32) {
        self.0.lock().unwrap().busy = questions;
    }

    /// Methods and paths of what was written so far.
    pub(crate) fn written(&self) -> Vec<String> {
        self.0.lock().unwrap().written.clone()
    }

    /// Of everything that is there.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.0.lock().unwrap().objects.keys().cloned().collect()
    }

    fn answer(&self, method: &Method, path: &str, query: &str, body: &[u8]) -> (u16, Value) {
        let mut kept = self.0.lock().unwrap();
        if kept.busy > 0 {
            kept.busy -= 1;
            return failure(429, "storage is (re)initializing");
        }
        let there = kept.objects.get(path).cloned();
        if *method == Method::GET {
            return match there {
                Some(object) => (200, object),
                None => kept.below(path, &labels(query)),
            };
        }
        kept.written.push(format!("{method} {path}"));
        if *method == Method::DELETE {
            return match kept.objects.remove(path) {
                Some(object) => (200, object),
                None => failure(404, "not found"),
            };
        }
        assert_eq!(*method, Method::PATCH);
        if let Some(manager) = kept.owned.get(path)
            && !query.contains("force=true")
        {
            return failure(
                409,
                &format!("Apply failed with 1 conflict: conflict with \"{manager}\": .spec"),
            );
        }
        let mut object = there.clone().unwrap_or_else(|| json!({}));
        merge(&mut object, &serde_json::from_slice(body).unwrap());
        let status = match kept.stuck.contains(path) {
            true => json!({"observedGeneration": 1, "desiredNumberScheduled": 1}),
            false => json!({
                "observedGeneration": 1,
                "desiredNumberScheduled": 1, "updatedNumberScheduled": 1, "numberAvailable": 1,
                "replicas": object["spec"]["replicas"], "updatedReplicas": object["spec"]["replicas"],
                "availableReplicas": object["spec"]["replicas"],
                "conditions": [{"type": "Established", "status": "True"}],
            }),
        };
        object["status"] = status;
        kept.objects.insert(path.to_owned(), object.clone());
        (200, object)
    }
}

impl Kept {
    /// What is right below a path and has labels, of all namespaces when it names none.
    fn below(&self, path: &str, labels: &[(String, String)]) -> (u16, Value) {
        let plural = path.rsplit('/').next().unwrap();
        let root = path.strip_suffix(plural).unwrap();
        let is_below = |at: &str| {
            let mut parts = at.rsplit('/').skip(1);
            at.starts_with(root) && parts.next() == Some(plural)
        };
        let objects = self.objects.iter().filter(|(at, _)| is_below(at));
        let has = |object: &&Value| {
            let mut labels = labels.iter();
            labels.all(|(key, value)| object["metadata"]["labels"][key] == *value)
        };
        let items: Vec<_> = objects
            .map(|(_, object)| object)
            .filter(has)
            .cloned()
            .collect();
        match items.is_empty() {
            true => failure(404, "not found"),
            false => (200, json!({"items": items})),
        }
    }
}

/// What a question selects by.
fn labels(query: &str) -> Vec<(String, String)> {
    let plain = query
        .replace("%3D", "=")
        .replace("%2C", ",")
        .replace("%2F", "/");
    let selector = plain
        .split('&')
        .find_map(|it| it.strip_prefix("labelSelector="));
    let pairs = selector.unwrap_or_default().split(',');
    let pairs = pairs.filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

fn failure(code: u16, message: &str) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "x",
        "code": code, "message": message,
    });
    (code, status)
}

fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}
