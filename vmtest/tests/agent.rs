// SPDX-License-Identifier: Apache-2.0
//! The agent's life: what it does when things around it break, change or were there before it.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "runs the command line tool")]

use gorget_vmtest::{Actor, Agent, Container, Containerd, Done, JOB, Operation, alert_field};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::Command;

const SECRET: &str = "/data/secret";

/// Blocks the secret in the container `app=victim`.
const BLOCK_SECRET: &str = "
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: {name: no-secrets, namespace: default}
spec:
  severity: 7
  tags: [one, two]
  message: hands off
  selector: {matchLabels: {app: victim}}
  file: {matchPaths: [{path: /data/secret}]}
";

struct Victim {
    actor: Actor,
    container: Container,
}

impl Victim {
    fn start() -> Self {
        Self::new(Actor::in_container("victim", &[("app", "victim")]))
    }

    fn new((container, mut actor): (Container, Actor)) -> Self {
        fs::write(container.root().join("data/secret"), "secret").unwrap();
        fs::write(container.root().join("data/open"), "open").unwrap();
        assert_eq!(actor.start_subject("/actor"), Done::Passed);
        Self { actor, container }
    }

    fn read(&mut self, path: &str) -> Done {
        self.actor.perform("/actor", Operation::Read, path)
    }
}

fn in_force(agent: &mut Agent) {
    agent.wait_for("in force for `victim`: no-secrets");
}

#[test]
fn an_alert_says_who_did_what_where_and_which_policy_said_so() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start_with("", &[("p.yaml", BLOCK_SECRET)]);
    let mut victim = Victim::start();
    in_force(&mut agent);
    assert_eq!(victim.read("/data/open"), Done::Passed);
    assert_eq!(victim.read(SECRET), Done::Denied);
    let alert = agent.alert_about(SECRET);
    for (field, value) in [
        ("PolicyName", "no-secrets"),
        ("Severity", "7"),
        ("Tags", "one,two"),
        ("Message", "hands off"),
        ("Type", "MatchedPolicy"),
        ("Operation", "File"),
        ("Action", "Block"),
        ("Result", "Permission denied"),
        ("Enforcer", "BPFLSM"),
        ("ProcessName", "/actor"),
        ("ParentProcessName", "/actor"),
        ("Source", "/actor obey"),
        ("Data", "lsm=FILE_OPEN"),
        ("Cwd", "/"),
        ("ContainerName", "victim"),
        ("ContainerID", "victim"),
        ("Labels", "app=victim"),
        ("NamespaceName", "container_namespace"),
    ] {
        assert_eq!(alert_field(&alert, field), value, "{field} in {alert:#}");
    }
    let host_pid = alert["HostPID"].as_i64().unwrap();
    let pid = alert["PID"].as_i64().unwrap();
    assert!(pid > 1 && pid < host_pid, "{alert:#}");
    assert_eq!(alert["PPID"].as_i64(), Some(1), "{alert:#}");
    assert_eq!(
        alert["HostPPID"].as_i64(),
        Some(i64::from(victim.container.pid())),
        "{alert:#}"
    );
}

#[test]
fn a_container_that_ran_before_the_agent_is_covered() {
    let _containerd = Containerd::start();
    let mut victim = Victim::start();
    assert_eq!(victim.read(SECRET), Done::Passed);
    let mut agent = Agent::start_with("", &[("p.yaml", BLOCK_SECRET)]);
    in_force(&mut agent);
    assert_eq!(victim.read(SECRET), Done::Denied);
    assert_eq!(victim.read("/data/open"), Done::Passed);
}

#[test]
fn what_was_opened_before_the_rules_cannot_be_read_after() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("");
    let mut victim = Victim::start();
    let keep = |victim: &mut Victim, operation| victim.actor.perform("/actor", operation, SECRET);
    assert_eq!(keep(&mut victim, Operation::Keep), Done::Passed);
    assert_eq!(keep(&mut victim, Operation::ReadKept), Done::Passed);
    agent.write_policy("p.yaml", BLOCK_SECRET);
    in_force(&mut agent);
    assert_eq!(keep(&mut victim, Operation::ReadKept), Done::Denied);
    assert_eq!(
        alert_field(&agent.alert_about(SECRET), "Data"),
        "lsm=FILE_PERMISSION"
    );
}

