// SPDX-License-Identifier: Apache-2.0
//! `KubeArmorNetworkPolicy`: which connections hosts may have, and quotas of what may pass.
//!
//! Nothing here is a rule of a [`Policy`](crate::Policy): addresses, ports and amounts of data are
//! not operations of a workload. What the fields mean is KubeArmor's (its 11.3).
//!
//! INVARIANT: an [`AddressRange`] has no bits set behind its prefix; a [`PortRange`] is not empty;
//! a rule of a policy for pods has a quota.

use crate::Selector;
use crate::document::PolicyName;
use crate::fields::{Field, Fields, Text};
use crate::meta::{Copied, Inheritance, MetaSpec};
use crate::policy::{Action, Location};
use crate::problem::{Problems, quote};
use crate::selector::{POD_KEYS, read_node_selector, read_pod_selector};
use crate::shape::Words;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// One validated `KubeArmorNetworkPolicy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// `metadata.name`.
    pub name: String,
    /// Whose traffic it is about.
    pub target: NetworkTarget,
    /// Who shares a quota.
    pub quota_scope: QuotaScope,
    /// Its rules, in the order written.
    pub rules: Vec<NetworkRule>,
}

/// Whose traffic a policy is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkTarget {
    /// `nodeSelector`: that of hosts.
    Hosts(Selector),
    /// `selector`: that of pods. Only quotas.
    Pods(Selector),
}

/// `level`: who shares a quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuotaScope {
    /// Each pod has its own.
    #[default]
    Pod,
    /// All pods of the policy.
    Policy,
}

/// One entry of `ingress` or `egress`, with everything it inherits filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRule {
    /// Which way.
    pub direction: Direction,
    /// `from` or `to`; empty means everywhere.
    pub peers: Vec<AddressRange>,
    /// `iface`; empty means any.
    pub interfaces: Vec<String>,
    /// `ports`; empty means any.
    pub ports: Vec<PortRange>,
    /// `limit` and `duration`.
    pub quota: Option<Quota>,
    /// What it asks for.
    pub action: Action,
    /// 1 to 10.
    pub severity: Option<u8>,
    /// Tags in the order written.
    pub tags: Vec<String>,
    /// Message for people; empty when none.
    pub message: String,
    /// Where it is written: the first character of the entry.
    pub at: Location,
    /// The last line of what is written there.
    pub last_line: u32,
}

/// Which way traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the target.
    Ingress,
    /// From the target.
    Egress,
}

/// Addresses with a common beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange {
    /// The first of them.
    pub first: IpAddr,
    /// How many bits they have in common.
    pub prefix: u8,
}

/// Ports of one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// Which protocol.
    pub transport: Transport,
    /// The first port, from 1.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

/// A protocol with ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Transport {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// How much may pass before the rule's action is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Bytes.
    pub bytes: u64,
    /// After this time it counts anew; `None` means never.
    pub window: Option<Duration>,
}

pub(crate) const QUOTA_SCOPES: Words<QuotaScope> = &[
    ("Pod", QuotaScope::Pod),
    ("Policy", QuotaScope::Policy),
    ("pod", QuotaScope::Pod),
    ("policy", QuotaScope::Policy),
];

pub(crate) const TRANSPORTS: Words<Transport> = &[
    ("TCP", Transport::Tcp),
    ("UDP", Transport::Udp),
    ("SCTP", Transport::Sctp),
    ("tcp", Transport::Tcp),
    ("udp", Transport::Udp),
    ("sctp", Transport::Sctp),
];

/// Names of ports (KubeArmor 11.3).
const SERVICES: [(&str, u16); 4] = [("ssh", 22), ("http", 80), ("https", 443), ("dns", 53)];

/// `IFNAMSIZ` without the NUL.
const MOST_INTERFACE: usize = 15;

