// SPDX-License-Identifier: Apache-2.0
//! Installing and uninstalling against an API server that is played.

use super::manifests::{Wishes, objects};
use super::{removal, steps};
use crate::cluster::fake::Fake;
use crate::cluster::runtime;
use expect_test::expect;
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

const AGENT: &str = "/apis/apps/v1/namespaces/gorget/daemonsets/gorget-agent";
const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// What was said, and how it ended.
fn ended(out: Vec<u8>, result: anyhow::Result<()>) -> String {
    let said = String::from_utf8(out).unwrap();
    match result {
        Ok(()) => said,
        Err(error) => format!("{said}error: {error:#}\n"),
    }
}

fn install(fake: &Fake, wishes: &Wishes, force: bool) -> String {
    let objects = objects(wishes).unwrap();
    let how = steps::How {
        force,
        limit: Duration::ZERO,
        now: SystemTime::UNIX_EPOCH,
    };
    let mut out = Vec::new();
    let installed = async { steps::install(&fake.api(), &objects, &how, &mut out).await };
    let result = runtime().unwrap().block_on(installed);
    ended(out, result)
}

fn uninstall(fake: &Fake, crds: bool, force: bool) -> String {
    let objects = objects(&Wishes::default()).unwrap();
    let how = removal::How {
        crds,
        force,
        limit: Duration::ZERO,
    };
    let mut out = Vec::new();
    let removed = async { removal::uninstall(&fake.api(), &objects, &how, &mut out).await };
    let result = runtime().unwrap().block_on(removed);
    ended(out, result)
}

fn agent_alone() -> Wishes {
    Wishes {
        without_operator: true,
        without_relay: true,
        ..Wishes::default()
    }
}

