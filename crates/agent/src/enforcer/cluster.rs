// SPDX-License-Identifier: Apache-2.0
//! How workloads are treated in a cluster: who they are by it, how strictly, and with which postures.
//!
//! INVARIANT: what a container was told from its pod stays until it ends; that the pod is not known any
//! more makes no other container of it.

use super::{Enforcer, lock};
use gorget_bpf::WorkloadIndex;
use gorget_k8s::{Described, HostDescribed, Index, PostureOverrides};
use gorget_model::{Container, Mode, Postures, Visibility, Workload};
use gorget_policy::{Operator, Policy, Values};
use std::sync::Arc;

/// How a workload is treated where it is not as configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Treatment {
    pub(super) mode: Mode,
    pub(super) postures: PostureOverrides,
    pub(super) visibility: Option<Visibility>,
    /// Its labels are its pod's, if it is in one.
    pub(super) is_known: bool,
}

impl Default for Treatment {
    fn default() -> Self {
        Self {
            mode: Mode::Enforced,
            postures: PostureOverrides::default(),
            visibility: None,
            is_known: true,
        }
    }
}

impl Treatment {
    /// Whether a policy that selects the workload is for it. While its labels are not known, that it has
    /// not a label means nothing.
    pub(super) fn takes(&self, policy: &Policy) -> bool {
        let excludes_labels = || {
            let mut expressions = policy.selector.expressions.iter();
            expressions
                .any(|it| it.operator == Operator::NotIn && matches!(it.values, Values::Labels(_)))
        };
        self.mode != Mode::Disabled && (self.is_known || !excludes_labels())
    }

    /// Of the agent's mode and the workload's, the one that denies less.
    pub(super) fn mode(&self, agents: Mode) -> Mode {
        match (self.mode, agents) {
            (Mode::Disabled, _) | (_, Mode::Disabled) => Mode::Disabled,
            (Mode::Audited, _) | (_, Mode::Audited) => Mode::Audited,
            (Mode::Enforced, Mode::Enforced) => Mode::Enforced,
        }
    }

    pub(super) fn postures(&self, configured: Postures) -> Postures {
        self.postures.over(configured)
    }
}

impl Enforcer {
    /// Who a container is, of which its runtime says this.
    pub(super) fn described(&self, told: &Container) -> (Container, Treatment) {
        let Some(index) = &self.cluster else {
            return (told.clone(), Treatment::default());
        };
        let Described {
            container,
            is_known,
            mode,
            postures,
            visibility,
        } = index.describe(told);
        let treatment = Treatment {
            mode,
            postures,
            visibility,
            is_known,
        };
        (container, treatment)
    }

    /// This is known of the cluster.
    pub(super) fn set_cluster(&mut self, index: Arc<Index>) {
        self.cluster = Some(index);
        let all: Vec<_> = self.bound.keys().copied().collect();
        for index in all {
            if self.describe_again(index) {
                self.show(index);
                // It is reported.
                drop(self.apply(index));
            }
        }
    }

    /// Says whether a workload is another one than it was taken for, or is treated otherwise.
    fn describe_again(&mut self, index: WorkloadIndex) -> bool {
        let Some(bound) = self.bound.get(&index) else {
            return false;
        };
        let (workload, treatment) = match &bound.told {
            Some(told) => {
                let (container, treatment) = self.described(told);
                if bound.treatment.is_known && !treatment.is_known {
                    return false;
                }
                (Workload::Container(container), treatment)
            }
            None => self.described_host(),
        };
        if *bound.workload == workload && bound.treatment == treatment {
            return false;
        }
        self.is_now(index, workload, treatment);
        true
    }

    fn described_host(&self) -> (Workload, Treatment) {
        let Some(index) = &self.cluster else {
            let host = Workload::Host(self.configured_host.clone());
            return (host, Treatment::default());
        };
        let HostDescribed {
            host,
            mode,
            postures,
            visibility,
        } = index.describe_host(&self.configured_host);
        let treatment = Treatment {
            mode,
            postures,
            visibility,
            is_known: true,
        };
        (Workload::Host(host), treatment)
    }

    /// A workload is this from now on; its rules are not looked at.
    pub(super) fn is_now(
        &mut self,
        index: WorkloadIndex,
        workload: Workload,
        treatment: Treatment,
    ) {
        let Some(bound) = self.bound.get_mut(&index) else {
            return;
        };
        bound.treatment = treatment;
        if *bound.workload == workload {
            return;
        }
        let workload = Arc::new(workload);
        let before = std::mem::replace(&mut bound.workload, Arc::clone(&workload));
        if let (Some(apparmor), Workload::Container(before), Workload::Container(now)) =
            (&mut self.apparmor, &*before, &*workload)
        {
            apparmor.started(now);
            apparmor.stopped(before);
        }
        lock(&self.tracker).workload(index.0, workload);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_two_modes_the_one_that_denies_less_counts() {
        let mode = |own, agents| {
            let treatment = Treatment {
                mode: own,
                ..Treatment::default()
            };
            treatment.mode(agents)
        };
        assert_eq!(mode(Mode::Enforced, Mode::Audited), Mode::Audited);
        assert_eq!(mode(Mode::Audited, Mode::Enforced), Mode::Audited);
        assert_eq!(mode(Mode::Disabled, Mode::Audited), Mode::Disabled);
        assert_eq!(mode(Mode::Enforced, Mode::Enforced), Mode::Enforced);
    }

    #[test]
    fn a_missing_label_means_nothing_while_labels_are_not_known() {
        let policy = |key: &str, values: &str| {
            let text = format!(
                "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorClusterPolicy\n\
                 metadata: {{name: p}}\nspec:\n  selector:\n    matchExpressions:\n    \
                 - {{key: {key}, operator: NotIn, values: [{values}]}}\n  \
                 process: {{matchPaths: [{{path: /bin/x}}]}}\n"
            );
            let parsed = gorget_policy::parse("p", &text);
            parsed.policies.into_iter().next().unwrap()
        };
        let known = Treatment::default();
        let unknown = Treatment {
            is_known: false,
            ..known
        };
        let (by_label, by_namespace) = (policy("label", "app=web"), policy("namespace", "shop"));
        assert!(known.takes(&by_label) && known.takes(&by_namespace));
        assert!(!unknown.takes(&by_label) && unknown.takes(&by_namespace));
    }
}
