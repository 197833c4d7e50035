// SPDX-License-Identifier: Apache-2.0
//! Every block but `process` and `file`, whose plain fields `document` tests, and what all have in
//! common: one rule for each object, the lines of a rule, and what is doubtful about two of them.

use crate::{Action, DeviceMatcher, Kind, ObjectMatcher, Policy, Rule, Source, parse};
use gorget_model::{Capability, Category, Preset, Protocol, Syscall};

/// Ends before line 5, which is the first of `spec`.
fn document(kind: Kind, spec: &str) -> String {
    let (kind, selector) = match kind {
        Kind::Container => ("KubeArmorPolicy", ""),
        Kind::Host => (
            "KubeArmorHostPolicy",
            "  nodeSelector: {matchLabels: {a: b}}\n",
        ),
        Kind::Cluster => ("KubeArmorClusterPolicy", ""),
    };
    format!(
        "apiVersion: security.kubearmor.com/v1\nkind: {kind}\nmetadata: {{name: p}}\nspec:\n{spec}{selector}"
    )
}

fn read(kind: Kind, spec: &str) -> (Option<Policy>, Vec<String>) {
    let mut parsed = parse("p.yaml", &document(kind, spec));
    let problems = parsed.problems.iter().map(ToString::to_string).collect();
    (parsed.policies.pop(), problems)
}

fn rules_of(kind: Kind, spec: &str) -> Vec<Rule> {
    let (policy, problems) = read(kind, spec);
    assert_eq!(problems, Vec::<String>::new());
    policy.unwrap().rules
}

fn rules(spec: &str) -> Vec<Rule> {
    rules_of(Kind::Container, spec)
}

fn warned(spec: &str) -> Vec<String> {
    let (policy, problems) = read(Kind::Container, spec);
    assert!(policy.is_some(), "{problems:?}");
    problems
}

fn refused_of(kind: Kind, spec: &str) -> Vec<String> {
    let (policy, problems) = read(kind, spec);
    assert_eq!(policy, None);
    problems
}

fn refused(spec: &str) -> Vec<String> {
    refused_of(Kind::Container, spec)
}

fn objects(rules: &[Rule]) -> Vec<ObjectMatcher> {
    rules.iter().map(|rule| rule.object.clone()).collect()
}

fn capability(name: &str) -> ObjectMatcher {
    ObjectMatcher::Capability(Capability::from_name(name).unwrap())
}

fn call(name: &str) -> Syscall {
    Syscall::from_name(name).unwrap()
}

#[test]
fn protocols_with_commas_are_one_rule_each() {
    let rules = rules(
        "  network:
    severity: 4
    matchProtocols:
    - protocol: tcp, UDP,Raw
      fromSource: [{path: /bin/curl}]
      pts: false
    - {protocol: all, action: Audit}
",
    );
    assert_eq!(
        objects(&rules),
        [Protocol::Tcp, Protocol::Udp, Protocol::Raw, Protocol::All].map(ObjectMatcher::Protocol)
    );
    for rule in &rules[..3] {
        assert_eq!(rule.category, Category::Network);
        assert_eq!((rule.action, rule.severity), (Action::Block, Some(4)));
        assert_eq!(rule.sources, [Source::Path("/bin/curl".to_owned())]);
        assert!(rule.modifiers.no_terminal);
        assert_eq!((rule.at.line, rule.at.column, rule.last_line), (8, 7, 10));
    }
    assert_eq!(rules[3].action, Action::Audit);
    assert_eq!((rules[3].at.line, rules[3].last_line), (11, 11));
}

#[test]
fn every_protocol_is_known() {
    for protocol in Protocol::ALL {
        let read = rules(&format!(
            "  network: {{matchProtocols: [{{protocol: {protocol}}}]}}\n"
        ));
        assert_eq!(objects(&read), [ObjectMatcher::Protocol(protocol)]);
    }
}

#[test]
fn domains_are_lower_case_and_without_a_dot_at_the_end() {
    let rules = rules(
        "  network: {matchDNSQueries: [{domain: 'Example.COM., _srv.b-1.local,x', pts: false, fromSource: [{dir: /opt/}]}]}\n",
    );
    let domain = |text: &str| ObjectMatcher::Domain(text.to_owned());
    assert_eq!(
        objects(&rules),
        [domain("example.com"), domain("_srv.b-1.local"), domain("x")]
    );
    assert_eq!(rules[0].category, Category::Dns);
    assert!(rules[0].modifiers.no_terminal);
    assert_eq!(rules[0].sources.len(), 1);
}

