// SPDX-License-Identifier: Apache-2.0
//! Prints what this kernel can do for Gorget, as TOML for `crates/bpf/kernels.toml`.
//!
//! `cargo xtask kernel-support` runs it in the virtual machine, and so do the tests, which compare
//! what it prints with that file. The whole of what the verifier says about a program that it refuses
//! goes to standard error. Loads every program and attaches none.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing is what it does"
)]

use gorget_bpf::{Outcome, Report, Tried, report};
use std::error::Error;
use std::process::ExitCode;

fn main() -> ExitCode {
    match report() {
        Ok(report) => {
            print(&report);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("  because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn print(report: &Report) {
    println!("release = {:?}", report.release);
    println!("compiler = {:?}", report.compiler);
    println!("\n[features]");
    for feature in &report.features {
        let works = match &feature.works {
            Ok(works) => *works,
            Err(error) => {
                eprintln!("{}: {error}", feature.name);
                false
            }
        };
        println!(
            "{:?} = {{ works = {works}, since = {:?}, used_for = {:?} }}",
            feature.name, feature.since, feature.used_for
        );
    }
    println!("\n[programs]");
    print_programs(&report.programs);
    println!("\n[audit_only]");
    print_programs(&report.audit_only);
    println!("\n[logs]");
    print_programs(&report.logs);
}

fn print_programs(programs: &[Tried]) {
    for tried in programs {
        let (name, hook) = (&tried.name, &tried.hook);
        match &tried.outcome {
            Outcome::Works { instructions } => {
                println!("{name} = {{ hook = {hook:?}, instructions = {instructions} }}");
            }
            Outcome::LeftOut { instead } => {
                println!("{name} = {{ hook = {hook:?}, instead = {instead:?} }}");
            }
            Outcome::Refused(refusal) => {
                eprintln!("{}", refusal.log());
                let why = refusal.to_string();
                println!("{name} = {{ hook = {hook:?}, refused = {why:?} }}");
            }
        }
    }
}
