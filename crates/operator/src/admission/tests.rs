// SPDX-License-Identifier: Apache-2.0
//! Reviews as API servers send them, and their answers word for word.

use super::*;
use expect_test::{Expect, expect};
use serde_json::json;

fn policy(spec: &Value) -> Value {
    json!({
        "apiVersion": "security.kubearmor.com/v1",
        "kind": "KubeArmorPolicy",
        "metadata": {
            "name": "p", "namespace": "shop", "uid": "u", "managedFields": [{ "manager": "kubectl" }],
        },
        "spec": spec,
    })
}

fn review(operation: &str, object: &Value, old: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5",
            "kind": { "group": "security.kubearmor.com", "version": "v1", "kind": object["kind"] },
            "resource": { "group": "security.kubearmor.com", "version": "v1", "resource": "x" },
            "operation": operation,
            "namespace": "shop",
            "object": object,
            "oldObject": old,
            "userInfo": { "username": "alice" },
            "dryRun": false,
        },
    })
}

fn asked(review: &Value) -> Value {
    let text = answer(
        review.to_string().as_bytes(),
        &Known::default(),
        Depth::Search,
    )
    .unwrap()
    .text;
    serde_json::from_str(&text).unwrap()
}

fn created(spec: &Value) -> Value {
    let answer = asked(&review("CREATE", &policy(spec), &Value::Null));
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
    assert_eq!(answer["response"]["uid"], "705ab4f5");
    answer["response"].clone()
}

fn check(response: &Value, expected: &Expect) {
    expected.assert_eq(&serde_json::to_string_pretty(response).unwrap());
}

#[test]
fn a_policy_without_a_fault_passes_without_a_word() {
    let response = created(&json!({
        "selector": { "matchLabels": { "app": "web" } },
        "process": { "matchPaths": [{ "path": "/usr/bin/apt-get" }] },
        "action": "Block",
    }));
    check(
        &response,
        &expect![[r#"
            {
              "allowed": true,
              "uid": "705ab4f5"
            }"#]],
    );
}

#[test]
fn a_policy_is_refused_with_reason_and_field() {
    let response = created(&json!({
        "selector": { "matchLabels": { "app": "web" } },
        "process": { "matchPaths": [{ "path": "usr/bin/apt-get" }] },
        "file": { "matchPaths": [{ "path": "/a", "readonly": true }] },
        "action": "Block",
    }));
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], 422);
    assert_eq!(response["status"]["reason"], "Invalid");
    assert_eq!(response["status"]["details"]["name"], "p");
    let causes = response["status"]["details"]["causes"].as_array().unwrap();
    let mut fields: Vec<_> = causes.iter().map(|cause| &cause["field"]).collect();
    fields.sort_by_key(|field| field.to_string());
    assert_eq!(
        fields,
        [
            "spec.file.matchPaths[0].readonly",
            "spec.process.matchPaths[0].path"
        ]
    );
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.contains("spec.process.matchPaths[0].path: `usr/bin/apt-get` "),
        "{message}"
    );
}