#[test]
fn an_empty_cluster_gets_everything_in_an_order_that_works() {
    let fake = Fake::default();
    expect![[r#"
        Namespace `gorget` created
        CustomResourceDefinition `kubearmorpolicies.security.kubearmor.com` created
        CustomResourceDefinition `kubearmorhostpolicies.security.kubearmor.com` created
        CustomResourceDefinition `kubearmorclusterpolicies.security.kubearmor.com` created
        CustomResourceDefinition `kubearmornetworkpolicies.security.kubearmor.com` created
        CustomResourceDefinition `kubearmorconfigs.operator.kubearmor.com` created
        Secret `gorget/gorget-feed-tls` created
        ServiceAccount `gorget/gorget-agent` created
        ServiceAccount `gorget/gorget-relay` created
        ServiceAccount `gorget/gorget-operator` created
        ClusterRole `gorget-agent` created
        Role `gorget/gorget-agent` created
        Role `gorget/gorget-relay` created
        ClusterRole `gorget-operator` created
        Role `gorget/gorget-operator` created
        ClusterRoleBinding `gorget-agent` created
        RoleBinding `gorget/gorget-agent` created
        RoleBinding `gorget/gorget-relay` created
        ClusterRoleBinding `gorget-operator` created
        RoleBinding `gorget/gorget-operator` created
        ConfigMap `gorget/gorget-agent` created
        ConfigMap `gorget/gorget-relay` created
        Secret `gorget/gorget-operator-tls` created
        ConfigMap `gorget/gorget-kubearmorconfig` created
        ConfigMap `gorget/gorget-operator` created
        Service `gorget/gorget-agents` created
        Service `gorget/gorget-operator` created
        DaemonSet `gorget/gorget-agent` created
        Deployment `gorget/gorget-relay` created
        Deployment `gorget/gorget-operator` created
        ValidatingWebhookConfiguration `gorget-operator` created
        DaemonSet `gorget/gorget-agent`: 1 of 1 ready
        Deployment `gorget/gorget-relay`: 1 of 1 ready
        Deployment `gorget/gorget-operator`: 2 of 2 ready
        Gorget is installed; `gorget probe --cluster` shows what it does on each node
    "#]]
    .assert_eq(&install(&fake, &Wishes::default(), false));
    let secret = fake.get("/api/v1/namespaces/gorget/secrets/gorget-feed-tls");
    assert!(secret.unwrap()["data"]["tls.key"].is_string());
}

#[test]
fn what_is_there_already_is_unchanged_and_keeps_its_certificates() {
    let fake = Fake::default();
    install(&fake, &agent_alone(), false);
    let path = "/api/v1/namespaces/gorget/secrets/gorget-feed-tls";
    let secret = fake.get(path);
    expect![[r#"
        Namespace `gorget` unchanged
        CustomResourceDefinition `kubearmorpolicies.security.kubearmor.com` unchanged
        CustomResourceDefinition `kubearmorhostpolicies.security.kubearmor.com` unchanged
        CustomResourceDefinition `kubearmorclusterpolicies.security.kubearmor.com` unchanged
        CustomResourceDefinition `kubearmornetworkpolicies.security.kubearmor.com` unchanged
        CustomResourceDefinition `kubearmorconfigs.operator.kubearmor.com` unchanged
        Secret `gorget/gorget-feed-tls` kept
        ServiceAccount `gorget/gorget-agent` unchanged
        ClusterRole `gorget-agent` unchanged
        Role `gorget/gorget-agent` unchanged
        ClusterRoleBinding `gorget-agent` unchanged
        RoleBinding `gorget/gorget-agent` unchanged
        ConfigMap `gorget/gorget-agent` unchanged
        Service `gorget/gorget-agents` unchanged
        DaemonSet `gorget/gorget-agent` unchanged
        DaemonSet `gorget/gorget-agent`: 1 of 1 ready
        Gorget is installed; `gorget probe --cluster` shows what it does on each node
    "#]]
    .assert_eq(&install(&fake, &agent_alone(), false));
    assert_eq!(fake.get(path), secret);
    let mut wishes = agent_alone();
    wishes.tag = Some("2".to_owned());
    let said = install(&fake, &wishes, false);
    let configured: Vec<_> = said
        .lines()
        .filter(|it| it.contains("configured"))
        .collect();
    assert_eq!(configured, ["DaemonSet `gorget/gorget-agent` configured"]);
}

#[test]
fn certificates_that_are_not_whole_are_named() {
    let fake = Fake::default();
    let secret = json!({"data": {"ca.crt": ""}});
    fake.put("/api/v1/namespaces/gorget/secrets/gorget-feed-tls", secret);
    let said = install(&fake, &agent_alone(), false);
    assert!(said.contains(r#"lacks ["tls.crt", "tls.key"]"#), "{said}");
    assert_eq!(fake.get(AGENT), None);
}

#[test]
fn what_somebody_else_has_set_is_an_error_that_names_them_until_it_is_taken_over() {
    let fake = Fake::default();
    fake.own(AGENT, "argocd");
    let said = install(&fake, &agent_alone(), false);
    let last = said.split_once("error: ").unwrap().1;
    expect![[r#"
        cannot apply DaemonSet `gorget/gorget-agent`: Apply failed with 1 conflict: conflict with "argocd": .spec
        somebody else has set what is to be set; `--force` takes it over, `--patch` has it be what they want
    "#]].assert_eq(last);
    let said = install(&fake, &agent_alone(), true);
    assert!(
        said.contains("DaemonSet `gorget/gorget-agent` created"),
        "{said}"
    );
}

#[test]
fn kinds_of_kubearmors_stay_and_it_is_said_that_both_enforce() {
    let fake = Fake::default();
    let kind = format!("{CRDS}/kubearmorpolicies.security.kubearmor.com");
    let there = json!({"status": {"conditions": [{"type": "Established", "status": "True"}]}});
    fake.put(&kind, there.clone());
    fake.own(&kind, "helm");
    let labels = json!({"kubearmor-app": "kubearmor"});
    let metadata = json!({"name": "kubearmor", "namespace": "kubearmor", "labels": labels});
    let agent = json!({ "metadata": metadata });
    fake.put(
        "/apis/apps/v1/namespaces/kubearmor/daemonsets/kubearmor",
        agent,
    );
    let said = install(&fake, &agent_alone(), false);
    let about = |line: &&str| line.contains("KubeArmor") || line.contains("left as it is");
    let lines: Vec<_> = said.lines().filter(about).collect();
    expect![[r#"
        KubeArmor is there, DaemonSet `kubearmor/kubearmor`: both enforce at once, and the stricter answer holds; docs/kubernetes.md says how to change over
        CustomResourceDefinition `kubearmorpolicies.security.kubearmor.com` left as it is (`--force` takes it over): Apply failed with 1 conflict: conflict with "helm": .spec"#]].assert_eq(&lines.join("\n"));
    assert_eq!(fake.get(&kind), Some(there));
    assert!(said.contains("Gorget is installed"), "{said}");
}

#[test]
fn of_a_pod_that_does_not_become_ready_is_said_why() {
    let fake = Fake::default();
    fake.stick(AGENT);
    let waiting = json!({
        "metadata": {"name": "gorget-agent-x", "namespace": "gorget",
            "labels": {"app.kubernetes.io/name": "gorget-agent"}},
        "spec": {"nodeName": "worker-1"},
        "status": {"phase": "Pending", "containerStatuses": [{
            "name": "agent", "ready": false,
            "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}},
        }]},
    });
    fake.put("/api/v1/namespaces/gorget/pods/gorget-agent-x", waiting);
    let said = install(&fake, &agent_alone(), false);
    expect![[r#"
        not everything is ready after 0 s:
          DaemonSet `gorget/gorget-agent`: 0 of 1 updated, 0 ready
          pod `gorget-agent-x` on node `worker-1`: container `agent` waits: ImagePullBackOff: no such image
    "#]].assert_eq(said.split_once("error: ").unwrap().1);
}

#[test]
fn pods_that_are_refused_are_explained_by_events() {
    let fake = Fake::default();
    fake.stick(AGENT);
    let event = json!({
        "type": "Warning", "reason": "FailedCreate", "message": "violates PodSecurity",
        "involvedObject": {"name": "gorget-agent"},
    });
    fake.put("/api/v1/namespaces/gorget/events/e", event);
    let said = install(&fake, &agent_alone(), false);
    assert!(
        said.contains("FailedCreate: violates PodSecurity"),
        "{said}"
    );
}

#[test]
fn uninstalling_ends_enforcement_first_and_leaves_nothing_but_the_kinds() {
    let fake = Fake::default();
    install(&fake, &Wishes::default(), false);
    let installed = fake.written().len();
    expect![[r#"
        DaemonSet `gorget/gorget-agent` is told to end enforcement when it ends
        DaemonSet `gorget/gorget-agent`: 1 of 1 ready
        ValidatingWebhookConfiguration `gorget-operator` deleted
        Deployment `gorget/gorget-operator` deleted
        Deployment `gorget/gorget-relay` deleted
        DaemonSet `gorget/gorget-agent` deleted
        Service `gorget/gorget-operator` deleted
        Service `gorget/gorget-agents` deleted
        ConfigMap `gorget/gorget-operator` deleted
        ConfigMap `gorget/gorget-kubearmorconfig` deleted
        Secret `gorget/gorget-operator-tls` deleted
        ConfigMap `gorget/gorget-relay` deleted
        ConfigMap `gorget/gorget-agent` deleted
        RoleBinding `gorget/gorget-operator` deleted
        ClusterRoleBinding `gorget-operator` deleted
        RoleBinding `gorget/gorget-relay` deleted
        RoleBinding `gorget/gorget-agent` deleted
        ClusterRoleBinding `gorget-agent` deleted
        Role `gorget/gorget-operator` deleted
        ClusterRole `gorget-operator` deleted
        Role `gorget/gorget-relay` deleted
        Role `gorget/gorget-agent` deleted
        ClusterRole `gorget-agent` deleted
        ServiceAccount `gorget/gorget-operator` deleted
        ServiceAccount `gorget/gorget-relay` deleted
        ServiceAccount `gorget/gorget-agent` deleted
        Secret `gorget/gorget-feed-tls` deleted
        Namespace `gorget` deleted, with everything that was left in it
        Gorget is gone; 5 kinds of policies stay, with all policies (`--crds` deletes both)
    "#]]
    .assert_eq(&uninstall(&fake, false, false));
    let written = fake.written();
    let first: Vec<_> = written[installed..].iter().take(3).collect();
    assert_eq!(
        first,
        [
            "PATCH /api/v1/namespaces/gorget/configmaps/gorget-agent",
            &format!("PATCH {AGENT}"),
            "DELETE /apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/gorget-operator",
        ]
    );
    let left = fake.paths();
    assert_eq!(left.len(), 5, "{left:?}");
    assert!(left.iter().all(|path| path.starts_with(CRDS)), "{left:?}");
}

#[test]
fn agents_are_told_to_detach_beside_what_they_were_told_before() {
    let fake = Fake::default();
    install(&fake, &agent_alone(), false);
    // Without that, everything would be deleted right after.
    fake.stick(AGENT);
    let said = uninstall(&fake, false, false);
    assert!(said.contains("nothing is deleted"), "{said}");
    let map = fake
        .get("/api/v1/namespaces/gorget/configmaps/gorget-agent")
        .unwrap();
    let config = map["data"]["gorget.yaml"].as_str().unwrap();
    let config: Value = serde_saphyr::from_str(config).unwrap();
    assert_eq!(config["onStop"], "detach");
    assert_eq!(config["logPath"], "stdout");
    let agent = fake.get(AGENT).unwrap();
    assert_eq!(
        agent["spec"]["updateStrategy"]["rollingUpdate"]["maxUnavailable"],
        "100%"
    );
    let said = uninstall(&fake, false, true);
    assert!(said.contains("stays until the next boot"), "{said}");
    assert_eq!(fake.get(AGENT), None);
}

#[test]
fn with_the_kinds_all_policies_go() {
    let fake = Fake::default();
    install(&fake, &agent_alone(), false);
    let said = uninstall(&fake, true, false);
    assert!(
        said.ends_with("Gorget is gone, and all policies with their kinds\n"),
        "{said}"
    );
    assert_eq!(fake.paths(), [""; 0]);
}

#[test]
fn what_is_gone_already_is_no_error() {
    expect![[r#"
        DaemonSet `gorget/gorget-agent` is gone already; where it was deleted without `onStop: detach`, what was in force stays until the next boot
        ValidatingWebhookConfiguration `gorget-operator` is gone already
        Deployment `gorget/gorget-operator` is gone already
        Deployment `gorget/gorget-relay` is gone already
        DaemonSet `gorget/gorget-agent` is gone already
        Service `gorget/gorget-operator` is gone already
        Service `gorget/gorget-agents` is gone already
        ConfigMap `gorget/gorget-operator` is gone already
        ConfigMap `gorget/gorget-kubearmorconfig` is gone already
        Secret `gorget/gorget-operator-tls` is gone already
        ConfigMap `gorget/gorget-relay` is gone already
        ConfigMap `gorget/gorget-agent` is gone already
        RoleBinding `gorget/gorget-operator` is gone already
        ClusterRoleBinding `gorget-operator` is gone already
        RoleBinding `gorget/gorget-relay` is gone already
        RoleBinding `gorget/gorget-agent` is gone already
        ClusterRoleBinding `gorget-agent` is gone already
        Role `gorget/gorget-operator` is gone already
        ClusterRole `gorget-operator` is gone already
        Role `gorget/gorget-relay` is gone already
        Role `gorget/gorget-agent` is gone already
        ClusterRole `gorget-agent` is gone already
        ServiceAccount `gorget/gorget-operator` is gone already
        ServiceAccount `gorget/gorget-relay` is gone already
        ServiceAccount `gorget/gorget-agent` is gone already
        Secret `gorget/gorget-feed-tls` is gone already
        Namespace `gorget` is gone already
        Gorget is gone; 5 kinds of policies stay, with all policies (`--crds` deletes both)
    "#]].assert_eq(&uninstall(&Fake::default(), false, false));
}

#[test]
fn a_namespace_that_others_have_made_stays() {
    let fake = Fake::default();
    fake.put(
        "/api/v1/namespaces/gorget",
        json!({"metadata": {"name": "gorget"}}),
    );
    let said = uninstall(&fake, false, false);
    assert!(said.contains("Namespace `gorget` kept"), "{said}");
}

#[test]
fn a_release_of_helms_is_left_to_helm() {
    let fake = Fake::default();
    let release = json!({"metadata": {"annotations": {"meta.helm.sh/release-name": "g"}}});
    fake.put(AGENT, release);
    for said in [
        install(&fake, &Wishes::default(), true),
        uninstall(&fake, true, true),
    ] {
        assert!(said.contains("by Helm, as the release `g`"), "{said}");
    }
    assert_eq!(fake.written(), [""; 0]);
}
