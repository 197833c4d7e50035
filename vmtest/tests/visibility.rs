// SPDX-License-Identifier: Apache-2.0
//! What workloads do is told where it is visible, with how it ended; nothing is where it is not, and
//! alerts depend on none of it.
#![cfg(test)]

mod status_of;

use gorget_vmtest::perl::{RING, perl};
use gorget_vmtest::{Actor, Agent, Container, Containerd, Done, Operation, alert_field};
use libbpf_rs::query::{LinkInfoIter, ProgInfoIter};
use serde_json::Value;
use status_of::status;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

const ALL: &str = "visibility: process,file,network,capabilities,dns\n";
/// What the agent says when its programs are attached.
const LOGGED: &str = "what is visible of workloads is logged from now on";
/// Reads its configuration again.
const RELOADED: &str = "the configuration was read again";

struct Seen {
    actor: Actor,
    container: Container,
}

impl Seen {
    /// The agent knows it when it is there.
    fn start(agent: &mut Agent, labels: &[(&str, &str)]) -> Self {
        let mut all = vec![("app", "seen")];
        all.extend(labels);
        let (container, mut actor) = Actor::in_container("seen", &all);
        assert_eq!(actor.start_subject("/actor"), Done::Passed);
        let socket = agent.socket();
        agent.wait_until("the container is known", || {
            let workloads = status(socket).workloads;
            workloads.iter().any(|workload| workload.name == "seen")
        });
        Self { actor, container }
    }

    fn does(&mut self, operation: Operation, argument: &str) -> Done {
        self.actor.perform("/actor", operation, argument)
    }

    fn has_file(&self, path: &str) {
        let path = self.container.root().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "content\n").unwrap();
    }
}

/// Attached programs that tell what workloads do.
fn observing() -> usize {
    let programs = ProgInfoIter::default();
    let named = programs.filter(|program| program.name.to_string_lossy().starts_with("log_"));
    let ids: BTreeSet<_> = named.map(|program| program.id).collect();
    let links = LinkInfoIter::default();
    links.filter(|link| ids.contains(&link.prog_id)).count()
}

fn is_log(event: &Value) -> bool {
    matches!(alert_field(event, "Type"), "ContainerLog" | "HostLog")
}

/// The next log with this resource and call; others are passed over.
fn log_of(agent: &mut Agent, resource: &str, data: &str) -> Value {
    loop {
        let event = agent.next_alert();
        if is_log(&event)
            && alert_field(&event, "Resource") == resource
            && alert_field(&event, "Data") == data
        {
            return event;
        }
    }
}

fn has(event: &Value, fields: &[(&str, &str)]) {
    for (name, value) in fields {
        assert_eq!(alert_field(event, name), *value, "{name} in {event:#}");
    }
}

fn configure(config: &str) {
    let text = format!("{config}\nselfProtection: audit\nlogPath: stdout\n");
    fs::write("/tmp/gorget-test.yaml", text).unwrap();
    gorget_vmtest::reload();
}

