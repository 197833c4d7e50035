// SPDX-License-Identifier: Apache-2.0
//! Scenarios: policies, a workload, accesses, and what must come of each.
//!
//! One scenario is one YAML file in `conformance/`; reading files is the caller's part. Every tier
//! runs the same ones through [`Implementation`]: the [`Reference`], the decision code of a backend
//! without a kernel, and real containers. A case that a tier cannot express names that tier and why
//! (`not_in`); [`run`] reports it, so nothing is skipped in silence.
//!
//! ```yaml
//! name: only the named source may read
//! posture: audit                  # allow | audit | block
//! policies: |                     # documents exactly as users write them
//!   ...
//! workload: { container: web, namespace: shop, labels: { app: web } }
//! cases:
//!   - { do: file, object: /etc/key, subject: /bin/cat, access: read, expect: block, policy: keys }
//!   - { do: exec, object: /bin/ls, owner: false, expect: pass, not_in: { vm: why } }
//! ```
//!
//! A host is `{ host: NAME, labels: {...} }`, or `host` when neither matters.
//! `access` is read, write, readwrite or tree (default read), `owner` defaults to true, `subject` to
//! `/actor`. `policy` is the name that the alert must carry; without it the name is not checked.

use crate::{Aliases, CompileError, PolicySet, Ruleset, compile, decide};
use gorget_model::{
    Access, Category, Cause, Container, Host, Modes, Object, Outcome, Posture, Postures, Subject,
    Workload,
};
use gorget_policy::{ProblemSeverity, parse};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// What an alert names when no rule decided.
const DEFAULT_POSTURE: &str = "DefaultPosture";

/// Policies, a workload and accesses, read from one file.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it shows, in words.
    pub name: String,
    /// The file as given to [`Scenario::parse`].
    pub file: String,
    /// The policy documents as written, for implementations that take text.
    pub policies: String,
    /// Whom the policies are to be applied to.
    pub workload: Workload,
    /// Those of the policies that select the workload, with the posture.
    pub set: PolicySet,
    /// What is attempted.
    pub cases: Vec<Case>,
}

/// One access and what must come of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What is attempted.
    pub access: Access,
    /// What must happen.
    pub expect: Outcome,
    /// Which policy the alert must name, or `DefaultPosture`; `None` when that is not checked.
    pub policy: Option<String>,
    /// Implementations that cannot express this case, and why.
    pub not_in: BTreeMap<String, String>,
}