#[test]
fn what_nobody_can_look_up_is_no_domain() {
    let long = format!("{}.example", "x".repeat(64));
    let longest = ["a".repeat(63).as_str(); 4].join(".");
    let entries = [
        "https://a.b",
        "bücher.example",
        ".a",
        "a..b",
        ".",
        &long,
        &longest,
    ];
    let entries: String = entries
        .map(|entry| format!("    - domain: {entry}\n"))
        .concat();
    let shown = refused(&format!("  network:\n    matchDNSQueries:\n{entries}"));
    let reasons: Vec<_> = shown
        .iter()
        .map(|line| line.rsplit_once("` ").unwrap().1)
        .collect();
    let alone = "contains a character that no query contains (write the name alone; letters that \
                 are not ASCII as in `xn--bcher-kva.example`)";
    assert_eq!(reasons.len(), 7, "{shown:?}");
    assert!(shown[0].ends_with(alone), "{}", shown[0]);
    assert!(shown[1].ends_with(alone), "{}", shown[1]);
    for line in &shown[2..5] {
        assert!(line.contains("has an empty label"), "{line}");
    }
    assert_eq!(reasons[5], "has a label of more than 63 bytes");
    assert_eq!(reasons[6], "is longer than 253 bytes");
    assert_eq!(
        warned("  network: {matchDNSQueries: [{domain: '*.a.b'}]}\n"),
        [
            "p.yaml:5:40: warning: spec.network.matchDNSQueries[0].domain: in `*.a.b` the `*` stands \
             for itself (a domain covers everything below it)"
        ]
    );
}

#[test]
fn capabilities_are_known_with_and_without_prefix_in_any_case() {
    let read = rules(
        "  capabilities: {matchCapabilities: [{capability: 'net_raw,CAP_SYS_ADMIN, cap_bpf, Kill'}]}\n",
    );
    assert_eq!(
        objects(&read),
        ["net_raw", "sys_admin", "bpf", "kill"].map(capability)
    );
    assert_eq!(read[0].category, Category::Capability);
    for capability in Capability::all() {
        let read = rules(&format!(
            "  capabilities: {{matchCapabilities: [{{capability: {}}}]}}\n",
            capability.name()
        ));
        assert_eq!(objects(&read), [ObjectMatcher::Capability(capability)]);
    }
}

#[test]
fn unknown_names_are_refused_with_what_is_similar() {
    assert_eq!(
        refused(
            "  network: {matchProtocols: [{protocol: 'tcpp,ipx'}, {protocol: 'tcp,'}, {protocol: ' '}, {}]}
  capabilities: {matchCapabilities: [{capability: cap_netraw}, {capability: everything}]}
  syscalls: {matchSyscalls: [{syscall: [unlnk, Open]}]}
  presets: [{name: fileless}, {action: Audit}]
"
        ),
        [
            "p.yaml:5:41: error: spec.network.matchProtocols[0].protocol: there is no `tcpp` (did \
             you mean `tcp`?)",
            "p.yaml:5:41: error: spec.network.matchProtocols[0].protocol: there is no `ipx` (there \
             are `all`, `tcp`, `udp`, `icmp`, `icmpv6`, `sctp`, `raw`, `stream`, `dgram`, `rdm`, \
             `seqpacket`, `dccp`, `packet`)",
            "p.yaml:5:65: error: spec.network.matchProtocols[1].protocol: `tcp,` has an empty element",
            "p.yaml:5:85: error: spec.network.matchProtocols[2].protocol: is empty",
            "p.yaml:5:91: error: spec.network.matchProtocols[3].protocol: is missing",
            "p.yaml:6:51: error: spec.capabilities.matchCapabilities[0].capability: there is no \
             `cap_netraw` (names are as in the kernel's documentation)",
            "p.yaml:6:77: error: spec.capabilities.matchCapabilities[1].capability: there is no \
             `everything` (names are as in the kernel's documentation)",
            "p.yaml:7:41: error: spec.syscalls.matchSyscalls[0].syscall: there is no `unlnk` (did \
             you mean `unlink`?)",
            "p.yaml:7:48: error: spec.syscalls.matchSyscalls[0].syscall: there is no `Open` (did you \
             mean `open`?)",
            "p.yaml:8:20: error: spec.presets[0].name: there is no `fileless` (there are \
             `anonymousMapExec`, `filelessExec`, `protectEnv`, `protectProc`, `exec`)",
            "p.yaml:8:31: error: spec.presets[1].name: is missing",
        ]
    );
}

