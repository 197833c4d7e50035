// SPDX-License-Identifier: Apache-2.0
//! Nobody ends or blinds what enforces but the agent itself: bypass b20, tried as root on the host.
#![cfg(test)]
#![expect(
    clippy::disallowed_methods,
    reason = "unmounts with the system's program"
)]

use gorget_vmtest::{Agent, alert_field, uninstall};
use libbpf_rs::{Link, MapCore as _, MapFlags, MapHandle};
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Command;

const ROOT: &str = "/sys/fs/bpf/gorget";
const POLICY: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\n\
    metadata: {name: guard}\nspec:\n  nodeSelector: {matchLabels: {kubernetes.io/hostname: gorget}}\n  \
    file: {matchPaths: [{path: /tmp/guarded}]}\n";

fn start(protection: &str) -> Agent {
    // Earlier agents may guard it already.
    if !fs::exists("/tmp/guarded").unwrap() {
        fs::write("/tmp/guarded", "").unwrap();
    }
    let config = format!("host: gorget\nselfProtection: {protection}\n");
    Agent::start_with(&config, &[("p.yaml", POLICY)])
}

/// What is pinned, below `links` or `maps`.
fn pin(kind: &str, name: &str) -> PathBuf {
    let programs = fs::read_dir(ROOT).unwrap().next().unwrap().unwrap();
    programs.path().join(kind).join(name)
}

fn is_denied<T>(result: libbpf_rs::Result<T>) -> bool {
    result.is_err_and(|error| error.kind() == libbpf_rs::ErrorKind::PermissionDenied)
}

fn still_enforces() -> bool {
    File::open("/tmp/guarded").is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

/// The next alert is about an attempt at `hook`.
fn is_told(agent: &mut Agent, hook: &str, action: &str) {
    let alert = agent.next_alert();
    assert_eq!(alert_field(&alert, "PolicyName"), "SelfProtection");
    assert_eq!(alert_field(&alert, "Data"), format!("lsm={hook}"));
    assert_eq!(alert_field(&alert, "Action"), action);
}

fn signal(agent: &Agent, signal: Signal) -> rustix::io::Result<()> {
    let pid = i32::try_from(agent.pid()).ok().and_then(Pid::from_raw);
    kill_process(pid.unwrap(), signal)
}

#[test]
fn b20_the_agent_is_neither_signalled_nor_traced() {
    let mut agent = start("block");
    for number in [Signal::KILL, Signal::TERM, Signal::STOP] {
        assert_eq!(signal(&agent, number), Err(rustix::io::Errno::ACCESS));
        is_told(&mut agent, "TASK_KILL", "Block");
    }
    let memory = format!("/proc/{}/mem", agent.pid());
    let opened = OpenOptions::new().write(true).open(memory);
    assert!(opened.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied));
    is_told(&mut agent, "PTRACE_ACCESS_CHECK", "Block");
    assert!(still_enforces());
}

#[test]
fn b20_nothing_that_is_pinned_is_removed_moved_or_unmounted() {
    let mut agent = start("block");
    let denied = |result: std::io::Result<()>| {
        result.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
    };
    assert!(denied(fs::remove_file(pin("links", "file_open"))));
    is_told(&mut agent, "FILE_UNLINK", "Block");
    assert!(denied(fs::remove_file(pin("maps", "workloads"))));
    is_told(&mut agent, "FILE_UNLINK", "Block");
    assert!(denied(fs::rename(ROOT, "/sys/fs/bpf/other")));
    is_told(&mut agent, "FILE_UNLINK", "Block");
    let unmounted = Command::new("umount").arg("/sys/fs/bpf").status().unwrap();
    assert!(!unmounted.success());
    is_told(&mut agent, "FILE_UNLINK", "Block");
    assert!(still_enforces());
}

#[test]
fn b20_no_table_is_written_and_no_program_detached() {
    let mut agent = start("block");
    assert!(is_denied(MapHandle::from_pinned_path(pin(
        "maps",
        "workloads"
    ))));
    is_told(&mut agent, "BPF_MAP", "Block");
    let (mut denied, mut frozen) = (0, 0);
    // Ids count from 1, and earlier tests have used many.
    for table in (1..100_000).map(MapHandle::from_map_id) {
        match table {
            // Whoever may open a table of rules cannot write it either.
            Ok(table) if table.name() == "ruleset" => {
                let value = vec![0; usize::try_from(table.value_size()).unwrap()];
                assert!(is_denied(table.update(&[0; 4], &value, MapFlags::ANY)));
                frozen += 1;
            }
            Err(error) if error.kind() == libbpf_rs::ErrorKind::PermissionDenied => {
                is_told(&mut agent, "BPF_MAP", "Block");
                denied += 1;
            }
            Ok(_) | Err(_) => {}
        }
    }
    assert!(denied > 15 && frozen == 1, "{denied} {frozen}");
    let link = Link::open(pin("links", "dns_egress")).unwrap();
    assert!(is_denied(link.detach()));
    is_told(&mut agent, "BPF", "Block");
    assert!(still_enforces());
}

#[test]
fn b20_the_agents_own_programs_end_it_and_remove_what_it_left() {
    let agent = start("block");
    assert!(agent.told_to_stop().success());
    assert!(still_enforces());
    // The next agent takes over, whatever its name.
    assert!(start("block").told_to_stop().success());
    uninstall();
    assert!(!still_enforces());
}

#[test]
fn b20_what_is_only_reported_happens_and_is_told() {
    let mut agent = start("audit");
    let memory = format!("/proc/{}/mem", agent.pid());
    drop(OpenOptions::new().write(true).open(memory).unwrap());
    is_told(&mut agent, "PTRACE_ACCESS_CHECK", "Audit (Block)");
    assert_eq!(signal(&agent, Signal::CONT), Ok(()));
    is_told(&mut agent, "TASK_KILL", "Audit (Block)");
}
