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

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for file in std::env::args().skip(1) {
        let scenario = Scenario::parse(&file, &std::fs::read_to_string(&file)?)?;
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
