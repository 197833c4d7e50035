// SPDX-License-Identifier: Apache-2.0
//! A second reading of the semantics: walks the rules one by one for every access, matches globs
//! by backtracking, and shares no code with the engine.
//!
//! Slow on purpose; every step is a sentence of the text.

use gorget_engine::PolicySet;
use gorget_model::network::*;
use gorget_model::{Access, Category, Object, Outcome, Posture, Subject};
use gorget_policy::{Action, Location, Modifiers, ObjectMatcher, Policy, Rule, Source, Token};
use std::collections::BTreeMap;

/// Outcome and reason: no rule, the posture, or the place of a rule in a policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    pub(crate) reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    NoRule,
    Rule(String, Location),
    Posture,
}

pub(crate) fn decide(set: &PolicySet, access: &Access) -> Answer {
    let modes = access.modes;
    let asked = |write| Question {
        set,
        access,
        write,
        owner: modes.owner,
    };
    match access.category {
        Category::File => {
            let writes = modes.write || modes.tree;
            let mut answers = Vec::new();
            if writes {
                let own = asked(true).answer();
                answers.push(if modes.tree {
                    asked(true).move_tree(own)
                } else {
                    own
                });
            }
            if modes.read || !writes {
                answers.push(asked(false).answer());
            }
            stricter(answers)
        }
        _ => asked(false).answer(),
    }
}

/// The first of the strictest.
fn stricter(answers: Vec<Answer>) -> Answer {
    let strictest = answers.iter().map(|a| a.outcome).max().unwrap();
    answers
        .into_iter()
        .find(|a| a.outcome == strictest)
        .unwrap()
}

struct Question<'a> {
    set: &'a PolicySet,
    access: &'a Access,
    write: bool,
    owner: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ask {
    Block,
    Audit,
    Allow,
    Posture,
}

/// How a rule names the object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Path,
    ExecName,
    Dir(usize, bool),
    Pattern,
    Listed,
    Device(u32),
}

struct Applying<'a> {
    policy: &'a Policy,
    rule: &'a Rule,
    by: By,
    ask: Ask,
}

