// SPDX-License-Identifier: Apache-2.0
//! Operations as text.

use gorget_engine::OperationSpec;
use gorget_model::network::{AF_INET, AF_INET6, AF_PACKET, SOCK_DGRAM, SOCK_PACKET, SOCK_STREAM};
use gorget_model::{Capability, Category, Device, Object, Preset, Protocol, Socket, Syscall};
use proptest::prelude::*;
use proptest::sample::select;

fn object(text: &str) -> Object {
    OperationSpec::parse(text).unwrap().object
}

fn socket(family: u8, kind: u8, protocol: u16) -> Object {
    Object::Socket(Socket {
        family,
        kind,
        protocol,
    })
}

#[test]
fn every_sort_of_operation_has_a_text() {
    let modes = |text: &str| {
        let operation = OperationSpec::parse(text).unwrap();
        assert_eq!(operation.category, Category::File);
        (operation.read, operation.write, operation.tree)
    };
    assert_eq!(modes("file:read:/a:b"), (true, false, false));
    assert_eq!(modes("file:write:/a"), (false, true, false));
    assert_eq!(modes("file:readwrite:/a"), (true, true, false));
    assert_eq!(modes("file:tree:/"), (false, true, true));
    assert_eq!(object("file:read:/a:b"), Object::Path(b"/a:b".to_vec()));
    assert_eq!(object("exec:/bin/sh"), Object::Path(b"/bin/sh".to_vec()));
    assert_eq!(object("exec:memfd:x"), Object::Nameless);
    assert_eq!(object("network:tcp"), socket(AF_INET, SOCK_STREAM, 6));
    assert_eq!(object("network:packet"), socket(AF_PACKET, SOCK_PACKET, 0));
    assert_eq!(
        object("network:inet6/DGRAM/icmpv6"),
        socket(AF_INET6, SOCK_DGRAM, 58)
    );
    assert_eq!(object("network:40/stream"), socket(40, SOCK_STREAM, 0));
    assert_eq!(
        object("dns:a.Example."),
        Object::Domain(b"a.Example.".to_vec())
    );
    let raw = Capability::from_name("net_raw").unwrap();
    for text in ["capability:net_raw", "capability:CAP_NET_RAW"] {
        assert_eq!(object(text), Object::Capability(raw));
    }
    let call = Syscall::from_name("unlink").unwrap();
    let path = Some(b"/etc/x".to_vec());
    assert_eq!(
        object("syscall:unlink:/etc/x"),
        Object::Syscall { call, path }
    );
    assert_eq!(
        object("syscall:unlink"),
        Object::Syscall { call, path: None }
    );
    let camera = |level| {
        Object::Device(Device {
            class: 16,
            subclass: 3,
            protocol: 0,
            level,
        })
    };
    assert_eq!(object("device:audio/video:3"), camera(1));
    assert_eq!(object("device:16:3:0:2"), camera(2));
    assert_eq!(object("preset:exec"), Object::Preset(Preset::Exec));
}

#[test]
fn every_protocol_of_the_rules_but_all_has_a_typical_socket() {
    for protocol in Protocol::ALL {
        let parsed = OperationSpec::parse(&format!("network:{protocol}"));
        assert_eq!(parsed.is_ok(), protocol != Protocol::All, "{protocol}");
    }
}

#[test]
fn errors_name_the_part_that_is_wrong() {
    for (text, message) in [
        ("read", "`read` is not an operation; write `exec:`"),
        ("rm:/x", "`rm:/x` is not an operation"),
        ("file:/etc/x", "`file:/etc/x` does not say what is done"),
        (
            "file:append:/x",
            "`file:append:/x` does not say what is done",
        ),
        ("file:read:etc", "path `etc` is not absolute"),
        ("file:read:/etc/", "path `/etc/` ends with a slash"),
        ("exec:/a//b", "path `/a//b` has two slashes in a row"),
        ("exec:/a/../b", "path `/a/../b` contains `.` or `..`"),
        ("network:all", "`all` is every socket"),
        (
            "network:smtp",
            "there is no protocol `smtp`; there are `tcp`",
        ),
        ("network:inet/tcp", "there is no socket type `tcp`"),
        ("network:64/raw", "there is no address family `64`"),
        ("network:inet/raw/x", "there is no protocol number `x`"),
        ("network:inet/raw/1/2", "`2` has no meaning"),
        ("dns:", "`` is not a domain name"),
        ("dns:*.example", "`*.example` is not a domain name"),
        ("capability:fly", "there is no capability `fly`"),
        ("syscall:fly", "there is no system call `fly`"),
        ("syscall:unlink:x", "path `x` is not absolute"),
        ("device:TOASTER", "there is no device class `TOASTER`"),
        ("device:HID:256", "there is no device subclass `256`"),
        ("device:HID:1:1:1:1", "`1` has no meaning"),
        (
            "preset:fly",
            "there is no preset `fly`; there are `anonymousMapExec`",
        ),
    ] {
        let error = OperationSpec::parse(text).unwrap_err().to_string();
        assert!(error.starts_with(message), "{text}: {error}");
        assert!(!error.ends_with('.'), "{error}");
    }
}

fn text() -> impl Strategy<Value = String> {
    let path = "(/[a-z: ]{1,4}){1,3}";
    let number = || any::<u8>();
    prop_oneof![
        (select(vec!["read", "write", "readwrite", "tree"]), path)
            .prop_map(|(mode, path)| format!("file:{mode}:{path}")),
        path.prop_map(|path| format!("exec:{path}")),
        (0..64_u8, 1..=10_u8, any::<u16>()).prop_map(|(f, k, p)| format!("network:{f}/{k}/{p}")),
        "[a-z]{1,5}(\\.[a-z]{1,5}){0,2}".prop_map(|name| format!("dns:{name}")),
        select(Capability::all().collect::<Vec<_>>()).prop_map(|c| format!("capability:{c}")),
        (
            select(Syscall::all().collect::<Vec<_>>()),
            prop::option::of(path)
        )
            .prop_map(|(call, path)| match path {
                Some(path) => format!("syscall:{call}:{path}"),
                None => format!("syscall:{call}"),
            }),
        (number(), number(), number(), number())
            .prop_map(|(c, s, p, l)| format!("device:{c}:{s}:{p}:{l}")),
        select(Preset::ALL.to_vec()).prop_map(|preset| format!("preset:{preset}")),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_displayed_parses_to_the_same(text in text()) {
        let operation = OperationSpec::parse(&text).unwrap();
        let displayed = operation.to_string();
        prop_assert_eq!(OperationSpec::parse(&displayed), Ok(operation));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in any::<String>(), sort in select(vec!["", "file:read:", "network:", "dns:", "syscall:", "device:"])) {
        let _parsed = OperationSpec::parse(&format!("{sort}{text}"));
    }
}
