// SPDX-License-Identifier: Apache-2.0
//! What profiles look like.
#![cfg(test)]

use expect_test::{Expect, expect};
use gorget_engine::PolicySet;
use gorget_model::{Mode, Posture, Postures};
use gorget_policy::parse;
use gorget_profiles::{Confined, Profile, profile};
use std::sync::Arc;

/// The profile for what is under `spec`.
fn lowered(posture: Posture, spec: &str) -> Profile {
    let text = format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\nmetadata: {{ name: p }}\n\
         spec:\n  selector: {{ matchLabels: {{ kubearmor.io/container.name: web }} }}\n{spec}"
    );
    let parsed = parse("p.yaml", &text);
    assert_eq!(parsed.policies.len(), 1, "{:?}", parsed.problems);
    let policies = parsed.policies.into_iter().map(Arc::new).collect();
    profile(&Confined {
        name: "kubearmor_web",
        set: &PolicySet::new(policies, Postures::all(posture)),
        mode: Mode::Enforced,
        entry: None,
        parts: &[],
        log: false,
    })
    .unwrap()
}

/// Compares it, without what is always there, and its limits.
fn check(posture: Posture, spec: &str, expected: &Expect) {
    let written = lowered(posture, spec);
    const ALWAYS: [&str; 8] = [
        "mount,",
        "remount,",
        "umount,",
        "pivot_root,",
        "ptrace,",
        "signal,",
        "dbus,",
        "unix,",
    ];
    let mut shown: Vec<String> = written
        .text
        .lines()
        .filter(|line| !ALWAYS.contains(&line.trim()) && !line.ends_with("no rule is about."))
        .map(str::to_owned)
        .collect();
    shown.extend(written.limits.iter().map(ToString::to_string));
    expected.assert_eq(&shown.join("\n"));
}

