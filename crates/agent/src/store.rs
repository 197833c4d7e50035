// SPDX-License-Identifier: Apache-2.0
//! Policies that clients applied: checked, kept in a directory of the agent's, and in force from there
//! after a restart.
//!
//! A policy is a file, named after its kind, namespace and name. Policies that come together are all checked before any is written.

use crate::documents::documents;
use crate::durable;
use gorget_policy::{Policy as Parsed, ProblemSeverity, parse};
use gorget_telemetry::policies::Refusal;
use gorget_telemetry::proto::policy::PolicyStatus;
use gorget_telemetry::proto::v1::{ApplyReply, ApplyRequest, DeleteRequest, Policy};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::io;
use std::path::{Path, PathBuf};

/// Larger texts are refused, as larger files are.
const MAX_TEXT_BYTES: usize = 4 << 20;

/// The directory of applied policies.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
}

/// What KubeArmor's clients send.
#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    change: String,
    object: Object,
}

#[derive(Deserialize)]
struct Object {
    metadata: Metadata,
    #[serde(default)]
    spec: Value,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
}

impl Store {
    /// Makes the directory, for root only.
    pub(crate) fn open(dir: PathBuf) -> io::Result<Self> {
        durable::make(&dir)?;
        Ok(Self { dir })
    }

    /// Keeps every policy of a text, or none.
    pub(crate) fn apply(&self, request: &ApplyRequest) -> Result<ApplyReply, Refusal> {
        let ApplyRequest { name, text } = request;
        let length = text.len();
        if length > MAX_TEXT_BYTES {
            return Err(Refusal::Invalid(format!(
                "`{name}` has {length} bytes, the limit is {MAX_TEXT_BYTES}"
            )));
        }
        let parsed = parse(name, text);
        let of = |severity| {
            let these = parsed
                .problems
                .iter()
                .filter(move |p| p.severity == severity);
            these.map(ToString::to_string).collect::<Vec<_>>()
        };
        let errors = of(ProblemSeverity::Error);
        if !errors.is_empty() {
            return Err(Refusal::Invalid(errors.join("\n")));
        }
        let mut policies = Vec::new();
        for (document, text) in given(name, text)? {
            let policy = described(&document);
            let file = self.file(&policy.kind, &policy.namespace, &policy.name);
            policies.push((file, policy, text));
        }
        let mut reply = ApplyReply {
            policies: Vec::new(),
            warnings: of(ProblemSeverity::Warning),
        };
        for (file, mut policy, text) in policies {
            policy.replaced = file.exists();
            policy.file = file.display().to_string();
            durable::write(&file, text.as_bytes()).map_err(|error| {
                Refusal::Failed(format!("cannot write `{}`: {error}", file.display()))
            })?;
            reply.policies.push(policy);
        }
        Ok(reply)
    }

    /// Forgets a policy.
    pub(crate) fn delete(&self, policy: &DeleteRequest) -> Result<(), Refusal> {
        let DeleteRequest {
            kind,
            namespace,
            name,
        } = policy;
        let file = self.file(kind, namespace, name);
        durable::remove(&file).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Refusal::NotFound(format!(
                "no {kind} `{name}` was applied; `gorget policy list` shows what is in force and from where"
            )),
            _ => Refusal::Failed(format!("cannot remove `{}`: {error}", file.display())),
        })
    }

    /// One of KubeArmor's events for policies of `kind`, with why, if it was not done.
    pub(crate) fn event(&self, kind: &str, event: &[u8]) -> (PolicyStatus, Option<String>) {
        let event: Event = match serde_json::from_slice(event) {
            Ok(event) => event,
            Err(error) => return (PolicyStatus::Invalid, Some(error.to_string())),
        };
        // COMPAT: KubeArmor keeps these; here they are not enforced, and the client should know.
        if kind == "KubeArmorNetworkPolicy" {
            let why = "network policies are not enforced";
            return (PolicyStatus::NotEnabled, Some(why.to_owned()));
        }
        let Metadata { name, namespace } = event.object.metadata;
        let (done, refused) = match event.change.as_str() {
            "ADDED" | "MODIFIED" => {
                let metadata = without_nothing(json!({ "name": name, "namespace": namespace }));
                let document = json!({
                    "apiVersion": "security.kubearmor.com/v1",
                    "kind": kind,
                    "metadata": metadata,
                    "spec": without_nothing(event.object.spec),
                });
                let text = format!("{document:#}\n");
                let applied = self.apply(&ApplyRequest { name, text });
                match applied {
                    Ok(reply) if reply.policies.iter().any(|policy| policy.replaced) => {
                        (PolicyStatus::Modified, None)
                    }
                    Ok(_) => (PolicyStatus::Applied, None),
                    Err(refusal) => (PolicyStatus::Failure, Some(refusal)),
                }
            }
            "DELETED" => {
                let kind = kind.to_owned();
                match self.delete(&DeleteRequest {
                    kind,
                    namespace,
                    name,
                }) {
                    Ok(()) => (PolicyStatus::Deleted, None),
                    Err(refusal) => (PolicyStatus::Failure, Some(refusal)),
                }
            }
            other => {
                let why =
                    format!("`type` is `{other}`, allowed are `ADDED`, `MODIFIED`, `DELETED`");
                (PolicyStatus::Invalid, Some(Refusal::Invalid(why)))
            }
        };
        match refused {
            None => (done, None),
            Some(Refusal::Invalid(why)) => (PolicyStatus::Invalid, Some(why)),
            Some(Refusal::NotFound(why)) => (PolicyStatus::NotExist, Some(why)),
            Some(Refusal::Failed(why)) => (PolicyStatus::Failure, Some(why)),
        }
    }

    /// Names are checked before: they hold no `/`, and dots are no separators here.
    fn file(&self, kind: &str, namespace: &str, name: &str) -> PathBuf {
        let safe = |text: &str| text.replace('/', "_");
        let namespace = match namespace {
            "" => String::new(),
            namespace => format!("{}:", safe(namespace)),
        };
        self.dir
            .join(format!("{}:{namespace}{}.yaml", safe(kind), safe(name)))
    }
}

