// SPDX-License-Identifier: Apache-2.0
//! Gorget as a cluster installs it: the manifests of `deploy/`, with images of the programs under test.
//!
//! Changed in them is only what this node has not: a network for pods, and with it the address at which
//! the API server is found.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "runs the command line")]

use gorget_vmtest::cluster::{
    ADMIN, Answer, Cluster, DEBIAN, FOR_AGENT, Held, Installed, NODE, Pod, api_server, container,
    documented, path_of,
};
use gorget_vmtest::{Agent, JOB, TIMEOUT, alert_field};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;

const SECRET: &str = "/data/secret";
const OTHER: &str = "/data/other";
const POLICIES: &str = "/apis/security.kubearmor.com/v1";

/// The kernel's numbers, `capability.h`.
const CAPABILITIES: [(&str, u32); 9] = [
    ("DAC_READ_SEARCH", 2),
    ("NET_ADMIN", 12),
    ("SYS_PTRACE", 19),
    ("SYS_ADMIN", 21),
    ("SYS_RESOURCE", 24),
    ("MAC_ADMIN", 33),
    ("SYSLOG", 34),
    ("PERFMON", 38),
    ("BPF", 39),
];

fn policy(namespace: &str, name: &str, path: &str) -> (String, String) {
    let at = format!("{POLICIES}/namespaces/{namespace}/kubearmorpolicies/{name}");
    let text = format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
         metadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{selector: {{matchLabels: {{app: web}}}}, file: {{matchPaths: [{{path: {path}}}]}}}}\n"
    );
    (at, text)
}

fn blocked<'a>(cluster: &'a Cluster, namespace: &str) -> (Pod<'a>, Held<'a>) {
    cluster.namespace(namespace);
    let spec = json!({"containers": [container("main", &[])]});
    let pod = cluster.start_pod(namespace, "web", &json!({"app": "web"}), &spec);
    let (at, text) = policy(namespace, "no-secrets", SECRET);
    let held = cluster.hold(&at, &text);
    pod.container("main").wait_until_denied(SECRET);
    (pod, held)
}

/// The file that is made of the objects of others: agent, relay, and the certificates between them.
fn with_relay(cluster: &Cluster) -> Installed<'_> {
    let read = |file: &str| {
        let path = Path::new("/job/cluster").join(file);
        fs::read_to_string(path).unwrap()
    };
    let certificates = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "gorget-feed-tls", "namespace": "gorget"},
        "stringData": {"ca.crt": read("ca.crt"), "tls.crt": read("feed.crt"), "tls.key": read("feed.key")},
    });
    cluster.apply(
        "/api/v1/namespaces/gorget/secrets/gorget-feed-tls",
        &certificates.to_string(),
    );
    let files = ["gorget-with-relay.yaml", "gorget-operator.yaml"];
    cluster.install_all(&files, "onStop: detach\n")
}

#[test]
fn the_agents_pod_enforces_with_the_capabilities_of_its_manifest_and_no_other() {
    let cluster = Cluster::connect();
    let installed = cluster.install_all(&["gorget.yaml"], "");
    installed.wait_until_ready("DaemonSet", "gorget-agent");
    let agents = installed.objects().iter();
    let agent = agents
        .clone()
        .find(|object| object["kind"] == "DaemonSet")
        .unwrap();
    let may = agent
        .pointer("/spec/template/spec/containers/0/securityContext/capabilities/add")
        .unwrap();
    let expected = may.as_array().unwrap().iter().fold(0_u64, |all, name| {
        let found = CAPABILITIES.iter().find(|(known, _)| name == known);
        all | 1 << found.unwrap().1
    });
    let status = status_of("gorgetd");
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(&format!("{set}:")));
        let found = u64::from_str_radix(line.unwrap().trim(), 16).unwrap();
        assert_eq!(found, expected, "{set}: {found:x}, {expected:x}");
    }
    let no_new = status
        .lines()
        .find_map(|line| line.strip_prefix("NoNewPrivs:"));
    assert_eq!(no_new.unwrap().trim(), "1");
    let (pod, policy) = blocked(&cluster, "installed");
    let alert = cluster.wait_for(&pod.path(), "an alert in the agent's log", |_pod| {
        said("gorget-agent", "agent").into_iter().find(|alert| {
            alert_field(alert, "NamespaceName") == "installed"
                && alert_field(alert, "Resource") == SECRET
        })
    });
    for (field, value) in [
        ("PodName", "web"),
        ("PolicyName", "no-secrets"),
        ("Action", "Block"),
        ("HostName", NODE),
    ] {
        assert_eq!(alert_field(&alert, field), value, "{field} in {alert:#}");
    }
    drop(policy);
    pod.container("main").wait_until_allowed(SECRET);
}

