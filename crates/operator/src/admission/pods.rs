// SPDX-License-Identifier: Apache-2.0
//! AppArmor profiles for containers that policies name: [`patch`].
//!
//! Where AppArmor enforces, a container is confined by the profile that it was started in, and a pod has to say
//! which. The agents load it as soon as a policy names the container (`docs/apparmor.md`).
//!
//! INVARIANT: a pod that says something about AppArmor itself is left as it says, and so is what is privileged,
//! which runtimes do not confine. Nothing but profiles is changed, and no pod that is there already.

use gorget_model::PROFILE_PREFIX;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// Before Kubernetes 1.30.
const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Which containers have a profile on every node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profiles {
    /// By namespace.
    pub(crate) named: BTreeMap<String, BTreeSet<String>>,
    /// Pods have a field for it, and not an annotation.
    pub(crate) has_field: bool,
}

/// What is to be changed of a pod, as a JSON patch; empty: nothing.
pub(crate) fn patch(pod: &Value, namespace: &str, profiles: &Profiles) -> Vec<Value> {
    let Some(named) = profiles.named.get(namespace) else {
        return Vec::new();
    };
    let of_pod = pod.pointer("/spec/securityContext/appArmorProfile");
    let system = pod.pointer("/spec/os/name").and_then(Value::as_str);
    if is_said(of_pod) || system.is_some_and(|name| name != "linux") {
        return Vec::new();
    }
    let annotations = pod.pointer("/metadata/annotations");
    let mut chosen = Vec::new();
    for list in ["initContainers", "containers"] {
        let containers = pod.pointer(&format!("/spec/{list}"));
        let containers = containers.and_then(Value::as_array).into_iter().flatten();
        for (number, container) in containers.enumerate() {
            let name = container.get("name").and_then(Value::as_str);
            let name = name.filter(|name| named.contains(*name));
            let Some(name) = name else { continue };
            let annotation = format!("{ANNOTATION}{name}");
            let is_annotated = annotations.is_some_and(|it| it.get(&annotation).is_some());
            if !is_annotated && is_free(container) {
                chosen.push((format!("/spec/{list}/{number}"), name, container));
            }
        }
    }
    match profiles.has_field {
        true => chosen
            .iter()
            .map(|(path, name, container)| field(path, name, container))
            .collect(),
        false => annotated(&chosen, annotations),
    }
}

fn is_said(value: Option<&Value>) -> bool {
    value.is_some_and(|value| !value.is_null())
}

/// It says nothing about AppArmor itself, and would be confined.
fn is_free(container: &Value) -> bool {
    let context = |key: &str| container.pointer(&format!("/securityContext/{key}"));
    let is_privileged = context("privileged") == Some(&Value::Bool(true));
    !is_said(context("appArmorProfile")) && !is_privileged
}

fn field(path: &str, name: &str, container: &Value) -> Value {
    let profile =
        json!({ "type": "Localhost", "localhostProfile": format!("{PROFILE_PREFIX}{name}") });
    match is_said(container.get("securityContext")) {
        true => {
            json!({ "op": "add", "path": format!("{path}/securityContext/appArmorProfile"), "value": profile })
        }
        false => {
            let context = json!({ "appArmorProfile": profile });
            json!({ "op": "add", "path": format!("{path}/securityContext"), "value": context })
        }
    }
}

fn annotated(chosen: &[(String, &str, &Value)], annotations: Option<&Value>) -> Vec<Value> {
    let mut operations = Vec::new();
    if !chosen.is_empty() && !is_said(annotations) {
        operations.push(json!({ "op": "add", "path": "/metadata/annotations", "value": {} }));
    }
    for (_, name, _) in chosen {
        // Names of containers have neither slash nor tilde.
        let key = ANNOTATION.replace('/', "~1");
        operations.push(json!({
            "op": "add",
            "path": format!("/metadata/annotations/{key}{name}"),
            "value": format!("localhost/{PROFILE_PREFIX}{name}"),
        }));
    }
    operations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profiles(has_field: bool) -> Profiles {
        let named = ["web", "db"].map(str::to_owned).into();
        Profiles {
            named: [("shop".to_owned(), named)].into(),
            has_field,
        }
    }

    fn pod(containers: &Value) -> Value {
        json!({
            "metadata": { "name": "p", "namespace": "shop" },
            "spec": { "containers": containers, "initContainers": [{ "name": "db" }] },
        })
    }

    #[test]
    fn containers_that_policies_name_get_their_profiles_and_others_none() {
        let pod = pod(&json!([
            { "name": "other" },
            { "name": "web", "securityContext": { "runAsUser": 1 } },
        ]));
        let profile = |name: &str| json!({ "type": "Localhost", "localhostProfile": name });
        assert_eq!(
            patch(&pod, "shop", &profiles(true)),
            [
                json!({
                    "op": "add", "path": "/spec/initContainers/0/securityContext",
                    "value": { "appArmorProfile": profile("kubearmor_db") },
                }),
                json!({
                    "op": "add", "path": "/spec/containers/1/securityContext/appArmorProfile",
                    "value": profile("kubearmor_web"),
                }),
            ]
        );
        assert!(patch(&pod, "elsewhere", &profiles(true)).is_empty());
    }

    #[test]
    fn before_there_was_a_field_it_is_an_annotation() {
        let mut pod = pod(&json!([{ "name": "web" }]));
        let found = patch(&pod, "shop", &profiles(false));
        assert_eq!(found[0]["path"], "/metadata/annotations");
        assert_eq!(
            found[2],
            json!({
                "op": "add",
                "path": "/metadata/annotations/container.apparmor.security.beta.kubernetes.io~1web",
                "value": "localhost/kubearmor_web",
            })
        );
        pod["metadata"]["annotations"] = json!({ format!("{ANNOTATION}db"): "unconfined" });
        let found = patch(&pod, "shop", &profiles(false));
        assert_eq!(found.len(), 1);
    }

    #[test]
    fn what_a_pod_says_itself_and_what_is_not_confined_is_left_alone() {
        let free = pod(&json!([{ "name": "web" }]));
        let left = |change: fn(&mut Value)| {
            let mut pod = free.clone();
            pod["spec"]["initContainers"] = json!([]);
            change(&mut pod);
            assert!(patch(&pod, "shop", &profiles(true)).is_empty(), "{pod}");
        };
        left(|pod| {
            pod["spec"]["securityContext"] = json!({ "appArmorProfile": { "type": "Unconfined" } });
        });
        left(|pod| {
            let profile = json!({ "appArmorProfile": { "type": "RuntimeDefault" } });
            pod["spec"]["containers"][0]["securityContext"] = profile;
        });
        left(|pod| pod["spec"]["containers"][0]["securityContext"] = json!({ "privileged": true }));
        left(|pod| pod["metadata"]["annotations"] = json!({ format!("{ANNOTATION}web"): "x" }));
        left(|pod| pod["spec"]["os"] = json!({ "name": "windows" }));
        left(|pod| *pod = json!(7));
        left(|pod| pod["spec"]["containers"] = json!([3, { "name": 4 }, {}]));
    }
}
