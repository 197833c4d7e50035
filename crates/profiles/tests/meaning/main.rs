// SPDX-License-Identifier: Apache-2.0
//! Profiles against `engine::decide`, on random policy sets over an alphabet small enough that rules
//! collide all the time, read by a reader that knows only AppArmor's language.
#![cfg(test)]

#[path = "../../../engine/tests/meaning/generate.rs"]
mod generate;
mod reader;

use generate::{accesses, sets};
use gorget_engine::{PolicySet, Ruleset, compile, decide, literal_paths};
use gorget_model::network::{SOCK_DCCP, SOCK_PACKET};
use gorget_model::{Access, Category, Mode, Object, Outcome, Subject};
use gorget_profiles::{Confined, Profile as Written, profile};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use reader::{Profile, Said, read};
use std::collections::HashMap;

const ACCESSES_PER_SET: usize = 100;
/// `PROPTEST_CASES` sets another number.
const SETS: u32 = 60;

fn sets_to_try() -> u32 {
    let wanted = std::env::var("PROPTEST_CASES");
    wanted.map_or(SETS, |text| text.parse().unwrap())
}

/// The usual run tries the same sets always; one with a number of its own tries others.
fn seed() -> RngSeed {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => RngSeed::Random,
        None => RngSeed::Fixed(1),
    }
}

fn written(set: &PolicySet, mode: Mode, entry: Option<&[u8]>) -> (Written, Vec<Profile>) {
    let confined = Confined {
        name: "kubearmor_web",
        set,
        mode,
        entry,
        parts: &[],
        log: true,
    };
    let written = profile(&confined).unwrap();
    let read = read(&written.text);
    (written, read)
}

/// The profile that an image runs in: where executing it leads, from whichever profile allows that.
fn of_image<'a>(profiles: &'a [Profile], image: &[u8], owner: bool) -> Option<&'a Profile> {
    let mut targets: Vec<String> = profiles
        .iter()
        .filter_map(|profile| profile.file(image, owner, 'x').target)
        .collect();
    targets.sort();
    targets.dedup();
    assert!(targets.len() <= 1, "{targets:?}");
    let target = targets.pop()?;
    let found = profiles.iter().find(|profile| profile.name == target);
    Some(found.unwrap_or_else(|| panic!("there is no `{target}`")))
}

/// What a profile says about an access; `None` when a profile cannot tell it from others.
fn said(profile: &Profile, access: &Access) -> Option<Said> {
    let modes = access.modes;
    Some(match (&access.object, access.category) {
        (Object::Path(path), Category::Process) => {
            // Directories are not executed.
            (path.as_slice() != b"/").then(|| profile.file(path, modes.owner, 'x'))?
        }
        (Object::Path(path), _) => {
            let mut path = path.clone();
            if modes.tree && path != b"/" {
                path.push(b'/');
            }
            let letters = [
                ('r', modes.read || !(modes.write || modes.tree)),
                ('w', modes.write || modes.tree),
            ];
            let each: Vec<Said> = letters
                .iter()
                .filter(|(_, asked)| *asked)
                .map(|(letter, _)| profile.file(&path, modes.owner, *letter))
                .collect();
            Said {
                allowed: each.iter().all(|said| said.allowed),
                audited: each.iter().any(|said| said.audited),
                target: None,
            }
        }
        // DCCP has no name, and the oldest packet sockets have none that every family knows.
        (Object::Socket(socket), _) if ![SOCK_DCCP, SOCK_PACKET].contains(&socket.kind) => {
            let family = match socket.family {
                1 => "unix",
                2 => "inet",
                10 => "inet6",
                16 => "netlink",
                17 => "packet",
                _ => "vsock",
            };
            let kind = match socket.kind {
                1 => "stream",
                2 => "dgram",
                3 => "raw",
                4 => "rdm",
                _ => "seqpacket",
            };
            profile.network(family, kind)
        }
        (Object::Capability(capability), _) => profile.capability(capability.name()),
        _ => return None,
    })
}

/// What nobody sees is as the rules want it.
fn visible(mut access: Access) -> Access {
    access.modes.terminal = false;
    access.arguments.clear();
    // Sockets and capabilities have no owner.
    let is_path = matches!(access.category, Category::Process | Category::File);
    access.modes.owner &= is_path;
    access
}

