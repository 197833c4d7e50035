// SPDX-License-Identifier: Apache-2.0
//! What building and checking need from the host system.

use crate::packages::{Tool, ensure, find};
use anyhow::Result;
use std::env;

/// For `cargo build`: libbpf is C, and the kernel programs are compiled by clang.
const BUILD: [Tool; 5] = [
    tool("gcc", "gcc"),
    tool("make", "make"),
    tool("pkg-config", "pkg-config"),
    tool("/usr/include/gelf.h", "libelf-dev"),
    tool("/usr/include/zlib.h", "zlib1g-dev"),
];

/// Versions of clang that are looked for, as in `crates/bpf/build.rs`.
const CLANGS: [&str; 8] = [
    "clang-16", "clang-19", "clang-20", "clang-21", "clang-18", "clang-17", "clang-15", "clang",
];

/// Whatever version; the layout of the C files is the same from 14 on.
const FORMATTERS: [&str; 5] = [
    "clang-format-16",
    "clang-format-19",
    "clang-format-18",
    "clang-format-15",
    "clang-format",
];

const fn tool(probe: &'static str, package: &'static str) -> Tool {
    Tool { probe, package }
}

/// Installs what building needs.
pub(crate) fn for_building() -> Result<()> {
    ensure(&BUILD)?;
    if first(&CLANGS).is_none() {
        ensure(&[tool("clang", "clang")])?;
    }
    Ok(())
}

/// The program that formats C, installed when there is none.
pub(crate) fn clang_format() -> Result<&'static str> {
    if let Some(name) = first(&FORMATTERS) {
        return Ok(name);
    }
    ensure(&[tool("clang-format", "clang-format")])?;
    Ok("clang-format")
}

fn first(names: &[&'static str]) -> Option<&'static str> {
    let path = env::var_os("PATH").unwrap_or_default();
    names
        .iter()
        .copied()
        .find(|name| find(name, &path).is_some())
}
