// SPDX-License-Identifier: Apache-2.0
//! `decide` against the naive reading, on random policy sets over an alphabet small enough that rules
//! collide all the time.

use crate::naive::{self, Answer, Reason};
use crate::shape::assert_minimal;
use gorget_engine::{Aliases, PolicySet, Ruleset, compile, decide, literal_paths};
use gorget_model::{Access, Category, Cause, Modes, Object, Posture, Subject, Verdict};
use gorget_policy::{
    Action, Glob, Kind, Location, Modifiers, ObjectMatcher, Policy, Rule, Selector, Source, Token,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use std::sync::Arc;

const SETS: u32 = 600;
const ACCESSES_PER_SET: usize = 48;

fn component() -> impl Strategy<Value = &'static str> {
    select(vec!["a", "b", "ab", "etc"])
}

fn absolute() -> impl Strategy<Value = String> {
    vec(component(), 1..4).prop_map(|parts| format!("/{}", parts.join("/")))
}

fn directory() -> impl Strategy<Value = String> {
    vec(component(), 0..3)
        .prop_map(|parts| parts.iter().fold("/".into(), |d, p| format!("{d}{p}/")))
}

fn token() -> impl Strategy<Value = Token> {
    let leaf = prop_oneof![
        3 => Just(Token::Byte(b'/')),
        3 => Just(Token::Byte(b'a')),
        2 => Just(Token::Byte(b'b')),
        1 => Just(Token::One),
        1 => Just(Token::Class(vec![(b'a', b'b')])),
        1 => Just(Token::Class(vec![(1, b'.'), (b'0', b'a'), (b'c', 255)])),
        1 => Just(Token::Class(vec![(b'-', b'/'), (b'e', b'e')])),
        2 => Just(Token::Run),
        2 => Just(Token::DeepRun),
    ];
    leaf.prop_recursive(2, 12, 3, |inner| {
        vec(vec(inner, 0..3), 1..4).prop_map(Token::Alternatives)
    })
}

fn glob() -> impl Strategy<Value = Vec<Token>> {
    let anywhere = vec(token(), 0..7);
    let rooted = (absolute(), vec(token(), 0..6)).prop_map(|(path, rest)| {
        path.into_bytes()
            .into_iter()
            .map(Token::Byte)
            .chain(rest)
            .collect()
    });
    prop_oneof![anywhere, rooted]
}

fn object() -> impl Strategy<Value = ObjectMatcher> {
    prop_oneof![
        4 => absolute().prop_map(ObjectMatcher::Path),
        1 => component().prop_map(|name| ObjectMatcher::ExecName(name.into())),
        4 => (directory(), any::<bool>())
            .prop_map(|(dir, recursive)| ObjectMatcher::Directory { dir, recursive }),
        3 => glob()
            .prop_map(|tokens| ObjectMatcher::Pattern(Glob { text: format!("{tokens:?}"), tokens })),
    ]
}

