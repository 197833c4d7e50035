// SPDX-License-Identifier: Apache-2.0
//! Settings that a ConfigMap has for all agents of the cluster.
//!
//! COMPAT: keys and values are KubeArmor's. Keys of it that mean nothing here are left alone, so that its
//! ConfigMap can be used as it is.
//!
//! INVARIANT: a key whose value is not allowed keeps its last good value, for as long as the key is there.

use crate::annotations::{PostureOverrides, posture};
use crate::objects::Key;
use gorget_model::Visibility;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Whose ConfigMap it is. Of two, Gorget's counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SettingsOrigin {
    /// Labelled as KubeArmor labels its own.
    KubeArmor,
    /// Labelled for Gorget.
    Gorget,
}

impl SettingsOrigin {
    /// The label that such ConfigMaps have, as a selector.
    pub fn label(self) -> &'static str {
        match self {
            Self::KubeArmor => "kubearmor-app=kubearmor-configmap",
            Self::Gorget => "gorget.io/config=agent",
        }
    }
}

/// A ConfigMap as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingsMap {
    /// Whose it is.
    pub origin: SettingsOrigin,
    /// What it is called.
    pub key: Key,
    /// What it says.
    pub data: BTreeMap<String, String>,
}

/// What all ConfigMaps say together; what none says is as the agent is configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Of containers.
    pub postures: PostureOverrides,
    /// Of the host.
    pub host_postures: PostureOverrides,
    /// Of containers.
    pub visibility: Option<Visibility>,
    /// Of the host.
    pub host_visibility: Option<Visibility>,
    /// The cluster's name, for events.
    pub cluster: Option<String>,
    /// Namespaces in which nothing is enforced or told.
    pub untracked: Option<BTreeSet<String>>,
    /// Alerts are only counted when there are too many.
    pub throttling: Option<bool>,
    /// That many.
    pub max_alert_per_sec: Option<u32>,
    /// For so long.
    pub throttle_sec: Option<u32>,
}

impl Settings {
    /// Takes one value. `Ok(false)`: the key means nothing here.
    pub(crate) fn set(&mut self, key: &str, text: &str) -> Result<bool, String> {
        let text = text.trim();
        let (own, host) = (&mut self.postures, &mut self.host_postures);
        let posture_of = match key {
            "defaultFilePosture" => Some(&mut own.file),
            "defaultNetworkPosture" => Some(&mut own.network),
            "defaultCapabilitiesPosture" => Some(&mut own.capabilities),
            "hostDefaultFilePosture" => Some(&mut host.file),
            "hostDefaultNetworkPosture" => Some(&mut host.network),
            "hostDefaultCapabilitiesPosture" => Some(&mut host.capabilities),
            "hostDefaultDevicePosture" => Some(&mut host.device),
            _ => None,
        };
        if let Some(of) = posture_of {
            *of = Some(posture(text)?);
            return Ok(true);
        }
        match key {
            "visibility" => self.visibility = visibility(text)?,
            "hostVisibility" => self.host_visibility = visibility(text)?,
            "cluster" if text.is_empty() => return Err("it is empty".to_owned()),
            "cluster" => self.cluster = Some(text.to_owned()),
            "untrackedNs" => self.untracked = Some(list(text)),
            "alertThrottling" => self.throttling = Some(boolean(text)?),
            "maxAlertPerSec" => self.max_alert_per_sec = Some(positive(text)?),
            "throttleSec" => self.throttle_sec = Some(positive(text)?),
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Where `self` says nothing, `other` counts.
    pub(crate) fn or(self, other: Self) -> Self {
        let postures = |one: PostureOverrides, other: PostureOverrides| PostureOverrides {
            file: one.file.or(other.file),
            network: one.network.or(other.network),
            capabilities: one.capabilities.or(other.capabilities),
            device: one.device.or(other.device),
        };
        Self {
            postures: postures(self.postures, other.postures),
            host_postures: postures(self.host_postures, other.host_postures),
            visibility: self.visibility.or(other.visibility),
            host_visibility: self.host_visibility.or(other.host_visibility),
            cluster: self.cluster.or(other.cluster),
            untracked: self.untracked.or(other.untracked),
            throttling: self.throttling.or(other.throttling),
            max_alert_per_sec: self.max_alert_per_sec.or(other.max_alert_per_sec),
            throttle_sec: self.throttle_sec.or(other.throttle_sec),
        }
    }
}

/// Whether a ConfigMap's key means something here, and if its value is allowed.
///
/// # Errors
///
/// Why the value is not allowed.
pub fn check_setting(key: &str, text: &str) -> Result<bool, String> {
    Settings::default().set(key, text)
}

/// COMPAT: `default` is as if the key was not there.
fn visibility(text: &str) -> Result<Option<Visibility>, String> {
    match text {
        "default" => Ok(None),
        text => Visibility::parse(text)
            .map(Some)
            .map_err(|error| error.to_string()),
    }
}

fn list(text: &str) -> BTreeSet<String> {
    let words = text.split(',').map(str::trim);
    words
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
        .collect()
}

fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(format!("`{text}` is neither `true` nor `false`")),
    }
}