/// Reads `spec`. Means nothing when errors were reported.
pub(crate) fn read_network_policy(
    name: Option<PolicyName>,
    spec: &Fields<'_>,
    copied: &mut Copied,
    problems: &mut Problems,
) -> Option<NetworkPolicy> {
    let meta = MetaSpec::read(spec, problems);
    let target = read_target(spec, problems);
    let quota_scope = spec.choice("level", QUOTA_SCOPES, problems);
    let mut rules = Vec::new();
    for (list, direction, peers) in [
        ("ingress", Direction::Ingress, "from"),
        ("egress", Direction::Egress, "to"),
    ] {
        spec.each(list, problems, |entry, problems| {
            let rule = read_rule(entry, direction, peers, &meta, copied, problems);
            if let (Some(NetworkTarget::Pods(_)), Some(rule)) = (&target, &rule)
                && rule.quota.is_none_or(|quota| quota.window.is_none())
            {
                let reason = "must have `limit` and `duration` in a policy for pods";
                problems.error(entry.at, entry.field, reason);
            }
            rules.extend(rule);
        });
    }
    rules.sort_by_key(|rule| (rule.at.line, rule.at.column));
    Some(NetworkPolicy {
        name: name?.name,
        target: target?,
        quota_scope: quota_scope.unwrap_or_default(),
        rules,
    })
}

fn read_target(spec: &Fields<'_>, problems: &mut Problems) -> Option<NetworkTarget> {
    match (spec.get("nodeSelector"), spec.get("selector")) {
        (Some(_), Some(node)) => {
            let field = Field::Key(&spec.field, "selector");
            let help = "make it two policies";
            problems.error_with_help(node.at, field, "stands beside `nodeSelector`", help);
            None
        }
        (None, None) => {
            let reason = "has neither `nodeSelector` nor `selector`";
            problems.error(spec.at, spec.field, reason);
            None
        }
        (Some(_), None) => read_node_selector(spec, problems).map(NetworkTarget::Hosts),
        (None, Some(_)) => read_pod_selector(spec, POD_KEYS, problems).map(NetworkTarget::Pods),
    }
}

fn read_rule(
    entry: &Fields<'_>,
    direction: Direction,
    peers_name: &str,
    spec: &MetaSpec,
    copied: &mut Copied,
    problems: &mut Problems,
) -> Option<NetworkRule> {
    let mut peers = Vec::new();
    entry.each(peers_name, problems, |peer, problems| {
        if let Some(block) = peer.mapping("ipBlock", problems) {
            peers.extend(read_address(&block, problems));
        } else if peer.get("ipBlock").is_none() {
            problems.error(peer.at, Field::Key(&peer.field, "ipBlock"), "is missing");
        }
    });
    let mut ports = Vec::new();
    entry.each("ports", problems, |port, problems| {
        ports.extend(read_port(port, problems));
    });
    let mut interfaces = Vec::new();
    for name in entry.texts("iface", problems) {
        check_interface(name, Field::Key(&entry.field, "iface"), problems);
        interfaces.push(name.text.to_owned());
    }
    let written = MetaSpec::read(entry, problems);
    let block = MetaSpec::default();
    let inheritance = Inheritance {
        block: &block,
        spec,
    };
    let quota = read_quota(entry, problems);
    let meta = inheritance.resolve(&written, entry.at, copied, problems)?;
    Some(NetworkRule {
        direction,
        peers,
        interfaces,
        ports,
        quota,
        action: meta.action,
        severity: meta.severity,
        tags: meta.tags,
        message: meta.message,
        at: problems.location(entry.at),
        last_line: entry.last_line,
    })
}

fn read_address(block: &Fields<'_>, problems: &mut Problems) -> Option<AddressRange> {
    let written = block.text("cidr", problems)?;
    let range = address_range(written.text);
    if range.is_none() {
        let reason = format!("{} is not a range of addresses", quote(written.text));
        let help = "write `10.0.0.0/8` or `fd00::/8`";
        problems.error_with_help(written.at, Field::Key(&block.field, "cidr"), reason, help);
    }
    range
}

/// COMPAT: bits behind the prefix are taken for 0, as `nft` does, and an address alone is itself.
fn address_range(text: &str) -> Option<AddressRange> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix.parse::<u8>().ok()?)),
        None => (text, None),
    };
    match address.parse().ok()? {
        IpAddr::V4(address) => {
            let prefix = prefix.unwrap_or(32);
            let free = 32u32.checked_sub(prefix.into())?;
            let mask = u32::MAX.checked_shl(free).unwrap_or(0);
            let first = IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask));
            Some(AddressRange { first, prefix })
        }
        IpAddr::V6(address) => {
            let prefix = prefix.unwrap_or(128);
            let free = 128u32.checked_sub(prefix.into())?;
            let mask = u128::MAX.checked_shl(free).unwrap_or(0);
            let first = IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask));
            Some(AddressRange { first, prefix })
        }
    }
}

