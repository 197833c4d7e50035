// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask tidy`: promises of the layout that the compiler does not check.
//!
//! Which crate may depend on which, what pure crates must be free of, licences and sources of
//! dependencies, and the form of files. Every problem is one line; all are reported at once.

mod dependencies;
mod files;

use crate::kernel_support;
use anyhow::Result;

pub(crate) fn run() -> Result<u8> {
    let problems = check()?;
    for problem in &problems {
        println!("{problem}");
    }
    println!("{} problems", problems.len());
    Ok(if problems.is_empty() { 0 } else { 1 })
}

/// Everything that is not as it should be.
pub(crate) fn check() -> Result<Vec<String>> {
    let mut problems = dependencies::check()?;
    problems.extend(files::check()?);
    problems.extend(kernel_support::check()?);
    Ok(problems)
}
