// SPDX-License-Identifier: Apache-2.0
//! What the files in `testdata/` give.
//!
//! Each `.yaml` has an `.expected` beside it: its policies and rules with everything inherited filled
//! in, then its problems. After a wanted change: `UPDATE_EXPECT=1 cargo test -p gorget-policy`.
#![cfg(test)]

use expect_test::expect_file;
use gorget_policy::{
    DeviceMatcher, Modifiers, NetworkRule, NetworkTarget, ObjectMatcher, Parsed, Rule, Selector,
    Source, parse,
};
use std::fmt::Write as _;

fn check(name: &str) -> Parsed {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/testdata");
    let text = std::fs::read_to_string(format!("{directory}/{name}.yaml")).unwrap();
    let parsed = parse(&format!("{name}.yaml"), &text);
    expect_file![format!("{directory}/{name}.expected")].assert_eq(&shown(&parsed));
    parsed
}

fn shown(parsed: &Parsed) -> String {
    let mut out = String::new();
    for policy in &parsed.policies {
        writeln!(out, "{:?} policy {}", policy.kind, policy.qualified_name()).unwrap();
        out.push_str(&shown_selector(&policy.selector));
        for rule in &policy.rules {
            writeln!(out, "  {}", shown_rule(rule)).unwrap();
        }
        if !policy.native_apparmor.is_empty() {
            writeln!(out, "  apparmor {:?}", policy.native_apparmor).unwrap();
        }
    }
    for policy in &parsed.network_policies {
        let (target, selector) = match &policy.target {
            NetworkTarget::Hosts(selector) => ("hosts", selector),
            NetworkTarget::Pods(selector) => ("pods", selector),
        };
        let scope = policy.quota_scope;
        writeln!(
            out,
            "Network policy {} for {target}, quota by {scope:?}",
            policy.name
        )
        .unwrap();
        out.push_str(&shown_selector(selector));
        for rule in &policy.rules {
            writeln!(out, "  {}", shown_network_rule(rule)).unwrap();
        }
    }
    for problem in &parsed.problems {
        writeln!(out, "{problem}").unwrap();
    }
    out
}

fn shown_selector(selector: &Selector) -> String {
    let Selector {
        labels,
        container_names,
        container_expression,
        images,
        host_expressions,
        expressions,
    } = selector;
    let mut out = String::new();
    for (key, value) in labels {
        writeln!(out, "  label {key}={value}").unwrap();
    }
    if !container_names.is_empty() {
        writeln!(out, "  containers {container_names:?}").unwrap();
    }
    if !images.is_empty() {
        writeln!(out, "  images {images:?}").unwrap();
    }
    for expression in container_expression.iter().chain(host_expressions) {
        writeln!(out, "  name {:?}", expression.as_str()).unwrap();
    }
    for expression in expressions {
        writeln!(out, "  {:?} {:?}", expression.operator, expression.values).unwrap();
    }
    out
}

fn shown_network_rule(rule: &NetworkRule) -> String {
    let NetworkRule {
        direction,
        peers,
        interfaces,
        ports,
        quota,
        action,
        severity,
        tags,
        message,
        at,
        last_line,
    } = rule;
    let mut out = format!("{at}-{last_line}: {action:?} {direction:?}");
    for peer in peers {
        write!(out, " {}/{}", peer.first, peer.prefix).unwrap();
    }
    for interface in interfaces {
        write!(out, " {interface}").unwrap();
    }
    for port in ports {
        write!(out, " {:?} {}-{}", port.transport, port.first, port.last).unwrap();
    }
    if let Some(quota) = quota {
        write!(out, " {quota:?}").unwrap();
    }
    write!(
        out,
        " severity={severity:?} tags={tags:?} message={message:?}"
    )
    .unwrap();
    out
}

fn shown_rule(rule: &Rule) -> String {
    let Rule {
        category,
        object,
        sources,
        modifiers,
        allowed_arguments,
        action,
        severity,
        tags,
        message,
        at,
        last_line,
    } = rule;
    let sources: Vec<String> = sources
        .iter()
        .map(|source| match source {
            Source::Path(path) => path.clone(),
            Source::Directory { dir, recursive } => shown_directory(dir, *recursive),
        })
        .collect();
    let Modifiers {
        read_only,
        owner_only,
        no_terminal,
    } = modifiers;
    let mut out = format!(
        "{at}-{last_line}: {action:?} {category} {}",
        shown_object(object)
    );
    for (set, name) in [
        (read_only, "read-only"),
        (owner_only, "owner-only"),
        (no_terminal, "no-terminal"),
    ] {
        if *set {
            write!(out, " {name}").unwrap();
        }
    }
    if !allowed_arguments.is_empty() {
        write!(out, " arguments {allowed_arguments:?}").unwrap();
    }
    if !sources.is_empty() {
        write!(out, " from {sources:?}").unwrap();
    }
    write!(
        out,
        " severity={severity:?} tags={tags:?} message={message:?}"
    )
    .unwrap();
    out
}

fn shown_object(object: &ObjectMatcher) -> String {
    match object {
        ObjectMatcher::Path(path) => format!("path {path}"),
        ObjectMatcher::ExecName(name) => format!("execname {name}"),
        ObjectMatcher::Directory { dir, recursive } => shown_directory(dir, *recursive),
        ObjectMatcher::Pattern(glob) => format!("pattern {}", glob.text),
        ObjectMatcher::Protocol(protocol) => protocol.to_string(),
        ObjectMatcher::Domain(domain) => domain.clone(),
        ObjectMatcher::Capability(capability) => capability.to_string(),
        ObjectMatcher::Syscall(call) => call.to_string(),
        ObjectMatcher::SyscallPath(call, path) => format!("{call} path {path}"),
        ObjectMatcher::SyscallDirectory {
            call,
            dir,
            recursive,
        } => format!("{call} {}", shown_directory(dir, *recursive)),
        ObjectMatcher::Device(device) => {
            let DeviceMatcher {
                class,
                subclass,
                protocol,
                level,
            } = device;
            format!("class={class:?} subclass={subclass:?} protocol={protocol:?} level={level:?}")
        }
        ObjectMatcher::Preset(preset) => preset.to_string(),
    }
}

fn shown_directory(dir: &str, recursive: bool) -> String {
    format!("dir {dir}{}", if recursive { " recursive" } else { "" })
}

#[test]
fn a_lenient_allow_list_is_read() {
    assert_eq!(check("lenient-allow-list").problems, []);
}

#[test]
fn several_documents_are_read() {
    assert_eq!(check("several-documents").policies.len(), 3);
}

#[test]
fn every_field_is_read() {
    assert_eq!(check("every-field").problems, []);
}

#[test]
fn all_mistakes_of_a_file_are_reported() {
    assert_eq!(check("broken").policies.len(), 1);
}
