// SPDX-License-Identifier: Apache-2.0
//! What the API server is answered when it asks whether an object may be: [`answer`].
//!
//! A function of the question and of what is known of the cluster, without I/O. Questions are
//! `AdmissionReview`s of `admission.k8s.io/v1`; a body that is none is [`Malformed`], which says where it
//! is wrong, and never a panic. What a policy is refused or warned for is in `policies`, what pods get in `pods`.
//!
//! INVARIANT: what is there already can be changed in everything but `spec`, and deleted, whatever its
//! `spec` is: an object that was stored without being asked about must not be stuck.

mod pods;
mod policies;
mod rendered;
mod warnings;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gorget_engine::Backend;
use gorget_k8s::PolicyResource;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;

pub(crate) use pods::Profiles;
pub(crate) use policies::{Judged, Verdict, judge_text};

/// A review has the object twice when it is changed, and the API server takes objects of up to 3 MiB.
pub(crate) const MOST_BYTES: usize = 8 << 20;

const API_VERSION: &str = "admission.k8s.io/v1";
const KIND: &str = "AdmissionReview";
const GROUP_VERSION: (&str, &str) = ("security.kubearmor.com", "v1");

/// What is known of the cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    /// What enforces policies on its nodes; empty: that is not known.
    pub(crate) backends: BTreeSet<Backend>,
    /// Profiles that pods are to be started in; none unless all nodes have them.
    pub(crate) profiles: Option<Profiles>,
}

/// A body that is no question.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the body is no `AdmissionReview`: {0}")]
    Shape(serde_json::Error),
    #[error(
        "the body has `apiVersion: {api_version}` and `kind: {kind}`; \
         there is `admission.k8s.io/v1`, `AdmissionReview`"
    )]
    Version { api_version: String, kind: String },
    #[error("the review has no `request`")]
    Unasked,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReviewSpec {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<RequestSpec>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestSpec {
    uid: String,
    kind: KindSpec,
    operation: String,
    namespace: Option<String>,
    object: Option<Value>,
    old_object: Option<Value>,
}

#[derive(Deserialize)]
struct KindSpec {
    group: String,
    version: String,
    kind: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review<'a> {
    api_version: &'a str,
    kind: &'a str,
    response: Response<'a>,
}

#[derive(Serialize)]
struct Response<'a> {
    uid: &'a str,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(flatten)]
    change: Option<Change>,
}

/// What is to be changed of the object.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Change {
    patch_type: &'static str,
    patch: String,
}

/// As the API server says itself that an object is invalid.
#[derive(Serialize)]
struct Status<'a> {
    code: u16,
    reason: &'a str,
    message: String,
    details: Details<'a>,
}

#[derive(Serialize)]
struct Details<'a> {
    name: String,
    group: &'a str,
    kind: &'a str,
    causes: Vec<Cause>,
}

#[derive(Serialize)]
struct Cause {
    reason: &'static str,
    field: String,
    message: String,
}

/// How much is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Depth {
    /// What is wrong, and what can be warned of from reading alone.
    Read,
    /// Rules that never decide anything, too, which can take seconds.
    Search,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// As JSON.
    pub(crate) text: String,
    pub(crate) is_allowed: bool,
}

/// The answer to a review of a policy.
///
/// # Errors
///
/// When the body is no review.
pub(crate) fn answer(body: &[u8], known: &Known, depth: Depth) -> Result<Answer, Malformed> {
    let request = read(body)?;
    let judged = of_request(&request, known, depth);
    let is_allowed = judged.errors.is_empty();
    Ok(written(Response {
        uid: &request.uid,
        allowed: is_allowed,
        status: (!is_allowed).then(|| status(&request, &judged)),
        warnings: warnings::bounded(judged.warnings),
        change: None,
    }))
}

