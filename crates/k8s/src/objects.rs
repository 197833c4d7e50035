// SPDX-License-Identifier: Apache-2.0
//! Objects of the API, cut down to what is needed: their text can be a hundred times as large.
//!
//! They are read from JSON with all fields that are not named here left out, among them `managedFields`.
//! Policies are kept as they are written, because only `gorget-policy` knows what may be in them.

use crate::annotations::is_ours;
use crate::settings::{SettingsMap, SettingsOrigin};
use gorget_model::Owner;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Labels that controllers of Kubernetes give to pods to know them again.
/// COMPAT: policies do not select by them, alerts do not have them.
const CONTROLLERS_LABELS: [&str; 3] = [
    "pod-template-hash",
    "pod-template-generation",
    "controller-revision-hash",
];
/// On the API's copy of a pod that the kubelet has from a file: what the kubelet calls its uid.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What an object of a kind is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Empty for what is in none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Key {
    /// Of an object in a namespace, or in none when that is empty.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Of anything that has a name.
    pub(crate) fn of(value: &Value) -> Option<Self> {
        let text = |key| value.pointer(key).and_then(Value::as_str);
        let name = text("/metadata/name")?;
        let namespace = text("/metadata/namespace").unwrap_or_default();
        Some(Self::new(namespace, name))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => f.write_str(&self.name),
            namespace => write!(f, "{namespace}/{}", self.name),
        }
    }
}

/// The kinds of policies, as the API has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum PolicyResource {
    /// `KubeArmorPolicy`.
    Container,
    /// `KubeArmorHostPolicy`.
    Host,
    /// `KubeArmorClusterPolicy`.
    Cluster,
    /// `KubeArmorNetworkPolicy`.
    Network,
}

impl PolicyResource {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Container, Self::Host, Self::Cluster, Self::Network];
    /// Group and version of all.
    pub const API_VERSION: &str = "security.kubearmor.com/v1";

    /// The documents' `kind`.
    pub fn kind(self) -> &'static str {
        match self {
            Self::Container => "KubeArmorPolicy",
            Self::Host => "KubeArmorHostPolicy",
            Self::Cluster => "KubeArmorClusterPolicy",
            Self::Network => "KubeArmorNetworkPolicy",
        }
    }

    /// By a document's `kind`.
    pub fn of_kind(kind: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.kind() == kind)
    }

    /// What the API calls them.
    pub fn plural(self) -> &'static str {
        match self {
            Self::Container => "kubearmorpolicies",
            Self::Host => "kubearmorhostpolicies",
            Self::Cluster => "kubearmorclusterpolicies",
            Self::Network => "kubearmornetworkpolicies",
        }
    }
}

/// What a policy is called, among those of all kinds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PolicyKey {
    /// Its kind.
    pub resource: PolicyResource,
    /// Its name.
    pub key: Key,
}

impl fmt::Display for PolicyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource.kind(), self.key)
    }
}

/// A policy as the API has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyObject {
    /// What it is called.
    pub name: PolicyKey,
    /// Which of those that were ever called so.
    pub uid: String,
    /// The how manyth version of what it asks for.
    pub generation: i64,
    /// The document as JSON: what it is, what it is called and `spec`, nothing else.
    pub text: String,
}

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// What it is called.
    pub key: Key,
    /// What container runtimes call its uid: of a static pod it is not the one that the API gives.
    pub uid: String,
    /// Without those that controllers use among themselves.
    pub labels: BTreeMap<String, String>,
    /// Those that mean something here.
    pub annotations: BTreeMap<String, String>,
    /// Who made it.
    pub owner: Arc<Owner>,
    /// It is in the process namespace of the node.
    pub host_pid: bool,
    /// It is in the network namespace of the node.
    pub host_network: bool,
    /// Its containers are in one process namespace.
    pub shares_processes: bool,
    /// The kubelet has it from a file, and the API a copy.
    pub is_static: bool,
    /// All containers of all roles.
    pub containers: Vec<PodContainer>,
}

/// A container of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodContainer {
    /// Its name in the pod.
    pub name: String,
    /// As it is asked for.
    pub image: String,
    /// What it is for.
    pub role: Role,
}

