// SPDX-License-Identifier: Apache-2.0
//! What happens when a limit is reached, with small limits.

use super::*;
use gorget_policy::{Glob, Kind, Modifiers, Selector};

const ROOMY: Budget = Budget {
    states: 1_000_000,
    transitions: 1 << 30,
    members: 1 << 30,
};

fn rule(object: ObjectMatcher, line: u32) -> Rule {
    Rule {
        category: Category::File,
        object,
        sources: Vec::new(),
        modifiers: Modifiers::default(),
        allowed_arguments: BTreeSet::new(),
        action: Action::Block,
        severity: None,
        tags: Vec::new(),
        message: String::new(),
        at: Location {
            file: "p.yaml".into(),
            line,
            column: 5,
        },
        last_line: line,
    }
}

fn glob(text: &str, tokens: Vec<Token>) -> ObjectMatcher {
    ObjectMatcher::Pattern(Glob {
        text: text.into(),
        tokens,
    })
}

/// Only literals, `*` and `**`.
fn stars(text: &str) -> ObjectMatcher {
    let mut tokens = Vec::new();
    for byte in text.bytes() {
        let twice = byte == b'*' && tokens.pop_if(|last| *last == Token::Run).is_some();
        tokens.push(match byte {
            b'*' if twice => Token::DeepRun,
            b'*' => Token::Run,
            other => Token::Byte(other),
        });
    }
    glob(text, tokens)
}

fn set(rules: Vec<Rule>) -> PolicySet {
    let policy = Policy {
        kind: Kind::Container,
        namespace: None,
        name: "p".into(),
        selector: Selector::default(),
        rules,
        native_apparmor: String::new(),
    };
    PolicySet {
        policies: vec![Arc::new(policy)],
        postures: Postures::default(),
        aliases: Aliases::default(),
        search_domains: Vec::new(),
    }
}

/// A literal and patterns that multiply each other.
fn hostile() -> PolicySet {
    set(vec![
        rule(
            ObjectMatcher::Path("/usr/share/a/long/path/that/is/no/pattern".into()),
            1,
        ),
        rule(stars("/etc/*"), 2),
        rule(stars("/**/alpha*/**/beta*"), 3),
        rule(stars("/**/gamma*/**/delta*"), 4),
        rule(stars("/**/omega*/**/sigma*"), 5),
        rule(stars("/**/theta*/**/kappa*"), 6),
    ])
}

#[test]
fn too_many_states_name_category_limit_and_the_worst_patterns() {
    let budget = Budget {
        states: 300,
        ..ROOMY
    };
    let error = compile_within(&hostile(), budget, MAX_CELLS).unwrap_err();
    let CompileError::TooComplex {
        part,
        of,
        limit,
        expensive,
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!(
        (*part, *of, *limit),
        (Part::Objects(Category::File), "states", 300)
    );
    let lines: Vec<u32> = expensive.iter().map(|(at, _)| at.line).collect();
    assert_eq!(lines.len(), NAMED_PATTERNS);
    assert!(lines.iter().all(|line| (3..=6).contains(line)), "{lines:?}");
    let message = error.to_string();
    assert!(
        message.starts_with("file rules need more than 300 states; most go to `/**/"),
        "{message}"
    );
    assert!(message.contains("` at p.yaml:"), "{message}");
}

#[test]
fn the_same_patterns_compile_when_there_is_room() {
    let rules = compile_within(&hostile(), ROOMY, MAX_CELLS).unwrap();
    assert!(rules.objects(Category::File).state_count() > 300);
}

#[test]
fn transitions_and_members_are_limited_as_well() {
    for (budget, what) in [
        (
            Budget {
                transitions: 1_000,
                ..ROOMY
            },
            "transitions",
        ),
        (
            Budget {
                members: 1_000,
                ..ROOMY
            },
            "state members",
        ),
    ] {
        let error = compile_within(&hostile(), budget, MAX_CELLS).unwrap_err();
        assert!(
            matches!(error, CompileError::TooComplex { of, limit: 1_000, .. } if of == what),
            "{error:?}"
        );
    }
}

#[test]
fn a_long_chain_of_elements_that_may_be_empty_is_bounded() {
    let optional = Token::Alternatives(vec![vec![Token::Byte(b'a')], vec![]]);
    let chain = glob("{a,}...", vec![optional; 1_000]);
    let budget = Budget {
        members: 10_000,
        ..ROOMY
    };
    let error = compile_within(&set(vec![rule(chain, 7)]), budget, MAX_CELLS).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("10000 pairs of elements; most go to `{a,}...`"),
        "{error}"
    );
}

#[test]
fn hostile_patterns_end_in_an_error_under_the_real_limits() {
    let patterns = ('a'..='z').map(|c| format!("/**/{c}*/**/x{c}*"));
    let rules = patterns
        .zip(1..)
        .map(|(text, line)| rule(stars(&text), line))
        .collect();
    let error = compile(&set(rules)).unwrap_err();
    assert!(
        matches!(error, CompileError::TooComplex { .. }),
        "{error:?}"
    );
}

#[test]
fn too_many_decisions_are_refused() {
    let many = |source: u32| {
        let mut rule = rule(ObjectMatcher::Path(format!("/k{source}")), source);
        rule.sources = vec![Source::Path(format!("/bin/{source}"))];
        rule
    };
    let set = set((1..=20).map(many).collect());
    assert!(compile_within(&set, ROOMY, 1_000).is_ok());
    let error = compile_within(&set, ROOMY, 100).unwrap_err();
    let CompileError::TooManyDecisions {
        part,
        limit,
        answers,
    } = &error
    else {
        panic!("{error:?}")
    };
    assert_eq!((*part, *limit), (Part::Objects(Category::File), 100));
    assert!(*answers * 8 > 100, "{answers}");
    assert!(
        error
            .to_string()
            .starts_with("file rules need more than 100 decisions: "),
        "{error}"
    );
}

#[test]
fn too_many_sources_are_refused() {
    let mut rule = rule(ObjectMatcher::Path("/k".into()), 1);
    rule.sources = vec![Source::Path("/usr/bin/python3".into())];
    let budget = Budget {
        states: 10,
        ..ROOMY
    };
    let error = compile_within(&set(vec![rule]), budget, MAX_CELLS).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`fromSource` rules need more than 10 states"
    );
}

#[test]
fn a_thousand_ordinary_rules_stay_far_below_the_limits() {
    let object = |n: u32| match n % 20 {
        0..12 => ObjectMatcher::Path(format!("/usr/lib/package{n}/data/file{n}")),
        12..17 => ObjectMatcher::Directory {
            dir: format!("/srv/app{n}/"),
            recursive: n.is_multiple_of(2),
        },
        17 => stars(&format!("/home/*/cache{n}/*")),
        18 => stars(&format!("/var/log/app{n}*")),
        _ => stars(&format!("/opt/*/secret{n}")),
    };
    let rules = (0..1_000).map(|n| rule(object(n), n)).collect();
    let quarter = Budget {
        states: BUDGET.states / 4,
        transitions: BUDGET.transitions / 4,
        members: BUDGET.members / 4,
    };
    compile_within(&set(rules), quarter, MAX_CELLS / 4).unwrap();
}
