// SPDX-License-Identifier: Apache-2.0
//! Generates the gRPC code, and gives every message its JSON form: the field names of the .proto
//! file, without fields that have their default value.

use std::error::Error;
use std::path::Path;

const FILES: [&str; 5] = [
    "feeder.proto",
    "policy.proto",
    "state.proto",
    "policies.proto",
    "status.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto");
    let files = protox::compile(FILES, ["proto"])?;
    // What reflection tells needs no comments.
    let mut plain = protox::Compiler::new(["proto"])?;
    plain.include_imports(true).open_files(FILES)?;
    let descriptors = Path::new(&std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(descriptors, plain.encode_file_descriptor_set())?;
    let mut config = tonic_prost_build::configure()
        .btree_map(".")
        .type_attribute(".feeder", "#[derive(serde::Serialize)]")
        .type_attribute(
            ".gorget.v1",
            "#[derive(serde::Serialize)] #[serde(rename_all = \"camelCase\")]",
        );
    let feeder = files.file.iter().filter(|file| file.package() == "feeder");
    for message in feeder.flat_map(|file| &file.message_type) {
        for field in &message.field {
            let path = format!("feeder.{}.{}", message.name(), field.name());
            let attribute = format!(
                "#[serde(rename = \"{}\", skip_serializing_if = \"crate::json::is_default\")]",
                field.name()
            );
            config = config.field_attribute(path, attribute);
        }
    }
    config.compile_fds(files)?;
    test_client()
}

/// The client that tests ask with, from definitions that share nothing with ours.
fn test_client() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=tests/client");
    let directory = Path::new(&std::env::var("OUT_DIR")?).join("client");
    std::fs::create_dir_all(&directory)?;
    let files = ["feeder.proto", "policy.proto", "state.proto"];
    tonic_prost_build::configure()
        .build_server(false)
        .btree_map(".")
        .out_dir(directory)
        .compile_fds(protox::compile(files, ["tests/client"])?)?;
    Ok(())
}
