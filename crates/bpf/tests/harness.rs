// SPDX-License-Identifier: Apache-2.0
//! The kernel's decision code against the reference, on random rulesets and on every scenario of
//! `conformance/`. Runs the C functions through `BPF_PROG_TEST_RUN`: needs root, attaches to nothing.
#![cfg(test)]

use gorget_bpf::{Harness, ProgramCost, Statistics, lower, self_test};
use gorget_engine::conformance::{Implementation, ImplementationError, Observed, Scenario, run};
use gorget_engine::{PolicySet, Ruleset, compile, decide};
use gorget_model::network::*;
use gorget_model::{
    Access, Capability, Category, Cause, Modes, Object, Posture, Postures, Preset, Protocol,
    Socket, Subject, Syscall,
};
use gorget_policy::{
    Action, Glob, Kind, Location, Modifiers, ObjectMatcher, Policy, Rule, Selector, Source, Token,
};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Pairs of ruleset and access that are compared.
const PAIRS: usize = 100_000;
/// Accesses asked of each ruleset.
const ACCESSES: usize = 250;

/// `SplitMix64`: the seed alone repeats a run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(n).unwrap()).unwrap()
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// Few names, so that rules and paths meet often; one that needs many chunks of the matcher.
const NAMES: [&str; 8] = [
    "a",
    "b",
    "etc",
    "bin",
    "sh",
    "secret.key",
    "x-with-a-rather-long-name-that-crosses-chunks-of-the-matcher",
    "\u{fc}ber",
];

fn path(random: &mut Random) -> String {
    let most = if random.chance(20) { 40 } else { 5 };
    let depth = 1 + random.below(most);
    (0..depth)
        .map(|_| format!("/{}", random.pick(&NAMES)))
        .collect()
}

fn tokens(random: &mut Random, depth: usize) -> Vec<Token> {
    let mut tokens: Vec<Token> = vec![Token::Byte(b'/')];
    for _ in 0..1 + random.below(4) {
        match random.below(8) {
            0 => tokens.push(Token::Run),
            1 => tokens.push(Token::DeepRun),
            2 => tokens.push(Token::One),
            3 => tokens.push(Token::Class(vec![(b'a', b'f'), (b's', b's')])),
            4 if depth > 0 => tokens.push(Token::Alternatives(vec![
                self::tokens(random, depth - 1),
                random.pick(&NAMES).bytes().map(Token::Byte).collect(),
            ])),
            5 => tokens.push(Token::Byte(b'/')),
            _ => tokens.extend(random.pick(&NAMES).bytes().map(Token::Byte)),
        }
    }
    tokens
}

fn path_object(random: &mut Random, line: u32) -> ObjectMatcher {
    match random.below(6) {
        0 | 1 => ObjectMatcher::Path(path(random)),
        2 => ObjectMatcher::ExecName(random.pick(&NAMES).to_owned()),
        3 => ObjectMatcher::Directory {
            dir: if random.chance(5) {
                "/".to_owned()
            } else {
                path(random) + "/"
            },
            recursive: random.chance(2),
        },
        4 => ObjectMatcher::Directory {
            dir: path(random) + "/",
            recursive: true,
        },
        _ => ObjectMatcher::Pattern(Glob {
            text: format!("glob {line}"),
            tokens: tokens(random, 2),
        }),
    }
}

const CALLS: [&str; 3] = ["rmdir", "setuid", "renameat2"];

fn call(random: &mut Random) -> Syscall {
    Syscall::from_name(random.pick(&CALLS)).unwrap()
}

fn domain(random: &mut Random) -> String {
    path(random)
        .trim_start_matches('/')
        .replace('/', ".")
        .to_lowercase()
}

fn capability(random: &mut Random) -> Capability {
    Capability::from_number(random.pick(&[0, 1, 40])).unwrap()
}

/// Any category that the kernel decides, the two with paths most of the time.
fn category(random: &mut Random) -> Category {
    if random.chance(3) {
        random.pick(&[
            Category::Network,
            Category::Dns,
            Category::Capability,
            Category::Syscall,
            Category::Preset,
        ])
    } else {
        random.pick(&[Category::Process, Category::File])
    }
}

fn object(random: &mut Random, category: Category, line: u32) -> ObjectMatcher {
    match category {
        Category::Process | Category::File => path_object(random, line),
        Category::Network => ObjectMatcher::Protocol(random.pick(&Protocol::ALL)),
        Category::Dns => ObjectMatcher::Domain(domain(random)),
        Category::Capability => ObjectMatcher::Capability(capability(random)),
        Category::Syscall => match random.below(3) {
            0 => ObjectMatcher::Syscall(call(random)),
            1 => ObjectMatcher::SyscallPath(call(random), path(random)),
            _ => ObjectMatcher::SyscallDirectory {
                call: call(random),
                dir: path(random) + "/",
                recursive: random.chance(2),
            },
        },
        Category::Preset => ObjectMatcher::Preset(random.pick(&Preset::ALL)),
        Category::Device => panic!("not decided in the kernel"),
    }
}

