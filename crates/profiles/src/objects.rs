// SPDX-License-Identifier: Apache-2.0
//! Sockets and capabilities in profiles.
//!
//! AppArmor tells sockets apart by family and type, not by protocol, and has no name for DCCP.

use gorget_engine::{Ruleset, Variant, object_bytes};
use gorget_model::network::{
    AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP,
    IPPROTO_TCP, IPPROTO_UDP, SOCK_DCCP, SOCK_DGRAM, SOCK_PACKET, SOCK_RAW, SOCK_RDM,
    SOCK_SEQPACKET, SOCK_STREAM,
};
use gorget_model::{Capability, Category, Cause, Modes, Object, Outcome, RuleId, Socket, Verdict};

/// A family that no rule names: `AF_VSOCK`.
const OTHER: u8 = 40;
/// A protocol that no rule names.
const OTHER_PROTOCOL: u16 = 253;

const FAMILIES: [(u8, &str); 5] = [
    (AF_UNIX, "unix"),
    (AF_NETLINK, "netlink"),
    (AF_INET, "inet"),
    (AF_INET6, "inet6"),
    (AF_PACKET, "packet"),
];

const TYPES: [(u8, &str); 6] = [
    (SOCK_STREAM, "stream"),
    (SOCK_DGRAM, "dgram"),
    (SOCK_RAW, "raw"),
    (SOCK_RDM, "rdm"),
    (SOCK_SEQPACKET, "seqpacket"),
    (SOCK_PACKET, "packet"),
];

/// The answers of one class of subjects about objects that are no paths.
pub(crate) struct Objects<'a> {
    pub(crate) rules: &'a Ruleset,
    pub(crate) source: u32,
    /// Nothing is denied.
    pub(crate) audited: bool,
    /// What is decided is logged.
    pub(crate) log: bool,
}

