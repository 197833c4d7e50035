// SPDX-License-Identifier: Apache-2.0
//! Who a container is, in whatever order it became known.

use super::*;
use crate::objects::PolicyResource;
use gorget_model::{Owner, Posture, Postures};
use proptest::prelude::*;

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    let entries = entries.iter();
    entries
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn pod(namespace: &str, name: &str, labels: &[(&str, &str)], said: &[(&str, &str)]) -> Seen {
    Seen::Changed {
        what: Watched::Pods,
        object: Object::Pod(Pod {
            key: Key::new(namespace, name),
            uid: format!("uid-of-{name}"),
            labels: map(labels),
            annotations: map(said),
            owner: Owner {
                kind: "Deployment".to_owned(),
                name: "web".to_owned(),
                namespace: namespace.to_owned(),
            }
            .into(),
            ..Pod::default()
        }),
    }
}

fn namespace(name: &str, said: &[(&str, &str)]) -> Seen {
    Seen::Changed {
        what: Watched::Namespaces,
        object: Object::Namespace(Namespace {
            name: name.to_owned(),
            annotations: map(said),
        }),
    }
}

fn settings(origin: SettingsOrigin, data: &[(&str, &str)]) -> Seen {
    Seen::Changed {
        what: Watched::Settings {
            origin,
            namespace: "gorget".to_owned(),
        },
        object: Object::Settings(SettingsMap {
            origin,
            key: Key::new("gorget", "config"),
            data: map(data),
        }),
    }
}

fn policy(name: &str, generation: i64) -> Seen {
    let name = PolicyKey {
        resource: PolicyResource::Cluster,
        key: Key::new("", name),
    };
    Seen::Changed {
        what: Watched::Policies(PolicyResource::Cluster),
        object: Object::Policy(PolicyObject {
            name,
            uid: "u".to_owned(),
            generation,
            text: "{}".to_owned(),
        }),
    }
}

fn container(namespace: &str, pod: &str, name: &str) -> Container {
    Container {
        id: format!("{pod}-{name}"),
        name: name.to_owned(),
        namespace: Some(namespace.to_owned()),
        pod: Some(pod.to_owned()),
        labels: map(&[(POD_UID, &format!("uid-of-{pod}"))]),
        ..Container::default()
    }
}

fn index(seen: impl IntoIterator<Item = Seen>) -> Index {
    let mut index = Index::new(BTreeSet::from(["kubearmor".to_owned()]));
    for seen in seen {
        index.see(seen);
    }
    index
}

#[test]
fn a_container_of_a_known_pod_has_its_labels_and_owner() {
    let index = index([pod("shop", "web-1", &[("app", "web")], &[])]);
    for name in ["main", "init", "debugger"] {
        let said = index.describe(&container("shop", "web-1", name));
        assert!(said.is_known);
        assert_eq!(said.container.labels, map(&[("app", "web")]));
        assert_eq!(said.container.owner.unwrap().name, "web");
        assert_eq!(said.mode, Mode::Enforced);
    }
}

#[test]
fn a_container_of_an_unknown_pod_keeps_what_its_runtime_says_and_has_its_namespaces_postures() {
    let index = index([
        pod("shop", "web-2", &[("app", "web")], &[]),
        namespace("shop", &[("kubearmor-file-posture", "block")]),
    ]);
    let told = container("shop", "web-1", "main");
    let said = index.describe(&told);
    assert!(!said.is_known && !index.knows(&told));
    assert_eq!(said.container, told);
    assert_eq!(said.postures.file, Some(Posture::Block));
    // A pod of the same name that was there before is another one.
    let mut other = container("shop", "web-2", "main");
    other.labels = map(&[(POD_UID, "uid-of-an-older-one")]);
    assert!(!index.describe(&other).is_known);
}

#[test]
fn a_plain_container_stays_as_it_is_even_in_a_namespace_of_its_label() {
    let index = index([
        namespace("shop", &[("kubearmor-file-posture", "block")]),
        settings(
            SettingsOrigin::Gorget,
            &[("defaultNetworkPosture", "block")],
        ),
    ]);
    let plain = Container {
        namespace: Some("shop".to_owned()),
        name: "tool".to_owned(),
        ..Container::default()
    };
    let said = index.describe(&plain);
    assert_eq!(said.container, plain);
    assert!(said.is_known);
    let postures = said.postures.over(Postures::all(Posture::Audit));
    assert_eq!(
        (postures.file, postures.network),
        (Posture::Audit, Posture::Block)
    );
}

#[test]
fn annotations_say_the_mode_and_namespaces_that_are_not_tracked_have_none() {
    let index = index([
        pod("shop", "a", &[], &[("kubearmor-policy", "audited")]),
        pod("shop", "b", &[], &[("kubearmor-policy", "nothing")]),
        pod("shop", "c", &[("io.cilium/app", "operator")], &[]),
        pod("kube-system", "d", &[], &[]),
        pod(
            "kubearmor",
            "e",
            &[],
            &[("kubearmor-visibility", "process")],
        ),
    ]);
    let mode = |namespace, pod| index.describe(&container(namespace, pod, "main")).mode;
    assert_eq!(mode("shop", "a"), Mode::Audited);
    assert_eq!(mode("shop", "b"), Mode::Enforced);
    assert_eq!(mode("shop", "c"), Mode::Audited);
    assert_eq!(mode("kube-system", "d"), Mode::Audited);
    assert_eq!(mode("kubearmor", "e"), Mode::Disabled);
    let said = index.describe(&container("kubearmor", "e", "main"));
    assert_eq!(said.visibility, Some(Visibility::NONE));
}

