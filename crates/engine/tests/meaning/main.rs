// SPDX-License-Identifier: Apache-2.0
//! The meaning of policies, through the public API.
//!
//! `random` compares `decide` with `explain`, which walks the rules one by one; the other
//! modules say one sentence of the semantics each test.
#![cfg(test)]

mod aliases;
mod build;
mod generate;
mod modifiers;
mod objects;
mod order;
mod precedence;
mod random;
mod shape;
mod trees;
