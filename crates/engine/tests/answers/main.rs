// SPDX-License-Identifier: Apache-2.0
//! Answers about policies, through the public API: what differs between two policy sets, and which
//! rules never decide anything.
//!
//! `random` holds every answer against `decide` on random policy sets; the other modules ask what
//! people ask.
#![cfg(test)]

#[expect(dead_code, reason = "not every test crate needs all of it")]
#[path = "../meaning/build.rs"]
mod build;
mod differences;
#[path = "../meaning/generate.rs"]
mod generate;
mod idle;
mod random;
