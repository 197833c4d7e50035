// SPDX-License-Identifier: Apache-2.0
//! What is no path: sockets, names, capabilities, arguments, presets, decided in the guest's kernel.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "runs a container client in a terminal"
)]

use gorget_vmtest::{Actor, Agent, Container, Containerd, Done, JOB, Operation, alert_field};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

const TCP: &str = "2 1 0";
const UDP: &str = "2 2 0";
const MPTCP: &str = "2 1 262";

/// A policy for the container `app=victim` with this in its spec.
fn policy(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
         metadata: {{name: {name}, namespace: default}}\nspec:\n  \
         selector: {{matchLabels: {{app: victim}}}}\n{spec}"
    )
}

struct Victim {
    actor: Actor,
    container: Container,
}

impl Victim {
    fn start() -> Self {
        let (container, mut actor) = Actor::in_container("victim", &[("app", "victim")]);
        assert_eq!(actor.start_subject("/actor"), Done::Passed);
        Self { actor, container }
    }

    fn does(&mut self, operation: Operation, with: &str) -> Done {
        self.actor.perform("/actor", operation, with)
    }

    /// A program that ends with success, at this path.
    fn has_program(&self, path: &str) {
        let to = self.container.root().join(path.trim_start_matches('/'));
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(format!("{JOB}/actor"), to).unwrap();
    }
}

fn put_in_force(agent: &mut Agent, name: &str, spec: &str) {
    agent.write_policy("p.yaml", &policy(name, spec));
    agent.wait_for(&format!("in force for `victim`: {name}"));
}

fn assert_fields(alert: &Value, fields: &[(&str, &str)]) {
    for (field, value) in fields {
        assert_eq!(alert_field(alert, field), *value, "{field} in {alert:#}");
    }
}

fn refused(done: &Done) -> bool {
    matches!(done, Done::Failed(why) if why.contains("Operation not permitted"))
}

#[test]
fn sockets_are_judged_when_made_and_whenever_they_are_used() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("");
    let mut victim = Victim::start();
    assert_eq!(victim.does(Operation::KeepSocket, TCP), Done::Passed);
    assert_eq!(victim.does(Operation::KeepSocket, UDP), Done::Passed);
    put_in_force(
        &mut agent,
        "no-tcp",
        "  network: {matchProtocols: [{protocol: tcp}]}\n",
    );

    assert_eq!(victim.does(Operation::Socket, TCP), Done::Denied);
    let tcp = "domain=AF_INET protocol=TCP type=SOCK_STREAM";
    let alert = agent.alert_about(tcp);
    let data = format!("lsm=SOCKET_CREATE {tcp}");
    assert_fields(
        &alert,
        &[
            ("Operation", "Network"),
            ("PolicyName", "no-tcp"),
            ("Action", "Block"),
            ("Result", "Permission denied"),
            ("Source", "/actor obey"),
            ("Data", &data),
        ],
    );
    for (operation, hook) in [
        (Operation::BindKept, "SOCKET_BIND"),
        (Operation::ListenKept, "SOCKET_LISTEN"),
        (Operation::SendKept, "SOCKET_SENDMSG"),
    ] {
        assert_eq!(victim.does(operation, TCP), Done::Denied, "{operation:?}");
        let data = format!("lsm={hook} {tcp}");
        assert_fields(&agent.alert_about(tcp), &[("Data", &data)]);
    }
    assert_eq!(victim.does(Operation::Socket, MPTCP), Done::Denied);
    assert_eq!(victim.does(Operation::Socket, UDP), Done::Passed);
    assert_ne!(victim.does(Operation::BindKept, UDP), Done::Denied);
}

#[test]
fn an_allow_list_of_protocols_leaves_local_sockets_alone() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("defaultNetworkPosture: block");
    let mut victim = Victim::start();
    let spec = "  network: {matchProtocols: [{protocol: udp, action: Allow}]}\n";
    put_in_force(&mut agent, "only-udp", spec);
    assert_eq!(victim.does(Operation::Socket, UDP), Done::Passed);
    assert_eq!(victim.does(Operation::Socket, "1 1 0"), Done::Passed);
    assert_eq!(victim.does(Operation::Socket, "16 3 0"), Done::Passed);
    assert_eq!(victim.does(Operation::Socket, TCP), Done::Denied);
    let alert = agent.alert_about("domain=AF_INET protocol=TCP type=SOCK_STREAM");
    assert_fields(
        &alert,
        &[("PolicyName", "DefaultPosture"), ("Action", "Block")],
    );
}

