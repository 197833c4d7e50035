// SPDX-License-Identifier: Apache-2.0
//! A real containerd, and containers that it starts.

use crate::agent::{NextPipe, create, fail, started};
use crate::lines::Lines;
use crate::{JOB, only_in_the_guest};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const SOCKET: &str = "/run/containerd/containerd.sock";

/// A running containerd. Killed when dropped, its containers too.
#[derive(Debug)]
pub struct Containerd {
    child: Child,
}

impl Containerd {
    /// Starts containerd and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it does not, or this is not the guest.
    pub fn start() -> Self {
        Self::start_as(Command::new("containerd"))
    }

    /// As [`Containerd::start`], with the environment and the arguments of `command`.
    ///
    /// # Panics
    ///
    /// When it does not answer, or this is not the guest.
    pub fn start_as(mut command: Command) -> Self {
        only_in_the_guest();
        drop(fs::remove_file(SOCKET));
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = started(&mut command);
        let mut said = Lines::of(child.stderr.take().into_iter().next_pipe(), None);
        said.wait("containerd to serve", |line| {
            line.contains("containerd successfully booted")
                .then_some(())
        });
        Self { child }
    }

    /// Kills it without warning; its containers run on.
    pub fn kill(mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A container with a root directory of its own, made of the actor and empty directories.
#[derive(Debug)]
pub struct Container {
    name: String,
    /// The client that holds its standard streams; without one it runs detached.
    client: Option<Child>,
}

impl Container {
    /// Starts a container whose first process is `argv`, and whose standard streams are ours.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn run(
        name: &str,
        labels: &[(&str, &str)],
        argv: &[&str],
    ) -> (Self, ChildStdin, ChildStdout) {
        Self::run_with(name, labels, &["--rm"], argv)
    }

    /// As [`Container::run`], with options of `ctr run`.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn run_with(
        name: &str,
        labels: &[(&str, &str)],
        options: &[&str],
        argv: &[&str],
    ) -> (Self, ChildStdin, ChildStdout) {
        let mut command = run_command(name, labels, options, argv);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut client = started(&mut command);
        let stdin = client.stdin.take().into_iter().next_pipe();
        let stdout = client.stdout.take().into_iter().next_pipe();
        let container = Self {
            name: name.to_owned(),
            client: Some(client),
        };
        (container, stdin, stdout)
    }

    /// Starts a container that does not depend on a client of containerd.
    ///
    /// # Panics
    ///
    /// When it cannot be started.
    pub fn run_detached(name: &str, labels: &[(&str, &str)], argv: &[&str]) -> Self {
        let mut command = run_command(name, labels, &["--detach"], argv);
        match command.stdin(Stdio::null()).status() {
            Ok(status) if status.success() => {}
            other => fail(&format!("starting `{name}`: {other:?}")),
        }
        Self {
            name: name.to_owned(),
            client: None,
        }
    }

    /// Where a container's root directory is made.
    pub fn root_of(name: &str) -> PathBuf {
        PathBuf::from(format!("/var/tmp/{name}"))
    }

    /// Its root directory as its processes see it, with everything that is mounted there.
    ///
    /// # Panics
    ///
    /// When the runtime does not know it.
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root", self.pid()))
    }

    /// Its first process.
    ///
    /// # Panics
    ///
    /// When the runtime does not know it.
    pub fn pid(&self) -> u32 {
        let list = Command::new("ctr").args(["task", "list"]).output();
        let list = list.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        list.unwrap_or_default()
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|words| words.first() == Some(&self.name.as_str()))
            .and_then(|words| words.get(1)?.parse().ok())
            .unwrap_or_else(|| fail(&format!("the runtime does not know `{}`", self.name)))
    }

    /// Runs a program in it by the runtime, and gives its exit code and output.
    ///
    /// # Panics
    ///
    /// When the runtime cannot be run.
    pub fn exec(&self, id: &str, argv: &[&str]) -> (i32, String) {
        let output = Command::new("ctr")
            .args(["task", "exec", "--exec-id", id, &self.name])
            .args(argv)
            .stdin(Stdio::null())
            .output();
        match output {
            Ok(output) => {
                let text = [output.stdout, output.stderr].concat();
                (
                    output.status.code().unwrap_or(-1),
                    String::from_utf8_lossy(&text).into_owned(),
                )
            }
            Err(error) => fail(&format!("running ctr: {error}")),
        }
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // It may have ended by itself.
        ctr(&["task", "kill", "--signal", "KILL", &self.name]);
        match &mut self.client {
            // `ctr run --rm` removes it and ends after it.
            Some(client) => drop(client.wait()),
            None => {
                ctr(&["task", "delete", "--force", &self.name]);
                ctr(&["container", "delete", &self.name]);
            }
        }
    }
}

/// The command that starts a container with a fresh root directory.
fn run_command(name: &str, labels: &[(&str, &str)], options: &[&str], argv: &[&str]) -> Command {
    let root = Container::root_of(name);
    for dir in ["proc", "sys", "dev", "run", "tmp", "etc", "usr/bin", "data"] {
        create(&root.join(dir));
    }
    let actor = root.join("actor");
    drop(fs::remove_file(&actor));
    if let Err(error) = fs::copy(format!("{JOB}/actor"), actor) {
        fail(&format!("copying the actor: {error}"));
    }
    let mut command = Command::new("ctr");
    command.arg("run").args(options).arg("--rootfs");
    for (key, value) in labels {
        command.args(["--label", &format!("{key}={value}")]);
    }
    command.arg(root).arg(name).args(argv);
    command
}

/// Runs `ctr` for what need not succeed.
fn ctr(args: &[&str]) {
    let mut command = Command::new("ctr");
    command
        .args(args)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    drop(command.status());
}
