// SPDX-License-Identifier: Apache-2.0
//! What workloads do, for people: no policy has a say here.
//!
//! The kernel tells an operation once, and then how often it was repeated. What was told is kept for
//! each of the places where repeats are counted, of which there are few, to be told again with the
//! number.

use crate::tracker::{Tracker, called, command_line, ended, exec_session, text};
use gorget_model::{
    Address, Asked, Event, KernelLog, KernelRepeats, Log, Logged, LoggedPath, Operation, Process,
    Socket, TaskInfo, Workload,
};
use std::collections::HashMap;
use std::fmt::Write as _;

/// Operations that may be repeated.
#[derive(Debug, Default)]
pub struct Repeating {
    /// By the place where they are counted: the number of what is counted there, and what was told.
    told: HashMap<u32, (u64, Log)>,
}

impl Repeating {
    /// Tells an operation.
    pub fn first(&mut self, tracker: &Tracker, event: KernelLog) -> Event {
        let repeats = event.repeats;
        let log = tracker.log(event);
        if let Some(of) = repeats {
            self.told.insert(of.slot, (of.serial, log.clone()));
        }
        Event::Log(log)
    }

    /// Tells that it was repeated. `None` when it is not known what was.
    pub fn again(&self, tracker: &Tracker, repeats: KernelRepeats) -> Option<Event> {
        let KernelRepeats { boot_ns, of, count } = repeats;
        let (serial, log) = self.told.get(&of.slot)?;
        if *serial != of.serial {
            return None;
        }
        let mut log = log.clone();
        log.unix_micros = tracker.unix_micros(boot_ns);
        let separator = if log.data.is_empty() { "" } else { " " };
        // Writing to a string does not fail.
        let _written = write!(log.data, "{separator}repeats={count}");
        Some(Event::Log(log))
    }
}

impl Tracker {
    fn log(&self, event: KernelLog) -> Log {
        let KernelLog {
            boot_ns,
            workload,
            what,
            result,
            repeats: _,
            task,
        } = event;
        let workload = self.workload_at(workload);
        let described = Described::of(&what, result, &task);
        let process = self.process_of(&what, task, &workload);
        Log {
            unix_micros: self.unix_micros(boot_ns),
            node: self.node(),
            workload,
            process,
            category: what.category(),
            source: described.source,
            resource: described.resource,
            data: described.data,
            result: ended(result),
        }
    }

    /// COMPAT: of a program that is started, KubeArmor calls the image the process, and the one that
    /// starts it the parent.
    fn process_of(&self, what: &Logged, task: TaskInfo, workload: &Workload) -> Process {
        let TaskInfo {
            host_pid,
            host_ppid,
            pid,
            ppid,
            uid,
            session,
            exe,
            parent_exe,
            cwd,
            tty,
            args: _,
            hashes,
        } = task;
        let (exe, parent_exe) = match what {
            Logged::Exec { path, .. } if exe.is_empty() => (path_text(path), text(&parent_exe)),
            Logged::Exec { path, .. } => (path_text(path), text(&exe)),
            Logged::Exit { .. }
            | Logged::File { .. }
            | Logged::Network { .. }
            | Logged::Capability(_)
            | Logged::Lookup(_) => (text(&exe), text(&parent_exe)),
        };
        Process {
            host_pid,
            host_ppid,
            pid,
            ppid,
            uid,
            user: self.user_in(uid, workload),
            exe,
            parent_exe,
            cwd: text(&cwd),
            tty: text(&tty),
            session: session.map(exec_session),
            hashes,
        }
    }
}

/// The texts of a log.
struct Described {
    source: String,
    resource: String,
    data: String,
}

impl Described {
    fn of(what: &Logged, result: i32, task: &TaskInfo) -> Self {
        let actor = || command_line(&task.args).unwrap_or_else(|| text(&task.exe));
        match what {
            Logged::Exec { call, path } => Self {
                source: match task.exe.is_empty() {
                    true => text(&task.parent_exe),
                    false => text(&task.exe),
                },
                // The arguments are the new program's once it runs.
                resource: match result {
                    0.. => with_arguments(path, &task.args),
                    _ => path_text(path),
                },
                data: called(*call),
            },
            Logged::Exit { status } => Self {
                source: actor(),
                resource: text(&task.exe),
                data: status_text(*status),
            },
            Logged::File { asked, path } => Self {
                source: actor(),
                resource: path_text(path),
                data: asked_text(*asked),
            },
            Logged::Network {
                asked,
                socket,
                address,
            } => Self {
                source: actor(),
                resource: network(*asked, *socket, address),
                data: asked_text(*asked),
            },
            Logged::Capability(capability) => Self {
                source: actor(),
                resource: capability.to_string(),
                data: format!("lsm=CAPABLE {capability}"),
            },
            Logged::Lookup(name) => Self {
                source: actor(),
                resource: text(name),
                data: format!("lsm=SOCKET_SENDMSG domain={}", text(name)),
            },
        }
    }
}

