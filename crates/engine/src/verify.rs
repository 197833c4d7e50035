// SPDX-License-Identifier: Apache-2.0
//! Test files: policies, a workload, operations, and what must come of each.
//!
//! Users write them beside their policies ([`verify`]); the scenarios in `conformance/`, which every
//! backend must agree on, are such files too ([`crate::conformance`]).
//!
//! ```yaml
//! name: only the named source may read
//! policies: [keys.yaml, fleet.yaml]   # or, after `|`, documents exactly as users write them
//! workload: { container: web, namespace: shop, labels: { app: web } }
//! posture: audit                      # or { file: block, network: audit, capabilities: allow, device: block }
//! searchDomains: [shop.svc.cluster.local]
//! cases:
//!   - { op: "file:read:/etc/key", source: /bin/cat, expect: block, policy: keys }
//!   - { op: "exec:/bin/ls", args: [-l], terminal: true, owner: false, expect: allow }
//! ```
//!
//! A host is `{ host: NAME, labels: {...} }`, or `host` when neither matters. Operations are those of
//! [`OperationSpec`]. Of a case, only `op` and `expect` (allow, audit, block) must be there: `source` is
//! `/actor` (`runtime` is the container runtime), `owner` true, `terminal` false, `args` empty. `policy`
//! is the name that the alert must carry; without it the name is not checked. Postures that are not
//! written are `audit`.
//!
//! Reading files is the caller's part. Everything that is wrong with the cases is reported at once.

mod spec;

use crate::{
    Actor, Aliases, CompileError, OperationError, OperationSpec, PolicySet, Ruleset, compile,
    decide,
};
use gorget_model::{Access, Cause, Outcome, Subject, Workload};
use gorget_policy::{Policy, ProblemSeverity, parse};
use spec::{CaseSpec, PoliciesSpec, ScenarioSpec};
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// What an alert names when no rule decided.
const DEFAULT_POSTURE: &str = "DefaultPosture";

/// Why a file with policies cannot be had.
pub type ReadError = Box<dyn Error + Send + Sync>;

/// Policies, a workload and accesses, read from one file.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// What it shows, in words; empty when it does not say.
    pub name: String,
    /// The file as given to [`Scenario::parse`].
    pub file: String,
    /// The policy documents as written, for implementations that take text.
    pub policies: String,
    /// Whom the policies are to be applied to.
    pub workload: Workload,
    /// Those of the policies that select the workload, with the postures.
    pub set: PolicySet,
    /// What is attempted.
    pub cases: Vec<Case>,
}

/// One access and what must come of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// Where it is written.
    pub line: u32,
    /// What is attempted.
    pub access: Access,
    /// What must happen.
    pub expect: Outcome,
    /// Which policy the alert must name, or `DefaultPosture`; `None` when that is not checked.
    pub policy: Option<String>,
    /// Implementations that cannot express this case, and why.
    pub not_in: BTreeMap<String, String>,
}

/// Why a test file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// It is not a test file.
    #[error("`{file}` is not a test file")]
    Syntax {
        /// Which file.
        file: String,
        /// What is wrong with it.
        #[source]
        source: Box<serde_saphyr::Error>,
    },
    /// A file with policies cannot be had.
    #[error("`{policies}`, which `{file}` names under `policies`, cannot be read")]
    PolicyFile {
        /// Which file.
        file: String,
        /// Which file with policies.
        policies: String,
        /// Why.
        #[source]
        source: ReadError,
    },
    /// Its policies are not valid.
    #[error("`{file}` has policies with problems: {}", problems.join("; "))]
    Policies {
        /// Which file.
        file: String,
        /// What is wrong with them.
        problems: Vec<String>,
    },
    /// It does not say which workload.
    #[error("the workload of `{file}` is neither a `container` nor a `host`")]
    Workload {
        /// Which file.
        file: String,
    },
    /// Cases contradict themselves.
    #[error("{}", lines(file, problems))]
    Cases {
        /// Which file.
        file: String,
        /// What is wrong with them, in the order of the file.
        problems: Vec<(u32, CaseError)>,
    },
}

/// What is wrong with a case.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaseError {
    /// `op` is no operation.
    #[error("`op`: {0}")]
    Operation(OperationError),
    /// `source` is no path.
    #[error("`source`: {0}")]
    Source(OperationError),
    /// `args` of something that is not run.
    #[error("only a program that is run has `args`")]
    Arguments,
    /// `policy` without an alert.
    #[error("what is allowed raises no alert, so no alert names a `policy`")]
    NoAlert,
}

fn lines(file: &str, problems: &[(u32, CaseError)]) -> String {
    let lines: Vec<String> = problems
        .iter()
        .map(|(line, problem)| format!("{file}:{line}: {problem}"))
        .collect();
    lines.join("\n")
}

/// What an implementation did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observed {
    /// What happened.
    pub outcome: Outcome,
    /// Which policy the alert named, or `DefaultPosture`; `None` when there was no alert.
    pub policy: Option<String>,
}

/// A case and what came of it.
#[derive(Clone, Debug)]
pub struct Verified<'a> {
    /// What was attempted and expected.
    pub case: &'a Case,
    /// What happened.
    pub observed: Observed,
    /// Whether that was expected.
    pub passed: bool,
}

/// Decides every case of a test file.
///
/// # Errors
///
/// When the policies exceed what the tables may take.
pub fn verify(scenario: &Scenario) -> Result<Vec<Verified<'_>>, CompileError> {
    let rules = compile(&scenario.set)?;
    let verified = scenario.cases.iter().map(|case| {
        let observed = Observed::by_decision(&rules, &case.access);
        Verified {
            case,
            passed: case.accepts(&observed),
            observed,
        }
    });
    Ok(verified.collect())
}