/// A rule that a profile cannot say, and why.
pub(crate) type Unsaid = (RuleId, &'static str);

impl Objects<'_> {
    fn verdict(&self, category: Category, object: &Object) -> Verdict {
        let automaton = self.rules.objects(category);
        let row = object_bytes(object).map_or(0, |bytes| automaton.run(&bytes));
        let table = self.rules.decisions(category);
        let variant = Variant::read(Modes::default());
        let decision = table.decision(row, self.source, variant);
        // What a profile does not see is as the rule wants it.
        table.settle(decision, |_| true)
    }

    fn outcome(&self, verdict: Verdict) -> Outcome {
        match verdict.outcome {
            Outcome::Block if self.audited => Outcome::Audit,
            outcome => outcome,
        }
    }

    fn socket(&self, family: u8, kind: u8, protocol: u16) -> Verdict {
        let socket = Socket {
            family,
            kind,
            protocol,
        };
        self.verdict(Category::Network, &Object::Socket(socket))
    }

    fn audit(&self, outcome: Outcome) -> &'static str {
        if self.log && outcome != Outcome::Pass {
            "audit "
        } else {
            ""
        }
    }

    /// Whether local sockets of any type can be made. Policies name all types of them or none.
    pub(crate) fn has_local_sockets(&self) -> bool {
        TYPES.iter().any(|(kind, _)| {
            self.outcome(self.socket(AF_UNIX, *kind, usual(AF_UNIX, *kind))) != Outcome::Block
        })
    }

    /// Lines about sockets.
    pub(crate) fn network(&self) -> Vec<String> {
        let of = |family, kind| self.outcome(self.socket(family, kind, usual(family, kind)));
        let others = TYPES.map(|(kind, _)| of(OTHER, kind));
        let alike = others.iter().all(|outcome| *outcome == others[0]);
        let mut lines = Vec::new();
        if alike && others[0] != Outcome::Block {
            lines.push(format!("{}network,", self.audit(others[0])));
        }
        for ((kind, name), other) in TYPES.into_iter().zip(others) {
            // That would be the family of this name; nothing else still has such sockets.
            let other = if !alike && kind == SOCK_PACKET {
                Outcome::Block
            } else {
                other
            };
            if !alike && other != Outcome::Block {
                lines.push(format!("{}network {name},", self.audit(other)));
            }
            for (family, family_name) in FAMILIES {
                let outcome = of(family, kind);
                let audit = self.audit(outcome);
                match outcome {
                    Outcome::Block if other != Outcome::Block => {
                        lines.push(format!("{audit}deny network {family_name} {name},"));
                    }
                    Outcome::Pass | Outcome::Audit if other == Outcome::Block => {
                        lines.push(format!("{audit}network {family_name} {name},"));
                    }
                    Outcome::Audit if self.log && other == Outcome::Pass => {
                        lines.push(format!("{audit}network {family_name} {name},"));
                    }
                    Outcome::Pass | Outcome::Audit | Outcome::Block => {}
                }
            }
        }
        for (_, family) in FAMILIES {
            compact(&mut lines, family);
        }
        lines
    }

    /// Rules about sockets that a profile cannot tell from others.
    pub(crate) fn unsaid(&self) -> Vec<Unsaid> {
        let mut unsaid = Vec::new();
        for family in [AF_INET, AF_INET6] {
            for (kind, _) in TYPES {
                let said = self.socket(family, kind, usual(family, kind));
                for protocol in protocols(family, kind) {
                    let meant = self.socket(family, kind, *protocol);
                    let differs = self.outcome(meant) != self.outcome(said);
                    let denied = [meant, said].map(|v| self.outcome(v) == Outcome::Block);
                    if differs && denied[0] != denied[1] {
                        let why =
                            "a profile tells sockets apart by family and type, not by protocol";
                        unsaid.extend(cause(meant).or_else(|| cause(said)).map(|rule| (rule, why)));
                    }
                }
            }
        }
        for family in [AF_INET, AF_INET6, OTHER] {
            let dccp = self.socket(family, SOCK_DCCP, 0);
            let stream = self.socket(OTHER, SOCK_STREAM, 0);
            if (self.outcome(dccp) == Outcome::Block) != (self.outcome(stream) == Outcome::Block) {
                let why = "profiles have no name for DCCP";
                unsaid.extend(
                    cause(dccp)
                        .or_else(|| cause(stream))
                        .map(|rule| (rule, why)),
                );
            }
        }
        unsaid
    }

    /// Lines about capabilities.
    pub(crate) fn capabilities(&self) -> Vec<String> {
        let outcomes: Vec<(Capability, Outcome)> = Capability::all()
            .map(|capability| {
                let verdict = self.verdict(Category::Capability, &Object::Capability(capability));
                (capability, self.outcome(verdict))
            })
            .collect();
        let count = |wanted| outcomes.iter().filter(|(_, o)| *o == wanted).count();
        let mut lines = Vec::new();
        let mostly = count(Outcome::Block) * 2 < outcomes.len();
        if mostly {
            let all = count(Outcome::Audit) == outcomes.len();
            let audit = self.audit(if all { Outcome::Audit } else { Outcome::Pass });
            lines.push(format!("{audit}capability,"));
        }
        for (capability, outcome) in &outcomes {
            let (name, audit) = (capability.name(), self.audit(*outcome));
            match outcome {
                Outcome::Block if mostly => lines.push(format!("{audit}deny capability {name},")),
                Outcome::Pass | Outcome::Audit if !mostly => {
                    lines.push(format!("{audit}capability {name},"));
                }
                Outcome::Audit if self.log && count(Outcome::Audit) < 41 => {
                    lines.push(format!("{audit}capability {name},"));
                }
                Outcome::Pass | Outcome::Audit | Outcome::Block => {}
            }
        }
        lines
    }
}

fn cause(verdict: Verdict) -> Option<RuleId> {
    match verdict.cause {
        Cause::Rule(rule) => Some(rule),
        Cause::NoRule | Cause::DefaultPosture => None,
    }
}

/// The protocol that sockets of a family and type usually have: it answers for all.
fn usual(family: u8, kind: u8) -> u16 {
    match (family, kind) {
        (AF_INET, SOCK_RAW) => IPPROTO_ICMP,
        (AF_INET6, SOCK_RAW) => IPPROTO_ICMPV6,
        (AF_INET | AF_INET6, SOCK_SEQPACKET) => IPPROTO_SCTP,
        _ => 0,
    }
}

/// What else sockets of a family and type can have that rules tell apart.
fn protocols(family: u8, kind: u8) -> &'static [u16] {
    match (family, kind) {
        (_, SOCK_STREAM) => &[IPPROTO_TCP, IPPROTO_SCTP],
        (AF_INET, SOCK_DGRAM) => &[IPPROTO_UDP, IPPROTO_ICMP],
        (AF_INET6, SOCK_DGRAM) => &[IPPROTO_UDP, IPPROTO_ICMPV6],
        (_, SOCK_RAW) => &[OTHER_PROTOCOL],
        _ => &[],
    }
}

/// One line for a family whose types are all treated alike.
fn compact(lines: &mut Vec<String>, family: &str) {
    for before in ["", "audit ", "deny ", "audit deny "] {
        let of = |name: &str| format!("{before}network {family} {name},");
        let each: Vec<String> = TYPES.iter().map(|(_, name)| of(name)).collect();
        if each.iter().all(|line| lines.contains(line)) {
            lines.retain(|line| !each.contains(line));
            lines.push(format!("{before}network {family},"));
        }
    }
}
