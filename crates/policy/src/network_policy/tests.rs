// SPDX-License-Identifier: Apache-2.0
//! What a network policy gives, and what is said about one that gives nothing.

use super::{address_range, go_duration, quota_bytes};
use crate::{
    Action, AddressRange, Direction, NetworkPolicy, NetworkTarget, PortRange, Quota, QuotaScope,
    Transport, parse,
};
use std::time::Duration;

/// The first line of `spec` is line 5.
fn read(spec: &str) -> (Option<NetworkPolicy>, Vec<String>) {
    let mut parsed = parse(
        "p.yaml",
        &format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorNetworkPolicy\n\
             metadata: {{name: n, namespace: ignored}}\nspec:\n{spec}"
        ),
    );
    assert_eq!(parsed.policies, []);
    let problems = parsed.problems.iter().map(ToString::to_string).collect();
    (parsed.network_policies.pop(), problems)
}

fn range(first: &str, prefix: u8) -> AddressRange {
    let first = first.parse().unwrap();
    AddressRange { first, prefix }
}

#[test]
fn a_policy_for_hosts_is_read() {
    let (policy, problems) = read(
        "  nodeSelector: {matchLabels: {kubearmor.io/hostname: '*'}}
  severity: 5
  action: Audit
  egress:
  - to: [{ipBlock: {cidr: 10.1.2.3/8}}]
    iface: [eth0]
    ports:
    - {port: '8000', endPort: 8010, protocol: udp}
    - port: https
    action: Block
    tags: [out]
  ingress:
  - from: []
    limit: 10MB
    duration: 1h30m
",
    );
    assert_eq!(problems, Vec::<String>::new());
    let policy = policy.unwrap();
    assert_eq!(
        (policy.name.as_str(), policy.quota_scope),
        ("n", QuotaScope::Pod)
    );
    assert!(matches!(&policy.target, NetworkTarget::Hosts(hosts) if hosts.labels.len() == 1));
    let [out, within] = policy.rules.as_slice() else {
        panic!("{:?}", policy.rules)
    };
    assert_eq!(
        (out.direction, out.action),
        (Direction::Egress, Action::Block)
    );
    assert_eq!(out.peers, [range("10.0.0.0", 8)]);
    assert_eq!(out.interfaces, ["eth0"]);
    assert_eq!(
        out.ports,
        [
            PortRange {
                transport: Transport::Udp,
                first: 8000,
                last: 8010
            },
            PortRange {
                transport: Transport::Tcp,
                first: 443,
                last: 443
            }
        ]
    );
    assert_eq!((out.severity, out.quota), (Some(5), None));
    assert_eq!(out.tags, ["out"]);
    assert_eq!((out.at.line, out.at.column, out.last_line), (9, 5, 15));
    assert_eq!(
        (within.direction, within.action),
        (Direction::Ingress, Action::Audit)
    );
    assert_eq!(
        within.quota,
        Some(Quota {
            bytes: 10 << 20,
            window: Some(Duration::from_secs(5_400))
        })
    );
}

#[test]
fn a_policy_for_pods_has_quotas() {
    let (policy, problems) = read(
        "  selector:
    matchLabels: {app: web}
    matchExpressions: [{key: label, operator: NotIn, values: [a=b]}]
  level: policy
  egress: [{limit: 2G, duration: 20m}]
",
    );
    assert_eq!(problems, Vec::<String>::new());
    let policy = policy.unwrap();
    assert_eq!(policy.quota_scope, QuotaScope::Policy);
    assert!(matches!(&policy.target, NetworkTarget::Pods(pods) if pods.expressions.len() == 1));
    let (policy, problems) = read(
        "  selector: {}
  egress: [{limit: 2G}, {duration: 1m}, {}]
",
    );
    assert_eq!(policy, None);
    let quota = "must have `limit` and `duration` in a policy for pods";
    assert_eq!(
        problems,
        [
            format!("p.yaml:6:12: error: spec.egress[0]: {quota}"),
            format!("p.yaml:6:25: error: spec.egress[1]: {quota}"),
            "p.yaml:6:36: warning: spec.egress[1].duration: does nothing (there is no `limit`)"
                .to_owned(),
            format!("p.yaml:6:41: error: spec.egress[2]: {quota}"),
        ]
    );
}

#[test]
fn a_policy_is_for_hosts_or_for_pods() {
    assert_eq!(
        read("  ingress: []\n").1,
        ["p.yaml:5:3: error: spec: has neither `nodeSelector` nor `selector`"]
    );
    assert_eq!(
        read("  nodeSelector: {matchLabels: {a: b}}\n  selector: {}\n").1,
        ["p.yaml:6:13: error: spec.selector: stands beside `nodeSelector` (make it two policies)"]
    );
}

