// SPDX-License-Identifier: Apache-2.0
//! Policies of a Kubernetes cluster, enforced on real pods: etcd, API server, controller manager and
//! scheduler on the host, containerd and a kubelet in the guest. `cargo xtask test --cluster` runs them.
//!
//! Each test has namespaces of its own. The agent watches with the rights of its pod's account and
//! nothing else; what tests change, they change through the API.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "tells how long things took, and limits waits"
)]

use gorget_vmtest::cluster::{
    Answer, Cluster, FOR_AGENT, Held, InPod, NODE, Pod, container, on_the_node,
};
use gorget_vmtest::{Agent, alert_field, times};
use serde_json::{Value, json};
use std::fs;
use std::io::{ErrorKind, Write as _};
use std::time::{Duration, Instant};

const SECRET: &str = "/data/secret";
const OTHER: &str = "/data/other";
const THIRD: &str = "/data/third";

const POLICIES: &str = "/apis/security.kubearmor.com/v1";

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(60);

/// How often containers are started whose first program is the attack, in the long run.
const ATTACKS: usize = 20;

fn agent_config() -> String {
    format!("kubernetes: {{kubeconfig: {FOR_AGENT}, node: {NODE}}}")
}

/// A policy for containers of a namespace.
fn policy<'a>(cluster: &'a Cluster, namespace: &str, name: &str, spec: &str) -> Held<'a> {
    let path = format!("{POLICIES}/namespaces/{namespace}/kubearmorpolicies/{name}");
    cluster.hold(
        &path,
        &format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
             metadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n"
        ),
    )
}

/// A policy of a kind that is in no namespace.
fn wide_policy<'a>(cluster: &'a Cluster, kind: &str, name: &str, spec: &str) -> Held<'a> {
    let plural = kind.to_lowercase().replace("policy", "policies");
    cluster.hold(
        &format!("{POLICIES}/{plural}/{name}"),
        &format!(
            "apiVersion: security.kubearmor.com/v1\nkind: {kind}\n\
             metadata: {{name: {name}}}\nspec: {spec}\n"
        ),
    )
}

/// A pod with one container that sleeps.
fn sleeper<'a>(cluster: &'a Cluster, namespace: &str, name: &str) -> Pod<'a> {
    let spec = json!({"containers": [container("main", &[])]});
    cluster.create_pod(namespace, name, &json!({"app": name}), &spec)
}

fn main_of(pod: &Pod<'_>) -> InPod {
    pod.wait_until_running();
    pod.container("main")
}

fn text(text: &str) -> Answer {
    Answer::Text(text.to_owned())
}

/// The next alert about a file of which this holds.
fn alert_when(agent: &mut Agent, file: &str, holds: impl Fn(&Value) -> bool) -> Value {
    loop {
        let alert = agent.alert_about(file);
        if holds(&alert) {
            return alert;
        }
    }
}

/// What the tests of the agent rest on.
#[test]
fn without_an_agent_pods_run_end_and_are_started_again_while_the_api_server_is_away() {
    let cluster = Cluster::connect();
    cluster.namespace("plain");
    let spec =
        json!({"restartPolicy": "Never", "containers": [container("main", &["/bin/cat", OTHER])]});
    let reads = cluster.create_pod("plain", "reads", &json!({}), &spec);
    let pod = sleeper(&cluster, "plain", "sleeps");
    assert_eq!(main_of(&pod).read(SECRET), text("the secret"));
    let (code, said) = reads.ended("main");
    assert_eq!(code, 0, "{said}");
    assert!(said.ends_with("the other\n"), "{said}");
    cluster.stop_api_server();
    assert_eq!(pod.restart("main").read(SECRET), text("the secret"));
    cluster.start_api_server();
    pod.wait_until_running();
}

#[test]
fn a_policy_selects_pods_of_its_namespace_by_label_and_ends_when_it_is_deleted() {
    let cluster = Cluster::connect();
    let _agent = Agent::start(&agent_config());
    for namespace in ["label-one", "label-two"] {
        cluster.namespace(namespace);
    }
    let (web, job) = (
        sleeper(&cluster, "label-one", "web"),
        sleeper(&cluster, "label-one", "job"),
    );
    let elsewhere = sleeper(&cluster, "label-two", "web");
    let [web, job, elsewhere] = [&web, &job, &elsewhere].map(main_of);
    assert_eq!(web.read(SECRET), text("the secret"));
    let spec = "{selector: {matchLabels: {app: web}}, file: {matchPaths: [{path: /data/secret}]}}";
    let block = policy(&cluster, "label-one", "no-secrets", spec);
    web.wait_until_denied(SECRET);
    assert_eq!(web.read(OTHER), text("the other"));
    assert_eq!(job.read(SECRET), text("the secret"));
    assert_eq!(elsewhere.read(SECRET), text("the secret"));
    drop(block);
    web.wait_until_allowed(SECRET);
}

