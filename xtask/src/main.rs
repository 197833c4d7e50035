// SPDX-License-Identifier: Apache-2.0
//! Every task of the project that is not plain cargo: `cargo xtask ...`.
//!
//! This file has the command line; each task has a module. Tasks install what
//! they need from the host's packages and say so. A task that fails says why in
//! its last line and ends with 101, so that it can be told from a job in the
//! virtual machine, whose exit code `vm` and `demo` pass on.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tasks talk to the person who started them"
)]

mod bench;
mod binaries;
mod changelog;
mod chart;
mod cluster;
mod command;
mod demo;
mod go;
mod kernel_support;
mod packages;
mod test;
mod tidy;
mod tools;
mod vm;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use test::Scope;
use vm::{Job, Kernel, Line, Network, Suite, Vm};

/// The exit code when the task itself fails.
const FAILED: u8 = 101;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "Tasks of the Gorget project")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Show a policy enforced on a container, in a throw-away virtual machine
    Demo,
    /// Run everything there is: formats, lints, tests, kernel harness, virtual machine
    Test {
        /// Leave out the virtual machine
        #[arg(long)]
        quick: bool,
        /// Boot every kernel of the matrix, and not just two
        #[arg(long, conflicts_with = "quick")]
        all_kernels: bool,
        /// Only the tests of the virtual machine, with this kernel
        #[arg(long, value_enum, conflicts_with_all = ["quick", "all_kernels"])]
        kernel: Option<Kernel>,
        /// Only the tests in a cluster of real components, with one node in the virtual machine
        #[arg(long, conflicts_with_all = ["quick", "all_kernels", "kernel"])]
        cluster: bool,
    },
    /// Measure what enforcement costs, in the virtual machine, and write it to docs
    Bench {
        #[command(subcommand)]
        what: Option<Bench>,
    },
    /// Run a command in a throw-away virtual machine, as root, and end with its exit code
    Vm(VmArguments),
    /// Start a Kubernetes control plane here and a node in the virtual machine, until interrupted
    Cluster(ClusterArguments),
    /// Find out what works on which kernel, and write it down
    KernelSupport {
        /// Boot nothing: write the document again from what was found before
        #[arg(long)]
        text_only: bool,
    },
    /// Render the chart with Helm: write deploy/manifests again
    Manifests {
        /// Write nothing: check the chart, and that the manifests are what it renders
        #[arg(long)]
        check: bool,
    },
    /// Check layers, licences, file lengths and other promises of the layout
    Tidy,
    /// Assemble the changelog fragments under a heading for this version
    Changelog {
        /// Such as 0.2.0
        version: String,
    },
}

#[derive(Debug, Subcommand)]
enum Bench {
    /// Compiling policies: time and memory for up to 10,000 rules
    Compile,
    /// Thousands of workloads on a node: memory, in the virtual machine
    Node,
}

#[derive(Debug, Args)]
struct VmArguments {
    /// Which kernel to boot
    #[arg(long, value_enum, default_value_t = Kernel::V6_1)]
    kernel: Kernel,
    /// Debian release of everything else
    #[arg(long, value_enum, default_value_t = Suite::Bookworm)]
    image: Suite,
    /// Memory of the guest
    #[arg(long, default_value = "1G")]
    memory: String,
    /// Count instructions instead of time (one processor, slow, repeatable)
    #[arg(long)]
    icount: bool,
    /// More kernel arguments
    #[arg(long, default_value = "", allow_hyphen_values = true)]
    append: String,
    /// End with a failure if the guest runs longer
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    timeout: u64,
    /// Where to put what the command leaves in /out
    #[arg(long, value_name = "DIR")]
    keep_output: Option<PathBuf>,
    /// A file or directory to put into /job, besides `gorgetd`, `gorget` and `actor`
    #[arg(long, value_name = "PATH")]
    with: Vec<PathBuf>,
    /// Give the guest a network card, behind which this machine's loopback is 10.0.2.2
    #[arg(long)]
    network: bool,
    /// Neither build nor put the project's programs into /job
    #[arg(long)]
    no_build: bool,
    /// Run by a shell in /job; without it, the terminal gets a shell
    #[arg(last = true)]
    command: Vec<String>,
}