#[test]
fn capabilities_are_missing_where_a_policy_blocks_them() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("");
    let mut victim = Victim::start();
    let spec = "  capabilities:\n    matchCapabilities:\n      - {capability: net_raw}\n      \
                - {capability: mknod, action: Audit}\n";
    assert_eq!(victim.does(Operation::Capability, "net_raw"), Done::Passed);
    put_in_force(&mut agent, "no-raw", spec);
    let done = victim.does(Operation::Capability, "net_raw");
    assert!(refused(&done), "{done:?}");
    assert_fields(
        &agent.alert_about("CAP_NET_RAW"),
        &[
            ("Operation", "Capabilities"),
            ("PolicyName", "no-raw"),
            ("Action", "Block"),
            ("Data", "lsm=CAPABLE CAP_NET_RAW"),
        ],
    );
    assert_eq!(victim.does(Operation::Capability, "mknod"), Done::Passed);
    assert_fields(&agent.alert_about("CAP_MKNOD"), &[("Action", "Audit")]);
    assert_eq!(victim.does(Operation::Capability, "chown"), Done::Passed);
}

#[test]
fn a_program_with_other_arguments_does_not_run() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("");
    let mut victim = Victim::start();
    victim.has_program("/opt/tool");
    fs::write(victim.container.root().join("opt/script"), "#!/opt/tool\n").unwrap();
    let script = victim.container.root().join("opt/script");
    fs::set_permissions(script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let spec = "  process:\n    matchPaths:\n      \
                - {path: /opt/tool, allowedArgs: [start, stop]}\n      \
                - {path: /opt/script, allowedArgs: [\"-x\"], action: Audit}\n";
    put_in_force(&mut agent, "few-arguments", spec);
    for allowed in ["", " start", " stop start"] {
        let command = format!("/opt/tool{allowed}");
        assert_eq!(
            victim.does(Operation::ExecWith, &command),
            Done::Passed,
            "{command}"
        );
    }
    let long = "x".repeat(600);
    for denied in ["other", "start other", "starts", long.as_str()] {
        let command = format!("/opt/tool {denied}");
        assert_eq!(
            victim.does(Operation::ExecWith, &command),
            Done::Denied,
            "{command}"
        );
        assert_fields(
            &agent.alert_about("/opt/tool"),
            &[
                ("PolicyName", "few-arguments"),
                ("Operation", "Process"),
                ("Action", "Block"),
                ("Result", "Killed before it ran"),
                ("Source", "/actor"),
            ],
        );
    }
}

#[test]
fn what_runs_from_memory_is_fileless() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("");
    let mut victim = Victim::start();
    assert_eq!(victim.does(Operation::ExecMemfd, "/actor"), Done::Passed);
    let spec = "  presets: [{name: filelessExec, action: Block}]\n";
    put_in_force(&mut agent, "no-memfd", spec);
    assert_eq!(victim.does(Operation::ExecMemfd, "/actor"), Done::Denied);
    assert_fields(
        &agent.alert_about("memfd:copy"),
        &[
            ("PolicyName", "no-memfd"),
            ("Operation", "Process"),
            ("Action", "Block"),
            ("Enforcer", "PRESET-FilelessExecutionPreset"),
        ],
    );
    assert_eq!(victim.does(Operation::Exec, "/actor"), Done::Passed);
}

#[test]
fn processes_are_hidden_from_each_other_in_proc() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("");
    let mut victim = Victim::start();
    let spec = "  presets:\n    - {name: protectEnv, action: Block}\n    \
                - {name: protectProc, action: Audit}\n";
    put_in_force(&mut agent, "private", spec);
    assert_eq!(
        victim.does(Operation::Read, "/proc/self/environ"),
        Done::Passed
    );
    assert_eq!(victim.does(Operation::Read, "/proc/meminfo"), Done::Passed);
    for environment in ["/proc/1/environ", "/proc/1/task/1/environ"] {
        assert_eq!(victim.does(Operation::Read, environment), Done::Denied);
        let fields = [("Action", "Block"), ("Enforcer", "PRESET-ProtectEnvPreset")];
        assert_fields(&agent.alert_about(environment), &fields);
    }
    assert_eq!(victim.does(Operation::Read, "/proc/1/status"), Done::Passed);
    let fields = [
        ("Action", "Audit"),
        ("Enforcer", "PRESET-ProtectProcPreset"),
    ];
    assert_fields(&agent.alert_about("/proc/1/status"), &fields);
}

#[test]
fn memory_without_a_file_does_not_become_executable() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("");
    let mut victim = Victim::start();
    let ways = ["at once", "later", "memfd"];
    for way in ways {
        assert_eq!(victim.does(Operation::MapExecutable, way), Done::Passed);
    }
    let spec = "  presets: [{name: anonymousMapExec, action: Block}]\n";
    put_in_force(&mut agent, "no-injected-code", spec);
    for way in ways {
        assert_eq!(victim.does(Operation::MapExecutable, way), Done::Denied);
        let fields = [("Enforcer", "PRESET-AnonMapExecutionPreset")];
        assert_fields(&agent.next_alert(), &fields);
    }
    let library = victim.does(Operation::MapExecutable, "library");
    assert_eq!(library, Done::Passed);
}