#[test]
fn policy_files_take_effect_when_added_changed_and_removed() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("");
    let mut victim = Victim::start();
    assert_eq!(victim.read(SECRET), Done::Passed);
    agent.write_policy("p.yaml", BLOCK_SECRET);
    in_force(&mut agent);
    assert_eq!(victim.read(SECRET), Done::Denied);

    agent.write_policy(
        "p.yaml",
        &BLOCK_SECRET.replace("/data/secret", "/data/open"),
    );
    in_force(&mut agent);
    assert_eq!(victim.read(SECRET), Done::Passed);
    assert_eq!(victim.read("/data/open"), Done::Denied);

    agent.remove_policy("p.yaml");
    agent.wait_for("no policy is in force for `victim`");
    assert_eq!(victim.read("/data/open"), Done::Passed);
}

#[test]
fn half_a_policy_file_leaves_the_whole_one_in_force() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start_with("", &[("p.yaml", BLOCK_SECRET)]);
    let mut victim = Victim::start();
    in_force(&mut agent);
    let half: String = BLOCK_SECRET.chars().take(BLOCK_SECRET.len() - 20).collect();
    agent.write_policy("p.yaml", &half);
    let line = agent.wait_for("last good version stays in force");
    assert!(line.contains("p.yaml"), "{line}");
    assert_eq!(victim.read(SECRET), Done::Denied);
    assert!(agent.is_running());

    agent.write_policy("p.yaml", &BLOCK_SECRET.replace("no-secrets", "mended"));
    agent.wait_for("in force for `victim`: mended");
    assert_eq!(victim.read(SECRET), Done::Denied);
}

#[test]
fn killing_containerd_changes_nothing_that_is_in_force() {
    let containerd = Containerd::start();
    let mut agent = Agent::start_with("", &[("p.yaml", BLOCK_SECRET)]);
    let labels = [("app", "victim")];
    let mut victim = Victim::new(Actor::in_detached_container("victim", &labels));
    in_force(&mut agent);
    containerd.kill();
    agent.wait_for("a container runtime cannot be reached");
    assert_eq!(victim.read(SECRET), Done::Denied);
    // Policies still change while the runtime is away.
    agent.write_policy("q.yaml", &BLOCK_SECRET.replace("secret", "open"));
    agent.wait_for("in force for `victim`: no-secrets, no-opens");
    assert_eq!(victim.read("/data/open"), Done::Denied);
    assert!(agent.is_running());

    // It comes back, and so does the connection: the container is known again, and still covered.
    let containerd = Containerd::start();
    agent.wait_for("connected to containerd");
    agent.wait_for("1 containers are known");
    assert_eq!(victim.read(SECRET), Done::Denied);
    drop(victim);
    drop(containerd);
}

#[test]
fn sigterm_ends_the_agent_cleanly_and_enforcement_with_it_if_so_configured() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start_with("onStop: detach\n", &[("p.yaml", BLOCK_SECRET)]);
    let mut victim = Victim::start();
    in_force(&mut agent);
    assert_eq!(victim.read(SECRET), Done::Denied);
    let socket = agent.socket();
    assert!(agent.stop().success());
    assert!(!fs::exists(socket).unwrap());
    assert_eq!(victim.read(SECRET), Done::Passed);
}

#[test]
fn an_exec_session_of_the_runtime_is_part_of_the_container() {
    let _containerd = Containerd::start();
    let policy = "
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: {name: no-tool}
spec:
  selector: {matchLabels: {app: victim}}
  process: {matchPaths: [{path: /usr/bin/tool}]}
";
    let mut agent = Agent::start_with("", &[("p.yaml", policy)]);
    let victim = Victim::start();
    agent.wait_for("in force for `victim`: no-tool");
    let tool = victim.container.root().join("usr/bin/tool");
    fs::copy(format!("{JOB}/actor"), &tool).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(victim.container.exec("free", &["/actor", "end"]).0, 0);
    let (code, said) = victim.container.exec("tool", &["/usr/bin/tool", "end"]);
    assert_ne!(code, 0, "{said}");
    assert!(said.contains("permission denied"), "{said}");
    let alert = agent.alert_about("/usr/bin/tool");
    assert_eq!(alert_field(&alert, "ContainerName"), "victim");
    assert_eq!(alert_field(&alert, "Action"), "Block");
}

