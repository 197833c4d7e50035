// SPDX-License-Identifier: Apache-2.0
//! `gorget-operator`: parses the command line, hands over to the library, turns the result into an exit code.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    gorget_operator::run(&gorget_operator::Args::parse())
}
