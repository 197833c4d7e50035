// SPDX-License-Identifier: Apache-2.0
//! Which objects a rule names: object matchers and sources as sequences of glob tokens over the
//! bytes of `objects`.
//!
//! A rule has one [`Form`] as written and, where its literal part is a symbolic link inside the
//! workload, a second one under the name that the kernel uses ([`Aliases`]). Each form knows how
//! it ranks against others and its *literal part*: the path that can be named without wildcards.
//!
//! INVARIANT: a literal part is absolute, has no trailing slash unless it is `/`, and contains no
//! wildcard.

use crate::objects::{call_bytes, domain_bytes, nibbles, preset_byte};
use gorget_model::Protocol;
use gorget_model::network::{
    AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP,
    IPPROTO_TCP, IPPROTO_UDP, SOCK_DCCP, SOCK_DGRAM, SOCK_PACKET, SOCK_RAW, SOCK_RDM,
    SOCK_SEQPACKET, SOCK_STREAM,
};
use gorget_policy::{Action, DeviceMatcher, ObjectMatcher, Policy, Rule, Source, Token};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Rule path as written to what the kernel calls it in this workload, for paths that are or lie
/// below symbolic links. Whoever can see the workload's file system resolves them; a rule then
/// covers both names: for a directory both trees, for a pattern its literal directory prefix is
/// replaced, and sources likewise.
///
/// Keys are the paths that [`literal_paths`] returns; other keys have no effect. Neither side has
/// a trailing slash.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Aliases(pub BTreeMap<Vec<u8>, Vec<u8>>);

/// Every path for which an alias could exist: paths, directories and source paths as written, and
/// the literal directory prefixes of patterns. Without trailing slashes; the root is not among them.
pub fn literal_paths(policies: &[Arc<Policy>]) -> BTreeSet<Vec<u8>> {
    let mut paths = BTreeSet::new();
    for rule in policies.iter().flat_map(|policy| &policy.rules) {
        paths.extend(Form::of_object(rule, &[]).literal);
        paths.extend(
            rule.sources
                .iter()
                .filter_map(|s| Form::of_source(s).literal),
        );
    }
    paths.remove(ROOT);
    paths
}

pub(crate) const ROOT: &[u8] = b"/";

/// How a form ranks against others that match the same object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Rank {
    Path,
    ExecName,
    /// `length` is that of the directory's name, trailing slash included.
    Directory {
        length: usize,
        recursive: bool,
    },
    Pattern,
    /// One of several kinds of objects that do not rank among themselves: a protocol, a capability, a
    /// preset, a system call whatever its path.
    Listed,
    /// How much the rule says about the device.
    Device(u8),
}

/// One way in which a rule names paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Form {
    pub(crate) rank: Rank,
    /// `None` for names that no literal begins: an execname, a pattern that starts with a wildcard.
    pub(crate) literal: Option<Vec<u8>>,
    /// What is named: any object whose bytes one of these matches.
    pub(crate) names: Vec<Vec<Token>>,
}

impl Form {
    /// The form as written, and the one under the alias of its literal part if there is one.
    pub(crate) fn all_of_object(rule: &Rule, aliases: &Aliases, search: &[String]) -> Vec<Self> {
        let written = Self::of_object(rule, search);
        let aliased = written.alias(aliases).map(|target| match &rule.object {
            ObjectMatcher::Path(_) => Self::path(or_root(target)),
            ObjectMatcher::Directory { dir: _, recursive } => Self::directory(target, *recursive),
            ObjectMatcher::Pattern(glob) => {
                let prefix = written.literal.as_ref().map_or(0, Vec::len);
                let rest = glob.tokens.get(prefix..).unwrap_or_default();
                let mut tokens = bytes(target);
                tokens.extend_from_slice(rest);
                Self::pattern(tokens)
            }
            ObjectMatcher::SyscallPath(call, _) => {
                Self::path(or_root(target)).after(&call_bytes(*call))
            }
            ObjectMatcher::SyscallDirectory {
                call,
                dir: _,
                recursive,
            } => Self::directory(target, *recursive).after(&call_bytes(*call)),
            // Nothing else has a literal part that an alias could stand for.
            ObjectMatcher::ExecName(_)
            | ObjectMatcher::Protocol(_)
            | ObjectMatcher::Domain(_)
            | ObjectMatcher::Capability(_)
            | ObjectMatcher::Syscall(_)
            | ObjectMatcher::Device(_)
            | ObjectMatcher::Preset(_) => written.clone(),
        });
        [written].into_iter().chain(aliased).collect()
    }

    /// As [`Form::all_of_object`], for a source.
    pub(crate) fn all_of_source(source: &Source, aliases: &Aliases) -> Vec<Self> {
        let written = Self::of_source(source);
        let aliased = written.alias(aliases).map(|target| match source {
            Source::Path(_) => Self::path(or_root(target)),
            Source::Directory { dir: _, recursive } => Self::directory(target, *recursive),
        });
        [written].into_iter().chain(aliased).collect()
    }