#[test]
fn what_a_backend_does_not_enforce_and_what_never_decides_is_a_warning() {
    let response = created(&json!({
        "selector": { "matchLabels": { "app": "web" } },
        "file": { "matchPaths": [{ "path": "/a" }, { "path": "/a" }] },
        "network": { "matchDNSQueries": [{ "domain": "example.com" }] },
        "action": "Block",
    }));
    check(
        &response,
        &expect![[r#"
            {
              "allowed": true,
              "uid": "705ab4f5",
              "warnings": [
                "spec.file.matchPaths[1]: says the same as spec.file.matchPaths[0] (one of them is enough)",
                "AppArmor does not enforce rules about DNS queries (1, at spec.network.matchDNSQueries[0]): a profile does not see what is sent",
                "spec.file.matchPaths[1]: this file rule never decides anything: hidden by spec.file.matchPaths[0]"
              ]
            }"#]],
    );
}

#[test]
fn only_backends_that_nodes_have_are_warned_of() {
    let spec = json!({
        "selector": { "matchLabels": { "app": "web" } },
        "network": { "matchDNSQueries": [{ "domain": "example.com" }] },
    });
    let review = review("CREATE", &policy(&spec), &Value::Null).to_string();
    let known = |backend| Known {
        backends: [backend].into(),
        profiles: None,
    };
    let warned = |backend| {
        let answer = answer(review.as_bytes(), &known(backend), Depth::Search).unwrap();
        answer.text.contains("warnings")
    };
    assert!(!warned(Backend::BpfLsm));
    assert!(warned(Backend::AppArmor));
}

#[test]
fn what_is_stored_already_can_be_labelled_and_deleted() {
    let bad = policy(&json!({ "action": "Bock" }));
    let mut labelled = bad.clone();
    labelled["metadata"]["labels"] = json!({ "team": "a" });
    let allowed = |review: &Value| asked(review)["response"]["allowed"].clone();
    assert_eq!(allowed(&review("UPDATE", &labelled, &bad)), true);
    assert_eq!(allowed(&review("DELETE", &bad, &bad)), true);
    let mut leaving = policy(&json!({ "action": "Blok" }));
    leaving["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(allowed(&review("UPDATE", &leaving, &bad)), true);
    let other = policy(&json!({ "action": "Blok" }));
    assert_eq!(allowed(&review("UPDATE", &other, &bad)), false);
}

#[test]
fn a_name_that_is_still_to_be_made_is_no_fault() {
    let mut unnamed = policy(&json!({
        "selector": { "matchLabels": { "app": "web" } },
        "file": { "matchPaths": [{ "path": "/a" }] },
        "action": "Block",
    }));
    unnamed["metadata"] = json!({ "generateName": "p-" });
    let answer = asked(&review("CREATE", &unnamed, &Value::Null));
    assert_eq!(answer["response"]["allowed"], true, "{answer}");
}

#[test]
fn an_object_that_is_none_is_refused_and_not_a_panic() {
    for object in [
        Value::Null,
        json!([]),
        json!("x"),
        json!({}),
        json!({ "metadata": 1 }),
        json!({ "metadata": { "name": {} } }),
        json!({ "metadata": { "name": "p", "labels": 3 } }),
        json!({ "metadata": { "name": "p" } }),
        json!({ "metadata": { "name": "p" }, "spec": "Block" }),
    ] {
        let mut review = review("CREATE", &policy(&Value::Null), &Value::Null);
        review["request"]["object"] = object.clone();
        let answer = asked(&review);
        assert_eq!(answer["response"]["allowed"], false, "{object}: {answer}");
        let message = answer["response"]["status"]["message"].as_str().unwrap();
        assert!(!message.is_empty());
    }
}

#[test]
fn another_kind_passes_with_a_word() {
    let mut review = review("CREATE", &policy(&Value::Null), &Value::Null);
    review["request"]["kind"] = json!({ "group": "", "version": "v1", "kind": "Pod" });
    let answer = asked(&review);
    assert_eq!(answer["response"]["allowed"], true);
    assert_eq!(
        answer["response"]["warnings"][0],
        "gorget: `/v1 Pod` is no kind of policy; not checked"
    );
}

#[test]
fn a_body_that_is_no_review_is_said_to_be_none() {
    let mut old = review("CREATE", &policy(&Value::Null), &Value::Null);
    old["apiVersion"] = json!("admission.k8s.io/v1beta1");
    let mut unasked = old.clone();
    unasked["apiVersion"] = json!("admission.k8s.io/v1");
    unasked["request"] = Value::Null;
    let mut other = unasked.clone();
    other["request"] = json!({ "uid": 1 });
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for (body, reason) in [
        (String::new(), "the body is no `AdmissionReview`: EOF"),
        ("\u{1}".to_owned(), "the body is no `AdmissionReview`: "),
        (deep, "the body is no `AdmissionReview`: "),
        (
            "{}".to_owned(),
            "the body has `apiVersion: ` and `kind: `; there is `admission.k8s.io/v1`",
        ),
        (
            old.to_string(),
            "the body has `apiVersion: admission.k8s.io/v1beta1`",
        ),
        (unasked.to_string(), "the review has no `request`"),
        (other.to_string(), "the body is no `AdmissionReview`: "),
    ] {
        let error = answer(body.as_bytes(), &Known::default(), Depth::Search).unwrap_err();
        assert!(error.to_string().starts_with(reason), "{error}");
    }
}

#[test]
fn a_message_is_bounded_and_counts_the_rest() {
    let paths: Vec<_> = (0..200)
        .map(|number| json!({ "path": format!("{number}{}", "x".repeat(200)) }))
        .collect();
    let response = created(&json!({
        "selector": { "matchLabels": { "app": "web" } },
        "file": { "matchPaths": paths },
        "action": "Block",
    }));
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.ends_with("; and 190 more"), "{message}");
    assert!(message.len() <= policies::MOST_CAUSES * 100);
    let causes = response["status"]["details"]["causes"].as_array().unwrap();
    assert_eq!(causes.len(), policies::MOST_CAUSES);
}

#[test]
fn a_pod_passes_always_and_gets_the_profiles_of_containers_that_policies_name() {
    let mut review = review("CREATE", &policy(&Value::Null), &Value::Null);
    review["request"]["kind"] = json!({ "group": "", "version": "v1", "kind": "Pod" });
    review["request"]["object"] = json!({ "spec": { "containers": [{ "name": "web" }] } });
    let named = BTreeSet::from(["web".to_owned()]);
    let known = |namespace: &str| Known {
        backends: BTreeSet::new(),
        profiles: Some(Profiles {
            named: [(namespace.to_owned(), named.clone())].into(),
            has_field: true,
        }),
    };
    let answered = |known: &Known| {
        let answer = answer_for_pod(review.to_string().as_bytes(), known).unwrap();
        let answer: Value = serde_json::from_str(&answer.text).unwrap();
        answer["response"].clone()
    };
    let nothing = json!({ "uid": "705ab4f5", "allowed": true });
    assert_eq!(answered(&known("elsewhere")), nothing);
    assert_eq!(answered(&Known::default()), nothing);
    let changed = answered(&known("shop"));
    assert_eq!(changed["patchType"], "JSONPatch");
    let patch = STANDARD.decode(changed["patch"].as_str().unwrap()).unwrap();
    let patch: Value = serde_json::from_slice(&patch).unwrap();
    assert_eq!(patch[0]["path"], "/spec/containers/0/securityContext");
}
