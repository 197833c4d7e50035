// SPDX-License-Identifier: Apache-2.0
//! Objects of the API, one by one, as JSON.
//!
//! Every question has an end, and its error says what was asked of whom.

use anyhow::{Context as _, Result};
use kube::Client;
use kube::core::Request;
use kube::core::params::{DeleteParams, GetParams, ListParams, Patch, PatchParams};
use serde_json::Value;
use std::error::Error;
use std::fmt;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(30);
/// Before a server that is busy is asked again.
const PACE: Duration = Duration::from_secs(1);

/// Where an object is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// `v1`, or group and version.
    version: String,
    pub(crate) kind: String,
    /// Empty: of none.
    pub(crate) namespace: String,
    pub(crate) name: String,
}

impl Place {
    pub(crate) fn new(version: &str, kind: &str, namespace: &str, name: &str) -> Self {
        Self {
            version: version.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Where an object says that it is.
    pub(crate) fn of(object: &Value) -> Result<Self> {
        let has = |path: &str| {
            let value = object.pointer(path).and_then(Value::as_str);
            value.with_context(|| format!("an object without `{path}`"))
        };
        let namespace = has("/metadata/namespace").unwrap_or_default();
        Ok(Self::new(
            has("/apiVersion")?,
            has("/kind")?,
            namespace,
            has("/metadata/name")?,
        ))
    }

    /// Of all objects of the kind there.
    fn path(&self) -> String {
        let root = if self.version.contains('/') {
            "apis"
        } else {
            "api"
        };
        let kind = self.kind.to_lowercase();
        let plural = match kind.strip_suffix('y') {
            Some(stem) => format!("{stem}ies"),
            None => format!("{kind}s"),
        };
        match self.namespace.as_str() {
            "" => format!("/{root}/{}/{plural}", self.version),
            namespace => format!("/{root}/{}/namespaces/{namespace}/{plural}", self.version),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} `{}`", self.kind, self.name),
            namespace => write!(f, "{} `{namespace}/{}`", self.kind, self.name),
        }
    }
}

/// What became of applying.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It was not there.
    Created,
    /// It was otherwise.
    Configured,
    /// It was as it is wanted.
    Unchanged,
}

/// Who applies, and whether over what others have applied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct By {
    pub(crate) manager: &'static str,
    pub(crate) force: bool,
}

/// Asks one API server.
#[derive(Clone)]
pub(crate) struct Api {
    client: Client,
    server: String,
}

