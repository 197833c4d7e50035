// SPDX-License-Identifier: Apache-2.0
//! Answers against `decide`, on random policy sets that differ in random ways.

use crate::generate::{accesses, policies, rule, sets};
use gorget_engine::{
    Answer, Considered, Difference, HiddenBy, Naming, PolicySet, Region, RuleInfo, Ruleset, Why,
    compile, decide, diff, explain, shadowed,
};
use gorget_model::{Access, Category, Cause, Object, Outcome};
use gorget_policy::Policy;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use std::sync::Arc;

const SETS: u32 = 120;
const ACCESSES_PER_SET: usize = 60;

/// A small change to a policy set; the positions may be any number.
#[derive(Clone, Debug)]
enum Change {
    Without(Index),
    Instead(Index, gorget_policy::Rule),
    Also(gorget_policy::Rule),
    Recursive(Index),
    ReadOnly(Index),
    Postures(gorget_model::Postures),
    Everything(Vec<Arc<Policy>>),
}

fn changes() -> impl Strategy<Value = Change> {
    let at = any::<Index>;
    prop_oneof![
        3 => at().prop_map(Change::Without),
        3 => (at(), rule()).prop_map(|(at, rule)| Change::Instead(at, rule)),
        3 => rule().prop_map(Change::Also),
        1 => at().prop_map(Change::Recursive),
        1 => at().prop_map(Change::ReadOnly),
        1 => crate::generate::postures().prop_map(Change::Postures),
        1 => policies().prop_map(Change::Everything),
    ]
}

impl Change {
    fn of(&self, set: &PolicySet) -> PolicySet {
        let mut set = set.clone();
        let mut policies: Vec<Policy> = set.policies.iter().map(|p| (**p).clone()).collect();
        let places: Vec<(usize, usize)> = policies
            .iter()
            .enumerate()
            .flat_map(|(p, policy)| (0..policy.rules.len()).map(move |r| (p, r)))
            .collect();
        match self {
            Self::Without(at) => {
                let (policy, rule) = *at.get(&places);
                policies[policy].rules.remove(rule);
            }
            Self::Instead(at, new) => {
                let (policy, rule) = *at.get(&places);
                policies[policy].rules[rule] = new.clone();
            }
            Self::Also(new) => policies[0].rules.push(new.clone()),
            Self::Recursive(at) => {
                let (policy, rule) = *at.get(&places);
                if let gorget_policy::ObjectMatcher::Directory { recursive, .. } =
                    &mut policies[policy].rules[rule].object
                {
                    *recursive = !*recursive;
                }
            }
            Self::ReadOnly(at) => {
                let (policy, rule) = *at.get(&places);
                let modifiers = &mut policies[policy].rules[rule].modifiers;
                modifiers.read_only = !modifiers.read_only;
            }
            Self::Postures(postures) => set.postures = *postures,
            Self::Everything(other) => set.policies.clone_from(other),
        }
        if !matches!(self, Self::Everything(_)) {
            set.policies = policies.into_iter().map(Arc::new).collect();
        }
        set
    }
}

/// Every policy's rules over two policies.
fn split(set: &PolicySet) -> PolicySet {
    let mut split = set.clone();
    split.policies.clear();
    for policy in &set.policies {
        let half = policy.rules.len() / 2;
        for (name, rules) in [("a", &policy.rules[half..]), ("z", &policy.rules[..half])] {
            let mut part = (**policy).clone();
            part.name.push_str(name);
            part.rules = rules.to_vec();
            split.policies.push(Arc::new(part));
        }
    }
    split
}

fn without(set: &PolicySet, rule: &RuleInfo) -> PolicySet {
    let mut set = set.clone();
    for policy in &mut set.policies {
        if policy.name == rule.policy && policy.namespace == rule.namespace {
            let policy = Arc::make_mut(policy);
            policy.rules.retain(|other| other.at != rule.at);
        }
    }
    set
}

