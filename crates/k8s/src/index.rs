// SPDX-License-Identifier: Apache-2.0
//! What is known of the cluster, and who a container is by it.
//!
//! A container knows its namespace, its pod and its name from its runtime; what its pod's labels are, who
//! made it and what annotations say comes from here. The kubelet starts a pod only after the API has it, so
//! that it is here before its containers, as a rule.
//!
//! INVARIANT: no two objects share state, so that the order in which they come means nothing.

use crate::annotations::{PostureOverrides, Said};
use crate::objects::{Key, Namespace, Node, Object, Pod, PolicyKey, PolicyObject};
use crate::settings::{Good, Settings, SettingsMap, SettingsOrigin};
use crate::watch::{Seen, Trouble, Watched};
use gorget_model::{Container, Host, Mode, Visibility};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The label by which the kubelet tells a runtime which pod of a name it is.
const POD_UID: &str = "io.kubernetes.pod.uid";
/// COMPAT: pods that KubeArmor never enforces anything in, if it tracks them.
const SYSTEM_NAMESPACE: &str = "kube-system";
const CILIUM_LABEL: &str = "io.cilium/app";

/// Everything that is known. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Namespaces that are not tracked unless a ConfigMap says which.
    untracked: BTreeSet<String>,
    pods: BTreeMap<Key, Arc<Pod>>,
    namespaces: BTreeMap<String, Arc<Namespace>>,
    node: Option<Arc<Node>>,
    policies: BTreeMap<PolicyKey, Arc<PolicyObject>>,
    maps: BTreeMap<(SettingsOrigin, Key), Good>,
    /// What `maps` say together.
    settings: Settings,
    /// What was listed since the start.
    listed: BTreeSet<Watched>,
    away: BTreeMap<Watched, Trouble>,
}

/// What something that was seen changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    /// Who a workload is, or how it is treated, may be different.
    pub workloads: bool,
    /// There are other policies.
    pub policies: bool,
    /// Settings are different.
    pub settings: bool,
    /// What is wrong and was not before, one line each.
    pub problems: Vec<String>,
}

impl Touched {
    /// What is known is different.
    pub fn any(&self) -> bool {
        self.workloads || self.policies || self.settings
    }

    /// Both together.
    pub fn and(&mut self, other: Self) {
        self.workloads |= other.workloads;
        self.policies |= other.policies;
        self.settings |= other.settings;
        self.problems.extend(other.problems);
    }
}

/// Who a container is, and how it is treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// With the labels of its pod, and who made that.
    pub container: Container,
    /// What it was told from its pod; otherwise there is only what its runtime knows. A container that is
    /// in no pod is known.
    pub is_known: bool,
    /// How strictly its policies are applied.
    pub mode: Mode,
    /// Where they are not the configured ones.
    pub postures: PostureOverrides,
    /// Where it is not the configured one.
    pub visibility: Option<Visibility>,
}

/// The same of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostDescribed {
    /// With the labels of the node.
    pub host: Host,
    /// How strictly its policies are applied.
    pub mode: Mode,
    /// Where they are not the configured ones.
    pub postures: PostureOverrides,
    /// Where it is not the configured one.
    pub visibility: Option<Visibility>,
}

/// An index on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    pods: Vec<Arc<Pod>>,
    namespaces: Vec<Arc<Namespace>>,
    node: Option<Arc<Node>>,
    policies: Vec<Arc<PolicyObject>>,
    settings: Vec<(SettingsOrigin, Key, Good)>,
}

impl Index {
    /// Nothing is known. `untracked`: namespaces in which nothing is enforced or told.
    pub fn new(untracked: BTreeSet<String>) -> Self {
        Self {
            untracked,
            ..Self::default()
        }
    }

    /// What was known when it was [`keep`](Self::keep)t.
    #[must_use]
    pub fn restored(self, kept: Kept) -> Self {
        let Kept {
            pods,
            namespaces,
            node,
            policies,
            settings,
        } = kept;
        let maps = settings.into_iter();
        let mut index = Self {
            pods: pods.into_iter().map(|it| (it.key.clone(), it)).collect(),
            namespaces: namespaces
                .into_iter()
                .map(|it| (it.name.clone(), it))
                .collect(),
            node,
            policies: policies
                .into_iter()
                .map(|it| (it.name.clone(), it))
                .collect(),
            maps: maps
                .map(|(origin, key, good)| ((origin, key), good))
                .collect(),
            ..self
        };
        index.merge_settings();
        index
    }

