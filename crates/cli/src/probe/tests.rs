// SPDX-License-Identifier: Apache-2.0
//! Machines that are written down, and their screens, which are in `testdata/probe`.

use super::facts::{
    AppArmor, Config, Facts, Found, Hooks, Kernel, Mounts, Runtime, RuntimeKind, Trying,
};
use super::judge::{Means, Report, Verdict, judge};
use super::{gather, json, text};
use crate::render::{Color, Painter};
use expect_test::expect_file;
use gorget_telemetry::tried::{Feature, Outcome, Tried};
use std::collections::BTreeMap;
use unicode_width::UnicodeWidthStr as _;

const LSM_PROGRAMS: &str = "programs at the hooks of security modules";

fn feature(name: &str, since: &str, used_for: &str) -> Feature {
    Feature {
        name: name.to_owned(),
        since: since.to_owned(),
        used_for: used_for.to_owned(),
        only_to_enforce: name == LSM_PROGRAMS,
        outcome: Outcome::Works,
    }
}

/// As `gorgetd --probe` has them.
fn tried() -> Tried {
    Tried {
        features: vec![
            feature(LSM_PROGRAMS, "5.7", "every decision"),
            feature(
                "programs at kernel functions",
                "5.5",
                "alerts about names that are looked up",
            ),
            feature("ring buffers", "5.8", "alerts"),
            feature(
                "task storage",
                "5.11",
                "who a task is, memory to build paths in",
            ),
            feature("`bpf_loop`", "5.17", "paths of any depth and length"),
        ],
        attach: Outcome::Works,
    }
}

fn modules(names: &str) -> Found<Vec<String>> {
    Found::Is(names.split(',').map(str::to_owned).collect())
}

/// A server with Docker, asked by root.
fn server() -> Facts {
    let option = |name: &str| (name.to_owned(), "y".to_owned());
    Facts {
        host: "web-1".to_owned(),
        uid: 0,
        kernel: Kernel {
            release: "6.12.117+deb13-amd64".to_owned(),
            machine: "x86_64".to_owned(),
            config: Found::Is(Config {
                file: "/boot/config-6.12.117+deb13-amd64".to_owned(),
                options: gather::OPTIONS.into_iter().map(option).collect(),
            }),
            lsm_parameter: None,
        },
        modules: modules("lockdown,capability,landlock,yama,apparmor,bpf"),
        lockdown: Found::Is("none".to_owned()),
        btf: Found::Is(()),
        tried: Trying::Done(tried()),
        mounts: Mounts {
            cgroup2: Some("/sys/fs/cgroup".to_owned()),
            cgroup1: false,
            bpffs: Some("/sys/fs/bpf".to_owned()),
            tracefs: Some("/sys/kernel/tracing".to_owned()),
            securityfs: Some("/sys/kernel/security".to_owned()),
        },
        unified: Found::Is(()),
        seccomp: Found::Is(vec!["kill_process".to_owned(), "allow".to_owned()]),
        apparmor: AppArmor {
            enabled: Found::Is(true),
            parser: Some("/usr/sbin/apparmor_parser".to_owned()),
        },
        ima: Found::Is(()),
        selinux: Found::Absent,
        runtimes: vec![
            Runtime {
                kind: RuntimeKind::Docker,
                socket: "/run/docker.sock".to_owned(),
                version: Found::Is("27.5.1".to_owned()),
            },
            Runtime {
                kind: RuntimeKind::Containerd,
                socket: "/run/containerd/containerd.sock".to_owned(),
                version: Found::Is("1.7.24".to_owned()),
            },
        ],
        hooks: Hooks {
            program: Some("/usr/bin/gorget-hook".to_owned()),
            directory: false,
            nri: Some("/var/run/nri/nri.sock".to_owned()),
            wrapped: vec![RuntimeKind::Docker],
            obstacles: BTreeMap::new(),
        },
    }
}

fn without_bpf() -> Facts {
    let mut tried = tried();
    tried.attach = Outcome::NotTried("`bpf` is not an active security module".to_owned());
    Facts {
        modules: modules("capability,landlock,yama,tomoyo"),
        tried: Trying::Done(tried),
        apparmor: AppArmor {
            enabled: Found::Absent,
            parser: None,
        },
        runtimes: Vec::new(),
        hooks: Hooks::default(),
        ..server()
    }
}

fn of_a_user() -> Facts {
    let refused = || Found::Refused("Permission denied (os error 13)".to_owned());
    let mut facts = server();
    facts.uid = 1000;
    facts.tried = Trying::Not("only root may load programs into the kernel".to_owned());
    for runtime in &mut facts.runtimes {
        runtime.version = refused();
    }
    facts
}

fn locked_down() -> Facts {
    Facts {
        lockdown: Found::Is("confidentiality".to_owned()),
        runtimes: vec![Runtime {
            kind: RuntimeKind::Podman,
            socket: "/run/podman/podman.sock".to_owned(),
            version: Found::Is("5.4.0".to_owned()),
        }],
        ..server()
    }
}

fn screen(facts: &Facts) -> (Report, String) {
    let report = judge(facts);
    let screen = text::screen(facts, &report, Painter::stdout(Color::Never));
    for line in screen.lines() {
        assert!(line.width() <= 80, "{line}");
        assert!(!line.ends_with(' '), "{line:?}");
    }
    (report, screen)
}

#[test]
fn a_machine_with_bpf_among_its_security_modules_can_enforce_everything() {
    let (report, screen) = screen(&server());
    assert_eq!(
        (report.verdict, report.means),
        (Verdict::Full, Means::Bpf),
        "{screen}"
    );
    expect_file!["../../testdata/probe/bpf.txt"].assert_eq(&screen);
}