fn outcomes(rules: [&Ruleset; 2], access: &Access) -> [Outcome; 2] {
    rules.map(|rules| decide(rules, access).outcome)
}

/// What a witness must be, in words when it is not.
fn is_wrong(rules: [&Ruleset; 2], difference: &Difference, region: &Region) -> Option<String> {
    let [old, new] = rules.map(|rules| Answer::new(rules, decide(rules, &region.witness)));
    let listed = [
        (
            &difference.newly_denied,
            old.outcome != Outcome::Block && new.outcome == Outcome::Block,
        ),
        (
            &difference.newly_allowed,
            old.outcome == Outcome::Block && new.outcome != Outcome::Block,
        ),
        (
            &difference.alerts,
            old.outcome != Outcome::Block && new.outcome != Outcome::Block,
        ),
    ];
    let in_the_right_list = listed
        .iter()
        .all(|(list, belongs)| list.contains(region) == *belongs);
    let true_answers = (&old, &new) == (&region.old, &region.new);
    let differs = old.outcome != new.outcome;
    let told = region.subjects.contains(&region.witness.subject);
    (!in_the_right_list || !true_answers || !differs || !told || !can_happen(&region.witness))
        .then(|| format!("{region:?}: in fact {old:?} and {new:?}"))
}

/// An access that some task could attempt.
fn can_happen(access: &Access) -> bool {
    let image = |path: &[u8]| is_path(path) && path != b"/";
    let subject = match &access.subject {
        gorget_model::Subject::Runtime => true,
        gorget_model::Subject::Image(path) => image(path),
    };
    let object = match &access.object {
        Object::Path(path) => {
            is_path(path) && (access.category != Category::Process || image(path))
        }
        Object::Nameless => !access.modes.tree,
        Object::Domain(name) => name
            .split(|byte| *byte == b'.')
            .all(|label| (1..=63).contains(&label.len())),
        Object::Syscall { path, .. } => path.as_ref().is_none_or(|path| is_path(path)),
        Object::Socket(socket) => (1..=10).contains(&socket.kind),
        Object::Device(device) => device.level > 0,
        Object::Capability(_) | Object::Preset(_) => true,
    };
    let file = access.category == Category::File;
    let modes = access.modes;
    let accessed = file == (modes.read || modes.write) && (!modes.tree || modes.write);
    let given = access.category == Category::Process || access.arguments.is_empty();
    subject && object && accessed && given
}

fn is_path(path: &[u8]) -> bool {
    let Some(names) = path.strip_prefix(b"/") else {
        return false;
    };
    names.is_empty()
        || names
            .split(|byte| *byte == b'/')
            .all(|name| !matches!(name, b"" | b"." | b".."))
}

