// SPDX-License-Identifier: Apache-2.0
//! System calls that rules are about: observed by name and by what the kernel found their paths to be,
//! and told with how they ended.
#![cfg(test)]

use gorget_vmtest::{Actor, Agent, Container, Containerd, Done, Operation, alert_field, uninstall};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::symlink;

/// KubeArmor's example for a call with a path, but for its selector: containers have names here.
const HOME_RMDIR: &str = "apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata:
  name: audit-home-rmdir
  namespace: default
spec:
  selector:
    matchLabels:
      container: ubuntu-1
  syscalls:
    matchPaths:
    - syscall:
      - rmdir
      path: /home/
      recursive: true
  severity: 1
";

const LABELS: [(&str, &str); 1] = [("container", "ubuntu-1")];

struct Caller {
    actor: Actor,
    container: Container,
}

impl Caller {
    fn start() -> Self {
        Self::with(Actor::in_container("ubuntu-1", &LABELS))
    }

    /// It may mount.
    fn start_privileged() -> Self {
        Self::with(Actor::in_privileged_container("ubuntu-1", &LABELS, &[]))
    }

    fn with((container, mut actor): (Container, Actor)) -> Self {
        assert_eq!(actor.start_subject("/actor"), Done::Passed);
        Self { actor, container }
    }

    fn calls(&mut self, call: &str) -> Done {
        self.actor.perform("/actor", Operation::Call, call)
    }

    fn has_dir(&self, path: &str) {
        fs::create_dir_all(self.container.root().join(path.trim_start_matches('/'))).unwrap();
    }

    fn has_file(&self, path: &str) {
        let path = self.container.root().join(path.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "content\n").unwrap();
    }
}

fn policy(syscalls: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
         metadata: {{name: calls, namespace: default}}\nspec:\n  \
         selector: {{matchLabels: {{container: ubuntu-1}}}}\n  syscalls:\n{syscalls}"
    )
}

fn put_in_force(agent: &mut Agent, syscalls: &str) {
    agent.write_policy("p.yaml", &policy(syscalls));
    agent.wait_for("in force for `ubuntu-1`: calls");
}

fn field<'a>(alert: &'a Value, name: &str) -> &'a str {
    alert_field(alert, name)
}

fn is_observing() -> bool {
    let programs = fs::read_dir("/sys/fs/bpf/gorget").unwrap().next();
    programs.unwrap().unwrap().path().join("calls").exists()
}

#[test]
fn removing_a_directory_in_home_gives_the_alert_of_the_example() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("");
    assert!(!is_observing());
    let mut caller = Caller::start();
    caller.has_dir("/home/jane/doe");
    caller.has_dir("/srv/jane");
    agent.write_policy("p.yaml", HOME_RMDIR);
    agent.wait_for("in force for `ubuntu-1`: audit-home-rmdir");
    assert!(is_observing());

    assert_eq!(caller.calls("rmdir /srv/jane"), Done::Passed);
    assert_eq!(caller.calls("rmdir /home/jane/doe"), Done::Passed);
    let alert = agent.next_alert();
    for (name, value) in [
        ("Operation", "Syscall"),
        ("Data", "syscall=SYS_RMDIR"),
        ("Resource", "/home/jane/doe"),
        ("Source", "/actor obey"),
        ("ProcessName", "/actor"),
        ("ParentProcessName", "/actor"),
        ("PolicyName", "audit-home-rmdir"),
        ("Severity", "1"),
        ("Action", "Audit"),
        ("Result", "Passed"),
        ("Type", "MatchedPolicy"),
        ("ContainerName", "ubuntu-1"),
        ("NamespaceName", "container_namespace"),
        ("Labels", "container=ubuntu-1"),
        ("Enforcer", "eBPF Monitor"),
        ("Cwd", "/"),
    ] {
        assert_eq!(field(&alert, name), value, "{name} in {alert:#}");
    }
    let data = alert.get("EventData").and_then(|data| data.get("Syscall"));
    assert_eq!(data.and_then(Value::as_str), Some("SYS_RMDIR"), "{alert:#}");
    for name in ["HostPID", "PPID", "PID", "HostPPID"] {
        assert!(
            alert
                .get(name)
                .and_then(Value::as_u64)
                .is_some_and(|pid| pid > 0),
            "{alert:#}"
        );
    }

    // One that fails is told with why; one that finds nothing is about nothing.
    caller.has_dir("/home/jane/full/of");
    let gone = caller.calls("rmdir /home/nobody");
    assert!(
        matches!(&gone, Done::Failed(why) if why.contains("No such file")),
        "{gone:?}"
    );
    let full = caller.calls("rmdir /home/jane/full");
    assert!(
        matches!(&full, Done::Failed(why) if why.contains("not empty")),
        "{full:?}"
    );
    let alert = agent.next_alert();
    assert_eq!(field(&alert, "Resource"), "/home/jane/full");
    assert_eq!(field(&alert, "Result"), "Directory not empty");

    agent.remove_policy("p.yaml");
    agent.wait_for("no policy is in force for `ubuntu-1`");
    agent.wait_until("nothing is observed any more", || !is_observing());
}

