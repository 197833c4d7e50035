// SPDX-License-Identifier: Apache-2.0
//! Which objects a rule names, in which way, and how ways rank.
//!
//! Paths are compared as they are written and once more with the symbolic link at their beginning
//! replaced. A glob is matched by the set of places in the text that its tokens so far can reach,
//! so no pattern is slow.

use crate::PolicySet;
use gorget_model::network::{
    AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_MPTCP,
    IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, SOCK_DCCP, SOCK_DGRAM, SOCK_PACKET, SOCK_RAW, SOCK_RDM,
    SOCK_SEQPACKET, SOCK_STREAM,
};
use gorget_model::{Device, Object, Protocol, Socket, Syscall};
use gorget_policy::{Action, DeviceMatcher, ObjectMatcher, Rule, Source, Token};
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::iter::once;

/// How a rule names an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    /// By its path.
    Path,
    /// By the last component of its path.
    ExecName,
    /// By a directory. Another name than the one in the rule when that is a symbolic link.
    Directory {
        /// Ends with a slash.
        dir: String,
        /// With everything below.
        recursive: bool,
    },
    /// By a pattern.
    Pattern,
    /// By a domain that it is or is in.
    Domain(String),
    /// As one of a kind: a protocol, a capability, a system call whatever its path, a preset.
    Kind,
    /// By what it says about the device; rules with more weight go first.
    Device {
        /// 100 for the level, 10 for the subclass, 1 for the protocol.
        weight: u8,
    },
    /// It names this, which moves with the directory.
    Below(String),
}

/// What goes before what. The smallest is the most specific.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Path,
    ExecName,
    Directory {
        shorter: Reverse<usize>,
        recursive: bool,
    },
    Pattern,
    Kind,
    Device(Reverse<u8>),
}

impl Standing {
    /// Patterns are not ranked against directories.
    pub(super) fn stays_beside(self, best: Self) -> bool {
        self == best || (self == Self::Pattern && matches!(best, Self::Directory { .. }))
    }
}

/// A way in which a rule names an object.
#[derive(Clone, Debug)]
pub(super) struct Match {
    pub(super) naming: Naming,
    pub(super) standing: Standing,
}

/// The most specific way in which the rule names the object.
pub(super) fn best(set: &PolicySet, rule: &Rule, object: &Object) -> Option<Match> {
    match (&rule.object, object) {
        (matcher, Object::Path(path)) => by_path(&Spelling::of_matcher(matcher)?, set, path),
        (ObjectMatcher::SyscallPath(named, rule_path), Object::Syscall { call, path }) => {
            let written = Spelling::Path(rule_path.clone().into_bytes());
            by_call(*named, *call, path.as_deref(), &written, set)
        }
        (
            ObjectMatcher::SyscallDirectory {
                call: named,
                dir,
                recursive,
            },
            Object::Syscall { call, path },
        ) => {
            let written = Spelling::directory(dir.as_bytes(), *recursive);
            by_call(*named, *call, path.as_deref(), &written, set)
        }
        (ObjectMatcher::Domain(domain), Object::Domain(name)) => names_domain(set, domain, name)
            .then(|| Match {
                naming: Naming::Domain(domain.clone()),
                standing: Standing::Directory {
                    shorter: Reverse(domain.len()),
                    recursive: true,
                },
            }),
        (ObjectMatcher::Device(matcher), Object::Device(device)) => by_device(*matcher, *device),
        (ObjectMatcher::Protocol(protocol), Object::Socket(socket)) => {
            kind(names_socket(*protocol, rule.action, *socket))
        }
        (ObjectMatcher::Capability(named), Object::Capability(used)) => kind(named == used),
        (ObjectMatcher::Preset(named), Object::Preset(attack)) => kind(named == attack),
        (ObjectMatcher::Syscall(named), Object::Syscall { call, .. }) => kind(named == call),
        (
            ObjectMatcher::Path(_)
            | ObjectMatcher::ExecName(_)
            | ObjectMatcher::Directory { .. }
            | ObjectMatcher::Pattern(_)
            | ObjectMatcher::Protocol(_)
            | ObjectMatcher::Domain(_)
            | ObjectMatcher::Capability(_)
            | ObjectMatcher::Syscall(_)
            | ObjectMatcher::SyscallPath(..)
            | ObjectMatcher::SyscallDirectory { .. }
            | ObjectMatcher::Device(_)
            | ObjectMatcher::Preset(_),
            _,
        ) => None,
    }
}

