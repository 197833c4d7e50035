// SPDX-License-Identifier: Apache-2.0
//! Reading events that were kept: KubeArmor's, in both spellings, and those that this crate writes.
//! No bytes make the reader panic.
#![cfg(test)]

mod events;

use events::{container, container_alert, host_alert, log, message};
use gorget_model::network::{AF_INET, AF_INET6, AF_UNIX, SOCK_DGRAM, SOCK_RAW, SOCK_STREAM};
use gorget_model::{
    Access, AlertAction, Capability, Category, Device, Event, Host, Object, Outcome, Preset,
    Socket, Subject, Syscall, Workload,
};
use gorget_telemetry::recorded::{Recorded, Unreadable, read};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Each as `karmor logs --json` or the log file has it, in the forms of KubeArmor 1.7; the last with the
/// address family that Gorget puts in front.
const KUBEARMOR: [&str; 21] = [
    r#"{"Operation":"Process","Type":"MatchedPolicy","PolicyName":"ksp-args","Severity":"5","Source":"/bin/bash","ParentProcessName":"/bin/bash","ProcessName":"/usr/bin/python3.6","Resource":"/usr/bin/python3.6 -m pydoc","Data":"lsm=SECURITY_BPRM_CHECK","EventData":{"Lsm":"SECURITY_BPRM_CHECK"},"Enforcer":"BPFLSM","Action":"Block","Result":"Permission denied","Cwd":"/","TTY":"pts0","ExecEvent":{"ExecID":"824416229130095","ExecutableName":"bash"},"NamespaceName":"multiubuntu","PodName":"ubuntu-1-deployment-5bd4dff469-xjrpw","ContainerName":"ubuntu-1-container","Labels":"container=ubuntu-1,group=group-1","UID":0}"#,
    r#"{"Operation":"File","PolicyName":"harden-wordpress-file-integrity-monitoring","Severity":"1","Tags":"NIST","Source":"/bin/rm /sbin/raw","ProcessName":"/bin/rm","Resource":"/sbin/raw","Data":"syscall=SYS_UNLINKAT flags=","Enforcer":"AppArmor","Action":"Block","Result":"Permission denied","ContainerName":"wordpress"}"#,
    r#"{"Type":"MatchedHostPolicy","PolicyName":"sleep-deny","HostName":"node-1","Operation":"Process","Source":"/bin/bash","ParentProcessName":"/bin/bash","ProcessName":"/usr/bin/sleep","Resource":"/usr/bin/sleep 10","Data":"syscall=SYS_EXECVE","Enforcer":"BPFLSM","Action":"Block","Result":"Permission denied"}"#,
    r#"{"Operation":"Network","Resource":"google.com","Data":"lsm=SOCKET_SENDMSG domain=google.com.multiubuntu.svc.cluster.local","ProcessName":"/usr/bin/curl","Enforcer":"BPFLSM","Action":"Block","Result":"Permission denied","ContainerName":"c"}"#,
    r#"{"PolicyName":"DefaultPosture","Type":"MatchedPolicy","Operation":"Network","ProcessName":"/usr/bin/curl","Resource":"domain=AF_INET6 type=SOCK_DGRAM protocol=0","Data":"syscall=SYS_SOCKET","Action":"Audit","Result":"Passed","ContainerName":"c"}"#,
    r#"{"Type":"SystemEvent","Operation":"AlertThreshold","Enforcer":"BPFLSM","Result":"Passed","MaxAlertsPerSec":2,"DroppingAlertsInterval":30}"#,
    r#"{"Type":"MatchedNetworkPolicy","Operation":"NetworkFirewall","Resource":"EGRESS","Enforcer":"NetworkPolicyEnforcer","Data":"SourceIP=10.42.0.233 SourcePort=0 DestinationIP=8.8.8.8 DestinationPort=0 Protocol=ICMP QuotaLevel=pod QuotaLimit=2MB","Action":"Block"}"#,
    r#"{"Operation":"File","Source":"/bin/cat /etc/hosts","ProcessName":"/bin/cat","Resource":"/etc/hosts","Data":"syscall=SYS_OPENAT fd=-100 flags=O_RDONLY|O_CLOEXEC","Type":"ContainerLog","Result":"Passed","ContainerName":"c","UID":1000}"#,
    r#"{"timestamp":1700000000,"hostName":"node-1","operation":"File","source":"/usr/bin/tee","processName":"/usr/bin/tee","resource":"notes/../x.txt","cwd":"/home/u","data":"syscall=SYS_OPENAT fd=-100 flags=O_WRONLY|O_CREAT","type":"HostLog","result":"Passed","uid":1000,"oid":1000}"#,
    r#"{"Operation":"Network","Source":"/bin/ping","ProcessName":"/bin/ping","Resource":"protocol=ICMP type=SOCK_RAW","Data":"lsm=SOCKET_CREATE protocol=ICMP type=SOCK_RAW","Action":"Block","Result":"Permission denied","ContainerName":"c"}"#,
    r#"{"Operation":"Network","ProcessName":"/usr/bin/nc","Resource":"remoteip=10.16.1.1 port=8081 protocol=TCP","Data":"kprobe=tcp_connect domain=AF_INET","Result":"Passed","ContainerName":"c"}"#,
    r#"{"Operation":"Network","ProcessName":"/usr/bin/nc","Resource":"sa_family=AF_UNIX","Data":"syscall=SYS_CONNECT fd=3","Result":"Passed","ContainerName":"c"}"#,
    r#"{"Operation":"Network","ProcessName":"/usr/bin/dig","Resource":"sa_family=AF_INET sin_port=53","Data":"kfunc=UDP_SENDMSG,domain=example.com,daddr=10.0.0.10,qtype=A","Result":"Passed","ContainerName":"c"}"#,
    r#"{"Operation":"Capabilities","ProcessName":"/bin/ping","Resource":"CAP_NET_RAW","Data":"lsm=CAPABLE CAP_NET_RAW","Action":"Audit (Block)","Result":"Passed","ContainerName":"c"}"#,
    r#"{"Operation":"Syscall","ProcessName":"/bin/rmdir","Resource":"/tmp/d","Data":"syscall=SYS_RMDIR","Result":"Passed","ContainerName":"c"}"#,
    r#"{"Operation":"Syscall","ProcessName":"/bin/su","Data":"syscall=SYS_SETUID userid=0","Result":"Passed","ContainerName":"c"}"#,
    r#"{"Operation":"Device","Resource":"USB MASS-STORAGE","Data":"Class=MASS-STORAGE SubClass=6 Protocol=80 Level=1 SysPath=/sys/x","Enforcer":"USBDeviceHandler","Action":"Block","Result":"Removed","HostName":"node-1"}"#,
    r#"{"Operation":"File","ProcessName":"/usr/bin/cat","Resource":"/proc/1/environ","Data":"lsm=FILE_OPEN","Enforcer":"PRESET-ProtectEnvPreset","Action":"Block","Result":"Permission denied","ContainerName":"c"}"#,
    r#"{"Operation":"Process","ParentProcessName":"/usr/bin/python3","ProcessName":"memfd:x","Resource":"memfd:x","Data":"lsm=SECURITY_BPRM_CHECK","Enforcer":"BPFLSM","Action":"Audit","Result":"Passed","ContainerName":"c"}"#,
    r#"{"Operation":"File","ProcessName":"/bin/mv","Resource":"/srv/a","Data":"lsm=FILE_RENAME","Enforcer":"BPFLSM","Action":"Audit","Result":"Passed","ContainerName":"c"}"#,
    r#"{"Operation":"Network","ProcessName":"/bin/ping6","Resource":"domain=AF_INET6 protocol=ICMPv6 type=SOCK_RAW","Data":"lsm=SOCKET_CREATE domain=AF_INET6 protocol=ICMPv6 type=SOCK_RAW","KubeArmorVersion":"gorget 0.1.0","Action":"Block","Result":"Permission denied","ContainerName":"c"}"#,
];

