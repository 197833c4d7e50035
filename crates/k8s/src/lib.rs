// SPDX-License-Identifier: Apache-2.0
//! What a node needs to know of its cluster: [`watch`] tells it, [`Index`] puts it together.
//!
//! [`connect`] finds the API server, from inside a pod or by a kubeconfig. [`watch`] follows what the
//! server says of one node: its pods, the node itself, all namespaces, the four kinds of policies and the
//! ConfigMaps with settings. [`Index`] is a state without I/O and without a clock: what was seen goes in,
//! and who a container is comes out, with its mode, its postures and what is visible of it. It can be
//! kept on disk ([`Index::keep`]) and does not need a server then.
//!
//! INVARIANT: the state of the index is a function of the last version of each object, never of the order
//! in which objects came. Where a value of an annotation or setting is invalid, it is reported and the
//! object counts without it; a setting keeps its last good value.
//!
//! Failure: one object that cannot be read is reported by name and costs only itself; what was known of
//! it stays. A server that is away changes nothing; it is told once, and when it is back.
//!
//! What follows the agents of a cluster finds them by [`Listeners`], and who looks at policies alone follows
//! those ([`watch_policies`]).
//!
//! Left out: what policies mean (`gorget-policy`, `gorget-engine`), and everything that writes to the
//! API.
#![forbid(unsafe_code)]

mod annotations;
mod client;
mod endpoints;
mod index;
mod objects;
mod settings;
mod watch;

pub use annotations::PostureOverrides;
pub use client::{Access, ConnectError, Connection, connect, is_in_cluster};
pub use endpoints::{EndpointsError, Listeners};
pub use index::{Described, HostDescribed, Index, Kept, Touched};
pub use objects::{
    Key, Namespace, Node, Object, Pod, PodContainer, PolicyKey, PolicyObject, PolicyResource,
    ReadError, Role,
};
pub use settings::{Settings, SettingsMap, SettingsOrigin, check_setting};
pub use watch::{Seen, Trouble, Watched, Watching, watch, watch_policies};
