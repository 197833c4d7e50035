// SPDX-License-Identifier: Apache-2.0
//! A policy after validation: nothing optional is left to interpret.
//!
//! INVARIANT: paths and directories are in the form in which the kernel reports them (absolute,
//! single slashes, no `.` and `..`, no NUL), names have no slash, severities are 1 to 10. What the
//! fields mean is in `gorget-engine`; whom a policy is for is in `selector`.

use crate::Glob;
use gorget_model::Category;
use std::fmt;
use std::sync::Arc;

/// Whom a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `KubeArmorPolicy`: containers.
    Container,
    /// `KubeArmorHostPolicy`: the host.
    Host,
}

/// One validated policy document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whom it is for.
    pub kind: Kind,
    /// `metadata.namespace`; always `None` for [`Kind::Host`].
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
    /// Which workloads it is for.
    pub selector: Selector,
    /// Its rules, in the order written, one for each object and comma-list element.
    pub rules: Vec<Rule>,
}

/// Which workloads a policy is for. All conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// `matchLabels` without the keys that have a meaning of their own.
    pub labels: Vec<(String, String)>,
    /// `kubearmor.io/container.name`: names of the containers; empty means all.
    pub container_names: Vec<String>,
}

/// What a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// The operation is listed as allowed.
    Allow,
    /// It passes with an alert.
    Audit,
    /// It is denied with an alert.
    Block,
}

/// One rule, with everything it inherits filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which operations it speaks about.
    pub category: Category,
    /// Which objects it names.
    pub object: ObjectMatcher,
    /// `fromSource`; empty means any subject.
    pub sources: Vec<Source>,
    /// Conditions on the access.
    pub modifiers: Modifiers,
    /// What it asks for.
    pub action: Action,
    /// 1 to 10.
    pub severity: Option<u8>,
    /// Tags in the order written.
    pub tags: Vec<String>,
    /// Message for people; empty when none.
    pub message: String,
    /// Where it is written: the first character of the rule.
    pub at: Location,
}

/// Which objects a rule names. Paths are absolute; bytes, not characters, are compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectMatcher {
    /// `path`: exactly this, without a trailing slash.
    Path(String),
    /// `execname`: the last component of the object.
    ExecName(String),
    /// `dir`: the directory itself and its direct children, or everything below it.
    Directory {
        /// Ends with a slash; `/` is the root.
        dir: String,
        /// Everything below, not only direct children.
        recursive: bool,
    },
    /// `pattern`.
    Pattern(Glob),
}

/// Which subjects a rule names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Source {
    /// Exactly this executable.
    Path(String),
    /// Executables in this directory.
    Directory {
        /// Ends with a slash.
        dir: String,
        /// Everything below, not only direct children.
        recursive: bool,
    },
}

/// Conditions on the access; all must hold for the rule's action to be given in full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Modifiers {
    /// Only reading satisfies the rule.
    pub read_only: bool,
    /// Only the object's owner satisfies the rule.
    pub owner_only: bool,
}

/// A place in a policy file. Lines and columns count from 1; columns count characters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location {
    /// The file as the user named it.
    pub file: Arc<str>,
    /// Line.
    pub line: u32,
    /// Column.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}
