// SPDX-License-Identifier: Apache-2.0
//! What the API server says of one node, as one stream of [`Seen`].
//!
//! Each kind is listed once and then followed, with bookmarks, so that an interruption goes on where it
//! was. The server filters: of pods it tells those of the node, of nodes the one, of ConfigMaps those
//! with the label. When a server no longer knows the version that was seen last (410), the kind is listed
//! again.
//!
//! INVARIANT: what is not in a [`Seen::Listed`] and was not unreadable in it is gone.
//!
//! Failure: an object that cannot be read is [`Seen::Unreadable`], by name, and costs only itself. A
//! server that does not answer, or refuses, is told once until it answers again, and asked again later and
//! later, at times that differ from agent to agent. A kind that the cluster does not have (its CRD is
//! not installed) is asked for quietly until it is there.

mod follow;

use crate::objects::{Key, Object, PolicyResource};
use crate::settings::SettingsOrigin;
use follow::{Following, Pace};
use futures_util::future::join_all;
use kube::Client;
use std::fmt;
use tokio::sync::mpsc;

/// How many changes may wait for the reader; then the server's answers wait in the connection.
const QUEUE: usize = 64;

/// Where KubeArmor is installed unless said otherwise, and with it its ConfigMap.
const KUBEARMORS_NAMESPACE: &str = "kubearmor";

/// Whose objects are followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watching {
    /// The node's name.
    pub node: String,
    /// Where the agent is installed: its settings are there.
    pub namespace: String,
}

/// A kind of objects, or a part of one, that is followed by itself.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Watched {
    /// Pods of the node.
    Pods,
    /// The node.
    Node,
    /// All namespaces.
    Namespaces,
    /// Policies of a kind.
    Policies(PolicyResource),
    /// ConfigMaps with settings.
    Settings {
        /// With whose label.
        origin: SettingsOrigin,
        /// Where.
        namespace: String,
    },
}

impl Watched {
    /// Everything that is followed.
    pub fn all(watching: &Watching) -> Vec<Self> {
        let policies = PolicyResource::ALL.map(Self::Policies);
        let settings = |origin, namespace: &str| Self::Settings {
            origin,
            namespace: namespace.to_owned(),
        };
        let own = watching.namespace.as_str();
        let mut all = vec![Self::Namespaces, Self::Node, Self::Pods];
        all.extend(policies);
        all.push(settings(SettingsOrigin::Gorget, own));
        all.push(settings(SettingsOrigin::KubeArmor, own));
        if own != KUBEARMORS_NAMESPACE {
            all.push(settings(SettingsOrigin::KubeArmor, KUBEARMORS_NAMESPACE));
        }
        all
    }

    /// Without it the agent works as it does anywhere else: nothing is said when it is refused.
    fn is_optional(&self) -> bool {
        matches!(self, Self::Settings { namespace, .. } if namespace == KUBEARMORS_NAMESPACE)
    }

    /// What a role calls it.
    fn resource(&self) -> &'static str {
        match self {
            Self::Pods => "pods",
            Self::Node => "nodes",
            Self::Namespaces => "namespaces",
            Self::Policies(resource) => resource.plural(),
            Self::Settings { .. } => "configmaps",
        }
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pods => f.write_str("pods of this node"),
            Self::Node => f.write_str("this node"),
            Self::Namespaces => f.write_str("namespaces"),
            Self::Policies(resource) => f.write_str(resource.plural()),
            Self::Settings { namespace, origin } => {
                let label = origin.label();
                write!(f, "configmaps of `{namespace}` with `{label}`")
            }
        }
    }
}

/// What the server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// These are all there are.
    Listed {
        /// Of what.
        what: Watched,
        /// Those that could be read.
        objects: Vec<Object>,
        /// Those that could not: what was known of them stays.
        unreadable: Vec<Key>,
    },
    /// One is there, or is different.
    Changed {
        /// Of what.
        what: Watched,
        /// As it is now.
        object: Object,
    },
    /// One is gone.
    Gone {
        /// Of what.
        what: Watched,
        /// What it was called.
        key: Key,
    },
    /// One cannot be read: what was known of it stays.
    Unreadable {
        /// Of what.
        what: Watched,
        /// What it is called, where that can be read.
        key: Option<Key>,
        /// Why.
        reason: String,
    },
    /// The server answers.
    Connected {
        /// About what.
        what: Watched,
    },
    /// The server does not answer, or refuses: what was known stays.
    Away {
        /// About what.
        what: Watched,
        /// Why.
        trouble: Trouble,
    },
}

/// Why the server does not say what is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// The cluster has no such kind.
    NotInstalled,
    /// Who asks may not know, and what would help.
    Refused {
        /// As the server says it.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// There is no answer that can be used.
    Unanswered {
        /// Why.
        reason: String,
    },
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled => f.write_str("the cluster has no such kind"),
            Self::Refused { reason, remedy } => write!(f, "{reason}; to get it: {remedy}"),
            Self::Unanswered { reason } => f.write_str(reason),
        }
    }
}

/// Follows what the API server says.
///
/// Nothing happens until the future is polled; the caller spawns it. It ends when the receiver is
/// dropped, and may be dropped at any time.
pub fn watch(
    client: Client,
    watching: &Watching,
) -> (
    mpsc::Receiver<Seen>,
    impl Future<Output = ()> + Send + 'static,
) {
    follow_these(client, Watched::all(watching), &watching.node)
}

/// The same for all policies of the cluster, and nothing of any node.
pub fn watch_policies(
    client: Client,
) -> (
    mpsc::Receiver<Seen>,
    impl Future<Output = ()> + Send + 'static,
) {
    let all = PolicyResource::ALL.map(Watched::Policies);
    follow_these(client, all.into(), "")
}

fn follow_these(
    client: Client,
    all: Vec<Watched>,
    node: &str,
) -> (
    mpsc::Receiver<Seen>,
    impl Future<Output = ()> + Send + 'static,
) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let node = node.to_owned();
    let run = async move {
        let following = all.into_iter().map(|what| {
            let out = sender.clone();
            Following::new(client.clone(), what, &node, out, Pace::default()).run()
        });
        tokio::select! {
            () = sender.closed() => {}
            _ended = join_all(following) => {}
        }
    };
    (receiver, run)
}

#[cfg(test)]
mod tests;