    fn of_object(rule: &Rule, search: &[String]) -> Self {
        match &rule.object {
            ObjectMatcher::Path(path) => Self::path(path.as_bytes()),
            ObjectMatcher::ExecName(name) => Self::exec_name(name),
            ObjectMatcher::Directory { dir, recursive } => {
                Self::directory(without_slash(dir.as_bytes()), *recursive)
            }
            ObjectMatcher::Pattern(glob) => Self::pattern(glob.tokens.clone()),
            ObjectMatcher::Protocol(protocol) => {
                Self::listed(protocol_names(*protocol, rule.action))
            }
            ObjectMatcher::Domain(domain) => Self::domain(domain, search),
            ObjectMatcher::Capability(capability) => {
                Self::listed(vec![bytes(&[capability.number().saturating_add(1)])])
            }
            ObjectMatcher::Syscall(call) => {
                let alone = bytes(&call_bytes(*call));
                let mut with_path = alone.clone();
                with_path.push(Token::DeepRun);
                Self::listed(vec![alone, with_path])
            }
            ObjectMatcher::SyscallPath(call, path) => {
                Self::path(path.as_bytes()).after(&call_bytes(*call))
            }
            ObjectMatcher::SyscallDirectory {
                call,
                dir,
                recursive,
            } => {
                Self::directory(without_slash(dir.as_bytes()), *recursive).after(&call_bytes(*call))
            }
            ObjectMatcher::Device(device) => Self::device(*device),
            ObjectMatcher::Preset(preset) => Self::listed(vec![bytes(&[preset_byte(*preset)])]),
        }
    }

    fn of_source(source: &Source) -> Self {
        match source {
            Source::Path(path) => Self::path(path.as_bytes()),
            Source::Directory { dir, recursive } => {
                Self::directory(without_slash(dir.as_bytes()), *recursive)
            }
        }
    }

    /// What to put in place of the literal part: its alias without trailing slash, so that the
    /// root is empty.
    fn alias<'a>(&self, aliases: &'a Aliases) -> Option<&'a [u8]> {
        let literal = self.literal.as_ref().filter(|path| *path != ROOT)?;
        let target = without_slash(aliases.0.get(literal)?);
        (target != literal).then_some(target)
    }

    fn path(path: &[u8]) -> Self {
        Self {
            rank: Rank::Path,
            literal: Some(or_root(without_slash(path)).to_vec()),
            names: vec![bytes(path)],
        }
    }

    fn exec_name(name: &str) -> Self {
        let mut tokens = vec![Token::DeepRun, Token::Byte(b'/')];
        tokens.extend(bytes(name.as_bytes()));
        Self {
            rank: Rank::ExecName,
            literal: None,
            names: vec![tokens],
        }
    }

    /// The directory itself, and what its name with a slash begins.
    fn directory(dir: &[u8], recursive: bool) -> Self {
        let mut inside = bytes(dir);
        inside.push(Token::Byte(b'/'));
        inside.push(if recursive {
            Token::DeepRun
        } else {
            Token::Run
        });
        let mut names = vec![inside];
        if !dir.is_empty() {
            names.push(bytes(dir));
        }
        Self {
            rank: Rank::Directory {
                length: dir.len().saturating_add(1),
                recursive,
            },
            literal: Some(or_root(dir).to_vec()),
            names,
        }
    }

    fn listed(names: Vec<Vec<Token>>) -> Self {
        Self {
            rank: Rank::Listed,
            literal: None,
            names,
        }
    }

    /// A domain ranks like a recursive directory: the longest that holds the name wins. Names that
    /// a resolver completes with a search domain are the same names.
    fn domain(domain: &str, search: &[String]) -> Self {
        let completed = search.iter().map(|suffix| format!("{domain}.{suffix}"));
        let mut names = Vec::new();
        for name in [domain.to_owned()].into_iter().chain(completed) {
            let itself = bytes(&domain_bytes(name.as_bytes()));
            let mut below = itself.clone();
            below.extend([Token::Byte(b'.'), Token::DeepRun]);
            names.extend([itself, below]);
        }
        Self {
            rank: Rank::Directory {
                length: domain.len(),
                recursive: true,
            },
            literal: None,
            names,
        }
    }

    fn device(device: DeviceMatcher) -> Self {
        let DeviceMatcher {
            class,
            subclass,
            protocol,
            level,
        } = device;
        let name = [class, subclass, protocol, level]
            .into_iter()
            .flat_map(|part| match part {
                Some(number) => bytes(&nibbles(number)),
                None => vec![anything(), anything()],
            });
        let says = |part: Option<u8>, points| if part.is_some() { points } else { 0 };
        Self {
            // COMPAT: KubeArmor 11.1 weighs them so.
            rank: Rank::Device(says(level, 100) + says(subclass, 10) + says(protocol, 1)),
            literal: None,
            names: vec![name.collect()],
        }
    }

    /// The same, of objects whose bytes begin with `prefix`.
    fn after(mut self, prefix: &[u8]) -> Self {
        for name in &mut self.names {
            name.splice(0..0, bytes(prefix));
        }
        self
    }

    fn pattern(tokens: Vec<Token>) -> Self {
        let literal = literal_of_pattern(&tokens);
        Self {
            rank: Rank::Pattern,
            literal,
            names: vec![tokens],
        }
    }
}