#[test]
fn an_interactive_session_in_a_running_container_is_told_from_its_own_programs() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("");
    let mut victim = Victim::start();
    victim.has_program("/opt/tool");
    let spec = "  presets: [{name: exec, action: Block}]\n";
    put_in_force(&mut agent, "no-sessions", spec);
    assert_eq!(victim.does(Operation::Exec, "/opt/tool"), Done::Passed);
    assert_eq!(victim.container.exec("plain", &["/opt/tool"]).0, 0);
    assert!(!in_a_terminal("/opt/tool"));
    assert_fields(
        &agent.alert_about("/opt/tool"),
        &[
            ("PolicyName", "no-sessions"),
            ("Enforcer", "PRESET-ExecPreset"),
        ],
    );
}

#[test]
fn who_comes_into_a_running_container_is_told_apart_with_all_that_they_do() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("");
    let mut victim = Victim::start();
    fs::write(victim.container.root().join("data/file"), "content").unwrap();
    let spec = "  action: Audit\n  file: {matchPaths: [{path: /data/file}]}\n  \
        process: {matchPaths: [{path: /actor}]}\n";
    put_in_force(&mut agent, "look", spec);
    assert_eq!(victim.does(Operation::Read, "/data/file"), Done::Passed);
    let own = agent.alert_about("/data/file");
    assert!(own.get("ExecEvent").is_none_or(Value::is_null), "{own:#}");
    let mut sessions = BTreeSet::new();
    for id in ["first", "second"] {
        let read = ["/actor", "try", "read", "/data/file"];
        assert_eq!(victim.container.exec(id, &read).0, 0);
        let session = |alert: &Value| {
            let event = alert.get("ExecEvent").unwrap_or(&Value::Null);
            assert_eq!(alert_field(event, "ExecutableName"), "actor", "{alert:#}");
            alert_field(event, "ExecID").to_owned()
        };
        let came = session(&agent.alert_about("/actor"));
        assert_eq!(session(&agent.alert_about("/data/file")), came);
        sessions.insert(came);
    }
    assert_eq!(sessions.len(), 2, "{sessions:?}");
}

#[test]
fn names_are_judged_on_the_packet_however_it_is_sent() {
    let mut agent = Agent::start("");
    let mut actor = Actor::on_host();
    let subject = format!("{JOB}/actor");
    assert_eq!(actor.start_subject(&subject), Done::Passed);
    let mut ask = |operation, name: &str| actor.perform(&subject, operation, name);
    let ways = [
        Operation::Lookup,
        Operation::LookupConnected,
        Operation::LookupTcp,
    ];
    for way in ways {
        assert_eq!(ask(way, "www.blocked.example"), Done::Passed, "{way:?}");
    }
    agent.write_policy(
        "p.yaml",
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\n\
         metadata: {name: no-names}\nspec:\n  \
         nodeSelector: {matchLabels: {kubearmor.io/hostname: \"*\"}}\n  network:\n    \
         matchDNSQueries:\n      - {domain: blocked.example}\n      \
         - {domain: seen.example, action: Audit}\n",
    );
    agent.wait_for("in force for `");
    for way in ways {
        let done = ask(way, "www.BLOCKED.example");
        assert!(matches!(done, Done::Failed(_)), "{way:?}: {done:?}");
        assert_fields(
            &agent.alert_about("www.blocked.example"),
            &[
                ("PolicyName", "no-names"),
                ("Operation", "Network"),
                ("Action", "Block"),
                ("Data", "lsm=SOCKET_SENDMSG domain=www.blocked.example"),
            ],
        );
        assert_eq!(ask(way, "other.example"), Done::Passed, "{way:?}");
        assert_eq!(ask(way, "seen.example"), Done::Passed, "{way:?}");
        assert_fields(&agent.alert_about("seen.example"), &[("Action", "Audit")]);
    }
}

#[test]
fn a_program_is_told_by_its_terminal() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start("");
    let victim = Victim::start();
    victim.has_program("/opt/tool");
    let spec = "  process: {matchPaths: [{path: /opt/tool, pts: false}]}\n";
    put_in_force(&mut agent, "no-people", spec);
    assert_eq!(victim.container.exec("plain", &["/opt/tool"]).0, 0);
    assert!(!in_a_terminal("/opt/tool"));
    let fields = [("PolicyName", "no-people"), ("TTY", "pts0")];
    assert_fields(&agent.alert_about("/opt/tool"), &fields);
}

/// Whether a program of the victim's ends with success when somebody starts it in a terminal.
fn in_a_terminal(program: &str) -> bool {
    let client = format!("ctr task exec --tty --exec-id session victim {program}");
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", &client, "/dev/null"]);
    script.status().unwrap().success()
}
