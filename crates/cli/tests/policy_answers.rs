// SPDX-License-Identifier: Apache-2.0
//! `gorget policy explain`, `diff` and `test` as a user or a pipeline sees them: output and exit
//! status of the program itself, run in `tests/testdata/answers` and `tests/testdata/diff`.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "runs the binary")]

use expect_test::{Expect, expect};
use std::path::Path;
use std::process::{Command, Output};

fn gorget(directory: &str, arguments: &[&str]) -> Output {
    let testdata = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/testdata");
    Command::new(env!("CARGO_BIN_EXE_gorget"))
        .arg("policy")
        .args(arguments)
        .current_dir(testdata.join(directory))
        .output()
        .unwrap()
}

/// Gives standard error.
fn answered(output: Output, status: i32, expected: &Expect) -> String {
    expected.assert_eq(&String::from_utf8(output.stdout).unwrap());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(status), "{stderr}");
    stderr
}

mod explain {
    use super::*;

    fn explained(arguments: &[&str], status: i32, expected: &Expect) -> String {
        let output = gorget("answers", &[&["explain"], arguments].concat());
        answered(output, status, expected)
    }

    fn token_read_by(source: &str, expected: &Expect) {
        let operation = ["--op", "file:read:/run/secrets/token", "--source", source];
        let workload = ["--workload", "shop/web,app=web", "lenient.yaml"];
        let stderr = explained(&[operation.as_slice(), &workload].concat(), 0, expected);
        assert_eq!(stderr, "");
    }