const ARGUMENTS: [&str; 5] = ["-a", "-ab", "x", "", "--long-argument=1"];

fn rule(random: &mut Random, line: u32) -> Rule {
    let category = category(random);
    let object = object(random, category, line);
    let lists = category == Category::Process && random.chance(4);
    let sources = (0..if random.chance(2) { random.below(3) } else { 0 })
        .map(|_| {
            if random.chance(3) {
                Source::Directory {
                    dir: path(random) + "/",
                    recursive: random.chance(2),
                }
            } else {
                Source::Path(path(random))
            }
        })
        .collect();
    Rule {
        category,
        object,
        sources,
        modifiers: Modifiers {
            read_only: category == Category::File && random.chance(4),
            owner_only: random.chance(4),
            no_terminal: random.chance(6),
        },
        allowed_arguments: (0..if lists { 1 + random.below(3) } else { 0 })
            .map(|_| random.pick(&ARGUMENTS).to_owned())
            .collect(),
        action: random.pick(&[Action::Allow, Action::Audit, Action::Block]),
        severity: None,
        tags: Vec::new(),
        message: String::new(),
        at: Location {
            file: "random".into(),
            line,
            column: 1,
        },
        last_line: line,
    }
}

fn ruleset(random: &mut Random) -> Ruleset {
    let policies = (0..1 + random.below(3))
        .map(|n| {
            Arc::new(Policy {
                kind: Kind::Container,
                namespace: None,
                name: format!("policy-{n}"),
                selector: Selector::default(),
                rules: (0..u32::try_from(1 + random.below(8)).unwrap())
                    .map(|line| rule(random, line))
                    .collect(),
                native_apparmor: String::new(),
            })
        })
        .collect();
    let mut posture = || random.pick(&[Posture::Allow, Posture::Audit, Posture::Block]);
    let postures = Postures {
        file: posture(),
        network: posture(),
        capabilities: posture(),
        device: posture(),
    };
    compile(&PolicySet::new(policies, postures)).unwrap()
}

fn accessed(random: &mut Random, category: Category) -> Object {
    match category {
        Category::Process | Category::File => match random.below(20) {
            0 => Object::Nameless,
            1 => Object::Path(b"/".to_vec()),
            _ => Object::Path(path(random).into()),
        },
        Category::Network => Object::Socket(Socket {
            family: random.pick(&[AF_UNIX, AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, 45]),
            kind: random.pick(&[1, 2, 3, 4, 5, 6, 10]),
            protocol: random.pick(&[0, 1, 6, 17, 58, 132, 255, IPPROTO_MPTCP]),
        }),
        Category::Dns => Object::Domain(domain(random).to_uppercase().into()),
        Category::Capability => Object::Capability(capability(random)),
        Category::Syscall => Object::Syscall {
            call: call(random),
            path: random.chance(2).then(|| path(random).into()),
        },
        Category::Preset => Object::Preset(random.pick(&Preset::ALL)),
        Category::Device => panic!("not decided in the kernel"),
    }
}

fn access(random: &mut Random) -> Access {
    let category = category(random);
    let (file, process) = (category == Category::File, category == Category::Process);
    Access {
        category,
        subject: if random.chance(10) {
            Subject::Runtime
        } else {
            Subject::Image(path(random).into())
        },
        object: accessed(random, category),
        modes: Modes {
            read: file && random.chance(2),
            write: file && random.chance(2),
            owner: random.chance(2),
            tree: file && random.chance(6),
            terminal: random.chance(2),
        },
        arguments: (0..if process { random.below(4) } else { 0 })
            .map(|_| random.pick(&ARGUMENTS).into())
            .collect(),
    }
}

#[test]
fn random_accesses_are_decided_as_the_reference_decides() {
    let seed = match std::env::var("GORGET_SEED") {
        Ok(given) => given.parse().unwrap(),
        Err(_) => u64::from(std::process::id()) << 32 | 0x5eed,
    };
    let pairs = match std::env::var("GORGET_PAIRS") {
        Ok(given) => given.parse().unwrap(),
        Err(_) => PAIRS,
    };
    println!("seed {seed} (repeat with GORGET_SEED={seed}, longer with GORGET_PAIRS=1000000)");
    let mut random = Random(seed);
    let mut harness = Harness::load().unwrap();
    let mut compared = 0;
    let mut outcomes = std::collections::BTreeMap::new();
    while compared < pairs {
        let rules = ruleset(&mut random);
        let accesses: Vec<_> = (0..ACCESSES).map(|_| access(&mut random)).collect();
        let verdicts = harness.decide(&rules, &accesses).unwrap();
        assert_eq!(verdicts.len(), accesses.len());
        for (access, kernel) in accesses.iter().zip(verdicts) {
            let reference = decide(&rules, access);
            assert_eq!(
                kernel, reference,
                "seed {seed}, pair {compared}: {access:?}"
            );
            *outcomes.entry(format!("{:?}", kernel.outcome)).or_insert(0) += 1;
            compared += 1;
        }
    }
    println!("{compared} pairs compared: {outcomes:?}");
    assert!(
        outcomes.values().all(|n| *n > pairs / 100) && outcomes.len() == 3,
        "the random accesses do not meet the rules: {outcomes:?}"
    );
    let shortly = harness.passed_shortly();
    println!("{shortly} of them pass by the short way");
    assert!(shortly > 0);
}