#[test]
fn operations_are_told_with_who_did_what_and_how_it_ended() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start(ALL);
    let mut seen = Seen::start(&mut agent, &[]);
    agent.wait_for(LOGGED);
    seen.has_file("/data/file");
    assert_eq!(
        seen.does(Operation::Call, "openat at /data/../data/file 0"),
        Done::Passed
    );
    let log = log_of(&mut agent, "/data/file", "syscall=SYS_OPENAT");
    has(
        &log,
        &[
            ("Operation", "File"),
            ("Type", "ContainerLog"),
            ("Result", "Passed"),
            ("Source", "/actor obey"),
            ("ProcessName", "/actor"),
            ("ParentProcessName", "/actor"),
            ("ContainerName", "seen"),
            ("Cwd", "/"),
        ],
    );
    for name in ["HostPID", "PID", "PPID", "HostPPID"] {
        let pid = log.get(name).and_then(Value::as_u64);
        assert!(pid.is_some_and(|pid| pid > 0), "{name} in {log:#}");
    }

    // What fails is told with why, and what is not there as it was written.
    drop(seen.does(Operation::Call, "rmdir /data"));
    let log = log_of(&mut agent, "/data", "syscall=SYS_RMDIR");
    has(&log, &[("Result", "Directory not empty")]);
    drop(seen.does(Operation::Call, "unlink /data/none"));
    let log = log_of(&mut agent, "/data/none", "syscall=SYS_UNLINK");
    has(&log, &[("Result", "No such file or directory")]);
    for (call, resource, name) in [
        ("mkdir /data/dir 448", "/data/dir", "MKDIR"),
        ("rename /data/file /data/moved", "/data/file", "RENAME"),
        ("link /data/moved /data/hard", "/data/moved", "LINK"),
        ("symlink anywhere /data/soft", "/data/soft", "SYMLINK"),
        ("chmod /data/hard 384", "/data/hard", "CHMOD"),
        ("chown /data/hard 1 1", "/data/hard", "CHOWN"),
        ("truncate /data/hard 1", "/data/hard", "TRUNCATE"),
        ("unlink /data/hard", "/data/hard", "UNLINK"),
        ("mknod /data/fifo 4480 0", "/data/fifo", "MKNOD"),
        ("creat /data/new 384", "/data/new", "CREAT"),
    ] {
        assert_eq!(seen.does(Operation::Call, call), Done::Passed, "{call}");
        let log = log_of(&mut agent, resource, &format!("syscall=SYS_{name}"));
        has(&log, &[("Result", "Passed"), ("Operation", "File")]);
    }
    assert_eq!(
        seen.does(Operation::Call32, "rmdir /data/dir"),
        Done::Passed
    );
    log_of(&mut agent, "/data/dir", "syscall=SYS_RMDIR");
}

#[test]
fn programs_are_told_with_their_arguments_and_how_they_ended() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("visibility: process\n");
    let mut seen = Seen::start(&mut agent, &[]);
    agent.wait_for(LOGGED);
    assert_eq!(
        seen.does(Operation::ExecWith, "/actor one two"),
        Done::Passed
    );
    let log = log_of(&mut agent, "/actor one two", "syscall=SYS_EXECVE");
    has(
        &log,
        &[
            ("Operation", "Process"),
            ("ProcessName", "/actor"),
            ("ParentProcessName", "/actor"),
            ("Source", "/actor"),
            ("Result", "Passed"),
        ],
    );
    let pid = log.get("HostPID").cloned();
    let log = log_of(&mut agent, "/actor", "event=EXIT code=0");
    assert_eq!(log.get("HostPID").cloned(), pid, "{log:#}");
    has(
        &log,
        &[("Source", "/actor one two"), ("Operation", "Process")],
    );

    // Nothing else is visible, not even failing.
    drop(seen.does(Operation::Exec, "/none"));
    let log = log_of(&mut agent, "/none", "syscall=SYS_EXECVE");
    has(
        &log,
        &[
            ("Result", "No such file or directory"),
            ("Source", "/actor"),
        ],
    );
}

#[test]
fn sockets_capabilities_and_names_are_told() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start(ALL);
    let mut seen = Seen::start(&mut agent, &[]);
    agent.wait_for(LOGGED);
    assert_eq!(seen.does(Operation::Socket, "2 1 6"), Done::Passed);
    let socket = "domain=AF_INET type=SOCK_STREAM protocol=6";
    let log = log_of(&mut agent, socket, "syscall=SYS_SOCKET");
    has(&log, &[("Operation", "Network"), ("Result", "Passed")]);
    assert_eq!(seen.does(Operation::KeepSocket, "2 1 0"), Done::Passed);
    assert_eq!(seen.does(Operation::BindKept, "2 1 0"), Done::Passed);
    let log = log_of(
        &mut agent,
        "sa_family=AF_INET sin_port=0 sin_addr=127.0.0.1",
        "syscall=SYS_BIND",
    );
    has(&log, &[("Operation", "Network"), ("Result", "Passed")]);
    assert_eq!(seen.does(Operation::Capability, "chown"), Done::Passed);
    let log = log_of(&mut agent, "CAP_CHOWN", "lsm=CAPABLE CAP_CHOWN");
    has(&log, &[("Operation", "Capabilities"), ("Result", "Passed")]);
    drop(seen.does(Operation::Lookup, "Where.example.org"));
    let data = "lsm=SOCKET_SENDMSG domain=where.example.org";
    let log = log_of(&mut agent, "where.example.org", data);
    has(&log, &[("Operation", "Network")]);
}