fn sets_to_try() -> u32 {
    let wanted = std::env::var("PROPTEST_CASES");
    wanted.map_or(SETS, |text| text.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: sets_to_try(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn witnesses_are_true_and_nothing_differs_without_one(
        set in sets(),
        change in changes(),
        accesses in vec(accesses(), ACCESSES_PER_SET),
    ) {
        let changed = change.of(&set);
        let (old, new) = (compile(&set).unwrap(), compile(&changed).unwrap());
        let rules = [&old, &new];
        let difference = diff(&old, &new).unwrap();
        for region in difference.regions() {
            prop_assert_eq!(is_wrong(rules, &difference, region), None);
        }
        for access in accesses.iter().filter(|access| can_happen(access)) {
            let [before, after] = outcomes(rules, access);
            let region = difference.regions().any(|region| {
                let answers = rules.map(|rules| Answer::new(rules, decide(rules, access)));
                region.category == access.category
                    && answers == [region.old.clone(), region.new.clone()]
            });
            let combined = access.modes.read && access.modes.write;
            prop_assert!(before == after || region || (combined && !difference.is_empty()), "{:?}", access);
        }
    }

    #[test]
    fn the_way_back_is_the_same_difference(set in sets(), change in changes()) {
        let (old, new) = (compile(&set).unwrap(), compile(&change.of(&set)).unwrap());
        let (there, back) = (diff(&old, &new).unwrap(), diff(&new, &old).unwrap());
        let witnesses = |regions: &[Region]| {
            let mut all: Vec<_> = regions.iter().map(|r| r.witness.clone()).collect();
            all.sort();
            all
        };
        prop_assert_eq!(witnesses(&there.newly_denied), witnesses(&back.newly_allowed));
        prop_assert_eq!(witnesses(&there.newly_allowed), witnesses(&back.newly_denied));
        prop_assert_eq!(witnesses(&there.alerts), witnesses(&back.alerts));
        prop_assert_eq!(there.renamed, back.renamed);
    }

    #[test]
    fn a_ruleset_does_not_differ_from_itself(set in sets()) {
        let mut moved = set.clone();
        moved.policies.reverse();
        for policy in &mut moved.policies {
            for rule in &mut Arc::make_mut(policy).rules {
                rule.at.line += 10;
            }
        }
        let (one, other) = (compile(&set).unwrap(), compile(&moved).unwrap());
        prop_assert_eq!(diff(&one, &one).unwrap(), Difference::default());
        prop_assert_eq!(diff(&one, &other).unwrap(), Difference::default());
    }

    #[test]
    fn split_policies_mean_the_same(set in sets()) {
        let (whole, split) = (compile(&set).unwrap(), compile(&split(&set)).unwrap());
        prop_assert!(diff(&whole, &split).unwrap().is_empty());
    }

    #[test]
    fn a_rule_that_is_reported_can_be_taken_out(set in sets()) {
        let rules = compile(&set).unwrap();
        for idle in shadowed(&set).unwrap() {
            let rest = compile(&without(&set, &idle.rule)).unwrap();
            match &idle.allow_list {
                None => prop_assert!(diff(&rules, &rest).unwrap().is_empty(), "{idle:?}"),
                Some(access) => {
                    let [with, without] = outcomes([&rules, &rest], access);
                    prop_assert!(can_happen(access));
                    prop_assert_eq!(decide(&rules, access).cause, Cause::DefaultPosture);
                    prop_assert!(with != without, "{access:?}");
                }
            }
        }
    }

    #[test]
    fn the_rule_that_hides_another_wins_at_the_witness(set in sets()) {
        let rules = compile(&set).unwrap();
        for idle in shadowed(&set).unwrap() {
            let Why::Hidden(by) = &idle.why else {
                continue;
            };
            for HiddenBy { rule, witness } in by {
                let explanation = explain(&set, witness);
                let info = |considered: &Considered| &rules.rules()[considered.rule.id.0 as usize];
                prop_assert_eq!(explanation.winner().map(info), Some(rule));
                let hidden = explanation.rules.iter().find(|other| info(other) == &idle.rule);
                prop_assert!(hidden.is_some_and(|hidden| hidden.asks.is_some()), "{:?}", explanation);
                prop_assert!(can_happen(witness), "{:?}", witness);
            }
        }
    }

    #[test]
    fn what_is_reported_to_say_nothing_has_no_say(
        set in sets(),
        accesses in vec(accesses(), ACCESSES_PER_SET),
    ) {
        let rules = compile(&set).unwrap();
        let reported = shadowed(&set).unwrap();
        let silent: Vec<_> = reported
            .iter()
            .filter(|idle| !matches!(idle.why, Why::Hidden(_)))
            .collect();
        for access in accesses.iter().filter(|access| can_happen(access)) {
            for considered in explain(&set, access).rules {
                let info = &rules.rules()[considered.rule.id.0 as usize];
                let by_its_own_name = !matches!(considered.names, None | Some(Naming::Below(_)));
                let speaks = considered.asks.is_some() && by_its_own_name && !access.modes.tree;
                prop_assert!(!speaks || !silent.iter().any(|idle| &idle.rule == info));
            }
        }
    }
}
