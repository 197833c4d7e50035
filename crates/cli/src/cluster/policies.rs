// SPDX-License-Identifier: Apache-2.0
//! The policies that the API server keeps, and what the operator has written of each.

use super::api::Api;
use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::{Map, Value, json};

const VERSION: &str = "security.kubearmor.com/v1";
const KINDS: [&str; 4] = [
    "KubeArmorPolicy",
    "KubeArmorHostPolicy",
    "KubeArmorClusterPolicy",
    "KubeArmorNetworkPolicy",
];
/// What `kubectl apply` remembers in the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// A policy of the API.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Kept {
    pub(crate) kind: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) generation: i64,
    /// Of the operator; null when it has written none.
    pub(crate) status: Value,
    /// Without what the server has added.
    pub(crate) policy: Value,
}

/// All policies of the cluster, by kind, namespace and name.
pub(crate) async fn list(api: &Api) -> Result<Vec<Kept>> {
    let mut all = Vec::new();
    for kind in KINDS {
        let objects = api.list((VERSION, kind), "", "").await?;
        // Items of a list do not say their kind.
        all.extend(objects.iter().map(|object| Kept::of(kind, object)));
    }
    all.sort_by(|one, other| one.place().cmp(&other.place()));
    Ok(all)
}

impl Kept {
    fn of(kind: &str, object: &Value) -> Self {
        let metadata = object.get("metadata").cloned().unwrap_or_default();
        let text = |key: &str| {
            let text = metadata.get(key).and_then(Value::as_str);
            text.unwrap_or_default().to_owned()
        };
        let mut written = Map::new();
        for key in ["name", "namespace", "labels", "annotations"] {
            let mut value = metadata.get(key).cloned().unwrap_or_default();
            if let Some(fields) = value.as_object_mut() {
                fields.remove(LAST_APPLIED);
            }
            let is_empty = value.as_object().is_some_and(Map::is_empty);
            if !value.is_null() && !is_empty {
                written.insert(key.to_owned(), value);
            }
        }
        let generation = metadata.get("generation").and_then(Value::as_i64);
        let spec = object.get("spec").cloned().unwrap_or_default();
        Self {
            kind: kind.to_owned(),
            namespace: text("namespace"),
            name: text("name"),
            generation: generation.unwrap_or_default(),
            status: object.get("status").cloned().unwrap_or_default(),
            policy: json!({
                "apiVersion": VERSION, "kind": kind, "metadata": written, "spec": spec,
            }),
        }
    }

    fn place(&self) -> (&str, &str, &str) {
        (&self.kind, &self.namespace, &self.name)
    }

    /// `namespace/name`, or the name.
    pub(crate) fn called(&self) -> String {
        match self.namespace.as_str() {
            "" => self.name.clone(),
            namespace => format!("{namespace}/{}", self.name),
        }
    }

    /// One word of what became of it.
    pub(crate) fn word(&self) -> &str {
        let word = self.status.get("status").and_then(Value::as_str);
        match word {
            Some(_) if self.is_stale() => "Pending",
            Some(word) => word,
            None => "-",
        }
    }

    /// What is written is about an earlier version.
    fn is_stale(&self) -> bool {
        let about = self.status.get("observedGeneration");
        about
            .and_then(Value::as_i64)
            .is_some_and(|about| about < self.generation)
    }

    /// The sentence that says most: why it is not accepted, what is not as written, or where it is enforced.
    pub(crate) fn sentence(&self) -> String {
        if self.is_stale() {
            return "the newest version was not looked at yet".to_owned();
        }
        let telling = [
            ("Accepted", "False"),
            ("Degraded", "True"),
            ("Enforced", ""),
        ];
        let conditions = self.conditions();
        let found = telling.iter().find_map(|(kind, truth)| {
            conditions
                .iter()
                .find(|it| it.kind == *kind && (truth.is_empty() || it.truth == *truth))
        });
        match (found, self.status.is_null()) {
            (Some(found), _) => found.message.clone(),
            (None, true) => "nothing is written: does the operator run?".to_owned(),
            (None, false) => {
                "no conditions: the kind is KubeArmor's (docs/kubernetes.md)".to_owned()
            }
        }
    }

