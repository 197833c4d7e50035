// SPDX-License-Identifier: Apache-2.0
//! Random policy sets and accesses over an alphabet small enough that rules collide all the time.

use gorget_engine::{Aliases, PolicySet, literal_paths};
use gorget_model::network::*;
use gorget_model::{
    Access, Capability, Category, Device, Modes, Object, Posture, Postures, Preset, Subject,
    Syscall,
};
use gorget_policy::{
    Action, DeviceMatcher, Glob, Kind, Location, Modifiers, ObjectMatcher, Policy, Rule, Selector,
    Source, Token,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::collections::BTreeSet;
use std::sync::Arc;

fn component() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "ab", "etc"])
}

fn absolute() -> impl Strategy<Value = String> {
    vec(component(), 1..4).prop_map(|parts| format!("/{}", parts.join("/")))
}

fn directory() -> impl Strategy<Value = String> {
    vec(component(), 0..3)
        .prop_map(|parts| parts.iter().fold("/".into(), |d, p| format!("{d}{p}/")))
}

fn token() -> impl Strategy<Value = Token> {
    let leaf = prop_oneof![
        3 => Just(Token::Byte(b'/')),
        3 => Just(Token::Byte(b'a')),
        2 => Just(Token::Byte(b'b')),
        1 => Just(Token::One),
        1 => Just(Token::Class(vec![(b'a', b'b')])),
        1 => Just(Token::Class(vec![(1, b'.'), (b'0', b'a'), (b'c', 255)])),
        1 => Just(Token::Class(vec![(b'-', b'/'), (b'e', b'e')])),
        2 => Just(Token::Run),
        2 => Just(Token::DeepRun),
    ];
    leaf.prop_recursive(2, 12, 3, |inner| {
        vec(vec(inner, 0..3), 1..4).prop_map(Token::Alternatives)
    })
}

fn glob() -> impl Strategy<Value = Vec<Token>> {
    let anywhere = vec(token(), 0..7);
    let rooted = (absolute(), vec(token(), 0..6)).prop_map(|(path, rest)| {
        path.into_bytes()
            .into_iter()
            .map(Token::Byte)
            .chain(rest)
            .collect()
    });
    prop_oneof![anywhere, rooted]
}

fn path_object() -> impl Strategy<Value = ObjectMatcher> {
    prop_oneof![
        4 => absolute().prop_map(ObjectMatcher::Path),
        1 => component().prop_map(|name| ObjectMatcher::ExecName(name.into())),
        4 => (directory(), any::<bool>())
            .prop_map(|(dir, recursive)| ObjectMatcher::Directory { dir, recursive }),
        3 => glob()
            .prop_map(|tokens| ObjectMatcher::Pattern(Glob { text: format!("{tokens:?}"), tokens })),
    ]
}

fn domain() -> impl Strategy<Value = String> {
    vec(component(), 1..4).prop_map(|labels| labels.join("."))
}

fn capability() -> impl Strategy<Value = Capability> {
    (0..3u8).prop_map(|number| Capability::from_number(number).unwrap())
}

fn call() -> impl Strategy<Value = Syscall> {
    select(vec!["rmdir", "unlink", "setuid"]).prop_map(|name| Syscall::from_name(name).unwrap())
}

fn part() -> impl Strategy<Value = Option<u8>> {
    select(vec![None, Some(1), Some(255)])
}

fn device_matcher() -> impl Strategy<Value = ObjectMatcher> {
    (part(), part(), part(), part()).prop_map(|(class, subclass, protocol, level)| {
        ObjectMatcher::Device(DeviceMatcher {
            class,
            subclass,
            protocol,
            level,
        })
    })
}

/// A rule's category and object.
fn object() -> impl Strategy<Value = (Category, ObjectMatcher)> {
    let of = |category| move |object| (category, object);
    let path_category = select(vec![Category::Process, Category::File]);
    prop_oneof![
        12 => (path_category, path_object()),
        2 => select(Protocol::ALL.to_vec())
            .prop_map(ObjectMatcher::Protocol)
            .prop_map(of(Category::Network)),
        2 => domain().prop_map(ObjectMatcher::Domain).prop_map(of(Category::Dns)),
        1 => capability().prop_map(ObjectMatcher::Capability).prop_map(of(Category::Capability)),
        1 => call().prop_map(ObjectMatcher::Syscall).prop_map(of(Category::Syscall)),
        1 => (call(), absolute())
            .prop_map(|(call, path)| ObjectMatcher::SyscallPath(call, path))
            .prop_map(of(Category::Syscall)),
        1 => (call(), directory(), any::<bool>())
            .prop_map(|(call, dir, recursive)| ObjectMatcher::SyscallDirectory {
                call,
                dir,
                recursive,
            })
            .prop_map(of(Category::Syscall)),
        1 => device_matcher().prop_map(of(Category::Device)),
        1 => select(Preset::ALL.to_vec())
            .prop_map(ObjectMatcher::Preset)
            .prop_map(of(Category::Preset)),
    ]
}

fn arguments() -> impl Strategy<Value = BTreeSet<String>> {
    let some = vec(select(vec!["-l", "-a", "x"]), 1..3);
    prop_oneof![
        4 => Just(BTreeSet::new()),
        1 => some.prop_map(|list| list.into_iter().map(Into::into).collect()),
    ]
}

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![
        absolute().prop_map(Source::Path),
        (directory(), any::<bool>())
            .prop_map(|(dir, recursive)| Source::Directory { dir, recursive }),
    ]
}