fn event(number: usize) -> Recorded {
    read(KUBEARMOR[number].as_bytes()).unwrap()
}

fn image(path: &str) -> Subject {
    Subject::Image(path.into())
}

fn path(path: &str) -> Object {
    Object::Path(path.into())
}

fn about(category: Category, subject: &str, object: Object) -> Access {
    Access {
        category,
        subject: image(subject),
        object,
        modes: gorget_model::Modes {
            owner: true,
            ..gorget_model::Modes::default()
        },
        arguments: Vec::new(),
    }
}

fn container_of(recorded: &Recorded) -> &gorget_model::Container {
    match &recorded.workload {
        Workload::Container(container) => container,
        Workload::Host(_) => panic!("not a container"),
    }
}

#[test]
fn a_program_that_is_started_has_its_starter_as_subject_and_the_command_line_as_arguments() {
    let recorded = event(0);
    let mut access = about(Category::Process, "/bin/bash", path("/usr/bin/python3.6"));
    access.arguments = vec![b"-m".to_vec(), b"pydoc".to_vec()];
    access.modes.terminal = true;
    assert_eq!(recorded.access, access);
    assert_eq!(recorded.happened, Some(Outcome::Block));
    assert_eq!(recorded.policy, "ksp-args");
    let container = container_of(&recorded);
    assert_eq!(container.name, "ubuntu-1-container");
    assert_eq!(container.namespace.as_deref(), Some("multiubuntu"));
    assert_eq!(container.labels["group"], "group-1");
    assert_eq!(container.labels.len(), 2);
}

