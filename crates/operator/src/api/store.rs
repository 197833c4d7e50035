// SPDX-License-Identifier: Apache-2.0
//! A server for tests that keeps objects by their paths, and refuses to write over what is newer.

use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::{Method, Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

/// Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(crate) struct Store(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    objects: BTreeMap<String, Value>,
    version: u64,
    writes: Vec<String>,
    refused: BTreeSet<String>,
}

impl Store {
    pub(crate) fn client(&self) -> Client {
        let store = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let store = store.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let path = parts.uri.path().to_owned();
                let (status, answer) = store.answer(&parts.method, &path, &body);
                let body = Full::new(Bytes::from(answer.to_string()));
                let status = StatusCode::from_u16(status).unwrap();
                let response = Response::builder().status(status).body(body).unwrap();
                Ok::<_, std::io::Error>(response)
            }
        });
        Client::new(service, "default")
    }

    pub(crate) fn put(&self, path: &str, mut object: Value) {
        let mut kept = self.0.lock().unwrap();
        kept.version += 1;
        object["metadata"]["resourceVersion"] = json!(kept.version.to_string());
        kept.objects.insert(path.to_owned(), object);
    }

    /// Has every write of an object refused from now on.
    pub(crate) fn refuse(&self, path: &str) {
        self.0.lock().unwrap().refused.insert(path.to_owned());
    }

    pub(crate) fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().unwrap().objects.get(path).cloned()
    }

    /// What was written so far: methods and paths.
    pub(crate) fn writes(&self) -> Vec<String> {
        self.0.lock().unwrap().writes.clone()
    }

    fn answer(&self, method: &Method, path: &str, body: &[u8]) -> (u16, Value) {
        if *method == Method::GET {
            return match self.get(path) {
                Some(object) => (200, object),
                None => self.list(path),
            };
        }
        let given: Value = serde_json::from_slice(body).unwrap();
        let path = match *method {
            Method::POST => format!("{path}/{}", given["metadata"]["name"].as_str().unwrap()),
            _ => path.trim_end_matches("/status").to_owned(),
        };
        if self.0.lock().unwrap().refused.contains(&path) {
            return failure(422);
        }
        let there = self.get(&path);
        let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
        let next = match (method, there) {
            (&Method::POST, None) => given,
            (&Method::PUT, Some(there)) if version(&there) == version(&given) => given,
            (&Method::PATCH, Some(mut there)) => {
                let uid = &given["metadata"]["uid"];
                if !uid.is_null() && *uid != there["metadata"]["uid"] {
                    return failure(409);
                }
                merge(&mut there, &given);
                there
            }
            (&Method::POST | &Method::PUT, Some(_)) => return failure(409),
            (_, _) => return failure(404),
        };
        self.put(&path, next);
        let mut kept = self.0.lock().unwrap();
        kept.writes.push(format!("{method} {path}"));
        (200, kept.objects[&path].clone())
    }
}

impl Store {
    /// What is right below a path; a path with nothing below is no kind.
    fn list(&self, path: &str) -> (u16, Value) {
        let kept = self.0.lock().unwrap();
        let below = kept.objects.iter().filter(|(at, _)| {
            let name = at.strip_prefix(path).and_then(|it| it.strip_prefix('/'));
            name.is_some_and(|name| !name.contains('/'))
        });
        let items: Vec<_> = below.map(|(_, object)| object.clone()).collect();
        match items.is_empty() {
            true => failure(404),
            false => (200, json!({ "items": items })),
        }
    }
}

fn failure(code: u16) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
        "message": format!("it is {code}"), "reason": "x",
    });
    (code, status)
}

/// As RFC 7396 says.
fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        match value {
            Value::Null => drop(into.as_object_mut().unwrap().remove(key)),
            value => merge(&mut into[key], value),
        }
    }
}
