// SPDX-License-Identifier: Apache-2.0
//! `gorgetd --probe`: what only trying finds out, as JSON on standard output, for `gorget probe`.
//!
//! Loads the smallest programs there are, and at most one that lets everything pass is at a hook for a
//! moment. Nothing is enforced, nothing stays, and no configuration is read.

use anyhow::Context as _;
use gorget_bpf::{attachable, features};
use gorget_model::with_causes;
use gorget_telemetry::tried::{Feature, Outcome, Tried};
use rustix::io::Errno;
use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

/// Tries everything and prints what came of it.
pub(crate) fn run() -> anyhow::Result<()> {
    let features: Vec<_> = features().into_iter().map(feature).collect();
    let attach = attach(Path::new("/"), &features);
    let tried = Tried { features, attach };
    let text = serde_json::to_string_pretty(&tried).context("writing JSON")?;
    writeln!(io::stdout(), "{text}").context("writing to standard output")
}

fn feature(feature: gorget_bpf::Feature) -> Feature {
    let gorget_bpf::Feature {
        name,
        since,
        used_for,
        only_to_enforce,
        works,
    } = feature;
    Feature {
        name: name.to_owned(),
        since: since.to_owned(),
        used_for: used_for.to_owned(),
        only_to_enforce,
        outcome: match works {
            Ok(true) => Outcome::Works,
            Ok(false) => Outcome::Lacking,
            Err(error) => Outcome::Refused(with_causes(&error)),
        },
    }
}

/// Only where a program at a hook would be asked: elsewhere that it is taken says nothing.
fn attach(root: &Path, features: &[Feature]) -> Outcome {
    let lacks = |feature: &&Feature| feature.only_to_enforce && feature.outcome != Outcome::Works;
    if let Some(lacking) = features.iter().find(lacks) {
        return Outcome::NotTried(format!("this kernel refuses {}", lacking.name));
    }
    let path = root.join("sys/kernel/security/lsm");
    match fs::read_to_string(&path) {
        Ok(modules) if modules.trim().split(',').any(|module| module == "bpf") => {}
        Ok(_) => return Outcome::NotTried("`bpf` is not an active security module".to_owned()),
        Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => {
            return Outcome::NotTried(format!("there is no `{}`", path.display()));
        }
        Err(error) => {
            return Outcome::NotTried(format!("cannot read `{}`: {error}", path.display()));
        }
    }
    match attachable() {
        Ok(()) => Outcome::Works,
        Err(error) => Outcome::Refused(with_causes(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lsm_programs(outcome: Outcome) -> Feature {
        Feature {
            name: "programs at the hooks of security modules".to_owned(),
            since: "5.7".to_owned(),
            used_for: "every decision".to_owned(),
            only_to_enforce: true,
            outcome,
        }
    }

    #[test]
    fn nothing_is_attached_where_it_would_not_be_asked() {
        let root = tempfile::tempdir().unwrap();
        let works = [lsm_programs(Outcome::Works)];
        let said = attach(root.path(), &works);
        assert!(
            matches!(&said, Outcome::NotTried(why) if why.starts_with("there is no")),
            "{said:?}"
        );
        let security = root.path().join("sys/kernel/security");
        fs::create_dir_all(&security).unwrap();
        fs::write(security.join("lsm"), "capability,notbpf\n").unwrap();
        let said = attach(root.path(), &works);
        assert!(
            matches!(&said, Outcome::NotTried(why) if why.contains("not an active")),
            "{said:?}"
        );
    }

    #[test]
    fn nothing_is_attached_where_such_programs_are_refused() {
        let root = tempfile::tempdir().unwrap();
        let said = attach(root.path(), &[lsm_programs(Outcome::Lacking)]);
        assert_eq!(
            said,
            Outcome::NotTried(
                "this kernel refuses programs at the hooks of security modules".to_owned()
            )
        );
    }
}