#[test]
fn the_operator_refuses_with_the_fields_path_and_says_where_a_policy_is_enforced() {
    let cluster = Cluster::connect();
    let installed = with_relay(&cluster);
    installed.wait_until_ready("DaemonSet", "gorget-agent");
    installed.wait_until_ready("Deployment", "gorget-operator");
    let hook =
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/gorget-operator";
    cluster.wait_for(hook, "the operator's certificate", |hook| {
        let bundle = hook
            .pointer("/webhooks/0/clientConfig/caBundle")?
            .as_str()?;
        (!bundle.is_empty()).then_some(())
    });
    let (pod, held) = blocked(&cluster, "operated");
    let (at, text) = policy("operated", "wrong", "/data/../secret");
    let why = cluster.try_to_apply(&at, &text).unwrap_err();
    for part in [
        "policies.gorget.io",
        "spec.file.matchPaths[0].path",
        "`..` component",
    ] {
        assert!(why.contains(part), "{part} in {why}");
    }
    assert_eq!(cluster.get(&at), None);
    let (at, _) = policy("operated", "no-secrets", SECRET);
    let status = cluster.wait_for(&at, "the status of the policy", |policy| {
        let status = policy.get("status")?;
        (status.get("status")? == "Enforced").then(|| status.clone())
    });
    for (kind, truth) in [
        ("Accepted", "True"),
        ("Enforced", "True"),
        ("Degraded", "False"),
    ] {
        let condition = condition(&status, kind);
        assert_eq!(condition["status"], truth, "{kind}: {status:#}");
    }
    assert_eq!(
        condition(&status, "Enforced")["message"],
        "1 of 1 nodes",
        "{status:#}"
    );
    let node = format!("/api/v1/nodes/{NODE}");
    cluster.wait_for(&node, "what enforces on the node", |node| {
        let labels = node.pointer("/metadata/labels")?;
        (labels.get("gorget.io/enforcer")? == "bpf").then_some(())
    });
    // As the documentation says it is taken away: `onStop: detach`, and then the agent.
    let pinned = Path::new("/sys/fs/bpf/gorget");
    assert!(pinned.exists());
    drop(installed);
    assert!(!pinned.exists(), "programs are there still");
    pod.container("main").wait_until_allowed(SECRET);
    drop(held);
}

