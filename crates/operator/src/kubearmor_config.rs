// SPDX-License-Identifier: Apache-2.0
//! KubeArmor's operator has its settings in a `KubeArmorConfig`. Those that mean something here become a
//! ConfigMap that all agents read, as KubeArmor's do.
//!
//! COMPAT: the ConfigMap is labelled as KubeArmor's, so that one of Gorget's own counts before. What is about
//! how KubeArmor is installed (images, tolerations, adapters) is left alone: the chart's values say it here.
//!
//! INVARIANT: a value that is not allowed is not written, and is named in the object's status. Of several
//! objects the first by name counts, and the others are told.

use crate::api::{AskError, Objects, with};
use crate::lease::hold::Leading;
use gorget_k8s::check_setting;
use kube::Client;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// The ConfigMap.
const NAME: &str = "gorget-kubearmorconfig";
const VERSION: &str = "operator.kubearmor.com/v1";
/// How often it is looked whether there is something to say: agents hear of a ConfigMap at once.
const PERIOD: Duration = Duration::from_secs(5);

/// Field of the object, and key of the ConfigMap.
const FIELDS: [(&str, &str); 7] = [
    ("defaultFilePosture", "defaultFilePosture"),
    ("defaultNetworkPosture", "defaultNetworkPosture"),
    ("defaultCapabilitiesPosture", "defaultCapabilitiesPosture"),
    ("defaultVisibility", "visibility"),
    ("alertThrottling", "alertThrottling"),
    ("maxAlertPerSec", "maxAlertPerSec"),
    ("throttleSec", "throttleSec"),
];

/// What an object says.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Said {
    /// The ConfigMap's data.
    data: Map<String, Value>,
    /// What is not as it says.
    problems: Vec<String>,
}

/// What the object says that agents can be told.
pub(crate) fn said(config: &Value) -> Said {
    let mut said = Said::default();
    let field = |name: &str| config.get("spec").and_then(|spec| spec.get(name));
    for (name, key) in FIELDS {
        let text = match field(name) {
            None | Some(Value::Null) => continue,
            Some(Value::String(text)) if text.is_empty() => continue,
            Some(Value::String(text)) => text.clone(),
            Some(Value::Bool(is_so)) => is_so.to_string(),
            Some(Value::Number(number)) => number.to_string(),
            Some(Value::Array(_) | Value::Object(_)) => {
                said.problems
                    .push(format!("spec.{name}: is neither text nor a number"));
                continue;
            }
        };
        match check_setting(key, &text) {
            Ok(true) => drop(said.data.insert(key.to_owned(), text.into())),
            Ok(false) => said
                .problems
                .push(format!("spec.{name}: means nothing here")),
            Err(reason) => said.problems.push(format!("spec.{name}: {reason}")),
        }
    }
    if field("matchArgs") == Some(&Value::Bool(false)) {
        said.problems
            .push("spec.matchArgs: arguments are always matched".to_owned());
    }
    said
}

fn name(object: &Value) -> &str {
    let name = object.pointer("/metadata/name");
    name.and_then(Value::as_str).unwrap_or_default()
}

/// Has the ConfigMap say what the object says.
#[derive(Debug)]
pub(crate) struct Translator {
    configs: Objects,
    maps: Objects,
    namespace: String,
    leading: Leading,
}

impl Translator {
    pub(crate) fn new(client: &Client, namespace: &str, leading: Leading) -> Self {
        Self {
            configs: Objects::new(client, VERSION, namespace, "kubearmorconfigs"),
            maps: Objects::new(client, "v1", namespace, "configmaps"),
            namespace: namespace.to_owned(),
            leading,
        }
    }

    /// For ever.
    pub(crate) async fn run(self) {
        let mut is_failing = false;
        loop {
            if self.leading.now() {
                match self.round().await {
                    Ok(()) => is_failing = false,
                    Err(error) => {
                        if !std::mem::replace(&mut is_failing, true) {
                            tracing::warn!("`KubeArmorConfig`: {error}");
                        }
                    }
                }
            }
            tokio::time::sleep(PERIOD).await;
        }
    }

    pub(crate) async fn round(&self) -> Result<(), AskError> {
        let mut configs = self.configs.list().await?;
        configs.sort_by(|one, other| name(one).cmp(name(other)));
        let said = configs.first().map(said).unwrap_or_default();
        self.write(&said.data).await?;
        let first = configs.first().map(name).unwrap_or_default();
        for (number, config) in configs.iter().enumerate() {
            let problems = match number {
                0 => said.problems.join("; "),
                _ => format!("only `{first}` counts, which comes first by name"),
            };
            self.tell(config, &problems).await?;
        }
        Ok(())
    }