fn asked_text(asked: Asked) -> String {
    match asked {
        Asked::Call(call) => called(call),
        Asked::Ring(operation) => format!("lsm={} by=io_uring", operation.lsm_name()),
    }
}

fn path_text(path: &LoggedPath) -> String {
    match path {
        LoggedPath::Found(path) | LoggedPath::Written(path) => text(path),
        LoggedPath::Unknown => String::new(),
    }
}

/// COMPAT: the resource is the image with the arguments of the new program, without the first, which
/// can be anything.
fn with_arguments(path: &LoggedPath, args: &[u8]) -> String {
    let mut shown = path_text(path);
    let first = args.iter().position(|byte| *byte == 0);
    let rest = first.and_then(|first| args.get(first + 1..));
    if let Some(rest) = rest.and_then(command_line) {
        shown.push(' ');
        shown.push_str(&rest);
    }
    shown
}

/// As wait(2) has it: the signal is in the lowest seven bits.
fn status_text(status: u32) -> String {
    match status & 0x7f {
        0 => format!("event=EXIT code={}", status >> 8 & 0xff),
        signal => format!("event=EXIT signal={signal}"),
    }
}

/// COMPAT: KubeArmor 7.3.
fn network(asked: Asked, socket: Socket, address: &Address) -> String {
    let Socket {
        family,
        kind,
        protocol,
    } = socket;
    let (is_made, is_accepted) = match asked {
        Asked::Call(call) => (call.name() == "socket", call.name().starts_with("accept")),
        Asked::Ring(operation) => (
            operation == Operation::SocketCreate,
            operation == Operation::SocketAccept,
        ),
    };
    if is_made {
        let (family, kind) = (family_name(family.into()), kind_name(kind));
        return format!("domain={family} type={kind} protocol={protocol}");
    }
    match address {
        Address::V4(..) | Address::V6(..) if is_accepted => {
            let (ip, port, _) = parts(address);
            format!(
                "remoteip={ip} port={port} protocol={}",
                protocol_name(protocol)
            )
        }
        Address::V4(..) | Address::V6(..) => {
            let (ip, port, family) = parts(address);
            format!("sa_family={family} sin_port={port} sin_addr={ip}")
        }
        Address::Unix(path) => {
            let path = text(path).replace('\0', "@");
            format!("sa_family=AF_UNIX sun_path={path}")
        }
        Address::Other(family) => format!("sa_family={}", family_name(*family)),
        Address::None => format!("domain={}", family_name(family.into())),
    }
}

fn parts(address: &Address) -> (String, u16, &'static str) {
    match address {
        Address::V4(ip, port) => (ip.to_string(), *port, "AF_INET"),
        Address::V6(ip, port) => (ip.to_string(), *port, "AF_INET6"),
        Address::None | Address::Unix(_) | Address::Other(_) => (String::new(), 0, ""),
    }
}

fn protocol_name(protocol: u16) -> String {
    match protocol {
        6 | 262 => "TCP".to_owned(),
        17 => "UDP".to_owned(),
        132 => "SCTP".to_owned(),
        number => number.to_string(),
    }
}

fn family_name(family: u16) -> String {
    match family {
        0 => "AF_UNSPEC".to_owned(),
        1 => "AF_UNIX".to_owned(),
        2 => "AF_INET".to_owned(),
        10 => "AF_INET6".to_owned(),
        16 => "AF_NETLINK".to_owned(),
        17 => "AF_PACKET".to_owned(),
        number => number.to_string(),
    }
}

