// SPDX-License-Identifier: Apache-2.0
//! What every backend must agree on.
//!
//! One scenario is one test file in `conformance/` ([`crate::verify`]). Every tier runs the same ones
//! through [`Implementation`]: the [`Reference`], the decision code of a backend without a kernel, and
//! real containers. A case that a tier cannot express names that tier and why
//! (`not_in: { TIER: REASON }`); [`run`] reports it, so nothing is skipped in silence.

pub use crate::verify::{Case, CaseError, Observed, Scenario, ScenarioError};

use crate::{CompileError, Ruleset, compile};
use gorget_model::Access;

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

/// [`compile`] and [`crate::decide`].
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
        Ok(Observed::by_decision(rules, access))
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
    for case in &scenario.cases {
        let at = format!("{}:{}", scenario.file, case.line);
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
