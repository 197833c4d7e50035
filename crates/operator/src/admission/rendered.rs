// SPDX-License-Identifier: Apache-2.0
//! A document as text of which it is known which field begins on which line.
//!
//! The engine names rules by where they are written. What the API server has is not written anywhere;
//! so it is here, one value on each line, and lines lead back to fields.

use gorget_policy::Location;
use serde_json::Value;

/// A document, and what begins on each of its lines.
pub(crate) struct Rendered {
    pub(crate) text: String,
    fields: Vec<String>,
}

impl Rendered {
    pub(crate) fn of(document: &Value) -> Self {
        let mut rendered = Self {
            text: String::new(),
            fields: vec![String::new()],
        };
        rendered.write(document, "");
        rendered
    }

    /// The field that begins where something is written; empty for the document.
    pub(crate) fn field(&self, at: &Location) -> &str {
        let line = usize::try_from(at.line).unwrap_or(usize::MAX);
        let field = self.fields.get(line.saturating_sub(1));
        field.map_or("", String::as_str)
    }

    /// `serde_json` reads nothing that is nested deeper than 128 times.
    fn write(&mut self, value: &Value, field: &str) {
        match value {
            Value::Object(entries) => {
                self.text.push('{');
                for (number, (key, value)) in entries.iter().enumerate() {
                    let name = match field {
                        "" => key.clone(),
                        parent => format!("{parent}.{key}"),
                    };
                    self.line(number, name.clone());
                    self.text.push_str(&Value::from(key.as_str()).to_string());
                    self.text.push_str(": ");
                    self.write(value, &name);
                }
                self.text.push('}');
            }
            Value::Array(items) => {
                self.text.push('[');
                for (number, value) in items.iter().enumerate() {
                    let name = format!("{field}[{number}]");
                    self.line(number, name.clone());
                    self.write(value, &name);
                }
                self.text.push(']');
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.text.push_str(&value.to_string());
            }
        }
    }

    fn line(&mut self, number: usize, field: String) {
        if number > 0 {
            self.text.push(',');
        }
        self.text.push_str("\n ");
        self.fields.push(field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_lead_back_to_fields() {
        let document =
            json!({ "spec": { "file": { "matchPaths": [{ "path": "/a" }, { "path": "/b" }] } } });
        let rendered = Rendered::of(&document);
        let line = rendered
            .text
            .lines()
            .position(|line| line.contains("/b"))
            .unwrap();
        let at = |line: usize| Location {
            file: "".into(),
            line: u32::try_from(line).unwrap() + 1,
            column: 1,
        };
        assert_eq!(rendered.field(&at(line)), "spec.file.matchPaths[1].path");
        assert_eq!(rendered.field(&at(line - 1)), "spec.file.matchPaths[1]");
        assert_eq!(rendered.field(&at(9_999)), "");
        let read: Value = serde_json::from_str(&rendered.text).unwrap();
        assert_eq!(read, document);
    }
}
