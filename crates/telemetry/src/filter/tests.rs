// SPDX-License-Identifier: Apache-2.0
//! What filters match, and what is said of texts that are none.

use super::*;
use proptest::prelude::*;

struct Of<'a>(&'a [(Field, &'a str)]);

impl Fields for Of<'_> {
    fn field(&self, field: Field) -> &str {
        let found = self.0.iter().find(|(known, _)| *known == field);
        found.map_or("", |(_, value)| value)
    }
}

const EVENT: Of<'static> = Of(&[
    (Field::Namespace, "default"),
    (Field::Container, "web"),
    (Field::Operation, "File"),
    (Field::Policy, "ksp-token"),
    (Field::Action, "Block"),
    (Field::Resource, "/etc/a,b\\c"),
]);

fn matches(text: &str) -> bool {
    Filter::parse(text).unwrap().matches(&EVENT)
}

fn wrong(text: &str) -> String {
    Filter::parse(text).unwrap_err().to_string()
}

#[test]
fn the_words_of_kubearmor_are_sorts_and_nothing_is_all() {
    for (text, sort) in [
        ("", Sort::All),
        ("all", Sort::All),
        ("policy", Sort::Policy),
        ("system", Sort::System),
        ("namespace=a,system", Sort::System),
    ] {
        assert_eq!(Filter::parse(text).unwrap().sort(), sort, "{text}");
    }
    assert!(matches("all"));
}

#[test]
fn terms_about_one_field_are_alternatives_and_about_several_must_all_hold() {
    assert!(matches(
        "policy,namespace=default,operation=file,action=Block"
    ));
    assert!(matches("namespace=other,namespace=default"));
    assert!(!matches("namespace=default,container=db"));
    assert!(!matches("namespace=defaul"));
    assert!(matches("NamespaceName=default, policyName=ksp-token"));
    assert!(matches("pod="));
}

#[test]
fn expressions_are_found_anywhere_unless_anchored() {
    assert!(matches("policyName=~token"));
    assert!(!matches("policyName=~^token"));
    assert!(matches("policy=~^(ksp|hsp)-"));
    assert!(matches("policy=~(?i)TOKEN$"));
    assert!(matches(r"resource=~^/etc/.{1\,3},operation=File"));
}

#[test]
fn commas_and_backslashes_are_written_with_a_backslash() {
    assert!(matches(r"resource=/etc/a\,b\\c"));
    assert!(matches(r"resource=~a\,b\\c$"));
    assert!(matches(&Filter::term(
        Field::Resource,
        "/etc/a,b\\c",
        false
    )));
    assert!(matches(&Filter::term(Field::Resource, "a,b", true)));
}

#[test]
fn since_is_a_span_or_a_time() {
    let since = |text| Filter::parse(text).unwrap().since(1_000_000_000);
    assert_eq!(since("since=5m"), Some(700_000_000));
    assert_eq!(since("policy,since=30s"), Some(970_000_000));
    assert_eq!(since("since=900"), Some(900_000_000));
    assert_eq!(since("all"), None);
    for bad in ["", "m", "-5m", "5w", "1.5h", "99999999999999999999", "5 m"] {
        let said = wrong(&format!("since={bad}"));
        assert!(said.contains(&format!("`since={bad}`")), "{said}");
    }
    assert_eq!(wrong("since=1s,since=2s"), "`since` is given twice");
}

#[test]
fn what_is_wrong_is_said_with_what_is_allowed() {
    let said = wrong("alerts");
    assert!(
        said.starts_with("unknown filter `alerts`, allowed are `all`"),
        "{said}"
    );
    assert_eq!(
        wrong("all,policy"),
        "`all` and `policy` contradict each other"
    );
    let said = wrong("polcy=x");
    assert!(
        said.contains("unknown field `polcy`") && said.contains("`policy`"),
        "{said}"
    );
    let said = wrong("operation=Files");
    assert!(
        said.contains("`operation` is never `Files`") && said.contains("`File`"),
        "{said}"
    );
    assert_eq!(wrong("container="), "`container` has no value");
    let said = wrong("policy=~(a");
    assert!(
        said.contains("`(a` is no regular expression: unclosed group"),
        "{said}"
    );
    let said = wrong("policy=~a{1000}{1000}");
    assert!(said.contains("is no regular expression"), "{said}");
    assert!(wrong(&"a".repeat(MAX_BYTES + 1)).contains("the limit is 8192"));
    assert!(wrong(&"pod=a,".repeat(MAX_TERMS + 1)).contains("terms, the limit is 32"));
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>(), field in 0..9_usize, value in any::<String>()) {
        drop(Filter::parse(&text));
        drop(Filter::parse(&format!("{}=~{value}", Field::ALL[field].0)));
    }

    #[test]
    fn a_term_that_was_made_of_a_value_matches_it(value in "[^\\x00]{1,40}") {
        let filter = Filter::parse(&Filter::term(Field::Source, &value, false)).unwrap();
        prop_assert!(filter.matches(&Of(&[(Field::Source, &value)])), "{value:?}");
    }
}