#[derive(Debug, Args)]
struct ClusterArguments {
    /// Which kernel the node boots
    #[arg(long, value_enum, default_value_t = cluster::KERNEL)]
    kernel: Kernel,
    /// Debian release of everything else: containerd 1.7 with NRI, or 1.6 without (bookworm)
    #[arg(long, value_enum, default_value_t = cluster::USER_SPACE)]
    image: Suite,
    /// Memory of the node
    #[arg(long, default_value = cluster::MEMORY)]
    memory: String,
    /// Neither build nor put the project's programs into the node's /job
    #[arg(long)]
    no_build: bool,
    /// Run here, with `KUBECONFIG` set, when the node is ready; the cluster ends with it
    #[arg(last = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = std::env::set_current_dir(top())
        .context("cannot go to the top of the repository")
        .and_then(|()| match cli.task {
            Task::Demo => demo::run(),
            Task::Test {
                quick,
                all_kernels,
                kernel,
                cluster,
            } => test::run(match kernel {
                Some(kernel) => Scope::Kernel(kernel),
                None if cluster => Scope::Cluster,
                None if quick => Scope::Quick,
                None if all_kernels => Scope::AllKernels,
                None => Scope::Default,
            }),
            Task::Bench { what: None } => bench::enforcement(),
            Task::Bench {
                what: Some(Bench::Compile),
            } => bench::compile(),
            Task::Bench {
                what: Some(Bench::Node),
            } => bench::node(),
            Task::Vm(arguments) => run_vm(arguments),
            Task::Cluster(arguments) => run_cluster(arguments),
            Task::KernelSupport { text_only } => kernel_support::run(text_only),
            Task::Manifests { check: false } => chart::write(),
            Task::Manifests { check: true } => chart::check().map(|()| 0),
            Task::Tidy => tidy::run(),
            Task::Changelog { version } => changelog::run(&version),
        });
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// The top of the repository, wherever the task was called.
fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or_else(|| Path::new("."))
}

fn run_vm(arguments: VmArguments) -> Result<u8> {
    let mut files = Vec::new();
    for path in arguments.with {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            bail!("`{}` has no name to use in /job", path.display());
        };
        files.push((name.to_owned(), path));
    }
    if !arguments.no_build {
        tools::for_building()?;
        files.extend(binaries::build(binaries::Tests::None)?.programs());
    }
    let vm = Vm {
        kernel: arguments.kernel,
        user_space: arguments.image,
        memory: arguments.memory,
        icount: arguments.icount,
        append: arguments.append,
        timeout: Duration::from_secs(arguments.timeout),
        interactive: arguments.command.is_empty(),
        network: if arguments.network {
            Network::User
        } else {
            Network::None
        },
    };
    let job = Job {
        files,
        command: shell_text(&arguments.command),
        output: arguments.keep_output,
    };
    pass_on(vm::run(&vm, &job, &mut print)?)
}

fn run_cluster(arguments: ClusterArguments) -> Result<u8> {
    let files = if arguments.no_build {
        Vec::new()
    } else {
        tools::for_building()?;
        binaries::build(binaries::Tests::None)?.programs()
    };
    let node = Vm {
        kernel: arguments.kernel,
        user_space: arguments.image,
        memory: arguments.memory,
        ..Vm::default()
    };
    cluster::run(node, files, &arguments.command)
}

/// The exit code of a job, as the exit code of the task.
pub(crate) fn pass_on(outcome: vm::Outcome) -> Result<u8> {
    outcome.ending.map_err(anyhow::Error::msg)
}

pub(crate) fn print(line: Line<'_>) {
    match line {
        Line::Output(text) => println!("{text}"),
        Line::Kernel(text) => eprintln!("[kernel] {text}"),
    }
}

/// One argument is shell text; of several, each is a word, as in `cargo xtask vm -- ls -l "a b"`.
fn shell_text(words: &[String]) -> String {
    match words {
        [] => "exec bash -i".to_owned(),
        [text] => text.clone(),
        words => {
            let quoted = words
                .iter()
                .map(|word| format!("'{}'", word.replace('\'', r"'\''")));
            quoted.collect::<Vec<_>>().join(" ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn one_argument_is_shell_text_and_several_are_words() {
        let text = |words: &[&str]| {
            shell_text(
                &words
                    .iter()
                    .map(|word| (*word).to_owned())
                    .collect::<Vec<_>>(),
            )
        };
        assert_eq!(text(&["exit 7"]), "exit 7");
        assert_eq!(text(&["echo", "a b", "it's"]), r"'echo' 'a b' 'it'\''s'");
    }
}
