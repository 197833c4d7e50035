// SPDX-License-Identifier: Apache-2.0
//! A status as the API has it, and whether it says something else than the one that is there.

use super::{Condition, Truth, Wanted};
use serde_json::{Value, json};

/// The status that is to be written; none when the one that is there says it already. Conditions of others are
/// left as they are.
pub(super) fn render(wanted: &Wanted, there: &Value, now: &str) -> Option<Value> {
    let conditions = there.get("conditions").and_then(Value::as_array);
    let conditions = conditions.map(Vec::as_slice).unwrap_or_default();
    let is = |condition: &Value, kind: &str| condition.get("type") == Some(&Value::from(kind));
    let mut next: Vec<Value> = Vec::new();
    for condition in &wanted.conditions {
        let before = conditions.iter().find(|it| is(it, condition.kind));
        next.push(one(condition, wanted.generation, before, now));
    }
    let is_ours = |it: &Value| wanted.conditions.iter().any(|own| is(it, own.kind));
    next.extend(conditions.iter().filter(|it| !is_ours(it)).cloned());
    let status = json!({
        "status": wanted.word,
        "observedGeneration": wanted.generation,
        "conditions": next,
    });
    let is_said = |key: &str| there.get(key) == status.get(key);
    let is_same = ["status", "observedGeneration", "conditions"]
        .into_iter()
        .all(is_said);
    (!is_same).then_some(status)
}

fn one(condition: &Condition, generation: i64, before: Option<&Value>, now: &str) -> Value {
    let status = match condition.status {
        Truth::True => "True",
        Truth::False => "False",
        Truth::Unknown => "Unknown",
    };
    let before = before.filter(|it| it.get("status") == Some(&Value::from(status)));
    let since = before
        .and_then(|it| it.get("lastTransitionTime")?.as_str())
        .unwrap_or(now);
    json!({
        "type": condition.kind,
        "status": status,
        "reason": condition.reason,
        "message": condition.message,
        "lastTransitionTime": since,
        "observedGeneration": generation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(status: Truth, message: &str) -> Wanted {
        let condition = |kind, status| Condition {
            kind,
            status,
            reason: "Because",
            message: message.to_owned(),
        };
        Wanted {
            word: "Enforced",
            generation: 3,
            conditions: [
                condition("Accepted", Truth::True),
                condition("Enforced", status),
                condition("Degraded", Truth::False),
            ],
        }
    }

    #[test]
    fn what_is_said_already_is_not_written() {
        let status = render(&wanted(Truth::True, "a"), &Value::Null, "then").unwrap();
        assert_eq!(status["observedGeneration"], 3);
        assert_eq!(render(&wanted(Truth::True, "a"), &status, "now"), None);
    }

    #[test]
    fn the_time_of_a_condition_is_when_it_became_what_it_is() {
        let before = render(&wanted(Truth::Unknown, "a"), &Value::Null, "then").unwrap();
        let after = render(&wanted(Truth::True, "b"), &before, "now").unwrap();
        let since = |at: usize| after["conditions"][at]["lastTransitionTime"].clone();
        assert_eq!([since(0), since(1), since(2)], ["then", "now", "then"]);
        assert_eq!(after["conditions"][0]["message"], "b");
    }

    #[test]
    fn conditions_of_others_stay() {
        let there =
            json!({ "conditions": [{ "type": "Synced", "status": "True" }, 7], "status": 1 });
        let after = render(&wanted(Truth::True, ""), &there, "now").unwrap();
        assert_eq!(after["conditions"][3]["type"], "Synced");
        assert_eq!(after["conditions"].as_array().unwrap().len(), 5);
    }
}
