// SPDX-License-Identifier: Apache-2.0
//! A client of KubeArmor 1.7, generated from the definitions in this directory.
#![expect(
    clippy::allow_attributes_without_reason,
    clippy::doc_markdown,
    unreachable_pub,
    unused_qualifications,
    reason = "generated"
)]

pub(crate) mod feeder {
    include!(concat!(env!("OUT_DIR"), "/client/feeder.rs"));
}

pub(crate) mod policy {
    include!(concat!(env!("OUT_DIR"), "/client/policy.rs"));
}

pub(crate) mod state {
    include!(concat!(env!("OUT_DIR"), "/client/state_agent.rs"));
}