#[test]
fn a_kernel_without_bpf_among_its_modules_only_reports_and_the_line_to_add_is_said() {
    let (report, screen) = screen(&without_bpf());
    assert_eq!(
        (report.verdict, report.means, report.complete),
        (Verdict::Degraded, Means::AuditOnly, true)
    );
    assert!(
        report
            .next
            .first()
            .is_some_and(|step| step.contains("`lsm=landlock,yama,tomoyo,bpf`")),
        "{report:?}"
    );
    expect_file!["../../testdata/probe/without-bpf.txt"].assert_eq(&screen);
}

#[test]
fn a_user_who_is_not_root_learns_what_could_not_be_tried() {
    let (report, screen) = screen(&of_a_user());
    assert_eq!(
        (report.verdict, report.complete),
        (Verdict::Degraded, false)
    );
    expect_file!["../../testdata/probe/user.txt"].assert_eq(&screen);
}

#[test]
fn a_machine_that_is_locked_down_for_confidentiality_cannot_run_the_agent() {
    let (report, screen) = screen(&locked_down());
    assert_eq!(
        (report.verdict, report.means),
        (Verdict::Impossible, Means::Nothing)
    );
    expect_file!["../../testdata/probe/lockdown.txt"].assert_eq(&screen);
}

#[test]
fn apparmor_enforces_where_bpf_is_not_active() {
    let facts = Facts {
        modules: modules("capability,apparmor"),
        ..without_bpf()
    };
    assert_eq!(judge(&facts).means, Means::AuditOnly);
    let facts = Facts {
        apparmor: server().apparmor,
        ..facts
    };
    let report = judge(&facts);
    assert_eq!(
        (report.verdict, report.means),
        (Verdict::Degraded, Means::Apparmor)
    );
}

#[test]
fn what_was_tried_counts_more_than_the_version() {
    let old = |tried| {
        let mut facts = server();
        facts.kernel.release = "5.14.0-503.el9.x86_64".to_owned();
        judge(&Facts { tried, ..facts }).verdict
    };
    assert_eq!(old(Trying::Done(tried())), Verdict::Full);
    assert_eq!(old(Trying::Not("why".to_owned())), Verdict::Impossible);
    let mut lacking = tried();
    lacking.features[4].outcome = Outcome::Lacking;
    assert_eq!(old(Trying::Done(lacking)), Verdict::Impossible);
}

#[test]
fn a_kernel_that_refuses_programs_at_hooks_only_reports() {
    let mut tried = tried();
    tried.features[0].outcome = Outcome::Refused("Operation not permitted".to_owned());
    tried.attach = Outcome::NotTried("this kernel refuses them".to_owned());
    let report = judge(&Facts {
        tried: Trying::Done(tried),
        apparmor: without_bpf().apparmor,
        ..server()
    });
    assert_eq!(report.means, Means::AuditOnly);
    assert!(report.complete);
}

#[test]
fn control_groups_of_version_1_make_the_agent_impossible() {
    let mut facts = server();
    facts.unified = Found::Absent;
    facts.mounts.cgroup1 = true;
    facts.mounts.cgroup2 = Some("/sys/fs/cgroup/unified".to_owned());
    assert_eq!(judge(&facts).verdict, Verdict::Impossible);
}

#[test]
fn the_same_is_there_as_json() {
    for facts in [server(), without_bpf(), of_a_user(), locked_down()] {
        let report = judge(&facts);
        let json: serde_json::Value =
            serde_json::from_str(&json(&facts, &report).unwrap()).unwrap();
        let checks = json["checks"].as_array().unwrap();
        assert_eq!(checks.len(), report.checks.len());
        assert!(json["verdict"].is_string() && json["facts"]["kernel"]["release"].is_string());
        for check in checks {
            let (status, lost) = (check["status"].as_str().unwrap(), &check["lost"]);
            assert_eq!(status == "missing", !lost.is_null(), "{check}");
        }
    }
}

#[test]
fn everything_that_is_missing_says_how_to_get_it() {
    let mut nothing = server();
    nothing.kernel.release = "4.19.0".to_owned();
    nothing.kernel.machine = "riscv64".to_owned();
    nothing.kernel.config = Found::Is(Config {
        file: "/proc/config.gz".to_owned(),
        options: BTreeMap::new(),
    });
    nothing.modules = Found::Absent;
    nothing.btf = Found::Absent;
    nothing.unified = Found::Absent;
    nothing.mounts = Mounts::default();
    let mut tried = tried();
    for feature in &mut tried.features {
        feature.outcome = Outcome::Lacking;
    }
    tried.attach = Outcome::Refused("no".to_owned());
    nothing.tried = Trying::Done(tried);
    let (report, _) = screen(&nothing);
    assert_eq!(report.verdict, Verdict::Impossible);
    let missing = report
        .checks
        .iter()
        .filter(|check| check.status == super::judge::Status::Missing);
    let missing: Vec<_> = missing.collect();
    assert!(missing.len() > 10, "{missing:?}");
    for check in missing {
        assert!(check.lost.is_some() && check.remedy.is_some(), "{check:?}");
    }
}

#[test]
fn a_new_kernel_that_lacks_something_is_not_told_to_be_newer() {
    let remedy = |release: &str| {
        let mut facts = server();
        let mut lacking = tried();
        lacking.features[4].outcome = Outcome::Lacking;
        facts.tried = Trying::Done(lacking);
        facts.kernel.release = release.to_owned();
        judge(&facts).next[0].clone()
    };
    assert_eq!(remedy("5.10.0-32-amd64"), "run Linux 5.17 or newer");
    assert!(remedy("6.18.44").contains("was built with it"));
}
