// SPDX-License-Identifier: Apache-2.0
//! Takes secrets out of text that leaves the machine.
//!
//! Known by what they look like: private keys, values of what is called a password, token, secret or the
//! like, in configuration, JSON and command lines, credentials in addresses and in headers. Rather too
//! much is removed than too little; a secret that looks like any other word cannot be known.

use anyhow::{Context as _, Result};
use regex::bytes::{Regex, RegexBuilder};

const REMOVED: &[u8] = b"[removed]";

/// What is kept before a secret is the first group, what is kept behind it the second.
const FORMS: [&str; 5] = [
    // Private keys, also with their line feeds written as in JSON.
    r"(-----BEGIN [A-Z ]*PRIVATE KEY-----)(?s:.*?)(-----END [A-Z ]*PRIVATE KEY-----)",
    // https://user:secret@host
    r"(://[^/\s:@]*:)[^/\s@]+(@)",
    // Authorization: Bearer secret
    r#"(\b(?:bearer|basic)\s+)[^\s"',]+()"#,
    // password: secret, "apiKey": "secret", TOKEN='secret', --password=secret
    r#"([a-z0-9_.-]*(?:passw|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credential|authorization)[a-z0-9_.-]*\\?["']?\s*[:=]\s*)(?:\\"[^"]*"|"(?:[^"\\]|\\.)*"|'[^']*'|[^\s,"'}]+)()"#,
    // --password secret
    r#"(--?(?:passw[a-z]*|pwd|secret|token|api-?key)\s+)[^\s"',]+()"#,
];

/// Knows the forms.
pub(super) struct Secrets(Vec<Regex>);

impl Secrets {
    pub(super) fn new() -> Result<Self> {
        let compile = |form: &&str| {
            let mut builder = RegexBuilder::new(form);
            let regex = builder.unicode(false).case_insensitive(true).build();
            regex.context("a form of secrets is no expression")
        };
        Ok(Self(FORMS.iter().map(compile).collect::<Result<_>>()?))
    }

    /// The text without what looks like a secret.
    pub(super) fn removed(&self, text: &[u8]) -> Vec<u8> {
        let mut text = text.to_vec();
        for form in &self.0 {
            let replaced = form.replace_all(&text, |found: &regex::bytes::Captures<'_>| {
                let group = |number| found.get(number).map_or(&b""[..], |group| group.as_bytes());
                [group(1), REMOVED, group(2)].concat()
            });
            text = replaced.into_owned();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_looks_like_a_secret_is_removed_and_the_rest_is_kept() {
        let secrets = Secrets::new().unwrap();
        for text in [
            "password: hunter2",
            "  apiKey: \"hunter2 hunter2\"",
            "{\"token\":\"hunter2\",\"a\":1}",
            "DB_PASSWORD='hunter2' run",
            "psql --password=hunter2 -h db",
            "psql --password hunter2",
            "\"Source\":\"psql --token=\\\"hunter2\\\" x\"",
            "https://me:hunter2@host/",
            "Authorization: Bearer hunter2",
            "x: Basic hunter2",
            "-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----",
        ] {
            let left = String::from_utf8(secrets.removed(text.as_bytes())).unwrap();
            assert!(!left.contains("hunter2"), "{left}");
            assert!(left.contains("[removed]"), "{left}");
        }
        for text in [
            "path: /run/secrets/token",
            "cat /etc/shadow",
            "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----",
            "https://host:80/a@b",
        ] {
            assert_eq!(secrets.removed(text.as_bytes()), text.as_bytes(), "{text}");
        }
    }
}
