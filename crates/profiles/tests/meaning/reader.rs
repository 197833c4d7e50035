// SPDX-License-Identifier: Apache-2.0
//! A reader of the profiles that we write, as far as we write them: what AppArmor would allow.
//!
//! It knows nothing of how the text was made, only the language's rules: everything that some rule
//! allows is allowed unless some rule denies it; for execution, a rule for one path wins over patterns;
//! `*` and `**` need something after a slash and before a slash or the end.

/// A rule about files or programs.
#[derive(Clone, Debug)]
struct FileRule {
    audit: bool,
    deny: bool,
    /// `owner`, `other` or nothing.
    who: String,
    pattern: Vec<Token>,
    exact: bool,
    permissions: String,
    target: Option<String>,
}

#[derive(Clone, Debug)]
enum Token {
    Byte(u8),
    Set(Vec<(u8, u8)>),
    /// Whether slashes are in it, and whether it can be empty.
    Run(bool, bool),
    Either(Vec<Vec<Token>>),
}

/// One profile.
#[derive(Clone, Debug, Default)]
pub(crate) struct Profile {
    pub(crate) name: String,
    files: Vec<FileRule>,
    /// Without `network` or `capability` in front: what, and whether it is audited or denied.
    network: Vec<(bool, bool, Vec<String>)>,
    capabilities: Vec<(bool, bool, Vec<String>)>,
}

/// What is said about something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) allowed: bool,
    pub(crate) audited: bool,
    /// Of an execution: the profile in which it goes on.
    pub(crate) target: Option<String>,
}

/// Every profile in a text, the outer one first.
pub(crate) fn read(text: &str) -> Vec<Profile> {
    let mut all: Vec<Profile> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(rest) = line.strip_prefix("profile ") {
            let name = rest.split_whitespace().next().unwrap();
            let name = match open.first() {
                Some(outer) => format!("{}//{name}", all[*outer].name),
                None => name.to_owned(),
            };
            open.push(all.len());
            all.push(Profile {
                name,
                ..Profile::default()
            });
        } else if line == "}" {
            open.pop().unwrap();
        } else {
            let line = line.strip_suffix(',').unwrap();
            all[*open.last().unwrap()].rule(line);
        }
    }
    assert!(open.is_empty());
    all
}

impl Profile {
    fn rule(&mut self, line: &str) {
        let (mut audit, mut deny, mut who, mut rest) = (false, false, "", line);
        loop {
            let (word, after) = rest.split_once(' ').unwrap_or((rest, ""));
            match word {
                "audit" => audit = true,
                "deny" => deny = true,
                "owner" | "other" => who = word,
                _ => break,
            }
            rest = after;
        }
        let words = |rest: &str| rest.split_whitespace().skip(1).map(str::to_owned).collect();
        if rest.starts_with("network") {
            self.network.push((audit, deny, words(rest)));
        } else if rest.starts_with("capability") {
            self.capabilities.push((audit, deny, words(rest)));
        } else if rest.starts_with(['/', '"']) {
            let (pattern, rest) = quoted(rest);
            let (permissions, target) = match rest.split_once(" -> ") {
                Some((permissions, target)) => (permissions, Some(target.to_owned())),
                None => (rest, None),
            };
            let tokens = parse(pattern.as_bytes(), &mut 0, 0);
            self.files.push(FileRule {
                audit,
                deny,
                who: who.to_owned(),
                exact: tokens.iter().all(|t| matches!(t, Token::Byte(_))),
                pattern: tokens,
                permissions: permissions.to_owned(),
                target,
            });
        }
    }

    /// Whether a letter is permitted on a path; a directory's has a slash at its end.
    pub(crate) fn file(&self, path: &[u8], owner: bool, letter: char) -> Said {
        let rules = self.matching(path, owner);
        let mut rules: Vec<_> = rules.filter(|r| r.permissions.contains(letter)).collect();
        if rules.iter().any(|rule| rule.deny) {
            return Said::default();
        }
        if letter == 'x' && rules.iter().any(|rule| rule.exact) {
            rules.retain(|rule| rule.exact);
        }
        let mut targets: Vec<_> = rules
            .iter()
            .map(|rule| rule.target.clone().unwrap_or_else(|| self.name.clone()))
            .collect();
        targets.dedup();
        // What the parser refuses.
        assert!(letter != 'x' || targets.len() <= 1, "{path:?}: {targets:?}");
        Said {
            allowed: !rules.is_empty(),
            audited: rules.iter().any(|rule| rule.audit),
            target: targets.pop(),
        }
    }

    fn matching(&self, path: &[u8], owner: bool) -> impl Iterator<Item = &FileRule> {
        self.files.iter().filter(move |rule| {
            let who = match rule.who.as_str() {
                "owner" => owner,
                "other" => !owner,
                _ => true,
            };
            who && matches(&rule.pattern, path)
        })
    }

