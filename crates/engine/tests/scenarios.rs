// SPDX-License-Identifier: Apache-2.0
//! The conformance scenarios against the reference, and what makes a file a scenario.
//!
//! Other tiers run the same files; a scenario that is wrong must fail here first.
#![cfg(test)]

use gorget_engine::conformance::{
    Case, Implementation, ImplementationError, Observed, Reference, Scenario, ScenarioError, run,
};
use gorget_engine::verify;
use gorget_model::{Access, Object, Outcome, Posture, Workload};
use gorget_policy::{Action, Policy};
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

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
            let beside = file.parent().unwrap();
            let mut read =
                |policies: &str| fs::read_to_string(beside.join(policies)).map_err(Into::into);
            Scenario::parse_with(name, &text, &mut read)
                .unwrap_or_else(|e| panic!("{e}: {:?}", e.source()))
        })
        .collect()
}

/// Every shipped policy, with its name as a file.
fn recommended() -> BTreeMap<String, Arc<Policy>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../policies/recommended");
    let one = |entry: io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        // As scenarios name it.
        let file = format!("../policies/recommended/{name}.yaml");
        let parsed = gorget_policy::parse(&file, &fs::read_to_string(&path).unwrap());
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        let [policy] = parsed.policies.try_into().unwrap();
        (name, Arc::new(policy))
    };
    fs::read_dir(directory).unwrap().map(one).collect()
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
                continue;
            };
            let name = String::from_utf8(object.clone()).unwrap();
            assert!(object.len() < 4_096, "{name}");
            // Those of a machine are there.
            let created = matches!(scenario.workload, Workload::Container(_))
                && !case.not_in.contains_key("vm");
            for reserved in ["/proc/", "/sys/", "/dev/"] {
                assert!(!(created && name.starts_with(reserved)), "{name}");
            }
            for component in name.split('/').skip(1) {
                assert!((1..=255).contains(&component.len()), "{name}");
            }
        }
    }
}

#[test]
fn every_recommended_policy_has_a_scenario_that_harms_no_legitimate_workload_and_stops_an_attack() {
    let scenarios = scenarios();
    for (name, policy) in recommended() {
        let file = format!("recommended-{name}.yaml");
        let scenario = scenarios.iter().find(|scenario| scenario.file == file);
        let scenario = scenario.unwrap_or_else(|| panic!("no `conformance/{file}`"));
        assert_eq!(policy.name, name);
        assert_eq!(scenario.set.policies, [policy], "{name}");
        let cases = |passes| {
            let expected = |case: &&Case| (case.expect == Outcome::Pass) == passes;
            scenario.cases.iter().filter(expected).count()
        };
        assert!(cases(true) >= 2 && cases(false) >= 1, "{name}");
        let unnamed = |case: &&Case| case.expect != Outcome::Pass && case.policy.is_none();
        assert!(!scenario.cases.iter().any(|case| unnamed(&case)), "{name}");
    }
}

#[test]
fn recommended_policies_decide_the_same_when_all_are_in_force() {
    let all = recommended();
    let mut scenarios = scenarios();
    scenarios.retain(|scenario| scenario.file.starts_with("recommended-"));
    let mut cases = 0;
    while let Some(mut together) = scenarios.first().cloned() {
        let selected = all.values().filter(|p| p.selects(&together.workload));
        together.set.policies = selected.cloned().collect();
        let mut reference = Reference::default();
        reference.prepare(&together).unwrap();
        let (same, others): (Vec<_>, Vec<_>) = scenarios.into_iter().partition(|scenario| {
            scenario.workload == together.workload && scenario.set.postures == together.set.postures
        });
        for (scenario, case) in same
            .iter()
            .flat_map(|s| s.cases.iter().map(move |c| (s, c)))
        {
            let observed = reference.decide(&case.access).unwrap();
            let at = format!("{}:{}", scenario.file, case.line);
            assert!(case.accepts(&observed), "{at}: {case}, but {observed}");
            cases += 1;
        }
        scenarios = others;
    }
    assert!(cases >= 150, "{cases} cases");
}