#[test]
fn blocked_objects_are_denied() {
    check(
        Posture::Audit,
        "  file:
    matchPaths: [ { path: /etc/shadow }, { path: /etc/hosts, readOnly: true } ]
    matchDirectories: [ { dir: /data/, recursive: true, ownerOnly: true } ]
    matchPatterns: [ { pattern: '/srv/**/*.{key,pem}' } ]
  process:
    matchPaths: [ { path: /usr/bin/apt }, { execname: nc } ]
  network: { matchProtocols: [ { protocol: raw } ] }
  capabilities: { matchCapabilities: [ { capability: sys_admin } ] }
",
        &expect![[r#"
            # Managed by Gorget. Changes are lost: they belong into policies.
            profile kubearmor_web flags=(attach_disconnected,mediate_deleted) {
              # Capabilities.
              capability,
              deny capability sys_admin,
              # Sockets.
              network,
              deny network inet raw,
              deny network inet6 raw,
              deny network packet raw,
              # Files.
              /{,**} mk,
              /{,**} rwl,
              deny / wl,
              deny other /data/** rwl,
              deny other /data{,/} rwl,
              deny /etc/ wl,
              deny /etc/hosts{,/} wl,
              deny /etc/shadow{,/} rwl,
              deny /srv/ wl,
              deny /srv/**/*.key{,/} rwl,
              deny /srv/**/*.pem{,/} rwl,
              deny /usr/ wl,
              deny /usr/bin/ wl,
              deny /usr/bin/apt m,
              deny /usr/bin/apt/ wl,
              # Programs.
              /** ix,
              deny /nc x,
              deny /usr/bin/apt x,
              deny /**/nc x,
            }"#]],
    );
}

#[test]
fn local_sockets_are_denied_with_all_others() {
    let written = lowered(
        Posture::Audit,
        "  network: { matchProtocols: [ { protocol: all } ] }\n",
    );
    let mut lines = written.text.lines().map(str::trim);
    assert!(!lines.any(|line| line.starts_with("network") || line == "unix,"));
}

#[test]
fn an_allow_list_denies_the_rest() {
    check(
        Posture::Block,
        "  action: Allow
  file: { matchDirectories: [ { dir: /app/, recursive: true }, { dir: /lib/ } ] }
  process: { matchPaths: [ { path: /app/run } ] }
  network: { matchProtocols: [ { protocol: udp } ] }
  capabilities: { matchCapabilities: [ { capability: chown } ] }
",
        &expect![[r#"
            # Managed by Gorget. Changes are lost: they belong into policies.
            profile kubearmor_web flags=(attach_disconnected,mediate_deleted) {
              # Capabilities.
              capability chown,
              # Sockets.
              network inet dgram,
              network inet6 dgram,
              network unix,
              network netlink,
              # Files.
              /{,**} mk,
              /app/** rwl,
              /app{,/} rwl,
              /lib/?*{,/} rwl,
              /lib{,/} rwl,
              deny /app/ wl,
              # Programs.
              /app/run ix,
            }
            p.yaml:9:32: policy `p`, protocol: a profile tells sockets apart by family and type, not by protocol"#]],
    );
}

#[test]
fn a_source_has_a_part_of_its_own() {
    check(
        Posture::Audit,
        "  file:
    matchPaths:
    - { path: /run/token, action: Block }
    - { path: /run/token, action: Allow, fromSource: [ { path: /bin/vault } ] }
",
        &expect![[r#"
            # Managed by Gorget. Changes are lost: they belong into policies.
            profile kubearmor_web flags=(attach_disconnected,mediate_deleted) {
              # Capabilities.
              capability,
              # Sockets.
              network,
              # Files.
              /{,**} mk,
              /{,**} rwl,
              deny / wl,
              deny /run/ wl,
              deny /run/token{,/} rwl,
              # Programs.
              /** ix,
              /bin/vault px -> kubearmor_web//bin_vault-4a9bb2f8,

              # /bin/vault
              profile bin_vault-4a9bb2f8 flags=(attach_disconnected,mediate_deleted) {
                # Capabilities.
                capability,
                # Sockets.
                network,
                # Files.
                /{,**} mk,
                /{,**} rwl,
                # Programs.
                /** px -> kubearmor_web,
                /bin/vault ix,
              }
            }"#]],
    );
}

#[test]
fn what_cannot_be_said_is_listed() {
    check(
        Posture::Audit,
        "  process: { matchPaths: [ { path: /bin/a, allowedArgs: [-x] }, { path: /bin/b, pts: false } ] }
  network:
    matchProtocols: [ { protocol: icmp } ]
    matchDNSQueries: [ { domain: example.com } ]
  syscalls: { matchSyscalls: [ { syscall: [unlink] } ] }
  presets: [ { name: filelessExec } ]
  apparmor: |
    deny /etc/hosts r,
",
        &expect![[r#"
            # Managed by Gorget. Changes are lost: they belong into policies.
            profile kubearmor_web flags=(attach_disconnected,mediate_deleted) {
              # Capabilities.
              capability,
              # Sockets.
              network,
              deny network inet raw,
              # Files.
              /{,**} mk,
              /{,**} rwl,
              deny / wl,
              deny /bin/ wl,
              deny /bin/a/ wl,
              deny /bin/b/ wl,
              # Programs.
              /** ix,
              # In AppArmor's own language.
              deny /etc/hosts r,
            }
            p.yaml:10:32: policy `default/p`, rules about system calls: a profile does not see system calls
            p.yaml:11:14: policy `default/p`, presets: a profile cannot describe them
            p.yaml:6:28: policy `default/p`, rules with `allowedArgs`: a profile does not see arguments
            p.yaml:6:65: policy `default/p`, rules with `pts`: a profile does not know about terminals
            p.yaml:9:24: policy `default/p`, rules about DNS queries: a profile does not see what is sent
            p.yaml:8:23: policy `p`, protocol: a profile tells sockets apart by family and type, not by protocol"#]],
    );
}