    /// What to keep on disk, so that it is known without a server.
    pub fn keep(&self) -> Kept {
        let maps = self.maps.iter();
        Kept {
            pods: self.pods.values().cloned().collect(),
            namespaces: self.namespaces.values().cloned().collect(),
            node: self.node.clone(),
            policies: self.policies.values().cloned().collect(),
            settings: maps
                .map(|((origin, key), good)| (*origin, key.clone(), good.clone()))
                .collect(),
        }
    }

    /// Takes what was seen.
    pub fn see(&mut self, seen: Seen) -> Touched {
        match seen {
            Seen::Listed {
                what,
                objects,
                unreadable,
            } => self.list(what, objects, &unreadable),
            Seen::Changed { what: _, object } => self.put(object),
            Seen::Gone { what, key } => self.remove(&what, &key),
            Seen::Unreadable { what, key, reason } => {
                let name = key.map_or_else(|| "one without a name".to_owned(), |it| it.to_string());
                let problem = format!(
                    "{what}: `{name}` cannot be read, what was known of it stays: {reason}"
                );
                Touched {
                    problems: vec![problem],
                    ..Touched::default()
                }
            }
            Seen::Connected { what } => {
                self.away.remove(&what);
                Touched::default()
            }
            Seen::Away { what, trouble } => {
                self.away.insert(what, trouble);
                Touched::default()
            }
        }
    }

    fn list(&mut self, what: Watched, objects: Vec<Object>, unreadable: &[Key]) -> Touched {
        let there: BTreeSet<Key> = objects
            .iter()
            .map(Object::key)
            .chain(unreadable.iter().cloned())
            .collect();
        let mut touched = Touched::default();
        for key in self.keys(&what) {
            if !there.contains(&key) {
                touched.and(self.remove(&what, &key));
            }
        }
        for object in objects {
            touched.and(self.put(object));
        }
        self.listed.insert(what);
        touched
    }

    /// What is known of a kind.
    fn keys(&self, what: &Watched) -> Vec<Key> {
        match what {
            Watched::Pods => self.pods.keys().cloned().collect(),
            Watched::Node => {
                let node = self.node.iter();
                node.map(|node| Key::new("", &node.name)).collect()
            }
            Watched::Namespaces => {
                let names = self.namespaces.keys();
                names.map(|name| Key::new("", name)).collect()
            }
            Watched::Policies(resource) => {
                let names = self.policies.keys();
                let names = names.filter(|name| name.resource == *resource);
                names.map(|name| name.key.clone()).collect()
            }
            Watched::Settings { origin, namespace } => {
                let maps = self.maps.keys();
                let maps = maps.filter(|(of, key)| of == origin && key.namespace == *namespace);
                maps.map(|(_, key)| key.clone()).collect()
            }
        }
    }

    fn put(&mut self, object: Object) -> Touched {
        match object {
            Object::Pod(pod) => self.put_pod(pod),
            Object::Node(node) => self.put_node(node),
            Object::Namespace(namespace) => self.put_namespace(namespace),
            Object::Policy(policy) => {
                let policy = Arc::new(policy);
                let before = self
                    .policies
                    .insert(policy.name.clone(), Arc::clone(&policy));
                Touched {
                    policies: before != Some(policy),
                    ..Touched::default()
                }
            }
            Object::Settings(map) => self.put_settings(map),
        }
    }

    fn put_pod(&mut self, pod: Pod) -> Touched {
        let pod = Arc::new(pod);
        let before = self.pods.insert(pod.key.clone(), Arc::clone(&pod));
        let said_before = before.as_ref().map(|pod| &pod.annotations);
        let problems = match said_before == Some(&pod.annotations) {
            true => Vec::new(),
            false => about(&format!("pod `{}`", pod.key), Said::by(&pod.annotations)),
        };
        Touched {
            workloads: before != Some(pod),
            problems,
            ..Touched::default()
        }
    }