    async fn write(&self, data: &Map<String, Value>) -> Result<(), AskError> {
        let there = self.maps.get(NAME).await?;
        let wanted = || Value::Object(data.clone());
        match there {
            Some(map) => {
                let is_said = match map.get("data") {
                    Some(there) => *there == wanted(),
                    None => data.is_empty(),
                };
                if !is_said {
                    // Who was first at the same time is written over in the next round.
                    drop(
                        self.maps
                            .replace(NAME, &with(map, "data", wanted()))
                            .await?,
                    );
                }
            }
            None if data.is_empty() => {}
            None => {
                let map = json!({
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {
                        "name": NAME,
                        "namespace": self.namespace,
                        "labels": { "kubearmor-app": "kubearmor-configmap" },
                    },
                    "data": wanted(),
                });
                drop(self.maps.create(NAME, &map).await?);
            }
        }
        Ok(())
    }

    async fn tell(&self, config: &Value, problems: &str) -> Result<(), AskError> {
        let phase = if problems.is_empty() {
            "Running"
        } else {
            "Error"
        };
        let status = json!({ "phase": phase, "message": problems });
        let there = |key: &str| config.get("status").and_then(|status| status.get(key));
        let is_said = ["phase", "message"]
            .into_iter()
            .all(|key| there(key) == status.get(key));
        if !is_said {
            let uid = config.pointer("/metadata/uid");
            let patch = json!({ "metadata": { "uid": uid }, "status": status });
            drop(self.configs.merge_status(name(config), &patch).await?);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::store::Store;
    use crate::lease::hold::Candidate;

    const MAP: &str = "/api/v1/namespaces/gorget/configmaps/gorget-kubearmorconfig";
    const CONFIGS: &str = "/apis/operator.kubearmor.com/v1/namespaces/gorget/kubearmorconfigs";

    #[test]
    fn settings_become_keys_that_agents_read() {
        let said = said(&json!({ "spec": {
            "defaultFilePosture": "block",
            "defaultVisibility": "process,network",
            "alertThrottling": true,
            "maxAlertPerSec": 10,
            "kubearmorImage": { "image": "kubearmor/kubearmor:stable" },
            "tls": { "enable": false },
        }}));
        assert_eq!(
            Value::Object(said.data),
            json!({
                "defaultFilePosture": "block",
                "visibility": "process,network",
                "alertThrottling": "true",
                "maxAlertPerSec": "10",
            })
        );
        assert!(said.problems.is_empty());
    }

    #[test]
    fn a_value_that_is_not_allowed_is_named_and_not_written() {
        let said = said(&json!({ "spec": {
            "defaultFilePosture": "deny",
            "defaultNetworkPosture": "audit",
            "throttleSec": 0,
            "defaultVisibility": ["process"],
            "matchArgs": false,
        }}));
        assert_eq!(
            Value::Object(said.data),
            json!({ "defaultNetworkPosture": "audit" })
        );
        assert_eq!(
            said.problems,
            [
                "spec.defaultFilePosture: `deny` is not one of `allow`, `audit`, `block`",
                "spec.defaultVisibility: is neither text nor a number",
                "spec.throttleSec: `0` is not a positive number",
                "spec.matchArgs: arguments are always matched",
            ]
        );
        for odd in [json!(null), json!([]), json!({ "spec": 3 })] {
            assert_eq!(super::said(&odd), Said::default());
        }
    }

    #[test]
    fn the_map_follows_the_object_and_is_empty_without_one() {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(async {
            let store = Store::default();
            let client = store.client();
            let leases = Objects::new(&client, "coordination.k8s.io/v1", "gorget", "leases");
            let (_candidate, leading) = Candidate::new(leases, "gorget", "l", "one".to_owned());
            let translator = Translator::new(&client, "gorget", leading);
            translator.round().await.unwrap();
            assert_eq!(store.writes().len(), 0);
            let config = |name: &str, posture: &str| {
                let metadata = json!({ "name": name, "uid": name });
                let object =
                    json!({ "metadata": metadata, "spec": { "defaultFilePosture": posture } });
                store.put(&format!("{CONFIGS}/{name}"), object);
            };
            config("b", "audit");
            config("a", "block");
            translator.round().await.unwrap();
            assert_eq!(
                store.get(MAP).unwrap()["data"],
                json!({ "defaultFilePosture": "block" })
            );
            let status =
                |name: &str| store.get(&format!("{CONFIGS}/{name}")).unwrap()["status"].clone();
            assert_eq!(status("a"), json!({ "phase": "Running", "message": "" }));
            assert_eq!(status("b")["phase"], "Error");
            let before = store.writes();
            translator.round().await.unwrap();
            assert_eq!(store.writes(), before);
            config("a", "nonsense");
            translator.round().await.unwrap();
            assert_eq!(store.get(MAP).unwrap()["data"], json!({}));
            assert_eq!(status("a")["phase"], "Error");
        });
    }
}
