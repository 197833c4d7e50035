// SPDX-License-Identifier: Apache-2.0
//! A Secret through the years.

use super::*;

const NAME: &str = "gorget-operator.gorget.svc";
const NOW: u64 = 1_800_000_000;

/// What is there after the step, which must be this one.
fn stepped(stored: Option<&Stored>, now: u64, is_believed: bool, expected: &Step) -> Stored {
    let step = step(stored, NAME, now, is_believed);
    assert_eq!(step, *expected);
    after(&step, stored, NAME, now).unwrap().unwrap()
}

fn first() -> Stored {
    stepped(None, NOW, false, &Step::Make(Useless::Missing))
}

fn count(authorities: &str) -> usize {
    authorities.matches("BEGIN CERTIFICATE").count()
}

/// A client that believes `authorities` at that time.
fn is_content(authorities: &str, shown: &Stored, at: u64) -> bool {
    usable(authorities, &shown.certificate, &shown.key, NAME, at).is_ok()
}

#[test]
fn a_certificate_is_made_and_kept_until_a_month_before_its_end() {
    let first = first();
    for later in [0, 1, DAY, 59 * DAY] {
        assert_eq!(step(Some(&first), NAME, NOW + later, true), Step::Keep);
    }
    let due = NOW + VALID - RENEW + 1;
    assert_eq!(step(Some(&first), NAME, due, true), Step::Prepare);
}

#[test]
fn through_a_rotation_clients_that_heard_late_believe_what_is_shown() {
    let old = first();
    let due = NOW + VALID - RENEW + 1;
    let prepared = stepped(Some(&old), due, true, &Step::Prepare);
    assert_eq!(prepared.certificate, old.certificate);
    assert_eq!(count(&prepared.authorities), 2);
    // Configurations do not have it, or have not had it for long.
    let settled = due + SETTLE;
    assert_eq!(step(Some(&prepared), NAME, settled, false), Step::Keep);
    assert_eq!(step(Some(&prepared), NAME, settled - 1, true), Step::Keep);
    let shown = stepped(Some(&prepared), settled, true, &Step::Show);
    assert_ne!(shown.certificate, old.certificate);
    for replica in [&old, &shown] {
        assert!(is_content(&shown.authorities, replica, settled));
    }
    let late = settled + FORGET;
    assert_eq!(step(Some(&shown), NAME, late - 1, true), Step::Keep);
    let alone = stepped(Some(&shown), late, true, &Step::Forget);
    assert_eq!(count(&alone.authorities), 1);
    assert!(is_content(&alone.authorities, &alone, late));
    assert!(!is_content(&alone.authorities, &old, late));
    assert_eq!(step(Some(&alone), NAME, late, true), Step::Keep);
}

#[test]
fn a_certificate_that_waited_too_long_is_prepared_anew() {
    let due = NOW + VALID - RENEW + 1;
    let prepared = stepped(Some(&first()), due, false, &Step::Prepare);
    // Configurations could not be written for a long time, and the first one is not over yet.
    let mut waiting = prepared;
    waiting.next.as_mut().unwrap().certificate = waiting.certificate.clone();
    let again = stepped(Some(&waiting), due + DAY, true, &Step::Prepare);
    assert_eq!(count(&again.authorities), 2);
    assert_eq!(again.certificate, waiting.certificate);
}

#[test]
fn what_is_of_no_use_is_made_anew_at_once() {
    let good = first();
    let other = first();
    let because = |change: fn(&mut Stored, &Stored)| {
        let mut stored = good.clone();
        change(&mut stored, &other);
        match step(Some(&stored), NAME, NOW, true) {
            Step::Make(useless) => useless,
            step => panic!("{step:?}"),
        }
    };
    assert_eq!(because(|it, _| it.key.clear()), Useless::NotPem("tls.key"));
    assert!(matches!(
        because(|it, _| it.certificate = "x".to_owned()),
        Useless::Key(_)
    ));
    assert!(matches!(
        because(|it, other| it.key.clone_from(&other.key)),
        Useless::Key(_)
    ));
    assert!(matches!(
        because(|it, other| it.authorities.clone_from(&other.authorities)),
        Useless::Refused(_)
    ));
    assert_eq!(
        because(|it, _| it.authorities.clear()),
        Useless::NoAuthority
    );
    let over = step(Some(&good), NAME, NOW + VALID + 1, true);
    assert!(matches!(over, Step::Make(Useless::Refused(_))), "{over:?}");
    let renamed = step(Some(&good), "other.gorget.svc", NOW, true);
    assert!(
        matches!(renamed, Step::Make(Useless::Refused(_))),
        "{renamed:?}"
    );
}

#[test]
fn a_clock_that_makes_no_sense_is_no_panic() {
    for now in [0, u64::MAX / 4] {
        let made = after(&Step::Prepare, None, NAME, now).unwrap().unwrap();
        assert!(made.next.is_some());
    }
}