#[test]
fn a_cluster_policy_covers_namespaces_in_or_not_in_a_list_and_those_created_later() {
    let cluster = Cluster::connect();
    let _agent = Agent::start(&agent_config());
    let spec = |operator: &str, namespaces: &str, path: &str| {
        format!(
            "{{selector: {{matchExpressions: [{{key: namespace, operator: {operator}, \
             values: [{namespaces}]}}]}}, file: {{matchPaths: [{{path: {path}}}]}}}}"
        )
    };
    let kind = "KubeArmorClusterPolicy";
    let _in = wide_policy(
        &cluster,
        kind,
        "in",
        &spec("In", "csp-east, csp-late", SECRET),
    );
    let _not_in = wide_policy(&cluster, kind, "not-in", &spec("NotIn", "csp-east", OTHER));
    cluster.namespace("csp-east");
    let east = sleeper(&cluster, "csp-east", "east");
    let east = main_of(&east);
    east.wait_until_denied(SECRET);
    assert_eq!(east.read(OTHER), text("the other"));
    for namespace in ["csp-late", "csp-west"] {
        cluster.namespace(namespace);
    }
    let late = sleeper(&cluster, "csp-late", "late");
    let west = sleeper(&cluster, "csp-west", "west");
    let [late, west] = [&late, &west].map(main_of);
    for file in [SECRET, OTHER] {
        late.wait_until_denied(file);
    }
    west.wait_until_denied(OTHER);
    assert_eq!(west.read(SECRET), text("the secret"));
}

#[test]
fn the_annotation_of_a_namespace_switches_its_posture_and_an_invalid_one_is_said_and_ignored() {
    let cluster = Cluster::connect();
    let mut agent = Agent::start(&agent_config());
    cluster.namespace("posture");
    let pod = sleeper(&cluster, "posture", "list");
    let main = main_of(&pod);
    let spec = "{selector: {matchLabels: {app: list}}, action: Allow, \
                file: {matchPaths: [{path: /data/secret}]}}";
    let _allow = policy(&cluster, "posture", "only-secret", spec);
    let posture = |value: &str| {
        let change = json!({"metadata": {"annotations": {"kubearmor-file-posture": value}}});
        cluster.merge("/api/v1/namespaces/posture", &change);
    };
    posture("audit");
    agent.wait_for("only-secret");
    assert_eq!(main.read(OTHER), text("the other"));
    let told = agent.alert_about(OTHER);
    assert_eq!(alert_field(&told, "Action"), "Audit", "{told:#}");
    assert_eq!(alert_field(&told, "PolicyName"), "DefaultPosture");
    posture("block");
    main.wait_until_denied(OTHER);
    assert_eq!(main.read(SECRET), text("the secret"));
    alert_when(&mut agent, OTHER, |alert| {
        alert_field(alert, "Action") == "Block"
    });
    posture("strict");
    agent.wait_for("`strict`");
    main.wait_until_allowed(OTHER);
    let kept = cluster.get("/api/v1/namespaces/posture").unwrap();
    let annotation = kept.pointer("/metadata/annotations/kubearmor-file-posture");
    assert_eq!(annotation.unwrap(), "strict", "it is the user's");
}

#[test]
fn policies_name_containers_of_a_pod_alone_in_a_list_and_all() {
    let cluster = Cluster::connect();
    let _agent = Agent::start(&agent_config());
    cluster.namespace("names");
    let two = json!({"containers": [container("web", &[]), container("side", &[])]});
    let pod = cluster.create_pod("names", "two", &json!({"app": "two"}), &two);
    let spec = |names: &str, path: &str| {
        format!(
            "{{selector: {{matchLabels: {{app: two, kubearmor.io/container.name: {names}}}}}, \
             file: {{matchPaths: [{{path: {path}}}]}}}}"
        )
    };
    let _policies = [
        ("bare", "web", SECRET),
        ("one", "'[side]'", OTHER),
        ("both", "'[web, side]'", THIRD),
    ]
    .map(|(name, names, path)| policy(&cluster, "names", name, &spec(names, path)));
    pod.wait_until_running();
    let (web, side) = (pod.container("web"), pod.container("side"));
    for file in [SECRET, THIRD] {
        web.wait_until_denied(file);
    }
    for file in [OTHER, THIRD] {
        side.wait_until_denied(file);
    }
    assert_eq!(web.read(OTHER), text("the other"));
    assert_eq!(side.read(SECRET), text("the secret"));
}

