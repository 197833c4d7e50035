// SPDX-License-Identifier: Apache-2.0
//! A real Docker: its containers are known by the names and labels that people gave them.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "drives Docker's command line tool"
)]

use gorget_vmtest::{Agent, Containerd, TIMEOUT, alert_field, packed, small_root};
use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Instant;

/// A running `dockerd` with an image, on a containerd that runs already. Its containers end with it.
struct Docker {
    child: Child,
}

impl Docker {
    fn start() -> Self {
        drop(fs::remove_file("/run/docker.pid"));
        let child = Command::new("dockerd")
            .args(["--containerd", "/run/containerd/containerd.sock"])
            .args([
                "--bridge",
                "none",
                "--iptables=false",
                "--log-level",
                "error",
            ])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let docker = Self { child };
        let deadline = Instant::now() + TIMEOUT;
        while !docker.ask(&["info"]).status.success() {
            assert!(Instant::now() < deadline, "Docker does not answer");
            std::thread::yield_now();
        }
        docker.import();
        docker
    }

    /// Makes an image of busybox and two files.
    fn import(&self) {
        let root = Path::new("/tmp/docker-image");
        small_root(root);
        let archive = packed(root);
        self.done(&["import", archive.to_str().unwrap(), "shop:1"]);
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        Command::new("docker").args(arguments).output().unwrap()
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert!(output.status.success(), "docker {arguments:?}: {said}");
        said
    }

    /// What came of a command that is denied or not.
    fn said(&self, arguments: &[&str]) -> String {
        let output = self.ask(arguments);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }
}

impl Drop for Docker {
    fn drop(&mut self) {
        drop(self.ask(&["rm", "--force", "shop", "other"]));
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn policy(name: &str, label: &str, path: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: {name}}}\n\
         spec:\n  selector: {{matchLabels: {{{label}}}}}\n  file: {{matchPaths: [{{path: {path}}}]}}\n"
    )
}

const RUN: [&str; 8] = [
    "run",
    "--network",
    "none",
    "--label",
    "app=web",
    "--name",
    "shop",
    "shop:1",
];
const DENIED: &str = "Permission denied";

#[test]
fn a_container_of_docker_is_selected_by_its_label_and_by_its_name() {
    let _containerd = Containerd::start();
    let by_label = policy("by-label", "app: web", "/data/secret");
    let by_name = policy(
        "by-name",
        "kubearmor.io/container.name: shop",
        "/data/other",
    );
    let mut agent = Agent::start_with("", &[("label.yaml", &by_label), ("name.yaml", &by_name)]);
    let docker = Docker::start();

    docker.done(&[&["run", "--detach"], &RUN[1..], &["sleep", "1000"]].concat());
    agent.wait_for("in force for `shop`: by-label, by-name");
    let cat = |file: &str| docker.said(&["exec", "shop", "cat", file]);
    assert!(cat("/data/other").contains(DENIED));
    let alert = agent.alert_about("/data/other");
    assert_eq!(alert_field(&alert, "PolicyName"), "by-name");
    assert!(cat("/data/secret").contains(DENIED));
    let alert = agent.alert_about("/data/secret");
    assert_eq!(alert_field(&alert, "PolicyName"), "by-label");
    assert_eq!(alert_field(&alert, "ContainerName"), "shop");
    assert_eq!(alert_field(&alert, "ContainerImage"), "shop:1");
    assert!(alert_field(&alert, "Labels").contains("app=web"));

    // A policy changes while the container runs.
    agent.remove_policy("label.yaml");
    agent.wait_for("in force for `shop`: by-name");
    assert_eq!(cat("/data/secret"), "the secret");
    assert!(cat("/data/other").contains(DENIED));
    agent.remove_policy("name.yaml");
    agent.wait_for("no policy is in force for `shop`");
    assert_eq!(cat("/data/other"), "the other");
}

#[test]
fn containers_of_docker_that_run_when_the_agent_starts_are_protected() {
    let _containerd = Containerd::start();
    let docker = Docker::start();
    docker.done(&[&["run", "--detach"], &RUN[1..], &["sleep", "1000"]].concat());
    let by_label = policy("by-label", "app: web", "/data/secret");
    let mut agent = Agent::start_with("", &[("label.yaml", &by_label)]);
    agent.wait_for("in force for `shop`: by-label");
    let said = docker.said(&["exec", "shop", "cat", "/data/secret"]);
    assert!(said.contains(DENIED), "{said}");
    assert_eq!(
        alert_field(&agent.alert_about("/data/secret"), "ContainerName"),
        "shop"
    );
}
