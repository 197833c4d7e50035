// SPDX-License-Identifier: Apache-2.0
//! Whom a policy is for.
//!
//! Policies are read from text, so that reading a selector and applying it are tested as one thing;
//! what a selector may not say is tested by its exact message.

use crate::{Kind, Policy, parse};
use gorget_model::{Container, Host, Workload};

fn policy(text: &str) -> Policy {
    let mut parsed = parse("p.yaml", text);
    assert_eq!(parsed.policies.len(), 1, "{:?}", parsed.problems);
    parsed.policies.remove(0)
}

/// A policy for containers with this `metadata` and these labels, both in flow style.
fn for_containers(metadata: &str, labels: &str) -> Policy {
    policy(&format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {metadata}\n\
         spec:\n  selector:\n    matchLabels: {labels}\n"
    ))
}

fn for_hosts(labels: &str) -> Policy {
    policy(&format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\nmetadata: {{name: h}}\n\
         spec:\n  nodeSelector:\n    matchLabels: {labels}\n"
    ))
}

fn label_problems(kind: &str, selector: &str, labels: &str) -> Vec<String> {
    let parsed = parse(
        "p.yaml",
        &format!(
            "apiVersion: security.kubearmor.com/v1\nkind: {kind}\nmetadata: {{name: p}}\nspec:\n  \
             {selector}:\n    matchLabels: {labels}\n"
        ),
    );
    assert_eq!(parsed.policies, []);
    parsed.problems.iter().map(ToString::to_string).collect()
}

fn container(namespace: Option<&str>, name: &str, labels: &[(&str, &str)]) -> Workload {
    Workload::Container(Container {
        name: name.to_owned(),
        namespace: namespace.map(ToOwned::to_owned),
        labels: labels
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect(),
        ..Container::default()
    })
}

fn host(name: &str, labels: &[(&str, &str)]) -> Workload {
    let labels = labels
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    Workload::Host(Host {
        name: name.to_owned(),
        labels,
    })
}

#[test]
fn every_label_must_be_equal() {
    let policy = for_containers("{name: p}", "{app: web, tier: front}");
    assert!(policy.selects(&container(
        None,
        "c",
        &[("app", "web"), ("tier", "front"), ("x", "y")]
    )));
    assert!(!policy.selects(&container(None, "c", &[("app", "web")])));
    assert!(!policy.selects(&container(None, "c", &[("app", "web"), ("tier", "back")])));
}

#[test]
fn a_policy_without_labels_selects_every_container_of_its_namespace() {
    let policy = for_containers("{name: p, namespace: shop}", "{}");
    assert!(policy.selects(&container(Some("shop"), "c", &[])));
    assert!(policy.selects(&container(Some("shop"), "c", &[("app", "web")])));
    assert!(!policy.selects(&container(Some("bank"), "c", &[])));
}

#[test]
fn a_policy_without_namespace_is_in_the_default_one() {
    let policy = for_containers("{name: p}", "{}");
    assert!(policy.selects(&container(Some("default"), "c", &[])));
    assert!(!policy.selects(&container(Some("shop"), "c", &[])));
    assert_eq!(policy.qualified_name(), "default/p");
    let policy = for_containers("{name: p, namespace: ''}", "{}");
    assert_eq!(policy.qualified_name(), "default/p");
}

#[test]
fn a_plain_container_is_in_every_namespace() {
    let policy = for_containers("{name: p, namespace: shop}", "{app: web}");
    assert!(policy.selects(&container(None, "c", &[("app", "web")])));
    assert!(!policy.selects(&container(None, "c", &[])));
    assert_eq!(policy.qualified_name(), "shop/p");
}

#[test]
fn container_names_narrow_a_policy_down() {
    for value in ["[web,api]", "[ web , api ,,]"] {
        let labels = format!("{{app: shop, kubearmor.io/container.name: '{value}'}}");
        let policy = for_containers("{name: p}", &labels);
        assert_eq!(policy.selector.container_names, ["web", "api"]);
        assert_eq!(
            policy.selector.labels,
            [("app".to_owned(), "shop".to_owned())]
        );
        assert!(policy.selects(&container(None, "web", &[("app", "shop")])));
        assert!(!policy.selects(&container(None, "db", &[("app", "shop")])));
        assert!(!policy.selects(&container(None, "web", &[])));
    }
}

#[test]
fn a_container_name_needs_no_brackets() {
    let policy = for_containers("{name: p}", "{kubearmor.io/container.name: web-1}");
    assert!(policy.selects(&container(None, "web-1", &[])));
    assert!(!policy.selects(&container(None, "eb-", &[])));
}