#[test]
fn what_programs_cost_is_measured_while_somebody_wants_it() {
    let mut random = Random(7);
    let mut harness = Harness::load().unwrap();
    let measured = harness.measured().unwrap();
    let total = |costs: Vec<ProgramCost>| {
        let runs: u64 = costs.iter().map(|it| it.runs).sum();
        let nanos: u64 = costs.iter().map(|it| it.nanos).sum();
        (costs.len(), runs, nanos)
    };
    let statistics = Statistics::on().unwrap();
    let (programs, runs, nanos) = total(measured.costs());
    assert_eq!(programs, measured.programs());
    let (rules, access) = (ruleset(&mut random), access(&mut random));
    harness.decide(&rules, &[access]).unwrap();
    let (_, runs_then, nanos_then) = total(measured.costs());
    assert_eq!(runs_then, runs + 1);
    assert!(nanos_then > nanos);
    drop(statistics);
}

#[test]
fn this_kernel_passes_the_self_test() {
    assert!(self_test().unwrap() > 1000);
}

#[test]
fn a_ruleset_of_every_size_class_decides_like_the_reference() {
    let mut random = Random(7);
    let mut harness = Harness::load().unwrap();
    for rules in [10u32, 300, 3_000] {
        let policy = Policy {
            kind: Kind::Container,
            namespace: None,
            name: "many".to_owned(),
            selector: Selector::default(),
            rules: (0..rules)
                .map(|line| Rule {
                    category: random.pick(&[Category::Process, Category::File]),
                    object: ObjectMatcher::Path(format!("/data/{line}/{}", line * 7919)),
                    ..rule(&mut random, line)
                })
                .map(|rule| Rule {
                    sources: Vec::new(),
                    modifiers: Modifiers {
                        read_only: rule.modifiers.read_only && rule.category == Category::File,
                        ..rule.modifiers
                    },
                    allowed_arguments: BTreeSet::new(),
                    ..rule
                })
                .collect(),
            native_apparmor: String::new(),
        };
        let set = PolicySet::new(vec![Arc::new(policy)], Postures::all(Posture::Block));
        let ruleset = compile(&set).unwrap();
        println!("{rules} rules: {} bytes", lower(&ruleset).unwrap().len());
        let accesses: Vec<_> = (0..rules)
            .map(|line| Access {
                category: random.pick(&[Category::Process, Category::File]),
                object: Object::Path(format!("/data/{line}/{}", line * 7919).into()),
                ..access(&mut random)
            })
            .collect();
        let verdicts = harness.decide(&ruleset, &accesses).unwrap();
        for (access, kernel) in accesses.iter().zip(verdicts) {
            assert_eq!(kernel, decide(&ruleset, access), "{access:?}");
        }
    }
}

/// The kernel's decision code as one more implementation of the scenarios.
struct InKernel {
    harness: Harness,
    rules: Option<Ruleset>,
}

impl Implementation for InKernel {
    fn name(&self) -> &str {
        "harness"
    }

    fn prepare(&mut self, scenario: &Scenario) -> Result<(), ImplementationError> {
        self.rules = Some(compile(&scenario.set)?);
        Ok(())
    }

    fn decide(&mut self, access: &Access) -> Result<Observed, ImplementationError> {
        let rules = self.rules.as_ref().ok_or("not prepared")?;
        let verdicts = self.harness.decide(rules, std::slice::from_ref(access))?;
        let verdict = verdicts.first().ok_or("no answer")?;
        let policy = match verdict.cause {
            Cause::NoRule => None,
            Cause::DefaultPosture => Some("DefaultPosture".to_owned()),
            Cause::Rule(id) => rules
                .rules()
                .get(usize::try_from(id.0)?)
                .map(|rule| rule.policy.clone()),
        };
        Ok(Observed {
            outcome: verdict.outcome,
            policy,
        })
    }
}

#[test]
fn every_scenario_is_decided_in_the_kernel_as_it_says() {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/../../conformance");
    let mut kernel = InKernel {
        harness: Harness::load().unwrap(),
        rules: None,
    };
    let (mut scenarios, mut cases, mut failures) = (0, 0, Vec::new());
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let beside = path.parent().unwrap();
        let mut read =
            |policies: &str| std::fs::read_to_string(beside.join(policies)).map_err(Into::into);
        let scenario = Scenario::parse_with(&path.display().to_string(), &text, &mut read).unwrap();
        let report = run(&scenario, &mut kernel);
        scenarios += 1;
        cases += report.passed;
        failures.extend(report.failures);
    }
    println!("{cases} cases of {scenarios} scenarios");
    assert!(failures.is_empty(), "{failures:#?}");
    assert!(scenarios >= 40 && cases >= 200, "{scenarios} {cases}");
}
