// SPDX-License-Identifier: Apache-2.0
//! What can be asked on a command line: workloads and postures as text.
//!
//! | text | is |
//! |---|---|
//! | `app=web,tier=front` | a container with these labels |
//! | `shop/api` | the container `api` in the namespace `shop` |
//! | `shop/api,app=web` | both |
//! | `host` | the machine itself |
//! | `host:worker-1,zone=a` | the machine of that name with this label |
//!
//! A container for which no namespace is given is a plain one: policies of every namespace with a
//! fitting selector are for it. Postures are one word for everything, or `file=block,network=audit`;
//! what is not given is `audit`, as in the agent.

use clap::Args;
use gorget_model::{Container, Host, Posture, Postures, Workload};
use gorget_policy::Policy;
use std::collections::BTreeMap;
use std::sync::Arc;

/// For which workload, and with which postures.
#[derive(Args)]
pub(super) struct Circumstances {
    /// The workload: labels (`app=web,tier=front`), `NAMESPACE/CONTAINER`, both, or `host[:NAME]`
    ///
    /// Only the policies that select it count. Without it all do, whatever they select.
    #[arg(short, long, value_parser = workload)]
    pub(super) workload: Option<Workload>,
    /// Default posture: `allow`, `audit`, `block`, or `file=block,network=audit`
    ///
    /// What happens, where there is an allow list, to what it does not list. Parts: `file`, `network`,
    /// `capabilities`, `device`.
    #[arg(short, long, value_parser = postures, default_value = "audit")]
    pub(super) posture: Postures,
}

impl Circumstances {
    /// Those of the policies that count.
    pub(super) fn of(&self, policies: &[Arc<Policy>]) -> Vec<Arc<Policy>> {
        let counts = |policy: &&Arc<Policy>| {
            let workload = self.workload.as_ref();
            workload.is_none_or(|workload| policy.selects(workload))
        };
        policies.iter().filter(counts).cloned().collect()
    }
}

/// Reads a workload.
pub(super) fn workload(text: &str) -> Result<Workload, String> {
    let mut labels = BTreeMap::new();
    let mut names = Vec::new();
    for part in text.split(',') {
        match part.split_once('=') {
            Some(("", _)) => return Err(format!("`{part}` has no key before the `=`")),
            Some((key, value)) => {
                labels.insert(key.to_owned(), value.to_owned());
            }
            None if part.is_empty() => {
                return Err("there is nothing before or after a comma".into());
            }
            None => names.push(part),
        }
    }
    let name = match names.as_slice() {
        [] => "",
        [name] => name,
        [one, other, ..] => return Err(format!("`{one}` and `{other}` are two workloads")),
    };
    if let Some(host) = host(name) {
        return Ok(Workload::Host(Host {
            name: host.to_owned(),
            labels,
        }));
    }
    let (namespace, name) = match name.split_once('/') {
        Some(("", _)) => return Err(format!("`{name}` has no namespace before the `/`")),
        Some((namespace, name)) => (Some(namespace.to_owned()), name),
        None => (None, name),
    };
    Ok(Workload::Container(Container {
        name: name.to_owned(),
        namespace,
        labels,
        ..Container::default()
    }))
}

fn host(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("host")?;
    if rest.is_empty() {
        Some(rest)
    } else {
        rest.strip_prefix(':')
    }
}

/// Reads postures.
pub(super) fn postures(text: &str) -> Result<Postures, String> {
    if !text.contains('=') {
        return Ok(Postures::all(posture(text)?));
    }
    let mut postures = Postures::default();
    for part in text.split(',') {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let place = match name {
            "file" => &mut postures.file,
            "network" => &mut postures.network,
            "capabilities" => &mut postures.capabilities,
            "device" => &mut postures.device,
            _ => {
                return Err(format!(
                    "there is no posture for `{name}`; there are `file`, `network`, `capabilities`, \
                     `device`"
                ));
            }
        };
        *place = posture(value)?;
    }
    Ok(postures)
}

fn posture(word: &str) -> Result<Posture, String> {
    match word {
        "allow" => Ok(Posture::Allow),
        "audit" => Ok(Posture::Audit),
        "block" => Ok(Posture::Block),
        _ => Err(format!(
            "`{word}` is no posture; there are `allow`, `audit`, `block`"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(text: &str) -> (Option<String>, String, usize) {
        match workload(text) {
            Ok(Workload::Container(container)) => {
                (container.namespace, container.name, container.labels.len())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn containers_are_named_labelled_or_both() {
        assert_eq!(container("app=web,tier=a"), (None, "".into(), 2));
        assert_eq!(container("api"), (None, "api".into(), 0));
        assert_eq!(
            container("shop/api,a/b=c"),
            (Some("shop".into()), "api".into(), 1)
        );
        assert_eq!(container("hostess"), (None, "hostess".into(), 0));
    }

    #[test]
    fn a_host_can_have_a_name_and_labels() {
        let Ok(Workload::Host(host)) = workload("host:worker-1,zone=a") else {
            panic!("no host");
        };
        assert_eq!((host.name.as_str(), host.labels.len()), ("worker-1", 1));
        assert_eq!(workload("host"), Ok(Workload::Host(Host::default())));
    }

    #[test]
    fn what_is_no_workload_is_refused_with_the_part() {
        for (text, part) in [
            ("a,b", "`a` and `b`"),
            ("=x", "`=x`"),
            ("a=b,", "comma"),
            ("/x", "`/x`"),
        ] {
            let refused = workload(text).unwrap_err();
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn postures_are_one_word_or_one_for_each() {
        assert_eq!(postures("block"), Ok(Postures::all(Posture::Block)));
        let each = postures("file=block,device=allow").unwrap();
        assert_eq!((each.file, each.device), (Posture::Block, Posture::Allow));
        assert_eq!(each.network, Posture::Audit);
        for wrong in ["deny", "file=deny", "files=block", "file=block,"] {
            assert!(postures(wrong).is_err(), "{wrong}");
        }
    }
}