fn kind_name(kind: u8) -> String {
    match kind {
        1 => "SOCK_STREAM".to_owned(),
        2 => "SOCK_DGRAM".to_owned(),
        3 => "SOCK_RAW".to_owned(),
        4 => "SOCK_RDM".to_owned(),
        5 => "SOCK_SEQPACKET".to_owned(),
        6 => "SOCK_DCCP".to_owned(),
        10 => "SOCK_PACKET".to_owned(),
        number => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gorget_model::{Container, Host, Node, Repeats, Syscall};
    use std::sync::Arc;

    fn tracker() -> Tracker {
        let users = HashMap::from([(1000, "ann".to_owned())]);
        let mut tracker = Tracker::new(Arc::new(Node::default()), 1_000_000, users);
        tracker.workload(0, Arc::new(Workload::Host(Host::default())));
        tracker.workload(7, Arc::new(Workload::Container(Container::default())));
        tracker
    }

    fn event(what: Logged, result: i32) -> KernelLog {
        KernelLog {
            boot_ns: 5_000,
            workload: 7,
            what,
            result,
            repeats: Some(Repeats { slot: 3, serial: 9 }),
            task: TaskInfo {
                uid: 1000,
                exe: b"/bin/sh".to_vec(),
                parent_exe: b"/sbin/init".to_vec(),
                args: b"cat\0/etc/hosts\0".to_vec(),
                ..TaskInfo::default()
            },
        }
    }

    fn told(what: Logged, result: i32) -> Log {
        log(Repeating::default().first(&tracker(), event(what, result)))
    }

    fn log(event: Event) -> Log {
        match event {
            Event::Log(log) => log,
            Event::Alert(_) | Event::Message(_) | Event::Threshold(_) => panic!("not a log"),
        }
    }

    fn call(name: &str) -> Syscall {
        Syscall::from_name(name).unwrap()
    }

    fn found(path: &str) -> LoggedPath {
        LoggedPath::Found(path.into())
    }

    #[test]
    fn a_program_that_was_started_is_the_process_and_its_starter_the_parent_and_source() {
        let what = Logged::Exec {
            call: call("execve"),
            path: found("/bin/cat"),
        };
        let log = told(what.clone(), 0);
        assert_eq!(log.resource, "/bin/cat /etc/hosts");
        assert_eq!(log.process.exe, "/bin/cat");
        assert_eq!(log.process.parent_exe, "/bin/sh");
        assert_eq!((log.source.as_str(), log.result), ("/bin/sh", "Passed"));
        assert_eq!(log.data, "syscall=SYS_EXECVE");
        assert_eq!(log.unix_micros, 1_000_005);
        // One that was not has no arguments.
        let log = told(what, -13);
        assert_eq!(log.resource, "/bin/cat");
        assert_eq!(log.result, "Permission denied");
    }

    #[test]
    fn a_file_has_the_path_that_was_found_or_else_what_was_written() {
        let what = |path| Logged::File {
            asked: Asked::Call(call("openat")),
            path,
        };
        let log = told(what(found("/etc/hosts")), 0);
        assert_eq!(
            (log.resource.as_str(), log.source.as_str()),
            ("/etc/hosts", "cat /etc/hosts")
        );
        assert_eq!(
            (log.process.exe.as_str(), log.data.as_str()),
            ("/bin/sh", "syscall=SYS_OPENAT")
        );
        let log = told(what(LoggedPath::Written(b"nowhere".to_vec())), -2);
        assert_eq!(
            (log.resource.as_str(), log.result),
            ("nowhere", "No such file or directory")
        );
    }

    #[test]
    fn sockets_and_ends_of_processes_are_told_in_words() {
        let socket = Socket {
            family: 2,
            kind: 1,
            protocol: 6,
        };
        let told = |name, address| {
            let what = Logged::Network {
                asked: Asked::Call(call(name)),
                socket,
                address,
            };
            told(what, 0).resource
        };
        let address = Address::V4([10, 0, 0, 10].into(), 53);
        assert_eq!(
            told("socket", Address::None),
            "domain=AF_INET type=SOCK_STREAM protocol=6"
        );
        assert_eq!(
            told("connect", address.clone()),
            "sa_family=AF_INET sin_port=53 sin_addr=10.0.0.10"
        );
        assert_eq!(
            told("accept4", address),
            "remoteip=10.0.0.10 port=53 protocol=TCP"
        );
        assert_eq!(
            told("bind", Address::Unix(b"\0bus".to_vec())),
            "sa_family=AF_UNIX sun_path=@bus"
        );
        assert_eq!(status_text(3 << 8), "event=EXIT code=3");
        assert_eq!(status_text(0x89), "event=EXIT signal=9");
    }

    #[test]
    fn repeats_are_told_like_what_was_repeated_and_only_if_that_is_known() {
        let tracker = tracker();
        let mut repeating = Repeating::default();
        let what = Logged::Exit { status: 0 };
        repeating.first(&tracker, event(what, 0));
        let again = |slot, serial| {
            let repeats = KernelRepeats {
                boot_ns: 7_000,
                of: Repeats { slot, serial },
                count: 41,
            };
            repeating.again(&tracker, repeats)
        };
        let log = log(again(3, 9).unwrap());
        assert_eq!(log.data, "event=EXIT code=0 repeats=41");
        assert_eq!(
            (log.resource.as_str(), log.unix_micros),
            ("/bin/sh", 1_000_007)
        );
        assert_eq!(again(3, 10), None);
        assert_eq!(again(4, 9), None);
    }
}