/// Calls with paths, and the path that the kernel finds: `/d` is a link to `/data`, and the working
/// directory is the root directory.
const WITH_PATHS: [(&str, &str); 42] = [
    ("open /d/file 0", "/data/file"),
    ("openat at d/file 0", "/data/file"),
    ("openat dir:/d ../data/file 0", "/data/file"),
    ("creat /data/new-1 384", "/data/new-1"),
    ("stat /d/file room", "/data/file"),
    ("lstat /data/link room", "/data/link"),
    ("newfstatat dir:/data file room 0", "/data/file"),
    ("statx at /d/file 0 2047 room", "/data/file"),
    ("access /d/file 4", "/data/file"),
    ("faccessat dir:/data file 4", "/data/file"),
    ("chdir /d", "/data"),
    ("chdir /", "/"),
    ("readlink /data/link room 100", "/data/link"),
    ("readlinkat dir:/d link room 100", "/data/link"),
    ("statfs /d/file room", "/data/file"),
    ("chmod /d/file 420", "/data/file"),
    ("fchmodat dir:/d file 420", "/data/file"),
    ("chown /d/file 0 0", "/data/file"),
    ("lchown /data/link 0 0", "/data/link"),
    ("fchownat dir:/d file 0 0 0", "/data/file"),
    ("truncate /d/file 3", "/data/file"),
    ("utimensat dir:/d file 0 0", "/data/file"),
    ("utime /d/file 0", "/data/file"),
    ("setxattr /d/file user.a b 1 0", "/data/file"),
    ("getxattr /d/file user.a room 100", "/data/file"),
    ("listxattr /d/file room 100", "/data/file"),
    ("removexattr /d/file user.a", "/data/file"),
    ("mkdir /d/dir 448", "/data/dir"),
    ("mkdirat dir:/d dir-2 448", "/data/dir-2"),
    ("mknod /d/fifo 4480 0", "/data/fifo"),
    ("mknodat dir:/d fifo-2 4480 0", "/data/fifo-2"),
    ("symlink anywhere /d/soft", "/data/soft"),
    ("symlinkat anywhere dir:/d soft-2", "/data/soft-2"),
    ("link /other/file /d/hard", "/data/hard"),
    ("linkat dir:/d hard at /other/hard 0", "/data/hard"),
    ("rename /d/hard /other/moved", "/data/hard"),
    ("renameat at /other/moved dir:/d back", "/data/back"),
    ("renameat2 dir:/d back at /other/back 0", "/data/back"),
    ("unlink /d/soft", "/data/soft"),
    ("unlinkat dir:/d dir 512", "/data/dir"),
    ("rmdir d/dir-2", "/data/dir-2"),
    ("execve /d/none-of-these 0 0", ""),
];