    pub(crate) fn network(&self, family: &str, kind: &str) -> Said {
        listed(&self.network, |words| {
            match words {
                // A family's name comes first.
                [word] if word == "packet" => family == "packet",
                [word] => word == family || word == kind,
                _ => words.is_empty() || words == [family, kind],
            }
        })
    }

    pub(crate) fn capability(&self, name: &str) -> Said {
        listed(&self.capabilities, |words| {
            words.is_empty() || words.iter().any(|word| word == name)
        })
    }
}

fn listed(rules: &[(bool, bool, Vec<String>)], is: impl Fn(&[String]) -> bool) -> Said {
    let about = || rules.iter().filter(|(.., words)| is(words));
    Said {
        allowed: about().count() > 0 && !about().any(|(_, deny, _)| *deny),
        audited: about().any(|(audit, ..)| *audit),
        target: None,
    }
}

/// A pattern and what comes after it.
fn quoted(text: &str) -> (&str, &str) {
    let Some(inside) = text.strip_prefix('"') else {
        return text.split_once(' ').unwrap();
    };
    let mut escaped = false;
    let end = inside.find(|character| {
        let ends = character == '"' && !escaped;
        escaped = character == '\\' && !escaped;
        ends
    });
    let (pattern, rest) = inside.split_at(end.unwrap());
    (pattern, rest[1..].trim_start())
}

fn parse(text: &[u8], at: &mut usize, depth: usize) -> Vec<Token> {
    let mut tokens = Vec::new();
    while let Some(byte) = text.get(*at).copied() {
        match byte {
            b'}' | b',' if depth > 0 => break,
            b'*' => {
                let deep = text.get(*at + 1) == Some(&b'*');
                let end = *at + 1 + usize::from(deep);
                let after_slash = *at > 0 && text[*at - 1] == b'/';
                let before_slash = text.get(end).is_none_or(|byte| *byte == b'/');
                tokens.push(Token::Run(deep, !(after_slash && before_slash)));
                *at = end;
                continue;
            }
            b'?' => tokens.push(Token::Set(vec![(1, b'.'), (b'0', 255)])),
            b'[' => {
                *at += 1;
                tokens.push(class(text, at));
            }
            b'{' => {
                let mut choices = Vec::new();
                while text[*at] != b'}' {
                    *at += 1;
                    choices.push(parse(text, at, depth + 1));
                }
                tokens.push(Token::Either(choices));
            }
            b'\\' => tokens.push(Token::Byte(escape(text, at))),
            other => tokens.push(Token::Byte(other)),
        }
        *at += 1;
    }
    tokens
}

/// Leaves `at` on the last byte of the escape.
fn escape(text: &[u8], at: &mut usize) -> u8 {
    let digits: Vec<u8> = text[*at + 1..]
        .iter()
        .take(3)
        .take_while(|byte| byte.is_ascii_digit())
        .copied()
        .collect();
    if digits.len() == 3 {
        *at += 3;
        return digits
            .iter()
            .fold(0, |byte, digit| byte << 3 | (digit - b'0'));
    }
    *at += 1;
    text[*at]
}

/// Leaves `at` on the closing bracket.
fn class(text: &[u8], at: &mut usize) -> Token {
    assert_ne!(text[*at], b'^', "a negated class takes byte 0");
    let mut ranges: Vec<(u8, u8)> = Vec::new();
    let mut range = false;
    while text[*at] != b']' {
        let byte = match text[*at] {
            b'\\' => escape(text, at),
            b'-' => {
                range = true;
                *at += 1;
                continue;
            }
            other => other,
        };
        match ranges.last_mut() {
            Some((_, high)) if range => *high = byte,
            _ => ranges.push((byte, byte)),
        }
        range = false;
        *at += 1;
    }
    Token::Set(ranges)
}

fn matches(tokens: &[Token], path: &[u8]) -> bool {
    let Some((token, rest)) = tokens.split_first() else {
        return path.is_empty();
    };
    match token {
        Token::Byte(byte) => path.first() == Some(byte) && matches(rest, &path[1..]),
        Token::Set(ranges) => path.first().is_some_and(|byte| {
            ranges.iter().any(|(low, high)| low <= byte && byte <= high)
                && matches(rest, &path[1..])
        }),
        Token::Run(deep, empty) => {
            let taken = path
                .iter()
                .take_while(|byte| *deep || **byte != b'/')
                .count();
            (0..=taken)
                .filter(|length| *empty || (*length > 0 && path[0] != b'/'))
                .any(|length| matches(rest, &path[length..]))
        }
        Token::Either(choices) => choices
            .iter()
            .any(|choice| matches(&[choice.as_slice(), rest].concat(), path)),
    }
}