impl Question<'_> {
    fn answer(&self) -> Answer {
        self.winner(self.applying(&self.access.object))
    }

    fn applying(&self, object: &Object) -> Vec<Applying<'_>> {
        let mut applying = Vec::new();
        for (policy, rule) in rules(self.set) {
            if rule.category != self.access.category || !self.source_matches(rule) {
                continue;
            }
            for by in self.named(rule, object) {
                if let Some(ask) = self.ask(rule) {
                    applying.push(Applying {
                        policy,
                        rule,
                        by,
                        ask,
                    });
                }
            }
        }
        applying
    }

    /// In which ways a rule names an object.
    fn named(&self, rule: &Rule, object: &Object) -> Vec<By> {
        let paths = |matcher: &ObjectMatcher, path: &[u8]| {
            let forms = forms(matcher, &self.set.aliases.0);
            forms.iter().filter_map(|form| form.matches(path)).collect()
        };
        let listed = |named: bool| if named { vec![By::Listed] } else { vec![] };
        match (&rule.object, object) {
            (ObjectMatcher::Protocol(protocol), Object::Socket(socket)) => {
                listed(protocol_names(*protocol, rule.action, *socket))
            }
            (ObjectMatcher::Domain(domain), Object::Domain(name)) => {
                if self.domain_names(domain, name) {
                    vec![By::Dir(domain.len(), true)]
                } else {
                    vec![]
                }
            }
            (ObjectMatcher::Capability(named), Object::Capability(used)) => listed(named == used),
            (ObjectMatcher::Preset(named), Object::Preset(attack)) => listed(named == attack),
            (ObjectMatcher::Syscall(named), Object::Syscall { call, .. }) => listed(named == call),
            (
                ObjectMatcher::SyscallPath(named, path),
                Object::Syscall {
                    call,
                    path: Some(given),
                },
            ) if named == call => paths(&ObjectMatcher::Path(path.clone()), given),
            (
                ObjectMatcher::SyscallDirectory {
                    call: named,
                    dir,
                    recursive,
                },
                Object::Syscall {
                    call,
                    path: Some(given),
                },
            ) if named == call => {
                let (dir, recursive) = (dir.clone(), *recursive);
                paths(&ObjectMatcher::Directory { dir, recursive }, given)
            }
            (ObjectMatcher::Device(matcher), Object::Device(device)) => {
                let parts = [
                    (matcher.class, device.class, 0),
                    (matcher.subclass, device.subclass, 10),
                    (matcher.protocol, device.protocol, 1),
                    (matcher.level, device.level, 100),
                ];
                if parts
                    .iter()
                    .all(|(wanted, is, _)| wanted.is_none_or(|w| w == *is))
                {
                    let said = parts.iter().filter(|(wanted, ..)| wanted.is_some());
                    vec![By::Device(said.map(|(.., points)| points).sum())]
                } else {
                    vec![]
                }
            }
            (matcher, Object::Path(path)) => paths(matcher, path),
            _ => vec![],
        }
    }

    fn domain_names(&self, domain: &str, name: &[u8]) -> bool {
        let mut name = String::from_utf8(name.to_vec()).unwrap().to_lowercase();
        while name.ends_with('.') {
            name.pop();
        }
        let stripped = self.set.search_domains.iter().filter_map(|search| {
            let rest = name.strip_suffix(search.as_str())?;
            rest.strip_suffix('.').map(str::to_owned)
        });
        let mut readings = [name.clone()].into_iter().chain(stripped);
        readings.any(|name| name == domain || name.ends_with(&format!(".{domain}")))
    }

    fn winner(&self, mut left: Vec<Applying<'_>>) -> Answer {
        if left.iter().any(|a| !a.rule.sources.is_empty()) {
            left.retain(|a| !a.rule.sources.is_empty());
        }
        if left.iter().any(|a| a.by == By::Path) {
            left.retain(|a| a.by == By::Path);
        } else if left.iter().any(|a| a.by == By::ExecName) {
            left.retain(|a| a.by == By::ExecName);
        } else {
            let length = |by| {
                if let By::Dir(length, _) = by {
                    length
                } else {
                    0
                }
            };
            let says = |by| {
                if let By::Device(points) = by {
                    points
                } else {
                    0
                }
            };
            let most = left.iter().map(|a| says(a.by)).max().unwrap_or(0);
            left.retain(|a| says(a.by) == most);
            let longest = left.iter().map(|a| length(a.by)).max().unwrap_or(0);
            left.retain(|a| a.by == By::Pattern || length(a.by) == longest);
            if left.iter().any(|a| a.by == By::Dir(longest, false)) {
                left.retain(|a| a.by != By::Dir(longest, true));
            }
        }
        let key = |a: &Applying<'_>| (a.ask, name(a.policy), a.rule.at.clone());
        let Some(first) = left.iter().min_by_key(|a| key(a)) else {
            let allow_list = rules(self.set)
                .any(|(_, r)| r.category == self.access.category && r.action == Action::Allow);
            let local = matches!(&self.access.object, Object::Socket(s) if is_local(*s));
            let never = [Category::Syscall, Category::Preset].contains(&self.access.category);
            let posture = allow_list && !local && !never;
            return if posture { self.posture() } else { PASS };
        };
        let outcome = match first.ask {
            Ask::Block => Outcome::Block,
            Ask::Audit => Outcome::Audit,
            Ask::Allow => Outcome::Pass,
            Ask::Posture => return self.posture(),
        };
        Answer {
            outcome,
            reason: Reason::Rule(name(first.policy), first.rule.at.clone()),
        }
    }

    fn posture(&self) -> Answer {
        let posture = self.set.postures.of(self.access.category);
        let outcome = match posture.unwrap_or(Posture::Allow) {
            Posture::Allow => Outcome::Pass,
            Posture::Audit => Outcome::Audit,
            Posture::Block => Outcome::Block,
        };
        Answer {
            outcome,
            reason: Reason::Posture,
        }
    }

    fn source_matches(&self, rule: &Rule) -> bool {
        if rule.sources.is_empty() {
            return true;
        }
        let Subject::Image(image) = &self.access.subject else {
            return false;
        };
        let aliases = &self.set.aliases.0;
        rule.sources.iter().any(|source| {
            let as_object = match source.clone() {
                Source::Path(path) => ObjectMatcher::Path(path),
                Source::Directory { dir, recursive } => ObjectMatcher::Directory { dir, recursive },
            };
            forms(&as_object, aliases)
                .iter()
                .any(|form| form.matches(image).is_some())
        })
    }

    /// The table of section 2.
    fn ask(&self, rule: &Rule) -> Option<Ask> {
        let Modifiers {
            read_only,
            owner_only,
            no_terminal,
        } = rule.modifiers;
        let listed = &rule.allowed_arguments;
        let permits = read_only || owner_only || !listed.is_empty();
        let unmodified = !permits && !no_terminal;
        let mut satisfied = true;
        if read_only && self.write {
            satisfied = false;
        }
        if owner_only && !self.owner {
            satisfied = false;
        }
        if no_terminal && self.access.modes.terminal {
            satisfied = false;
        }
        for argument in &self.access.arguments {
            if !listed.is_empty() && !listed.iter().any(|a| a.as_bytes() == argument) {
                satisfied = false;
            }
        }
        match rule.action {
            Action::Allow => Some(if satisfied { Ask::Allow } else { Ask::Posture }),
            Action::Block if unmodified || !satisfied => Some(Ask::Block),
            Action::Block => permits.then_some(Ask::Allow),
            Action::Audit if unmodified || !satisfied => Some(Ask::Audit),
            Action::Audit => None,
        }
    }

    /// Moving a directory is a write to everything below it that is protected by name.
    fn move_tree(&self, own: Answer) -> Answer {
        let Object::Path(moved) = &self.access.object else {
            return own;
        };
        let mut guarding = Vec::new();
        for (policy, rule) in rules(self.set) {
            for form in forms(&rule.object, &self.set.aliases.0) {
                let Some(literal) = form.literal() else {
                    continue;
                };
                let itself = literal == *moved;
                let below = literal.len() > moved.len()
                    && literal.starts_with(moved)
                    && (moved == b"/" || literal[moved.len()] == b'/');
                if !itself && !below {
                    continue;
                }
                match (rule.category, rule.action) {
                    (Category::File, Action::Block) if self.source_matches(rule) => {
                        let there = Question {
                            owner: itself && self.owner,
                            ..*self
                        };
                        let mut applying = there.applying(&Object::Path(literal.clone()));
                        if let Some(ask) = there.ask(rule) {
                            applying.push(Applying {
                                policy,
                                rule,
                                by: form.rank(),
                                ask,
                            });
                        }
                        guarding.push(there.winner(applying));
                    }
                    (Category::Process, Action::Block) => guarding.push(Answer {
                        outcome: Outcome::Block,
                        reason: Reason::Rule(name(policy), rule.at.clone()),
                    }),
                    (Category::Process, Action::Allow) => {
                        if below || form.rank() != By::Path {
                            guarding.push(self.posture());
                        }
                    }
                    _ => {}
                }
            }
        }
        guarding.sort_by(|a, b| a.reason.cmp(&b.reason));
        guarding.insert(0, own);
        stricter(guarding)
    }
}