#[test]
fn an_event_without_a_container_is_the_hosts() {
    let Workload::Host(host) = event(2).workload else {
        panic!("not the host")
    };
    assert_eq!(host.name, "node-1");
    assert_eq!(host.labels["kubernetes.io/hostname"], "node-1");
}

#[test]
fn what_is_done_to_a_file_follows_from_hook_system_call_and_flags() {
    let modes = |number: usize| {
        let recorded = event(number);
        let shown = |access: &Access| {
            let modes = access.modes;
            [
                (modes.read, 'r'),
                (modes.write, 'w'),
                (modes.tree, 't'),
                (modes.owner, 'o'),
            ]
            .iter()
            .filter_map(|(set, letter)| set.then_some(*letter))
            .collect::<String>()
        };
        let or: Vec<String> = recorded.or.iter().map(shown).collect();
        (shown(&recorded.access), or)
    };
    let or = |entries: &[&str]| entries.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(modes(1), ("wo".to_owned(), or(&["w"])));
    assert_eq!(modes(7), ("ro".to_owned(), or(&["r"])));
    assert_eq!(modes(8), ("wo".to_owned(), or(&[])));
    assert_eq!(modes(19), ("wo".to_owned(), or(&["wto", "w"])));
}

#[test]
fn a_relative_path_is_below_the_working_directory() {
    assert_eq!(event(8).access.object, path("/home/u/x.txt"));
    let line = KUBEARMOR[8].replace("/home/u", "");
    assert_eq!(read(line.as_bytes()), Err(Unreadable::RelativePath));
}

#[test]
fn sockets_are_read_in_all_forms() {
    let socket = |family, kind, protocol| {
        Object::Socket(Socket {
            family,
            kind,
            protocol,
        })
    };
    let objects = |number: usize| {
        let recorded = event(number);
        let or: Vec<Object> = recorded
            .or
            .into_iter()
            .map(|access| access.object)
            .collect();
        (recorded.access.object, or)
    };
    assert_eq!(objects(4), (socket(AF_INET6, SOCK_DGRAM, 0), vec![]));
    assert_eq!(
        objects(9),
        (
            socket(AF_INET, SOCK_RAW, 1),
            vec![socket(AF_INET6, SOCK_RAW, 1)]
        )
    );
    assert_eq!(objects(20), (socket(AF_INET6, SOCK_RAW, 58), vec![]));
    assert_eq!(objects(10), (socket(AF_INET, SOCK_STREAM, 6), vec![]));
    assert_eq!(
        objects(11),
        (
            socket(AF_UNIX, SOCK_STREAM, 0),
            vec![socket(AF_UNIX, SOCK_DGRAM, 0)]
        )
    );
}

