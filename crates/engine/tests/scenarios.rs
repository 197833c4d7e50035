// SPDX-License-Identifier: Apache-2.0
//! The conformance scenarios against the reference, and what makes a file a scenario.
//!
//! Other tiers run the same files; a scenario that is wrong must fail here first.
#![cfg(test)]

use gorget_engine::conformance::{
    Implementation, ImplementationError, Observed, Reference, Scenario, ScenarioError, run,
};
use gorget_model::{Access, Object, Outcome, Workload};
use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::Path;

fn scenarios() -> Vec<Scenario> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance");
    let mut files: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "yaml")
    });
    files.sort();
    files
        .iter()
        .map(|file| {
            let name = file.file_name().unwrap().to_str().unwrap();
            let text = fs::read_to_string(file).unwrap();
            Scenario::parse(name, &text).unwrap_or_else(|e| panic!("{e}: {:?}", e.source()))
        })
        .collect()
}

#[test]
fn the_reference_passes_every_scenario() {
    let scenarios = scenarios();
    let mut reference = Reference::default();
    let mut failures = Vec::new();
    let mut passed = 0;
    for scenario in &scenarios {
        let report = run(scenario, &mut reference);
        failures.extend(report.failures);
        passed += report.passed;
        assert!(
            report.not_expressible.is_empty(),
            "the reference expresses everything"
        );
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    assert!(scenarios.len() >= 45, "{} scenarios", scenarios.len());
    assert!(passed >= 250, "{passed} cases");
}

#[test]
fn every_scenario_says_something_of_its_own() {
    let scenarios = scenarios();
    let names: BTreeSet<_> = scenarios.iter().map(|scenario| &scenario.name).collect();
    assert_eq!(names.len(), scenarios.len());
    for scenario in &scenarios {
        assert!(scenario.cases.len() >= 2, "{}", scenario.file);
    }
}

#[test]
fn every_object_can_be_created_in_a_container() {
    for scenario in scenarios() {
        for case in &scenario.cases {
            let Object::Path(object) = &case.access.object else {
                panic!("{}", scenario.file)
            };
            let name = String::from_utf8(object.clone()).unwrap();
            assert!(object.len() < 4_096, "{name}");
            for reserved in ["/proc/", "/sys/", "/dev/"] {
                assert!(!name.starts_with(reserved), "{name}");
            }
            for component in name.split('/').skip(1) {
                assert!((1..=255).contains(&component.len()), "{name}");
            }
        }
    }
}

const POLICY: &str = "
name: n
posture: block
policies: |
  apiVersion: security.kubearmor.com/v1
  kind: KubeArmorPolicy
  metadata: { name: p }
  spec:
    selector: { matchLabels: { app: web } }
    action: Audit
    file: { matchPaths: [ { path: /k } ] }
workload: { container: web, labels: { app: web } }
cases:
";

fn with(cases: &str) -> Result<Scenario, ScenarioError> {
    Scenario::parse("s.yaml", &format!("{POLICY}{cases}"))
}

#[test]
fn what_is_not_written_has_a_default() {
    let scenario = with("  - { do: file, object: /k, expect: audit }").unwrap();
    let case = &scenario.cases[0];
    let modes = case.access.modes;
    assert_eq!(
        (modes.read, modes.write, modes.owner, modes.tree),
        (true, false, true, false)
    );
    assert_eq!(
        case.access.subject,
        gorget_model::Subject::Image(b"/actor".to_vec())
    );
    assert_eq!(case.policy, None);
    assert!(case.not_in.is_empty());
}

#[test]
fn a_workload_is_a_container_or_a_host() {
    let other = |workload: &str| {
        let text = POLICY.replace("{ container: web, labels: { app: web } }", workload);
        Scenario::parse("s.yaml", &format!("{text}  []"))
    };
    assert!(matches!(other("host").unwrap().workload, Workload::Host(_)));
    let Workload::Host(host) = other("{ host: h, labels: { a: b } }").unwrap().workload else {
        panic!("not a host")
    };
    assert_eq!((host.name.as_str(), host.labels["a"].as_str()), ("h", "b"));
    for neither in [
        "{}",
        "{ labels: {} }",
        "{ host: h, container: c }",
        "{ host: h, namespace: shop }",
    ] {
        let refused = other(neither);
        assert!(
            matches!(refused, Err(ScenarioError::Workload { .. })),
            "{neither}"
        );
    }
}

#[test]
fn a_failing_case_says_where_what_was_expected_and_what_came() {
    let scenario = with(
        "  - { do: file, object: /k, expect: block, policy: q }\n  \
           - { do: file, object: /k, expect: audit, policy: q }\n  \
           - { do: file, object: /k, expect: audit, policy: p }",
    )
    .unwrap();
    let report = run(&scenario, &mut Reference::default());
    assert_eq!(report.passed, 1);
    assert_eq!(
        report.failures,
        [
            "s.yaml case 1: expected block by `q`, but audit by `p`",
            "s.yaml case 2: expected audit by `q`, but audit by `p`",
        ]
    );
}

struct Blind;

impl Implementation for Blind {
    fn name(&self) -> &'static str {
        "blind"
    }

    fn prepare(&mut self, _: &Scenario) -> Result<(), ImplementationError> {
        Ok(())
    }

    fn decide(&mut self, _: &Access) -> Result<Observed, ImplementationError> {
        Ok(Observed {
            outcome: Outcome::Pass,
            policy: None,
        })
    }
}

#[test]
fn a_case_that_an_implementation_cannot_express_is_reported_and_not_run() {
    let scenario = with(
        "  - { do: file, object: /k, expect: audit, not_in: { blind: has no eyes } }\n  \
           - { do: file, object: /k, expect: audit, not_in: { deaf: has no ears } }",
    )
    .unwrap();
    let report = run(&scenario, &mut Blind);
    assert_eq!(report.not_expressible, ["s.yaml case 1: has no eyes"]);
    assert_eq!(report.failures, ["s.yaml case 2: expected audit, but pass"]);
    assert_eq!(report.passed, 0);
}

#[test]
fn what_contradicts_itself_is_refused() {
    for (case, reason) in [
        (
            "{ do: exec, object: /k, access: read, expect: pass }",
            "runs an image",
        ),
        (
            "{ do: file, object: k, expect: pass }",
            "has a path that is not absolute",
        ),
        (
            "{ do: file, object: /k, subject: s, expect: pass }",
            "has a path that is not absolute",
        ),
        (
            "{ do: file, object: /k, expect: pass, policy: p }",
            "passes without an alert",
        ),
    ] {
        let error = with(&format!("  - {case}")).unwrap_err().to_string();
        assert!(error.starts_with("case 1 of scenario `s.yaml`"), "{error}");
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn what_is_no_scenario_is_refused() {
    let unknown = with("  - { do: file, object: /k, expect: pass, excuse: none }");
    assert!(
        matches!(unknown, Err(ScenarioError::Syntax { .. })),
        "{unknown:?}"
    );
    let broken = POLICY.replace("action: Audit", "action: Shrug");
    let error = Scenario::parse("s.yaml", &format!("{broken}  []")).unwrap_err();
    assert!(matches!(&error, ScenarioError::Policies { problems, .. } if !problems.is_empty()));
}