const PASS: Answer = Answer {
    outcome: Outcome::Pass,
    reason: Reason::NoRule,
};

fn rules(set: &PolicySet) -> impl Iterator<Item = (&Policy, &Rule)> {
    set.policies
        .iter()
        .flat_map(|p| p.rules.iter().map(move |r| (&**p, r)))
}

fn name(policy: &Policy) -> String {
    format!(
        "{}/{}",
        policy.namespace.as_deref().unwrap_or("default"),
        policy.name
    )
}

/// The object as written, and with the link at its beginning resolved.
fn forms(object: &ObjectMatcher, aliases: &BTreeMap<Vec<u8>, Vec<u8>>) -> Vec<Form> {
    let written = match object {
        ObjectMatcher::Path(path) => Form::Path(path.clone().into()),
        ObjectMatcher::ExecName(name) => Form::ExecName(name.clone().into()),
        ObjectMatcher::Directory { dir, recursive } => Form::Dir(dir.clone().into(), *recursive),
        ObjectMatcher::Pattern(glob) => Form::Pattern(glob.tokens.clone()),
        _ => return Vec::new(),
    };
    let target = written
        .literal()
        .and_then(|literal| aliases.get(&literal))
        .cloned();
    let resolved = target.map(|target| match &written {
        Form::Path(_) => Form::Path(target),
        Form::ExecName(_) => panic!("an execname has no literal part"),
        Form::Dir(_, recursive) => Form::Dir([target, b"/".to_vec()].concat(), *recursive),
        Form::Pattern(tokens) => {
            let skipped = written.literal().unwrap().len();
            let start = target.into_iter().map(Token::Byte);
            Form::Pattern(start.chain(tokens[skipped..].iter().cloned()).collect())
        }
    });
    [written].into_iter().chain(resolved).collect()
}

fn is_local(socket: Socket) -> bool {
    [AF_UNIX, AF_NETLINK].contains(&socket.family)
}