#[test]
fn names_capabilities_system_calls_devices_and_presets_are_recognised() {
    let name = |name: &str| Object::Domain(name.into());
    let call = |name, path: Option<&str>| Object::Syscall {
        call: Syscall::from_name(name).unwrap(),
        path: path.map(Into::into),
    };
    let net_raw = Object::Capability(Capability::from_name("net_raw").unwrap());
    let storage = Device {
        class: 8,
        subclass: 6,
        protocol: 80,
        level: 1,
    };
    let expected = [
        (
            3,
            Category::Dns,
            name("google.com.multiubuntu.svc.cluster.local"),
        ),
        (12, Category::Dns, name("example.com")),
        (13, Category::Capability, net_raw),
        (14, Category::Syscall, call("rmdir", Some("/tmp/d"))),
        (15, Category::Syscall, call("setuid", None)),
        (16, Category::Device, Object::Device(storage)),
        (17, Category::Preset, Object::Preset(Preset::ProtectEnv)),
        (18, Category::Process, Object::Nameless),
    ];
    for (number, category, object) in expected {
        let access = event(number).access;
        assert_eq!((access.category, access.object), (category, object));
    }
}

#[test]
fn what_happened_is_what_policies_made_of_it() {
    assert_eq!(
        event(13).happened,
        Some(Outcome::Audit),
        "an audited workload"
    );
    assert_eq!(event(7).happened, Some(Outcome::Pass));
    let missing = KUBEARMOR[7].replace("Passed", "No such file or directory");
    assert_eq!(read(missing.as_bytes()).unwrap().happened, None);
}

#[test]
fn what_is_no_operation_is_refused_with_its_reason() {
    let cases = [
        ("", Unreadable::Json),
        ("{\"Operation\":\"File\"", Unreadable::Json),
        ("\u{1}\u{2}", Unreadable::Json),
        ("[]", Unreadable::Event),
        ("{\"Operation\":7}", Unreadable::Event),
        ("{}", Unreadable::NoOperation),
        (KUBEARMOR[5], Unreadable::AboutAgent),
        (KUBEARMOR[6], Unreadable::Packet),
        ("{\"Operation\":\"Dance\"}", Unreadable::UnknownOperation),
        ("{\"Operation\":\"File\"}", Unreadable::NoObject),
        (
            "{\"Operation\":\"File\",\"Resource\":\"/x\",\"Data\":\"syscall=SYS_CLOSE\"}",
            Unreadable::UnknownAction,
        ),
        (
            "{\"Operation\":\"Syscall\",\"Data\":\"syscall=SYS_NOTHING\"}",
            Unreadable::UnknownName,
        ),
    ];
    for (line, reason) in cases {
        assert_eq!(read(line.as_bytes()), Err(reason), "{line}");
    }
}

#[test]
fn what_this_crate_writes_it_can_read() {
    let alert = container_alert();
    let line = gorget_telemetry::line(&Event::Alert(alert.clone()));
    let recorded = read(line.as_bytes()).unwrap();
    let Workload::Container(mut expected) = container() else {
        panic!("a host");
    };
    // Policies do not select by it.
    expected.owner = None;
    assert_eq!(recorded.workload, Workload::Container(expected));
    let mut access = about(Category::File, "/usr/bin/head", path("/run/secrets/token"));
    access.modes.read = true;
    access.modes.terminal = true;
    assert_eq!(recorded.access, access);
    assert_eq!(recorded.happened, Some(Outcome::Block));

    let line = gorget_telemetry::line(&Event::Alert(host_alert()));
    let recorded = read(line.as_bytes()).unwrap();
    assert_eq!(recorded.access.subject, image("/usr/bin/bash"));
    assert_eq!(recorded.access.object, path("/usr/bin/head"));
    assert_eq!(recorded.happened, Some(Outcome::Audit));

    let host = Workload::Host(Host {
        name: "node-1".to_owned(),
        ..Host::default()
    });
    let line = gorget_telemetry::line(&Event::Log(log(host)));
    assert_eq!(read(line.as_bytes()).unwrap().happened, Some(Outcome::Pass));
    let line = gorget_telemetry::line(&Event::Message(message("hello")));
    assert_eq!(read(line.as_bytes()), Err(Unreadable::AboutAgent));
    let audited = gorget_model::Alert {
        action: AlertAction::AuditedBlock,
        result: "Passed",
        ..alert
    };
    let line = gorget_telemetry::line(&Event::Alert(audited));
    assert_eq!(
        read(line.as_bytes()).unwrap().happened,
        Some(Outcome::Audit)
    );
}

