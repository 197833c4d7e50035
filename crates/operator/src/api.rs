// SPDX-License-Identifier: Apache-2.0
//! Objects of the API that are read and written one by one, as JSON.
//!
//! What is written is the whole object as it was read, with its `resourceVersion`: whoever changed it in
//! between wins, which is [`Written::Conflict`], and then it is read again. Every question has an end.

use kube::Client;
use kube::core::Request;
use kube::core::params::{GetParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::Value;
use std::time::Duration;
use tokio::time::timeout;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(15);
const MANAGER: &str = "gorget-operator";

/// The server was asked in vain.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("{doing} `{what}`: the server does not answer in time")]
    Late { doing: &'static str, what: String },
    #[error("{doing} `{what}`: {source}")]
    Failed {
        doing: &'static str,
        what: String,
        source: Box<kube::Error>,
    },
}

/// What became of writing.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Written {
    /// As it is now.
    Done(Value),
    /// Somebody else was first; or it is there already, or gone.
    Conflict,
}

/// Objects of one kind, of one namespace or of none.
#[derive(Clone)]
pub(crate) struct Objects {
    client: Client,
    request: Request,
    plural: &'static str,
}

impl std::fmt::Debug for Objects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.request.url_path)
    }
}

impl Objects {
    /// `version` is `v1`, or group and version. An empty namespace: of none.
    pub(crate) fn new(
        client: &Client,
        version: &str,
        namespace: &str,
        plural: &'static str,
    ) -> Self {
        let root = if version.contains('/') { "apis" } else { "api" };
        let path = match namespace {
            "" => format!("/{root}/{version}/{plural}"),
            namespace => format!("/{root}/{version}/namespaces/{namespace}/{plural}"),
        };
        Self {
            client: client.clone(),
            request: Request::new(path),
            plural,
        }
    }

    /// None when there is none.
    pub(crate) async fn get(&self, name: &str) -> Result<Option<Value>, AskError> {
        let request = self.request.get(name, &GetParams::default());
        match self.ask("reading", name, request).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.code() == Some(404) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All that there are; none of a kind that the cluster does not have.
    pub(crate) async fn list(&self) -> Result<Vec<Value>, AskError> {
        let request = self.request.list(&ListParams::default().match_any());
        match self.ask("listing", "", request).await {
            Ok(mut list) => Ok(match list.get_mut("items").map(Value::take) {
                Some(Value::Array(items)) => items,
                Some(_) | None => Vec::new(),
            }),
            Err(error) if error.code() == Some(404) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn create(&self, name: &str, object: &Value) -> Result<Written, AskError> {
        let request = self.request.create(&post(), object.to_string().into());
        Self::written(self.ask("making", name, request).await)
    }

    pub(crate) async fn replace(&self, name: &str, object: &Value) -> Result<Written, AskError> {
        let request = self
            .request
            .replace(name, &post(), object.to_string().into());
        Self::written(self.ask("writing", name, request).await)
    }

    /// Puts `patch` over the object.
    pub(crate) async fn merge(&self, name: &str, patch: &Value) -> Result<Written, AskError> {
        let request = self.request.patch(name, &merging(), &Patch::Merge(patch));
        Self::written(self.ask("changing", name, request).await)
    }

    /// Puts `patch` over the object's status.
    pub(crate) async fn merge_status(
        &self,
        name: &str,
        patch: &Value,
    ) -> Result<Written, AskError> {
        let (params, patch) = (merging(), Patch::Merge(patch));
        let request = self
            .request
            .patch_subresource("status", name, &params, &patch);
        Self::written(self.ask("writing the status of", name, request).await)
    }

    async fn ask(
        &self,
        doing: &'static str,
        name: &str,
        request: Result<hyper::Request<Vec<u8>>, kube::core::request::Error>,
    ) -> Result<Value, AskError> {
        let what = || format!("{} {name}", self.plural);
        let failed = |source: kube::Error| AskError::Failed {
            doing,
            what: what(),
            source: Box::new(source),
        };
        let request = request.map_err(|error| failed(kube::Error::BuildRequest(error)))?;
        let answer = timeout(LIMIT, self.client.request::<Value>(request)).await;
        let answer = answer.map_err(|_late| AskError::Late {
            doing,
            what: what(),
        })?;
        answer.map_err(failed)
    }

    fn written(answer: Result<Value, AskError>) -> Result<Written, AskError> {
        match answer {
            Ok(object) => Ok(Written::Done(object)),
            Err(error) if matches!(error.code(), Some(404 | 409)) => Ok(Written::Conflict),
            Err(error) => Err(error),
        }
    }
}

impl AskError {
    /// The server answered, and it was no: another question may be answered otherwise.
    pub(crate) fn is_refusal(&self) -> bool {
        self.code().is_some()
    }

    /// What the server answered.
    fn code(&self) -> Option<u16> {
        match self {
            Self::Late { .. } => None,
            Self::Failed { source, .. } => match source.as_ref() {
                kube::Error::Api(status) => Some(status.code),
                _ => None,
            },
        }
    }
}

/// The object with that field; as it is when it is no object, which the server will say.
pub(crate) fn with(mut object: Value, key: &str, value: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(key.to_owned(), value);
    }
    object
}

fn merging() -> PatchParams {
    PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    }
}

fn post() -> PostParams {
    PostParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PostParams::default()
    }
}

#[cfg(test)]
pub(crate) mod store;
