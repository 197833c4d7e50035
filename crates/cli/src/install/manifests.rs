// SPDX-License-Identifier: Apache-2.0
//! What is installed: the files of `deploy/`, which are part of the program, as they are wanted.
//!
//! Pure but for reading the user's files. INVARIANT: what comes out is in an order in which it can be applied:
//! namespaces, kinds, then who may what, then what is run, and last what makes the API server ask.

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::Path;

macro_rules! files {
    ($($name:literal),* $(,)?) => {
        [$(($name, include_str!(concat!("../../../../deploy/", $name)))),*]
    };
}

/// The kinds of policies.
const CRDS: [(&str, &str); 5] = files![
    "crds/kubearmorpolicies.yaml",
    "crds/kubearmorhostpolicies.yaml",
    "crds/kubearmorclusterpolicies.yaml",
    "crds/kubearmornetworkpolicies.yaml",
    "crds/kubearmorconfigs.yaml",
];
const MANIFESTS: [(&str, &str); 2] = files![
    "manifests/gorget-with-relay.yaml",
    "manifests/gorget-operator.yaml",
];

/// Before the name of each image in the manifests.
const REGISTRY: &str = "ghcr.io/gorget/";
/// Of the agent: the ConfigMap, and the key in it.
pub(super) const AGENT: &str = "gorget-agent";
pub(super) const CONFIG: &str = "gorget.yaml";
/// On pods: of which configuration they are, so that they are made anew with another.
pub(super) const CHECKSUM: &str = "checksum/config";

/// How it is wanted.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    pub(super) without_operator: bool,
    pub(super) without_relay: bool,
    /// Instead of where images are.
    pub(super) registry: Option<String>,
    /// Instead of this version's.
    pub(super) tag: Option<String>,
    /// Settings for the agent, beside those of the manifests.
    pub(super) config: Option<Map<String, Value>>,
    /// Parts of objects, put over those of the manifests.
    pub(super) patches: Vec<Value>,
}

/// Everything that there is, in order.
pub(super) fn objects(wishes: &Wishes) -> Result<Vec<Value>> {
    let mut objects = Vec::new();
    for (file, text) in CRDS.into_iter().chain(MANIFESTS) {
        let parsed: Vec<Value> =
            serde_saphyr::from_multiple(text).with_context(|| format!("`{file}`"))?;
        objects.extend(parsed);
    }
    objects.retain(|object| match named(object) {
        "gorget-operator" | "gorget-operator-tls" | "gorget-kubearmorconfig" => {
            !wishes.without_operator
        }
        "gorget-relay" => !wishes.without_relay,
        _ => true,
    });
    for object in &mut objects {
        images(object, wishes);
    }
    if let Some(config) = &wishes.config {
        configure(&mut objects, config)?;
    }
    for patch in &wishes.patches {
        let is_it = |object: &&mut Value| is_meant(patch, object);
        match objects.iter_mut().find(is_it) {
            Some(object) => merge(object, patch),
            None => bail!(
                "`--patch` is about {} `{}`, and nothing of that kind and name is installed; `gorget install --print` shows what is",
                kind(patch),
                named(patch)
            ),
        }
    }
    objects.sort_by_key(|object| rank(kind(object)));
    Ok(objects)
}

/// With one more, where its turn is.
pub(super) fn with(mut objects: Vec<Value>, one: Value) -> Vec<Value> {
    objects.push(one);
    objects.sort_by_key(|object| rank(kind(object)));
    objects
}

/// When a kind's turn is.
fn rank(kind: &str) -> u8 {
    match kind {
        "Namespace" => 0,
        "CustomResourceDefinition" => 1,
        "ServiceAccount" => 2,
        "ClusterRole" | "Role" => 3,
        "ClusterRoleBinding" | "RoleBinding" => 4,
        "Secret" | "ConfigMap" => 5,
        "Service" => 6,
        "DaemonSet" | "Deployment" => 7,
        // Whom the API server asks must be there.
        "ValidatingWebhookConfiguration" => 9,
        _ => 8,
    }
}