#[test]
fn a_host_policy_holds_while_the_node_has_its_label() {
    let cluster = Cluster::connect();
    let _agent = Agent::start(&agent_config());
    let file = "/var/tmp/secret-of-the-node";
    fs::write(file, "the secret").unwrap();
    let is_denied = || match fs::read(file) {
        Ok(_) => false,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => true,
        Err(error) => panic!("{error}"),
    };
    let node = format!("/api/v1/nodes/{NODE}");
    let tier =
        |value: Value| cluster.merge(&node, &json!({"metadata": {"labels": {"tier": value}}}));
    tier(json!("web"));
    let spec = format!(
        "{{nodeSelector: {{matchLabels: {{tier: db}}}}, file: {{matchPaths: [{{path: {file}}}]}}}}"
    );
    let block = wide_policy(&cluster, "KubeArmorHostPolicy", "node-secret", &spec);
    // It is known by then, and this one holds.
    let everywhere = format!(
        "{{nodeSelector: {{matchLabels: {{kubernetes.io/hostname: {NODE}}}}}, \
         file: {{matchPaths: [{{path: {file}-too}}]}}}}"
    );
    fs::write(format!("{file}-too"), "").unwrap();
    let by_name = wide_policy(&cluster, "KubeArmorHostPolicy", "by-name", &everywhere);
    wait_until("the policy for the host name", || {
        fs::read(format!("{file}-too")).is_err()
    });
    assert!(!is_denied());
    tier(json!("db"));
    wait_until("a denial", is_denied);
    tier(Value::Null);
    wait_until("the end of it", || !is_denied());
    tier(json!("db"));
    wait_until("a denial again", is_denied);
    drop((block, by_name));
    wait_until("the end of the policy", || !is_denied());
    tier(Value::Null);
}

#[test]
fn a_change_of_the_config_map_counts_within_five_seconds() {
    let cluster = Cluster::connect();
    let mut agent = Agent::start(&agent_config());
    cluster.namespace("config");
    let posture = |posture: &str| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {
                "name": "kubearmor-config", "namespace": "kubearmor",
                "labels": {"kubearmor-app": "kubearmor-configmap"},
            },
            "data": {"defaultFilePosture": posture},
        })
        .to_string()
    };
    let path = "/api/v1/namespaces/kubearmor/configmaps/kubearmor-config";
    let _config = cluster.hold(path, &posture("audit"));
    let spec = "{selector: {matchLabels: {app: busy}}, action: Allow, \
                file: {matchPaths: [{path: /data/secret}]}}";
    let _allow = policy(&cluster, "config", "only-secret", spec);
    // It reads all the time, so that the alert that says otherwise comes at once.
    let reads = "while true; do cat /data/other; sleep 0.1; done";
    let busy = json!({"containers": [container("main", &["/bin/sh", "-c", reads])]});
    let _pod = cluster.start_pod("config", "busy", &json!({"app": "busy"}), &busy);
    let action_is = |agent: &mut Agent, action: &str| {
        alert_when(agent, OTHER, |alert| alert_field(alert, "Action") == action)
    };
    action_is(&mut agent, "Audit");
    for (value, action) in [("block", "Block"), ("audit", "Audit")] {
        let began = Instant::now();
        cluster.apply(path, &posture(value));
        action_is(&mut agent, action);
        let took = began.elapsed();
        say(&format!(
            "`{value}` of the ConfigMap counted after {took:.1?}"
        ));
    }
}