#[test]
fn no_container_name_is_every_container() {
    for value in ["''", "'[]'", "'[,]'", "'.*'", "'*'"] {
        let policy = for_containers(
            "{name: p}",
            &format!("{{kubearmor.io/container.name: {value}}}"),
        );
        assert_eq!(
            policy.selector.container_names,
            Vec::<String>::new(),
            "{value}"
        );
        assert!(policy.selects(&container(None, "web", &[])), "{value}");
    }
}

#[test]
fn what_is_neither_a_name_nor_a_list_is_an_expression_over_the_name() {
    let by_name = |value: &str| {
        for_containers(
            "{name: p}",
            &format!("{{kubearmor.io/container.name: '{value}'}}"),
        )
    };
    let selects = |value: &str, name: &str| {
        let policy = by_name(value);
        assert_eq!(policy.selector.container_names, Vec::<String>::new());
        policy.selects(&container(None, name, &[]))
    };
    assert!(selects("web.+", "my-web-1"));
    assert!(!selects("web.+", "web"));
    assert!(selects("^web(-[0-9]+)?$", "web-12"));
    assert!(!selects("^web(-[0-9]+)?$", "web-"));
    assert!(selects("[wv]eb[0-9]", "veb1"));
    assert!(selects("[a-c][0-9]", "b7"));
}

#[test]
fn a_container_name_that_is_none_is_refused() {
    assert_eq!(
        label_problems(
            "KubeArmorPolicy",
            "selector",
            "{kubearmor.io/container.name: '[web, a b]'}"
        ),
        [
            "p.yaml:6:48: error: spec.selector.matchLabels.kubearmor.io/container.name: `a b` is not \
             a container name (write `\"name\"`, `\"[name1,name2]\"` or a regular expression)"
        ]
    );
    assert_eq!(
        label_problems(
            "KubeArmorPolicy",
            "selector",
            "{kubearmor.io/container.name: 'web('}"
        ),
        [
            "p.yaml:6:48: error: spec.selector.matchLabels.kubearmor.io/container.name: `web(` is \
             not a regular expression: unclosed group"
        ]
    );
    assert_eq!(
        label_problems(
            "KubeArmorPolicy",
            "selector",
            "{kubearmor.io/container.name: '(a{1000}){1000}'}"
        ),
        [
            "p.yaml:6:48: error: spec.selector.matchLabels.kubearmor.io/container.name: \
             `(a{1000}){1000}` is too large"
        ]
    );
    assert_eq!(
        label_problems(
            "KubeArmorPolicy",
            "selector",
            "{kubearmor.io/container.name: [web]}"
        ),
        [
            "p.yaml:6:48: error: spec.selector.matchLabels.kubearmor.io/container.name: must be a \
             string, but is a list"
        ]
    );
}

/// A policy of a kind with these `matchExpressions`, in flow style.
fn with_expressions(kind: &str, expressions: &str) -> Policy {
    policy(&format!(
        "apiVersion: security.kubearmor.com/v1\nkind: {kind}\nmetadata: {{name: p}}\n\
         spec:\n  selector:\n    matchExpressions: [{expressions}]\n"
    ))
}

#[test]
fn in_is_any_of_the_labels_and_notin_is_none_of_them() {
    let policy = with_expressions(
        "KubeArmorPolicy",
        "{key: label, operator: In, values: [app=web, app=api]},
         {key: label, operator: NotIn, values: [tier=back, tier=db]},
         {key: label, operator: In, values: [env=prod, env=]}",
    );
    let selects = |labels: &[(&str, &str)]| policy.selects(&container(None, "c", labels));
    assert!(selects(&[("app", "web"), ("env", "prod")]));
    assert!(selects(&[("app", "api"), ("env", ""), ("tier", "front")]));
    assert!(!selects(&[("app", "web")]));
    assert!(!selects(&[("app", "db"), ("env", "prod")]));
    // KubeArmor forgets the `NotIn` here.
    assert!(!selects(&[("app", "web"), ("env", "prod"), ("tier", "db")]));
}

#[test]
fn expressions_and_labels_must_both_hold() {
    let policy = policy(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {name: p}\n\
         spec:\n  selector:\n    matchLabels: {app: web}\n    \
         matchExpressions: [{key: label, operator: In, values: [a=b]}]\n",
    );
    assert!(policy.selects(&container(None, "c", &[("app", "web"), ("a", "b")])));
    assert!(!policy.selects(&container(None, "c", &[("app", "web")])));
    assert!(!policy.selects(&container(None, "c", &[("a", "b")])));
}