pub(crate) fn rule() -> impl Strategy<Value = Rule> {
    let modifier = || prop::bool::weighted(0.3);
    (
        object(),
        prop_oneof![3 => vec(source(), 0..1), 2 => vec(source(), 1..3)],
        (modifier(), modifier(), prop::bool::weighted(0.2)),
        arguments(),
        select(vec![
            Action::Allow,
            Action::Audit,
            Action::Block,
            Action::Block,
        ]),
    )
        .prop_map(
            |((category, object), sources, modifiers, allowed_arguments, action)| Rule {
                category,
                object,
                sources,
                modifiers: Modifiers {
                    read_only: modifiers.0 && category == Category::File,
                    owner_only: modifiers.1,
                    no_terminal: modifiers.2,
                },
                allowed_arguments: if category == Category::Process {
                    allowed_arguments
                } else {
                    BTreeSet::new()
                },
                action,
                severity: None,
                tags: Vec::new(),
                message: String::new(),
                at: Location {
                    file: "random.yaml".into(),
                    line: 0,
                    column: 1,
                },
                last_line: 0,
            },
        )
}

pub(crate) fn policies() -> impl Strategy<Value = Vec<Arc<Policy>>> {
    vec(vec(rule(), 1..6), 1..4).prop_map(|policies| {
        let names = ["q", "p", "r"].iter().zip([Some("z"), None, Some("z-")]);
        names
            .zip(policies)
            .map(|((name, namespace), mut rules)| {
                for (line, rule) in (1..).zip(&mut rules) {
                    rule.at.line = line;
                }
                Arc::new(Policy {
                    kind: Kind::Container,
                    namespace: namespace.map(Into::into),
                    name: (*name).into(),
                    selector: Selector::default(),
                    rules,
                    native_apparmor: String::new(),
                })
            })
            .collect()
    })
}

pub(crate) fn postures() -> impl Strategy<Value = Postures> {
    let posture = || select(vec![Posture::Allow, Posture::Audit, Posture::Block]);
    (posture(), posture(), posture(), posture()).prop_map(
        |(file, network, capabilities, device)| Postures {
            file,
            network,
            capabilities,
            device,
        },
    )
}

pub(crate) fn sets() -> impl Strategy<Value = PolicySet> {
    let links = vec((any::<Index>(), absolute()), 0..3);
    (policies(), postures(), links, vec(domain(), 0..2)).prop_map(
        |(policies, postures, links, search_domains)| {
            let literals: Vec<_> = literal_paths(&policies).into_iter().collect();
            let aliases = links
                .into_iter()
                .filter(|_| !literals.is_empty())
                .map(|(link, target)| (link.get(&literals).clone(), target.into_bytes()))
                .collect();
            PolicySet {
                policies,
                postures,
                aliases: Aliases(aliases),
                search_domains,
            }
        },
    )
}

fn path_accessed() -> impl Strategy<Value = Object> {
    prop_oneof![
        1 => Just(Object::Nameless),
        1 => Just(Object::Path(b"/".to_vec())),
        20 => absolute().prop_map(|path| Object::Path(path.into_bytes())),
    ]
}

fn socket() -> impl Strategy<Value = Object> {
    let family = select(vec![AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, 40]);
    let protocol = select(vec![0, 1, 6, 17, 58, 132, 255, IPPROTO_MPTCP, 0x0300]);
    (family, select(vec![1, 2, 3, 4, 5, 6, 10]), protocol).prop_map(|(family, kind, protocol)| {
        Object::Socket(Socket {
            family,
            kind,
            protocol,
        })
    })
}

fn accessed() -> impl Strategy<Value = (Category, Object)> {
    let of = |category| move |object| (category, object);
    let path_category = select(vec![Category::Process, Category::File]);
    let syscall = (call(), prop::option::of(absolute())).prop_map(|(call, path)| Object::Syscall {
        call,
        path: path.map(String::into_bytes),
    });
    let byte = || select(vec![1_u8, 2, 255]);
    let device = (byte(), byte(), byte(), byte()).prop_map(|(class, subclass, protocol, level)| {
        Object::Device(Device {
            class,
            subclass,
            protocol,
            level,
        })
    });
    prop_oneof![
        12 => (path_category, path_accessed()),
        2 => socket().prop_map(of(Category::Network)),
        2 => domain()
            .prop_map(|name| Object::Domain(name.to_uppercase().into_bytes()))
            .prop_map(of(Category::Dns)),
        1 => capability().prop_map(Object::Capability).prop_map(of(Category::Capability)),
        2 => syscall.prop_map(of(Category::Syscall)),
        1 => device.prop_map(of(Category::Device)),
        1 => select(Preset::ALL.to_vec())
            .prop_map(Object::Preset)
            .prop_map(of(Category::Preset)),
    ]
}

pub(crate) fn accesses() -> impl Strategy<Value = Access> {
    let image = prop_oneof![
        1 => Just(Subject::Runtime),
        8 => absolute().prop_map(|path| Subject::Image(path.into_bytes())),
    ];
    let given = vec(select(vec![&b"-l"[..], b"-a", b"x", b"y"]), 0..3);
    (accessed(), image, any::<[bool; 5]>(), given).prop_map(
        |((category, object), subject, [read, write, owner, tree, terminal], given)| {
            let file = category == Category::File;
            let process = category == Category::Process;
            Access {
                category,
                subject,
                object,
                modes: Modes {
                    read: read && file,
                    write: write && file,
                    owner,
                    tree: tree && file,
                    terminal,
                },
                arguments: given
                    .into_iter()
                    .filter(|_| process)
                    .map(<[u8]>::to_vec)
                    .collect(),
            }
        },
    )
}
