// SPDX-License-Identifier: Apache-2.0
//! A Kubernetes cluster of real components: the control plane on this machine, one node in the
//! virtual machine.
//!
//! `cargo xtask cluster` is for people and scripts, `cargo xtask test --cluster` for
//! `vmtest/tests/cluster.rs`. The guest's side is `vmtest/guest/node`, which starts containerd and the
//! kubelet; pods have the node's network, and images are made on the spot. Nothing outlives this
//! process: not the control plane, not its directory, not the emulator.
//!
//! A test asks for what it cannot do from within the guest by a line on the console: [`Request`].

mod certificates;
mod control_plane;
mod programs;
mod tunnel;

use crate::vm::{self, Job, Kernel, Line, Outcome, Suite, Vm, now};
use crate::{command, print};
use anyhow::{Context as _, Result, bail};
use control_plane::ControlPlane;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// The node's name, which is the guest's host name.
const NODE: &str = "gorget-vm";

/// containerd of this release asks by NRI before it starts containers.
pub(crate) const USER_SPACE: Suite = Suite::Trixie;
pub(crate) const KERNEL: Kernel = Kernel::V6_12;
/// The kubelet, containerd, the agent and some pods.
pub(crate) const MEMORY: &str = "2G";

/// All tests, under emulation on a busy machine.
const TESTS: Duration = Duration::from_secs(3600);
/// From switching on to a node that is ready.
const NODE_READY: Duration = Duration::from_secs(600);
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// What the guest asks for, and says.
const REQUEST: &str = "GORGET-CLUSTER ";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request {
    StopApiServer,
    StartApiServer,
}

impl Request {
    fn of(line: &str) -> Option<Self> {
        match line.strip_prefix(REQUEST)? {
            "stop-api-server" => Some(Self::StopApiServer),
            "start-api-server" => Some(Self::StartApiServer),
            _ => None,
        }
    }
}

/// Runs a command on the node of a new cluster; gives what became of the guest.
pub(crate) fn test(files: Vec<(String, PathBuf)>, command: &str) -> Result<Outcome> {
    let programs = programs::find_all()?;
    let kubelet = programs.kubelet.clone();
    let mut control_plane = ControlPlane::start(programs)?;
    let mut job = node_job(&control_plane, &kubelet, command);
    job.files.extend(files);
    let mut trouble = None;
    let node = Vm {
        kernel: KERNEL,
        user_space: USER_SPACE,
        memory: MEMORY.to_owned(),
        timeout: TESTS,
        network: control_plane.network(),
        ..Vm::default()
    };
    let outcome = vm::run(&node, &job, &mut |line| {
        print(line);
        let Line::Output(text) = line else { return };
        let done = match Request::of(text) {
            Some(Request::StopApiServer) => {
                control_plane.stop_api_server();
                Ok(())
            }
            Some(Request::StartApiServer) => control_plane.start_api_server(),
            None => Ok(()),
        };
        if let Err(error) = done {
            trouble.get_or_insert(error);
        }
    })?;
    match trouble {
        Some(error) => Err(error),
        None => control_plane.check().map(|()| outcome),
    }
}

/// Starts a cluster and runs a command, or waits for the end of the virtual machine.
pub(crate) fn run(node: Vm, files: Vec<(String, PathBuf)>, words: &[String]) -> Result<u8> {
    let programs = programs::find_all()?;
    let kubelet = programs.kubelet.clone();
    let began = now();
    let mut control_plane = ControlPlane::start(programs)?;
    println!(
        "the API server is ready after {} s",
        began.elapsed().as_secs()
    );
    let mut job = node_job(&control_plane, &kubelet, "exec tail -f /dev/null");
    job.files.extend(files);
    let node = Vm {
        network: control_plane.network(),
        ..node
    };
    let guest = in_background(node, job);
    let began = now();
    wait_for_node(&mut control_plane, &guest)?;
    println!("the node is ready after {} s", began.elapsed().as_secs());
    let kubeconfig = control_plane.kubeconfig();
    let [program, arguments @ ..] = words else {
        println!("export KUBECONFIG={}", kubeconfig.display());
        println!("interrupt (Ctrl-C) to end it");
        let ended = guest
            .recv()
            .context("the virtual machine's thread ended")??;
        bail!("the virtual machine ended: {:?}", ended.ending);
    };
    let status = command::new(program)
        .args(arguments)
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::inherit())
        .status()
        .with_context(|| format!("cannot run `{program}`"))?;
    control_plane.check()?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    code.with_context(|| format!("`{program}` ended ({status})"))
}

/// Makes the guest a node, then runs `command`.
fn node_job(control_plane: &ControlPlane, kubelet: &Path, command: &str) -> Job {
    Job {
        files: vec![
            ("node".to_owned(), PathBuf::from("vmtest/guest/node")),
            ("cluster".to_owned(), control_plane.for_guest()),
            ("kubelet".to_owned(), kubelet.to_owned()),
        ],
        command: format!("sh ./node && {{ {command}; }}"),
        output: None,
    }
}

/// The machine ends with this process; its thread only passes on what became of it.
fn in_background(node: Vm, job: Job) -> Receiver<Result<Outcome>> {
    let node = Vm {
        // Until somebody interrupts it.
        timeout: Duration::from_secs(7 * 24 * 3600),
        ..node
    };
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // Nobody listens any more when this process ends.
        drop(sender.send(vm::run(&node, &job, &mut print)));
    });
    receiver
}

/// Waits until the API server shows the node as ready.
fn wait_for_node(
    control_plane: &mut ControlPlane,
    guest: &Receiver<Result<Outcome>>,
) -> Result<()> {
    let deadline = now() + NODE_READY;
    loop {
        control_plane.check()?;
        let node = control_plane.get(&format!("/api/v1/nodes/{NODE}"));
        if node.as_ref().is_ok_and(|text| is_ready(text)) {
            return Ok(());
        }
        if now() > deadline {
            bail!("the node is not ready after {} s", NODE_READY.as_secs());
        }
        match guest.recv_timeout(BETWEEN_LOOKS) {
            Ok(ended) => bail!("the virtual machine ended: {:?}", ended?.ending),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => bail!("the virtual machine's thread ended"),
        }
    }
}

fn is_ready(node: &str) -> bool {
    let Ok(node) = serde_json::from_str::<serde_json::Value>(node) else {
        return false;
    };
    let conditions = node.pointer("/status/conditions");
    let conditions = conditions.and_then(|list| list.as_array());
    conditions.into_iter().flatten().any(|condition| {
        let is = |key: &str, value: &str| condition.get(key).is_some_and(|found| found == value);
        is("type", "Ready") && is("status", "True")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_a_whole_line_that_is_known() {
        let of = |word: &str| Request::of(&format!("{REQUEST}{word}"));
        assert_eq!(of("stop-api-server"), Some(Request::StopApiServer));
        assert_eq!(of("start-api-server"), Some(Request::StartApiServer));
        assert_eq!(of("stop-the-world"), None);
        assert_eq!(Request::of("stop-api-server"), None);
    }

    #[test]
    fn a_node_is_ready_when_it_says_so() {
        let node = |status: &str| {
            format!(
                r#"{{"status": {{"conditions": [{{"type": "MemoryPressure", "status": "False"}},
                    {{"type": "Ready", "status": "{status}"}}]}}}}"#
            )
        };
        assert!(is_ready(&node("True")));
        assert!(!is_ready(&node("False")));
        assert!(!is_ready("{}"));
        assert!(!is_ready("not found"));
    }
}
