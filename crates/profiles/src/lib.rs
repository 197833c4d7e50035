// SPDX-License-Identifier: Apache-2.0
//! Policies as AppArmor profiles, for containers on machines without BPF LSM.
//!
//! [`profile`] writes the profile of a workload: pure, from the same policy set that the engine
//! compiles. What a profile cannot say is in its [`Limit`]s, never left out in silence.
//!
//! [`Loader`] puts profiles into the kernel and takes them out again.
//!
//! Steps, each in its module: `lower` (classes of subjects as profiles), `cut` (precedence as what is
//! allowed and denied), `carve` (patterns without some names), `glob` (patterns), `text` (AppArmor's
//! notation), `objects` (sockets and capabilities), `native` (lines in AppArmor's own language).
#![forbid(unsafe_code)]

mod carve;
mod cut;
mod glob;
mod limits;
mod load;
mod lower;
mod native;
mod objects;
mod text;

pub use limits::Limit;
pub use load::{LoadError, Loader, Missing};
pub use lower::{Confined, MARKER, Parts, Profile, part_names, profile};