/// Whether a `fromSource` entry names an image.
pub(super) fn source_names(set: &PolicySet, source: &Source, image: &[u8]) -> bool {
    let written = match source {
        Source::Path(path) => Spelling::Path(path.clone().into_bytes()),
        Source::Directory { dir, recursive } => Spelling::directory(dir.as_bytes(), *recursive),
    };
    by_path(&written, set, image).is_some()
}

/// Where a rule for processes or files is certain to name something: for every spelling, the path
/// without wildcards, and how the rule ranks there.
pub(super) fn literals(set: &PolicySet, rule: &Rule) -> Vec<(Vec<u8>, Match)> {
    let spellings = Spelling::of_matcher(&rule.object)
        .map(|written| written.with_alias(&set.aliases.0))
        .unwrap_or_default();
    spellings
        .iter()
        .filter_map(|spelling| Some((spelling.literal()?, spelling.matched())))
        .collect()
}

fn by_path(written: &Spelling, set: &PolicySet, path: &[u8]) -> Option<Match> {
    let spellings = written.with_alias(&set.aliases.0);
    let matching = spellings.iter().filter(|spelling| spelling.matches(path));
    matching
        .map(Spelling::matched)
        .min_by_key(|matched| matched.standing)
}

fn by_call(
    named: Syscall,
    call: Syscall,
    path: Option<&[u8]>,
    written: &Spelling,
    set: &PolicySet,
) -> Option<Match> {
    by_path(written, set, path.filter(|_| named == call)?)
}

fn kind(named: bool) -> Option<Match> {
    named.then_some(Match {
        naming: Naming::Kind,
        standing: Standing::Kind,
    })
}

fn by_device(matcher: DeviceMatcher, device: Device) -> Option<Match> {
    let parts = [
        (matcher.class, device.class, 0),
        (matcher.subclass, device.subclass, 10),
        (matcher.protocol, device.protocol, 1),
        (matcher.level, device.level, 100),
    ];
    let mut weight = 0_u8;
    for (wanted, is, points) in parts {
        match wanted {
            None => {}
            Some(wanted) if wanted == is => weight = weight.saturating_add(points),
            Some(_) => return None,
        }
    }
    Some(Match {
        naming: Naming::Device { weight },
        standing: Standing::Device(Reverse(weight)),
    })
}

fn names_domain(set: &PolicySet, domain: &str, name: &[u8]) -> bool {
    let is_or_is_in = |name: &[u8]| {
        let before = name.strip_suffix(domain.as_bytes());
        before.is_some_and(|before| before.is_empty() || before.ends_with(b"."))
    };
    let name = comparable(name);
    let mut completed = set.search_domains.iter().filter_map(|search| {
        let search = comparable(search.as_bytes());
        name.strip_suffix(search.as_slice())?.strip_suffix(b".")
    });
    is_or_is_in(&name) || completed.any(is_or_is_in)
}

/// Lower case, without dots at the end.
fn comparable(name: &[u8]) -> Vec<u8> {
    let mut name = name.to_ascii_lowercase();
    while name.ends_with(b".") {
        name.pop();
    }
    name
}

/// Section 5 of the semantics.
fn names_socket(protocol: Protocol, action: Action, socket: Socket) -> bool {
    let Socket {
        family,
        kind,
        protocol: number,
    } = socket;
    if family == AF_UNIX || family == AF_NETLINK {
        return protocol == Protocol::All && action == Action::Block;
    }
    let internet = family == AF_INET || family == AF_INET6;
    let raw_or_ping = kind == SOCK_RAW || kind == SOCK_DGRAM;
    match protocol {
        Protocol::All => true,
        Protocol::Tcp => {
            internet && kind == SOCK_STREAM && [0, IPPROTO_TCP, IPPROTO_MPTCP].contains(&number)
        }
        Protocol::Udp => internet && kind == SOCK_DGRAM && [0, IPPROTO_UDP].contains(&number),
        Protocol::Icmp => family == AF_INET && raw_or_ping && number == IPPROTO_ICMP,
        Protocol::Icmpv6 => family == AF_INET6 && raw_or_ping && number == IPPROTO_ICMPV6,
        Protocol::Sctp => {
            internet && [SOCK_STREAM, SOCK_SEQPACKET].contains(&kind) && number == IPPROTO_SCTP
        }
        Protocol::Raw => (internet || family == AF_PACKET) && kind == SOCK_RAW,
        Protocol::Stream => kind == SOCK_STREAM,
        Protocol::Dgram => kind == SOCK_DGRAM,
        Protocol::Rdm => kind == SOCK_RDM,
        Protocol::Seqpacket => kind == SOCK_SEQPACKET,
        Protocol::Dccp => kind == SOCK_DCCP,
        Protocol::Packet => kind == SOCK_PACKET,
    }
}