/// One change to a line: bytes replaced, words that mean something put in, pieces of other events.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let words = vec![
        "\"Operation\":\"Network\",",
        "\"Resource\":\"\",",
        "\"Data\":\"",
        "syscall=SYS_",
        "lsm=FILE_",
        "domain=",
        "type=SOCK_",
        "protocol=99999999999",
        "flags=",
        "AF_INET",
        "..",
        "/",
        "\\u0000",
        "\u{fffd}",
        "null",
        "-1",
        "{",
        "}",
        "[",
        "\"",
        ",",
        " ",
        "CAP_",
        "Class=",
        "memfd:",
        "PRESET-",
    ];
    let change = (any::<Index>(), any::<Index>(), select(words));
    (
        select(KUBEARMOR.to_vec()),
        vec(change, 1..6),
        vec((any::<Index>(), any::<u8>()), 0..3),
    )
        .prop_map(|(line, changes, bytes)| {
            let mut line = line.as_bytes().to_vec();
            for (at, length, word) in changes {
                let at = at.index(line.len());
                let end = (at + length.index(12)).min(line.len());
                line.splice(at..end, word.bytes());
            }
            for (at, byte) in bytes {
                let at = at.index(line.len());
                line[at] = byte;
            }
            line
        })
}

/// Values of the right type for the fields, so that the interpretation is reached.
fn composed() -> impl Strategy<Value = Vec<u8>> {
    let operation = select(vec![
        "Process",
        "File",
        "Network",
        "Capabilities",
        "Syscall",
        "Device",
        "File",
        "",
    ]);
    let text = prop_oneof![
        any::<String>(),
        "[a-zA-Z_/.=|, 0-9:-]{0,40}",
        "(syscall=SYS_|lsm=FILE_|domain=|type=SOCK_|protocol=|sa_family=AF_|Class=|CAP_)[A-Z0-9_]{0,9}",
    ];
    (operation, vec(text, 8), any::<(i64, i64)>()).prop_map(|(operation, texts, (uid, oid))| {
        let names = [
            "Source",
            "Resource",
            "Data",
            "ProcessName",
            "ParentProcessName",
            "Cwd",
            "Labels",
            "ContainerName",
        ];
        let mut object: serde_json::Map<String, serde_json::Value> = names
            .iter()
            .zip(texts)
            .map(|(name, text)| ((*name).to_owned(), text.into()))
            .collect();
        object.insert("Operation".to_owned(), operation.into());
        object.insert("UID".to_owned(), uid.into());
        object.insert("oid".to_owned(), oid.into());
        serde_json::to_vec(&object).unwrap()
    })
}

/// What every recorded operation promises.
fn check(line: &[u8]) {
    if let Ok(recorded) = read(line) {
        for access in recorded.or.iter().chain([&recorded.access]) {
            if let Object::Path(path) = &access.object {
                assert!(path.starts_with(b"/"));
                assert!(path.len() == 1 || !path.ends_with(b"/"));
                assert!(!path.windows(2).any(|two| two == b"//"));
            }
            let file = access.category == Category::File;
            let modes = access.modes;
            assert_eq!(modes.read || modes.write, file);
            assert!(modes.write || !modes.tree);
        }
        assert!(!recorded.or.contains(&recorded.access));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_the_reader_panic(line in vec(any::<u8>(), 0..300)) {
        check(&line);
    }

    #[test]
    fn no_change_to_an_event_makes_the_reader_panic(line in mutated()) {
        check(&line);
    }

    #[test]
    fn no_values_make_the_reader_panic(line in composed()) {
        check(&line);
    }
}