/// What a container of a pod is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It is why there is a pod.
    Main,
    /// It ends before the main ones begin.
    Init,
    /// It begins before the main ones and goes on beside them.
    Sidecar,
    /// It was put into the pod while it ran, by `kubectl debug`.
    Ephemeral,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    /// Its name.
    pub name: String,
    /// Those annotations that mean something here.
    pub annotations: BTreeMap<String, String>,
}

/// The node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// What host policies select by.
    pub labels: BTreeMap<String, String>,
    /// Those that mean something here.
    pub annotations: BTreeMap<String, String>,
}

/// An object of any kind that is watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A pod of the node.
    Pod(Pod),
    /// The node.
    Node(Node),
    /// A namespace of the cluster.
    Namespace(Namespace),
    /// A policy of any kind.
    Policy(PolicyObject),
    /// A ConfigMap with settings.
    Settings(SettingsMap),
}

/// An object cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Nobody can speak of it.
    #[error("it has no name")]
    Unnamed,
    /// A field has another type than Kubernetes gives it.
    #[error("it is not what its kind should be")]
    Shape(#[source] serde_json::Error),
}

/// What all objects have.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: Option<String>,
    uid: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
    owner_references: Option<Vec<OwnerReference>>,
}

#[derive(Deserialize)]
struct OwnerReference {
    kind: String,
    name: String,
    #[serde(default)]
    controller: bool,
}

