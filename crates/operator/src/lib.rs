// SPDX-License-Identifier: Apache-2.0
//! `gorget-operator`: what a cluster is told about its policies.
//!
//! The API server asks it whether a policy may be (`admission`, over HTTPS by `serve`), with a certificate that
//! it makes and rotates itself (`certificates`). It hears all agents and writes into the status of each policy
//! what became of it (`status`). What a `KubeArmorConfig` says becomes a ConfigMap that agents read
//! (`kubearmor_config`). Of several replicas each answers, and the one that a Lease names writes
//! (`lease`).
//!
//! What decides is pure in each part: reviews, the steps of a certificate, the election and the status are
//! functions of what was read and of a given time.
//!
//! INVARIANT: nothing that is enforced depends on the operator. Without it policies are what they are; they are
//! checked by the CRDs' schemas and by the agents, and nobody writes what became of them.
//!
//! Left out: installing, but for CRDs that are missing (`crds`), where that is wanted. Everything else is the
//! chart's.
#![forbid(unsafe_code)]

mod admission;
mod api;
mod certificates;
mod config;
mod counts;
mod crds;
mod kubearmor_config;
mod lease;
mod node_labels;
mod run;
mod serve;
mod status;

pub use config::Args;
pub use run::run;
