// SPDX-License-Identifier: Apache-2.0
//! Containers that come and go by the hundred: none is missed, and nothing of them is left.
//!
//! Each reads a file until that is denied, and ends then: a container that the agent missed never
//! does.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "drives containerd's command line tool"
)]

use gorget_vmtest::{Agent, Containerd, TIMEOUT, small_root, times};
use libbpf_rs::query::MapInfoIter;
use libbpf_rs::{MapCore as _, MapHandle};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;

const ROOT: &str = "/var/tmp/churn";
const READ_UNTIL_DENIED: &str = "while busybox cat /data/secret; do :; done";
const AT_ONCE: usize = 3;

fn policy(name: &str, path: &str) -> String {
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{name: {name}}}\n\
         spec:\n  selector: {{matchLabels: {{app: churn}}}}\n  file: {{matchPaths: [{{path: {path}}}]}}\n"
    )
}

/// Runs a container to its end, which comes when it was denied what it tries.
fn run_until_denied(name: &str) {
    let mut container = Command::new("ctr")
        .args(["run", "--rm", "--rootfs", "--label", "app=churn", ROOT])
        .args([name, "/bin/busybox", "sh", "-c", READ_UNTIL_DENIED])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = i32::try_from(container.id()).ok().and_then(Pid::from_raw);
    let process = pidfd_open(pid.unwrap(), PidfdFlags::empty()).unwrap();
    let limit = Timespec::try_from(TIMEOUT).unwrap();
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)).unwrap();
    assert_eq!(ended, 1, "`{name}` was never denied");
    let status = container.wait().unwrap();
    assert!(status.success(), "`{name}`: {status}");
}

/// Runs containers, some at once, and does something after each that ended.
fn churn(containers: usize, mut after_each: impl FnMut(usize)) {
    let next = AtomicUsize::new(0);
    let (tell, told) = channel();
    let mut ended = 0;
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            let (next, tell) = (&next, tell.clone());
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= containers {
                        break;
                    }
                    run_until_denied(&format!("churn-{number}"));
                    tell.send(()).unwrap();
                }
            });
        }
        drop(tell);
        while told.recv().is_ok() {
            ended += 1;
            after_each(ended);
        }
    });
    assert_eq!(ended, containers);
}

/// What the agent and the kernel hold.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    descriptors: usize,
    threads: usize,
    /// All tables of programs on the machine.
    tables: usize,
    workloads: usize,
}

impl Held {
    fn by(agent: &Agent) -> Self {
        let entries = |of: &str| fs::read_dir(format!("/proc/{}/{of}", agent.pid())).unwrap();
        Self {
            descriptors: entries("fd").count(),
            threads: entries("task").count(),
            tables: MapInfoIter::default().count(),
            workloads: bound(),
        }
    }
}

/// How many control groups are workloads.
fn bound() -> usize {
    let programs = fs::read_dir("/sys/fs/bpf/gorget").unwrap().next();
    let pin = programs.unwrap().unwrap().path().join("maps/cgroups");
    MapHandle::from_pinned_path(pin).unwrap().keys().count()
}

/// Memory of the agent that is resident, in KiB.
fn resident(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.unwrap().trim().trim_end_matches(" kB").parse();
    number.unwrap()
}

#[test]
fn containers_by_the_hundred_leave_nothing_behind_while_policies_change() {
    let _containerd = Containerd::start();
    small_root(Path::new(ROOT));
    let secret = policy("secret", "/data/secret");
    let mut agent = Agent::start_with("", &[("secret.yaml", &secret)]);
    // A few different ones, so that some rulesets come back.
    let change = |agent: &mut Agent, version: usize| {
        let other = policy("other", &format!("/data/other-{}", version % 7));
        agent.write_policy("other.yaml", &other);
        agent.wait_for("other.yaml` is in force: other");
    };
    // What is allocated once is allocated by the first.
    churn(15, |ended| change(&mut agent, ended + 3));
    agent.wait_until("the first are released", || bound() == 0);
    let (before, resident_before) = (Held::by(&agent), resident(&agent));

    let containers = times(300);
    churn(containers, |ended| change(&mut agent, ended));
    agent.wait_until("all are released", || bound() == 0);
    agent.wait_until("nothing more is held", {
        let pid = agent.pid();
        let descriptors = before.descriptors;
        move || fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() <= descriptors
    });
    let (after, resident_after) = (Held::by(&agent), resident(&agent));
    println!(
        "{containers} containers, a change of policies after each: {before:?} and {resident_before} KiB \
         before, {after:?} and {resident_after} KiB after"
    );
    assert_eq!(before, after);
    assert!(
        resident_after <= resident_before + resident_before / 10,
        "{resident_before} KiB became {resident_after} KiB"
    );
}

#[test]
fn no_container_is_missed_while_the_agent_is_killed_and_started_again() {
    let _containerd = Containerd::start();
    small_root(Path::new(ROOT));
    let secret = policy("secret", "/data/secret");
    let mut agent = Some(Agent::start_with("", &[("secret.yaml", &secret)]));
    let mut killed = 0;
    churn(45, |ended| {
        if ended / 10 > killed
            && let Some(running) = agent.take()
        {
            running.kill();
            killed += 1;
            agent = Some(Agent::start_again(""));
        }
    });
    assert!(killed >= 3, "it was killed {killed} times");
    let agent = agent.as_mut().unwrap();
    agent.wait_until("all are released", || bound() == 0);
}
