// SPDX-License-Identifier: Apache-2.0
//! Sections 1 to 5 for everything that is no path: sockets, names, capabilities, system calls,
//! devices and presets.

use crate::build::*;
use Outcome::Pass;
use gorget_engine::{Ruleset, compile, decide};
use gorget_model::network::*;
use gorget_model::{
    Access, Capability, Category, Device, Modes, Object, Outcome, Posture, Postures, Preset,
    Protocol, Socket, Subject, Syscall,
};
use gorget_policy::{Action, DeviceMatcher, ObjectMatcher, Rule};

const BLOCKED: Outcome = Outcome::Block;
const AUDITED: Outcome = Outcome::Audit;

fn about(rules: &Ruleset, category: Category, object: Object) -> (Outcome, i64) {
    let access = Access {
        category,
        subject: Subject::Image("/bin/x".into()),
        object,
        modes: Modes::default(),
        arguments: Vec::new(),
    };
    explain(rules, decide(rules, &access))
}

fn protocol(protocol: Protocol, action: Action) -> Rule {
    rule(Category::Network, ObjectMatcher::Protocol(protocol), action)
}

fn socket(rules: &Ruleset, family: u8, kind: u8, protocol: u16) -> (Outcome, i64) {
    let socket = Socket {
        family,
        kind,
        protocol,
    };
    about(rules, Category::Network, Object::Socket(socket))
}

#[test]
fn protocols_are_family_type_and_number() {
    let rules = ruleset(vec![
        protocol(Protocol::Tcp, Block),
        protocol(Protocol::Udp, Audit),
        protocol(Protocol::Icmp, Block),
        protocol(Protocol::Raw, Audit),
    ]);
    for family in [AF_INET, AF_INET6] {
        assert_eq!(socket(&rules, family, SOCK_STREAM, 0), (BLOCKED, 1));
        assert_eq!(
            socket(&rules, family, SOCK_STREAM, IPPROTO_TCP),
            (BLOCKED, 1)
        );
        assert_eq!(
            socket(&rules, family, SOCK_STREAM, IPPROTO_MPTCP),
            (BLOCKED, 1)
        );
        assert_eq!(socket(&rules, family, SOCK_STREAM, IPPROTO_SCTP), (Pass, 0));
        assert_eq!(socket(&rules, family, SOCK_DGRAM, 0), (AUDITED, 2));
        assert_eq!(socket(&rules, family, SOCK_RAW, 255), (AUDITED, 4));
    }
    assert_eq!(
        socket(&rules, AF_INET, SOCK_DGRAM, IPPROTO_ICMP),
        (BLOCKED, 3)
    );
    assert_eq!(
        socket(&rules, AF_INET, SOCK_RAW, IPPROTO_ICMP),
        (BLOCKED, 3)
    );
    assert_eq!(socket(&rules, AF_PACKET, SOCK_RAW, 0x0300), (AUDITED, 4));
    assert_eq!(socket(&rules, AF_PACKET, SOCK_DGRAM, 0x0300), (Pass, 0));
}

#[test]
fn local_sockets_are_named_by_blocking_all_and_by_nothing_else() {
    let local = |rules: &Ruleset| {
        let unix = socket(rules, AF_UNIX, SOCK_STREAM, 0);
        assert_eq!(socket(rules, AF_NETLINK, SOCK_RAW, 0), unix);
        unix
    };
    assert_eq!(
        local(&ruleset(vec![protocol(Protocol::All, Block)])),
        (BLOCKED, 1)
    );
    assert_eq!(
        local(&ruleset(vec![protocol(Protocol::All, Audit)])),
        (Pass, 0)
    );
    assert_eq!(
        local(&ruleset(vec![protocol(Protocol::Stream, Block)])),
        (Pass, 0)
    );
    let listed = ruleset(vec![protocol(Protocol::Tcp, Allow)]);
    assert_eq!(local(&listed), (Pass, 0));
    assert_eq!(socket(&listed, AF_INET, SOCK_DGRAM, 0), (BLOCKED, -1));
}

fn lookup(rules: &Ruleset, name: &str) -> (Outcome, i64) {
    about(rules, Category::Dns, Object::Domain(name.into()))
}

fn domain(name: &str, action: Action) -> Rule {
    rule(Category::Dns, ObjectMatcher::Domain(name.into()), action)
}

#[test]
fn a_domain_covers_what_is_below_it_in_any_case() {
    let rules = ruleset(vec![domain("google.com", Block)]);
    for name in [
        "google.com",
        "www.google.com",
        "A.B.GOOGLE.com.",
        "google.com.",
    ] {
        assert_eq!(lookup(&rules, name), (BLOCKED, 1), "{name}");
    }
    for name in [
        "notgoogle.com",
        "google.com.evil.example",
        "com",
        "oogle.com",
        "",
    ] {
        assert_eq!(lookup(&rules, name), (Pass, 0), "{name}");
    }
}

#[test]
fn the_longest_domain_wins() {
    let rules = ruleset(vec![
        domain("example.com", Block),
        domain("ok.example.com", Allow),
    ]);
    assert_eq!(lookup(&rules, "a.ok.example.com"), (Pass, 2));
    assert_eq!(lookup(&rules, "a.example.com"), (BLOCKED, 1));
    assert_eq!(lookup(&rules, "other.org"), (BLOCKED, -1));
}