    fn put_namespace(&mut self, namespace: Namespace) -> Touched {
        let namespace = Arc::new(namespace);
        let name = namespace.name.clone();
        let before = self.namespaces.insert(name, Arc::clone(&namespace));
        let is_new = before.as_ref() != Some(&namespace);
        let problems = match is_new {
            true => {
                let place = format!("namespace `{}`", namespace.name);
                about(&place, Said::by(&namespace.annotations))
            }
            false => Vec::new(),
        };
        // Of a namespace without annotations nothing is told to its pods.
        let said = before.is_some_and(|before| !before.annotations.is_empty());
        Touched {
            workloads: is_new && (said || !namespace.annotations.is_empty()),
            problems,
            ..Touched::default()
        }
    }

    fn put_node(&mut self, node: Node) -> Touched {
        let node = Arc::new(node);
        let before = self.node.replace(Arc::clone(&node));
        let said_before = before.as_ref().map(|node| &node.annotations);
        let problems = match said_before == Some(&node.annotations) {
            true => Vec::new(),
            false => about(
                &format!("node `{}`", node.name),
                Said::by(&node.annotations),
            ),
        };
        Touched {
            workloads: before != Some(node),
            problems,
            ..Touched::default()
        }
    }

    fn put_settings(&mut self, map: SettingsMap) -> Touched {
        let SettingsMap { origin, key, data } = map;
        let place = (origin, key);
        let before = self.maps.get(&place).cloned().unwrap_or_default();
        let (good, problems) = before.after(&data);
        let key = &place.1;
        let problems = problems.into_iter();
        let problems = problems.map(|problem| format!("configmap `{key}`: {problem}"));
        let problems = problems.collect();
        self.maps.insert(place, good);
        Touched {
            problems,
            ..self.merge_settings()
        }
    }

    fn remove(&mut self, what: &Watched, key: &Key) -> Touched {
        let mut touched = Touched::default();
        match what {
            Watched::Pods => touched.workloads = self.pods.remove(key).is_some(),
            Watched::Node => touched.workloads = self.node.take().is_some(),
            Watched::Namespaces => {
                let before = self.namespaces.remove(&key.name);
                touched.workloads = before.is_some_and(|it| !it.annotations.is_empty());
            }
            Watched::Policies(resource) => {
                let name = PolicyKey {
                    resource: *resource,
                    key: key.clone(),
                };
                touched.policies = self.policies.remove(&name).is_some();
            }
            Watched::Settings { origin, .. } => {
                self.maps.remove(&(*origin, key.clone()));
                touched = self.merge_settings();
            }
        }
        touched
    }

    /// Gorget's maps before KubeArmor's, each by name.
    fn merge_settings(&mut self) -> Touched {
        let mut settings = Settings::default();
        for wanted in [SettingsOrigin::Gorget, SettingsOrigin::KubeArmor] {
            let maps = self
                .maps
                .iter()
                .filter(|((origin, _), _)| *origin == wanted);
            for (_, good) in maps {
                settings = settings.or(good.settings());
            }
        }
        let is_new = settings != self.settings;
        self.settings = settings;
        Touched {
            workloads: is_new,
            settings: is_new,
            ..Touched::default()
        }
    }

    /// What ConfigMaps say.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// All policies of the cluster.
    pub fn policies(&self) -> &BTreeMap<PolicyKey, Arc<PolicyObject>> {
        &self.policies
    }

