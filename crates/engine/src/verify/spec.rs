// SPDX-License-Identifier: Apache-2.0
//! Test files as written. What the fields mean is in the parent module; nothing here is checked but
//! the form.

use gorget_model::{Container, Host, Outcome, Posture, Postures, Workload};
use serde::Deserialize;
use serde_saphyr::Spanned;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ScenarioSpec {
    #[serde(default)]
    pub(super) name: String,
    #[serde(default)]
    pub(super) posture: PostureSpec,
    pub(super) policies: PoliciesSpec,
    pub(super) workload: WorkloadSpec,
    #[serde(default, rename = "searchDomains")]
    pub(super) search_domains: Vec<String>,
    pub(super) cases: Vec<Spanned<CaseSpec>>,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "`policies` must be a list of files, or text with policies"
)]
pub(super) enum PoliciesSpec {
    Files(Vec<String>),
    Documents(String),
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "`posture` must be allow, audit or block, or a mapping of file, network, capabilities and device to these"
)]
pub(super) enum PostureSpec {
    All(Posture),
    Each(PosturesSpec),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PosturesSpec {
    file: Posture,
    network: Posture,
    capabilities: Posture,
    device: Posture,
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "`workload` must be `host`, or a mapping with `container` or `host`"
)]
pub(super) enum WorkloadSpec {
    Word(WorkloadWord),
    Fields(WorkloadFields),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum WorkloadWord {
    Host,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkloadFields {
    container: Option<String>,
    host: Option<String>,
    namespace: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseSpec {
    pub(super) op: String,
    pub(super) source: Option<String>,
    #[serde(default = "yes")]
    pub(super) owner: bool,
    #[serde(default)]
    pub(super) terminal: bool,
    #[serde(default)]
    pub(super) args: Vec<String>,
    pub(super) expect: ExpectSpec,
    pub(super) policy: Option<String>,
    #[serde(default)]
    pub(super) not_in: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ExpectSpec {
    Allow,
    Audit,
    Block,
}

fn yes() -> bool {
    true
}

impl Default for PostureSpec {
    fn default() -> Self {
        Self::All(Posture::default())
    }
}

impl PostureSpec {
    pub(super) fn into_postures(self) -> Postures {
        match self {
            Self::All(posture) => Postures::all(posture),
            Self::Each(PosturesSpec {
                file,
                network,
                capabilities,
                device,
            }) => Postures {
                file,
                network,
                capabilities,
                device,
            },
        }
    }
}

impl WorkloadSpec {
    /// `None` when it is neither a container nor a host.
    pub(super) fn into_workload(self) -> Option<Workload> {
        let WorkloadFields {
            container,
            host,
            namespace,
            labels,
        } = match self {
            Self::Word(WorkloadWord::Host) => return Some(Workload::Host(Host::default())),
            Self::Fields(fields) => fields,
        };
        match (container, host) {
            (Some(name), None) => Some(Workload::Container(Container {
                name,
                namespace,
                labels,
                ..Container::default()
            })),
            (None, Some(name)) if namespace.is_none() => {
                Some(Workload::Host(Host { name, labels }))
            }
            (Some(_), Some(_)) | (None, Some(_) | None) => None,
        }
    }
}

impl ExpectSpec {
    pub(super) fn outcome(self) -> Outcome {
        match self {
            Self::Allow => Outcome::Pass,
            Self::Audit => Outcome::Audit,
            Self::Block => Outcome::Block,
        }
    }
}
