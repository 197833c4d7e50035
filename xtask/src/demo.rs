// SPDX-License-Identifier: Apache-2.0
//! `cargo xtask demo`: builds, boots the virtual machine, and runs `vmtest/guest/demo.sh` in it.
//!
//! The script checks each of its steps, so its exit code says whether the demonstration was one.

use crate::vm::{self, Job, Vm};
use crate::{binaries, pass_on, print, tools};
use anyhow::Result;
use std::path::PathBuf;

pub(crate) fn run() -> Result<u8> {
    tools::for_building()?;
    println!("building gorgetd and gorget (minutes the first time) ...");
    let mut files = binaries::build(binaries::Tests::None)?.programs();
    files.push(("demo.sh".to_owned(), PathBuf::from("vmtest/guest/demo.sh")));
    println!("booting the virtual machine ...");
    let job = Job {
        files,
        command: "sh demo.sh".to_owned(),
        output: None,
    };
    pass_on(vm::run(&Vm::default(), &job, &mut print)?)
}
