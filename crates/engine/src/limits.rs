// SPDX-License-Identifier: Apache-2.0
//! What the backends cannot enforce of a policy.
//!
//! A policy means what [`crate::decide`] says, whatever enforces it. Where a backend cannot do all of
//! it, that is said when the policy is checked and when it is loaded, and never only in a manual:
//! [`limits`] and [`network_limits`] list it from the validated policy alone.
//!
//! INVARIANT: one entry for each sort of thing that a backend leaves undone in a policy, with the place
//! of the first and how many there are; so a policy without an entry is enforced as it is written. A
//! backend that learns something loses its line in [`Unenforced::reason`].

use gorget_model::Category;
use gorget_policy::{Location, Modifiers, NetworkPolicy, Policy, Rule};
use std::fmt;

/// What enforces policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Backend {
    /// The kernel programs.
    BpfLsm,
    /// AppArmor profiles, where BPF LSM is not to be had.
    AppArmor,
}

/// What is not enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unenforced {
    /// Rules with `pts: false`.
    Terminal,
    /// Rules with `allowedArgs`.
    Arguments,
    /// `matchDNSQueries`.
    Dns,
    /// `presets`.
    Preset,
    /// `syscalls`.
    Syscall,
    /// `device`.
    Device,
    /// `apparmor`: lines in AppArmor's own language.
    NativeAppArmor,
    /// The whole of a `KubeArmorNetworkPolicy`.
    Packets,
}

/// Something in a policy that a backend does not enforce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Which backend.
    pub backend: Backend,
    /// `namespace/name` of the policy.
    pub policy: String,
    /// The first such rule; `None` for what is no rule in a policy without rules.
    pub at: Option<Location>,
    /// What it is.
    pub what: Unenforced,
    /// How many there are.
    pub count: usize,
    /// Why not.
    pub reason: &'static str,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::BpfLsm, Self::AppArmor];
}

impl Unenforced {
    const OF_RULES: [Self; 6] = [
        Self::Terminal,
        Self::Arguments,
        Self::Dns,
        Self::Preset,
        Self::Syscall,
        Self::Device,
    ];

    /// Why a backend does not enforce it; `None` when it does.
    fn reason(self, backend: Backend) -> Option<&'static str> {
        match (backend, self) {
            (
                Backend::BpfLsm,
                Self::Terminal | Self::Arguments | Self::Dns | Self::Preset | Self::Syscall,
            )
            | (Backend::AppArmor, Self::NativeAppArmor) => None,
            (Backend::BpfLsm | Backend::AppArmor, Self::Device) => {
                Some("USB devices are not watched yet")
            }
            (Backend::BpfLsm, Self::NativeAppArmor) => Some("only AppArmor can read them"),
            (Backend::BpfLsm | Backend::AppArmor, Self::Packets) => {
                Some("packets are not filtered yet")
            }
            (Backend::AppArmor, Self::Terminal) => Some("a profile does not know about terminals"),
            (Backend::AppArmor, Self::Arguments) => Some("a profile does not see arguments"),
            (Backend::AppArmor, Self::Dns) => Some("a profile does not see what is sent"),
            (Backend::AppArmor, Self::Preset) => Some("a profile cannot describe them"),
            (Backend::AppArmor, Self::Syscall) => Some("a profile does not see system calls"),
        }
    }

    /// Whether a rule is such a rule.
    fn is(self, rule: &Rule) -> bool {
        let Modifiers { no_terminal, .. } = rule.modifiers;
        match self {
            Self::Terminal => no_terminal,
            Self::Arguments => !rule.allowed_arguments.is_empty(),
            Self::Dns => rule.category == Category::Dns,
            Self::Preset => rule.category == Category::Preset,
            Self::Syscall => rule.category == Category::Syscall,
            Self::Device => rule.category == Category::Device,
            Self::NativeAppArmor | Self::Packets => false,
        }
    }
}

/// What a backend does not enforce of a policy.
pub fn limits(backend: Backend, policy: &Policy) -> Vec<Limit> {
    let limit = |what: Unenforced, at: Option<&Location>, count: usize| {
        Some(Limit {
            backend,
            policy: policy.qualified_name(),
            at: at.cloned(),
            what,
            count,
            reason: what.reason(backend)?,
        })
    };
    let of_rules = Unenforced::OF_RULES.into_iter().filter_map(|what| {
        let mut such = policy.rules.iter().filter(|rule| what.is(rule));
        let first = such.next()?;
        limit(what, Some(&first.at), 1 + such.count())
    });
    let lines = policy.native_apparmor.lines();
    let lines = lines.filter(|line| !line.trim().is_empty()).count();
    let first = policy.rules.first().map(|rule| &rule.at);
    let native = (lines > 0).then(|| limit(Unenforced::NativeAppArmor, first, lines));
    of_rules.chain(native.flatten()).collect()
}

