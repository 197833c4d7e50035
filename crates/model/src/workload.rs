// SPDX-License-Identifier: Apache-2.0
//! Who is protected.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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