/// Why a scenario file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It is not a scenario.
    #[error("scenario `{file}` cannot be read")]
    Syntax {
        /// Which file.
        file: String,
        /// What is wrong with it.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    /// Its policies are not valid.
    #[error("scenario `{file}` has policies with problems: {}", problems.join("; "))]
    Policies {
        /// Which file.
        file: String,
        /// What is wrong with them.
        problems: Vec<String>,
    },
    /// It does not say which workload.
    #[error("workload of scenario `{file}` is neither a `container` nor a `host`")]
    Workload {
        /// Which file.
        file: String,
    },
    /// A case contradicts itself.
    #[error("case {number} of scenario `{file}` {reason}")]
    Case {
        /// Which file.
        file: String,
        /// Counts from 1.
        number: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ScenarioSpec {
    name: String,
    posture: Posture,
    policies: String,
    workload: WorkloadSpec,
    cases: Vec<CaseSpec>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WorkloadSpec {
    Word(WorkloadWord),
    Fields(WorkloadFields),
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum WorkloadWord {
    Host,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WorkloadFields {
    container: Option<String>,
    host: Option<String>,
    namespace: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseSpec {
    #[serde(rename = "do")]
    operation: OperationSpec,
    object: String,
    subject: Option<String>,
    access: Option<AccessSpec>,
    owner: Option<bool>,
    expect: ExpectSpec,
    policy: Option<String>,
    #[serde(default)]
    not_in: BTreeMap<String, String>,
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum OperationSpec {
    Exec,
    File,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AccessSpec {
    Read,
    Write,
    ReadWrite,
    Tree,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ExpectSpec {
    Pass,
    Audit,
    Block,
}

impl Scenario {
    /// Reads a scenario. `file` is only for messages.
    ///
    /// # Errors
    ///
    /// When the text is no scenario, a policy in it is not valid, or a case contradicts itself.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        let spec: ScenarioSpec =
            serde_saphyr::from_str(text).map_err(|e| ScenarioError::Syntax {
                file: file.to_owned(),
                source: Box::new(e),
            })?;
        let ScenarioSpec {
            name,
            posture,
            policies,
            workload,
            cases,
        } = spec;
        let workload = workload
            .into_workload()
            .ok_or_else(|| ScenarioError::Workload {
                file: file.to_owned(),
            })?;

        let parsed = parse(file, &policies);
        let errors = parsed
            .problems
            .iter()
            .filter(|p| p.severity == ProblemSeverity::Error);
        let problems: Vec<String> = errors.map(ToString::to_string).collect();
        if !problems.is_empty() {
            return Err(ScenarioError::Policies {
                file: file.to_owned(),
                problems,
            });
        }
        let selected = parsed
            .policies
            .into_iter()
            .filter(|policy| policy.selects(&workload));
        let set = PolicySet {
            policies: selected.map(Arc::new).collect(),
            postures: Postures::all(posture),
            aliases: Aliases::default(),
            search_domains: Vec::new(),
        };
        let cases = (1..)
            .zip(cases)
            .map(|(number, case)| {
                case.into_case().map_err(|reason| {
                    let file = file.to_owned();
                    ScenarioError::Case {
                        file,
                        number,
                        reason,
                    }
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name,
            file: file.to_owned(),
            policies,
            workload,
            set,
            cases,
        })
    }
}

impl WorkloadSpec {
    fn into_workload(self) -> Option<Workload> {
        let WorkloadFields {
            container,
            host,
            namespace,
            labels,
        } = match self {
            Self::Word(WorkloadWord::Host) => return Some(Workload::Host(Host::default())),
            Self::Fields(fields) => fields,
        };
        match (container, host) {
            (Some(name), None) => {
                let container = Container {
                    name,
                    namespace,
                    labels,
                    ..Container::default()
                };
                Some(Workload::Container(container))
            }
            (None, Some(name)) if namespace.is_none() => {
                Some(Workload::Host(Host { name, labels }))
            }
            (Some(_), Some(_)) | (None, Some(_) | None) => None,
        }
    }
}

impl CaseSpec {
    fn into_case(self) -> Result<Case, &'static str> {
        let Self {
            operation,
            object,
            subject,
            access,
            owner,
            expect,
            policy,
            not_in,
        } = self;
        let subject = subject.unwrap_or_else(|| "/actor".to_owned());
        if !object.starts_with('/') || !subject.starts_with('/') {
            return Err("has a path that is not absolute");
        }
        if operation == OperationSpec::Exec && access.is_some() {
            return Err("runs an image, which has no `access`");
        }
        let expect = match expect {
            ExpectSpec::Pass => Outcome::Pass,
            ExpectSpec::Audit => Outcome::Audit,
            ExpectSpec::Block => Outcome::Block,
        };
        if expect == Outcome::Pass && policy.is_some() {
            return Err("passes without an alert, so no alert names a `policy`");
        }
        let (category, read, write, tree) = match (operation, access) {
            (OperationSpec::Exec, _) => (Category::Process, false, false, false),
            (OperationSpec::File, None | Some(AccessSpec::Read)) => {
                (Category::File, true, false, false)
            }
            (OperationSpec::File, Some(AccessSpec::Write)) => (Category::File, false, true, false),
            (OperationSpec::File, Some(AccessSpec::ReadWrite)) => {
                (Category::File, true, true, false)
            }
            (OperationSpec::File, Some(AccessSpec::Tree)) => (Category::File, false, true, true),
        };
        let access = Access {
            category,
            subject: Subject::Image(subject.into_bytes()),
            object: Object::Path(object.into_bytes()),
            modes: Modes {
                read,
                write,
                owner: owner.unwrap_or(true),
                tree,
                terminal: false,
            },
            arguments: Vec::new(),
        };
        Ok(Case {
            access,
            expect,
            policy,
            not_in,
        })
    }
}

/// What an implementation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What happened.
    pub outcome: Outcome,
    /// Which policy the alert named, or `DefaultPosture`; `None` when there was no alert.
    pub policy: Option<String>,
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, self.outcome, self.policy.as_deref())
    }
}

fn show(f: &mut fmt::Formatter<'_>, outcome: Outcome, policy: Option<&str>) -> fmt::Result {
    f.write_str(match outcome {
        Outcome::Pass => "pass",
        Outcome::Audit => "audit",
        Outcome::Block => "block",
    })?;
    policy.map_or(Ok(()), |policy| write!(f, " by `{policy}`"))
}

/// Why an implementation could not say anything.
pub type ImplementationError = Box<dyn std::error::Error + Send + Sync>;

/// Something that enforces policies, or pretends to.
pub trait Implementation {
    /// What `not_in` calls it.
    fn name(&self) -> &str;

    /// Puts the scenario's policies in force; those of the scenario before are gone.
    ///
    /// # Errors
    ///
    /// When that is not possible.
    fn prepare(&mut self, scenario: &Scenario) -> Result<(), ImplementationError>;

    /// Attempts one access of the prepared scenario.
    ///
    /// # Errors
    ///
    /// When nothing could be attempted or observed.
    fn decide(&mut self, access: &Access) -> Result<Observed, ImplementationError>;
}

/// [`compile`] and [`decide`].
#[derive(Debug, Default)]
pub struct Reference {
    rules: Option<Ruleset>,
}

impl Implementation for Reference {
    fn name(&self) -> &'static str {
        "reference"
    }

    fn prepare(&mut self, scenario: &Scenario) -> Result<(), ImplementationError> {
        let compiled: Result<_, CompileError> = compile(&scenario.set);
        self.rules = Some(compiled?);
        Ok(())
    }

    fn decide(&mut self, access: &Access) -> Result<Observed, ImplementationError> {
        let rules = self.rules.as_ref().ok_or("no scenario was prepared")?;
        let verdict = decide(rules, access);
        let policy = match verdict.cause {
            Cause::Rule(id) => rules
                .rules()
                .get(id.0 as usize)
                .map(|rule| rule.policy.clone()),
            Cause::DefaultPosture => Some(DEFAULT_POSTURE.to_owned()),
            Cause::NoRule => None,
        };
        let policy = policy.filter(|_| verdict.outcome != Outcome::Pass);
        Ok(Observed {
            outcome: verdict.outcome,
            policy,
        })
    }
}

/// What came of running a scenario.
#[derive(Debug, Default)]
pub struct Report {
    /// How many cases gave what they must.
    pub passed: usize,
    /// One line for each case that did not.
    pub failures: Vec<String>,
    /// One line for each case that this implementation cannot express.
    pub not_expressible: Vec<String>,
}

/// Runs every case of a scenario.
pub fn run(scenario: &Scenario, implementation: &mut impl Implementation) -> Report {
    let mut report = Report::default();
    if let Err(error) = implementation.prepare(scenario) {
        report.failures.push(format!("{}: {error}", scenario.file));
        return report;
    }
    for (number, case) in (1..).zip(&scenario.cases) {
        let at = format!("{} case {number}", scenario.file);
        if let Some(reason) = case.not_in.get(implementation.name()) {
            report.not_expressible.push(format!("{at}: {reason}"));
            continue;
        }
        match implementation.decide(&case.access) {
            Ok(observed) if case.accepts(&observed) => report.passed += 1,
            Ok(observed) => report
                .failures
                .push(format!("{at}: {case}, but {observed}")),
            Err(error) => report.failures.push(format!("{at}: {error}")),
        }
    }
    report
}

impl Case {
    fn accepts(&self, observed: &Observed) -> bool {
        let named = self.policy.is_none() || self.policy == observed.policy;
        self.expect == observed.outcome && named
    }
}

/// The expectation.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected ")?;
        show(f, self.expect, self.policy.as_deref())
    }
}
