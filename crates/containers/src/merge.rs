// SPDX-License-Identifier: Apache-2.0
//! Makes one stream of what several runtimes tell.
//!
//! A container that two of them know, which its cgroup shows, is told once, as the first described it,
//! and is gone when neither knows it. Two containers of one id in different runtimes are two: the later
//! is `runtime/id`.
//!
//! INVARIANT: `Synced` is told only when every runtime that was found has told all it has, so that
//! nobody concludes from a list that lacks one runtime that its containers are gone.

use crate::out::Source;
use crate::{Change, Started};
use std::collections::{BTreeMap, BTreeSet, HashMap};

#[derive(Debug)]
struct Known {
    cgroup: u64,
    holders: BTreeSet<Source>,
}

/// What the reader knows.
#[derive(Debug, Default)]
pub(crate) struct Merge {
    names: BTreeMap<Source, String>,
    waiting: BTreeSet<Source>,
    /// By the id under which it was told.
    known: BTreeMap<String, Known>,
    /// Under which id a runtime's own was told.
    told_as: HashMap<(Source, String), String>,
}

impl Merge {
    /// Another runtime will tell what it has.
    pub(crate) fn add(&mut self, source: Source, name: String) {
        self.names.insert(source, name);
        self.waiting.insert(source);
    }

    /// What the reader gets of it.
    pub(crate) fn take(&mut self, source: Source, change: Change) -> Vec<Change> {
        match change {
            Change::Started(started) => self.started(source, started).into_iter().collect(),
            Change::Stopped { id } => self.stopped(source, &id).into_iter().collect(),
            Change::Synced { running } => self.synced(source, &running),
            Change::Disconnected { .. } | Change::Connected { .. } | Change::Problem(_) => {
                vec![change]
            }
        }
    }

    fn started(&mut self, source: Source, mut started: Started) -> Option<Change> {
        let cgroup = started.cgroup.id;
        let own = (source, started.container.id.clone());
        let elsewhere = self
            .known
            .iter_mut()
            .find(|(_, known)| known.cgroup == cgroup && !known.holders.contains(&source));
        if let Some((id, known)) = elsewhere {
            known.holders.insert(source);
            let before = self.told_as.insert(own, id.clone());
            return before.and_then(|before| self.released(source, &before));
        }
        let id = match self.told_as.get(&own) {
            Some(id) => id.clone(),
            None if self.known.contains_key(&own.1) => {
                let name = self.names.get(&source).map_or("", String::as_str);
                format!("{name}/{}", own.1)
            }
            None => own.1.clone(),
        };
        // Others that knew it under this id knew what it was before.
        self.told_as
            .retain(|key, told_as| *told_as != id || *key == own);
        self.told_as.insert(own, id.clone());
        let holders = BTreeSet::from([source]);
        self.known.insert(id.clone(), Known { cgroup, holders });
        started.container.id = id;
        Some(Change::Started(started))
    }

    fn stopped(&mut self, source: Source, own: &str) -> Option<Change> {
        let id = self.told_as.remove(&(source, own.to_owned()))?;
        self.released(source, &id)
    }

    /// A runtime does not know it any more.
    fn released(&mut self, source: Source, id: &str) -> Option<Change> {
        let known = self.known.get_mut(id)?;
        known.holders.remove(&source);
        if !known.holders.is_empty() {
            return None;
        }
        self.known.remove(id);
        Some(Change::Stopped { id: id.to_owned() })
    }

    fn synced(&mut self, source: Source, running: &[String]) -> Vec<Change> {
        let gone: Vec<_> = self
            .told_as
            .keys()
            .filter(|(of, own)| *of == source && running.binary_search(own).is_err())
            .map(|(_, own)| own.clone())
            .collect();
        let gone: Vec<_> = gone
            .iter()
            .filter_map(|own| self.stopped(source, own))
            .collect();
        self.waiting.remove(&source);
        match self.whole() {
            Some(synced) => vec![synced],
            None => gone,
        }
    }