#[test]
fn the_closest_one_says_what_is_visible() {
    let mut index = index([
        settings(SettingsOrigin::KubeArmor, &[("visibility", "file")]),
        namespace("shop", &[("kubearmor-visibility", "network")]),
        pod("shop", "a", &[], &[("kubearmor-visibility", "dns")]),
        pod("shop", "b", &[], &[]),
        pod("other", "c", &[], &[]),
    ]);
    let visible = |index: &Index, namespace, pod| {
        let said = index.describe(&container(namespace, pod, "main"));
        said.visibility.map(|it| it.to_string())
    };
    assert_eq!(visible(&index, "shop", "a").as_deref(), Some("dns"));
    assert_eq!(visible(&index, "shop", "b").as_deref(), Some("network"));
    assert_eq!(visible(&index, "other", "c").as_deref(), Some("file"));
    // Gorget's own ConfigMap counts before KubeArmor's.
    let touched = index.see(settings(
        SettingsOrigin::Gorget,
        &[("visibility", "process")],
    ));
    assert!(touched.settings && touched.workloads);
    assert_eq!(visible(&index, "other", "c").as_deref(), Some("process"));
}

#[test]
fn what_is_wrong_is_told_once() {
    let mut index = Index::default();
    let bad = || namespace("shop", &[("kubearmor-file-posture", "deny")]);
    let problems = index.see(bad()).problems;
    assert_eq!(problems.len(), 1);
    assert!(
        problems[0].starts_with("namespace `shop`: annotation `kubearmor-file-posture`"),
        "{problems:?}"
    );
    assert_eq!(index.see(bad()).problems, [""; 0]);
    let problems = index
        .see(pod("shop", "a", &[], &[("kubearmor-policy", "x")]))
        .problems;
    assert_eq!(problems.len(), 1);
}

#[test]
fn a_list_says_what_is_gone_but_not_of_what_could_not_be_read() {
    let mut index = index([policy("a", 1), policy("b", 1), policy("c", 1)]);
    let Seen::Changed { what, object } = policy("a", 2) else {
        panic!("it is one that changed");
    };
    let touched = index.see(Seen::Listed {
        what,
        objects: vec![object],
        unreadable: vec![Key::new("", "b")],
    });
    assert!(touched.policies);
    let names: Vec<_> = index
        .policies()
        .values()
        .map(|it| (it.name.key.name.clone(), it.generation))
        .collect();
    assert_eq!(names, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
}

#[test]
fn the_host_has_the_labels_of_its_node_and_what_is_configured() {
    let index = index([Seen::Changed {
        what: Watched::Node,
        object: Object::Node(Node {
            name: "worker-1".to_owned(),
            labels: map(&[("zone", "a"), ("kubernetes.io/hostname", "worker-1")]),
            annotations: map(&[("kubearmor-policy", "audited")]),
        }),
    }]);
    let configured = Host {
        name: "worker-1".to_owned(),
        labels: map(&[("rack", "7"), ("kubearmor.io/hostname", "worker-1")]),
    };
    let said = index.describe_host(&configured);
    assert_eq!(said.host.labels.len(), 4);
    assert_eq!(said.mode, Mode::Audited);
}

#[test]
fn an_index_from_disk_knows_what_it_knew() {
    // Who answers is found out anew.
    let mut before = index(
        everything()
            .into_iter()
            .filter(|it| !matches!(it, Seen::Away { .. })),
    );
    let text = serde_json::to_string(&before.keep()).unwrap();
    let after = Index::new(before.untracked.clone());
    let mut after = after.restored(serde_json::from_str(&text).unwrap());
    assert_eq!(before, after);
    // And goes on from there.
    let next = || policy("new", 1);
    assert_eq!(before.see(next()), after.see(next()));
    assert_eq!(before, after);
}

fn everything() -> Vec<Seen> {
    vec![
        pod("shop", "a", &[("app", "web")], &[]),
        pod(
            "shop",
            "b",
            &[("app", "db")],
            &[("kubearmor-policy", "audited")],
        ),
        pod("kube-system", "c", &[], &[("kubearmor-visibility", "x")]),
        namespace("shop", &[("kubearmor-network-posture", "block")]),
        namespace("other", &[("kubearmor-file-posture", "wrong")]),
        settings(
            SettingsOrigin::KubeArmor,
            &[("defaultFilePosture", "block")],
        ),
        settings(SettingsOrigin::Gorget, &[("defaultFilePosture", "allow")]),
        policy("p", 1),
        policy("q", 1),
        Seen::Away {
            what: Watched::Node,
            trouble: Trouble::NotInstalled,
        },
        Seen::Changed {
            what: Watched::Node,
            object: Object::Node(Node::default()),
        },
    ]
}

proptest! {
    #[test]
    fn the_order_of_arrival_means_nothing(order in Just(everything()).prop_shuffle()) {
        let containers = [container("shop", "a", "x"), container("shop", "b", "x")];
        let (one, other) = (index(everything()), index(order));
        prop_assert_eq!(&one, &other);
        for it in &containers {
            prop_assert_eq!(one.describe(it), other.describe(it));
        }
    }

    #[test]
    fn what_is_seen_again_changes_nothing(again in proptest::sample::subsequence(everything(), 0..11)) {
        let mut index = index(everything());
        let before = index.clone();
        for seen in again {
            prop_assert!(!index.see(seen).any());
        }
        prop_assert_eq!(before, index);
    }
}