#[test]
fn system_calls_are_only_ever_audited() {
    let rules = rules(
        "  action: Block
  message: from spec
  tags: [spec]
  syscalls:
    severity: 6
    matchSyscalls:
    - syscall: [unlink, mount]
      fromSource: [{dir: /usr/bin, recursive: true}, {path: /bin/sh}]
    matchPaths:
    - {path: /etc/, recursive: true, syscall: [unlinkat]}
    - {path: /etc/passwd, syscall: [chown, chmod]}
    - {path: /, syscall: [rmdir]}
",
    );
    let directory = |name, dir: &str, recursive| ObjectMatcher::SyscallDirectory {
        call: call(name),
        dir: dir.to_owned(),
        recursive,
    };
    let path = |name| ObjectMatcher::SyscallPath(call(name), "/etc/passwd".to_owned());
    assert_eq!(
        objects(&rules),
        [
            ObjectMatcher::Syscall(call("unlink")),
            ObjectMatcher::Syscall(call("mount")),
            directory("unlinkat", "/etc/", true),
            path("chown"),
            path("chmod"),
            directory("rmdir", "/", false),
        ]
    );
    for rule in &rules {
        assert_eq!(
            (rule.category, rule.action),
            (Category::Syscall, Action::Audit)
        );
        assert_eq!(
            (rule.severity, rule.message.as_str()),
            (Some(6), "from spec")
        );
        assert_eq!(rule.tags, ["spec"]);
    }
    assert_eq!(
        rules[1].sources,
        [
            Source::Directory {
                dir: "/usr/bin/".to_owned(),
                recursive: true
            },
            Source::Path("/bin/sh".to_owned())
        ]
    );
}

#[test]
fn system_call_rules_have_no_action_of_their_own() {
    let shown = refused(
        "  syscalls:
    action: Block
    matchSyscalls: [{syscall: [mount], severity: 1}]
    matchPaths: [{syscall: [mount]}, {path: etc/, syscall: mount}]
",
    );
    assert_eq!(
        shown,
        [
            "p.yaml:6:5: error: spec.syscalls.action: unknown field `action` (allowed here: \
             `matchSyscalls`, `matchPaths`, `severity`, `tags`, `message`)",
            "p.yaml:7:40: error: spec.syscalls.matchSyscalls[0].severity: unknown field `severity` \
             (allowed here: `syscall`, `fromSource`)",
            "p.yaml:8:18: error: spec.syscalls.matchPaths[0].path: is missing (entries without a path \
             go into `matchSyscalls`)",
            "p.yaml:8:45: error: spec.syscalls.matchPaths[1].path: `etc/` does not begin with `/` \
             (write the absolute path)",
            "p.yaml:8:60: error: spec.syscalls.matchPaths[1].syscall: must be a list, but is the \
             string `mount`",
        ]
    );
}

#[test]
fn a_system_call_rule_that_says_nothing_is_doubtful() {
    assert_eq!(
        warned(
            "  syscalls:
    matchSyscalls: [{syscall: []}, {syscall: [mount]}]
    matchPaths: [{path: /a, syscall: [unlink], recursive: true}]
"
        ),
        [
            "p.yaml:6:21: warning: spec.syscalls.matchSyscalls[0]: names no system call (list calls \
             in `syscall`)",
            "p.yaml:7:25: warning: spec.syscalls.matchPaths[0].path: `/a` is a path, so `recursive` \
             does nothing (for a directory write `/a/`)",
        ]
    );
}