#[test]
fn another_container_and_the_host_are_not_touched_by_a_containers_policy() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start_with("", &[("p.yaml", BLOCK_SECRET)]);
    let mut victim = Victim::start();
    in_force(&mut agent);
    let (other, mut actor) = Actor::in_container("other", &[("app", "other")]);
    fs::write(other.root().join("data/secret"), "secret").unwrap();
    assert_eq!(actor.start_subject("/actor"), Done::Passed);
    assert_eq!(
        actor.perform("/actor", Operation::Read, SECRET),
        Done::Passed
    );
    assert_eq!(victim.read(SECRET), Done::Denied);
    // From the host, through the container's root.
    let seen = victim.container.root().join("data/secret");
    assert_eq!(fs::read_to_string(seen).unwrap(), "secret");
}

#[test]
fn a_changed_root_directory_changes_no_path() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start_with("", &[("p.yaml", BLOCK_SECRET)]);
    let mut victim = Victim::start();
    in_force(&mut agent);
    let chroot = victim.actor.perform("/actor", Operation::Chroot, "/data");
    assert_eq!(chroot, Done::Passed);
    assert_eq!(victim.read("/open"), Done::Passed);
    assert_eq!(victim.read("/secret"), Done::Denied);
    assert_eq!(
        alert_field(&agent.alert_about(SECRET), "PolicyName"),
        "no-secrets"
    );
}

#[test]
fn every_way_to_change_a_protected_tree_is_denied() {
    let _containerd = Containerd::start();
    let policy = "
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: {name: keep}
spec:
  selector: {matchLabels: {app: victim}}
  file: {matchDirectories: [{dir: /data/, recursive: true, readOnly: true}]}
";
    let mut agent = Agent::start("");
    let mut victim = Victim::start();
    let data = victim.container.root().join("data");
    fs::create_dir(data.join("dir")).unwrap();
    // Bound outside of the container, by another name.
    let _stream = UnixListener::bind(data.join("stream")).unwrap();
    let _datagrams = UnixDatagram::bind(data.join("datagrams")).unwrap();
    for (operation, name) in [
        (Operation::ConnectLocal, "stream"),
        (Operation::SendLocal, "datagrams"),
    ] {
        let path = format!("/data/{name}");
        let done = victim.actor.perform("/actor", operation, &path);
        assert_eq!(done, Done::Passed, "{path}");
    }
    agent.write_policy("p.yaml", policy);
    agent.wait_for("in force for `victim`: keep");
    let operations = [
        (Operation::Read, "open", Done::Passed, ""),
        (Operation::Write, "open", Done::Denied, "FILE_OPEN"),
        (Operation::Create, "new", Done::Denied, "FILE_MKNOD"),
        (Operation::Mkdir, "newdir", Done::Denied, "FILE_MKDIR"),
        (Operation::Unlink, "open", Done::Denied, "FILE_UNLINK"),
        (Operation::Rmdir, "dir", Done::Denied, "FILE_RMDIR"),
        (Operation::Symlink, "link", Done::Denied, "FILE_SYMLINK"),
        (Operation::Link, "open", Done::Denied, "FILE_LINK"),
        (Operation::Rename, "open", Done::Denied, "FILE_RENAME"),
        (Operation::Rename, "dir", Done::Denied, "FILE_RENAME"),
        (Operation::Chmod, "open", Done::Denied, "FILE_CHMOD"),
        (Operation::Chown, "open", Done::Denied, "FILE_CHOWN"),
        (Operation::Truncate, "open", Done::Denied, "FILE_OPEN"),
        (
            Operation::ConnectLocal,
            "stream",
            Done::Denied,
            "UNIX_STREAM_CONNECT",
        ),
        (
            Operation::SendLocal,
            "datagrams",
            Done::Denied,
            "UNIX_STREAM_CONNECT",
        ),
    ];
    for (operation, name, expected, hook) in operations {
        let path = format!("/data/{name}");
        let done = victim.actor.perform("/actor", operation, &path);
        assert_eq!(done, expected, "{operation:?} {path}");
        if expected == Done::Denied {
            let alert = agent.alert_about(&path);
            assert_eq!(
                alert_field(&alert, "Data"),
                format!("lsm={hook}"),
                "{alert:#}"
            );
        }
    }
    // The directory above cannot be carried away either.
    let moved = victim.actor.perform("/actor", Operation::Rename, "/data");
    assert_eq!(moved, Done::Denied);
}