#[derive(Deserialize)]
struct MetadataOnly {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct PodWire {
    metadata: Metadata,
    spec: PodSpec,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PodSpec {
    #[serde(default)]
    host_network: bool,
    #[serde(default, rename = "hostPID")]
    host_pid: bool,
    share_process_namespace: Option<bool>,
    containers: Option<Vec<ContainerSpec>>,
    init_containers: Option<Vec<ContainerSpec>>,
    ephemeral_containers: Option<Vec<ContainerSpec>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ContainerSpec {
    name: String,
    image: Option<String>,
    restart_policy: Option<String>,
}

#[derive(Deserialize)]
struct ConfigMapWire {
    metadata: Metadata,
    data: Option<BTreeMap<String, String>>,
}

fn read<T: for<'de> Deserialize<'de>>(value: &Value) -> Result<T, ReadError> {
    T::deserialize(value).map_err(ReadError::Shape)
}

impl Pod {
    pub(crate) fn read(value: &Value) -> Result<Self, ReadError> {
        let PodWire { metadata, spec } = read(value)?;
        let Metadata {
            name,
            namespace,
            uid,
            generation: _,
            labels,
            annotations,
            owner_references,
        } = metadata;
        let namespace = namespace.unwrap_or_default();
        let annotations = annotations.unwrap_or_default();
        let mut labels = labels.unwrap_or_default();
        let template_hash = labels.get("pod-template-hash").cloned();
        let owners = owner_references.unwrap_or_default();
        let (kind, owner) = made_by(&owners, template_hash.as_deref())
            .unwrap_or_else(|| ("Pod".to_owned(), name.clone()));
        labels.retain(|key, _| !CONTROLLERS_LABELS.contains(&key.as_str()));
        let mirrored = annotations.get(MIRROR).cloned();
        Ok(Self {
            uid: mirrored.clone().or(uid).unwrap_or_default(),
            labels,
            owner: Arc::new(Owner {
                kind,
                name: owner,
                namespace: namespace.clone(),
            }),
            annotations: ours(annotations),
            host_pid: spec.host_pid,
            host_network: spec.host_network,
            shares_processes: spec.share_process_namespace.unwrap_or_default(),
            is_static: mirrored.is_some(),
            containers: spec.all_containers(),
            key: Key { namespace, name },
        })
    }
}

impl PodSpec {
    fn all_containers(self) -> Vec<PodContainer> {
        let init = |container: &ContainerSpec| match container.restart_policy.as_deref() {
            Some("Always") => Role::Sidecar,
            Some(_) | None => Role::Init,
        };
        let with = |role: fn(&ContainerSpec) -> Role| {
            move |container: ContainerSpec| PodContainer {
                role: role(&container),
                name: container.name,
                image: container.image.unwrap_or_default(),
            }
        };
        let all = |list: Option<Vec<ContainerSpec>>| list.unwrap_or_default().into_iter();
        let main = all(self.containers).map(with(|_| Role::Main));
        let ephemeral = all(self.ephemeral_containers).map(with(|_| Role::Ephemeral));
        let first = all(self.init_containers).map(with(init));
        first.chain(main).chain(ephemeral).collect()
    }
}

/// Kind and name of who made a pod, as far up as its names tell.
///
/// COMPAT: KubeArmor asks the API who made the ReplicaSet or the Job. Names that controllers make are
/// the maker's with something behind it, which spares the right to read those everywhere.
fn made_by(owners: &[OwnerReference], template_hash: Option<&str>) -> Option<(String, String)> {
    let controller = owners.iter().find(|owner| owner.controller);
    let owner = controller.or_else(|| owners.first())?;
    let (kind, name) = (owner.kind.as_str(), owner.name.as_str());
    let (kind, name) = match kind {
        // A static pod's owner is its node, which has not made it.
        "Node" => return None,
        "ReplicaSet" => template_hash
            .and_then(|hash| name.strip_suffix(hash)?.strip_suffix('-'))
            .map_or((kind, name), |deployment| ("Deployment", deployment)),
        "Job" => name
            .rsplit_once('-')
            .filter(|(_, minutes)| is_schedule(minutes))
            .map_or((kind, name), |(cron, _)| ("CronJob", cron)),
        _ => (kind, name),
    };
    Some((kind.to_owned(), name.to_owned()))
}

/// The CronJob controller puts the minutes since 1970 behind its name, which have eight digits until
/// the year 2160.
fn is_schedule(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn ours(mut annotations: BTreeMap<String, String>) -> BTreeMap<String, String> {
    annotations.retain(|key, _| is_ours(key));
    annotations
}

impl Namespace {
    pub(crate) fn read(value: &Value) -> Result<Self, ReadError> {
        let MetadataOnly { metadata } = read(value)?;
        Ok(Self {
            name: metadata.name,
            annotations: ours(metadata.annotations.unwrap_or_default()),
        })
    }
}

impl Node {
    pub(crate) fn read(value: &Value) -> Result<Self, ReadError> {
        let MetadataOnly { metadata } = read(value)?;
        Ok(Self {
            name: metadata.name,
            labels: metadata.labels.unwrap_or_default(),
            annotations: ours(metadata.annotations.unwrap_or_default()),
        })
    }
}

impl PolicyObject {
    /// From an object of the API. Whatever `spec` is: what may be in it is not known here.
    ///
    /// # Errors
    ///
    /// When it has no name, or its metadata are none.
    pub fn read(resource: PolicyResource, value: &Value) -> Result<Self, ReadError> {
        let key = Key::of(value).ok_or(ReadError::Unnamed)?;
        let MetadataOnly { metadata } = read(value)?;
        let named = match key.namespace.as_str() {
            "" => json!({ "name": key.name }),
            namespace => json!({ "name": key.name, "namespace": namespace }),
        };
        // What is in a list does not say what it is.
        let document = json!({
            "apiVersion": PolicyResource::API_VERSION,
            "kind": resource.kind(),
            "metadata": named,
            "spec": value.get("spec").unwrap_or(&Value::Null),
        });
        Ok(Self {
            name: PolicyKey { resource, key },
            uid: metadata.uid.unwrap_or_default(),
            generation: metadata.generation.unwrap_or_default(),
            text: document.to_string(),
        })
    }
}

impl SettingsMap {
    pub(crate) fn read(origin: SettingsOrigin, value: &Value) -> Result<Self, ReadError> {
        let ConfigMapWire { metadata, data } = read(value)?;
        Ok(Self {
            origin,
            key: Key {
                namespace: metadata.namespace.unwrap_or_default(),
                name: metadata.name,
            },
            data: data.unwrap_or_default(),
        })
    }
}

impl Object {
    /// What it is called among those of its kind.
    pub fn key(&self) -> Key {
        match self {
            Self::Pod(pod) => pod.key.clone(),
            Self::Node(node) => Key::new("", &node.name),
            Self::Namespace(namespace) => Key::new("", &namespace.name),
            Self::Policy(policy) => policy.name.key.clone(),
            Self::Settings(settings) => settings.key.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