#[test]
fn paths_are_what_the_kernel_found_however_a_call_names_them() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("");
    let mut caller = Caller::start();
    for file in ["/data/file", "/other/file"] {
        caller.has_file(file);
    }
    symlink("data", caller.container.root().join("d")).unwrap();
    symlink("file", caller.container.root().join("data/link")).unwrap();
    let names: Vec<_> = WITH_PATHS
        .iter()
        .filter_map(|(call, _)| call.split(' ').next())
        .collect();
    put_in_force(
        &mut agent,
        &format!(
            "    matchPaths:\n    - {{path: /data/, recursive: true, syscall: [{}]}}\n    \
             - {{path: /barrier, syscall: [rmdir]}}\n",
            names.join(", ")
        ),
    );
    caller.has_dir("/barrier");
    for (call, path) in WITH_PATHS {
        let done = caller.calls(call);
        // Its alert comes after that of the call.
        assert_eq!(caller.calls("rmdir /barrier"), Done::Passed);
        caller.has_dir("/barrier");
        let name = call.split(' ').next().unwrap().to_ascii_uppercase();
        let mut about = Vec::new();
        loop {
            let alert = agent.next_alert();
            if field(&alert, "Resource") == "/barrier" {
                break;
            }
            // The actor opens directories for some.
            let told = field(&alert, "Data").split(' ').next();
            if told == Some(&format!("syscall=SYS_{name}")) {
                about.push(alert);
            }
        }
        let expected = if path.starts_with("/data") {
            vec![path]
        } else {
            Vec::new()
        };
        let resources: Vec<_> = about.iter().map(|alert| field(alert, "Resource")).collect();
        // The directory of a descriptor was opened by the same call.
        let resources: Vec<_> = match call.contains("dir:") && name == "OPENAT" {
            true => resources
                .into_iter()
                .filter(|path| *path != "/data")
                .collect(),
            false => resources,
        };
        assert_eq!(resources, expected, "{call}: {done:?}");
        for alert in about {
            assert_eq!(field(&alert, "Result"), "Passed", "{call}: {alert:#}");
        }
    }
}

/// Calls with two paths, and what is told of them: about which of the two, and both.
const WITH_TWO_PATHS: [(&str, &[(&str, &str)]); 12] = [
    (
        "rename /f/one /aside/one",
        &[("/first/one", "oldpath=/first/one newpath=/aside/one")],
    ),
    (
        "rename /aside/one f/one",
        &[("/first/one", "oldpath=/aside/one newpath=/first/one")],
    ),
    (
        "renameat dir:/f one at /aside/one",
        &[("/first/one", "oldpath=/first/one newpath=/aside/one")],
    ),
    (
        "renameat2 dir:/aside one dir:/f one 0",
        &[("/first/one", "oldpath=/aside/one newpath=/first/one")],
    ),
    (
        "link /f/one /aside/hard",
        &[("/first/one", "oldpath=/first/one newpath=/aside/hard")],
    ),
    (
        "linkat dir:/aside hard dir:/f hard 0",
        &[("/first/hard", "oldpath=/aside/hard newpath=/first/hard")],
    ),
    ("rename /aside/hard /aside/soft", &[]),
    // One rule is told once; two are told both.
    (
        "rename /first/hard /first/again",
        &[("/first/hard", "oldpath=/first/hard newpath=/first/again")],
    ),
    (
        "rename /first/again /second/again",
        &[
            ("/first/again", "oldpath=/first/again newpath=/second/again"),
            (
                "/second/again",
                "oldpath=/first/again newpath=/second/again",
            ),
        ],
    ),
    (
        "mount /first/dir /aside/dir none 4096 0",
        &[("/first/dir", "source=/first/dir target=/aside/dir")],
    ),
    (
        "move_mount at /aside/dir at /second/dir 0",
        &[("/second/dir", "from=/aside/dir to=/second/dir")],
    ),
    (
        "pivot_root /aside /first/dir",
        &[("/first/dir", "new_root=/aside put_old=/first/dir")],
    ),
];

