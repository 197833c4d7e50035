// SPDX-License-Identifier: Apache-2.0
//! How long warnings are.
//!
//! The API server cuts what is longer, each after 256 characters and all after 4,096, without saying so
//! to who asked. Here the rest is counted.

const MOST_CHARACTERS: usize = 256;
const MOST_TOGETHER: usize = 4_096;
/// For the line that counts the rest.
const RESERVED: usize = 96;

/// No longer than a warning may be, on one line.
pub(crate) fn cut(text: &str) -> String {
    let mut shown: String = text.chars().take(MOST_CHARACTERS - 1).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown.replace(char::is_control, " ")
}

/// As many as may be, and a last one about the rest.
pub(crate) fn bounded(all: Vec<String>) -> Vec<String> {
    let mut warnings: Vec<String> = Vec::new();
    let mut together = 0;
    let count = all.len();
    for warning in all {
        let warning = cut(&warning);
        together += warning.len();
        if together > MOST_TOGETHER - RESERVED {
            break;
        }
        warnings.push(warning);
    }
    let left = count - warnings.len();
    if left > 0 {
        warnings.push(format!(
            "{left} more warnings are not listed; `gorget policy check` and `shadowed` list all"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_api_server_would_cut_is_counted() {
        let warnings = bounded(vec!["é".repeat(300); 100]);
        let together: usize = warnings.iter().map(String::len).sum();
        assert!(together <= MOST_TOGETHER, "{together}");
        let longest = warnings.iter().map(|it| it.chars().count()).max();
        assert_eq!(longest, Some(MOST_CHARACTERS));
        let last = warnings.last().unwrap();
        let left = 100 - (warnings.len() - 1);
        assert!(last.starts_with(&format!("{left} more warnings")), "{last}");
        assert_eq!(bounded(vec!["a\nb".to_owned()]), ["a b"]);
    }
}
