// SPDX-License-Identifier: Apache-2.0
//! `gorget policy shadowed`, `simulate`, `schema` and the limits that `check` lists, as a user or a
//! pipeline sees them: output and exit status of the program itself, run in `tests/testdata/answers`.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "runs the binary")]

use expect_test::{Expect, expect};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn gorget(arguments: &[&str], input: &[u8]) -> Output {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata/answers");
    let mut child = Command::new(env!("CARGO_BIN_EXE_gorget"))
        .arg("policy")
        .args(arguments)
        .current_dir(testdata)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    child.wait_with_output().unwrap()
}

/// Gives standard error.
fn answered(arguments: &[&str], status: i32, expected: &Expect) -> String {
    let output = gorget(arguments, b"");
    expected.assert_eq(&String::from_utf8(output.stdout).unwrap());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    stderr
}

mod check {
    use super::*;

    #[test]
    fn what_backends_cannot_enforce_is_listed_and_is_no_error() {
        answered(
            &["check", "limited.yaml"],
            0,
            &expect![[r#"
            limited.yaml:12:7: limit: BPF LSM does not enforce lines under `apparmor` (1 in policy `shop/limited`): only AppArmor can read them
            limited.yaml:33:5: limit: BPF LSM does not enforce rules of a `KubeArmorNetworkPolicy` (1 in policy `egress`): packets are not filtered yet
            limited.yaml:12:7: limit: AppArmor does not enforce rules with `allowedArgs` (1 in policy `shop/limited`): a profile does not see arguments
            limited.yaml:16:7: limit: AppArmor does not enforce rules about DNS queries (1 in policy `shop/limited`): a profile does not see what is sent
            limited.yaml:19:7: limit: AppArmor does not enforce rules about system calls (2 in policy `shop/limited`): a profile does not see system calls
            limited.yaml:33:5: limit: AppArmor does not enforce rules of a `KubeArmorNetworkPolicy` (1 in policy `egress`): packets are not filtered yet

            1 file, 2 policies, 0 errors, 0 warnings
            BPF LSM does not enforce all of 2 policies
            AppArmor does not enforce all of 2 policies
        "#]],
        );
    }

    #[test]
    fn limits_are_in_the_json_too() {
        answered(
            &["check", "limited.yaml", "-o", "json"],
            0,
            &expect![[r#"
            [
              {
                "file": "limited.yaml",
                "line": 12,
                "column": 7,
                "severity": "limit",
                "backend": "BPF LSM",
                "policy": "shop/limited",
                "what": "lines under `apparmor`",
                "count": 1,
                "reason": "only AppArmor can read them"
              },
              {
                "file": "limited.yaml",
                "line": 33,
                "column": 5,
                "severity": "limit",
                "backend": "BPF LSM",
                "policy": "egress",
                "what": "rules of a `KubeArmorNetworkPolicy`",
                "count": 1,
                "reason": "packets are not filtered yet"
              },
              {
                "file": "limited.yaml",
                "line": 12,
                "column": 7,
                "severity": "limit",
                "backend": "AppArmor",
                "policy": "shop/limited",
                "what": "rules with `allowedArgs`",
                "count": 1,
                "reason": "a profile does not see arguments"
              },
              {
                "file": "limited.yaml",
                "line": 16,
                "column": 7,
                "severity": "limit",
                "backend": "AppArmor",
                "policy": "shop/limited",
                "what": "rules about DNS queries",
                "count": 1,
                "reason": "a profile does not see what is sent"
              },
              {
                "file": "limited.yaml",
                "line": 19,
                "column": 7,
                "severity": "limit",
                "backend": "AppArmor",
                "policy": "shop/limited",
                "what": "rules about system calls",
                "count": 2,
                "reason": "a profile does not see system calls"
              },
              {
                "file": "limited.yaml",
                "line": 33,
                "column": 5,
                "severity": "limit",
                "backend": "AppArmor",
                "policy": "egress",
                "what": "rules of a `KubeArmorNetworkPolicy`",
                "count": 1,
                "reason": "packets are not filtered yet"
              }
            ]
        "#]],
        );
    }
}

mod shadowed {
    use super::*;

    #[test]
    fn without_a_workload_only_what_is_certain_is_reported() {
        answered(
            &["shadowed", "shadowed.yaml"],
            1,
            &expect![[r#"
            shadowed.yaml:12: this file rule never decides anything (Allow, policy `shop/web`)
                12 |     - path: /etc/shadow
                13 |       action: Allow
              hidden by shadowed.yaml:32 (Block, policy `shop/everybody`), as in file:read:/etc/shadow by /a, not the owner
              without it there is no allow list: file:read:/ by /a, not the owner would pass

            shadowed.yaml:15: this file rule never decides anything (Audit, policy `shop/web`)
                15 |     - pattern: no-slash-*
              it names no path; the shortest text that it matches is `no-slash-`

            shadowed.yaml:18: this network rule never decides anything (Audit, policy `shop/web`)
                18 |     - protocol: tcp
                19 |       action: Audit
              hidden by shadowed.yaml:35 (Block, policy `shop/everybody`), as in network:inet/stream/0 by /a

            6 rules, 3 never decide anything
        "#]],
        );
    }

    #[test]
    fn for_a_workload_all_policies_that_select_it_count() {
        let workload = "--workload=shop/db,app=db,tier=back";
        answered(
            &["shadowed", workload, "shadowed.yaml"],
            0,
            &expect![[r#"
            6 rules, each can decide something
        "#]],
        );
    }

    #[test]
    fn shadowed_rules_can_be_had_as_json() {
        let arguments = ["shadowed", "-o", "json", "shadowed.yaml"];
        answered(
            &arguments,
            1,
            &expect![[r#"
            [
              {
                "file": "shadowed.yaml",
                "line": 12,
                "column": 7,
                "policy": "shop/web",
                "category": "file",
                "action": "Allow",
                "reasons": [
                  "hidden by shadowed.yaml:32 (Block, policy `shop/everybody`), as in file:read:/etc/shadow by /a, not the owner"
                ],
                "hiddenBy": [
                  {
                    "file": "shadowed.yaml",
                    "line": 32,
                    "column": 7,
                    "policy": "shop/everybody",
                    "witness": {
                      "operation": "file:read:/etc/shadow",
                      "source": "/a",
                      "owner": false,
                      "terminal": false,
                      "arguments": []
                    }
                  }
                ],
                "allowList": {
                  "operation": "file:read:/",
                  "source": "/a",
                  "owner": false,
                  "terminal": false,
                  "arguments": []
                }
              },
              {
                "file": "shadowed.yaml",
                "line": 15,
                "column": 7,
                "policy": "shop/web",
                "category": "file",
                "action": "Audit",
                "reasons": [
                  "it names no path; the shortest text that it matches is `no-slash-`"
                ],
                "hiddenBy": [],
                "allowList": null
              },
              {
                "file": "shadowed.yaml",
                "line": 18,
                "column": 7,
                "policy": "shop/web",
                "category": "network",
                "action": "Audit",
                "reasons": [
                  "hidden by shadowed.yaml:35 (Block, policy `shop/everybody`), as in network:inet/stream/0 by /a"
                ],
                "hiddenBy": [
                  {
                    "file": "shadowed.yaml",
                    "line": 35,
                    "column": 7,
                    "policy": "shop/everybody",
                    "witness": {
                      "operation": "network:inet/stream/0",
                      "source": "/a",
                      "terminal": false,
                      "arguments": []
                    }
                  }
                ],
                "allowList": null
              }
            ]
        "#]],
        );
    }

    #[test]
    fn rules_that_can_all_decide_are_counted() {
        answered(
            &["shadowed", "lenient.yaml"],
            0,
            &expect![[r#"
            5 rules, each can decide something
        "#]],
        );
    }
}

mod simulate {
    use super::*;

    #[test]
    fn events_are_counted_by_the_rule_that_would_decide() {
        let arguments = ["simulate", "lenient.yaml", "--events", "events.jsonl"];
        answered(
            &arguments,
            1,
            &expect![[r#"
            lenient.yaml:12 (Allow, policy `shop/only-cat-reads-the-token`)
              1 pass
                line 4: exec:/usr/bin/id by /bin/sh in shop/web: allow
            lenient.yaml:16 (Block, policy `shop/only-cat-reads-the-token`)
              2 denied, 1 newly denied
                line 1: file:read:/run/secrets/token by /bin/head in shop/web: allow -> block
                line 3: file:read:/run/secrets/token by /bin/head in shop/web: block
            lenient.yaml:21 (Allow, policy `shop/only-cat-reads-the-token`)
              1 pass
                line 2: file:read:/run/secrets/token by /bin/cat in shop/web: allow
            no rule
              1 pass
            decided nothing: lenient.yaml:38, lenient.yaml:19
            not used
              1 line: is not JSON (line 8: not json)
              1 line: tells about the agent, not about an operation (line 7: {"Type":"SystemEvent","Operation":"AlertThreshold","Enforcer":"BPFLSM","Result":"Passed"})
            5 events of 1 workload: 3 pass, 2 denied, 1 newly denied
        "#]],
        );
    }

    #[test]
    fn the_default_posture_has_its_own_part() {
        let event = br#"{"Operation":"File","ProcessName":"/bin/sh","Resource":"/etc/x","Data":"syscall=SYS_OPENAT flags=O_RDONLY","Result":"Passed","NamespaceName":"shop","ContainerName":"web","Labels":"app=web","UID":0,"OID":0}"#;
        let output = gorget(
            &["simulate", "strict.yaml", "-e", "-", "-p", "block"],
            event,
        );
        expect![[r#"
            the default posture, of what no file rule lists
              1 denied, 1 newly denied
                line 1: file:read:/etc/x by /bin/sh in shop/web: allow -> block
            decided nothing: strict.yaml:12
            1 event of 1 workload: 1 denied, 1 newly denied
        "#]]
        .assert_eq(&String::from_utf8(output.stdout).unwrap());
        assert_eq!(output.status.code(), Some(1));
    }

    #[test]
    fn a_simulation_can_be_had_as_json() {
        let arguments = [
            "simulate",
            "lenient.yaml",
            "-e",
            "events.jsonl",
            "-o",
            "json",
        ];
        answered(
            &arguments,
            1,
            &expect![[r#"
            {
              "total": {
                "allowed": 3,
                "audited": 0,
                "denied": 2,
                "newlyDenied": 1,
                "newlyAllowed": 0,
                "unsure": 0
              },
              "workloads": 1,
              "rules": [
                {
                  "file": "lenient.yaml",
                  "line": 38,
                  "column": 7,
                  "policy": "shop/for-others",
                  "action": "Audit",
                  "allowed": 0,
                  "audited": 0,
                  "denied": 0,
                  "newlyDenied": 0,
                  "newlyAllowed": 0,
                  "unsure": 0,
                  "samples": []
                },
                {
                  "file": "lenient.yaml",
                  "line": 12,
                  "column": 7,
                  "policy": "shop/only-cat-reads-the-token",
                  "action": "Allow",
                  "allowed": 1,
                  "audited": 0,
                  "denied": 0,
                  "newlyDenied": 0,
                  "newlyAllowed": 0,
                  "unsure": 0,
                  "samples": [
                    {
                      "line": 4,
                      "operation": "exec:/usr/bin/id",
                      "source": "/bin/sh",
                      "workload": "shop/web",
                      "happened": "allow",
                      "would": "allow"
                    }
                  ]
                },
                {
                  "file": "lenient.yaml",
                  "line": 16,
                  "column": 7,
                  "policy": "shop/only-cat-reads-the-token",
                  "action": "Block",
                  "allowed": 0,
                  "audited": 0,
                  "denied": 2,
                  "newlyDenied": 1,
                  "newlyAllowed": 0,
                  "unsure": 0,
                  "samples": [
                    {
                      "line": 1,
                      "operation": "file:read:/run/secrets/token",
                      "source": "/bin/head",
                      "workload": "shop/web",
                      "happened": "allow",
                      "would": "block"
                    },
                    {
                      "line": 3,
                      "operation": "file:read:/run/secrets/token",
                      "source": "/bin/head",
                      "workload": "shop/web",
                      "happened": "block",
                      "would": "block"
                    }
                  ]
                },
                {
                  "file": "lenient.yaml",
                  "line": 19,
                  "column": 7,
                  "policy": "shop/only-cat-reads-the-token",
                  "action": "Allow",
                  "allowed": 0,
                  "audited": 0,
                  "denied": 0,
                  "newlyDenied": 0,
                  "newlyAllowed": 0,
                  "unsure": 0,
                  "samples": []
                },
                {
                  "file": "lenient.yaml",
                  "line": 21,
                  "column": 7,
                  "policy": "shop/only-cat-reads-the-token",
                  "action": "Allow",
                  "allowed": 1,
                  "audited": 0,
                  "denied": 0,
                  "newlyDenied": 0,
                  "newlyAllowed": 0,
                  "unsure": 0,
                  "samples": [
                    {
                      "line": 2,
                      "operation": "file:read:/run/secrets/token",
                      "source": "/bin/cat",
                      "workload": "shop/web",
                      "happened": "allow",
                      "would": "allow"
                    }
                  ]
                }
              ],
              "defaultPosture": [],
              "noRule": {
                "allowed": 1,
                "audited": 0,
                "denied": 0,
                "newlyDenied": 0,
                "newlyAllowed": 0,
                "unsure": 0
              },
              "unused": [
                {
                  "reason": "is not JSON",
                  "lines": 1,
                  "first": 8
                },
                {
                  "reason": "tells about the agent, not about an operation",
                  "lines": 1,
                  "first": 7
                }
              ]
            }
        "#]],
        );
    }

    #[test]
    fn an_endless_line_is_counted_once_and_the_next_one_is_read() {
        let mut input = vec![b'x'; 5 << 20];
        input.push(b'\n');
        input.extend(br#"{"Operation":"Capabilities","ProcessName":"/bin/ping","Resource":"CAP_NET_RAW","Result":"Passed","ContainerName":"c"}"#);
        let output = gorget(&["simulate", "strict.yaml", "-e", "-"], &input);
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(
            stdout.contains("  1 line: is longer than 1 MiB (line 1: xxx"),
            "{stdout}"
        );
        assert!(
            stdout.ends_with("1 event of 1 workload: 1 pass\n"),
            "{stdout}"
        );
        assert_eq!(output.status.code(), Some(0));
    }

    #[test]
    fn a_record_without_a_single_event_is_no_answer() {
        let output = gorget(&["simulate", "strict.yaml", "-e", "-"], b"nonsense\n");
        expect![[r#"
            gorget: there is no event to decide
              1 line: is not JSON (line 1: nonsense)
        "#]]
        .assert_eq(&String::from_utf8(output.stderr).unwrap());
        assert_eq!(output.status.code(), Some(2));
        let stderr = answered(
            &["simulate", "strict.yaml", "-e", "missing.jsonl"],
            2,
            &expect![[""]],
        );
        assert!(stderr.contains("cannot read `missing.jsonl`"), "{stderr}");
    }
}

mod schema {
    use super::*;

    #[test]
    fn the_schema_is_four_definitions_in_either_form() {
        let yaml = gorget(&["schema"], b"");
        assert_eq!(yaml.status.code(), Some(0));
        let yaml = String::from_utf8(yaml.stdout).unwrap();
        let json = gorget(&["schema", "-o", "json"], b"");
        assert_eq!(json.status.code(), Some(0));
        let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
        let names: Vec<_> = json["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["spec"]["names"]["kind"].as_str().unwrap())
            .collect();
        assert_eq!(
            names,
            [
                "KubeArmorPolicy",
                "KubeArmorHostPolicy",
                "KubeArmorClusterPolicy",
                "KubeArmorNetworkPolicy"
            ]
        );
        for name in names {
            assert!(yaml.contains(&format!("    kind: {name}\n")), "{name}");
        }
    }
}

#[test]
fn the_commands_are_in_the_help() {
    answered(
        &["--help"],
        0,
        &expect![[r#"
            Work with policies

            Usage: gorget policy <COMMAND>

            Commands:
              check     Check policy files without an agent
              explain   Say what happens to one operation and which line of which policy decides
              diff      Say whether a change of policies changes what is denied, and show an example of each change
              shadowed  Find rules that never decide anything, and what hides each
              simulate  Replay recorded events: what would have been denied, audited and allowed, and by which rule
              test      Run test files: operations and what must come of them
              schema    Print the policy kinds as custom resource definitions
              apply     Have the agent put policies in force and keep them
              delete    Have the agent end policies that were applied
              list      List the policies that the agent has in force, and where each comes from
              get       Print a policy that the agent has in force as it was given, and what has become of it
              help      Print this message or the help of the given subcommand(s)

            Options:
              -h, --help  Print help
        "#]],
    );
    answered(
        &["explain", "-h"],
        0,
        &expect![[r#"
            Say what happens to one operation and which line of which policy decides

            Usage: gorget policy explain [OPTIONS] --op <OPERATION> --source <PATH> [FILE]...

            Arguments:
              [FILE]...  Policy files, or directories of such; none: the cluster's

            Options:
              -w, --workload <WORKLOAD>  The workload: labels (`app=web,tier=front`), `NAMESPACE/CONTAINER`, both, or `host[:NAME]`
              -p, --posture <POSTURE>    Default posture: `allow`, `audit`, `block`, or `file=block,network=audit` [default: audit]
                  --op <OPERATION>       What is done: `file:write:/etc/passwd`, `exec:/usr/bin/nc`, `network:tcp`, `dns:example.com`, …
                  --source <PATH>        Path of the program that does it, or `runtime` for the container runtime
                  --arg <ARGUMENT>       An argument of the program that is run; may be given several times
                  --not-owner            The program runs as another user than the owner of the file
                  --terminal             The program has a controlling terminal
              -o, --output <OUTPUT>      Form of the output [default: text] [possible values: text, json]
                  --color <COLOR>        When to use colour [default: auto] [possible values: auto, always, never]
              -h, --help                 Print help (see more with '--help')

            Cluster:
                  --cluster                  Ask the cluster of the current context, through its API server
                  --kubeconfig <FILE>        Kubeconfig that says where the cluster is [default: the files of `KUBECONFIG`, else ~/.kube/config]
                  --context <NAME>           Context of the kubeconfig [default: its current one]
                  --node <NAME>              Only the agent of this node
                  --gorget-namespace <NAME>  Namespace that Gorget is in
        "#]],
    );
    answered(
        &["diff", "-h"],
        0,
        &expect![[r#"
        Say whether a change of policies changes what is denied, and show an example of each change

        Usage: gorget policy diff [OPTIONS] <OLD> <NEW>

        Arguments:
          <OLD>  Policies before the change: a file, or a directory of such
          <NEW>  Policies after the change

        Options:
          -p, --posture <POSTURE>  Default posture: `allow`, `audit`, `block`, or `file=block,network=audit` [default: audit]
          -o, --output <OUTPUT>    Form of the output [default: text] [possible values: text, json]
              --color <COLOR>      When to use colour [default: auto] [possible values: auto, always, never]
          -h, --help               Print help (see more with '--help')
    "#]],
    );
}
