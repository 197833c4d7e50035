// SPDX-License-Identifier: Apache-2.0
//! What documents give, and exactly what is said about those that give nothing.
//!
//! Most documents here are [`HEAD`] and a `spec`, whose first line is line 5. Messages are compared
//! as a user sees them, with line and column: a wrong position is a bug like a wrong word.

use crate::{Action, Modifiers, ObjectMatcher, Parsed, Policy, Rule, Source, parse};
use gorget_model::Category;

/// Ends before line 5, which is the first of `spec`.
const HEAD: &str = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
                    metadata: {name: p}\nspec:\n";

fn shown(parsed: &Parsed) -> Vec<String> {
    parsed.problems.iter().map(ToString::to_string).collect()
}

/// The problems of a text without policies.
fn refused(text: &str) -> Vec<String> {
    let parsed = parse("p.yaml", text);
    assert_eq!(parsed.policies, []);
    shown(&parsed)
}

/// The problems of a policy with this `spec`.
fn refused_spec(spec: &str) -> Vec<String> {
    refused(&format!("{HEAD}{spec}"))
}

fn only_policy(text: &str) -> Policy {
    let mut parsed = parse("p.yaml", text);
    assert_eq!(shown(&parsed), Vec::<String>::new());
    assert_eq!(parsed.policies.len(), 1);
    parsed.policies.remove(0)
}

fn rules(spec: &str) -> Vec<Rule> {
    only_policy(&format!("{HEAD}{spec}")).rules
}

fn warned(spec: &str) -> Vec<String> {
    let parsed = parse("p.yaml", &format!("{HEAD}{spec}"));
    assert_eq!(parsed.policies.len(), 1);
    shown(&parsed)
}

