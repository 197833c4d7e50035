// SPDX-License-Identifier: Apache-2.0
//! Objects as the API server writes them.

use super::*;

fn pod(metadata: &Value, spec: &Value) -> Pod {
    Pod::read(&json!({ "metadata": metadata, "spec": spec, "status": { "phase": "Running" } }))
        .unwrap()
}

fn owned(name: &str, labels: &Value, kind: &str, owner: &str) -> (String, String) {
    let metadata = json!({
        "name": name, "namespace": "shop", "labels": labels,
        "ownerReferences": [
            { "kind": "Other", "name": "x" },
            { "kind": kind, "name": owner, "controller": true },
        ],
    });
    let pod = pod(&metadata, &json!({ "containers": null }));
    assert_eq!(pod.owner.namespace, "shop");
    (pod.owner.kind.clone(), pod.owner.name.clone())
}

#[test]
fn owners_are_found_as_far_up_as_names_tell() {
    let none = json!({});
    let hash = json!({ "pod-template-hash": "5d78c9869d" });
    for (labels, kind, name, expected) in [
        (&hash, "ReplicaSet", "web-5d78c9869d", ("Deployment", "web")),
        (&none, "ReplicaSet", "web", ("ReplicaSet", "web")),
        (&hash, "ReplicaSet", "web", ("ReplicaSet", "web")),
        (&none, "Job", "backup-29012345", ("CronJob", "backup")),
        (&none, "Job", "backup-once", ("Job", "backup-once")),
        (&none, "StatefulSet", "db", ("StatefulSet", "db")),
        (&none, "DaemonSet", "log", ("DaemonSet", "log")),
        (&none, "Node", "worker-1", ("Pod", "p")),
    ] {
        let (of, by) = expected;
        assert_eq!(
            owned("p", labels, kind, name),
            (of.to_owned(), by.to_owned())
        );
    }
    let bare = pod(&json!({ "name": "p", "namespace": "shop" }), &json!({}));
    assert_eq!(
        (bare.owner.kind.as_str(), bare.owner.name.as_str()),
        ("Pod", "p")
    );
}

#[test]
fn containers_of_all_roles_are_known_and_labels_of_controllers_are_not() {
    let metadata = json!({
        "name": "p", "namespace": "shop", "uid": "u",
        "labels": { "app": "web", "pod-template-hash": "1" },
        "annotations": { "kubearmor-policy": "audited", "other": "x" },
        "managedFields": [{ "manager": "kubectl" }],
    });
    let spec = json!({
        "hostPID": true, "hostNetwork": true, "shareProcessNamespace": true,
        "initContainers": [{ "name": "first" }, { "name": "mesh", "restartPolicy": "Always" }],
        "containers": [{ "name": "web", "image": "nginx:1" }],
        "ephemeralContainers": [{ "name": "debugger" }],
    });
    let pod = pod(&metadata, &spec);
    let roles: Vec<_> = pod
        .containers
        .iter()
        .map(|it| (it.name.as_str(), it.role))
        .collect();
    assert_eq!(
        roles,
        [
            ("first", Role::Init),
            ("mesh", Role::Sidecar),
            ("web", Role::Main),
            ("debugger", Role::Ephemeral)
        ]
    );
    assert_eq!(pod.labels.keys().collect::<Vec<_>>(), ["app"]);
    assert_eq!(
        pod.annotations.keys().collect::<Vec<_>>(),
        ["kubearmor-policy"]
    );
    assert!(pod.host_pid && pod.host_network && pod.shares_processes && !pod.is_static);
}

#[test]
fn a_static_pod_has_the_uid_that_its_kubelet_gives() {
    let metadata = json!({
        "name": "proxy-worker-1", "namespace": "kube-system", "uid": "of-the-copy",
        "annotations": { "kubernetes.io/config.mirror": "of-the-file" },
    });
    let pod = pod(&metadata, &json!({}));
    assert!(pod.is_static);
    assert_eq!(pod.uid, "of-the-file");
}

#[test]
fn a_policy_is_what_gorget_policy_reads() {
    let object = json!({
        "metadata": {
            "name": "no-shell", "namespace": "shop", "uid": "u", "generation": 3,
            "managedFields": [{}], "annotations": { "kubectl.kubernetes.io/last-applied": "{}" },
        },
        "spec": {
            "selector": { "matchLabels": { "app": "web" } },
            "process": { "matchPaths": [{ "path": "/bin/sh" }] },
            "action": "Block",
        },
        "status": { "status": "OK" },
    });
    let policy = PolicyObject::read(PolicyResource::Container, &object).unwrap();
    assert_eq!(policy.generation, 3);
    assert_eq!(policy.name.to_string(), "KubeArmorPolicy shop/no-shell");
    let parsed = gorget_policy::parse("x", &policy.text);
    assert_eq!(parsed.problems, []);
    assert_eq!(parsed.policies[0].qualified_name(), "shop/no-shell");
}

#[test]
fn what_is_not_an_object_of_its_kind_is_an_error() {
    for wrong in [
        json!({ "metadata": { "name": "p", "labels": { "a": 5 } }, "spec": {} }),
        json!({ "metadata": { "name": 5 }, "spec": {} }),
        json!({ "metadata": { "name": "p" } }),
        json!([]),
        Value::Null,
    ] {
        assert!(Pod::read(&wrong).is_err(), "{wrong}");
    }
}