pub(super) fn kind(object: &Value) -> &str {
    let kind = object.get("kind").and_then(Value::as_str);
    kind.unwrap_or_default()
}

pub(super) fn named(object: &Value) -> &str {
    let name = object.pointer("/metadata/name").and_then(Value::as_str);
    name.unwrap_or_default()
}

fn images(object: &mut Value, wishes: &Wishes) {
    let containers = object.pointer_mut("/spec/template/spec/containers");
    let containers = containers.and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        let Some(Value::String(image)) = container.get_mut("image") else {
            continue;
        };
        let rest = image.strip_prefix(REGISTRY).unwrap_or(image);
        let (name, tag) = rest.split_once(':').unwrap_or((rest, "latest"));
        let registry = match &wishes.registry {
            Some(registry) => format!("{}/", registry.trim_end_matches('/')),
            None => REGISTRY.to_owned(),
        };
        let tag = wishes.tag.as_deref().unwrap_or(tag);
        *image = format!("{registry}{name}:{tag}");
    }
}

/// Puts settings into the agent's configuration, and into its pods of which configuration they are.
fn configure(objects: &mut [Value], config: &Map<String, Value>) -> Result<()> {
    let mut checksum = None;
    for object in objects.iter_mut().filter(|object| named(object) == AGENT) {
        if let Some(data) = object.pointer_mut("/data") {
            let text = data.get(CONFIG).and_then(Value::as_str);
            let text = configured(text.unwrap_or_default(), config)?;
            checksum = Some(sum(&text));
            merge(data, &Value::from_iter([(CONFIG, Value::from(text))]));
        }
    }
    let annotations = "/spec/template/metadata/annotations";
    for object in objects.iter_mut().filter(|object| named(object) == AGENT) {
        if let (Some(annotations), Some(sum)) = (object.pointer_mut(annotations), &checksum) {
            merge(annotations, &Value::from_iter([(CHECKSUM, sum.as_str())]));
        }
    }
    Ok(())
}

/// A configuration with other settings.
pub(super) fn configured(text: &str, settings: &Map<String, Value>) -> Result<String> {
    let mut config: Map<String, Value> =
        serde_saphyr::from_str(text).context("the agent's configuration")?;
    let settings = settings.iter();
    config.extend(settings.map(|(key, value)| (key.clone(), value.clone())));
    serde_saphyr::to_string(&config).context("the agent's configuration")
}

/// What tells a configuration from others.
pub(super) fn sum(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_meant(patch: &Value, object: &Value) -> bool {
    let namespace = |of: &Value| of.pointer("/metadata/namespace").cloned();
    let same_place = namespace(patch).is_none_or(|it| Some(it) == namespace(object));
    kind(patch) == kind(object) && named(patch) == named(object) && same_place
}

/// Puts one over the other. Of lists of things with names each is put over the one of its name, or after the
/// last; every other list is replaced. Null takes away.
fn merge(into: &mut Value, patch: &Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                match (into.get_mut(key), value) {
                    (_, Value::Null) => drop(into.remove(key)),
                    (Some(there), value) => merge(there, value),
                    (None, value) => drop(into.insert(key.clone(), value.clone())),
                }
            }
        }
        (Value::Array(into), Value::Array(patch)) if are_named(into) && are_named(patch) => {
            for value in patch {
                let same = |there: &&mut Value| there.get("name") == value.get("name");
                match into.iter_mut().find(same) {
                    Some(there) => merge(there, value),
                    None => into.push(value.clone()),
                }
            }
        }
        (into, patch) => *into = patch.clone(),
    }
}

fn are_named(values: &[Value]) -> bool {
    values.iter().all(|value| value.get("name").is_some())
}

/// The objects of a file with parts of objects.
pub(super) fn read_patches(file: &Path) -> Result<Vec<Value>> {
    let what = || format!("`--patch {}`", file.display());
    let text = fs::read_to_string(file).with_context(what)?;
    let patches: Vec<Value> = serde_saphyr::from_multiple(&text).with_context(what)?;
    for patch in &patches {
        if kind(patch).is_empty() || named(patch).is_empty() {
            bail!(
                "{}: every document needs `kind` and `metadata.name`, which say what it is about",
                what()
            );
        }
    }
    Ok(patches)
}