#[test]
fn a_preset_has_its_own_action_and_inherits_the_rest() {
    let rules = rules(
        "  action: Audit
  severity: 3
  presets:
  - {name: filelessExec, action: block}
  - name: protectProc
",
    );
    assert_eq!(
        objects(&rules),
        [Preset::FilelessExec, Preset::ProtectProc].map(ObjectMatcher::Preset)
    );
    assert_eq!(
        (rules[0].action, rules[1].action),
        (Action::Block, Action::Audit)
    );
    assert_eq!(
        (rules[0].severity, rules[0].category),
        (Some(3), Category::Preset)
    );
    for preset in Preset::ALL {
        let read = rules_of(Kind::Cluster, &format!("  presets: [{{name: {preset}}}]\n"));
        assert_eq!(objects(&read), [ObjectMatcher::Preset(preset)]);
        assert_eq!(read[0].action, Action::Block);
    }
}

#[test]
fn allowing_a_preset_is_doubtful() {
    assert_eq!(
        warned("  action: Allow\n  presets: [{name: exec}]\n"),
        [
            "p.yaml:6:13: warning: spec.presets[0]: `Allow` does nothing for a preset (write `action: \
             Block` or `action: Audit`)"
        ]
    );
}

#[test]
fn devices_are_named_by_class() {
    let rules = rules_of(
        Kind::Host,
        "  device:
    action: Allow
    matchDevice:
    - {class: MASS-STORAGE, subClass: 6, protocol: 80, level: 2}
    - class: '0x03'
    - class: \"9\"
      action: Block
    - {class: all}
    - {class: audio/video}
",
    );
    let device = |class, subclass, protocol, level| {
        ObjectMatcher::Device(DeviceMatcher {
            class,
            subclass,
            protocol,
            level,
        })
    };
    assert_eq!(
        objects(&rules),
        [
            device(Some(8), Some(6), Some(80), Some(2)),
            device(Some(3), None, None, None),
            device(Some(9), None, None, None),
            device(None, None, None, None),
            device(Some(16), None, None, None),
        ]
    );
    assert_eq!(rules[0].category, Category::Device);
    assert_eq!(
        (rules[0].action, rules[2].action),
        (Action::Allow, Action::Block)
    );
}

#[test]
fn what_is_no_device_is_refused() {
    let class = "is not a USB class (write a number from 0 to 255, `0x` and hexadecimal digits, a \
                 name such as `MASS-STORAGE`, or `ALL`)";
    let shown = refused_of(
        Kind::Host,
        "  device:
    matchDevice: [{class: '256'}, {class: 0x}, {class: HUBS}, {class: ''}, {class: '+1'}]
",
    );
    assert_eq!(shown.len(), 5);
    for line in shown {
        assert!(line.ends_with(class), "{line}");
    }
    assert_eq!(
        refused_of(
            Kind::Host,
            "  device:
    matchDevice: [{class: 8}, {subClass: 1}, {class: HUB, level: 0, subClass: 256, protocol: '1'}]
"
        ),
        [
            "p.yaml:6:27: error: spec.device.matchDevice[0].class: must be a string, but is the \
             number `8` (quote it: `\"8\"`)",
            "p.yaml:6:31: error: spec.device.matchDevice[1].class: is missing",
            "p.yaml:6:66: error: spec.device.matchDevice[2].level: must be a whole number from 1 to \
             255, but is `0`",
            "p.yaml:6:79: error: spec.device.matchDevice[2].subClass: must be a whole number from 0 \
             to 255, but is `256`",
            "p.yaml:6:94: error: spec.device.matchDevice[2].protocol: must be a whole number from 0 \
             to 255, but is the string `1` (write it without quotes)",
        ]
    );
}

#[test]
fn devices_are_for_hosts_and_presets_for_containers() {
    let unknown = |kind, spec| {
        let shown = refused_of(kind, spec);
        assert_eq!(shown.len(), 1, "{shown:?}");
        shown[0].contains("unknown field")
    };
    assert!(unknown(
        Kind::Container,
        "  device: {matchDevice: [{class: HUB}]}\n"
    ));
    assert!(unknown(
        Kind::Cluster,
        "  device: {matchDevice: [{class: HUB}]}\n"
    ));
    assert!(unknown(Kind::Host, "  presets: [{name: exec}]\n"));
}