#[test]
fn of_a_call_with_two_paths_a_rule_may_be_about_either_and_both_are_told() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("");
    let mut caller = Caller::start_privileged();
    caller.has_file("/first/one");
    for dir in ["/first/dir", "/aside/dir", "/second/dir", "/barrier"] {
        caller.has_dir(dir);
    }
    symlink("first", caller.container.root().join("f")).unwrap();
    let names: Vec<_> = WITH_TWO_PATHS
        .iter()
        .filter_map(|(call, _)| call.split(' ').next())
        .collect();
    let names = names.join(", ");
    put_in_force(
        &mut agent,
        &format!(
            "    matchPaths:\n    - {{path: /first/, recursive: true, syscall: [{names}]}}\n    \
             - {{path: /second/, recursive: true, syscall: [{names}]}}\n    \
             - {{path: /barrier, syscall: [rmdir]}}\n"
        ),
    );
    for (call, expected) in WITH_TWO_PATHS {
        let done = caller.calls(call);
        // Its alert comes after those of the call.
        assert_eq!(caller.calls("rmdir /barrier"), Done::Passed);
        caller.has_dir("/barrier");
        let mut told = Vec::new();
        loop {
            let alert = agent.next_alert();
            let resource = field(&alert, "Resource").to_owned();
            if resource == "/barrier" {
                break;
            }
            told.push((resource, field(&alert, "Data").to_owned()));
        }
        let name = call.split(' ').next().unwrap().to_ascii_uppercase();
        let expected: Vec<_> = expected
            .iter()
            .map(|(path, both)| ((*path).to_owned(), format!("syscall=SYS_{name} {both}")))
            .collect();
        assert_eq!(told, expected, "{call}: {done:?}");
    }
}

#[test]
fn calls_are_told_by_name_with_their_error_whatever_kind_of_program_makes_them() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("");
    let mut caller = Caller::start();
    put_in_force(
        &mut agent,
        "    matchSyscalls:\n    - syscall: [setgid, close, rmdir, socket]\n    \
         - {syscall: [setuid], fromSource: [{path: /bin/other}]}\n",
    );
    let mut expect = |caller: &mut Caller, operation, call: &str, data: &str, result: &str| {
        drop(caller.actor.perform("/actor", operation, call));
        let alert = agent.next_alert();
        let told = (field(&alert, "Data"), field(&alert, "Result"));
        assert_eq!(told, (data, result), "{call}: {alert:#}");
        alert
    };
    // By the source, it is somebody else's.
    drop(caller.calls("setuid 0"));
    expect(
        &mut caller,
        Operation::Call,
        "setgid 0",
        "syscall=SYS_SETGID",
        "Passed",
    );
    let close = "syscall=SYS_CLOSE";
    expect(
        &mut caller,
        Operation::Call,
        "close 999",
        close,
        "Bad file descriptor",
    );
    caller.has_dir("/a");
    let alert = expect(
        &mut caller,
        Operation::Call,
        "rmdir /a",
        "syscall=SYS_RMDIR",
        "Passed",
    );
    assert_eq!(field(&alert, "Resource"), "/a");
    caller.has_dir("/a");
    let alert = expect(
        &mut caller,
        Operation::Call32,
        "rmdir /a",
        "syscall=SYS_RMDIR",
        "Passed",
    );
    assert_eq!(field(&alert, "Resource"), "/a");
    let socket = "syscall=SYS_SOCKET";
    expect(
        &mut caller,
        Operation::Socketcall,
        "1 2 1 0",
        socket,
        "Passed",
    );

    // What does not return is told when it begins.
    put_in_force(&mut agent, "    matchSyscalls: [{syscall: [exit_group]}]\n");
    let ended = caller
        .actor
        .perform("/actor", Operation::ExecWith, "/actor end");
    assert_eq!(ended, Done::Passed);
    let alert = agent.next_alert();
    let told = (field(&alert, "Data"), field(&alert, "Result"));
    assert_eq!(told, ("syscall=SYS_EXIT_GROUP", "Passed"), "{alert:#}");
}

#[test]
fn another_agent_goes_on_observing_and_the_end_of_all_ends_it() {
    let _containerd = Containerd::start();
    let agent = Agent::start("");
    let mut caller = Caller::start();
    caller.has_dir("/home/jane");
    let mut agent = agent;
    agent.write_policy("p.yaml", HOME_RMDIR);
    agent.wait_for("in force for `ubuntu-1`: audit-home-rmdir");
    agent.kill();
    // Nobody reads now; the kernel keeps it for the next.
    assert_eq!(caller.calls("rmdir /home/jane"), Done::Passed);
    let mut agent = Agent::start_again("");
    let alert = agent.alert_about("/home/jane");
    assert_eq!(field(&alert, "Data"), "syscall=SYS_RMDIR");
    assert!(is_observing());
    drop(agent);
    uninstall();
    assert!(!fs::exists("/sys/fs/bpf/gorget").unwrap());
}