/// The same for a `KubeArmorNetworkPolicy`.
pub fn network_limits(backend: Backend, policy: &NetworkPolicy) -> Vec<Limit> {
    let what = Unenforced::Packets;
    let limit = what.reason(backend).map(|reason| Limit {
        backend,
        policy: policy.name.clone(),
        at: policy.rules.first().map(|rule| rule.at.clone()),
        what,
        count: policy.rules.len(),
        reason,
    });
    limit.into_iter().collect()
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BpfLsm => "BPF LSM",
            Self::AppArmor => "AppArmor",
        })
    }
}

/// A plural.
impl fmt::Display for Unenforced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Terminal => "rules with `pts`",
            Self::Arguments => "rules with `allowedArgs`",
            Self::Dns => "rules about DNS queries",
            Self::Preset => "presets",
            Self::Syscall => "rules about system calls",
            Self::Device => "rules about USB devices",
            Self::NativeAppArmor => "lines under `apparmor`",
            Self::Packets => "rules of a `KubeArmorNetworkPolicy`",
        })
    }
}

/// Without the place.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            backend,
            policy,
            at: _,
            what,
            count,
            reason,
        } = self;
        write!(
            f,
            "{backend} does not enforce {what} ({count} in policy `{policy}`): {reason}"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gorget_policy::parse;

    /// Under `spec` of a policy for containers.
    fn found(backend: Backend, spec: &str) -> Vec<(Unenforced, usize, Option<u32>)> {
        let text = format!(
            "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
             metadata: {{ name: p }}\nspec:\n  selector: {{ matchLabels: {{ a: b }} }}\n{spec}"
        );
        let parsed = parse("p.yaml", &text);
        let [policy] = parsed.policies.as_slice() else {
            panic!("{:?}", parsed.problems);
        };
        let limits = limits(backend, policy).into_iter();
        limits
            .map(|limit| (limit.what, limit.count, limit.at.map(|at| at.line)))
            .collect()
    }

    const EVERYTHING: &str = "
  process:
    matchPaths:
    - { path: /bin/a, allowedArgs: [-x] }
    - { path: /bin/b, pts: false }
  network:
    matchProtocols: [{ protocol: tcp }]
    matchDNSQueries: [{ domain: example.com }]
  syscalls:
    matchSyscalls: [{ syscall: [unlink, rmdir] }]
  presets: [{ name: filelessExec }]
  apparmor: |
    /etc/hosts r,

    deny network raw,
";

    #[test]
    fn the_kernel_programs_enforce_all_but_what_is_listed() {
        assert_eq!(
            found(Backend::BpfLsm, EVERYTHING),
            [(Unenforced::NativeAppArmor, 2, Some(9))]
        );
    }

    #[test]
    fn apparmor_enforces_what_a_profile_can_say() {
        let found = found(Backend::AppArmor, EVERYTHING);
        let whats: Vec<_> = found.iter().map(|(what, ..)| *what).collect();
        assert_eq!(
            whats,
            [
                Unenforced::Terminal,
                Unenforced::Arguments,
                Unenforced::Dns,
                Unenforced::Preset,
                Unenforced::Syscall,
            ]
        );
    }

    #[test]
    fn a_policy_that_is_only_native_lines_has_no_place() {
        let native = "  apparmor: deny network raw,\n";
        let expected = [(Unenforced::NativeAppArmor, 1, None)];
        assert_eq!(found(Backend::BpfLsm, native), expected);
        assert_eq!(found(Backend::AppArmor, native), []);
    }

    #[test]
    fn ordinary_rules_have_no_limits() {
        let rules = "  file: { matchPaths: [{ path: /a, readOnly: true, ownerOnly: true }] }\n";
        for backend in Backend::ALL {
            assert_eq!(found(backend, rules), []);
        }
    }

    #[test]
    fn a_limit_says_what_and_why() {
        let text = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorNetworkPolicy\n\
                    metadata: { name: n }\nspec:\n  nodeSelector: { matchLabels: { a: b } }\n  \
                    egress: [{ to: [{ ipBlock: { cidr: 10.0.0.0/8 } }] }]\n  action: Block\n";
        let parsed = parse("n.yaml", text);
        let limits: Vec<_> = parsed
            .network_policies
            .iter()
            .flat_map(|policy| network_limits(Backend::BpfLsm, policy))
            .map(|limit| limit.to_string())
            .collect();
        assert_eq!(
            limits,
            [
                "BPF LSM does not enforce rules of a `KubeArmorNetworkPolicy` (1 in policy `n`): \
              packets are not filtered yet"
            ],
            "{:?}",
            parsed.problems
        );
    }
}