/// One way to write which paths are meant.
#[derive(Clone, Debug)]
enum Spelling {
    Path(Vec<u8>),
    ExecName(Vec<u8>),
    /// Without a slash at the end; the root is empty.
    Directory(Vec<u8>, bool),
    Pattern(Vec<Token>),
}

impl Spelling {
    /// `None` for objects that are no paths.
    fn of_matcher(matcher: &ObjectMatcher) -> Option<Self> {
        match matcher {
            ObjectMatcher::Path(path) => Some(Self::Path(path.clone().into_bytes())),
            ObjectMatcher::ExecName(name) => Some(Self::ExecName(name.clone().into_bytes())),
            ObjectMatcher::Directory { dir, recursive } => {
                Some(Self::directory(dir.as_bytes(), *recursive))
            }
            ObjectMatcher::Pattern(glob) => Some(Self::Pattern(glob.tokens.clone())),
            ObjectMatcher::Protocol(_)
            | ObjectMatcher::Domain(_)
            | ObjectMatcher::Capability(_)
            | ObjectMatcher::Syscall(_)
            | ObjectMatcher::SyscallPath(..)
            | ObjectMatcher::SyscallDirectory { .. }
            | ObjectMatcher::Device(_)
            | ObjectMatcher::Preset(_) => None,
        }
    }

    fn directory(dir: &[u8], recursive: bool) -> Self {
        Self::Directory(without_slash(dir).to_vec(), recursive)
    }

    /// As written, and with the link that its literal part is replaced.
    fn with_alias(&self, aliases: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<Self> {
        let link = self.literal().filter(|literal| literal != b"/");
        let target = link.as_ref().and_then(|link| aliases.get(link));
        let replaced = target.and_then(|target| {
            let target = without_slash(target);
            match self {
                Self::Path(_) => Some(Self::Path(or_root(target))),
                Self::ExecName(_) => None,
                Self::Directory(_, recursive) => Some(Self::directory(target, *recursive)),
                Self::Pattern(tokens) => {
                    let rest = tokens
                        .iter()
                        .skip(link.as_ref().map_or(0, Vec::len))
                        .cloned();
                    let start = target.iter().copied().map(Token::Byte);
                    Some(Self::Pattern(start.chain(rest).collect()))
                }
            }
        });
        once(self.clone()).chain(replaced).collect()
    }

    /// The path that can be named without wildcards, without a slash at the end.
    fn literal(&self) -> Option<Vec<u8>> {
        match self {
            Self::Path(path) => Some(or_root(without_slash(path))),
            Self::ExecName(_) => None,
            Self::Directory(dir, _) => Some(or_root(dir)),
            Self::Pattern(tokens) => {
                let start: Vec<u8> = tokens.iter().map_while(as_byte).collect();
                let whole = start.len() == tokens.len();
                let components = start.iter().rposition(|byte| *byte == b'/')?;
                let literal = start.get(..if whole { start.len() } else { components })?;
                start
                    .starts_with(b"/")
                    .then(|| or_root(without_slash(literal)))
            }
        }
    }

    fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Path(named) => named == path,
            Self::ExecName(name) => path.rsplit(|byte| *byte == b'/').next() == Some(name),
            Self::Directory(dir, recursive) => {
                let below = path.strip_prefix(dir.as_slice());
                below.is_some_and(|below| match below.strip_prefix(b"/") {
                    None => below.is_empty(),
                    Some(name) => *recursive || !name.contains(&b'/'),
                })
            }
            Self::Pattern(tokens) => {
                let start: Vec<bool> = once(true).chain(path.iter().map(|_| false)).collect();
                reached(tokens, path, start).last() == Some(&true)
            }
        }
    }

    fn matched(&self) -> Match {
        let (naming, standing) = match self {
            Self::Path(_) => (Naming::Path, Standing::Path),
            Self::ExecName(_) => (Naming::ExecName, Standing::ExecName),
            Self::Directory(dir, recursive) => (
                Naming::Directory {
                    dir: format!("{}/", String::from_utf8_lossy(dir)),
                    recursive: *recursive,
                },
                Standing::Directory {
                    shorter: Reverse(dir.len().saturating_add(1)),
                    recursive: *recursive,
                },
            ),
            Self::Pattern(_) => (Naming::Pattern, Standing::Pattern),
        };
        Match { naming, standing }
    }
}

