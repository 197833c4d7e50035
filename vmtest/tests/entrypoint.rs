// SPDX-License-Identifier: Apache-2.0
//! Containers whose first program is the forbidden operation, and ends at once.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "drives the runtimes' command line tools"
)]

use gorget_vmtest::{
    Agent, Containerd, JOB, TIMEOUT, alert_field, only_in_the_guest, small_root, times,
};
use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// In the long run.
const ATTACKS: usize = 50;
const SECRET: &str = "the secret";
const SETTINGS: &str = "/etc/gorget/hook.json";
/// Names the secret by a link, which must be followed although the container has no root yet.
const BLOCK: &str = "
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: {name: no-secrets}
spec:
  selector: {matchLabels: {app: victim}}
  file: {matchPaths: [{path: /shortcut/secret}]}
";

/// A root directory of busybox, a secret, and a link to where it is.
fn root() -> PathBuf {
    let root = PathBuf::from("/var/tmp/entrypoint");
    small_root(&root);
    root
}

fn said(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

fn gorget_hook(verb: &str, runtime: &str) -> String {
    said(Command::new(format!("{JOB}/gorget")).args(["hook", verb, runtime]))
}

/// What `gorget hook install` has had systemd do for a service: the service's environment.
struct Installed {
    runtime: &'static str,
    path: String,
}

impl Installed {
    fn new(runtime: &'static str) -> Self {
        only_in_the_guest();
        // No systemd runs here; the services are started below as it would.
        fs::create_dir_all("/run/systemd/system").unwrap();
        let said = gorget_hook("install", runtime);
        assert!(said.contains("installed; to have it take effect"), "{said}");
        let said = gorget_hook("install", runtime);
        assert!(said.contains("it was installed already"), "{said}");
        let file = Self::file(runtime);
        let text = fs::read_to_string(file).unwrap();
        let path = text
            .lines()
            .find_map(|line| line.strip_prefix("Environment=PATH="));
        let path = path.unwrap().to_owned();
        Self { runtime, path }
    }

    fn file(runtime: &str) -> String {
        format!("/etc/systemd/system/containerd.service.d/gorget-hook-{runtime}.conf")
    }

    fn containerd(&self) -> Containerd {
        let mut containerd = Command::new("containerd");
        containerd.env("PATH", &self.path);
        Containerd::start_as(containerd)
    }
}

impl Drop for Installed {
    fn drop(&mut self) {
        let said = gorget_hook("uninstall", self.runtime);
        assert!(said.contains("removed; to have it take effect"), "{said}");
        assert!(!Path::new(&Self::file(self.runtime)).exists());
        assert!(!Path::new("/usr/libexec/gorget").exists());
        drop(fs::remove_dir("/run/systemd/system"));
    }
}

/// How the hook behaves, until this is dropped.
struct Settings;

impl Settings {
    fn new(text: &str) -> Self {
        only_in_the_guest();
        fs::create_dir_all("/etc/gorget").unwrap();
        fs::write(SETTINGS, text).unwrap();
        Self
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        drop(fs::remove_file(SETTINGS));
    }
}

/// Runs a container by containerd that reads the secret and ends.
fn ctr(name: &str, root: &Path) -> String {
    let mut command = Command::new("ctr");
    command.args(["run", "--rm", "--label", "app=victim", "--rootfs"]);
    said(command.arg(root).args([name, "/bin/cat", "/data/secret"]))
}

/// Waits until the agent has released every container.
fn all_released(agent: &mut Agent) {
    let bound = || {
        let builds = fs::read_dir("/sys/fs/bpf/gorget").unwrap().flatten();
        let maps = builds.map(|build| build.path().join("maps/cgroups"));
        maps.map(|map| {
            use libbpf_rs::MapCore as _;
            let map = libbpf_rs::MapHandle::from_pinned_path(map).unwrap();
            map.keys().count()
        })
        .sum::<usize>()
    };
    agent.wait_until("every container to be released", || bound() == 0);
}

#[test]
fn containerd_waits_for_the_agent_by_the_hook() {
    let installed = Installed::new("containerd");
    let _containerd = installed.containerd();
    let root = root();
    assert_eq!(ctr("attack", &root), SECRET);
    let mut agent = Agent::start_with("", &[("p.yaml", BLOCK)]);
    for n in 0..times(ATTACKS) {
        let name = format!("attack-{n}");
        let said = ctr(&name, &root);
        assert!(!said.contains(SECRET), "attack {n}: {said}");
        agent.wait_for(&format!(
            "the rules of `{name}` were in force before its first program"
        ));
        let alert = agent.alert_about("/data/secret");
        assert_eq!(alert_field(&alert, "ContainerName"), name);
        assert_eq!(alert_field(&alert, "PolicyName"), "no-secrets");
    }
    all_released(&mut agent);
}

#[test]
fn without_anybody_waiting_it_is_measured_and_said_how_late_the_rules_are() {
    let _containerd = Containerd::start();
    let root = root();
    assert_eq!(ctr("attack", &root), SECRET);
    let mut agent = Agent::start_with("", &[("p.yaml", BLOCK)]);
    let (mut in_time, mut late, mut ended, mut read) = (0, Vec::new(), 0, 0);
    for n in 0..times(ATTACKS) {
        let name = format!("attack-{n}");
        let has_read = ctr(&name, &root).contains(SECRET);
        read += usize::from(has_read);
        let told = loop {
            let line = agent.wait_for(&format!("`{name}`"));
            if line.contains(" before its ") {
                break line;
            }
        };
        if told.contains("were in force before its first program") {
            assert!(!has_read, "{name} has read the secret although: {told}");
            in_time += 1;
        } else if let Some((_, rest)) = told.split_once(" ran for ") {
            let ms = rest.split(' ').next().unwrap();
            late.push(ms.parse::<f64>().unwrap());
        } else {
            ended += 1;
        }
    }
    late.sort_by(f64::total_cmp);
    println!(
        "of {} containers: {in_time} had their rules in time, {} were late (ms: {late:?}), \
         {ended} had ended; {read} have read the secret",
        times(ATTACKS),
        late.len()
    );
    all_released(&mut agent);
}

#[test]
fn docker_waits_for_the_agent_by_the_hook() {
    let installed = Installed::new("docker");
    let _containerd = installed.containerd();
    let docker = Docker::start(&installed.path);
    docker.import(&root());
    assert_eq!(docker.attack("attack"), SECRET);
    let mut agent = Agent::start_with("", &[("p.yaml", BLOCK)]);
    for n in 0..times(ATTACKS) {
        let name = format!("attack-{n}");
        let said = docker.attack(&name);
        assert!(!said.contains(SECRET), "attack {n}: {said}");
        agent.wait_for(&format!(
            "the rules of `{name}` were in force before its first program"
        ));
        let alert = agent.alert_about("/data/secret");
        assert_eq!(alert_field(&alert, "ContainerName"), name);
        assert_eq!(alert_field(&alert, "ContainerImage"), "shop:1");
    }
    all_released(&mut agent);
}

/// A running `dockerd` on a containerd that runs already.
struct Docker {
    child: Child,
}

impl Docker {
    fn start(path: &str) -> Self {
        drop(fs::remove_file("/run/docker.pid"));
        let child = Command::new("dockerd")
            .args(["--containerd", "/run/containerd/containerd.sock"])
            .args(["--bridge", "none", "--iptables=false"])
            .args(["--log-level", "error"])
            // What the hook's installation looks for makes Docker believe that systemd runs.
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .env("PATH", path)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let docker = Self { child };
        let deadline = Instant::now() + TIMEOUT;
        let answers = || {
            let mut info = Command::new("docker");
            let info = info.arg("info").stdout(Stdio::null()).stderr(Stdio::null());
            info.status().is_ok_and(|status| status.success())
        };
        while !answers() {
            assert!(Instant::now() < deadline, "Docker does not answer");
            std::thread::yield_now();
        }
        docker
    }

    fn ask(arguments: &[&str]) -> String {
        said(Command::new("docker").args(arguments))
    }

    fn import(&self, root: &Path) {
        let archive = "/tmp/entrypoint.tar";
        let mut tar = Command::new("tar");
        let made = tar.arg("-C").arg(root).args(["-cf", archive, "."]).status();
        assert!(made.unwrap().success());
        let said = Self::ask(&[
            "import",
            "--change",
            "CMD [\"/bin/sleep\", \"100000\"]",
            archive,
            "shop:1",
        ]);
        assert!(said.starts_with("sha256:"), "{said}");
    }

    /// Runs a container that reads the secret and ends.
    fn attack(&self, name: &str) -> String {
        let run = ["run", "--rm", "--network", "none", "--label", "app=victim"];
        let rest = ["--name", name, "shop:1", "/bin/cat", "/data/secret"];
        Self::ask(&[&run[..], &rest].concat())
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_hook_without_an_agent_lets_containers_start_or_not_and_counts_them() {
    let installed = Installed::new("containerd");
    let _containerd = installed.containerd();
    let root = root();
    assert_eq!(ctr("open", &root), SECRET);
    let settings = Settings::new(r#"{"whenAgentIsDown": "closed"}"#);
    let said = ctr("closed", &root);
    assert!(
        said.contains("it does not start: cannot reach the agent"),
        "{said}"
    );
    assert!(!said.contains(SECRET), "{said}");
    let mut agent = Agent::start_with("", &[("p.yaml", BLOCK)]);
    let told = agent.wait_for("containers were started although no agent");
    assert!(told.contains(" 1 containers were started"), "{told}");
    assert!(
        told.contains("1 were not started for that reason: open, closed"),
        "{told}"
    );
    // While it runs there is nothing to be closed about.
    let said = ctr("attack", &root);
    assert!(said.contains("Permission denied"), "{said}");
    drop(settings);
    let _settings = Settings::new(r#"{"whenAgentIsDown": "shut"}"#);
    let said = ctr("attack", &root);
    // containerd does not pass on why.
    assert!(said.contains("failed to create shim task"), "{said}");
    assert!(!said.contains(SECRET), "{said}");
}

/// What the agent answers to a message, sent by a user.
fn answer(message: &[u8]) -> String {
    let mut stream = UnixStream::connect("/run/gorget/hook.sock").unwrap();
    // It may refuse before it has read all.
    drop(stream.write_all(message));
    drop(stream.shutdown(std::net::Shutdown::Write));
    let mut said = Vec::new();
    drop(stream.read_to_end(&mut said));
    String::from_utf8(said).unwrap()
}

#[test]
fn the_hooks_socket_says_what_is_wrong_with_a_message() {
    let mut agent = Agent::start("");
    for (message, expected) in [
        (vec![b' '; (1 << 20) + 1], "more than 1048576 bytes"),
        (b"{\"starting\":".to_vec(), "malformed: EOF"),
        (
            b"{\"starting\":{\"id\":\"x\"}}".to_vec(),
            "missing field `pid`",
        ),
        (b"{\"begin\":{}}".to_vec(), "unknown variant `begin`"),
        (Vec::new(), "malformed: EOF"),
    ] {
        let said = answer(&message);
        assert!(
            said.contains("refused") && said.contains(expected),
            "{said}"
        );
    }
    // This process is in no cgroup of its own.
    let own = std::process::id();
    let message = format!(r#"{{"starting":{{"id":"x","pid":{own},"bundle":"/"}}}}"#);
    let said = answer(message.as_bytes());
    assert!(said.contains("failed") && said.contains("cgroup"), "{said}");
    let nobody = r#"{"starting":{"id":"x","pid":4194304,"bundle":"/"}}"#;
    assert!(answer(nobody.as_bytes()).contains("process 4194304"));

    // Nobody but root gets as far as that, and if the socket were open, no further.
    let hook = || {
        let mut command = Command::new(format!("{JOB}/gorget-hook"));
        command
            .uid(65534)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin
            .write_all(br#"{"id":"x","status":"stopped","bundle":"/"}"#)
            .unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let said = hook();
    assert!(
        said.contains("cannot reach the agent") && said.contains("denied"),
        "{said}"
    );
    fs::set_permissions("/run/gorget", Permissions::from_mode(0o755)).unwrap();
    fs::set_permissions("/run/gorget/hook.sock", Permissions::from_mode(0o666)).unwrap();
    let said = hook();
    assert!(
        said.contains("the agent says: the sender is user 65534"),
        "{said}"
    );
    agent.wait_for("the sender is user 65534, only user 0 may announce containers");
}