/// Sockets that are local communication: named by `all` with Block, and by nothing else.
pub(crate) fn local_sockets() -> [Vec<Token>; 2] {
    [AF_UNIX, AF_NETLINK].map(|family| vec![number(family.into()), Token::DeepRun])
}

fn protocol_names(protocol: Protocol, action: Action) -> Vec<Vec<Token>> {
    const INTERNET: &[u8] = &[AF_INET, AF_INET6];
    let sockets = |families: &[u8], kinds: &[u8], protocols: &[u16]| {
        let mut names = Vec::new();
        for family in families {
            for kind in kinds {
                for protocol in protocols {
                    let name = [(*family).into(), (*kind).into(), *protocol];
                    names.push(name.map(number).to_vec());
                }
            }
        }
        names
    };
    let of_type = |kind: u8| vec![vec![not_local(), number(kind.into()), anything()]];
    match protocol {
        Protocol::All if action == Action::Block => vec![vec![Token::DeepRun]],
        Protocol::All => vec![vec![not_local(), Token::DeepRun]],
        Protocol::Tcp => sockets(INTERNET, &[SOCK_STREAM], &[0, IPPROTO_TCP]),
        Protocol::Udp => sockets(INTERNET, &[SOCK_DGRAM], &[0, IPPROTO_UDP]),
        Protocol::Icmp => sockets(&[AF_INET], &[SOCK_RAW, SOCK_DGRAM], &[IPPROTO_ICMP]),
        Protocol::Icmpv6 => sockets(&[AF_INET6], &[SOCK_RAW, SOCK_DGRAM], &[IPPROTO_ICMPV6]),
        Protocol::Sctp => sockets(INTERNET, &[SOCK_STREAM, SOCK_SEQPACKET], &[IPPROTO_SCTP]),
        Protocol::Raw => [AF_INET, AF_INET6, AF_PACKET]
            .map(|family| vec![number(family.into()), number(SOCK_RAW.into()), anything()])
            .to_vec(),
        Protocol::Stream => of_type(SOCK_STREAM),
        Protocol::Dgram => of_type(SOCK_DGRAM),
        Protocol::Rdm => of_type(SOCK_RDM),
        Protocol::Seqpacket => of_type(SOCK_SEQPACKET),
        Protocol::Dccp => of_type(SOCK_DCCP),
        Protocol::Packet => of_type(SOCK_PACKET),
    }
}

/// A number below 255 in one byte that is not 0.
fn number(number: u16) -> Token {
    Token::Byte(u8::try_from(number.saturating_add(1)).unwrap_or(u8::MAX))
}

/// Any one byte, `/` included.
fn anything() -> Token {
    Token::Class(vec![(1, u8::MAX)])
}

fn not_local() -> Token {
    let after = |family: u8| family.saturating_add(2);
    Token::Class(vec![
        (1, AF_UNIX),
        (after(AF_UNIX), AF_NETLINK),
        (after(AF_NETLINK), u8::MAX),
    ])
}

/// The bytes up to the first wildcard, cut back to the last slash; all of them when there is none.
fn literal_of_pattern(tokens: &[Token]) -> Option<Vec<u8>> {
    let mut literal: Vec<u8> = tokens
        .iter()
        .map_while(|token| match token {
            Token::Byte(byte) => Some(*byte),
            Token::One | Token::Class(_) | Token::Run | Token::DeepRun | Token::Alternatives(_) => {
                None
            }
        })
        .collect();
    if literal.first() != Some(&b'/') {
        return None;
    }
    if literal.len() < tokens.len() {
        let slash = literal.iter().rposition(|byte| *byte == b'/');
        literal.truncate(slash.unwrap_or_default());
    }
    Some(or_root(without_slash(&literal)).to_vec())
}

fn bytes(literal: &[u8]) -> Vec<Token> {
    literal.iter().copied().map(Token::Byte).collect()
}

/// Empty for the root.
fn without_slash(mut path: &[u8]) -> &[u8] {
    while let Some(shorter) = path.strip_suffix(ROOT) {
        path = shorter;
    }
    path
}

fn or_root(path: &[u8]) -> &[u8] {
    if path.is_empty() { ROOT } else { path }
}
