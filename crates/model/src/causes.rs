// SPDX-License-Identifier: Apache-2.0
//! What an error says, for people.

use std::error::Error;

/// An error and its causes on one line. A cause that the error names itself is not said again.
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt;

    #[derive(Debug)]
    struct Because(&'static str, Option<Box<Self>>);

    impl fmt::Display for Because {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl Error for Because {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.1.as_deref().map(|it| it as &(dyn Error + 'static))
        }
    }

    #[test]
    fn causes_follow_each_once() {
        let last = Because("no route", None);
        let said_twice = Because("connecting: no route", Some(Box::new(last)));
        let error = Because("asking the API server", Some(Box::new(said_twice)));
        assert_eq!(
            with_causes(&error),
            "asking the API server: connecting: no route"
        );
    }
}