#[test]
fn alerts_come_when_nothing_is_visible_and_nothing_is_attached_for_it() {
    let _containerd = Containerd::start();
    let policy = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
        metadata: {name: look}\nspec:\n  selector: {matchLabels: {app: seen}}\n  \
        file: {matchPaths: [{path: /data/file, action: Audit}]}\n  \
        syscalls: {matchSyscalls: [{syscall: [rmdir]}]}\n";
    let mut agent = Agent::start_with("visibility: none\n", &[("p.yaml", policy)]);
    let mut seen = Seen::start(&mut agent, &[]);
    agent.wait_for("in force for `seen`: look");
    seen.has_file("/data/file");
    assert_eq!(observing(), 0);
    // Not a word about this one.
    drop(seen.does(Operation::Read, "/data/other"));
    assert_eq!(seen.does(Operation::Read, "/data/file"), Done::Passed);
    let alert = agent.next_alert();
    has(
        &alert,
        &[
            ("Type", "MatchedPolicy"),
            ("Resource", "/data/file"),
            ("Action", "Audit"),
        ],
    );
    drop(seen.does(Operation::Call, "rmdir /data/none"));
    let alert = agent.next_alert();
    has(
        &alert,
        &[("Type", "MatchedPolicy"), ("Data", "syscall=SYS_RMDIR")],
    );
}

#[test]
fn what_is_visible_is_switched_while_the_agent_runs_and_labels_win() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("visibility: none\n");
    let mut seen = Seen::start(&mut agent, &[]);
    assert_eq!(observing(), 0);
    configure("visibility: file\n");
    agent.wait_for(LOGGED);
    agent.wait_for("visible: `file` of containers, `none` of the host");
    assert!(observing() > 10);
    drop(seen.does(Operation::Call, "rmdir /data/one"));
    log_of(&mut agent, "/data/one", "syscall=SYS_RMDIR");

    configure("visibility: files\n");
    agent.wait_for("visibility: `files` is not one of");
    drop(seen.does(Operation::Call, "rmdir /data/two"));
    log_of(&mut agent, "/data/two", "syscall=SYS_RMDIR");

    configure("visibility: none\n");
    agent.wait_for("visible: `none` of containers, `none` of the host");
    assert_eq!(observing(), 0);
    drop(seen);

    let mut seen = Seen::start(&mut agent, &[("kubearmor-visibility", "file")]);
    agent.wait_until("the label's visibility", || observing() > 10);
    drop(seen.does(Operation::Call, "rmdir /data/three"));
    log_of(&mut agent, "/data/three", "syscall=SYS_RMDIR");
    configure("visibility: none\nhostVisibility: file\n");
    agent.wait_for(RELOADED);
    agent.wait_for("visible: `none` of containers, `file` of the host");
    drop(fs::remove_dir("/no-such-directory"));
    let log = log_of(&mut agent, "/no-such-directory", "syscall=SYS_RMDIR");
    has(&log, &[("Type", "HostLog"), ("UserName", "root")]);
}

#[test]
fn what_is_done_by_requests_in_a_ring_is_told_too() {
    let mut agent = Agent::start("visibility: none\nhostVisibility: file,network\n");
    fs::create_dir_all("/tmp/ring").unwrap();
    fs::write("/tmp/ring/one", "content").unwrap();
    let mut actor = Actor::on_host();
    // In the call that hands the requests over, by a worker thread, and by a polling thread.
    for (flags, options) in [(0, 0), (0, 16), (2, 0)] {
        let requests = perl(&format!(
            r#"{RING} ring({flags}); $options = {options}; $one = "/tmp/ring/one\0"; $two = "/tmp/ring/two\0";
            submit(18, -100, 0, at($one), 0, 0); submit(35, -100, at($two), at($one), -100, 0);
            rename("/tmp/ring/two", "/tmp/ring/one"); print "done""#
        ));
        // A line is what is run.
        assert_eq!(actor.shell(&requests.replace('\n', " ")), "done");
        for data in ["lsm=FILE_OPEN by=io_uring", "lsm=FILE_RENAME by=io_uring"] {
            let log = log_of(&mut agent, "/tmp/ring/one", data);
            has(&log, &[("Operation", "File"), ("Result", "Passed")]);
            assert!(
                alert_field(&log, "ProcessName").ends_with("/perl"),
                "{log:#}"
            );
        }
    }
    let socket = perl(&format!(
        "{RING} ring(0); submit(45, 2, 1, 0, 0, 0); print \"done\""
    ));
    assert_eq!(actor.shell(&socket.replace('\n', " ")), "done");
    let data = "lsm=SOCKET_CREATE by=io_uring";
    let log = log_of(
        &mut agent,
        "domain=AF_INET type=SOCK_STREAM protocol=0",
        data,
    );
    has(&log, &[("Operation", "Network"), ("Result", "Passed")]);
}

