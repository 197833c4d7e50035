// SPDX-License-Identifier: Apache-2.0
//! A policy after validation: nothing optional is left to interpret.
//!
//! INVARIANT: paths and directories are in the form in which the kernel reports them (absolute,
//! single slashes, no `.` and `..`, no NUL), names have no slash, severities are 1 to 10. What the
//! fields mean is in `gorget-engine`; whom a policy is for is in `selector`.

use crate::{Glob, ImageReference, NameExpression};
use gorget_model::{Capability, Category, Preset, Protocol, Syscall};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Whom a policy is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `KubeArmorPolicy`: containers.
    Container,
    /// `KubeArmorHostPolicy`: the host.
    Host,
    /// `KubeArmorClusterPolicy`: containers of several namespaces.
    Cluster,
}

impl Kind {
    /// The document's `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Container => "KubeArmorPolicy",
            Self::Host => "KubeArmorHostPolicy",
            Self::Cluster => "KubeArmorClusterPolicy",
        }
    }
}

/// One validated policy document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Whom it is for.
    pub kind: Kind,
    /// `metadata.namespace`; always `None` but for [`Kind::Container`].
    pub namespace: Option<String>,
    /// `metadata.name`.
    pub name: String,
    /// Which workloads it is for.
    pub selector: Selector,
    /// Its rules, in the order written, one for each object and comma-list element.
    pub rules: Vec<Rule>,
    /// `apparmor`: lines in AppArmor's own language, which only that backend can enforce. Empty
    /// when none.
    pub native_apparmor: String,
}

/// Which workloads a policy is for. All conditions must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// `matchLabels` without the keys that have a meaning of their own; the host's name is among
    /// them.
    pub labels: Vec<(String, String)>,
    /// `kubearmor.io/container.name`: names of the containers; empty means all.
    pub container_names: Vec<String>,
    /// The same as an expression; then there are no names.
    pub container_expression: Option<NameExpression>,
    /// `kubearmor.io/container.image`: images of the containers; empty means all.
    pub images: Vec<ImageReference>,
    /// `kubearmor.io/hostnamereg`.
    pub host_expressions: Vec<NameExpression>,
    /// `matchExpressions`.
    pub expressions: Vec<Expression>,
}

/// An entry of `matchExpressions`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expression {
    /// What must be so of the values.
    pub operator: Operator,
    /// The values and what they are compared with.
    pub values: Values,
}

/// What must be so of the values of an [`Expression`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// One of them is there.
    In,
    /// None of them is there.
    NotIn,
}

/// The values of an [`Expression`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Values {
    /// `label`: labels with their values.
    Labels(Vec<(String, String)>),
    /// `namespace`: names of namespaces.
    Namespaces(Vec<String>),
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
    /// `allowedArgs`: the only arguments after `argv[0]` that satisfy the rule; empty means any.
    pub allowed_arguments: BTreeSet<String>,
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
    /// The last line of what is written there.
    pub last_line: u32,
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
    /// `protocol`.
    Protocol(Protocol),
    /// `domain`: it and every domain below it. Lower case, without a dot at the end.
    Domain(String),
    /// `capability`.
    Capability(Capability),
    /// A system call, whatever path it is given or none.
    Syscall(Syscall),
    /// A system call that is given this path.
    SyscallPath(Syscall, String),
    /// A system call that is given a path in this directory.
    SyscallDirectory {
        /// Which call.
        call: Syscall,
        /// Ends with a slash.
        dir: String,
        /// Everything below, not only direct children.
        recursive: bool,
    },
    /// `matchDevice`.
    Device(DeviceMatcher),
    /// A preset.
    Preset(Preset),
}

/// Which USB devices a rule names; `None` is any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeviceMatcher {
    /// `class`; `None` is `ALL`.
    pub class: Option<u8>,
    /// `subClass`.
    pub subclass: Option<u8>,
    /// `protocol`.
    pub protocol: Option<u8>,
    /// `level`, from 1.
    pub level: Option<u8>,
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
    /// `pts: false`: only a task without a controlling terminal satisfies the rule.
    pub no_terminal: bool,
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