#[test]
fn the_command_line_installs_asks_the_cluster_and_leaves_nothing_in_force() {
    let cluster = Cluster::connect();
    // As a user would who has no network for pods either.
    let (host, port) = api_server();
    let network = |container: &str| {
        json!({"template": {"spec": {"hostNetwork": true, "containers": [{
            "name": container,
            "env": [
                {"name": "KUBERNETES_SERVICE_HOST", "value": host},
                {"name": "KUBERNETES_SERVICE_PORT", "value": port},
            ],
        }]}}})
    };
    let of_agent = json!({"kind": "DaemonSet", "metadata": {"name": "gorget-agent"},
        "spec": network("agent")});
    let mut of_operator = json!({"kind": "Deployment", "metadata": {"name": "gorget-operator"},
        "spec": network("operator")});
    // Two would want the same ports.
    of_operator["spec"]["replicas"] = json!(1);
    let patch = "/tmp/gorget-install-patch.yaml";
    fs::write(patch, format!("{of_agent}\n---\n{of_operator}\n")).unwrap();
    let timeout = format!("{}s", TIMEOUT.as_secs());
    // Nobody has an image of the relay here.
    let install = [
        "install",
        "--without-relay",
        "--patch",
        patch,
        "--timeout",
        &timeout,
    ];
    // The settings that `Cluster::connect` has applied are others.
    let (code, _, why) = gorget(&install);
    assert_eq!(code, Some(1), "{why}");
    for part in ["ConfigMap `gorget/gorget-agent`", "vmtest", "--force"] {
        assert!(why.contains(part), "{part} in {why}");
    }
    let said = succeeds(&[&install[..], &["--force"]].concat());
    for part in [
        "DaemonSet `gorget/gorget-agent` created",
        "DaemonSet `gorget/gorget-agent`: 1 of 1 ready",
        "Deployment `gorget/gorget-operator`: 1 of 1 ready",
        "Gorget is installed",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let again = succeeds(&install);
    for part in ["created", "configured"] {
        assert!(!again.contains(part), "{part} in {again}");
    }

    let (pod, held) = blocked(&cluster, "commanded");
    let (at, _) = policy("commanded", "no-secrets", SECRET);
    cluster.wait_for(&at, "the status of the policy", |policy| {
        (policy.pointer("/status/status")? == "Enforced").then_some(())
    });
    let listed = succeeds(&["policy", "list"]);
    let line = listed
        .lines()
        .find(|line| line.contains("commanded/no-secrets"));
    let line = line.unwrap_or_else(|| panic!("no such policy in {listed}"));
    for part in ["KubeArmorPolicy", "Enforced", "1 of 1 nodes"] {
        assert!(line.contains(part), "{part} in {line}");
    }
    let got = succeeds(&["policy", "get", "no-secrets", "--namespace", "commanded"]);
    assert!(got.contains(SECRET), "{got}");
    // Through the API server, to the agent and back.
    let (code, probed, why) = gorget(&["probe", "--output", "json"]);
    assert!(code == Some(0) || code == Some(1), "{why}");
    let probed: Value = serde_json::from_str(&probed).unwrap_or_else(|_| panic!("{why}"));
    let node = &probed["nodes"][0];
    assert_eq!(node["node"], NODE, "{probed:#}");
    assert!(
        node["status"]["policies"]
            .to_string()
            .contains("no-secrets"),
        "{probed:#}"
    );
    let logs = [
        "logs",
        "--policy",
        "no-secrets",
        "--since",
        "1h",
        "--limit",
        "1",
        "--json",
        "--node",
        NODE,
    ];
    let alert: Value = serde_json::from_str(&succeeds(&logs)).unwrap();
    assert_eq!(alert_field(&alert, "Resource"), SECRET, "{alert:#}");
    assert_eq!(alert_field(&alert, "PodName"), "web", "{alert:#}");

    let pinned = Path::new("/sys/fs/bpf/gorget");
    assert!(pinned.exists());
    let said = succeeds(&["uninstall", "--timeout", &timeout]);
    assert!(said.contains("Namespace `gorget` deleted"), "{said}");
    assert!(!pinned.exists(), "programs are there still: {said}");
    pod.container("main").wait_until_allowed(SECRET);
    let hook =
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/gorget-operator";
    assert_eq!(cluster.get(hook), None);
    assert!(cluster.get(&at).is_some(), "policies stay");
    let again = succeeds(&["uninstall"]);
    assert!(
        again.contains("DaemonSet `gorget/gorget-agent` is gone already"),
        "{again}"
    );
    drop(held);
}

/// Runs the command line against the cluster; gives its exit code and what it said.
fn gorget(arguments: &[&str]) -> (Option<i32>, String, String) {
    let program = Path::new(JOB).join("gorget");
    let mut command = Command::new(program);
    command.args(arguments).args(["--kubeconfig", ADMIN]);
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (
        output.status.code(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// As [`gorget`], for what must not fail; gives what it printed.
fn succeeds(arguments: &[&str]) -> String {
    let (code, said, why) = gorget(arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {said}\n{why}");
    said
}

#[test]
fn what_the_documentation_shows_holds_in_the_cluster() {
    let cluster = Cluster::connect();
    let mut agent = Agent::start(&format!(
        "kubernetes: {{kubeconfig: {FOR_AGENT}, node: {NODE}}}"
    ));
    let [first, from_kubearmor] = documented().try_into().unwrap();
    let _first = apply(&cluster, first);
    // Debian's image, with the program that the policy names.
    let start = "cp /usr/bin/true /usr/bin/apt-get; exec sleep infinity";
    let mut main = container("main", &["/usr/bin/sh", "-c", start]);
    main["image"] = json!(DEBIAN);
    let web = json!({"containers": [main]});
    let web = cluster.start_pod("default", "web", &json!({"app": "web"}), &web);
    let main = web.container("main");
    let install = ["/usr/bin/sh", "-c", "apt-get --version"];
    main.wait_until_said(&install, "Permission denied");
    let alert = agent.alert_about("/usr/bin/apt-get");
    assert_eq!(
        alert_field(&alert, "PolicyName"),
        "no-package-manager",
        "{alert:#}"
    );

    for namespace in ["legacy", "current"] {
        cluster.namespace(namespace);
    }
    let _from_kubearmor = apply(&cluster, from_kubearmor);
    let store = |namespace| {
        let spec = json!({"containers": [container("main", &[])]});
        cluster.start_pod(namespace, "store", &json!({"app": "store"}), &spec)
    };
    let [legacy, current] = [store("legacy"), store("current")];
    current.container("main").wait_until_denied(OTHER);
    let text = |text: &str| Answer::Text(text.to_owned());
    assert_eq!(current.container("main").read(SECRET), text("the secret"));
    assert_eq!(legacy.container("main").read(OTHER), text("the other"));
    let alert = loop {
        let alert = agent.alert_about(OTHER);
        // The ConfigMap has made visible what is read, too.
        let is_alert = alert_field(&alert, "PolicyName") == "DefaultPosture";
        if is_alert && alert_field(&alert, "NamespaceName") == "legacy" {
            break alert;
        }
    };
    assert_eq!(alert_field(&alert, "Action"), "Audit", "{alert:#}");
}

fn apply(cluster: &Cluster, objects: Vec<Value>) -> Vec<Held<'_>> {
    let hold = |object: Value| cluster.hold(&path_of(&object), &object.to_string());
    objects.into_iter().map(hold).collect()
}

fn condition(status: &Value, kind: &str) -> Value {
    let conditions = status["conditions"].as_array().unwrap().iter();
    let mut found = conditions.filter(|it| it["type"] == kind);
    found.next().unwrap().clone()
}

/// What the kernel says of the process that runs a program.
fn status_of(program: &str) -> String {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let found = processes.filter_map(|process| {
        let status = fs::read_to_string(process.path().join("status")).ok()?;
        status
            .starts_with(&format!("Name:\t{program}\n"))
            .then_some(status)
    });
    let all: Vec<_> = found.collect();
    assert_eq!(all.len(), 1, "{all:?}");
    all.into_iter().next().unwrap()
}

/// The JSON lines that a container of Gorget's has printed, as the kubelet keeps them.
fn said(pod: &str, container: &str) -> Vec<Value> {
    let pods = fs::read_dir("/var/log/pods").unwrap().flatten();
    let ours = pods.filter(|it| {
        let name = it.file_name();
        name.to_string_lossy()
            .starts_with(&format!("gorget_{pod}-"))
    });
    let logs = ours.map(|it| it.path().join(container).join("0.log"));
    let text: String = logs
        .filter_map(|log| fs::read_to_string(log).ok())
        .collect();
    // Of each line the time, the stream and whether it is a whole one come first.
    let lines = text.lines().filter_map(|line| line.splitn(4, ' ').nth(3));
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}