fn source() -> impl Strategy<Value = Source> {
    prop_oneof![
        absolute().prop_map(Source::Path),
        (directory(), any::<bool>())
            .prop_map(|(dir, recursive)| Source::Directory { dir, recursive }),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    (
        select(Category::ALL.to_vec()),
        object(),
        prop_oneof![3 => vec(source(), 0..1), 2 => vec(source(), 1..3)],
        (prop::bool::weighted(0.3), prop::bool::weighted(0.3)),
        select(vec![
            Action::Allow,
            Action::Audit,
            Action::Block,
            Action::Block,
        ]),
    )
        .prop_map(
            |(category, object, sources, (read_only, owner_only), action)| Rule {
                category,
                object,
                sources,
                modifiers: Modifiers {
                    read_only,
                    owner_only,
                },
                action,
                severity: None,
                tags: Vec::new(),
                message: String::new(),
                at: Location {
                    file: "random.yaml".into(),
                    line: 0,
                    column: 1,
                },
            },
        )
}

fn policies() -> impl Strategy<Value = Vec<Arc<Policy>>> {
    vec(vec(rule(), 1..6), 1..4).prop_map(|policies| {
        let names = ["q", "p", "r"].iter().zip([Some("z"), None, Some("z-")]);
        names
            .zip(policies)
            .map(|((name, namespace), mut rules)| {
                for (line, rule) in (1..).zip(&mut rules) {
                    rule.at.line = line;
                }
                Arc::new(Policy {
                    kind: Kind::Container,
                    namespace: namespace.map(Into::into),
                    name: (*name).into(),
                    selector: Selector::default(),
                    rules,
                })
            })
            .collect()
    })
}

fn sets() -> impl Strategy<Value = PolicySet> {
    let posture = select(vec![Posture::Allow, Posture::Audit, Posture::Block]);
    (policies(), posture, vec((any::<Index>(), absolute()), 0..3)).prop_map(
        |(policies, file_posture, links)| {
            let literals: Vec<_> = literal_paths(&policies).into_iter().collect();
            let aliases = links
                .into_iter()
                .filter(|_| !literals.is_empty())
                .map(|(link, target)| (link.get(&literals).clone(), target.into_bytes()))
                .collect();
            PolicySet {
                policies,
                file_posture,
                aliases: Aliases(aliases),
            }
        },
    )
}

fn accesses() -> impl Strategy<Value = Access> {
    let image = prop_oneof![
        1 => Just(Subject::Runtime),
        8 => absolute().prop_map(|path| Subject::Image(path.into_bytes())),
    ];
    let object = prop_oneof![
        1 => Just(Object::Nameless),
        1 => Just(Object::Path(b"/".to_vec())),
        20 => absolute().prop_map(|path| Object::Path(path.into_bytes())),
    ];
    (
        select(Category::ALL.to_vec()),
        image,
        object,
        any::<[bool; 4]>(),
    )
        .prop_map(|(category, subject, object, [read, write, owner, tree])| {
            let modes = match category {
                Category::Process => Modes {
                    read: false,
                    write: false,
                    owner,
                    tree: false,
                },
                Category::File => Modes {
                    read,
                    write,
                    owner,
                    tree,
                },
            };
            Access {
                category,
                subject,
                object,
                modes,
            }
        })
}

fn in_words(rules: &Ruleset, verdict: Verdict) -> Answer {
    let reason = match verdict.cause {
        Cause::NoRule => Reason::NoRule,
        Cause::DefaultPosture => Reason::Posture,
        Cause::Rule(id) => {
            let rule = &rules.rules()[id.0 as usize];
            let namespace = rule.namespace.as_deref().unwrap_or("default");
            Reason::Rule(format!("{namespace}/{}", rule.policy), rule.at.clone())
        }
    };
    Answer {
        outcome: verdict.outcome,
        reason,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: SETS,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn decide_gives_the_answers_of_the_text(
        set in sets(),
        accesses in vec(accesses(), ACCESSES_PER_SET),
    ) {
        let rules = compile(&set).unwrap();
        for access in &accesses {
            let decided = in_words(&rules, decide(&rules, access));
            prop_assert_eq!(decided, naive::decide(&set, access), "{:?}", access);
        }
    }

    #[test]
    fn the_order_of_policies_does_not_matter(set in sets(), accesses in vec(accesses(), 8)) {
        let mut reversed = set.clone();
        reversed.policies.reverse();
        let (one, other) = (compile(&set).unwrap(), compile(&reversed).unwrap());
        prop_assert_eq!(one.content_id(), other.content_id());
        prop_assert_eq!(one.rules(), other.rules());
        for access in &accesses {
            prop_assert_eq!(decide(&one, access), decide(&other, access));
        }
    }

    #[test]
    fn automata_are_minimal(set in sets()) {
        let rules = compile(&set).unwrap();
        assert_minimal(rules.objects(Category::Process));
        assert_minimal(rules.objects(Category::File));
        assert_minimal(rules.sources());
    }

    #[test]
    fn an_uncovered_category_never_speaks(set in sets(), accesses in vec(accesses(), 16)) {
        let rules = compile(&set).unwrap();
        for access in &accesses {
            let category = access.category;
            let ordinary = !access.modes.tree;
            if !rules.covers(category) || (ordinary && rules.covers_only_trees(category)) {
                prop_assert_eq!(decide(&rules, access).cause, Cause::NoRule);
            }
        }
    }
}

#[test]
fn the_random_run_is_large_enough() {
    assert!(SETS as usize * ACCESSES_PER_SET >= 20_000);
}