#[test]
fn names_completed_by_a_search_domain_are_the_same_names() {
    let mut set = set(
        vec![policy("p", vec![domain("google.com", Block)])],
        Posture::Block,
    );
    set.search_domains = vec!["shop.svc.cluster.local".into(), "cluster.local".into()];
    let rules = compile(&set).unwrap();
    for suffix in ["", ".shop.svc.cluster.local", ".cluster.local"] {
        assert_eq!(
            lookup(&rules, &format!("www.google.com{suffix}")),
            (BLOCKED, 1)
        );
    }
    assert_eq!(
        lookup(&rules, "www.google.com.svc.cluster.local"),
        (Pass, 0)
    );
}

#[test]
fn postures_are_those_of_the_category() {
    let capability = |name| ObjectMatcher::Capability(Capability::from_name(name).unwrap());
    let mut set = set(
        vec![policy(
            "p",
            vec![
                protocol(Protocol::Tcp, Allow),
                domain("a.example", Allow),
                rule(Category::Capability, capability("chown"), Allow),
                rule(File, path("/a"), Allow),
            ],
        )],
        Posture::Allow,
    );
    set.postures = Postures {
        file: Posture::Allow,
        network: Posture::Block,
        capabilities: Posture::Audit,
        device: Posture::Block,
    };
    let rules = compile(&set).unwrap();
    let capable = |name| {
        let capability = Capability::from_name(name).unwrap();
        about(&rules, Category::Capability, Object::Capability(capability))
    };
    assert_eq!(socket(&rules, AF_INET, SOCK_DGRAM, 0), (BLOCKED, -1));
    assert_eq!(lookup(&rules, "b.example"), (BLOCKED, -1));
    assert_eq!(capable("chown"), (Pass, 3));
    assert_eq!(capable("net_raw"), (AUDITED, -1));
    assert_eq!(read(&rules, "/b"), (Pass, -1));
}

#[test]
fn a_system_call_rule_with_a_path_beats_one_without() {
    let rmdir = Syscall::from_name("rmdir").unwrap();
    let rules = ruleset(vec![
        rule(Category::Syscall, ObjectMatcher::Syscall(rmdir), Audit),
        rule(
            Category::Syscall,
            ObjectMatcher::SyscallDirectory {
                call: rmdir,
                dir: "/home/".into(),
                recursive: true,
            },
            Audit,
        ),
        rule(
            Category::Syscall,
            ObjectMatcher::SyscallPath(rmdir, "/home/x".into()),
            Audit,
        ),
    ]);
    let called = |name: &str, path: Option<&str>| {
        let call = Syscall::from_name(name).unwrap();
        let path = path.map(Into::into);
        about(&rules, Category::Syscall, Object::Syscall { call, path })
    };
    assert_eq!(called("rmdir", None), (AUDITED, 1));
    assert_eq!(called("rmdir", Some("/tmp/x")), (AUDITED, 1));
    assert_eq!(called("rmdir", Some("/home/a/b")), (AUDITED, 2));
    assert_eq!(called("rmdir", Some("/home/x")), (AUDITED, 3));
    assert_eq!(called("unlink", Some("/home/x")), (Pass, 0));
}

#[test]
fn the_device_rule_that_says_most_wins() {
    let device = |class, subclass, protocol, level| {
        ObjectMatcher::Device(DeviceMatcher {
            class,
            subclass,
            protocol,
            level,
        })
    };
    let rules = ruleset(vec![
        rule(Category::Device, device(None, None, None, None), Block),
        rule(Category::Device, device(Some(8), None, None, None), Block),
        rule(
            Category::Device,
            device(Some(8), Some(6), None, None),
            Audit,
        ),
        rule(
            Category::Device,
            device(Some(8), None, None, Some(2)),
            Allow,
        ),
    ]);
    let plugged = |class, subclass, level| {
        let device = Device {
            class,
            subclass,
            protocol: 80,
            level,
        };
        about(&rules, Category::Device, Object::Device(device))
    };
    assert_eq!(plugged(3, 1, 1), (BLOCKED, 1));
    assert_eq!(plugged(8, 6, 1), (AUDITED, 3));
    assert_eq!(plugged(8, 6, 2), (Pass, 4));
}

#[test]
fn a_class_and_any_device_weigh_the_same_so_block_wins() {
    let device = |class| {
        ObjectMatcher::Device(DeviceMatcher {
            class,
            subclass: None,
            protocol: None,
            level: None,
        })
    };
    let rules = ruleset(vec![
        rule(Category::Device, device(None), Block),
        rule(Category::Device, device(Some(3)), Allow),
    ]);
    let keyboard = Device {
        class: 3,
        subclass: 1,
        protocol: 1,
        level: 1,
    };
    assert_eq!(
        about(&rules, Category::Device, Object::Device(keyboard)),
        (BLOCKED, 1)
    );
}

#[test]
fn presets_are_decided_by_their_own_action_and_never_by_a_posture() {
    let preset = |preset, action| rule(Category::Preset, ObjectMatcher::Preset(preset), action);
    let rules = ruleset(vec![
        preset(Preset::FilelessExec, Block),
        preset(Preset::ProtectEnv, Audit),
        preset(Preset::Exec, Allow),
    ]);
    let attack = |preset| about(&rules, Category::Preset, Object::Preset(preset));
    assert_eq!(attack(Preset::FilelessExec), (BLOCKED, 1));
    assert_eq!(attack(Preset::ProtectEnv), (AUDITED, 2));
    assert_eq!(attack(Preset::Exec), (Pass, 3));
    assert_eq!(attack(Preset::ProtectProc), (Pass, 0));
}
