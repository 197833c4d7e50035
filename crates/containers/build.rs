// SPDX-License-Identifier: Apache-2.0
//! Generates the gRPC code for the messages in `proto/`, without a `protoc` binary.
//!
//! Two sets come out: `client` for the crate, and `server` for its contract tests, which run fake
//! containerd.

use std::env;
use std::error::Error;
use std::fs;
use std::path::PathBuf;

const PROTOS: [&str; 10] = [
    "types.proto",
    "task.proto",
    "task_events.proto",
    "events.proto",
    "namespaces.proto",
    "containers.proto",
    "tasks.proto",
    "images.proto",
    "version.proto",
    "cri.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(PROTOS, ["proto"])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for (half, is_server) in [("client", false), ("server", true)] {
        let directory = out.join(half);
        fs::create_dir_all(&directory)?;
        tonic_prost_build::configure()
            .btree_map(".")
            .build_client(!is_server)
            .build_server(is_server)
            .out_dir(directory)
            .include_file("containerd.rs")
            .compile_fds(files.clone())?;
    }
    Ok(())
}