/// Section 5.
fn protocol_names(protocol: Protocol, action: Action, socket: Socket) -> bool {
    let Socket {
        family,
        kind,
        protocol: number,
    } = socket;
    if is_local(socket) {
        return protocol == Protocol::All && action == Action::Block;
    }
    let v4 = family == AF_INET;
    let v6 = family == AF_INET6;
    let raw_or_ping = kind == SOCK_RAW || kind == SOCK_DGRAM;
    match protocol {
        Protocol::All => true,
        Protocol::Tcp => {
            (v4 || v6) && kind == SOCK_STREAM && [0, 6, IPPROTO_MPTCP].contains(&number)
        }
        Protocol::Udp => (v4 || v6) && kind == SOCK_DGRAM && [0, 17].contains(&number),
        Protocol::Icmp => v4 && raw_or_ping && number == 1,
        Protocol::Icmpv6 => v6 && raw_or_ping && number == 58,
        Protocol::Sctp => {
            (v4 || v6) && (kind == SOCK_STREAM || kind == SOCK_SEQPACKET) && number == 132
        }
        Protocol::Raw => (v4 || v6 || family == AF_PACKET) && kind == SOCK_RAW,
        Protocol::Stream => kind == SOCK_STREAM,
        Protocol::Dgram => kind == SOCK_DGRAM,
        Protocol::Rdm => kind == SOCK_RDM,
        Protocol::Seqpacket => kind == SOCK_SEQPACKET,
        Protocol::Dccp => kind == SOCK_DCCP,
        Protocol::Packet => kind == SOCK_PACKET,
    }
}

enum Form {
    Path(Vec<u8>),
    ExecName(Vec<u8>),
    Dir(Vec<u8>, bool),
    Pattern(Vec<Token>),
}

impl Form {
    fn rank(&self) -> By {
        match self {
            Self::Path(_) => By::Path,
            Self::ExecName(_) => By::ExecName,
            Self::Dir(dir, recursive) => By::Dir(dir.len(), *recursive),
            Self::Pattern(_) => By::Pattern,
        }
    }

    fn matches(&self, object: &[u8]) -> Option<By> {
        let matches = match self {
            Self::Path(path) => path == object,
            Self::ExecName(name) => object.rsplit(|b| *b == b'/').next() == Some(name),
            Self::Dir(dir, recursive) => {
                let itself = &dir[..dir.len() - 1] == object;
                let inside = object.strip_prefix(&dir[..]);
                itself || inside.is_some_and(|rest| *recursive || !rest.contains(&b'/'))
            }
            Self::Pattern(tokens) => glob_matches(tokens, object),
        };
        matches.then(|| self.rank())
    }

    fn literal(&self) -> Option<Vec<u8>> {
        let without_wildcards = match self {
            Self::Path(path) => path.clone(),
            Self::ExecName(_) => return None,
            Self::Dir(dir, _) => dir[..dir.len() - 1].to_vec(),
            Self::Pattern(tokens) => {
                let byte = |t: &Token| {
                    if let Token::Byte(b) = t {
                        Some(*b)
                    } else {
                        None
                    }
                };
                let start: Vec<u8> = tokens.iter().map_while(byte).collect();
                if start.first() != Some(&b'/') {
                    return None;
                }
                let mut components: Vec<&[u8]> = start.split(|b| *b == b'/').collect();
                if start.len() < tokens.len() {
                    components.pop();
                }
                while components.len() > 1 && components.last().is_some_and(|c| c.is_empty()) {
                    components.pop();
                }
                components.join(&b'/')
            }
        };
        Some(if without_wildcards.is_empty() {
            b"/".to_vec()
        } else {
            without_wildcards
        })
    }
}

fn glob_matches(tokens: &[Token], text: &[u8]) -> bool {
    let Some((token, rest)) = tokens.split_first() else {
        return text.is_empty();
    };
    let one = |accepts: &dyn Fn(u8) -> bool| match text.split_first() {
        Some((byte, tail)) => accepts(*byte) && glob_matches(rest, tail),
        None => false,
    };
    match token {
        Token::Byte(byte) => one(&|b| b == *byte),
        Token::One => one(&|b| b != b'/'),
        Token::Class(ranges) => one(&|b| ranges.iter().any(|(low, high)| *low <= b && b <= *high)),
        Token::Run => {
            let run = text.iter().take_while(|b| **b != b'/').count();
            (0..=run).any(|n| glob_matches(rest, &text[n..]))
        }
        Token::DeepRun => (0..=text.len()).any(|n| glob_matches(rest, &text[n..])),
        Token::Alternatives(alternatives) => alternatives
            .iter()
            .any(|alternative| glob_matches(&[alternative.as_slice(), rest].concat(), text)),
    }
}