/// Where in `text` one can be after `tokens`, when one can be at `places` before them. There is one
/// place before every byte and one at the end.
fn reached(tokens: &[Token], text: &[u8], places: Vec<bool>) -> Vec<bool> {
    tokens.iter().fold(places, |places, token| match token {
        Token::Byte(byte) => after_one(&places, text, |b| b == *byte),
        Token::One => after_one(&places, text, |b| b != b'/'),
        Token::Class(ranges) => after_one(&places, text, |b| {
            ranges.iter().any(|(low, high)| (*low..=*high).contains(&b))
        }),
        Token::Run => after_any(&places, text, |b| b != b'/'),
        Token::DeepRun => after_any(&places, text, |_| true),
        Token::Alternatives(alternatives) => {
            let mut together = vec![false; places.len()];
            for alternative in alternatives {
                let reached = reached(alternative, text, places.clone());
                for (place, reached) in together.iter_mut().zip(reached) {
                    *place |= reached;
                }
            }
            together
        }
    })
}

fn after_one(places: &[bool], text: &[u8], accepts: impl Fn(u8) -> bool) -> Vec<bool> {
    let stepped = places.iter().zip(text);
    once(false)
        .chain(stepped.map(|(here, byte)| *here && accepts(*byte)))
        .collect()
}

fn after_any(places: &[bool], text: &[u8], accepts: impl Fn(u8) -> bool) -> Vec<bool> {
    let mut going = false;
    let passed = once(None).chain(text.iter().map(Some));
    let steps = places.iter().zip(passed);
    steps
        .map(|(here, passed)| {
            going = *here || (going && passed.is_some_and(|byte| accepts(*byte)));
            going
        })
        .collect()
}

fn as_byte(token: &Token) -> Option<u8> {
    match token {
        Token::Byte(byte) => Some(*byte),
        Token::One | Token::Class(_) | Token::Run | Token::DeepRun | Token::Alternatives(_) => None,
    }
}

/// Empty for the root.
fn without_slash(mut path: &[u8]) -> &[u8] {
    while let Some(shorter) = path.strip_suffix(b"/") {
        path = shorter;
    }
    path
}

fn or_root(path: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        b"/".to_vec()
    } else {
        path.to_vec()
    }
}

impl fmt::Display for Naming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path => f.write_str("the exact path"),
            Self::ExecName => f.write_str("the name of the program"),
            Self::Directory {
                dir,
                recursive: true,
            } => write!(f, "the directory `{dir}` with all below it"),
            Self::Directory {
                dir,
                recursive: false,
            } => write!(f, "the directory `{dir}`"),
            Self::Pattern => f.write_str("a pattern"),
            Self::Domain(domain) => write!(f, "the domain `{domain}`"),
            Self::Kind => f.write_str("its kind"),
            Self::Device { weight } => write!(f, "what it says about the device (weight {weight})"),
            Self::Below(path) => write!(f, "`{path}`, which moves with the directory"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_could_go_on_forever_is_matched_at_once() {
        let stars: Vec<Token> = (0..200)
            .flat_map(|_| [Token::DeepRun, Token::Byte(b'a')])
            .chain([Token::Byte(b'!')])
            .collect();
        let path = vec![b'a'; 4_096];
        assert!(!Spelling::Pattern(stars).matches(&path));
    }
}