#[test]
fn a_connection_that_a_ring_accepts_is_told_with_who_is_at_its_other_end() {
    let mut agent = Agent::start("visibility: none\nhostVisibility: network\n");
    let mut actor = Actor::on_host();
    // In the call that hands the request over, and by a worker thread.
    for options in [0, 16] {
        let accept = perl(&format!(
            r#"{RING} ring(0); $options = {options}; socket(my $s, 2, 1, 0) or bad("socket");
            bind($s, pack("SnC4x8", 2, 0, 127, 0, 0, 1)) or bad("bind"); listen($s, 1) or bad("listen");
            socket(my $c, 2, 1, 0) or bad("socket"); connect($c, getsockname($s)) or bad("connect");
            submit(13, fileno($s), 0, 0, 0, 0); print unpack("x2n", getsockname($c))"#
        ));
        let port = actor.shell(&accept.replace('\n', " "));
        let resource = format!("remoteip=127.0.0.1 port={port} protocol=TCP");
        let log = log_of(&mut agent, &resource, "lsm=SOCKET_ACCEPT by=io_uring");
        has(&log, &[("Operation", "Network"), ("Result", "Passed")]);
    }
}

#[test]
fn a_question_that_cannot_be_read_is_counted_as_lost() {
    let mut agent = Agent::start("visibility: none\nhostVisibility: dns\n");
    let mut actor = Actor::on_host();
    // A header, and a name that ends in the middle.
    let ask = perl(
        r#"socket(my $s, 2, 2, 0) or bad("socket");
        defined send($s, pack("n6Ca3", 7, 256, 1, 0, 0, 0, 9, "abc"), 0, pack("SnC4x8", 2, 53, 127, 0, 0, 1))
            or bad("send"); print "done""#,
    );
    assert_eq!(actor.shell(&ask.replace('\n', " ")), "done");
    agent.wait_for("1 new losses, stage `logs`");
    agent.ask_to_end();
    agent.wait_for("1 operations were visible: 0 logged, 0 repeated, 1 lost");
    assert!(agent.stop().success());
}

#[test]
fn repeats_are_told_by_their_number_and_none_is_missing() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("visibility: file\n");
    let mut seen = Seen::start(&mut agent, &[]);
    agent.wait_for(LOGGED);
    let (mut told, mut done) = (BTreeMap::new(), BTreeMap::new());
    for n in 0..300_u64 {
        let path = format!("/data/none-{}", n % 7);
        drop(seen.does(Operation::Call, &format!("rmdir {path}")));
        *done.entry(path).or_insert(0_u64) += 1;
    }
    let (mut events, mut skipped) = (0, 0);
    let all = |counts: &BTreeMap<String, u64>| counts.values().sum::<u64>();
    // KERNEL: where tasks are preempted, programs are skipped, which the kernel counts and the agent tells.
    while all(&done) > all(&told) + skipped {
        let event = agent.next_event();
        let said = alert_field(&event, "Message").split_once(" new losses, stage `skipped`");
        skipped += said.map_or(0, |(count, _)| count.parse::<u64>().unwrap());
        if alert_field(&event, "Resource").starts_with("/data/none-") {
            let path = alert_field(&event, "Resource").to_owned();
            let (_, repeats) = alert_field(&event, "Data")
                .split_once(" repeats=")
                .unwrap_or(("", "1"));
            *told.entry(path).or_insert(0_u64) += repeats.parse::<u64>().unwrap();
            events += 1;
        }
        for (path, count) in &told {
            assert!(count <= &done[path], "{path}: {count}");
        }
    }
    assert!(events < 300, "{events}");
    assert!(agent.stop().success());
}