#[test]
fn everything_wrong_about_a_rule_is_reported() {
    let (policy, problems) = read(
        "  nodeSelector: {matchLabels: {a: b}}
  level: Node
  process: {}
  egress:
  - to: [{ipBlock: {}}, {}, {ipBlock: {cidr: 10.0.0.0/33}}]
    from: []
    iface: [a/b, '']
    ports:
    - {port: 80}
    - {port: '0'}
    - {port: telnet, protocol: ICMP}
    - {port: '90', endPort: 80}
    - {endPort: 70000}
    limit: 10TB
    duration: soon
    severity: 11
",
    );
    assert_eq!(policy, None);
    assert_eq!(
        problems,
        [
            "p.yaml:6:10: error: spec.level: there is no `Node` (did you mean `Pod`?)",
            "p.yaml:7:3: error: spec.process: unknown field `process` (allowed here: `nodeSelector`, \
             `selector`, `level`, `ingress`, `egress`, `severity`, `tags`, `message`, `action`)",
            "p.yaml:9:20: error: spec.egress[0].to[0].ipBlock.cidr: is missing",
            "p.yaml:9:25: error: spec.egress[0].to[1].ipBlock: is missing",
            "p.yaml:9:46: error: spec.egress[0].to[2].ipBlock.cidr: `10.0.0.0/33` is not a range of \
             addresses (write `10.0.0.0/8` or `fd00::/8`)",
            "p.yaml:10:5: error: spec.egress[0].from: unknown field `from` (allowed here: `to`, \
             `iface`, `ports`, `limit`, `duration`, `severity`, `tags`, `message`, `action`)",
            "p.yaml:11:13: error: spec.egress[0].iface: `a/b` is not the name of an interface",
            "p.yaml:11:18: error: spec.egress[0].iface: `` is not the name of an interface",
            "p.yaml:13:14: error: spec.egress[0].ports[0].port: must be a string, but is the number \
             `80` (quote it: `\"80\"`)",
            "p.yaml:14:14: error: spec.egress[0].ports[1].port: `0` is not a port (write a number \
             from 1 to 65535, `ssh`, `http`, `https` or `dns`)",
            "p.yaml:15:14: error: spec.egress[0].ports[2].port: `telnet` is not a port (write a \
             number from 1 to 65535, `ssh`, `http`, `https` or `dns`)",
            "p.yaml:15:32: error: spec.egress[0].ports[2].protocol: there is no `ICMP` (did you mean \
             `SCTP`?)",
            "p.yaml:16:29: error: spec.egress[0].ports[3].endPort: comes before `port`, which is 90",
            "p.yaml:17:7: error: spec.egress[0].ports[4].port: is missing",
            "p.yaml:17:17: error: spec.egress[0].ports[4].endPort: must be a whole number from 1 to \
             65535, but is `70000`",
            "p.yaml:18:12: error: spec.egress[0].limit: `10TB` is not a number of bytes (write \
             `500K`, `10MB` or `2GB`; without a unit it is GB)",
            "p.yaml:19:15: error: spec.egress[0].duration: `soon` is not a length of time (write \
             `20m` or `1h30m`)",
            "p.yaml:20:15: error: spec.egress[0].severity: must be a whole number from 1 to 10, but \
             is `11`",
        ]
    );
}

#[test]
fn addresses_have_no_bits_behind_their_prefix() {
    assert_eq!(
        address_range("192.168.77.1/16"),
        Some(range("192.168.0.0", 16))
    );
    assert_eq!(address_range("1.2.3.4"), Some(range("1.2.3.4", 32)));
    assert_eq!(address_range("1.2.3.4/0"), Some(range("0.0.0.0", 0)));
    assert_eq!(address_range("fd12::1/8"), Some(range("fd00::", 8)));
    assert_eq!(address_range("::1/128"), Some(range("::1", 128)));
    assert_eq!(address_range("::1/0"), Some(range("::", 0)));
    for text in [
        "",
        "/8",
        "1.2.3/8",
        "1.2.3.4/",
        "1.2.3.4/-1",
        "::/129",
        "1.2.3.4/8/8",
    ] {
        assert_eq!(address_range(text), None, "{text}");
    }
}

#[test]
fn amounts_are_in_powers_of_1024() {
    assert_eq!(quota_bytes("1"), Some(1 << 30));
    assert_eq!(quota_bytes("2G"), Some(2 << 30));
    assert_eq!(quota_bytes("3GB"), Some(3 << 30));
    assert_eq!(quota_bytes("4MB"), Some(4 << 20));
    assert_eq!(quota_bytes("5K"), Some(5 << 10));
    for text in [
        "",
        "K",
        "-1K",
        "1k",
        "1.5K",
        "1 K",
        "1KB1",
        "99999999999999999999",
        "99999999999G",
    ] {
        assert_eq!(quota_bytes(text), None, "{text}");
    }
}

#[test]
fn times_are_as_in_go() {
    assert_eq!(go_duration("20m"), Some(Duration::from_secs(1_200)));
    assert_eq!(go_duration("1h1m1s"), Some(Duration::from_secs(3_661)));
    assert_eq!(go_duration("1.5h"), Some(Duration::from_secs(5_400)));
    assert_eq!(go_duration("10ms5us"), Some(Duration::from_micros(10_005)));
    for text in [
        "",
        "0s",
        "20",
        "m",
        "-1s",
        "1.2.3s",
        "1d",
        "1 h",
        "99999999999999999999h",
    ] {
        assert_eq!(go_duration(text), None, "{text}");
    }
}
