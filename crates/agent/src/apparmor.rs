// SPDX-License-Identifier: Apache-2.0
//! AppArmor profiles for the containers that run in them.
//!
//! Where BPF LSM is missing, a container that was started with `--security-opt apparmor=kubearmor_NAME` is
//! confined by a profile that says what its policies say. The profile has to be there before the
//! container: it is loaded as soon as a policy names the container, with the rules that select it by its
//! name, and replaced while the container runs whenever policies change. Alerts come from the programs
//! that look on, so profiles are silent.
//!
//! INVARIANT: only profiles of ours are replaced and removed ([`Loader`]); one that nobody needs any more
//! is removed.

use crate::report::Reporter;
use crate::resolve;
use gorget_engine::{Aliases, PolicySet, literal_paths};
use gorget_model::{Container, Mode, PROFILE_PREFIX, Postures, Workload, with_causes};
use gorget_policy::Policy;
use gorget_profiles::{Confined, Loader, part_names, profile};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

/// The profiles of this machine's containers.
#[derive(Debug)]
pub(crate) struct AppArmor {
    loader: Loader,
    reporter: Reporter,
    postures: Postures,
    /// Names of profiles of containers that policies name.
    named: BTreeSet<String>,
    /// Names of profiles of containers that run, and how many of them.
    running: BTreeMap<String, usize>,
    /// All containers that run are known.
    all_known: bool,
    /// What was said of a profile last, so that it is said once.
    told: BTreeMap<String, String>,
}

/// A container that runs, or may.
struct Place<'a> {
    name: &'a str,
    /// Its first process, when it runs in its profile.
    pid: Option<u32>,
}

impl AppArmor {
    pub(crate) fn new(loader: Loader, reporter: Reporter, postures: Postures) -> Self {
        Self {
            loader,
            reporter,
            postures,
            named: BTreeSet::new(),
            running: BTreeMap::new(),
            all_known: false,
            told: BTreeMap::new(),
        }
    }

    /// These are all policies there are: loads profiles for containers that they name and that may
    /// be started next. Containers that run are told of one by one.
    pub(crate) fn policies(&mut self, policies: &[Arc<Policy>]) {
        let names: BTreeSet<&String> = policies
            .iter()
            .flat_map(|policy| &policy.selector.container_names)
            .collect();
        self.named = names
            .iter()
            .map(|name| format!("{PROFILE_PREFIX}{name}"))
            .collect();
        for name in names {
            let profile = format!("{PROFILE_PREFIX}{name}");
            if self.running.contains_key(&profile) {
                continue;
            }
            let workload = Workload::Container(Container {
                name: name.clone(),
                ..Container::default()
            });
            let selected = policies.iter().filter(|policy| policy.selects(&workload));
            let set = PolicySet::new(selected.cloned().collect(), self.postures);
            let place = Place {
                name: &profile,
                pid: None,
            };
            self.put(&place, &set);
        }
        self.remove_unneeded();
    }

    /// A container is known.
    pub(crate) fn started(&mut self, container: &Container) {
        *self.running.entry(profile_of(container)).or_default() += 1;
    }

    /// These policies select a container that is known. Says whether it is denied what they block.
    pub(crate) fn apply(
        &mut self,
        container: &Container,
        pid: u32,
        selected: &[Arc<Policy>],
        postures: Postures,
    ) -> bool {
        let name = profile_of(container);
        let runs_in_it = current(pid).as_deref() == Some(name.as_str());
        if !runs_in_it && !selected.is_empty() {
            self.tell(
                &name,
                format!(
                    "container `{}` does not run in profile `{name}`: nothing is denied to it; start it \
                     with `--security-opt apparmor={name}`",
                    container.name
                ),
            );
        }
        if !runs_in_it && !self.named.contains(&name) {
            return false;
        }
        let root = format!("/proc/{pid}/root");
        let aliases = resolve::aliases(Path::new(&root), &literal_paths(selected));
        let set = PolicySet {
            // The enforcer has told of links that cannot be followed.
            aliases: aliases.unwrap_or_else(|_error| Aliases::default()),
            ..PolicySet::new(selected.to_vec(), postures)
        };
        let place = Place {
            name: &name,
            pid: runs_in_it.then_some(pid),
        };
        self.put(&place, &set) && runs_in_it
    }

    /// A container ended.
    pub(crate) fn stopped(&mut self, container: &Container) {
        let name = profile_of(container);
        if let Some(count) = self.running.get_mut(&name) {
            *count -= 1;
            if *count == 0 {
                self.running.remove(&name);
                self.told.remove(&name);
                self.remove_unneeded();
            }
        }
    }