/// The answer to a review of a pod, which passes always.
///
/// # Errors
///
/// When the body is no review.
pub(crate) fn answer_for_pod(body: &[u8], known: &Known) -> Result<Answer, Malformed> {
    let request = read(body)?;
    let is_new_pod = request.operation == "CREATE" && request.kind.kind == "Pod";
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let operations = match (&request.object, &known.profiles) {
        (Some(pod), Some(profiles)) if is_new_pod => pods::patch(pod, namespace, profiles),
        (_, _) => Vec::new(),
    };
    let change = (!operations.is_empty()).then(|| Change {
        patch_type: "JSONPatch",
        patch: STANDARD.encode(Value::Array(operations).to_string()),
    });
    Ok(written(Response {
        uid: &request.uid,
        allowed: true,
        status: None,
        warnings: Vec::new(),
        change,
    }))
}

fn read(body: &[u8]) -> Result<RequestSpec, Malformed> {
    let ReviewSpec {
        api_version,
        kind,
        request,
    } = serde_json::from_slice(body).map_err(Malformed::Shape)?;
    if (api_version.as_str(), kind.as_str()) != (API_VERSION, KIND) {
        return Err(Malformed::Version {
            api_version: warnings::cut(&api_version),
            kind: warnings::cut(&kind),
        });
    }
    request.ok_or(Malformed::Unasked)
}

fn written(response: Response<'_>) -> Answer {
    let is_allowed = response.allowed;
    let review = Review {
        api_version: API_VERSION,
        kind: KIND,
        response,
    };
    // Strings, numbers and lists: there is nothing that JSON cannot say.
    let text = serde_json::to_string(&review).unwrap_or_default();
    Answer { text, is_allowed }
}

fn of_request(request: &RequestSpec, known: &Known, depth: Depth) -> Judged {
    let KindSpec {
        group,
        version,
        kind,
    } = &request.kind;
    if !matches!(request.operation.as_str(), "CREATE" | "UPDATE") {
        return Judged::default();
    }
    let is_ours = (group.as_str(), version.as_str()) == GROUP_VERSION;
    let resource = is_ours.then(|| PolicyResource::of_kind(kind)).flatten();
    let Some(resource) = resource else {
        let kind = warnings::cut(&format!("{group}/{version} {kind}"));
        return Judged::warning(format!(
            "gorget: `{kind}` is no kind of policy; not checked"
        ));
    };
    let Some(object) = &request.object else {
        return Judged::error("", "the review has no object");
    };
    if asks_the_same(request, object) {
        return Judged::default();
    }
    policies::judge(
        resource,
        &named(object, request),
        &Verdict::of(known, depth),
    )
}

/// Nothing is asked of the object that was not asked before, or it is about to go.
fn asks_the_same(request: &RequestSpec, object: &Value) -> bool {
    let is_leaving = object.pointer("/metadata/deletionTimestamp");
    let before = request.old_object.as_ref().map(|old| old.get("spec"));
    request.operation == "UPDATE"
        && (is_leaving.is_some_and(|it| !it.is_null()) || before == Some(object.get("spec")))
}

/// With the name that it will have, as far as that is known: the API server makes names of
/// `generateName`, and may ask before.
fn named(object: &Value, request: &RequestSpec) -> Value {
    let mut object = object.clone();
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
        return object;
    };
    let text = |key: &str| {
        metadata
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if text("name").is_empty() && !text("generateName").is_empty() {
        let name = format!("{}x", text("generateName"));
        metadata.insert("name".to_owned(), name.into());
    }
    let namespace = request.namespace.clone().unwrap_or_default();
    let is_missing = metadata.get("namespace").is_none_or(Value::is_null);
    if is_missing && !namespace.is_empty() {
        metadata.insert("namespace".to_owned(), namespace.into());
    }
    object
}

fn status<'a>(request: &'a RequestSpec, judged: &Judged) -> Status<'a> {
    let name = request
        .object
        .as_ref()
        .and_then(|object| object.pointer("/metadata/name"));
    let causes = judged.errors.iter().take(policies::MOST_CAUSES);
    Status {
        code: 422,
        reason: "Invalid",
        message: judged.message(),
        details: Details {
            name: name.and_then(Value::as_str).unwrap_or_default().to_owned(),
            group: &request.kind.group,
            kind: &request.kind.kind,
            causes: causes
                .map(|wrong| Cause {
                    reason: "FieldValueInvalid",
                    field: wrong.field.clone(),
                    message: wrong.reason.clone(),
                })
                .collect(),
        },
    }
}

#[cfg(test)]
mod tests;
