// SPDX-License-Identifier: Apache-2.0
//! How events leave the agent, and how they reach a client.
//!
//! [`Feeder`] takes [`gorget_model::Event`]s and hands them to any number of subscribers, each with
//! a bounded queue: who is slow loses its own events, and is told how many. Behind it are KubeArmor's
//! `LogService` on a Unix socket ([`bind`], [`serve`]), over TCP ([`Tcp`]) and JSON lines ([`JsonSink`]). [`Client`] is the
//! other end of the service, and [`recorded`] reads lines that were kept. Wire forms stay in this
//! crate; they are generated from `proto`, where `feeder.proto` and `policy.proto` have KubeArmor's names
//! and numbers. What clients ask about [`policies`] is handed to the agent.
//!
//! No task is spawned here: the caller owns the futures.
#![forbid(unsafe_code)]

mod address;
mod client;
mod convert;
mod counts;
mod daemon;
mod datagram;
mod feeder;
mod filter;
mod follow;
mod history;
mod json;
mod log_service;
mod metrics;
mod otlp;
pub mod policies;
pub mod recorded;
mod rotation;
mod service;
mod sink;
pub mod status;
mod tcp;
mod tls_files;
pub mod tried;

/// The wire forms, generated from `proto/feeder.proto`.
pub mod proto {
    #![expect(
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::clone_on_ref_ptr,
        clippy::doc_markdown,
        unused_qualifications,
        reason = "generated"
    )]
    tonic::include_proto!("feeder");

    /// KubeArmor's services for policies, generated from `proto/policy.proto`.
    pub mod policy {
        tonic::include_proto!("policy");
    }

    /// KubeArmor's service for what is there, generated from `proto/state.proto`.
    pub mod state {
        tonic::include_proto!("state_agent");
    }

    /// Gorget's own services, generated from `proto/policies.proto` and `proto/status.proto`.
    pub mod v1 {
        tonic::include_proto!("gorget.v1");
    }
}

pub use address::{Address, AddressError, ClientTls};
pub use client::{Client, ConnectError, Received, encoded_len};
pub use convert::utc;
pub use counts::{AlertCount, Counted, OTHER_POLICIES, WorkloadCount};
pub use daemon::run_daemon;
pub use datagram::{DatagramSink, Place};
pub use feeder::{Delivery, Feeder, Follower, Lost, Subscription, TooManySubscribers};
pub use filter::{Field, Fields, Filter, FilterError, Sort, Wanted};
pub use follow::{Following, Heard, Marks, Sorts};
pub use history::Limits;
pub use json::line;
pub use log_service::{asked_at, asked_filter};
pub use metrics::{Metrics, serve_metrics};
pub use otlp::{Collector, CollectorError, Pace, Sent};
pub use rotation::{Archive, Rotation};
pub use service::{BindError, ENFORCEMENT, ServeError, Services, bind, serve};
pub use sink::{JsonSink, WriteError};
pub use tcp::{ListenError, Tcp, Tls};
pub use tls_files::{TlsFileError, TlsFiles};

/// Where the agent serves its feed when nothing else is configured.
pub const DEFAULT_SOCKET: &str = "/run/gorget/gorget.sock";
