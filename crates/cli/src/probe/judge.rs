// SPDX-License-Identifier: Apache-2.0
//! What the facts mean for Gorget: of each, whether it will do, what is lost without it, and how to get
//! it; and of all together, what the machine can have.
//!
//! The same order of means as the agent's: programs at the hooks of security modules enforce
//! everything, AppArmor enforces for containers that run in a profile, and without either everything
//! is reported and nothing denied. Pure: the facts go in, nothing is looked up.

use super::checks;
use super::facts::{Facts, Found, Trying};
use serde::Serialize;

/// What the machine can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Verdict {
    /// Everything that policies say is enforced.
    Full,
    /// Something is not, or it could not be found out that everything is.
    Degraded,
    /// The agent cannot run.
    Impossible,
}

/// What would put policies in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Means {
    Bpf,
    Apparmor,
    AuditOnly,
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Status {
    Supported,
    Degraded,
    Missing,
    /// It could not be found out.
    Unknown,
    /// It is not there, and nothing is lost by that.
    Unneeded,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Section {
    Kernel,
    Features,
    Modules,
    FileSystems,
    Containers,
}

/// What of the machine's abilities hangs on something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// That the agent runs at all.
    Run,
    /// That policies are enforced, and not only reported on.
    Enforce,
    /// Neither.
    Other,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Check {
    pub(crate) section: Section,
    pub(crate) name: String,
    pub(crate) status: Status,
    pub(crate) found: String,
    /// What does not work without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lost: Option<String>,
    /// How to get it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
    #[serde(skip)]
    pub(crate) need: Need,
}

impl Check {
    pub(crate) fn new(section: Section, name: impl Into<String>, need: Need) -> Self {
        Self {
            section,
            name: name.into(),
            status: Status::Supported,
            found: String::new(),
            lost: None,
            remedy: None,
            need,
        }
    }

    pub(crate) fn supported(self, found: impl Into<String>) -> Self {
        self.with(Status::Supported, found)
    }

    pub(crate) fn unneeded(self, found: impl Into<String>) -> Self {
        self.with(Status::Unneeded, found)
    }

    pub(crate) fn unknown(self, found: impl Into<String>) -> Self {
        self.with(Status::Unknown, found)
    }

    pub(crate) fn degraded(self, found: impl Into<String>) -> Self {
        self.with(Status::Degraded, found)
    }

    pub(crate) fn missing(self, found: impl Into<String>) -> Self {
        self.with(Status::Missing, found)
    }

    fn with(self, status: Status, found: impl Into<String>) -> Self {
        let found = found.into();
        Self {
            status,
            found,
            ..self
        }
    }

    pub(crate) fn lost(self, lost: impl Into<String>) -> Self {
        let lost = Some(lost.into());
        Self { lost, ..self }
    }

    pub(crate) fn remedy(self, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { remedy, ..self }
    }
}

/// The judgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Report {
    pub(crate) verdict: Verdict,
    /// Everything that the verdict depends on was found out.
    pub(crate) complete: bool,
    pub(crate) means: Means,
    /// The verdict in words.
    pub(crate) answer: String,
    pub(crate) checks: Vec<Check>,
    /// What to do, the most important first.
    pub(crate) next: Vec<String>,
}

/// Judges a machine.
pub(crate) fn judge(facts: &Facts) -> Report {
    let checks = checks::all(facts);
    let fails = |need| {
        let mut these = checks.iter().filter(|check| check.need == need);
        these.any(|check| check.status == Status::Missing)
    };
    let means = match (fails(Need::Run), fails(Need::Enforce), has_apparmor(facts)) {
        (true, _, _) => Means::Nothing,
        (false, false, _) => Means::Bpf,
        (false, true, true) => Means::Apparmor,
        (false, true, false) => Means::AuditOnly,
    };
    let open = |check: &Check| check.status == Status::Unknown && check.need != Need::Other;
    let complete = !checks.iter().any(open);
    let verdict = match means {
        Means::Nothing => Verdict::Impossible,
        Means::Bpf if complete => Verdict::Full,
        Means::Bpf | Means::Apparmor | Means::AuditOnly => Verdict::Degraded,
    };
    Report {
        verdict,
        complete,
        means,
        answer: answer(means, complete).to_owned(),
        next: next(facts, means, complete, &checks),
        checks,
    }
}

/// As the agent finds it.
pub(crate) fn has_apparmor(facts: &Facts) -> bool {
    let active = facts.modules.value();
    let active = active.is_some_and(|modules| modules.iter().any(|module| module == "apparmor"));
    active && facts.apparmor.enabled == Found::Is(true) && facts.apparmor.parser.is_some()
}

fn answer(means: Means, complete: bool) -> &'static str {
    match (means, complete) {
        (Means::Bpf, true) => "YES. Everything that policies say can be enforced here.",
        (Means::Bpf, false) => {
            "PROBABLY. Nothing that was seen speaks against it, but not everything could be checked."
        }
        (Means::Apparmor, _) => {
            "IN PART. AppArmor can enforce policies for containers that are started in a profile of \
             Gorget's. Everything else is reported and not denied."
        }
        (Means::AuditOnly, _) => {
            "REPORTS ONLY. What policies forbid would be reported, and nothing would be denied."
        }
        (Means::Nothing, _) => "NO. Gorget cannot run on this machine as it is.",
    }
}

fn next(facts: &Facts, means: Means, complete: bool, checks: &[Check]) -> Vec<String> {
    let mut next = Vec::new();
    let of = |need| {
        let failed = checks
            .iter()
            .filter(move |check| check.need == need && check.status == Status::Missing);
        failed.filter_map(|check| check.remedy.clone())
    };
    for remedy in of(Need::Run).chain(of(Need::Enforce)) {
        if !next.contains(&remedy) {
            next.push(remedy);
        }
    }
    if !complete {
        next.push(match &facts.tried {
            Trying::Not(why) if facts.uid == 0 => {
                format!("ask again with what the kernel can do tried, which was not done: {why}")
            }
            Trying::Done(_) | Trying::Not(_) => "ask again as root: `sudo gorget probe`".to_owned(),
        });
    }
    if means != Means::Nothing {
        next.push(
            "start the agent: `sudo gorgetd`; then `gorget probe` says what it does".to_owned(),
        );
        next.extend(checks::hooks_to_install(facts));
    }
    next
}
