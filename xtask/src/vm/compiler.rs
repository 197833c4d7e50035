// SPDX-License-Identifier: Apache-2.0
//! A C compiler for a job: Debian's tcc with the C library's headers, as an archive to be unpacked at
//! the guest's root.
//!
//! It is not in the root disk because one task alone needs it. What the guest has anyway (the C
//! library itself) is left out.

use super::{Suite, cache, image};
use crate::command;
use anyhow::Result;
use std::path::PathBuf;

const PACKAGES: &str = "tcc,libc6-dev";
/// What compiling and linking take.
const PARTS: [&str; 8] = [
    "usr/bin/tcc",
    "usr/include",
    "usr/lib/x86_64-linux-gnu/tcc",
    "usr/lib/x86_64-linux-gnu/crt1.o",
    "usr/lib/x86_64-linux-gnu/crti.o",
    "usr/lib/x86_64-linux-gnu/crtn.o",
    "usr/lib/x86_64-linux-gnu/libc.so",
    "usr/lib/x86_64-linux-gnu/libc_nonshared.a",
];

/// The archive for a user space, made if need be.
pub(crate) fn compiler(suite: Suite) -> Result<PathBuf> {
    let suite = suite.name();
    let place = cache::entry(
        &format!("compiler-{suite}"),
        "unpacking a C compiler (about 5 s)",
        &[PACKAGES, suite, include_str!("compiler.rs")],
        |place| {
            let root = place.join("root");
            image::debian("extract", PACKAGES, suite, &root)?;
            let mut tar = command::as_root("tar")?;
            tar.arg("-cf").arg(place.join("compiler.tar"));
            tar.arg("-C").arg(&root).args(PARTS);
            command::run(&mut tar)?;
            command::run(command::as_root("rm")?.arg("-rf").arg(&root))
        },
    )?;
    Ok(place.join("compiler.tar"))
}
