// SPDX-License-Identifier: Apache-2.0
//! The command line against an API server that is played here, through which it reaches an agent with
//! certificates: what a cluster is for `logs`, `probe` and `policy`.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "runs the binary")]

mod api;

use api::Cluster;
use expect_test::expect;
use std::process::{Command, Output};

fn gorget(cluster: &Cluster, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gorget"))
        .args(arguments)
        .args(["--kubeconfig", cluster.kubeconfig.to_str().unwrap()])
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_owned()).unwrap()
}

fn printed(cluster: &Cluster, arguments: &[&str]) -> String {
    let output = gorget(cluster, arguments);
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

#[test]
fn alerts_of_an_agent_come_through_the_api_server() {
    let cluster = Cluster::start();
    let arguments = [
        "logs", "--since", "1h", "--limit", "1", "--type", "messages",
    ];
    let output = gorget(&cluster, &arguments);
    let said = text(&output.stdout);
    assert!(
        said.contains("it is well"),
        "{said}{}",
        text(&output.stderr)
    );
    let how = text(&output.stderr);
    assert!(
        how.contains("`worker-1` is asked by way of `127.0.0.1:"),
        "{how}"
    );
    assert!(cluster.asked().contains(&"portforward 32767".to_owned()));
}

#[test]
fn alerts_are_the_relays_where_there_is_one_and_logs_and_a_nodes_the_agents() {
    let cluster = Cluster::start();
    cluster.add_relay();
    let follow = ["logs", "--since", "1h", "--limit", "1", "--type"];
    for (arguments, said) in [
        (&["messages"][..], "all are well"),
        (&["messages,logs"], "it is well"),
        (&["messages", "--node", "worker-1"], "it is well"),
    ] {
        let printed = printed(&cluster, &[&follow[..], arguments].concat());
        assert!(printed.contains(said), "{arguments:?}: {printed}");
    }
}

#[test]
fn a_port_that_the_node_cannot_reach_is_said() {
    let cluster = Cluster::start();
    cluster.refuse("dial tcp4 127.0.0.1:32767: connect: connection refused");
    let output = gorget(&cluster, &["logs"]);
    assert_eq!(output.status.code(), Some(1));
    let why = text(&output.stderr);
    let said = "gorget: cannot forward a port to the pod `gorget-agent-x`: dial tcp4 127.0.0.1:32767: \
                connect: connection refused\n";
    assert!(why.contains(said), "{why}");
}

#[test]
fn a_node_that_is_not_there_is_named_with_those_that_are() {
    let cluster = Cluster::start();
    let output = gorget(&cluster, &["logs", "--node", "worker-9"]);
    assert_eq!(
        text(&output.stderr),
        "gorget: no agent is on a node `worker-9`; there are `worker-1`\n"
    );
}

#[test]
fn probing_asks_every_agent_and_shows_nodes_without_one() {
    let cluster = Cluster::start();
    let output = gorget(&cluster, &["probe", "-o", "json"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let nodes = &said["nodes"];
    assert_eq!(nodes[0]["node"], "worker-1");
    assert_eq!(nodes[0]["status"]["version"], "9.9.9", "{said:#}");
    assert_eq!(nodes[1]["node"], "worker-2");
    assert_eq!(nodes[1]["problem"], "no agent is there");
    assert_eq!(said["full"], false);
}

#[test]
fn policies_are_listed_with_what_the_operator_has_written() {
    let cluster = Cluster::start();
    expect![[r#"
        KubeArmorHostPolicy  quiet-nodes      -         nothing is written: does the operator run?
        KubeArmorPolicy      shop/no-secrets  Enforced  1 of 1 nodes
    "#]]
    .assert_eq(&printed(&cluster, &["policy", "list"]));
}

#[test]
fn a_policy_is_shown_with_its_conditions_and_can_be_applied_again() {
    let cluster = Cluster::start();
    expect![[r#"
        policy      KubeArmorPolicy `shop/no-secrets`
        generation  3
        status      Enforced
        accepted    True (Valid)
        enforced    True (AllNodes): 1 of 1 nodes
        degraded    False (AsWritten)

        apiVersion: security.kubearmor.com/v1
        kind: KubeArmorPolicy
        metadata:
          name: no-secrets
          namespace: shop
        spec:
          action: Block
          file:
            matchPaths:
            - path: /data/secret
          selector:
            matchLabels:
              app: web
    "#]]
    .assert_eq(&printed(&cluster, &["policy", "get", "no-secrets"]));
    expect![[r#"
        # policy: KubeArmorPolicy `shop/no-secrets`
        # generation: 3
        # status: Enforced
        # accepted: True (Valid)
        # enforced: True (AllNodes): 1 of 1 nodes
        # degraded: False (AsWritten)
        apiVersion: security.kubearmor.com/v1
        kind: KubeArmorPolicy
        metadata:
          name: no-secrets
          namespace: shop
        spec:
          action: Block
          file:
            matchPaths:
            - path: /data/secret
          selector:
            matchLabels:
              app: web
    "#]]
    .assert_eq(&printed(
        &cluster,
        &["policy", "get", "no-secrets", "-o", "yaml"],
    ));
    let output = gorget(&cluster, &["policy", "get", "another"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("no policy `another` is in the cluster"));
}

#[test]
fn explaining_is_about_the_clusters_policies_when_no_file_is_named() {
    let cluster = Cluster::start();
    let arguments = [
        "policy",
        "explain",
        "--workload",
        "shop/web,app=web",
        "--op",
        "file:read:/data/secret",
        "--source",
        "/bin/cat",
    ];
    expect![[r#"
        file:read:/data/secret by /bin/cat is denied
          KubeArmorPolicy shop/no-secrets:10: Block, policy `shop/no-secrets`, by the exact path
            it decides
            10 |     - path: /data/secret

        1 policy selects another workload
    "#]]
    .assert_eq(&printed(&cluster, &arguments));
}
