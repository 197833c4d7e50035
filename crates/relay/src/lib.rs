// SPDX-License-Identifier: Apache-2.0
//! `gorget-relay`: the feeds of all agents of a cluster as one.
//!
//! [`Resolve`] says which agents there are; [`Fleet`] follows each over a connection of its own and hands
//! what it hears to the [`Hub`], which keeps the latest and has a bounded queue for each client. Clients
//! are KubeArmor's `LogService` with the agents' filters ([`serve`]), an OTLP collector and
//! Elasticsearch or OpenSearch ([`Elastic`]).
//!
//! INVARIANT: nobody waits for a client. What a client is too slow for is its own loss, which it is told
//! and which is counted. An agent that cannot be reached is asked again, later and later, from the last
//! event on; what it keeps no longer is lost, which is said.
//!
//! Left out: storing. Who needs more than the latest events has an output write them down.
#![forbid(unsafe_code)]

mod batch;
mod config;
mod elastic;
mod fleet;
mod hub;
mod metrics;
mod resolve;
mod run;
mod service;

pub use config::Args;
pub use elastic::{Elastic, ElasticError, ElasticSettings};
pub use fleet::{Fleet, FleetSettings, Standing};
pub use hub::{Counts, Delivery, Hub, Subscription, TooManyClients};
pub use resolve::{Agents, Kubernetes, Resolve, Static};
pub use run::run;
pub use service::serve;
