// SPDX-License-Identifier: Apache-2.0
//! What annotations of pods, namespaces and nodes say.
//!
//! COMPAT: the keys are KubeArmor's. A value that is not allowed is reported and counts as not there;
//! KubeArmor writes another one into the object.

use gorget_model::{Mode, Posture, Postures, Visibility};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

const MODE: &str = "kubearmor-policy";
const VISIBILITY: &str = "kubearmor-visibility";
const POSTURES: [&str; 3] = [
    "kubearmor-file-posture",
    "kubearmor-network-posture",
    "kubearmor-capabilities-posture",
];
const MODES: [(&str, Mode); 4] = [
    ("enabled", Mode::Enforced),
    ("enforced", Mode::Enforced),
    ("audited", Mode::Audited),
    ("disabled", Mode::Disabled),
];
const POSTURE_NAMES: [(&str, Posture); 3] = [
    ("allow", Posture::Allow),
    ("audit", Posture::Audit),
    ("block", Posture::Block),
];

/// Whether an annotation means something here.
pub(crate) fn is_ours(key: &str) -> bool {
    key == MODE || key == VISIBILITY || POSTURES.contains(&key)
}

/// No mode is called so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnknownMode {
    word: String,
}

impl fmt::Display for UnknownMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = MODES.map(|(name, _)| format!("`{name}`")).join(", ");
        write!(f, "`{}` is not one of {known}", self.word)
    }
}

/// Postures that are said to be other than the configured ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PostureOverrides {
    /// Of processes and files.
    pub file: Option<Posture>,
    /// Of protocols and domain names.
    pub network: Option<Posture>,
    /// Of capabilities.
    pub capabilities: Option<Posture>,
    /// Of devices.
    pub device: Option<Posture>,
}

impl PostureOverrides {
    /// What holds where `otherwise` would.
    pub fn over(self, otherwise: Postures) -> Postures {
        let Self {
            file,
            network,
            capabilities,
            device,
        } = self;
        Postures {
            file: file.unwrap_or(otherwise.file),
            network: network.unwrap_or(otherwise.network),
            capabilities: capabilities.unwrap_or(otherwise.capabilities),
            device: device.unwrap_or(otherwise.device),
        }
    }
}

/// A posture by its name.
pub(crate) fn posture(text: &str) -> Result<Posture, String> {
    let text = text.trim();
    let known = POSTURE_NAMES.into_iter().find(|(name, _)| *name == text);
    known.map(|(_, posture)| posture).ok_or_else(|| {
        let known = POSTURE_NAMES.map(|(name, _)| format!("`{name}`"));
        format!("`{text}` is not one of {}", known.join(", "))
    })
}

/// What one object's annotations say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) mode: Option<Mode>,
    pub(crate) visibility: Option<Visibility>,
    pub(crate) postures: PostureOverrides,
    /// What is not allowed, one line each.
    pub(crate) problems: Vec<String>,
}

impl Said {
    pub(crate) fn by(annotations: &BTreeMap<String, String>) -> Self {
        let mut problems = Vec::new();
        let mut value = |key: &str, problem: Result<(), String>| {
            if let Err(problem) = problem {
                problems.push(format!("annotation `{key}` is ignored: {problem}"));
            }
        };
        let mode = annotations.get(MODE).map(|text| mode(text));
        let visibility = annotations.get(VISIBILITY);
        let visibility =
            visibility.map(|text| Visibility::parse(text).map_err(|error| error.to_string()));
        let [file, network, capabilities] =
            POSTURES.map(|key| annotations.get(key).map(|text| posture(text)));
        let mut taken = |key, said: Option<Result<Posture, String>>| {
            let said = said?;
            value(key, said.as_ref().map(drop).map_err(Clone::clone));
            said.ok()
        };
        let [file_key, network_key, capabilities_key] = POSTURES;
        let postures = PostureOverrides {
            file: taken(file_key, file),
            network: taken(network_key, network),
            capabilities: taken(capabilities_key, capabilities),
            device: None,
        };
        if let Some(Err(error)) = &mode {
            value(MODE, Err(error.to_string()));
        }
        if let Some(Err(error)) = &visibility {
            value(VISIBILITY, Err(error.clone()));
        }
        Self {
            mode: mode.and_then(Result::ok),
            visibility: visibility.and_then(Result::ok),
            postures,
            problems,
        }
    }
}

fn mode(text: &str) -> Result<Mode, UnknownMode> {
    let text = text.trim();
    let known = MODES.into_iter().find(|(name, _)| *name == text);
    known.map(|(_, mode)| mode).ok_or_else(|| UnknownMode {
        word: text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(entries: &[(&str, &str)]) -> Said {
        let entries = entries.iter();
        Said::by(
            &entries
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn values_that_are_allowed_are_taken() {
        let said = said(&[
            ("kubearmor-policy", "audited"),
            ("kubearmor-visibility", "process,dns"),
            ("kubearmor-file-posture", "block"),
            ("kubearmor-network-posture", "allow"),
        ]);
        assert_eq!(said.mode, Some(Mode::Audited));
        assert_eq!(said.visibility.unwrap().to_string(), "process,dns");
        let postures = said.postures.over(Postures::all(Posture::Audit));
        assert_eq!(postures.file, Posture::Block);
        assert_eq!(postures.network, Posture::Allow);
        assert_eq!(postures.capabilities, Posture::Audit);
        assert!(said.problems.is_empty());
    }

    #[test]
    fn a_value_that_is_not_allowed_is_reported_and_counts_as_absent() {
        let said = said(&[
            ("kubearmor-policy", "on"),
            ("kubearmor-visibility", "files"),
            ("kubearmor-file-posture", "deny"),
            ("kubearmor-capabilities-posture", "block"),
        ]);
        assert_eq!(said.mode, None);
        assert_eq!(said.visibility, None);
        assert_eq!(said.postures.file, None);
        assert_eq!(said.postures.capabilities, Some(Posture::Block));
        assert_eq!(
            said.problems[0],
            "annotation `kubearmor-file-posture` is ignored: `deny` is not one of `allow`, `audit`, `block`"
        );
        assert_eq!(said.problems.len(), 3);
    }
}