#[test]
fn a_cluster_policy_selects_namespaces() {
    let of = |expressions: &str| with_expressions("KubeArmorClusterPolicy", expressions);
    let some = of("{key: namespace, operator: In, values: [shop, bank]}");
    assert_eq!(
        (some.kind, some.qualified_name()),
        (Kind::Cluster, "p".to_owned())
    );
    assert!(some.selects(&container(Some("bank"), "c", &[])));
    assert!(!some.selects(&container(Some("farm"), "c", &[])));
    assert!(!some.selects(&container(None, "c", &[])));
    assert!(!some.selects(&host("n1", &[])));

    let others = of(
        "{key: namespace, operator: NotIn, values: [shop]}, {key: label, operator: In, values: [a=b]}",
    );
    assert!(others.selects(&container(Some("farm"), "c", &[("a", "b")])));
    assert!(!others.selects(&container(Some("farm"), "c", &[])));
    assert!(!others.selects(&container(Some("shop"), "c", &[("a", "b")])));
    assert!(others.selects(&container(None, "c", &[("a", "b")])));

    assert!(of("").selects(&container(Some("farm"), "c", &[])));
}

#[test]
fn an_expression_says_what_is_compared_with_what() {
    let problems = |kind: &str, expression: &str| -> Vec<String> {
        let parsed = parse(
            "p.yaml",
            &format!(
                "apiVersion: security.kubearmor.com/v1\nkind: {kind}\nmetadata: {{name: p}}\nspec:\n  \
                 selector: {{matchExpressions: [{expression}]}}\n  file: {{matchPaths: [{{path: /a}}]}}\n"
            ),
        );
        assert_eq!(parsed.policies, []);
        parsed.problems.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        problems(
            "KubeArmorPolicy",
            "{key: namespace, operator: in, values: []}, {key: label, operator: Exists}, \
             {key: label, operator: In, values: [app]}"
        ),
        [
            "p.yaml:5:39: error: spec.selector.matchExpressions[0].key: there is no `namespace` \
             (there is only `label`)",
            "p.yaml:5:60: error: spec.selector.matchExpressions[0].operator: there is no `in` (did \
             you mean `In`?)",
            "p.yaml:5:72: error: spec.selector.matchExpressions[0].values: names no value",
            "p.yaml:5:77: error: spec.selector.matchExpressions[1].values: is missing",
            "p.yaml:5:100: error: spec.selector.matchExpressions[1].operator: there is no `Exists` \
             (there are `In`, `NotIn`)",
            "p.yaml:5:145: error: spec.selector.matchExpressions[2].values: `app` is not a label \
             with its value (write `key=value`)",
        ]
    );
}

#[test]
fn a_cluster_policy_has_expressions_only() {
    assert_eq!(
        label_problems("KubeArmorClusterPolicy", "selector", "{a: b}"),
        [
            "p.yaml:6:5: error: spec.selector.matchLabels: unknown field `matchLabels` (allowed \
             here: `matchExpressions`)"
        ]
    );
}

#[test]
fn label_values_are_strings() {
    assert_eq!(
        label_problems("KubeArmorPolicy", "selector", "{a: 1.10, b: yes, c: }"),
        [
            "p.yaml:6:22: error: spec.selector.matchLabels.a: must be a string, but is the number \
             `1.10` (quote it: `\"1.10\"`)",
            "p.yaml:6:31: error: spec.selector.matchLabels.b: must be a string, but is the boolean \
             `yes` (quote it: `\"yes\"`)",
            "p.yaml:6:36: error: spec.selector.matchLabels.c: has no value (write `\"\"` for an empty \
             value)",
        ]
    );
}

#[test]
fn a_host_is_selected_by_its_labels_or_its_name() {
    let policy = for_hosts("{disk: ssd}");
    assert_eq!(policy.kind, Kind::Host);
    assert!(policy.selects(&host("n1", &[("disk", "ssd")])));
    assert!(!policy.selects(&host("n1", &[])));
    for key in ["kubearmor.io/hostname", "kubernetes.io/hostname"] {
        let by_name = |value: &str| for_hosts(&format!("{{{key}: '{value}'}}"));
        assert!(by_name("n1").selects(&host("n1", &[])));
        assert!(!by_name("n1").selects(&host("n10", &[(key, "n1")])));
        assert!(by_name("*").selects(&host("n2", &[])));
        assert!(by_name("n1, n2").selects(&host("n2", &[])));
        assert!(!by_name("n1,n2").selects(&host("n3", &[])));
    }
    assert!(!for_hosts("{kubearmor.io/hostname: '*', disk: ssd}").selects(&host("n1", &[])));
}

#[test]
fn a_host_name_may_be_a_wildcard() {
    let selects = |value: &str, name: &str| {
        for_hosts(&format!("{{kubearmor.io/hostname: '{value}'}}")).selects(&host(name, &[]))
    };
    assert!(selects("n1, worker-*", "worker-2"));
    assert!(!selects("worker-*", "my-worker-2"));
    assert!(selects("*-2", "worker-2"));
    assert!(selects("w*-*-2", "worker-eu-2"));
    assert!(!selects("w*-*-2", "worker-2"));
    assert!(!selects("ab*ba", "aba"), "no byte is matched twice");
}