    /// Everything that runs, when all runtimes have told it.
    pub(crate) fn whole(&self) -> Option<Change> {
        let running = || self.known.keys().cloned().collect();
        self.waiting
            .is_empty()
            .then(|| Change::Synced { running: running() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cgroup;
    use gorget_model::Container;

    const A: Source = Source(0);
    const B: Source = Source(1);

    fn two() -> Merge {
        let mut merge = Merge::default();
        merge.add(A, "containerd".to_owned());
        merge.add(B, "podman".to_owned());
        merge
    }

    fn started(id: &str, cgroup: u64) -> Change {
        Change::Started(Started {
            container: Container {
                id: id.to_owned(),
                ..Container::default()
            },
            pid: 7,
            cgroup: Cgroup {
                path: format!("/{cgroup}"),
                id: cgroup,
            },
            already_running: true,
        })
    }

    fn stopped(id: &str) -> Change {
        Change::Stopped { id: id.to_owned() }
    }

    fn synced(ids: &[&str]) -> Change {
        Change::Synced {
            running: ids.iter().map(|id| (*id).to_owned()).collect(),
        }
    }

    #[test]
    fn everything_is_known_only_when_all_have_told_what_they_have() {
        let mut merge = two();
        assert_eq!(merge.take(A, started("a", 1)), [started("a", 1)]);
        assert_eq!(merge.take(A, synced(&["a"])), []);
        assert_eq!(merge.take(B, started("b", 2)), [started("b", 2)]);
        assert_eq!(merge.take(B, synced(&["b"])), [synced(&["a", "b"])]);
    }

    #[test]
    fn what_one_runtime_lists_says_nothing_about_the_others() {
        let mut merge = two();
        merge.take(A, started("a", 1));
        merge.take(A, started("gone", 3));
        merge.take(A, synced(&["a", "gone"]));
        merge.take(B, started("b", 2));
        merge.take(B, synced(&["b"]));
        assert_eq!(merge.take(A, synced(&["a"])), [synced(&["a", "b"])]);
        assert_eq!(merge.take(B, synced(&[])), [synced(&["a"])]);
    }

    #[test]
    fn while_another_has_not_told_all_what_is_gone_is_told_one_by_one() {
        let mut merge = two();
        merge.take(A, started("a", 1));
        merge.take(A, synced(&["a"]));
        assert_eq!(merge.take(A, synced(&[])), [stopped("a")]);
    }

    #[test]
    fn a_container_that_two_know_is_one_until_neither_knows_it() {
        let mut merge = two();
        assert_eq!(merge.take(A, started("a", 1)).len(), 1);
        assert_eq!(merge.take(B, started("a", 1)), []);
        assert_eq!(merge.take(A, stopped("a")), []);
        assert_eq!(merge.take(B, stopped("a")), [stopped("a")]);
        assert_eq!(merge.take(B, stopped("a")), []);
    }

    #[test]
    fn two_containers_of_one_id_are_two() {
        let mut merge = two();
        merge.take(A, started("web", 1));
        assert_eq!(merge.take(B, started("web", 2)), [started("podman/web", 2)]);
        assert_eq!(merge.take(A, stopped("web")), [stopped("web")]);
        assert_eq!(merge.take(B, stopped("web")), [stopped("podman/web")]);
    }

    #[test]
    fn a_restart_that_both_tell_is_told_once_whoever_is_first() {
        let mut merge = two();
        merge.take(A, started("a", 1));
        merge.take(B, started("a", 1));
        assert_eq!(merge.take(B, started("a", 2)), [started("a", 2)]);
        assert_eq!(merge.take(A, stopped("a")), []);
        assert_eq!(merge.take(A, started("a", 2)), []);
        assert_eq!(merge.take(B, stopped("a")), []);
        assert_eq!(merge.take(A, stopped("a")), [stopped("a")]);
    }

    #[test]
    fn without_runtimes_everything_is_known() {
        assert_eq!(Merge::default().whole(), Some(synced(&[])));
    }
}