    /// All containers that run were told of.
    pub(crate) fn all_known(&mut self) {
        self.all_known = true;
        self.remove_unneeded();
    }

    /// Removes profiles that no container runs in and no policy names.
    fn remove_unneeded(&mut self) {
        if !self.all_known {
            return;
        }
        let names: Vec<String> = self.loader.names().map(str::to_owned).collect();
        for name in names {
            if !self.running.contains_key(&name) && !self.named.contains(&name) {
                match self.loader.remove(&name) {
                    Ok(()) => self.reporter.info(format!("profile `{name}` is removed")),
                    Err(error) => self.reporter.error(with_causes(&error)),
                }
            }
        }
    }

    /// Says whether the profile says what the policies say.
    fn put(&mut self, place: &Place<'_>, set: &PolicySet) -> bool {
        let name = place.name;
        // Who runs in a part of the profile goes on in it.
        let loaded = self.loader.text(name).filter(|_| place.pid.is_some());
        let parts = loaded.map(part_names).unwrap_or_default();
        let entry = place.pid.and_then(image);
        let written = profile(&Confined {
            name,
            set,
            mode: Mode::Enforced,
            entry: entry.as_deref(),
            parts: &parts,
            log: false,
        });
        let written = match written {
            Ok(written) => written,
            Err(error) => {
                self.not_loaded(name, set, &with_causes(&error));
                return false;
            }
        };
        match self.loader.put(name, &written.text) {
            Ok(true) => {
                self.told.remove(name);
                self.reporter
                    .info(format!("profile `{name}` says: {}", policies(set)));
                for limit in written.limits {
                    self.reporter.warn(format!("profile `{name}`: {limit}"));
                }
            }
            Ok(false) => {}
            Err(error) => {
                self.not_loaded(name, set, &with_causes(&error));
                return false;
            }
        }
        true
    }

    fn not_loaded(&mut self, name: &str, set: &PolicySet, reason: &str) {
        let policies = policies(set);
        self.tell(
            name,
            format!("profile `{name}` stays as it was, without {policies}: {reason}"),
        );
    }

    fn tell(&mut self, name: &str, what: String) {
        if self.told.get(name) != Some(&what) {
            self.reporter.error(what.clone());
            self.told.insert(name.to_owned(), what);
        }
    }
}

/// Removes every profile of ours, when nothing is to stay in force. Says how many there were.
pub(crate) fn remove_all() -> Result<usize, String> {
    let Ok(mut loader) = Loader::detect(Path::new("/")) else {
        return Ok(0);
    };
    let names: Vec<String> = loader.names().map(str::to_owned).collect();
    for name in &names {
        loader.remove(name).map_err(|error| with_causes(&error))?;
    }
    Ok(names.len())
}

fn policies(set: &PolicySet) -> String {
    let names: Vec<String> = set.policies.iter().map(|p| p.qualified_name()).collect();
    match names.as_slice() {
        [] => "nothing is denied".to_owned(),
        names => names.join(", "),
    }
}

fn profile_of(container: &Container) -> String {
    format!("{PROFILE_PREFIX}{}", container.name)
}

/// The outer name of the profile in which a process runs.
fn current(pid: u32) -> Option<String> {
    let newer = fs::read_to_string(format!("/proc/{pid}/attr/apparmor/current"));
    let text = newer.or_else(|_| fs::read_to_string(format!("/proc/{pid}/attr/current")));
    outer(&text.ok()?)
}

/// Of `NAME//PART (enforce)`, the name. What is not confined has no mode behind it.
fn outer(current: &str) -> Option<String> {
    let (name, _mode) = current.trim_end_matches(['\n', '\0']).rsplit_once(" (")?;
    let name = name.split("//").next()?;
    Some(name.to_owned())
}

/// The path of a process's program, as the process sees it.
fn image(pid: u32) -> Option<Vec<u8>> {
    let path = fs::read_link(format!("/proc/{pid}/exe")).ok()?;
    let path = path.as_os_str().as_bytes();
    path.starts_with(b"/").then(|| path.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_profile_is_found_in_what_the_kernel_says() {
        let name = |text: &str| outer(text);
        let web = Some("kubearmor_web".to_owned());
        assert_eq!(name("kubearmor_web (enforce)\n"), web);
        assert_eq!(name("kubearmor_web//vault-1 (enforce)\0"), web);
        assert_eq!(name("unconfined\n"), None);
    }
}