fn read_port(port: &Fields<'_>, problems: &mut Problems) -> Option<PortRange> {
    let transport = port.choice("protocol", TRANSPORTS, problems);
    let last = port.number("endPort", problems);
    let written = port.text("port", problems)?;
    let field = Field::Key(&port.field, "port");
    let mut services = SERVICES.iter();
    let first = match services.find(|(name, _)| *name == written.text) {
        Some((_, number)) => *number,
        None => match written.text.parse() {
            Ok(number @ 1..) => number,
            Ok(0) | Err(_) => {
                let reason = format!("{} is not a port", quote(written.text));
                let help = "write a number from 1 to 65535, `ssh`, `http`, `https` or `dns`";
                problems.error_with_help(written.at, field, reason, help);
                return None;
            }
        },
    };
    let last = match last {
        Some(last) => u16::try_from(last).ok()?,
        None => first,
    };
    if last < first {
        let reason = format!("comes before `port`, which is {first}");
        let at = port.get("endPort").map_or(port.at, |node| node.at);
        problems.error(at, Field::Key(&port.field, "endPort"), reason);
    }
    Some(PortRange {
        transport: transport.unwrap_or_default(),
        first,
        last,
    })
}

fn check_interface(name: Text<'_>, field: Field<'_>, problems: &mut Problems) {
    let fits = (1..=MOST_INTERFACE).contains(&name.text.len());
    let wrong = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    if !fits || name.text.contains(wrong) {
        let reason = format!("{} is not the name of an interface", quote(name.text));
        problems.error(name.at, field, reason);
    }
}

fn read_quota(entry: &Fields<'_>, problems: &mut Problems) -> Option<Quota> {
    let limit = entry.text("limit", problems);
    let duration = entry.text("duration", problems);
    let window = duration.and_then(|written| {
        let window = go_duration(written.text).filter(|window| !window.is_zero());
        if window.is_none() {
            let reason = format!("{} is not a length of time", quote(written.text));
            let field = Field::Key(&entry.field, "duration");
            problems.error_with_help(written.at, field, reason, "write `20m` or `1h30m`");
        }
        window
    });
    let Some(limit) = limit else {
        if let Some(duration) = duration {
            let field = Field::Key(&entry.field, "duration");
            let help = "there is no `limit`";
            problems.warning(duration.at, field, "does nothing", help);
        }
        return None;
    };
    let Some(bytes) = quota_bytes(limit.text) else {
        let reason = format!("{} is not a number of bytes", quote(limit.text));
        let help = "write `500K`, `10MB` or `2GB`; without a unit it is GB";
        let field = Field::Key(&entry.field, "limit");
        problems.error_with_help(limit.at, field, reason, help);
        return None;
    };
    Some(Quota { bytes, window })
}

/// COMPAT: units are powers of 1,024, and a number alone counts GB.
fn quota_bytes(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let unit: u64 = match text.strip_prefix(digits)? {
        "K" | "KB" => 1 << 10,
        "M" | "MB" => 1 << 20,
        "" | "G" | "GB" => 1 << 30,
        _ => return None,
    };
    let is_number = !digits.is_empty() && digits.chars().all(|digit| digit.is_ascii_digit());
    let number: u64 = is_number.then(|| digits.parse().ok())??;
    number.checked_mul(unit)
}

/// What Go's `time.ParseDuration` reads, without signs.
fn go_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let after = rest.trim_start_matches(is_number);
        let number = rest.strip_suffix(after)?;
        let next = after.trim_start_matches(|c: char| !is_number(c));
        let nanoseconds: f64 = match after.strip_suffix(next)? {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3_600e9,
            _ => return None,
        };
        let seconds = number.parse::<f64>().ok()? * nanoseconds / 1e9;
        total = total.checked_add(Duration::try_from_secs_f64(seconds).ok()?)?;
        rest = next;
    }
    (total > Duration::ZERO).then_some(total)
}

#[cfg(test)]
mod tests;