#[test]
fn the_command_line_follows_the_feed() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start_with("", &[("p.yaml", BLOCK_SECRET)]);
    let mut victim = Victim::start();
    in_force(&mut agent);
    let mut logs = Command::new(format!("{JOB}/gorget"))
        .args([
            "logs",
            "--type",
            "alerts",
            "--json",
            "--limit",
            "1",
            "--socket",
            agent.socket(),
        ])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // Until it has subscribed, alerts pass it by.
    while logs.try_wait().unwrap().is_none() {
        assert_eq!(victim.read(SECRET), Done::Denied);
        agent.alert_about(SECRET);
    }
    let output = logs.wait_with_output().unwrap();
    let line = String::from_utf8(output.stdout).unwrap();
    let alert: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(alert_field(&alert, "PolicyName"), "no-secrets");
    assert_eq!(alert_field(&alert, "ContainerName"), "victim");
}

/// Runs `gorget policy ...` against the agent: whether it succeeded, and what it said.
fn policy(agent: &Agent, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(format!("{JOB}/gorget"))
        .arg("policy")
        .args(arguments)
        .args(["--socket", agent.socket()])
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn policies_are_applied_kept_over_a_restart_and_deleted() {
    let _containerd = Containerd::start();
    drop(fs::remove_dir_all("/var/lib/gorget"));
    let mut agent = Agent::start("");
    let mut victim = Victim::start();
    fs::write("/tmp/applied.yaml", BLOCK_SECRET).unwrap();
    fs::write(
        "/tmp/wrong.yaml",
        BLOCK_SECRET.replace("matchPaths", "matchPath"),
    )
    .unwrap();

    let (done, said) = policy(&agent, &["apply", "/tmp/wrong.yaml"]);
    assert!(!done && said.contains("wrong.yaml:10:"), "{said}");
    assert_eq!(victim.read(SECRET), Done::Passed);
    let (done, said) = policy(&agent, &["apply", "/tmp/applied.yaml"]);
    assert!(
        done && said.contains("KubeArmorPolicy `no-secrets` applied"),
        "{said}"
    );
    agent.wait_for("in force for `victim`: no-secrets");
    assert_eq!(victim.read(SECRET), Done::Denied);
    let (_, said) = policy(&agent, &["list"]);
    assert!(
        said.contains("default/no-secrets  /var/lib/gorget/policies/"),
        "{said}"
    );
    let (done, said) = policy(&agent, &["get", "no-secrets", "-o", "yaml"]);
    assert!(done && said.ends_with(BLOCK_SECRET), "{said}");
    assert!(said.contains("# origin: applied by a client"), "{said}");
    assert!(said.contains("# in force: for 1 workload: "), "{said}");

    agent.kill();
    let mut agent = Agent::start_again("");
    agent.wait_for("in force for `victim`: no-secrets");
    assert_eq!(victim.read(SECRET), Done::Denied);
    let (done, said) = policy(&agent, &["delete", "/tmp/applied.yaml"]);
    assert!(done, "{said}");
    // When the command has ended it is so.
    assert_eq!(victim.read(SECRET), Done::Passed);
    let (done, said) = policy(&agent, &["delete", "/tmp/applied.yaml"]);
    assert!(
        !done && said.contains("no KubeArmorPolicy `no-secrets` was applied"),
        "{said}"
    );
}
