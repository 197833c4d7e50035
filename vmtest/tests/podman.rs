// SPDX-License-Identifier: Apache-2.0
//! A real Podman, of root and of a user: its containers are known by the names and labels that people
//! gave them.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "drives Podman's command line tool"
)]

use gorget_vmtest::{
    Actor, Agent, Containerd, Done, Operation, TIMEOUT, alert_field, packed, small_root,
};
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

const DENIED: &str = "Permission denied";
const UID: u32 = 1000;
/// Below it are the user's tasks: a cgroup that belongs to the user, as systemd makes one at a login.
const USERS_CGROUP: &str = "/sys/fs/cgroup/user-1000";
const USERS_RUN: &str = "/run/user/1000";
const USERS_HOME: &str = "/home/user";

/// Podman with an image. Its service is what systemd would start for its socket.
struct Podman {
    user: bool,
    socket: String,
    service: Option<Child>,
}

impl Podman {
    fn of_root() -> Self {
        fs::create_dir_all("/run/podman").unwrap();
        Self::start(false, "/run/podman/podman.sock")
    }

    fn of_user() -> Self {
        make_user();
        Self::start(true, &format!("{USERS_RUN}/podman/podman.sock"))
    }

    fn start(user: bool, socket: &str) -> Self {
        drop(fs::remove_file(socket));
        let mut podman = Self {
            user,
            socket: socket.to_owned(),
            service: None,
        };
        podman.import();
        let address = format!("unix://{socket}");
        let mut command = podman.command(&["system", "service", "--time=0", &address]);
        podman.service = Some(command.stdin(Stdio::null()).spawn().unwrap());
        let deadline = Instant::now() + TIMEOUT;
        while !Path::new(socket).exists() {
            assert!(Instant::now() < deadline, "Podman does not serve");
            std::thread::yield_now();
        }
        podman
    }

    fn command(&self, arguments: &[&str]) -> Command {
        if !self.user {
            let mut command = Command::new("podman");
            command.args(arguments);
            return command;
        }
        // Moves into a cgroup of the user, becomes the user, runs Podman. A cgroup in which Podman made
        // one for a container takes no other tasks, as that of a service does.
        let id = UID.to_string();
        let place = match arguments.first() {
            Some(&"run") => "container",
            Some(_) | None => "commands",
        };
        let script = format!(
            "echo $$ >{USERS_CGROUP}/{place}/cgroup.procs && exec setpriv --reuid {id} --regid {id} \
             --clear-groups env -i PATH=/usr/sbin:/usr/bin HOME={USERS_HOME} \
             XDG_RUNTIME_DIR={USERS_RUN} podman --cgroup-manager=cgroupfs \"$@\""
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script, "sh"]).args(arguments);
        command.current_dir("/");
        command
    }

    /// Makes an image of busybox and two files.
    fn import(&self) {
        let root = Path::new("/tmp/podman-image");
        small_root(root);
        let archive = packed(root);
        self.done(&["import", "--quiet", archive.to_str().unwrap(), "shop:1"]);
    }

    /// A container that runs.
    fn run(&self) {
        let cgroups: &[&str] = match self.user {
            // Without systemd Podman leaves a user's container in the cgroup of its caller otherwise.
            true => &["--cgroups=split"],
            false => &[],
        };
        let options = ["run", "--detach", "--network", "none", "--label", "app=web"];
        let container = ["--name", "shop", "shop:1", "sleep", "1000"];
        self.done(&[&options[..], cgroups, &container].concat());
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn done(&self, arguments: &[&str]) {
        let output = self.ask(arguments);
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "podman {arguments:?}: {said}");
    }

    /// What came of reading a file in the container.
    fn cat(&self, file: &str) -> String {
        let output = self.ask(&["exec", "shop", "cat", file]);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        drop(self.ask(&["rm", "--force", "--time=0", "shop"]));
        if let Some(service) = &mut self.service {
            drop(service.kill());
            drop(service.wait());
        }
        // An agent would wait for who listens there before it concludes that containers are gone.
        drop(fs::remove_file(&self.socket));
    }
}

/// A user with a home, a cgroup, and ids for its containers.
fn make_user() {
    for (file, line) in [
        (
            "/etc/passwd",
            format!("user:x:{UID}:{UID}::{USERS_HOME}:/bin/sh"),
        ),
        ("/etc/group", format!("user:x:{UID}:")),
        ("/etc/subuid", "user:100000:65536".to_owned()),
        ("/etc/subgid", "user:100000:65536".to_owned()),
    ] {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(file)
            .unwrap();
        writeln!(file, "{line}").unwrap();
    }
    for dir in [USERS_HOME, USERS_RUN, &format!("{USERS_RUN}/podman")] {
        fs::create_dir_all(dir).unwrap();
        chown(dir, Some(UID), Some(UID)).unwrap();
    }
    let [container, commands] =
        ["container", "commands"].map(|place| format!("{USERS_CGROUP}/{place}"));
    for of in [USERS_CGROUP, &container, &commands] {
        fs::create_dir_all(of).unwrap();
        chown(of, Some(UID), Some(UID)).unwrap();
        for file in ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
            chown(format!("{of}/{file}"), Some(UID), Some(UID)).unwrap();
        }
    }
}