#[test]
fn everything_about_a_rule_is_read() {
    let rules = rules(
        "  process:
    matchPaths:
    - path: //usr/bin//curl
      ownerOnly: true
      fromSource: [{path: /bin/sh}, {dir: /opt/, recursive: true}, {dir: //srv//}]
      severity: 3
      tags: [net, tool]
      message: no curl
      action: audit
    - execname: nc
    matchDirectories:
    - {dir: /tmp/, recursive: true}
    matchPatterns:
    - pattern: /a*
  file:
    matchPaths:
    - {path: /etc/passwd, readOnly: true, ownerOnly: yes}
    matchDirectories:
    - dir: /
    matchPatterns:
    - {pattern: '**', readOnly: true}
",
    );
    let first = &rules[0];
    assert_eq!(first.category, Category::Process);
    assert_eq!(
        first.object,
        ObjectMatcher::Path("/usr/bin/curl".to_owned())
    );
    assert_eq!(
        first.sources,
        [
            Source::Path("/bin/sh".to_owned()),
            Source::Directory {
                dir: "/opt/".to_owned(),
                recursive: true
            },
            Source::Directory {
                dir: "/srv/".to_owned(),
                recursive: false
            },
        ]
    );
    assert_eq!(
        first.modifiers,
        Modifiers {
            read_only: false,
            owner_only: true,
            no_terminal: false
        }
    );
    assert_eq!(first.action, Action::Audit);
    assert_eq!(first.severity, Some(3));
    assert_eq!(first.tags, ["net", "tool"]);
    assert_eq!(first.message, "no curl");
    assert_eq!(first.at.to_string(), "p.yaml:7:7");

    let objects: Vec<_> = rules
        .iter()
        .skip(1)
        .map(|rule| (rule.category, &rule.object))
        .collect();
    let directory = |dir: &str, recursive| ObjectMatcher::Directory {
        dir: dir.to_owned(),
        recursive,
    };
    assert_eq!(
        objects[0],
        (Category::Process, &ObjectMatcher::ExecName("nc".to_owned()))
    );
    assert_eq!(objects[1], (Category::Process, &directory("/tmp/", true)));
    assert!(
        matches!(objects[2], (Category::Process, ObjectMatcher::Pattern(g)) if g.text == "/a*")
    );
    assert_eq!(
        objects[3],
        (
            Category::File,
            &ObjectMatcher::Path("/etc/passwd".to_owned())
        )
    );
    assert_eq!(objects[4], (Category::File, &directory("/", false)));
    assert!(matches!(objects[5], (Category::File, ObjectMatcher::Pattern(g)) if g.text == "**"));
    assert_eq!(
        rules[4].modifiers,
        Modifiers {
            read_only: true,
            owner_only: true,
            no_terminal: false
        }
    );
    assert_eq!(
        rules[6].modifiers,
        Modifiers {
            read_only: true,
            owner_only: false,
            no_terminal: false
        }
    );
}

#[test]
fn each_value_is_inherited_from_the_innermost_place_that_has_it() {
    let rules = rules(
        "  severity: 1
  tags: [spec]
  message: from spec
  action: Allow
  process:
    severity: 2
    action: Audit
    matchPaths:
    - {path: /a, action: BLOCK, tags: [rule], message: ''}
    - {path: /b, severity: 3, tags: [], action: ''}
  file:
    tags: [block]
    message: from block
    matchPaths:
    - {path: /c}
",
    );
    let seen: Vec<_> = rules
        .iter()
        .map(|r| (r.action, r.severity, r.tags.join(" "), r.message.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            (Action::Block, Some(2), "rule".to_owned(), "from spec"),
            (Action::Audit, Some(3), "spec".to_owned(), "from spec"),
            (Action::Allow, Some(1), "block".to_owned(), "from block"),
        ]
    );
}

#[test]
fn a_rule_that_inherits_nothing_blocks() {
    let rules = rules("  file: {matchPaths: [{path: /a}]}\n");
    assert_eq!((rules[0].action, rules[0].severity), (Action::Block, None));
    assert_eq!((rules[0].tags.len(), rules[0].message.as_str()), (0, ""));
}

#[test]
fn null_is_the_same_as_absent() {
    let rules = rules(
        "  selector:
  severity: ~
  tags: null
  action:
  network:
  capabilities: {}
  syscalls: null
  presets: []
  apparmor: ' '
  process:
  file:
    matchPaths:
    - path: /a
      readOnly:
      pts: null
      fromSource:
    matchDirectories:
    matchPatterns: []
",
    );
    assert_eq!(rules.len(), 1);
}

#[test]
fn what_other_programs_keep_in_a_document_is_passed_over() {
    let policy = only_policy(
        "apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata:
  name: p
  namespace: shop
  labels: {a: b}
  annotations: {c: 1}
  generation: 3
  managedFields: [{x: y}]
spec:
  process: {matchPaths: [{path: /a}]}
status:
  anything: {goes: [1, 2]}
",
    );
    assert_eq!(policy.qualified_name(), "shop/p");
}

#[test]
fn documents_without_content_give_nothing() {
    for text in [
        "",
        "\n",
        "# nothing\n",
        "---\n",
        "---\n---\n# a\n...\n---\n~\n",
        "\u{feff}---\n",
    ] {
        assert_eq!(parse("p.yaml", text), Parsed::default(), "{text:?}");
    }
}

#[test]
fn every_document_is_judged_on_its_own() {
    let good = format!("{HEAD}  file: {{matchPaths: [{{path: /a}}]}}\n");
    let bad = format!("{HEAD}  file: {{matchPaths: [{{path: a}}]}}\n");
    let parsed = parse(
        "p.yaml",
        &format!("{good}---\n{bad}---\n{good}---\na: [\n---\n{good}"),
    );
    assert_eq!(parsed.policies.len(), 3);
    let shown = shown(&parsed);
    assert_eq!(shown.len(), 2, "{shown:?}");
    assert_eq!(
        shown[0],
        "p.yaml:11:30: error: spec.file.matchPaths[0].path: `a` does not begin with `/` (write the \
         absolute path)"
    );
    assert!(
        shown[1].starts_with("p.yaml:19:4: error: not valid YAML: "),
        "{shown:?}"
    );
}

#[test]
fn one_error_is_enough_to_refuse_a_document() {
    let shown = refused_spec("  file: {matchPaths: [{path: /a}, {path: b, readOnly: maybe}]}\n");
    assert_eq!(
        shown,
        [
            "p.yaml:5:42: error: spec.file.matchPaths[1].path: `b` does not begin with `/` (write \
             the absolute path)",
            "p.yaml:5:55: error: spec.file.matchPaths[1].readOnly: must be `true` or `false`, but is \
             the string `maybe`",
        ]
    );
}

#[test]
fn a_document_is_a_policy_of_a_known_kind() {
    assert_eq!(
        refused("- a\n"),
        ["p.yaml:1:1: error: must be a mapping, but is a list"]
    );
    assert_eq!(refused("a: b\n"), ["p.yaml:1:1: error: kind: is missing"]);
    assert_eq!(
        refused("kind: Pod\nspec: {x: y}\n"),
        [
            "p.yaml:1:7: error: kind: `Pod` is not a kind of policy (there are `KubeArmorPolicy`, \
             `KubeArmorHostPolicy`, `KubeArmorClusterPolicy`, `KubeArmorNetworkPolicy`)"
        ]
    );
    assert_eq!(
        refused("kind: KubeArmorPolicy\nspek: 1\n"),
        [
            "p.yaml:1:1: error: apiVersion: is missing",
            "p.yaml:1:1: error: metadata: is missing",
            "p.yaml:1:1: error: spec: is missing",
            "p.yaml:2:1: error: spek: unknown field `spek` (did you mean `spec`? allowed here: \
             `apiVersion`, `kind`, `metadata`, `status`, `spec`)",
        ]
    );
    assert_eq!(
        refused(
            &HEAD
                .replace("com/v1", "com/v2")
                .replace("spec:", "spec: {}")
        ),
        [
            "p.yaml:1:13: error: apiVersion: `security.kubearmor.com/v2` is not supported by this \
             version (there is `security.kubearmor.com/v1`)"
        ]
    );
}

#[test]
fn a_policy_has_a_name() {
    let with = |metadata: &str| {
        refused(&format!(
            "{}  process: {{}}\n",
            HEAD.replace("{name: p}", metadata)
        ))
    };
    assert_eq!(
        with("{}"),
        ["p.yaml:3:11: error: metadata.name: is missing"]
    );
    assert_eq!(
        with("{name: ''}"),
        ["p.yaml:3:18: error: metadata.name: is empty"]
    );
    assert_eq!(
        with("{name: 7}"),
        [
            "p.yaml:3:18: error: metadata.name: must be a string, but is the number `7` (quote it: \
             `\"7\"`)"
        ]
    );
    assert_eq!(
        with("{name: p, namespace: a/b}"),
        [
            "p.yaml:3:32: error: metadata.namespace: `a/b` contains a slash, a space or a control \
             character"
        ]
    );
}

#[test]
fn unknown_fields_are_refused_with_what_is_allowed() {
    assert_eq!(
        refused_spec(
            "  process:
    matchVolumeMounts: []
    matchPaths: [{path: /a, readOnly: true}]
  file:
    matchDirectories: [{dir: /a/, recurive: true}]
    matchPatterns: [{pattern: /a, fromSource: [{path: /b}]}]
"
        ),
        [
            "p.yaml:6:5: error: spec.process.matchVolumeMounts: unknown field `matchVolumeMounts` \
             (allowed here: `matchPaths`, `matchDirectories`, `matchPatterns`, `severity`, `tags`, \
             `message`, `action`)",
            "p.yaml:7:29: error: spec.process.matchPaths[0].readOnly: unknown field `readOnly` \
             (allowed here: `path`, `execname`, `fromSource`, `ownerOnly`, `pts`, `allowedArgs`, \
             `severity`, `tags`, `message`, `action`)",
            "p.yaml:9:35: error: spec.file.matchDirectories[0].recurive: unknown field `recurive` \
             (did you mean `recursive`? allowed here: `dir`, `recursive`, `fromSource`, `readOnly`, \
             `ownerOnly`, `pts`, `severity`, `tags`, `message`, `action`)",
            "p.yaml:10:35: error: spec.file.matchPatterns[0].fromSource: unknown field `fromSource` \
             (allowed here: `pattern`, `readOnly`, `ownerOnly`, `severity`, `tags`, `message`, \
             `action`)",
        ]
    );
}

#[test]
fn wrong_types_are_named() {
    assert_eq!(
        refused_spec(
            "  severity: [1]
  tags: one
  message: 5
  action: {}
  selector: web
  process: [1]
  file:
    matchPaths: /a
    matchDirectories:
    - /a/
    -
    - {dir: 1, recursive: 'true', fromSource: {path: /a}}
"
        ),
        [
            "p.yaml:5:13: error: spec.severity: must be a whole number from 1 to 10, but is a list",
            "p.yaml:6:9: error: spec.tags: must be a list, but is the string `one`",
            "p.yaml:7:12: error: spec.message: must be a string, but is the number `5` (quote it: \
             `\"5\"`)",
            "p.yaml:8:11: error: spec.action: must be a string, but is a mapping",
            "p.yaml:9:13: error: spec.selector: must be a mapping, but is the string `web`",
            "p.yaml:10:12: error: spec.process: must be a mapping, but is a list",
            "p.yaml:12:17: error: spec.file.matchPaths: must be a list, but is the string `/a`",
            "p.yaml:14:7: error: spec.file.matchDirectories[0]: must be a mapping, but is the string \
             `/a/`",
            "p.yaml:15:6: error: spec.file.matchDirectories[1]: must be a mapping, but is empty",
            "p.yaml:16:13: error: spec.file.matchDirectories[2].dir: must be a string, but is the \
             number `1` (quote it: `\"1\"`)",
            "p.yaml:16:27: error: spec.file.matchDirectories[2].recursive: must be `true` or \
             `false`, but is the string `true`",
            "p.yaml:16:47: error: spec.file.matchDirectories[2].fromSource: must be a list, but is a \
             mapping",
        ]
    );
}

#[test]
fn a_severity_is_a_whole_number_from_1_to_10() {
    let with = |severity: &str| refused_spec(&format!("  severity: {severity}\n"));
    let wrong = "p.yaml:5:13: error: spec.severity: must be a whole number from 1 to 10, but is";
    for severity in ["0", "11", "-1", "300", "5.5", "0x5", "yes"] {
        assert_eq!(with(severity), [format!("{wrong} `{severity}`")]);
    }
    assert_eq!(
        with("'5'"),
        [format!("{wrong} the string `5` (write it without quotes)")]
    );
    for severity in [1, 10] {
        let rules = rules(&format!(
            "  severity: {severity}\n  file: {{matchPaths: [{{path: /a}}]}}\n"
        ));
        assert_eq!(rules[0].severity, Some(severity));
    }
}

#[test]
fn tags_are_strings() {
    assert_eq!(
        refused_spec("  tags: [a, 10.2, , [b]]\n  process: {}\n").len(),
        1,
        "an empty entry in a flow sequence is not YAML"
    );
    assert_eq!(
        refused_spec("  tags: [a, 10.2, ~]\n"),
        [
            "p.yaml:5:13: error: spec.tags[1]: must be a string, but is the number `10.2` (quote it: \
             `\"10.2\"`)",
            "p.yaml:5:19: error: spec.tags[2]: must be a string, but is empty",
        ]
    );
}

#[test]
fn an_action_is_one_of_three() {
    assert_eq!(
        refused_spec("  action: Blok\n  process: {action: Deny}\n"),
        [
            "p.yaml:5:11: error: spec.action: `Blok` is not an action (did you mean `Block`?)",
            "p.yaml:6:21: error: spec.process.action: `Deny` is not an action (there are `Allow`, \
             `Audit` and `Block`)",
        ]
    );
}

#[test]
fn a_process_entry_has_either_a_path_or_an_execname() {
    assert_eq!(
        refused_spec(
            "  process:
    matchPaths:
    - {path: /a, execname: a}
    - ownerOnly: true
    - execname: /bin/a
    - path: /bin/
    - path: ''
"
        ),
        [
            "p.yaml:7:7: error: spec.process.matchPaths[0]: has both `path` and `execname` (make it \
             two entries)",
            "p.yaml:8:7: error: spec.process.matchPaths[1]: has neither `path` nor `execname`",
            "p.yaml:9:17: error: spec.process.matchPaths[2].execname: `/bin/a` contains `/` (a path \
             goes into `path`)",
            "p.yaml:10:13: error: spec.process.matchPaths[3].path: `/bin/` ends with `/` (a \
             directory goes into `dir`)",
            "p.yaml:11:13: error: spec.process.matchPaths[4].path: `` is empty",
        ]
    );
}

#[test]
fn objects_must_be_there_and_in_their_form() {
    assert_eq!(
        refused_spec(
            "  file:
    matchPaths: [{readOnly: true}, {path: /a/../b}]
    matchDirectories: [{recursive: true}, {dir: /etc}, {dir: etc/}]
    matchPatterns: [{ownerOnly: true}, {pattern: '/a[b'}, {pattern: '@{HOME}/x'}, {pattern: ''}]
"
        ),
        [
            "p.yaml:6:18: error: spec.file.matchPaths[0].path: is missing",
            "p.yaml:6:43: error: spec.file.matchPaths[1].path: `/a/../b` has a `.` or `..` component \
             (the kernel reports paths without them)",
            "p.yaml:7:24: error: spec.file.matchDirectories[0].dir: is missing",
            "p.yaml:7:49: error: spec.file.matchDirectories[1].dir: `/etc` does not end with `/` \
             (write `/etc/`)",
            "p.yaml:7:62: error: spec.file.matchDirectories[2].dir: `etc/` does not begin with `/` \
             (write the absolute path)",
            "p.yaml:8:21: error: spec.file.matchPatterns[0].pattern: is missing",
            "p.yaml:8:50: error: spec.file.matchPatterns[1].pattern: `/a[b` has a `[` at column 3 \
             that is never closed (write `\\[` or `\\]` for the character itself)",
            "p.yaml:8:69: error: spec.file.matchPatterns[2].pattern: `@{HOME}/x` has a `{` at column \
             2 with only one alternative (write `\\{` for the character itself; variables are not \
             supported)",
            "p.yaml:8:93: error: spec.file.matchPatterns[3].pattern: `` is empty",
        ]
    );
}

#[test]
fn a_source_is_either_a_path_or_a_directory() {
    assert_eq!(
        refused_spec(
            "  file:
    matchPaths:
    - path: /a
      fromSource:
      - {path: /a, dir: /b/}
      - {recursive: true}
      - {path: /a, recursive: true}
      - {dir: a/}
      - {path: bin/sh}
      - {execname: sh}
"
        ),
        [
            "p.yaml:9:9: error: spec.file.matchPaths[0].fromSource[0]: has both `path` and `dir` \
             (make it two entries)",
            "p.yaml:10:9: error: spec.file.matchPaths[0].fromSource[1]: has neither `path` nor `dir`",
            "p.yaml:11:31: error: spec.file.matchPaths[0].fromSource[2].recursive: only goes with \
             `dir`",
            "p.yaml:12:15: error: spec.file.matchPaths[0].fromSource[3].dir: `a/` does not begin \
             with `/` (write the absolute path)",
            "p.yaml:13:16: error: spec.file.matchPaths[0].fromSource[4].path: `bin/sh` does not \
             begin with `/` (write the absolute path)",
            "p.yaml:14:9: error: spec.file.matchPaths[0].fromSource[5]: has neither `path` nor `dir`",
            "p.yaml:14:10: error: spec.file.matchPaths[0].fromSource[5].execname: unknown field \
             `execname` (allowed here: `path`, `dir`, `recursive`)",
        ]
    );
}

#[test]
fn what_is_probably_not_meant_is_a_warning() {
    assert_eq!(
        warned(
            "  file:
    matchPaths: [{path: /a*, path: /home/*/x}]
    matchPatterns: [{pattern: 'rm *'}, {pattern: '/a[!b]'}]
"
        ),
        [
            "p.yaml:6:30: warning: spec.file.matchPaths[0].path: `path` is given twice (the last one \
             counts)",
            "p.yaml:6:36: warning: spec.file.matchPaths[0].path: in `/home/*/x` the `*` stands for \
             itself (wildcards go into `matchPatterns`)",
            "p.yaml:7:31: warning: spec.file.matchPatterns[0].pattern: `rm *` does not begin with \
             `/`, as every path does (it can never match)",
            "p.yaml:7:31: warning: spec.file.matchPatterns[0].pattern: `rm *` contains a space \
             (patterns are matched against paths, not against command lines)",
            "p.yaml:7:50: warning: spec.file.matchPatterns[1].pattern: in `/a[!b]` the `!` is a \
             member of the class (a class is negated by `^`)",
        ]
    );
    assert_eq!(
        warned("  severity: 1\n"),
        [
            "p.yaml:1:1: warning: spec: the policy has no rules (rules are entries of lists such as \
             `file.matchPaths`)"
        ]
    );
}

#[test]
fn a_file_larger_than_4_mib_is_refused() {
    let text = format!("{HEAD}  file: {{matchPaths: [{{path: /a}}]}}\n#");
    let fill = (4 << 20) - text.len();
    let largest = format!("{text}{}", "x".repeat(fill));
    assert_eq!(parse("p.yaml", &largest).policies.len(), 1);
    assert_eq!(
        refused(&format!("{largest}x")),
        ["p.yaml:1:1: error: the file has 4194305 bytes, more than 4 MiB"]
    );
}

#[test]
fn inherited_texts_cannot_fill_the_memory() {
    let message = "m".repeat(1 << 20);
    let paths: String = (100..200).map(|n| format!("{{path: /{n}}},")).collect();
    assert_eq!(
        refused_spec(&format!(
            "  message: {message}\n  file: {{matchPaths: [{paths}]}}\n"
        )),
        [
            "p.yaml:6:855: error: tags, messages and sources are copied into too many rules of this \
             file (shorten them or split the file)"
        ]
    );
}
