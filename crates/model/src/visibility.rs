// SPDX-License-Identifier: Apache-2.0
//! What of a workload's operations is logged, whatever policies say.

use std::fmt;

/// KubeArmor: `visibility`, `hostVisibility`, `kubearmor-visibility`. Never changes a decision, and no
/// alert depends on it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Visibility {
    /// Programs that run, and processes that end.
    pub process: bool,
    /// Files that are opened, made, changed and removed.
    pub file: bool,
    /// Sockets, and whom they are for.
    pub network: bool,
    /// Capabilities that are used.
    pub capabilities: bool,
    /// Names that are looked up.
    pub dns: bool,
}

/// What `visibility` may list.
const NAMES: [&str; 5] = ["process", "file", "network", "capabilities", "dns"];

/// No visibility is called so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownVisibility {
    word: String,
}

impl fmt::Display for UnknownVisibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = NAMES.map(|name| format!("`{name}`")).join(", ");
        write!(f, "`{}` is not one of {known}, or `none` alone", self.word)
    }
}

impl std::error::Error for UnknownVisibility {}

impl Visibility {
    /// Nothing is logged.
    pub const NONE: Self = Self {
        process: false,
        file: false,
        network: false,
        capabilities: false,
        dns: false,
    };

    /// Reads a list with commas, or `none`.
    ///
    /// # Errors
    ///
    /// When a word of it is none of them.
    pub fn parse(text: &str) -> Result<Self, UnknownVisibility> {
        let mut visible = Self::NONE;
        if text.trim() == "none" {
            return Ok(visible);
        }
        for word in text.split(',').map(str::trim) {
            let field = match word {
                "process" => &mut visible.process,
                "file" => &mut visible.file,
                "network" => &mut visible.network,
                "capabilities" => &mut visible.capabilities,
                "dns" => &mut visible.dns,
                _ => {
                    let word = word.to_owned();
                    return Err(UnknownVisibility { word });
                }
            };
            *field = true;
        }
        Ok(visible)
    }

    /// What is visible, by name.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        let Self {
            process,
            file,
            network,
            capabilities,
            dns,
        } = self;
        let all = NAMES
            .into_iter()
            .zip([process, file, network, capabilities, dns]);
        all.filter_map(|(name, is_visible)| is_visible.then_some(name))
    }
}

impl fmt::Display for Visibility {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names().collect();
        match names.as_slice() {
            [] => f.write_str("none"),
            names => f.write_str(&names.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_as_it_is_written_and_nothing_else_is() {
        let read = |text| Visibility::parse(text).map(|v| v.to_string());
        assert_eq!(read("process, dns").as_deref(), Ok("process,dns"));
        assert_eq!(
            read("dns,network,file,capabilities,process").as_deref(),
            Ok("process,file,network,capabilities,dns")
        );
        assert_eq!(read(" none "), Ok("none".to_owned()));
        for wrong in ["", "files", "process,none", "process,", "Process"] {
            let error = read(wrong).unwrap_err();
            assert!(error.contains_word(wrong), "{wrong}: {error}");
        }
    }

    impl UnknownVisibility {
        fn contains_word(&self, list: &str) -> bool {
            list.split(',').any(|word| word == self.word)
        }
    }
}