    /// What is written of it: a word, and what is said.
    pub(crate) fn state(&self) -> Vec<(String, String)> {
        let mut state = vec![
            (
                "policy".to_owned(),
                format!("{} `{}`", self.kind, self.called()),
            ),
            ("generation".to_owned(), self.generation.to_string()),
            ("status".to_owned(), self.word().to_owned()),
        ];
        let conditions = self.conditions();
        if conditions.is_empty() || self.is_stale() {
            state.push(("note".to_owned(), self.sentence()));
        }
        state.extend(conditions.into_iter().map(|it| {
            let Condition {
                kind,
                truth,
                reason,
                message,
            } = it;
            let said = match message.as_str() {
                "" => format!("{truth} ({reason})"),
                message => format!("{truth} ({reason}): {message}"),
            };
            (kind.to_lowercase(), said)
        }));
        state
    }

    fn conditions(&self) -> Vec<Condition> {
        let conditions = self.status.get("conditions").and_then(Value::as_array);
        let one = |it: &Value| {
            let text = |key: &str| {
                let text = it.get(key).and_then(Value::as_str);
                text.unwrap_or_default().to_owned()
            };
            Condition {
                kind: text("type"),
                truth: text("status"),
                reason: text("reason"),
                message: text("message"),
            }
        };
        conditions.into_iter().flatten().map(one).collect()
    }

    /// As it could be applied.
    pub(crate) fn yaml(&self) -> Result<String> {
        serde_saphyr::to_string(&self.policy).context("cannot write YAML")
    }
}

struct Condition {
    kind: String,
    truth: String,
    reason: String,
    message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(status: Value) -> Kept {
        Kept::of(
            "KubeArmorPolicy",
            &json!({
                "metadata": {"name": "p", "namespace": "shop", "generation": 2, "uid": "u",
                    "annotations": {LAST_APPLIED: "{}"}, "managedFields": []},
                "spec": {"action": "Block"},
                "status": status,
            }),
        )
    }

    fn conditions(accepted: &str, degraded: &str) -> Value {
        let one = |kind: &str, status: &str, message: &str| json!({"type": kind, "status": status, "reason": "R", "message": message});
        json!({"status": "Word", "observedGeneration": 2, "conditions": [
            one("Accepted", accepted, "wrong"), one("Enforced", "True", "1 of 1 nodes"),
            one("Degraded", degraded, "not as written"),
        ]})
    }

    #[test]
    fn the_sentence_is_the_one_that_says_most() {
        for (status, sentence) in [
            (conditions("True", "False"), "1 of 1 nodes"),
            (conditions("True", "True"), "not as written"),
            (conditions("False", "True"), "wrong"),
            (Value::Null, "nothing is written: does the operator run?"),
            (
                json!({"status": "OK"}),
                "no conditions: the kind is KubeArmor's (docs/kubernetes.md)",
            ),
        ] {
            assert_eq!(kept(status).sentence(), sentence);
        }
    }

    #[test]
    fn what_is_written_of_an_earlier_version_is_not_taken_for_the_newest() {
        let mut status = conditions("True", "False");
        assert_eq!(kept(status.clone()).word(), "Word");
        status["observedGeneration"] = json!(1);
        let kept = kept(status);
        assert_eq!(kept.word(), "Pending");
        assert!(kept.sentence().contains("newest version"));
    }

    #[test]
    fn a_policy_is_as_it_could_be_applied() {
        let wanted = json!({
            "apiVersion": "security.kubearmor.com/v1", "kind": "KubeArmorPolicy",
            "metadata": {"name": "p", "namespace": "shop"}, "spec": {"action": "Block"},
        });
        let kept = kept(Value::Null);
        assert_eq!(kept.policy, wanted);
        let read: Value = serde_saphyr::from_str(&kept.yaml().unwrap()).unwrap();
        assert_eq!(read, wanted);
    }
}