impl Scenario {
    /// Reads a test file that holds its policies itself. `file` is only for messages.
    ///
    /// # Errors
    ///
    /// When the text is no test file, a policy in it is not valid, or a case contradicts itself.
    pub fn parse(file: &str, text: &str) -> Result<Self, ScenarioError> {
        Self::parse_with(file, text, &mut |_| {
            Err("this file must hold its policies itself".into())
        })
    }

    /// Reads a test file. `read` gives the text of a file with policies, by the name in the test
    /// file.
    ///
    /// # Errors
    ///
    /// As [`Scenario::parse`], and when `read` fails.
    pub fn parse_with(
        file: &str,
        text: &str,
        read: &mut dyn FnMut(&str) -> Result<String, ReadError>,
    ) -> Result<Self, ScenarioError> {
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
            search_domains,
            cases,
        } = spec;
        let workload = workload
            .into_workload()
            .ok_or_else(|| ScenarioError::Workload {
                file: file.to_owned(),
            })?;
        let texts = texts(file, policies, read)?;
        let selected = valid(file, &texts)?
            .into_iter()
            .filter(|policy| policy.selects(&workload));
        let set = PolicySet {
            policies: selected.map(Arc::new).collect(),
            postures: posture.into_postures(),
            aliases: Aliases::default(),
            search_domains,
        };

        let mut problems = Vec::new();
        let mut valid = Vec::new();
        for case in cases {
            let line = u32::try_from(case.referenced.line()).unwrap_or(u32::MAX);
            match case.value.into_case(line) {
                Ok(case) => valid.push(case),
                Err(problem) => problems.push((line, problem)),
            }
        }
        if !problems.is_empty() {
            let file = file.to_owned();
            return Err(ScenarioError::Cases { file, problems });
        }
        let documents: Vec<String> = texts.into_iter().map(|(_, text)| text).collect();
        Ok(Self {
            name,
            file: file.to_owned(),
            policies: documents.join("\n---\n"),
            workload,
            set,
            cases: valid,
        })
    }
}

/// Name and text of everything with policies in it.
fn texts(
    file: &str,
    policies: PoliciesSpec,
    read: &mut dyn FnMut(&str) -> Result<String, ReadError>,
) -> Result<Vec<(String, String)>, ScenarioError> {
    match policies {
        PoliciesSpec::Documents(text) => Ok(vec![(file.to_owned(), text)]),
        PoliciesSpec::Files(names) => names
            .into_iter()
            .map(|policies| match read(&policies) {
                Ok(text) => Ok((policies, text)),
                Err(source) => Err(ScenarioError::PolicyFile {
                    file: file.to_owned(),
                    policies,
                    source,
                }),
            })
            .collect(),
    }
}

fn valid(file: &str, texts: &[(String, String)]) -> Result<Vec<Policy>, ScenarioError> {
    let mut policies = Vec::new();
    let mut problems = Vec::new();
    for (name, text) in texts {
        let parsed = parse(name, text);
        let errors = parsed.problems.iter();
        let errors = errors.filter(|problem| problem.severity == ProblemSeverity::Error);
        problems.extend(errors.map(ToString::to_string));
        policies.extend(parsed.policies);
    }
    if problems.is_empty() {
        Ok(policies)
    } else {
        let file = file.to_owned();
        Err(ScenarioError::Policies { file, problems })
    }
}

impl CaseSpec {
    fn into_case(self, line: u32) -> Result<Case, CaseError> {
        let Self {
            op,
            source,
            owner,
            terminal,
            args,
            expect,
            policy,
            not_in,
        } = self;
        let operation = OperationSpec::parse(&op).map_err(CaseError::Operation)?;
        let subject = match source.as_deref() {
            Some("runtime") => Subject::Runtime,
            Some(path) => Subject::Image(crate::operation::path(path).map_err(CaseError::Source)?),
            None => Subject::Image(b"/actor".to_vec()),
        };
        if !args.is_empty() && !operation.has_arguments() {
            return Err(CaseError::Arguments);
        }
        let expect = expect.outcome();
        if expect == Outcome::Pass && policy.is_some() {
            return Err(CaseError::NoAlert);
        }
        let access = operation.by(Actor {
            subject,
            owner,
            terminal,
            arguments: args.into_iter().map(String::into_bytes).collect(),
        });
        Ok(Case {
            line,
            access,
            expect,
            policy,
            not_in,
        })
    }
}

impl Case {
    /// Whether this is what must come of it.
    pub fn accepts(&self, observed: &Observed) -> bool {
        let named = self.policy.is_none() || self.policy == observed.policy;
        self.expect == observed.outcome && named
    }
}

impl Observed {
    /// What [`decide`] says.
    pub(crate) fn by_decision(rules: &Ruleset, access: &Access) -> Self {
        let verdict = decide(rules, access);
        let policy = match verdict.cause {
            Cause::Rule(id) => rules
                .rules()
                .get(id.0 as usize)
                .map(|rule| rule.policy.clone()),
            Cause::DefaultPosture => Some(DEFAULT_POSTURE.to_owned()),
            Cause::NoRule => None,
        };
        Self {
            outcome: verdict.outcome,
            policy: policy.filter(|_| verdict.outcome != Outcome::Pass),
        }
    }
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, self.outcome, self.policy.as_deref())
    }
}

/// The expectation.
impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected ")?;
        show(f, self.expect, self.policy.as_deref())
    }
}

fn show(f: &mut fmt::Formatter<'_>, outcome: Outcome, policy: Option<&str>) -> fmt::Result {
    f.write_str(match outcome {
        Outcome::Pass => "allow",
        Outcome::Audit => "audit",
        Outcome::Block => "block",
    })?;
    policy.map_or(Ok(()), |policy| write!(f, " by `{policy}`"))
}