    #[test]
    fn the_lenient_allow_list_names_the_right_line_for_cat() {
        token_read_by(
            "/bin/cat",
            &expect![[r#"
            file:read:/run/secrets/token by /bin/cat passes
              lenient.yaml:21: Allow, policy `shop/only-cat-reads-the-token`, by the directory `/run/secrets/` with all below it
                it decides
                21 |     - dir: /run/secrets/
                22 |       recursive: true
                23 |       fromSource:
                24 |       - path: /bin/cat

            rules that do not decide:
              lenient.yaml:16: Block, policy `shop/only-cat-reads-the-token`, by the directory `/run/secrets/` with all below it
                a rule whose `fromSource` names the subject goes before it
                16 |     - dir: /run/secrets/
                17 |       recursive: true
                18 |       action: Block
              lenient.yaml:19: Allow, policy `shop/only-cat-reads-the-token`, by the directory `/` with all below it
                a rule whose `fromSource` names the subject goes before it
                19 |     - dir: /
                20 |       recursive: true

            1 policy selects another workload
        "#]],
        );
    }

    #[test]
    fn the_lenient_allow_list_names_the_right_line_for_head() {
        token_read_by(
            "/bin/head",
            &expect![[r#"
            file:read:/run/secrets/token by /bin/head is denied
              lenient.yaml:16: Block, policy `shop/only-cat-reads-the-token`, by the directory `/run/secrets/` with all below it
                it decides
                16 |     - dir: /run/secrets/
                17 |       recursive: true
                18 |       action: Block

            rules that do not decide:
              lenient.yaml:19: Allow, policy `shop/only-cat-reads-the-token`, by the directory `/` with all below it
                the directory `/run/secrets/` with all below it goes before it, because that is more specific
                19 |     - dir: /
                20 |       recursive: true
              lenient.yaml:21: Allow, policy `shop/only-cat-reads-the-token`, by the directory `/run/secrets/` with all below it
                its `fromSource` does not name the subject
                21 |     - dir: /run/secrets/
                22 |       recursive: true
                23 |       fromSource:
                24 |       - path: /bin/cat

            1 policy selects another workload
        "#]],
        );
    }

    #[test]
    fn the_lenient_allow_list_names_the_right_line_for_sh_that_runs_something() {
        explained(
            &[
                "--workload=app=web",
                "--op=exec:/usr/bin/id",
                "--source=/bin/sh",
                "--arg=-u",
                "lenient.yaml",
            ],
            0,
            &expect![[r#"
                exec:/usr/bin/id by /bin/sh with the arguments `-u` passes
                  lenient.yaml:12: Allow, policy `shop/only-cat-reads-the-token`, by the directory `/` with all below it
                    it decides
                    12 |     - dir: /
                    13 |       recursive: true

                1 policy selects another workload
            "#]],
        );
        token_read_by(
            "/bin/sh",
            &expect![[r#"
            file:read:/run/secrets/token by /bin/sh is denied
              lenient.yaml:16: Block, policy `shop/only-cat-reads-the-token`, by the directory `/run/secrets/` with all below it
                it decides
                16 |     - dir: /run/secrets/
                17 |       recursive: true
                18 |       action: Block

            rules that do not decide:
              lenient.yaml:19: Allow, policy `shop/only-cat-reads-the-token`, by the directory `/` with all below it
                the directory `/run/secrets/` with all below it goes before it, because that is more specific
                19 |     - dir: /
                20 |       recursive: true
              lenient.yaml:21: Allow, policy `shop/only-cat-reads-the-token`, by the directory `/run/secrets/` with all below it
                its `fromSource` does not name the subject
                21 |     - dir: /run/secrets/
                22 |       recursive: true
                23 |       fromSource:
                24 |       - path: /bin/cat

            1 policy selects another workload
        "#]],
        );
    }

    #[test]
    fn an_access_that_a_listed_object_does_not_allow_is_left_to_the_posture() {
        explained(
            &[
                "--op=file:write:/etc/app.conf",
                "--source=/bin/sh",
                "--posture=file=block",
                "strict.yaml",
            ],
            0,
            &expect![[r#"
                file:write:/etc/app.conf by /bin/sh is denied
                  strict.yaml:12: Allow, policy `shop/strict`, by the exact path
                    it lists the object, but does not allow this access, so the default posture decides
                    12 |     - path: /etc/app.conf
                    13 |       readOnly: true
                    14 |       action: Allow
                  what no rule applies to is denied, because there is an allow list (strict.yaml:12:7)
            "#]],
        );
    }

    #[test]
    fn reading_and_writing_at_once_says_which_of_them_counted() {
        explained(
            &[
                "--op=file:readwrite:/etc/app.conf",
                "--source=/bin/sh",
                "--posture=block",
                "strict.yaml",
            ],
            0,
            &expect![[r#"
                file:readwrite:/etc/app.conf by /bin/sh is denied, because of what is said about writing
                  strict.yaml:12: Allow, policy `shop/strict`, by the exact path
                    it lists the object, but does not allow this access, so the default posture decides
                    12 |     - path: /etc/app.conf
                    13 |       readOnly: true
                    14 |       action: Allow
                  what no rule applies to is denied, because there is an allow list (strict.yaml:12:7)
            "#]],
        );
    }

    #[test]
    fn what_no_rule_names_is_said_to_be_so() {
        explained(
            &[
                "--op=file:write:/etc/other",
                "--source=/bin/sh",
                "--not-owner",
                "--terminal",
                "strict.yaml",
            ],
            0,
            &expect![[r#"
                file:write:/etc/other by /bin/sh, not the owner, on a terminal passes with an alert
                  no rule of 1 policy applies
                  what no rule applies to passes with an alert, because there is an allow list (strict.yaml:12:7)
            "#]],
        );
    }

    #[test]
    fn a_workload_that_no_policy_selects_is_free() {
        explained(
            &[
                "--workload=host:node-1",
                "--op=file:write:/etc/app.conf",
                "--source=runtime",
                "strict.yaml",
            ],
            0,
            &expect![[r#"
                file:write:/etc/app.conf by the container runtime passes
                  no rule of 0 policies applies
                  what no rule applies to passes

                1 policy selects another workload
            "#]],
        );
    }

    #[test]
    fn an_explanation_can_be_had_as_json() {
        explained(
            &[
                "--workload=app=web",
                "--op=file:read:/run/secrets/token",
                "--source=/bin/head",
                "--output=json",
                "lenient.yaml",
            ],
            0,
            &expect![[r#"
                {
                  "access": {
                    "operation": "file:read:/run/secrets/token",
                    "source": "/bin/head",
                    "owner": true,
                    "terminal": false,
                    "arguments": []
                  },
                  "outcome": "block",
                  "cause": "rule",
                  "about": "the access",
                  "unlisted": "what no rule applies to passes with an alert, because there is an allow list (lenient.yaml:19:7 and 1 more)",
                  "policies": 1,
                  "policiesForOthers": 1,
                  "rules": [
                    {
                      "file": "lenient.yaml",
                      "line": 16,
                      "column": 7,
                      "policy": "shop/only-cat-reads-the-token",
                      "action": "Block",
                      "decides": true,
                      "names": "the directory `/run/secrets/` with all below it",
                      "asks": "Block",
                      "reason": "it decides",
                      "text": [
                        "    - dir: /run/secrets/",
                        "      recursive: true",
                        "      action: Block"
                      ]
                    },
                    {
                      "file": "lenient.yaml",
                      "line": 19,
                      "column": 7,
                      "policy": "shop/only-cat-reads-the-token",
                      "action": "Allow",
                      "decides": false,
                      "names": "the directory `/` with all below it",
                      "asks": "Allow",
                      "reason": "the directory `/run/secrets/` with all below it goes before it, because that is more specific",
                      "text": [
                        "    - dir: /",
                        "      recursive: true"
                      ]
                    },
                    {
                      "file": "lenient.yaml",
                      "line": 21,
                      "column": 7,
                      "policy": "shop/only-cat-reads-the-token",
                      "action": "Allow",
                      "decides": false,
                      "names": "the directory `/run/secrets/` with all below it",
                      "asks": "Allow",
                      "reason": "its `fromSource` does not name the subject",
                      "text": [
                        "    - dir: /run/secrets/",
                        "      recursive: true",
                        "      fromSource:",
                        "      - path: /bin/cat"
                      ]
                    }
                  ]
                }
            "#]],
        );
    }

    #[test]
    fn invalid_policies_are_no_ground_for_an_answer() {
        let stderr = explained(
            &["--op=exec:/bin/ls", "--source=/bin/sh", "../broken.yaml"],
            2,
            &expect![[""]],
        );
        expect![[r#"
            gorget: the policies have errors:
              ../broken.yaml:11:33: error: spec.file.matchPaths[0].action: `Bock` is not an action (did you mean `Block`?)
              ../broken.yaml:12:13: error: spec.file.matchPaths[1].path: `relative/path` does not begin with `/` (write the absolute path)
        "#]].assert_eq(&stderr);
    }

    #[test]
    fn wrong_operations_sources_and_workloads_are_wrong_usage() {
        let good = [
            ["--op", "exec:/bin/ls"],
            ["--source", "/bin/sh"],
            ["--workload", "app=web"],
        ];
        for (wrong, reason) in [
            (["--op", "open:/x"], "`open:/x` is not an operation"),
            (["--op", "file:read:x"], "path `x` is not absolute"),
            (["--source", "sh"], "path `sh` is not absolute"),
            (["--workload", "a,b"], "`a` and `b` are two workloads"),
            (["--posture", "deny"], "`deny` is no posture"),
        ] {
            let others = good.iter().filter(|[name, _]| *name != wrong[0]);
            let arguments: Vec<&str> = others.flatten().copied().chain(wrong).collect();
            let stderr = explained(
                &[arguments.as_slice(), &["strict.yaml"]].concat(),
                2,
                &expect![[""]],
            );
            assert!(stderr.contains(reason), "{stderr}");
        }
        let stderr = explained(
            &[
                "--op=file:read:/x",
                "--source=/bin/sh",
                "--arg=x",
                "strict.yaml",
            ],
            2,
            &expect![[""]],
        );
        assert!(stderr.contains("only a program that is run"), "{stderr}");
    }
}

mod diff {
    use super::*;

    fn compared(arguments: &[&str], status: i32, expected: &Expect) -> String {
        let output = gorget("diff", &[&["diff"], arguments].concat());
        answered(output, status, expected)
    }

    #[test]
    fn a_glob_that_became_narrower_has_a_witness() {
        compared(
            &["glob-old.yaml", "glob-new.yaml"],
            1,
            &expect![[r#"
            for the container `container` in `shop` with app=web
              policies `shop/conf`
              newly allowed:
                file:read:/etc/.conf by any program
                  before: is denied, by glob-old.yaml:12 (Block, policy `shop/conf`)
                  now:    passes, no rule applies

            0 newly denied, 1 newly allowed, 0 with other alerts
        "#]],
        );
    }

    #[test]
    fn a_directory_that_is_no_longer_recursive_has_a_witness() {
        compared(
            &["recursive-old.yaml", "recursive-new.yaml"],
            1,
            &expect![[r#"
                for the container `container` in `shop` with app=web
                  policies `shop/srv`
                  newly allowed:
                    file:read:/srv/a/a by any program
                      before: is denied, by recursive-old.yaml:12 (Block, policy `shop/srv`)
                      now:    passes, no rule applies

                0 newly denied, 1 newly allowed, 0 with other alerts
            "#]],
        );
    }

    #[test]
    fn the_last_allow_rule_of_a_category_has_a_witness_when_it_goes() {
        compared(
            &["--posture=block", "allow-old.yaml", "allow-new.yaml"],
            1,
            &expect![[r#"
                for the container `container` in `shop` with app=web
                  policies `shop/listed`
                  newly allowed:
                    exec:/a by any program
                      before: is denied, by the default posture
                      now:    passes, no rule applies
                    file:tree:/usr by any program
                      before: is denied, by the default posture
                      now:    passes, no rule applies

                0 newly denied, 2 newly allowed, 0 with other alerts
            "#]],
        );
        compared(
            &["allow-old.yaml", "allow-new.yaml"],
            1,
            &expect![[r#"
            for the container `container` in `shop` with app=web
              policies `shop/listed`
              passes as before, with other alerts:
                exec:/a by any program
                  before: passes with an alert, by the default posture
                  now:    passes, no rule applies
                file:tree:/usr by any program
                  before: passes with an alert, by the default posture
                  now:    passes, no rule applies

            0 newly denied, 0 newly allowed, 2 with other alerts
        "#]],
        );
    }

    #[test]
    fn read_only_has_a_witness() {
        compared(
            &["-p", "file=block", "readonly-old.yaml", "readonly-new.yaml"],
            1,
            &expect![[r#"
                for the container `container` in `shop` with app=web
                  policies `shop/data`
                  newly denied:
                    file:write:/data/list by any program
                      before: passes, by readonly-old.yaml:12 (Allow, policy `shop/data`)
                      now:    is denied, by the default posture

                1 newly denied, 0 newly allowed, 0 with other alerts
            "#]],
        );
    }

    #[test]
    fn the_same_words_in_another_order_make_no_difference() {
        compared(
            &["whole.yaml", "reordered"],
            0,
            &expect![[r#"
            no difference
        "#]],
        );
    }

    #[test]
    fn a_policy_that_is_split_in_two_makes_no_difference() {
        compared(
            &["whole.yaml", "split"],
            0,
            &expect![[r#"
            alerts of 4 rules say something else (policy, severity, tags or message); that changes no outcome
            no difference
        "#]],
        );
        compared(
            &["split", "whole.yaml"],
            0,
            &expect![[r#"
            alerts of 4 rules say something else (policy, severity, tags or message); that changes no outcome
            no difference
        "#]],
        );
    }

    #[test]
    fn a_difference_can_be_had_as_json() {
        compared(
            &["-o", "json", "glob-old.yaml", "glob-new.yaml"],
            1,
            &expect![[r#"
                {
                  "same": false,
                  "complete": true,
                  "notCompared": [],
                  "otherAlertTexts": 0,
                  "workloads": [
                    {
                      "workload": "the container `container` in `shop` with app=web",
                      "oldPolicies": [
                        "shop/conf"
                      ],
                      "newPolicies": [
                        "shop/conf"
                      ],
                      "newlyDenied": [],
                      "newlyAllowed": [
                        {
                          "witness": {
                            "operation": "file:read:/etc/.conf",
                            "source": "/a",
                            "owner": false,
                            "terminal": false,
                            "arguments": []
                          },
                          "anySource": true,
                          "sources": [
                            "/a"
                          ],
                          "old": {
                            "outcome": "block",
                            "by": "glob-old.yaml:12 (Block, policy `shop/conf`)"
                          },
                          "new": {
                            "outcome": "allow",
                            "by": "no rule"
                          }
                        }
                      ],
                      "otherAlerts": []
                    }
                  ]
                }
            "#]],
        );
        compared(
            &["-o", "json", "whole.yaml", "split"],
            0,
            &expect![[r#"
            {
              "same": true,
              "complete": true,
              "notCompared": [],
              "otherAlertTexts": 4,
              "workloads": []
            }
        "#]],
        );
    }

    #[test]
    fn what_cannot_be_read_is_no_equality() {
        let stderr = compared(&["whole.yaml", "missing.yaml"], 2, &expect![[""]]);
        assert!(stderr.starts_with("gorget: cannot read `missing.yaml`: "));
        let stderr = compared(&["whole.yaml", "../broken.yaml"], 2, &expect![[""]]);
        assert!(stderr.contains("`Bock` is not an action"), "{stderr}");
    }
}

mod test {
    use super::*;

    fn tested(arguments: &[&str], status: i32, expected: &Expect) -> String {
        let output = gorget("answers", &[&["test"], arguments].concat());
        answered(output, status, expected)
    }

    #[test]
    fn expectations_that_are_met_are_counted() {
        let stderr = tested(
            &["passing.test.yaml"],
            0,
            &expect![[r#"
            1 file, 3 cases, 0 failed
        "#]],
        );
        assert_eq!(stderr, "");
    }

    #[test]
    fn a_failed_expectation_is_shown_with_the_rule_that_decided() {
        tested(
            &["failing.test.yaml", "passing.test.yaml"],
            1,
            &expect![[r#"
                failing.test.yaml:4: file:read:/run/secrets/token by /bin/sh: expected allow, got block by `only-cat-reads-the-token`
                  lenient.yaml:16 (Block, policy `shop/only-cat-reads-the-token`): it decides
                failing.test.yaml:5: file:read:/run/secrets/token by /bin/head: expected block by `another`, got block by `only-cat-reads-the-token`
                  lenient.yaml:16 (Block, policy `shop/only-cat-reads-the-token`): it decides
                failing.test.yaml:6: network:inet/stream/6 by /bin/sh: expected block, got allow
                2 files, 7 cases, 3 failed
            "#]],
        );
    }

    #[test]
    fn policies_can_be_in_the_test_file_itself() {
        tested(
            &["inline.test.yaml"],
            1,
            &expect![[r#"
            inline.test.yaml:12: exec:/usr/bin/nc by /bin/sh: expected audit, got block by `no-nc`
              line 8 of its policies (Block, policy `no-nc`): it decides
            1 file, 1 case, 1 failed
        "#]],
        );
    }

    #[test]
    fn results_can_be_had_as_json() {
        tested(
            &["-o", "json", "inline.test.yaml"],
            1,
            &expect![[r#"
            {
              "files": 1,
              "cases": 1,
              "failures": [
                {
                  "file": "inline.test.yaml",
                  "line": 12,
                  "access": {
                    "operation": "exec:/usr/bin/nc",
                    "source": "/bin/sh",
                    "owner": true,
                    "terminal": false,
                    "arguments": []
                  },
                  "expected": "expected audit",
                  "observed": "block by `no-nc`",
                  "because": "line 8 of its policies (Block, policy `no-nc`): it decides"
                }
              ]
            }
        "#]],
        );
    }

    #[test]
    fn a_test_file_that_tests_nothing_is_no_success() {
        let stderr = tested(
            &["empty.test.yaml", "passing.test.yaml"],
            2,
            &expect![[r#"
            1 file, 3 cases, 0 failed
        "#]],
        );
        assert_eq!(stderr, "gorget: `empty.test.yaml` has no cases\n");
        let stderr = tested(
            &["missing.yaml", "lenient.yaml"],
            2,
            &expect![[r#"
            0 files, 0 cases, 0 failed
        "#]],
        );
        assert!(stderr.contains("cannot read `missing.yaml`"), "{stderr}");
        assert!(
            stderr.contains("`lenient.yaml` is not a test file"),
            "{stderr}"
        );
    }
}

#[test]
fn names_in_policies_cannot_speak_to_the_terminal() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("odd.yaml");
    let text = "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorPolicy\n\
                metadata: { name: odd }\nspec:\n  selector: { matchLabels: { a: \"\\e[2Jb\" } }\n  \
                file: { matchDirectories: [ { dir: \"/\\e[2J/\" } ] }\n";
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let operation = "--op=file:read:/\u{1b}[2J/x";
    let explained = gorget(".", &["explain", operation, "--source=/bin/sh", file]);
    assert_eq!(explained.status.code(), Some(0));
    let empty = directory.path().join("none.yaml");
    std::fs::write(&empty, "").unwrap();
    let compared = gorget(".", &["diff", file, empty.to_str().unwrap()]);
    assert_eq!(compared.status.code(), Some(1));
    for output in [explained, compared] {
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("\\u{1b}[2J"), "{text}");
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
