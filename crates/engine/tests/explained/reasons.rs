// SPDX-License-Identifier: Apache-2.0
//! Every reason that an explanation can give, by the line of the rule that it is about.

use crate::{access, policy, set};
use gorget_engine::{Effect, Explanation, Fate, Modifier, Naming, Side, Unlisted, explain};
use gorget_model::{Cause, Outcome, Posture};

const TOKENS: &str = "/run/secrets/token";

/// The documented way to let one program at a directory: files on lines 9, 12 and 14, processes on 19.
const LENIENT: &str = "  action: Allow
  file:
    matchDirectories:
      - dir: /run/secrets/
        recursive: true
        action: Block
      - dir: /
        recursive: true
      - dir: /run/secrets/
        recursive: true
        fromSource: [ { path: /bin/cat } ]
  process:
    matchDirectories:
      - { dir: /, recursive: true }";

fn fates(explanation: &Explanation) -> Vec<(u32, Fate)> {
    let rules = explanation.rules.iter();
    rules.map(|r| (r.rule.at.line, r.fate.clone())).collect()
}

fn less_specific(dir: &str, recursive: bool) -> Fate {
    let dir = dir.to_owned();
    Fate::LessSpecific {
        winner: Naming::Directory { dir, recursive },
    }
}

#[test]
fn the_lenient_allow_list_names_the_line_for_every_program() {
    let set = set(&policy("lenient", LENIENT));
    let operation = format!("file:read:{TOKENS}");

    let cat = explain(&set, &access(&operation, "/bin/cat"));
    assert_eq!(cat.verdict.outcome, Outcome::Pass);
    assert_eq!(
        fates(&cat),
        [
            (14, Fate::Decides),
            (9, Fate::NamesNoSource),
            (12, Fate::NamesNoSource)
        ]
    );
    let winner = &cat.rules[0].rule;
    assert!(winner.last_line >= winner.at.line);
    for other in ["/bin/head", "/bin/sh"] {
        let denied = explain(&set, &access(&operation, other));
        assert_eq!(denied.verdict.outcome, Outcome::Block);
        assert_eq!(
            fates(&denied),
            [
                (9, Fate::Decides),
                (12, less_specific("/run/secrets/", true)),
                (14, Fate::SourceDiffers)
            ]
        );
        let elsewhere = explain(&set, &access("file:write:/srv/x", other));
        assert_eq!(fates(&elsewhere), [(12, Fate::Decides)]);
    }
    let run = explain(&set, &access("exec:/bin/sh", "/bin/cat"));
    assert_eq!(fates(&run), [(19, Fate::Decides)]);
    let elsewhere = explain(&set, &access("file:write:/srv/x", "/bin/cat"));
    assert_eq!(
        fates(&elsewhere),
        [(12, Fate::Decides), (14, Fate::ObjectDiffers)]
    );
}

