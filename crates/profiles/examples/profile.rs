// SPDX-License-Identifier: Apache-2.0
//! Prints the profile of the workload of a test file (`conformance/`), to look at it or to try it with
//! `apparmor_parser --skip-kernel-load`.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a tool for people"
)]

use gorget_engine::Scenario;
use gorget_model::Mode;
use gorget_profiles::{Confined, profile};
use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in std::env::args().skip(1) {
        let beside = Path::new(&file).parent().unwrap_or_else(|| Path::new(""));
        let mut read =
            |policies: &str| std::fs::read_to_string(beside.join(policies)).map_err(Into::into);
        let scenario = Scenario::parse_with(&file, &std::fs::read_to_string(&file)?, &mut read)?;
        let written = profile(&Confined {
            name: "kubearmor_web",
            set: &scenario.set,
            mode: Mode::Enforced,
            entry: None,
            parts: &[],
            log: true,
        })?;
        print!("{}", written.text);
        for limit in written.limits {
            eprintln!("{limit}");
        }
    }
    Ok(())
}
