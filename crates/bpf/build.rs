// SPDX-License-Identifier: Apache-2.0
//! Compiles the kernel programs with clang and generates their skeletons into `OUT_DIR`.
//!
//! The only way BPF gets built. The compiler is `$CLANG`, or the newest of the versions named below
//! that is installed, or `clang`.
#![expect(
    clippy::disallowed_methods,
    reason = "a build script runs programs and talks to cargo"
)]

use libbpf_cargo::SkeletonBuilder;
use sha2::{Digest as _, Sha256};
use std::env;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Newest first; 16 is what the figures in docs/performance.md were measured with.
const COMPILERS: [&str; 8] = [
    "clang-16", "clang-19", "clang-20", "clang-21", "clang-18", "clang-17", "clang-15", "clang",
];

fn main() -> Result<(), Box<dyn Error>> {
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let arch = match env::var("CARGO_CFG_TARGET_ARCH")?.as_str() {
        "x86_64" => "x86",
        "aarch64" => "arm64",
        other => return Err(format!("no BPF target for architecture `{other}`").into()),
    };
    let clang = compiler()?;
    println!("cargo::rustc-env=GORGET_CLANG={}", version(&clang)?);
    for program in ["enforce", "audit", "logs", "hashes", "harness", "attach"] {
        let source = format!("bpf/{program}.bpf.c");
        let skeleton = out.join(format!("{program}.skel.rs"));
        SkeletonBuilder::new()
            .source(&source)
            .obj(out.join(format!("{program}.bpf.o")))
            .clang(&clang)
            .clang_args([
                "-Wall",
                "-Werror",
                "-mcpu=v3",
                "-Ibpf",
                &format!("-D__TARGET_ARCH_{arch}"),
            ])
            .build_and_generate(&skeleton)
            .map_err(|e| format!("cannot compile `{source}` with `{clang}`: {e:#}"))?;
    }
    for (program, variable) in [("enforce", "GORGET_ENFORCE"), ("audit", "GORGET_AUDIT")] {
        let object = std::fs::read(out.join(format!("{program}.bpf.o")))?;
        let digest = Sha256::digest(&object);
        let name: String = digest.iter().take(8).map(|b| format!("{b:02x}")).collect();
        println!("cargo::rustc-env={variable}={name}");
    }
    for entry in Path::new("bpf").read_dir()? {
        println!("cargo::rerun-if-changed={}", entry?.path().display());
    }
    println!("cargo::rerun-if-env-changed=CLANG");
    Ok(())
}

fn compiler() -> Result<String, Box<dyn Error>> {
    if let Ok(named) = env::var("CLANG") {
        return Ok(named);
    }
    COMPILERS
        .into_iter()
        .find(|name| {
            Command::new(name)
                .arg("--version")
                .output()
                .is_ok_and(|o| o.status.success())
        })
        .map(str::to_owned)
        .ok_or_else(|| "clang is not installed (Debian, Ubuntu: apt-get install clang)".into())
}

/// The first line of what `--version` says.
fn version(clang: &str) -> Result<String, Box<dyn Error>> {
    let said = Command::new(clang).arg("--version").output()?;
    let text = String::from_utf8(said.stdout)?;
    Ok(text.lines().next().unwrap_or(clang).to_owned())
}