#[test]
fn no_recommended_policy_makes_an_allow_list() {
    for (name, policy) in recommended() {
        assert!(!policy.rules.is_empty(), "{name}");
        for rule in &policy.rules {
            assert_ne!(rule.action, Action::Allow, "{name}");
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
    let scenario = with("  - { op: file:read:/k, expect: audit }").unwrap();
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
        "  - { op: file:read:/k, expect: block, policy: q }\n  \
           - { op: file:read:/k, expect: audit, policy: q }\n  \
           - { op: file:read:/k, expect: audit, policy: p }",
    )
    .unwrap();
    let report = run(&scenario, &mut Reference::default());
    assert_eq!(report.passed, 1);
    assert_eq!(
        report.failures,
        [
            "s.yaml:14: expected block by `q`, but audit by `p`",
            "s.yaml:15: expected audit by `q`, but audit by `p`",
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
        "  - { op: file:read:/k, expect: audit, not_in: { blind: has no eyes } }\n  \
           - { op: file:read:/k, expect: audit, not_in: { deaf: has no ears } }",
    )
    .unwrap();
    let report = run(&scenario, &mut Blind);
    assert_eq!(report.not_expressible, ["s.yaml:14: has no eyes"]);
    assert_eq!(report.failures, ["s.yaml:15: expected audit, but allow"]);
    assert_eq!(report.passed, 0);
}

#[test]
fn all_cases_that_contradict_themselves_are_named_with_their_lines() {
    let error = with(
        "  - { op: exec:k, expect: allow }\n  \
           - { op: file:read:/k, source: s, expect: allow }\n  \
           - { op: file:read:/k, args: [x], expect: allow }\n  \
           - { op: file:read:/k, expect: audit }\n  \
           - { op: file:read:/k, expect: allow, policy: p }",
    )
    .unwrap_err();
    assert_eq!(
        error.to_string(),
        "s.yaml:14: `op`: path `k` is not absolute\n\
         s.yaml:15: `source`: path `s` is not absolute\n\
         s.yaml:16: only a program that is run has `args`\n\
         s.yaml:18: what is allowed raises no alert, so no alert names a `policy`"
    );
}

#[test]
fn policies_can_be_in_files_of_their_own() {
    let text = "
policies: [ a.yaml, b.yaml ]
workload: { container: web }
posture: { file: block, network: allow }
searchDomains: [ shop.svc.cluster.local ]
cases:
  - { op: exec:/bin/a, expect: audit, policy: a.yaml }
  - { op: exec:/bin/b, expect: audit, policy: a.yaml }
  - { op: exec:/bin/b, expect: block }
";
    let policy = |file: &str| {
        let run = if file == "a.yaml" { "/bin/a" } else { "/bin/b" };
        format!(
            "apiVersion: security.kubearmor.com/v1\n\
             kind: KubeArmorPolicy\n\
             metadata: {{ name: {file} }}\n\
             spec: {{ selector: {{}}, action: Audit, process: {{ matchPaths: [ {{ path: {run} }} ] }} }}\n"
        )
    };
    let mut read = |file: &str| Ok(policy(file));
    let scenario = Scenario::parse_with("t.yaml", text, &mut read).unwrap();
    assert_eq!(scenario.set.postures.file, Posture::Block);
    assert_eq!(scenario.set.postures.network, Posture::Allow);
    assert_eq!(scenario.set.postures.device, Posture::Audit);
    assert_eq!(scenario.set.search_domains, ["shop.svc.cluster.local"]);
    assert_eq!(
        gorget_policy::parse("all", &scenario.policies)
            .policies
            .len(),
        2
    );
    let verified = verify(&scenario).unwrap();
    let results: Vec<_> = verified.iter().map(|v| (v.case.line, v.passed)).collect();
    assert_eq!(results, [(7, true), (8, false), (9, false)]);
    assert_eq!(verified[1].observed.to_string(), "audit by `b.yaml`");

    let mut missing = |_: &str| Err("gone".into());
    let error = Scenario::parse_with("t.yaml", text, &mut missing).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`a.yaml`, which `t.yaml` names under `policies`, cannot be read"
    );
}

#[test]
fn what_is_no_scenario_is_refused() {
    let unknown = with("  - { op: file:read:/k, expect: allow, excuse: none }");
    assert!(
        matches!(unknown, Err(ScenarioError::Syntax { .. })),
        "{unknown:?}"
    );
    let broken = POLICY.replace("action: Audit", "action: Shrug");
    let error = Scenario::parse("s.yaml", &format!("{broken}  []")).unwrap_err();
    assert!(matches!(&error, ScenarioError::Policies { problems, .. } if !problems.is_empty()));
}