#[test]
fn lines_for_apparmor_are_kept_as_they_are() {
    let (policy, problems) = read(
        Kind::Container,
        "  apparmor: |\n    # comment\n    deny /etc/** w,\n",
    );
    assert_eq!(problems, Vec::<String>::new());
    let policy = policy.unwrap();
    assert_eq!(policy.native_apparmor, "# comment\ndeny /etc/** w,\n");
    assert_eq!(policy.rules, []);
}

#[test]
fn arguments_and_terminals_are_conditions() {
    let rules = rules(
        "  process:
    matchPaths:
    - {path: /bin/ls, allowedArgs: [-l, --color, -l], pts: false}
    - {execname: nc, allowedArgs: []}
    matchDirectories: [{dir: /opt/, pts: false}]
  file:
    matchPaths: [{path: /a, pts: false, readOnly: true}]
    matchDirectories: [{dir: /a/, pts: ~}]
",
    );
    let arguments: Vec<_> = rules[0].allowed_arguments.iter().collect();
    assert_eq!(arguments, ["--color", "-l"]);
    assert!(rules[1].allowed_arguments.is_empty());
    let terminal: Vec<_> = rules
        .iter()
        .map(|rule| rule.modifiers.no_terminal)
        .collect();
    assert_eq!(terminal, [true, false, true, true, false]);
}

#[test]
fn at_most_20_arguments_are_compared() {
    let with = |count: usize| {
        let arguments = vec!["a"; count].join(", ");
        format!("  process: {{matchPaths: [{{path: /a, allowedArgs: [{arguments}]}}]}}\n")
    };
    assert_eq!(rules(&with(20)).len(), 1);
    assert_eq!(
        refused(&with(21)),
        [
            "p.yaml:5:50: error: spec.process.matchPaths[0].allowedArgs: has 21 elements, more than \
             20"
        ]
    );
    assert_eq!(
        refused("  process: {matchPaths: [{path: /a, allowedArgs: [80, \"a\\0\"]}]}\n"),
        [
            "p.yaml:5:51: error: spec.process.matchPaths[0].allowedArgs[0]: must be a string, but is \
             the number `80` (quote it: `\"80\"`)",
            "p.yaml:5:55: error: spec.process.matchPaths[0].allowedArgs: `a\\0` contains a NUL byte",
        ]
    );
}

#[test]
fn a_terminal_that_is_required_is_doubtful() {
    assert_eq!(
        warned("  file: {matchPaths: [{path: /a, pts: true}]}\n"),
        [
            "p.yaml:5:39: warning: spec.file.matchPaths[0].pts: `true` does nothing (only `false` \
             means something: tasks without a terminal satisfy the rule)"
        ]
    );
}

#[test]
fn rules_about_the_same_are_doubtful() {
    assert_eq!(
        warned(
            "  network:
    matchProtocols:
    - protocol: tcp
    - protocol: udp,tcp
    - {protocol: udp, action: Audit}
    - {protocol: udp, fromSource: [{path: /a}]}
    - protocol: sctp,sctp
  file:
    matchPaths:
    - {path: /a, readOnly: true}
    - {path: /a}
  process:
    matchPaths: [{path: /a}]
"
        ),
        [
            "p.yaml:8:7: warning: spec.network.matchProtocols[1]: says the same as \
             spec.network.matchProtocols[0] (one of them is enough)",
            "p.yaml:9:7: warning: spec.network.matchProtocols[2]: contradicts \
             spec.network.matchProtocols[1], which says Block (Block wins)",
            "p.yaml:11:7: warning: spec.network.matchProtocols[4]: says something twice (one of them \
             is enough)",
        ]
    );
}

#[test]
fn many_objects_with_many_sources_cannot_fill_the_memory() {
    let sources: String = (0..10_000).map(|n| format!("{{path: /{n}}},")).collect();
    let domains: String = (0..10_000).map(|n| format!("d{n},")).collect();
    let shown = refused(&format!(
        "  network: {{matchDNSQueries: [{{domain: '{domains}x', fromSource: [{sources}]}}]}}\n"
    ));
    assert_eq!(shown.len(), 1);
    assert!(
        shown[0].contains("copied into too many rules"),
        "{}",
        shown[0]
    );
}
