// SPDX-License-Identifier: Apache-2.0
//! How the hook behaves, from a file that the agent reads as well: JSON, because the hook should be
//! small and start fast.

use crate::bundle;
use serde::Deserialize;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The settings' file. It need not exist.
pub const CONFIG: &str = "/etc/gorget/hook.json";
const DEFAULT_SOCKET: &str = "/run/gorget/hook.sock";
const DEFAULT_MISSED: &str = "/var/lib/gorget/hook-missed";
const LARGEST: u64 = 64 << 10;
/// The agent answers within milliseconds; a machine that starts may take its time.
const DEFAULT_TIMEOUT_SECONDS: u64 = 10;
/// Runtimes and their managers give up within some minutes.
const LONGEST_TIMEOUT_SECONDS: u64 = 120;

/// What becomes of a container whose rules are not known to be in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenDown {
    /// It starts.
    #[default]
    Open,
    /// It does not start.
    Closed,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct SettingsSpec {
    #[serde(default)]
    when_agent_is_down: WhenDown,
    timeout_seconds: Option<u64>,
    socket: Option<PathBuf>,
    missed_file: Option<PathBuf>,
}

/// How the hook behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What becomes of a container whose rules are not known to be in force.
    pub when_down: WhenDown,
    /// How long the agent has for an answer.
    pub timeout: Duration,
    /// Where the agent listens.
    pub socket: PathBuf,
    /// Where containers are counted whose rules are not known to be in force.
    pub missed: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            when_down: WhenDown::default(),
            timeout: Duration::from_secs(DEFAULT_TIMEOUT_SECONDS),
            socket: DEFAULT_SOCKET.into(),
            missed: DEFAULT_MISSED.into(),
        }
    }
}

/// The settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read or is no settings.
    #[error("the settings of the hook")]
    File(#[source] bundle::BundleError),
    /// A number is out of its range.
    #[error("`timeoutSeconds` in `{}` is {found}, allowed are 1 to {LONGEST_TIMEOUT_SECONDS}", .path.display())]
    Timeout {
        /// The file.
        path: PathBuf,
        /// What it says.
        found: u64,
    },
}

impl Settings {
    /// Reads a file; without one, the defaults.
    ///
    /// # Errors
    ///
    /// When the file says something that is not known or allowed.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let what = format!("`{}`", path.display());
        let spec = match File::open(path) {
            Ok(file) => {
                let bytes = bundle::read(file, LARGEST, &what).map_err(SettingsError::File)?;
                serde_json::from_slice(&bytes).map_err(|source| {
                    SettingsError::File(bundle::BundleError::Content { what, source })
                })?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => SettingsSpec::default(),
            Err(source) => {
                return Err(SettingsError::File(bundle::BundleError::Read {
                    what,
                    source,
                }));
            }
        };
        let SettingsSpec {
            when_agent_is_down,
            timeout_seconds,
            socket,
            missed_file,
        } = spec;
        let seconds = timeout_seconds.unwrap_or(DEFAULT_TIMEOUT_SECONDS);
        if !(1..=LONGEST_TIMEOUT_SECONDS).contains(&seconds) {
            return Err(SettingsError::Timeout {
                path: path.to_owned(),
                found: seconds,
            });
        }
        Ok(Self {
            when_down: when_agent_is_down,
            timeout: Duration::from_secs(seconds),
            socket: socket.unwrap_or_else(|| DEFAULT_SOCKET.into()),
            missed: missed_file.unwrap_or_else(|| DEFAULT_MISSED.into()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gorget_model::with_causes;

    fn load(text: &str) -> Result<Settings, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Settings::load(file.path()).map_err(|error| with_causes(&error))
    }

    #[test]
    fn without_a_file_or_in_an_empty_object_containers_start_when_the_agent_is_down() {
        let there_is_none = Settings::load(Path::new("/nonexistent/hook.json")).unwrap();
        assert_eq!(there_is_none, Settings::default());
        assert_eq!(load("{}").unwrap().when_down, WhenDown::Open);
        let closed = load(r#"{"whenAgentIsDown":"closed","timeoutSeconds":3}"#).unwrap();
        assert_eq!(closed.when_down, WhenDown::Closed);
        assert_eq!(closed.timeout, Duration::from_secs(3));
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        for (text, named) in [
            (r#"{"whenAgentIsDown":"shut"}"#, "`open` or `closed`"),
            (r#"{"timeout":3}"#, "unknown field `timeout`"),
            (r#"{"timeoutSeconds":0}"#, "is 0, allowed are 1 to 120"),
            (r#"{"timeoutSeconds":9999}"#, "is 9999"),
            ("{", "EOF"),
        ] {
            let said = load(text).unwrap_err();
            assert!(said.contains(named), "{text}: {said}");
        }
    }
}