    /// The pods of the node.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.pods.values().map(AsRef::as_ref)
    }

    /// Why not everything is known as it is, one line each. A kind that the cluster does not have is none.
    pub fn troubles(&self) -> impl Iterator<Item = String> {
        let away = self.away.iter();
        let away = away.filter(|(_, trouble)| **trouble != Trouble::NotInstalled);
        away.map(|(what, trouble)| format!("{what}: {trouble}"))
    }

    /// What the cluster does not have.
    pub fn not_installed(&self) -> impl Iterator<Item = &Watched> {
        let away = self.away.iter();
        away.filter(|(_, trouble)| **trouble == Trouble::NotInstalled)
            .map(|(what, _)| what)
    }

    /// The server has said of everything that matters to containers how it is, since the start.
    pub fn is_current(&self) -> bool {
        let basics = [Watched::Pods, Watched::Namespaces, Watched::Node];
        basics.iter().all(|what| self.listed.contains(what))
    }

    /// The server does not say which pods there are.
    pub fn is_away(&self) -> bool {
        self.away.contains_key(&Watched::Pods)
    }

    fn is_tracked(&self, namespace: &str) -> bool {
        let untracked = self.settings.untracked.as_ref();
        !untracked.unwrap_or(&self.untracked).contains(namespace)
    }

    /// The pod that a container says it is in, unless it is another one of the same name.
    fn pod_of(&self, container: &Container) -> Option<&Pod> {
        let key = Key {
            namespace: container.namespace.clone()?,
            name: container.pod.clone()?,
        };
        let uid = container.labels.get(POD_UID);
        let is_it = |pod: &&Arc<Pod>| uid.is_none_or(|uid| uid.is_empty() || *uid == pod.uid);
        self.pods.get(&key).filter(is_it).map(AsRef::as_ref)
    }

    /// Whether everything is known that there is to know of a container.
    pub fn knows(&self, container: &Container) -> bool {
        container.pod.is_none() || self.pod_of(container).is_some()
    }

    /// Who a container is, of which its runtime says this.
    pub fn describe(&self, container: &Container) -> Described {
        let settings = &self.settings;
        let mut described = Described {
            container: container.clone(),
            is_known: true,
            mode: Mode::Enforced,
            postures: settings.postures,
            visibility: settings.visibility,
        };
        // A plain container.
        let (Some(namespace), Some(_)) = (&container.namespace, &container.pod) else {
            return described;
        };
        let of_namespace = self.namespaces.get(namespace);
        let of_namespace = of_namespace.map(|it| Said::by(&it.annotations));
        let of_namespace = of_namespace.unwrap_or_default();
        let pod = self.pod_of(container);
        let of_pod = pod
            .map(|pod| Said::by(&pod.annotations))
            .unwrap_or_default();
        described.is_known = pod.is_some();
        if let Some(pod) = pod {
            described.container.labels.clone_from(&pod.labels);
            described.container.owner = Some(pod.owner.clone());
            if described.container.image.is_empty() {
                let mut all = pod.containers.iter();
                let same = all.find(|it| it.name == container.name);
                described.container.image = same.map(|it| it.image.clone()).unwrap_or_default();
            }
        }
        described.postures = merged(of_namespace.postures, settings.postures);
        described.visibility = of_pod
            .visibility
            .or(of_namespace.visibility)
            .or(settings.visibility);
        let is_system = namespace == SYSTEM_NAMESPACE
            || pod.is_some_and(|pod| pod.labels.contains_key(CILIUM_LABEL));
        described.mode = match of_pod.mode {
            Some(mode) => mode,
            None if is_system => Mode::Audited,
            None => Mode::Enforced,
        };
        if !self.is_tracked(namespace) {
            described.mode = Mode::Disabled;
            described.visibility = Some(Visibility::NONE);
        }
        described
    }

    /// Who the host is, of which the configuration says this.
    pub fn describe_host(&self, configured: &Host) -> HostDescribed {
        let mut host = configured.clone();
        let mut said = Said::default();
        if let Some(node) = &self.node {
            host.labels.extend(node.labels.clone());
            said = Said::by(&node.annotations);
        }
        HostDescribed {
            host,
            mode: said.mode.unwrap_or_default(),
            postures: self.settings.host_postures,
            visibility: said.visibility.or(self.settings.host_visibility),
        }
    }
}

fn merged(first: PostureOverrides, then: PostureOverrides) -> PostureOverrides {
    PostureOverrides {
        file: first.file.or(then.file),
        network: first.network.or(then.network),
        capabilities: first.capabilities.or(then.capabilities),
        device: first.device.or(then.device),
    }
}

fn about(place: &str, said: Said) -> Vec<String> {
    let problems = said.problems.into_iter();
    problems
        .map(|problem| format!("{place}: {problem}"))
        .collect()
}

#[cfg(test)]
mod tests;