#[test]
fn the_more_specific_object_wins() {
    let rules = "  file:
    matchPaths:
      - path: /etc/app/key
        action: Audit
    matchDirectories:
      - { dir: /etc/, recursive: true }
      - { dir: /etc/app/, recursive: true }
      - { dir: /etc/app/ }
    matchPatterns:
      - { pattern: /etc/*/k* }";
    let set = set(&policy("p", rules));
    let key = explain(&set, &access("file:read:/etc/app/key", "/x"));
    let beaten = Fate::LessSpecific {
        winner: Naming::Path,
    };
    let lines = [11, 12, 13, 15].map(|line| (line, beaten.clone()));
    assert_eq!(fates(&key)[0], (8, Fate::Decides));
    assert_eq!(fates(&key)[1..], lines);

    let other = explain(&set, &access("file:read:/etc/app/kit", "/x"));
    assert_eq!(
        fates(&other),
        [
            (13, Fate::Decides),
            (11, less_specific("/etc/app/", false)),
            (12, less_specific("/etc/app/", false)),
            (15, Fate::Later)
        ]
    );
}

#[test]
fn among_equals_the_action_and_then_the_name_decides() {
    let blocked = "  file: { matchPaths: [ { path: /k } ] }";
    let allowed = "  action: Allow\n  file: { matchPaths: [ { path: /k } ] }";
    let text = [
        policy("c", blocked),
        policy("b", blocked),
        policy("a", allowed),
    ]
    .join("---\n");
    let explanation = explain(&set(&text), &access("file:read:/k", "/x"));
    let named: Vec<(&str, &Fate)> = explanation
        .rules
        .iter()
        .map(|r| (r.rule.policy.as_str(), &r.fate))
        .collect();
    let weaker = Fate::WeakerAction {
        winner: Effect::Block,
    };
    assert_eq!(
        named,
        [
            ("default/b", &Fate::Decides),
            ("default/a", &weaker),
            ("default/c", &Fate::Later)
        ]
    );
    let Unlisted::Posture {
        posture,
        because_of,
    } = &explanation.unlisted
    else {
        panic!("an allow list")
    };
    assert_eq!(*posture, Posture::Block);
    assert_eq!(because_of[0].policy, "default/a");
}

#[test]
fn modifiers_silence_a_rule_or_leave_the_access_to_the_posture() {
    let rules = "  file:
    matchPaths:
      - { path: /k, readOnly: true, ownerOnly: true, action: Audit }
      - { path: /w, readOnly: true, action: Allow }";
    let set = set(&policy("p", rules));
    let read = explain(&set, &access("file:read:/k", "/x"));
    let silenced = Fate::Silenced(vec![Modifier::ReadOnly, Modifier::OwnerOnly]);
    assert_eq!(
        silenced.to_string(),
        "it says nothing, because the access satisfies `readOnly` and `ownerOnly`"
    );
    assert_eq!(fates(&read), [(8, silenced)]);
    assert_eq!(read.verdict.cause, Cause::DefaultPosture);
    assert_eq!(read.winner(), None);

    let write = explain(&set, &access("file:write:/w", "/x"));
    assert_eq!(fates(&write), [(9, Fate::LeavesToPosture)]);
    assert_eq!(write.verdict.cause, Cause::DefaultPosture);
    assert_eq!(write.side, Side::Writing);
    let both = explain(&set, &access("file:readwrite:/w", "/x"));
    assert_eq!((both.side, both.verdict), (Side::Writing, write.verdict));
}

#[test]
fn a_directory_stays_for_what_is_in_it() {
    let rules = "  file:
    matchDirectories:
      - { dir: /srv/app/, recursive: true, action: Audit }
      - { dir: /srv/app/secret/, recursive: true }
    matchPaths:
      - path: /srv/app/key
        fromSource: [ { path: /bin/keeper } ]";
    let set = set(&policy("p", rules));
    let moved = explain(&set, &access("file:tree:/srv/app", "/x"));
    assert_eq!(moved.side, Side::Moving);
    assert_eq!(moved.verdict.outcome, Outcome::Block);
    assert_eq!(
        fates(&moved),
        [
            (9, Fate::Decides),
            (8, Fate::MilderThanBelow),
            (11, Fate::SourceDiffers)
        ]
    );
    let below = moved.winner().unwrap().names.as_ref();
    assert_eq!(below, Some(&Naming::Below("/srv/app/secret".to_owned())));
    let elsewhere = explain(&set, &access("file:tree:/opt", "/x"));
    assert_eq!(elsewhere.verdict.cause, Cause::NoRule);
    assert_eq!(elsewhere.rules, []);
}

#[test]
fn reasons_are_sentences_without_an_end() {
    let directory = Naming::Directory {
        dir: "/a/".to_owned(),
        recursive: true,
    };
    let all = [
        Fate::Decides,
        Fate::LeavesToPosture,
        Fate::SourceDiffers,
        Fate::ObjectDiffers,
        Fate::Silenced(vec![Modifier::NoTerminal]),
        Fate::NamesNoSource,
        Fate::LessSpecific { winner: directory },
        Fate::WeakerAction {
            winner: Effect::Audit,
        },
        Fate::Later,
        Fate::MilderThanBelow,
        Fate::NotStricter,
        Fate::OverruledBelow,
    ];
    let sentences: std::collections::BTreeSet<String> =
        all.iter().map(ToString::to_string).collect();
    assert_eq!(sentences.len(), all.len());
    assert!(sentences.iter().all(|sentence| !sentence.ends_with('.')));
    let specific = all[6].to_string();
    assert_eq!(
        specific,
        "the directory `/a/` with all below it goes before it, because that is more specific"
    );
}
