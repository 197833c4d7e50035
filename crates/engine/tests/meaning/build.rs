// SPDX-License-Identifier: Apache-2.0
//! Short ways to write policies and accesses in tests.
//!
//! Everything goes through the public types; nothing here knows how rules are compiled.

use gorget_engine::{Aliases, PolicySet, Ruleset, compile, decide};
use gorget_model::{
    Access, Category, Cause, Modes, Object, Outcome, Posture, Postures, Subject, Verdict,
};
use gorget_policy::{
    Action, Glob, Kind, Location, Modifiers, ObjectMatcher, Policy, Rule, Selector, Source, Token,
};
use std::collections::BTreeSet;
use std::sync::Arc;

pub(crate) use Action::{Allow, Audit, Block};
pub(crate) use Category::{File, Process};

pub(crate) fn path(path: &str) -> ObjectMatcher {
    ObjectMatcher::Path(path.into())
}

pub(crate) fn execname(name: &str) -> ObjectMatcher {
    ObjectMatcher::ExecName(name.into())
}

pub(crate) fn dir(dir: &str) -> ObjectMatcher {
    ObjectMatcher::Directory {
        dir: dir.into(),
        recursive: false,
    }
}

pub(crate) fn tree(dir: &str) -> ObjectMatcher {
    ObjectMatcher::Directory {
        dir: dir.into(),
        recursive: true,
    }
}

pub(crate) fn pattern(tokens: Vec<Token>) -> ObjectMatcher {
    ObjectMatcher::Pattern(Glob {
        text: format!("{tokens:?}"),
        tokens,
    })
}

/// Only literals, `?`, `*` and `**`.
pub(crate) fn glob(text: &str) -> ObjectMatcher {
    ObjectMatcher::Pattern(Glob {
        text: text.into(),
        tokens: tokens(text),
    })
}

pub(crate) fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let (token, tail) = match (first, tail) {
            (b'*', [b'*', tail @ ..]) => (Token::DeepRun, tail),
            (b'*', tail) => (Token::Run, tail),
            (b'?', tail) => (Token::One, tail),
            (byte, tail) => (Token::Byte(*byte), tail),
        };
        tokens.push(token);
        rest = tail;
    }
    tokens
}

pub(crate) fn rule(category: Category, object: ObjectMatcher, action: Action) -> Rule {
    Rule {
        category,
        object,
        sources: Vec::new(),
        modifiers: Modifiers::default(),
        allowed_arguments: BTreeSet::new(),
        action,
        severity: None,
        tags: Vec::new(),
        message: String::new(),
        at: Location {
            file: "test.yaml".into(),
            line: 0,
            column: 1,
        },
        last_line: 0,
    }
}

pub(crate) trait RuleExt {
    fn from(self, source: &str) -> Self;
    fn read_only(self) -> Self;
    fn owner_only(self) -> Self;
    fn no_terminal(self) -> Self;
    fn only_with(self, arguments: &[&str]) -> Self;
}

impl RuleExt for Rule {
    /// A source with a trailing slash is a directory, recursive with two.
    fn from(mut self, source: &str) -> Self {
        self.sources.push(match source.strip_suffix('/') {
            None => Source::Path(source.into()),
            Some(dir) => Source::Directory {
                dir: format!("{}/", dir.trim_end_matches('/')),
                recursive: dir.ends_with('/'),
            },
        });
        self
    }

    fn read_only(mut self) -> Self {
        self.modifiers.read_only = true;
        self
    }

    fn owner_only(mut self) -> Self {
        self.modifiers.owner_only = true;
        self
    }

    fn no_terminal(mut self) -> Self {
        self.modifiers.no_terminal = true;
        self
    }

    fn only_with(mut self, arguments: &[&str]) -> Self {
        self.allowed_arguments = arguments.iter().copied().map(Into::into).collect();
        self
    }
}

/// A policy whose rules stand on lines 1, 2, ...
pub(crate) fn policy(name: &str, rules: Vec<Rule>) -> Arc<Policy> {
    let mut rules = rules;
    for (line, rule) in (1..).zip(&mut rules) {
        rule.at.line = line;
    }
    Arc::new(Policy {
        kind: Kind::Container,
        namespace: Some("ns".into()),
        name: name.into(),
        selector: Selector::default(),
        rules,
        native_apparmor: String::new(),
    })
}

pub(crate) fn set(policies: Vec<Arc<Policy>>, posture: Posture) -> PolicySet {
    PolicySet {
        policies,
        postures: Postures::all(posture),
        aliases: Aliases::default(),
        search_domains: Vec::new(),
    }
}

/// One policy named `p`, posture `block`.
pub(crate) fn ruleset(rules: Vec<Rule>) -> Ruleset {
    compile(&set(vec![policy("p", rules)], Posture::Block)).unwrap()
}

pub(crate) const READ: Modes = Modes {
    read: true,
    write: false,
    owner: false,
    tree: false,
    terminal: false,
};
pub(crate) const WRITE: Modes = Modes {
    read: false,
    write: true,
    owner: false,
    tree: false,
    terminal: false,
};
pub(crate) const BOTH: Modes = Modes {
    read: true,
    write: true,
    owner: false,
    tree: false,
    terminal: false,
};
pub(crate) const MOVE: Modes = Modes {
    read: false,
    write: true,
    owner: false,
    tree: true,
    terminal: false,
};
pub(crate) const RUN: Modes = Modes {
    read: false,
    write: false,
    owner: false,
    tree: false,
    terminal: false,
};

pub(crate) fn owned(modes: Modes) -> Modes {
    Modes {
        owner: true,
        ..modes
    }
}

pub(crate) fn access(category: Category, subject: &str, object: &str, modes: Modes) -> Access {
    Access {
        category,
        subject: Subject::Image(subject.into()),
        object: Object::Path(object.into()),
        modes,
        arguments: Vec::new(),
    }
}

/// Outcome and the line of the deciding rule: 0 no rule, -1 default posture.
pub(crate) fn ask(
    rules: &Ruleset,
    category: Category,
    subject: &str,
    object: &str,
    modes: Modes,
) -> (Outcome, i64) {
    explain(
        rules,
        decide(rules, &access(category, subject, object, modes)),
    )
}

pub(crate) fn explain(rules: &Ruleset, verdict: Verdict) -> (Outcome, i64) {
    let line = match verdict.cause {
        Cause::NoRule => 0,
        Cause::DefaultPosture => -1,
        Cause::Rule(id) => i64::from(rules.rules()[id.0 as usize].at.line),
    };
    (verdict.outcome, line)
}

pub(crate) fn read(rules: &Ruleset, object: &str) -> (Outcome, i64) {
    ask(rules, File, "/bin/x", object, READ)
}

pub(crate) fn run(rules: &Ruleset, object: &str) -> (Outcome, i64) {
    ask(rules, Process, "/bin/x", object, RUN)
}
