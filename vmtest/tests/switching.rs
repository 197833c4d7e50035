// SPDX-License-Identifier: Apache-2.0
//! Policies change while they are asked (bypass b21): every decision is made by one set or by the other, never by
//! a part of each.
#![cfg(test)]

use gorget_bpf::{Applied, Kernel, Programs, WorkloadIndex, uninstall};
use gorget_engine::{PolicySet, Ruleset, compile};
use gorget_model::{KernelEvent, Mode, Object, Outcome, Postures};
use gorget_policy::parse;
use gorget_vmtest::only_in_the_guest;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

const SWITCHES: usize = 10_000;
const FILES: [&str; 2] = ["/tmp/switching/a", "/tmp/switching/b"];

/// Blocks one of the files and audits the other, so that every opening is reported.
fn ruleset(blocked: usize) -> Ruleset {
    let [blocked, audited] = [FILES[blocked], FILES[1 - blocked]];
    let text = format!(
        "apiVersion: security.kubearmor.com/v1\nkind: KubeArmorHostPolicy\n\
         metadata: {{name: one-of-two}}\nspec:\n  \
         nodeSelector: {{matchLabels: {{kubernetes.io/hostname: gorget}}}}\n  file:\n    \
         matchPaths:\n    - {{path: {blocked}, action: Block}}\n    - {{path: {audited}, action: Audit}}\n"
    );
    let parsed = parse("switching.yaml", &text);
    assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
    let policies = parsed.policies.into_iter().map(Arc::new).collect();
    compile(&PolicySet::new(policies, Postures::default())).unwrap()
}

/// What an event says: which generation decided about which of the files, and how.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Told {
    ruleset: u32,
    file: usize,
    denied: bool,
}

impl Told {
    fn by(event: &KernelEvent) -> Self {
        let Object::Path(path) = &event.object else {
            panic!("{event:?}");
        };
        let is_it = |file: &&str| file.as_bytes() == path;
        Self {
            ruleset: event.ruleset,
            file: FILES.iter().position(is_it).unwrap(),
            denied: event.verdict.outcome == Outcome::Block,
        }
    }
}

/// Opens both files in turn until told to stop: how often each was opened, and how often refused.
fn open_in_turn(go_on: &AtomicBool) -> [[usize; 2]; 2] {
    let mut counts = [[0; 2]; 2];
    while go_on.load(Ordering::Acquire) {
        for (path, [passed, denied]) in FILES.iter().zip(&mut counts) {
            match File::open(path) {
                Ok(_) => *passed += 1,
                Err(error) if error.kind() == ErrorKind::PermissionDenied => *denied += 1,
                Err(error) => panic!("{path}: {error}"),
            }
        }
    }
    counts
}

#[test]
fn b21_ten_thousand_switches_under_load_mix_no_two_sets() {
    only_in_the_guest();
    // Exchanging a table waits for everything that may read the old one; not for long, please.
    fs::write("/sys/kernel/rcu_expedited", "1").unwrap();
    fs::create_dir_all("/tmp/switching").unwrap();
    for path in FILES {
        fs::write(path, "").unwrap();
    }
    let sets = [ruleset(0), ruleset(1)];
    let mut kernel = Kernel::load(Programs::Enforcing).unwrap();
    let reader = kernel.reader().unwrap();
    kernel.enrol().unwrap();
    let mut set_of = HashMap::new();
    let mut switch = |kernel: &mut Kernel, set: usize| {
        let applied = kernel.apply(WorkloadIndex::HOST, Some(&sets[set]), Mode::Enforced);
        match applied.unwrap() {
            Applied::Ruleset(number) => assert_eq!(set_of.insert(number.0, set), None),
            Applied::Nothing => panic!("a set says something"),
        }
    };
    switch(&mut kernel, 0);

    let reading = AtomicBool::new(true);
    let events: Mutex<HashMap<Told, usize>> = Mutex::default();
    let counts = thread::scope(|scope| {
        let reads = scope.spawn(|| {
            let collect = |event: Result<_, _>| {
                let told = Told::by(&event.unwrap());
                *events.lock().unwrap().entry(told).or_default() += 1;
            };
            reader.run(|| reading.load(Ordering::Acquire), collect)
        });
        let go_on = AtomicBool::new(true);
        let counts = thread::scope(|scope| {
            let loads = [(); 2].map(|()| scope.spawn(|| open_in_turn(&go_on)));
            for n in 1..=SWITCHES {
                switch(&mut kernel, n % 2);
                if n % 1_000 == 0 {
                    println!("{n} switches");
                }
            }
            go_on.store(false, Ordering::Release);
            loads.map(|load| load.join().unwrap())
        });
        reading.store(false, Ordering::Release);
        reads.join().unwrap().unwrap();
        counts
    });
    let lost: u64 = kernel.losses().unwrap().iter().map(|loss| loss.count).sum();
    drop(kernel);
    uninstall().unwrap();

    let mut told = [[0; 2]; 2];
    for (event, times) in events.into_inner().unwrap() {
        let set = set_of[&event.ruleset];
        assert_eq!(event.denied, event.file == set, "{event:?} by set {set}");
        told[event.file][usize::from(event.denied)] += times;
    }
    let done = |file: usize, denied: usize| counts.iter().map(|c| c[file][denied]).sum::<usize>();
    let tried = [0, 1].map(|file| [0, 1].map(|denied| done(file, denied)));
    let sum = |counts: [[usize; 2]; 2]| counts.as_flattened().iter().sum::<usize>();
    println!("{tried:?} under {SWITCHES} generations, {lost} events lost");
    // More is reported than can be read while everything is busy; what does not fit is counted.
    assert_eq!(sum(told) + usize::try_from(lost).unwrap(), sum(tried));
    for (told, tried) in told.as_flattened().iter().zip(tried.as_flattened()) {
        assert!(told <= tried);
    }
}