#[test]
fn an_alert_names_pod_namespace_owner_labels_and_image() {
    let cluster = Cluster::connect();
    let mut agent = Agent::start(&agent_config());
    cluster.namespace("owners");
    let spec = "{selector: {matchLabels: {app: store}}, severity: 7, message: hands off, \
                file: {matchPaths: [{path: /data/secret}]}}";
    let _block = policy(&cluster, "owners", "no-secrets", spec);
    let labels = json!({"app": "store", "tier": "back"});
    let deployment = json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "store", "namespace": "owners"},
        "spec": {
            "selector": {"matchLabels": {"app": "store"}},
            "template": {
                "metadata": {"labels": labels},
                "spec": on_the_node(&json!({"containers": [container("main", &[])]})),
            },
        },
    });
    let path = "/apis/apps/v1/namespaces/owners/deployments/store";
    let _deployment = cluster.hold(path, &deployment.to_string());
    let pods = "/api/v1/namespaces/owners/pods";
    let name = cluster.wait_for(pods, "a pod of the deployment", |pods| {
        let name = pods.pointer("/items/0/metadata/name")?.as_str()?;
        Some(name.to_owned())
    });
    let pod = cluster.pod("owners", &name);
    main_of(&pod).wait_until_denied(SECRET);
    let alert = agent.alert_about(SECRET);
    for (field, value) in [
        ("PodName", name.as_str()),
        ("NamespaceName", "owners"),
        ("ContainerName", "main"),
        ("Labels", "app=store,tier=back"),
        ("PolicyName", "no-secrets"),
        ("Severity", "7"),
        ("Message", "hands off"),
        ("Action", "Block"),
        ("Result", "Permission denied"),
        ("HostName", NODE),
    ] {
        assert_eq!(alert_field(&alert, field), value, "{field} in {alert:#}");
    }
    let image = alert_field(&alert, "ContainerImage");
    assert!(image.contains("docker.io/library/busybox:1"), "{alert:#}");
    let owner = json!({"Ref": "Deployment", "Name": "store", "Namespace": "owners"});
    assert_eq!(alert.get("Owner"), Some(&owner), "{alert:#}");
}

#[test]
fn the_first_program_of_init_and_main_containers_is_covered() {
    let cluster = Cluster::connect();
    let mut agent = Agent::start(&agent_config());
    cluster.namespace("first");
    let spec =
        "{selector: {matchLabels: {app: first}}, file: {matchPaths: [{path: /data/secret}]}}";
    let _block = policy(&cluster, "first", "no-secrets", spec);
    let labels = json!({"app": "first"});
    let attack = ["/bin/cat", SECRET];
    for n in 0..times(ATTACKS) {
        let init = json!({
            "restartPolicy": "Never",
            "initContainers": [container("init", &attack)],
            "containers": [container("main", &[])],
        });
        let init = cluster.create_pod("first", &format!("init-{n}"), &labels, &init);
        let main = json!({"restartPolicy": "Never", "containers": [container("main", &attack)]});
        let main = cluster.create_pod("first", &format!("main-{n}"), &labels, &main);
        for (pod, name) in [(&init, "init"), (&main, "main")] {
            let (code, said) = pod.ended(name);
            assert!(said.contains("Permission denied"), "{name}-{n}: {said}");
            assert_eq!(code, 1, "{name}-{n}: {said}");
            let alert = agent.alert_about(SECRET);
            assert_eq!(alert_field(&alert, "NamespaceName"), "first", "{alert:#}");
        }
    }
}

#[test]
fn enforcement_and_a_new_agent_go_on_while_the_api_server_is_away() {
    let cluster = Cluster::connect();
    let mut agent = Agent::start(&agent_config());
    cluster.namespace("away");
    let pod = sleeper(&cluster, "away", "web");
    let web = main_of(&pod);
    let spec = "{selector: {matchLabels: {app: web}}, file: {matchPaths: [{path: /data/secret}]}}";
    let block = policy(&cluster, "away", "no-secrets", spec);
    web.wait_until_denied(SECRET);
    cluster.stop_api_server();
    let stopped = Instant::now();
    assert_eq!(web.read(SECRET), Answer::Denied);
    agent.alert_about(SECRET);
    assert_eq!(agent.stop().code(), Some(0));
    assert_eq!(web.read(SECRET), Answer::Denied);
    let mut agent = Agent::start_again(&agent_config());
    assert_eq!(web.read(SECRET), Answer::Denied);
    let alert = agent.alert_about(SECRET);
    assert_eq!(alert_field(&alert, "PodName"), "web", "{alert:#}");
    // A container that it has never heard of, of a pod that it knows from before.
    let again = pod.restart("main");
    again.wait_until_denied(SECRET);
    while stopped.elapsed() < AWAY {
        assert_eq!(again.read(SECRET), Answer::Denied);
        assert_eq!(again.read(OTHER), text("the other"));
    }
    cluster.start_api_server();
    drop(block);
    again.wait_until_allowed(SECRET);
}

/// Waits for something on this machine.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + gorget_vmtest::TIMEOUT;
    while !holds() {
        assert!(Instant::now() < deadline, "waited for {what}");
        std::thread::yield_now();
    }
}

/// Tells whoever reads the output of tests that pass.
fn say(what: &str) {
    writeln!(std::io::stdout(), "\n{what}").unwrap();
}