/// Every document of a text, and how it is kept: as it was given, with its comments, where the text can
/// be cut.
fn given(name: &str, text: &str) -> Result<Vec<(Value, String)>, Refusal> {
    if let Some(documents) = documents(text) {
        let given = documents.into_iter();
        return Ok(given.map(|(text, said)| (said, text.to_owned())).collect());
    }
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| Refusal::Invalid(format!("`{name}`: {error}")))?;
    let said = documents.into_iter().filter(|said| !said.is_null());
    let kept = said.map(|said| {
        let text = format!("{said:#}\n");
        (said, text)
    });
    Ok(kept.collect())
}

/// What a document that was checked says of itself.
pub(crate) fn described(document: &Value) -> Policy {
    let text = |path: &str| {
        let value = document.pointer(path).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    Policy {
        kind: text("/kind"),
        // Of the other kinds it means nothing.
        namespace: match text("/kind").as_str() {
            "KubeArmorPolicy" => text("/metadata/namespace"),
            _ => String::new(),
        },
        name: text("/metadata/name"),
        ..Policy::default()
    }
}

/// A policy in force, and the file that it comes from.
pub(crate) fn listed(policy: &Parsed, file: &Path) -> Policy {
    Policy {
        kind: policy.kind.name().to_owned(),
        namespace: policy.namespace.clone().unwrap_or_default(),
        name: policy.name.clone(),
        file: file.display().to_string(),
        replaced: false,
    }
}

/// KubeArmor's clients send every field that they know: nothing, in its various forms, means that it
/// is not there. A selector that selects everything is not nothing.
fn without_nothing(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let mut kept = Map::new();
            for (key, value) in fields {
                let value = without_nothing(value);
                let selects = key == "selector" || key == "nodeSelector";
                let is_nothing = match &value {
                    Value::Null => true,
                    Value::Bool(value) => !value,
                    Value::Number(number) => number.as_i64() == Some(0),
                    Value::String(text) => text.is_empty(),
                    Value::Array(elements) => elements.is_empty(),
                    Value::Object(fields) => fields.is_empty() && !selects,
                };
                if !is_nothing {
                    kept.insert(key, value);
                }
            }
            Value::Object(kept)
        }
        Value::Array(elements) => elements.into_iter().map(without_nothing).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const POLICY: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
        metadata: {name: NAME}\nspec:\n  selector: {matchLabels: {a: b}}\n  \
        process:\n    matchPaths: [{path: /bin/x}]\n";

    fn store() -> (tempfile::TempDir, Store) {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(temp.path().join("policies")).unwrap();
        (temp, store)
    }

    fn request(text: String) -> ApplyRequest {
        let name = "test.yaml".to_owned();
        ApplyRequest { name, text }
    }

    fn files(store: &Store) -> Vec<String> {
        let entries = fs::read_dir(&store.dir).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort();
        names
    }

    fn event(change: &str, name: &str, spec: Value) -> Vec<u8> {
        let metadata = json!({ "name": name, "creationTimestamp": null });
        let object = json!({ "metadata": metadata, "spec": spec });
        json!({ "type": change, "object": object })
            .to_string()
            .into_bytes()
    }

    #[test]
    fn what_is_applied_is_kept_replaced_and_deleted() {
        let (_temp, store) = store();
        let two = format!(
            "{}---\n{}",
            POLICY.replace("NAME", "one"),
            POLICY.replace("NAME", "two")
        );
        let reply = store.apply(&request(two)).unwrap();
        assert_eq!(reply.policies.len(), 2);
        assert!(reply.policies.iter().all(|policy| !policy.replaced));
        assert_eq!(
            files(&store),
            ["KubeArmorPolicy:one.yaml", "KubeArmorPolicy:two.yaml"]
        );
        let kept = fs::read_to_string(store.dir.join("KubeArmorPolicy:one.yaml")).unwrap();
        assert_eq!(kept, POLICY.replace("NAME", "one"));

        let reply = store
            .apply(&request(POLICY.replace("NAME", "one")))
            .unwrap();
        assert!(reply.policies[0].replaced);
        let one = DeleteRequest {
            kind: "KubeArmorPolicy".to_owned(),
            namespace: String::new(),
            name: "one".to_owned(),
        };
        store.delete(&one).unwrap();
        assert_eq!(files(&store), ["KubeArmorPolicy:two.yaml"]);
        assert!(matches!(store.delete(&one), Err(Refusal::NotFound(why)) if why.contains("`one`")));
    }

    #[test]
    fn one_error_keeps_everything_out_and_names_its_line() {
        let (_temp, store) = store();
        let wrong = POLICY
            .replace("NAME", "two")
            .replace("matchPaths", "matchPath");
        let both = format!("{}---\n{wrong}", POLICY.replace("NAME", "one"));
        let refused = store.apply(&request(both)).unwrap_err();
        assert!(matches!(refused, Refusal::Invalid(why) if why.contains("test.yaml:15:")));
        assert!(files(&store).is_empty());
    }

    #[test]
    fn a_name_cannot_leave_the_directory() {
        let (_temp, store) = store();
        let refused = store.apply(&request(POLICY.replace("NAME", "../../evil")));
        assert!(matches!(refused, Err(Refusal::Invalid(_))));
        let path = store.file("../x", "../y", "../z");
        assert_eq!(path.parent(), Some(store.dir.as_path()));
    }

    #[test]
    fn kubearmors_events_are_answered_with_its_status() {
        let (_temp, store) = store();
        let spec = json!({
            "selector": { "matchLabels": { "a": "b" } },
            "process": { "matchPaths": [{ "path": "/bin/x", "ownerOnly": false, "action": "" }] },
            "file": {}, "capabilities": null, "severity": 0, "tags": null, "action": "Block"
        });
        let host = json!({
            "nodeSelector": { "matchLabels": { "a": "b" } },
            "process": { "matchPaths": [{ "path": "/bin/x" }] }
        });
        let is = |kind, change, name, spec: &Value| {
            store.event(kind, &event(change, name, spec.clone())).0
        };
        let container = "KubeArmorPolicy";
        assert_eq!(is(container, "ADDED", "p", &spec), PolicyStatus::Applied);
        assert_eq!(
            is(container, "MODIFIED", "p", &spec),
            PolicyStatus::Modified
        );
        assert_eq!(
            is("KubeArmorHostPolicy", "ADDED", "p", &host),
            PolicyStatus::Applied
        );
        assert_eq!(
            files(&store),
            ["KubeArmorHostPolicy:p.yaml", "KubeArmorPolicy:p.yaml"]
        );
        assert_eq!(
            is(container, "DELETED", "p", &json!({})),
            PolicyStatus::Deleted
        );
        assert_eq!(
            is(container, "DELETED", "p", &json!({})),
            PolicyStatus::NotExist
        );
        let wrong = json!({ "process": { "matchPaths": [{ "path": "no/root" }] } });
        assert_eq!(is(container, "ADDED", "p", &wrong), PolicyStatus::Invalid);
        assert_eq!(is(container, "GUESSED", "p", &spec), PolicyStatus::Invalid);
        let network = "KubeArmorNetworkPolicy";
        assert_eq!(is(network, "ADDED", "p", &spec), PolicyStatus::NotEnabled);
        assert_eq!(
            store.event(container, b"{\"type\"").0,
            PolicyStatus::Invalid
        );
    }

    #[test]
    fn a_selector_without_labels_is_kept_and_other_empty_fields_are_not() {
        let sent =
            json!({ "selector": {}, "file": {}, "tags": [], "process": { "matchPaths": null } });
        assert_eq!(without_nothing(sent), json!({ "selector": {} }));
    }
}