/// Why an access is not compared.
fn is_limited(written: &Written, access: &Access) -> bool {
    let field = match access.category {
        Category::Network => "protocol",
        _ => "pattern",
    };
    written.limits.iter().any(|limit| limit.field == field)
}

/// A program can always be read by itself.
fn is_itself(set: &PolicySet, access: &Access) -> bool {
    let Object::Path(path) = &access.object else {
        return false;
    };
    let subject = access.subject == Subject::Image(path.clone());
    let names = literal_paths(&set.policies);
    // What does not write reads.
    (access.modes.read || !access.modes.write)
        && (subject || names.contains(path) || set.aliases.0.values().any(|p| p == path))
}

/// Writing to the root, or to what is moved, is not told from moving it.
fn is_guarded(rules: &Ruleset, access: &Access) -> bool {
    let mut moved = access.clone();
    moved.modes.tree = true;
    let root = access.object == Object::Path(b"/".to_vec());
    root && access.modes.write && decide(rules, &moved).outcome == Outcome::Block
}

/// A profile audits sockets by family and type; those of single protocols are told by the programs
/// that look on.
fn is_by_protocol(access: &Access) -> bool {
    matches!(&access.object, Object::Socket(socket) if socket.protocol != 0)
}

/// Moving something is not audited.
fn agrees(outcome: Outcome, said: &Said, access: &Access, limited: bool) -> bool {
    match outcome {
        // A program that only such a pattern allows is denied.
        Outcome::Pass => said.allowed || limited,
        Outcome::Audit => {
            let told = said.audited || access.modes.tree || is_by_protocol(access);
            said.allowed && (told || limited)
        }
        // What cannot be said is let pass.
        Outcome::Block => !said.allowed || limited,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: sets_to_try(),
        rng_seed: seed(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_profile_allows_what_the_policies_do(
        set in sets(),
        accesses in vec(accesses(), ACCESSES_PER_SET),
    ) {
        let rules = compile(&set).unwrap();
        let (text, profiles) = written(&set, Mode::Enforced, None);
        let mut entries: HashMap<Vec<u8>, Vec<Profile>> = HashMap::new();
        for access in accesses.into_iter().map(visible) {
            let entered = match &access.subject {
                Subject::Runtime => Some(&profiles[0]),
                Subject::Image(image) => of_image(&profiles, image, access.modes.owner),
            };
            let profile = match (entered, &access.subject) {
                (Some(profile), _) => profile,
                (None, Subject::Image(image)) => {
                    let entry = entries.entry(image.clone());
                    &entry.or_insert_with(|| written(&set, Mode::Enforced, Some(image)).1)[0]
                }
                (None, Subject::Runtime) => &profiles[0],
            };
            let Some(said) = said(profile, &access) else { continue };
            let outcome = decide(&rules, &access).outcome;
            let limited = is_limited(&text, &access);
            if limited && access.category == Category::Network || is_guarded(&rules, &access)
                || is_itself(&set, &access) && outcome == Outcome::Block
            {
                continue;
            }
            prop_assert!(
                agrees(outcome, &said, &access, limited),
                "{:?} for {:?}, but {:?} in `{}` of\n{}", outcome, access, said, profile.name, text.text
            );
        }
    }

    #[test]
    fn nothing_is_denied_where_policies_are_only_audited(
        set in sets(),
        accesses in vec(accesses(), 20),
    ) {
        let rules = compile(&set).unwrap();
        let (text, profiles) = written(&set, Mode::Audited, None);
        for access in accesses.into_iter().map(visible) {
            let Subject::Image(image) = &access.subject else { continue };
            let profile = of_image(&profiles, image, access.modes.owner).unwrap();
            let Some(said) = said(profile, &access) else { continue };
            prop_assert!(said.allowed, "{:?}", access);
            let told = decide(&rules, &access).outcome == Outcome::Pass
                || said.audited
                || access.modes.tree
                || is_by_protocol(&access)
                || is_limited(&text, &access);
            prop_assert!(told, "{:?} {:?} in `{}` of {}", access, said, profile.name, text.text);
        }
    }
}
