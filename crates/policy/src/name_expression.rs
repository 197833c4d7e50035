// SPDX-License-Identifier: Apache-2.0
//! Regular expressions over names of containers and hosts.
//!
//! KubeArmor compiles them as POSIX expressions and does not anchor them; what a POSIX expression
//! can say about a whole name is the same here. Expressions are about bytes, and their size is
//! limited, so that no policy can make a match slow or large.

use regex::bytes::{Regex, RegexBuilder};

/// Of the compiled expression. A name of 255 bytes written out takes a tenth of it.
const MOST_BYTES: usize = 64 << 10;

/// A regular expression that finds a name by any part of it, unless it is anchored.
#[derive(Clone, Debug)]
pub struct NameExpression(Regex);

impl NameExpression {
    /// Why not, in one line, when it is not one.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let mut builder = RegexBuilder::new(text);
        builder.unicode(false).size_limit(MOST_BYTES);
        match builder.build() {
            Ok(regex) => Ok(Self(regex)),
            Err(regex::Error::CompiledTooBig(_)) => Err("is too large".to_owned()),
            Err(error) => {
                let text = error.to_string();
                let reason = text.lines().last().unwrap_or_default();
                let reason = reason.strip_prefix("error: ").unwrap_or(reason);
                Err(format!("is not a regular expression: {reason}"))
            }
        }
    }

    /// Whether it finds `name`.
    pub fn finds(&self, name: &str) -> bool {
        self.0.is_match(name.as_bytes())
    }

    /// As compiled.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for NameExpression {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for NameExpression {}