impl Api {
    pub(crate) fn new(client: Client, server: &str) -> Self {
        let server = server.to_owned();
        Self { client, server }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// None when there is none.
    pub(crate) async fn get(&self, place: &Place) -> Result<Option<Value>, AskError> {
        let request = Request::new(place.path()).get(&place.name, &GetParams::default());
        match self.ask("read", place, request).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.code == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All objects of a kind with these labels, in a namespace or, where that is empty, in all; none of a kind
    /// that the server does not have.
    pub(crate) async fn list(
        &self,
        (version, kind): (&str, &str),
        namespace: &str,
        labels: &str,
    ) -> Result<Vec<Value>, AskError> {
        let place = Place::new(version, kind, namespace, "*");
        let mut wanted = ListParams::default();
        if !labels.is_empty() {
            wanted = wanted.labels(labels);
        }
        let request = Request::new(place.path()).list(&wanted);
        match self.ask("list", &place, request).await {
            Ok(mut list) => Ok(match list.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => items,
                Some(_) | None => Vec::new(),
            }),
            Err(error) if error.code == Some(404) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Has an object be as it is written, as far as something is written (server-side apply).
    pub(crate) async fn apply(
        &self,
        place: &Place,
        object: &Value,
        by: By,
    ) -> Result<Applied, AskError> {
        let before = self.get(place).await?;
        let mut params = PatchParams::apply(by.manager);
        params.force = by.force;
        let patch = Patch::Apply(object);
        let request = Request::new(place.path()).patch(&place.name, &params, &patch);
        let after = self.ask("apply", place, request).await?;
        Ok(match before {
            None => Applied::Created,
            Some(before) if written(&before) == written(&after) => Applied::Unchanged,
            Some(_) => Applied::Configured,
        })
    }

    /// Whether it was there. What runs pods goes after them, so that who waits until it is gone waits for both.
    pub(crate) async fn delete(&self, place: &Place) -> Result<bool, AskError> {
        let how = match place.kind.as_str() {
            "DaemonSet" | "Deployment" => DeleteParams::foreground(),
            _ => DeleteParams::background(),
        };
        let request = Request::new(place.path()).delete(&place.name, &how);
        match self.ask("delete", place, request).await {
            Ok(_) => Ok(true),
            Err(error) if error.code == Some(404) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn ask(
        &self,
        doing: &str,
        place: &Place,
        request: Result<http::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Value, AskError> {
        let failed = |why: String, code| AskError {
            what: format!("cannot {doing} {place}"),
            why,
            code,
        };
        let silent = |why: &str| format!("`{}` does not answer: {why}", self.server);
        let request = request.map_err(|error| failed(error.to_string(), None))?;
        let asked = async {
            loop {
                match self.client.request::<Value>(request.clone()).await {
                    // As for a kind that is new: it is to be asked again.
                    Err(kube::Error::Api(status)) if status.code == 429 => sleep(PACE).await,
                    answer => return answer,
                }
            }
        };
        let answer = timeout(LIMIT, asked).await;
        let late = format!("nothing came in {} s", LIMIT.as_secs());
        let answer = answer.map_err(|_late| failed(silent(&late), None))?;
        answer.map_err(|error| match error {
            kube::Error::Api(status) => failed(status.message, Some(status.code)),
            other => failed(silent(&last_cause(&other)), None),
        })
    }
}

/// The server was asked in vain.
#[derive(Debug)]
pub(crate) struct AskError {
    what: String,
    why: String,
    /// What the server answered; none when it did not.
    code: Option<u16>,
}

impl AskError {
    /// Somebody else has it otherwise, or in between.
    pub(crate) fn is_conflict(&self) -> bool {
        self.code == Some(409)
    }

    /// Without what was asked for.
    pub(crate) fn why(&self) -> &str {
        &self.why
    }
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what, self.why)
    }
}

impl Error for AskError {}

/// Of an object what somebody has written: not when, nor what has become of it.
fn written(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        fields.remove("status");
    }
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(metadata) = metadata {
        for field in ["managedFields", "resourceVersion", "generation"] {
            metadata.remove(field);
        }
    }
    object
}

/// What is below all that only says that something failed.
fn last_cause(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::fake::Fake;

    #[test]
    fn a_server_that_is_busy_is_asked_again() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build();
        runtime.unwrap().block_on(async {
            let fake = Fake::default();
            let node = serde_json::json!({"metadata": {"name": "n"}});
            fake.put("/api/v1/nodes/n", node.clone());
            fake.be_busy(2);
            let found = fake.api().get(&Place::new("v1", "Node", "", "n")).await;
            assert_eq!(found.unwrap(), Some(node));
            fake.be_busy(1_000);
            let late = fake.api().get(&Place::new("v1", "Node", "", "n")).await;
            assert_eq!(
                late.unwrap_err().to_string(),
                "cannot read Node `n`: `http://fake/` does not answer: nothing came in 30 s"
            );
        });
    }

    #[test]
    fn objects_are_where_the_api_has_them() {
        let path = |version, kind, namespace| Place::new(version, kind, namespace, "x").path();
        assert_eq!(path("v1", "Namespace", ""), "/api/v1/namespaces");
        assert_eq!(
            path("apps/v1", "DaemonSet", "gorget"),
            "/apis/apps/v1/namespaces/gorget/daemonsets"
        );
        assert_eq!(
            path("security.kubearmor.com/v1", "KubeArmorPolicy", ""),
            "/apis/security.kubearmor.com/v1/kubearmorpolicies"
        );
    }
}