fn policy(name: &str, label: &str, path: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: {name}}}\n\
         spec:\n  selector: {{matchLabels: {{{label}}}}}\n  file: {{matchPaths: [{{path: {path}}}]}}\n"
    )
}

fn by_label() -> String {
    policy("by-label", "app: web", "/data/secret")
}

fn by_name() -> String {
    policy(
        "by-name",
        "kubearmor.io/container.name: shop",
        "/data/other",
    )
}

/// A container that starts while the agent runs, from its policies to its end.
fn is_selected_by_label_and_by_name(podman: &Podman, agent: &mut Agent) {
    podman.run();
    agent.wait_for("in force for `shop`: by-label, by-name");
    assert!(podman.cat("/data/other").contains(DENIED));
    let alert = agent.alert_about("/data/other");
    assert_eq!(alert_field(&alert, "PolicyName"), "by-name");
    assert!(podman.cat("/data/secret").contains(DENIED));
    let alert = agent.alert_about("/data/secret");
    assert_eq!(alert_field(&alert, "PolicyName"), "by-label");
    assert_eq!(alert_field(&alert, "ContainerName"), "shop");
    let image = alert_field(&alert, "ContainerImage");
    assert!(image.starts_with("localhost/shop:1@sha256:"), "{image}");
    assert!(alert_field(&alert, "Labels").contains("app=web"));

    // A policy changes while the container runs.
    agent.remove_policy("label.yaml");
    agent.wait_for("in force for `shop`: by-name");
    assert_eq!(podman.cat("/data/secret"), "the secret");
    assert!(podman.cat("/data/other").contains(DENIED));
    agent.remove_policy("name.yaml");
    agent.wait_for("no policy is in force for `shop`");
    assert_eq!(podman.cat("/data/other"), "the other");
}

fn agent() -> Agent {
    let files = [("label.yaml", by_label()), ("name.yaml", by_name())];
    let files = files.each_ref().map(|(file, text)| (*file, text.as_str()));
    Agent::start_with("runtime: podman", &files)
}

#[test]
fn a_container_of_podman_is_selected_by_its_label_and_by_its_name() {
    // Podman comes later than the agent, and is found.
    let mut agent = agent();
    let podman = Podman::of_root();
    agent.wait_for("connected to Podman");
    is_selected_by_label_and_by_name(&podman, &mut agent);
}

#[test]
fn a_container_of_a_users_podman_is_selected_by_its_label_and_by_its_name() {
    let mut agent = agent();
    let podman = Podman::of_user();
    agent.wait_for("of user 1000");
    is_selected_by_label_and_by_name(&podman, &mut agent);
}

#[test]
fn containers_of_podman_that_run_when_the_agent_starts_are_protected() {
    let podman = Podman::of_root();
    podman.run();
    let mut agent = Agent::start_with("", &[("label.yaml", &by_label())]);
    agent.wait_for("in force for `shop`: by-label");
    let said = podman.cat("/data/secret");
    assert!(said.contains(DENIED), "{said}");
    assert_eq!(
        alert_field(&agent.alert_about("/data/secret"), "ContainerName"),
        "shop"
    );
}

#[test]
fn containers_of_podman_and_containerd_are_protected_at_once() {
    let _containerd = Containerd::start();
    let mut agent = Agent::start_with("", &[("label.yaml", &by_label())]);
    agent.wait_for("connected to containerd");
    let podman = Podman::of_root();
    agent.wait_for("connected to Podman");
    podman.run();
    agent.wait_for("in force for `shop`: by-label");
    let (other, mut actor) = Actor::in_container("other-shop", &[("app", "web")]);
    fs::write(other.root().join("data/secret"), "the secret").unwrap();
    agent.wait_for("in force for `other-shop`: by-label");
    assert!(podman.cat("/data/secret").contains(DENIED));
    let alert = agent.alert_about("/data/secret");
    assert_eq!(alert_field(&alert, "ContainerName"), "shop");
    assert_eq!(actor.start_subject("/actor"), Done::Passed);
    let done = actor.perform("/actor", Operation::Read, "/data/secret");
    assert_eq!(done, Done::Denied);
    let alert = agent.alert_about("/data/secret");
    assert_eq!(alert_field(&alert, "ContainerName"), "other-shop");
}