#[test]
fn a_host_may_be_found_by_an_expression_over_its_name() {
    for key in ["kubearmor.io/hostnamereg", "kubernetes.io/hostnamereg"] {
        let selects = |value: &str, name: &str| {
            for_hosts(&format!("{{{key}: '{value}'}}")).selects(&host(name, &[]))
        };
        // `*` becomes `.*`, and nothing is anchored.
        assert!(selects("worker-*-eu", "my-worker-12-eu-1"));
        assert!(!selects("^worker-*", "my-worker-1"));
        assert!(selects("worker-[0-9]$", "worker-1"));
        assert!(!selects("worker-[0-9]$", "worker-12"));
        assert!(selects("*", "n1"));
    }
}

#[test]
fn a_host_policy_names_its_hosts() {
    assert_eq!(
        label_problems("KubeArmorHostPolicy", "nodeSelector", "{}"),
        [
            "p.yaml:6:18: error: spec.nodeSelector.matchLabels: names no label \
             (`kubearmor.io/hostname: \"*\"` is every host)"
        ]
    );
    assert_eq!(
        label_problems(
            "KubeArmorHostPolicy",
            "nodeSelector",
            "{kubernetes.io/hostname: ','}"
        ),
        [
            "p.yaml:6:43: error: spec.nodeSelector.matchLabels.kubernetes.io/hostname: names no host \
             (`\"*\"` is every host)"
        ]
    );
    assert_eq!(
        label_problems(
            "KubeArmorHostPolicy",
            "nodeSelector",
            "{kubearmor.io/hostnamereg: n(}"
        ),
        [
            "p.yaml:6:45: error: spec.nodeSelector.matchLabels.kubearmor.io/hostnamereg: `n(` is not \
             a regular expression: unclosed group"
        ]
    );
    assert_eq!(
        label_problems("KubeArmorHostPolicy", "selector", "{a: b}"),
        [
            "p.yaml:5:3: error: spec.nodeSelector: is missing",
            "p.yaml:5:3: error: spec.selector: unknown field `selector` (did you mean \
             `nodeSelector`? allowed here: `nodeSelector`, `process`, `file`, `network`, \
             `capabilities`, `syscalls`, `device`, `apparmor`, `severity`, `tags`, `message`, \
             `action`)",
        ]
    );
}

#[test]
fn policies_for_containers_and_for_hosts_do_not_mix() {
    assert!(!for_containers("{name: p}", "{}").selects(&host("n1", &[])));
    assert!(!for_hosts("{kubearmor.io/hostname: '*'}").selects(&container(None, "c", &[])));
}

#[test]
fn a_host_policy_is_named_without_namespace() {
    let policy = policy(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\n\
         metadata: {name: h, namespace: shop}\n\
         spec: {nodeSelector: {matchLabels: {kubearmor.io/hostname: '*'}}}\n",
    );
    assert_eq!(policy.namespace, None);
    assert_eq!(policy.qualified_name(), "h");
}

fn of_image(image: &str) -> Workload {
    Workload::Container(Container {
        name: "web".to_owned(),
        image: image.to_owned(),
        ..Container::default()
    })
}

#[test]
fn images_are_selected_by_name_and_as_much_more_as_is_written() {
    let labels = "{kubearmor.io/container.image: '[nginx:1, localhost/shop]'}";
    let policy = for_containers("{name: p}", labels);
    for image in [
        "nginx:1",
        "docker.io/library/nginx:1@sha256:ab",
        "localhost/shop:7",
    ] {
        assert!(policy.selects(&of_image(image)), "{image}");
    }
    for image in ["nginx:2", "shop:7", ""] {
        assert!(!policy.selects(&of_image(image)), "{image}");
    }
}

#[test]
fn an_image_is_one_condition_among_others() {
    let labels = "{kubearmor.io/container.image: nginx, kubearmor.io/container.name: other}";
    let policy = for_containers("{name: p}", labels);
    assert!(!policy.selects(&of_image("nginx:1")));
}

#[test]
fn what_is_no_image_is_an_error() {
    for (value, expected) in [
        ("''", "names no image"),
        ("'[]'", "names no image"),
        ("'[nginx, a b]'", "`a b` is not an image"),
        ("'nginx:'", "`nginx:` is not an image"),
    ] {
        let labels = format!("{{kubearmor.io/container.image: {value}}}");
        let problems = label_problems("KubeArmorPolicy", "selector", &labels);
        assert!(problems[0].contains(expected), "{problems:?}");
    }
}
