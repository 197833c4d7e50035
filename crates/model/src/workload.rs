// SPDX-License-Identifier: Apache-2.0
//! Who is protected.

use crate::Category;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A set of tasks that share one set of policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Everything that is in no container.
    Host(Host),
    /// One container.
    Container(Container),
}

/// The machine itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Node name.
    pub name: String,
    /// Node labels, as `nodeSelector` sees them. Holds `kubearmor.io/hostname` and
    /// `kubernetes.io/hostname`.
    pub labels: BTreeMap<String, String>,
}

/// What names of containers' AppArmor profiles begin with, as KubeArmor's do; the container's name follows.
pub const PROFILE_PREFIX: &str = "kubearmor_";

/// One container, as its runtime describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Container {
    /// Full id, as the runtime gives it.
    pub id: String,
    /// Name. Where the runtime knows no names, the id.
    pub name: String,
    /// Image reference, with digest where the runtime knows it.
    pub image: String,
    /// Kubernetes namespace, or the label `kubearmor.io/namespace`; `None` for a plain container.
    pub namespace: Option<String>,
    /// Pod name, when the container belongs to one.
    pub pod: Option<String>,
    /// Labels, as `selector.matchLabels` sees them.
    pub labels: BTreeMap<String, String>,
    /// Who made its pod, where that is known.
    pub owner: Option<Arc<Owner>>,
}

/// Who made a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// `Deployment`, `DaemonSet` and so on; `Pod` when nobody has.
    pub kind: String,
    /// Its name; the pod's own when nobody has made it.
    pub name: String,
    /// Where it is.
    pub namespace: String,
}

/// How strictly a workload's policies are applied (annotation `kubearmor-policy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Decisions are carried out.
    #[default]
    Enforced,
    /// Decisions are reported, nothing is denied.
    Audited,
    /// Policies are ignored.
    Disabled,
}

/// What happens, in allow-list mode, to an operation that no rule lists.
/// KubeArmor: `defaultFilePosture` and its siblings.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Posture {
    /// It passes.
    Allow,
    /// It passes with an alert.
    #[default]
    Audit,
    /// It is denied with an alert.
    Block,
}

/// Default postures by category. Processes and files share one, as do protocols and DNS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Postures {
    /// `defaultFilePosture`: processes and files.
    pub file: Posture,
    /// `defaultNetworkPosture`: protocols and DNS.
    pub network: Posture,
    /// `defaultCapabilitiesPosture`.
    pub capabilities: Posture,
    /// `hostDefaultDevicePosture`.
    pub device: Posture,
}

impl Postures {
    /// The same for everything.
    pub fn all(posture: Posture) -> Self {
        Self {
            file: posture,
            network: posture,
            capabilities: posture,
            device: posture,
        }
    }

    /// Which one decides. System calls and presets have no allow lists and so no posture.
    pub fn of(&self, category: Category) -> Option<Posture> {
        match category {
            Category::Process | Category::File => Some(self.file),
            Category::Network | Category::Dns => Some(self.network),
            Category::Capability => Some(self.capabilities),
            Category::Device => Some(self.device),
            Category::Syscall | Category::Preset => None,
        }
    }
}