/// Settings of a file.
pub(super) fn read_config(file: &Path) -> Result<Map<String, Value>> {
    let what = || format!("`--config {}`", file.display());
    let text = fs::read_to_string(file).with_context(what)?;
    serde_saphyr::from_str(&text)
        .with_context(|| format!("{}: settings of the agent are expected", what()))
}

/// As YAML, one document each.
pub(super) fn yaml(objects: &[Value]) -> Result<String> {
    let mut text = String::new();
    for object in objects {
        let object = serde_saphyr::to_string(object).context("cannot write YAML")?;
        text.push_str("---\n");
        text.push_str(&object);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::collections::BTreeSet;

    fn place(object: &Value) -> String {
        format!("{}/{}", kind(object), named(object))
    }

    fn all() -> Vec<Value> {
        objects(&Wishes::default()).unwrap()
    }

    fn find<'a>(objects: &'a [Value], what: &str) -> &'a Value {
        let mut found = objects.iter().filter(|object| place(object) == what);
        found.next().unwrap()
    }

    #[test]
    fn every_file_of_the_manifests_is_part_of_the_program_and_has_what_is_claimed() {
        let known: BTreeSet<_> = CRDS.iter().map(|(file, _)| *file).collect();
        let there = fs::read_dir("../../deploy/crds").unwrap();
        let there = there.map(|file| file.unwrap().file_name().into_string().unwrap());
        let there: BTreeSet<_> = there.map(|name| format!("crds/{name}")).collect();
        assert_eq!(known, there.iter().map(String::as_str).collect());
        for (file, text) in CRDS {
            let crds: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
            assert_eq!(crds.len(), 1, "{file}");
            assert_eq!(kind(&crds[0]), "CustomResourceDefinition", "{file}");
        }
        let names: Vec<_> = all().iter().map(place).collect();
        for wanted in [
            "Namespace/gorget",
            "DaemonSet/gorget-agent",
            "Deployment/gorget-relay",
            "Deployment/gorget-operator",
            "ValidatingWebhookConfiguration/gorget-operator",
        ] {
            assert!(names.iter().any(|name| name == wanted), "{wanted}");
        }
        assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    }

    #[test]
    fn namespaces_and_kinds_come_first_and_what_is_asked_last() {
        let objects = all();
        let kinds: Vec<_> = objects.iter().map(kind).collect();
        assert_eq!(kinds[0], "Namespace");
        assert_eq!(kinds[1..6], ["CustomResourceDefinition"; 5]);
        assert!(!kinds[6..].contains(&"Namespace"));
        assert!(!kinds[6..].contains(&"CustomResourceDefinition"));
        assert_eq!(kinds.last(), Some(&"ValidatingWebhookConfiguration"));
        // A kind that nobody has thought of would come late.
        assert!(kinds.iter().all(|kind| rank(kind) != 8), "{kinds:?}");
    }

    #[test]
    fn what_is_not_wanted_leaves_nothing_behind() {
        let wishes = Wishes {
            without_operator: true,
            without_relay: true,
            ..Wishes::default()
        };
        let left: Vec<_> = objects(&wishes).unwrap().iter().map(place).collect();
        assert!(left.iter().any(|it| it == "DaemonSet/gorget-agent"));
        let gone = |it: &String| it.contains("relay") || it.contains("operator");
        let gone: Vec<_> = left.iter().filter(|it| gone(it)).collect();
        assert_eq!(
            gone,
            ["CustomResourceDefinition/kubearmorconfigs.operator.kubearmor.com"]
        );
    }

    #[test]
    fn images_come_from_another_registry_with_another_tag() {
        let wishes = Wishes {
            registry: Some("registry.example/security/".to_owned()),
            tag: Some("1".to_owned()),
            ..Wishes::default()
        };
        let images: BTreeSet<_> = objects(&wishes)
            .unwrap()
            .iter()
            .filter_map(|it| {
                it.pointer("/spec/template/spec/containers/0/image")
                    .cloned()
            })
            .map(|image| image.as_str().unwrap().to_owned())
            .collect();
        let wanted = ["agent", "operator", "relay"];
        let wanted = wanted.map(|name| format!("registry.example/security/gorget-{name}:1"));
        assert_eq!(images, wanted.into());
    }

    #[test]
    fn settings_are_put_beside_those_of_the_manifests_and_make_other_pods() {
        let config = json!({"visibility": "process", "clusterName": "east"});
        let wishes = Wishes {
            config: config.as_object().cloned(),
            ..Wishes::default()
        };
        let configured = objects(&wishes).unwrap();
        let text = |objects: &[Value]| {
            let map = find(objects, "ConfigMap/gorget-agent");
            map["data"][CONFIG].as_str().unwrap().to_owned()
        };
        let read = |text: &str| serde_saphyr::from_str::<Value>(text).unwrap();
        let (before, after) = (read(&text(&all())), read(&text(&configured)));
        assert_eq!(after["visibility"], "process");
        assert_eq!(after["clusterName"], "east");
        assert_eq!(after["tls"], before["tls"]);
        let mark = |objects: &[Value]| {
            let agent = find(objects, "DaemonSet/gorget-agent");
            agent["spec"]["template"]["metadata"]["annotations"][CHECKSUM].clone()
        };
        assert_ne!(mark(&all()), mark(&configured));
        assert_eq!(mark(&configured), sum(&text(&configured)));
    }

    #[test]
    fn a_patch_goes_over_things_of_the_same_name_and_names_what_it_does_not_find() {
        let patch = json!({
            "kind": "DaemonSet", "metadata": {"name": "gorget-agent"},
            "spec": {"template": {"spec": {
                "hostNetwork": true,
                "priorityClassName": null,
                "tolerations": [],
                "containers": [{"name": "agent", "env": [{"name": "A", "value": "b"}]}],
            }}},
        });
        let wishes = |patch: Value| Wishes {
            patches: vec![patch],
            ..Wishes::default()
        };
        let (before, patched) = (all(), objects(&wishes(patch)).unwrap());
        let spec = |objects: &[Value]| {
            let agent = find(objects, "DaemonSet/gorget-agent");
            agent["spec"]["template"]["spec"].clone()
        };
        let (before, after) = (spec(&before), spec(&patched));
        assert_eq!(after["hostNetwork"], true);
        assert_eq!(after["tolerations"], json!([]));
        assert!(after.get("priorityClassName").is_none());
        let names = |spec: &Value| spec["containers"][0]["env"].as_array().unwrap().len();
        assert_eq!(names(&after), names(&before) + 1);
        assert_eq!(
            after["containers"][0]["image"],
            before["containers"][0]["image"]
        );
        let wrong = json!({"kind": "DaemonSet", "metadata": {"name": "agent"}});
        let error = objects(&wishes(wrong)).unwrap_err().to_string();
        assert!(error.contains("DaemonSet `agent`"), "{error}");
    }

    /// What looks like an octal number is one for some readers of YAML, and none for others.
    #[test]
    fn every_number_is_the_same_for_every_reader_of_yaml() {
        fn numbers(value: &Value, found: &mut Vec<serde_json::Number>) {
            match value {
                Value::Number(number) => found.push(number.clone()),
                Value::Array(values) => values.iter().for_each(|it| numbers(it, found)),
                Value::Object(fields) => fields.values().for_each(|it| numbers(it, found)),
                Value::Null | Value::Bool(_) | Value::String(_) => {}
            }
        }
        let mut found = Vec::new();
        all().iter().for_each(|object| numbers(object, &mut found));
        assert!(!found.is_empty());
        let odd: Vec<_> = found.iter().filter(|it| !it.is_i64()).collect();
        assert!(odd.is_empty(), "{odd:?}");
    }

    #[test]
    fn what_is_printed_is_what_is_applied() {
        let objects = all();
        let printed: Vec<Value> = serde_saphyr::from_multiple(&yaml(&objects).unwrap()).unwrap();
        assert_eq!(printed, objects);
    }
}
