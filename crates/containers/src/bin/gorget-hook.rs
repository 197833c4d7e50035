// SPDX-License-Identifier: Apache-2.0
//! `gorget-hook`: hands over to the library and turns the result into an exit code.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    gorget_containers::hook::main(std::env::args_os())
}