fn positive(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("`{text}` is not a positive number"))
}

/// What of a ConfigMap is good: its own values, and for those that are not the ones before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Good(pub(crate) BTreeMap<String, String>);

impl Good {
    /// What is good of `data`, and what is wrong with the rest.
    pub(crate) fn after(&self, data: &BTreeMap<String, String>) -> (Self, Vec<String>) {
        let mut good = BTreeMap::new();
        let mut problems = Vec::new();
        for (key, text) in data {
            match Settings::default().set(key, text) {
                Ok(true) => {
                    good.insert(key.clone(), text.clone());
                }
                Ok(false) => {}
                Err(reason) => {
                    let before = self.0.get(key);
                    let stays = match before {
                        Some(before) => format!("`{before}` stays"),
                        None => "it counts as not set".to_owned(),
                    };
                    problems.push(format!("`{key}`: {reason}; {stays}"));
                    good.extend(before.map(|before| (key.clone(), before.clone())));
                }
            }
        }
        (Self(good), problems)
    }

    pub(crate) fn settings(&self) -> Settings {
        let mut settings = Settings::default();
        for (key, text) in &self.0 {
            if let Err(reason) = settings.set(key, text) {
                // A state from disk that another version wrote.
                tracing::debug!(key, reason, "a setting that was kept");
            }
        }
        settings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gorget_model::Posture;

    fn data(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        let entries = entries.iter();
        entries
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn kubearmors_configmap_is_taken_as_it_is() {
        let (good, problems) = Good::default().after(&data(&[
            ("gRPC", "32767"),
            ("visibility", "process,network"),
            ("cluster", "prod"),
            ("defaultFilePosture", "block"),
            ("defaultCapabilitiesPosture", "audit"),
            ("hostDefaultDevicePosture", "block"),
            ("alertThrottling", "true"),
            ("maxAlertPerSec", "10"),
            ("throttleSec", "30"),
            ("dropResourceFromProcessLogs", "false"),
            ("matchArgs", "true"),
            ("untrackedNs", "kube-system, kubearmor"),
        ]));
        assert_eq!(problems, [""; 0]);
        let settings = good.settings();
        assert_eq!(settings.postures.file, Some(Posture::Block));
        assert_eq!(settings.postures.network, None);
        assert_eq!(settings.host_postures.device, Some(Posture::Block));
        assert_eq!(settings.cluster.as_deref(), Some("prod"));
        assert_eq!(settings.max_alert_per_sec, Some(10));
        assert_eq!(settings.untracked.map(|names| names.len()), Some(2));
        assert_eq!(settings.visibility.unwrap().to_string(), "process,network");
    }

    #[test]
    fn a_value_that_is_not_allowed_leaves_the_last_good_one() {
        let (good, _) = Good::default().after(&data(&[("defaultFilePosture", "block")]));
        let (good, problems) = good.after(&data(&[
            ("defaultFilePosture", "deny"),
            ("throttleSec", "0"),
        ]));
        assert_eq!(good.settings().postures.file, Some(Posture::Block));
        assert_eq!(
            problems,
            [
                "`defaultFilePosture`: `deny` is not one of `allow`, `audit`, `block`; `block` stays",
                "`throttleSec`: `0` is not a positive number; it counts as not set"
            ]
        );
        let (good, _) = good.after(&BTreeMap::new());
        assert_eq!(good.settings(), Settings::default());
    }
}
