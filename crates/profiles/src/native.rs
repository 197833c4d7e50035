// SPDX-License-Identifier: Apache-2.0
//! Lines in AppArmor's own language, from `apparmor:` in policies.
//!
//! They are put into every part of the profile as they are, so that they must not end it or begin
//! another: braces have to be in pairs, outside of comments and quotes.

use gorget_engine::PolicySet;

/// Why lines are not put into a profile, if that is so.
pub(crate) fn problem(lines: &str) -> Option<&'static str> {
    let mut depth = 0_u32;
    for line in lines.lines() {
        let (mut quoted, mut escaped) = (false, false);
        for character in line.chars() {
            match character {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => quoted = !quoted,
                '#' if !quoted => break,
                '{' if !quoted => depth = depth.saturating_add(1),
                '}' if !quoted => match depth.checked_sub(1) {
                    Some(outer) => depth = outer,
                    None => return Some("a brace is closed that was not opened"),
                },
                _ => {}
            }
        }
        if quoted {
            return Some("a quote is not closed on its line");
        }
    }
    (depth > 0).then_some("a brace is not closed")
}

/// All that can be put into a profile.
pub(crate) fn lines(set: &PolicySet) -> Vec<String> {
    let texts = set.policies.iter().map(|policy| &policy.native_apparmor);
    let good = texts.filter(|text| problem(text).is_none());
    let lines = good.flat_map(|text| text.lines());
    lines
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_cannot_leave_the_profile() {
        assert_eq!(problem("deny /etc/{a,b} r,\n/x w, # }"), None);
        assert_eq!(problem("owner \"/a}b\" r,"), None);
        for bad in ["}", "/a r,\n}\nprofile other {", "{", "\"/a r,"] {
            assert!(problem(bad).is_some(), "{bad}");
        }
    }
}
