// SPDX-License-Identifier: Apache-2.0
//! Building the programs that run in the virtual machine.
//!
//! They are linked statically, so that they run in the guest and in containers
//! whatever C library these have. The static build has a target directory part
//! of its own (`--target`), so it does not disturb the ordinary build.

use crate::command;
use anyhow::{Context as _, Result, bail};
use cargo_metadata::{Artifact, Message, MetadataCommand, Package, TargetKind};
use std::env;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::Stdio;

/// Where the static programs are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binaries {
    pub(crate) gorgetd: PathBuf,
    pub(crate) gorget: PathBuf,
    /// Run by container runtimes.
    pub(crate) hook: PathBuf,
    /// Performs operations inside workloads, for the tests.
    pub(crate) actor: PathBuf,
    /// What only some tests need, by name.
    pub(crate) more: Vec<(String, PathBuf)>,
    /// The integration tests of `vmtest`, empty unless asked for.
    pub(crate) tests: Vec<PathBuf>,
}

impl Binaries {
    /// The programs and their names in a job.
    pub(crate) fn programs(&self) -> Vec<(String, PathBuf)> {
        let mut programs = vec![
            ("gorgetd".to_owned(), self.gorgetd.clone()),
            ("gorget".to_owned(), self.gorget.clone()),
            ("gorget-hook".to_owned(), self.hook.clone()),
            ("actor".to_owned(), self.actor.clone()),
        ];
        programs.extend(self.more.clone());
        programs
    }
}

/// The target triple of static builds and the environment variable that makes them static.
pub(crate) fn static_env() -> (String, (String, String)) {
    let triple = format!("{}-unknown-linux-gnu", env::consts::ARCH);
    let variable = triple.to_uppercase().replace('-', "_");
    let flags = (
        format!("CARGO_TARGET_{variable}_RUSTFLAGS"),
        "-C target-feature=+crt-static".to_owned(),
    );
    (triple, flags)
}

/// What runs in the guest is optimised: emulation makes everything slow.
const GUEST: [&str; 2] = ["--profile", "guest"];

/// The package with the tests.
const TESTS: &str = "gorget-vmtest";

/// Which of the integration tests of `vmtest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tests {
    None,
    /// Those that need a feature of the crate's: a cluster.
    InCluster,
    /// All others.
    InGuest,
}

/// The feature that tests in a cluster need, and what only they use.
const CLUSTER: &str = "cluster";

/// What cargo is told to build these tests.
fn selecting(tests: Tests) -> Result<Vec<String>> {
    let metadata = MetadataCommand::new()
        .no_deps()
        .exec()
        .context("asking cargo")?;
    let is_ours = |package: &&Package| package.name.as_str() == TESTS;
    let targets = metadata.packages.iter().filter(is_ours);
    let targets = targets.flat_map(|package| &package.targets);
    let mut arguments = Vec::new();
    for target in targets.filter(|target| target.kind.contains(&TargetKind::Test)) {
        let in_cluster = target.required_features.iter().any(|it| it == CLUSTER);
        if in_cluster == (tests == Tests::InCluster) {
            arguments.extend(["--test".to_owned(), target.name.clone()]);
        }
    }
    if tests == Tests::InCluster {
        arguments.extend(["--features".to_owned(), CLUSTER.to_owned()]);
    }
    Ok(arguments)
}

/// The program that says what a kernel can do.
const REPORT: &str = "kernel_report";
const REPORT_EXAMPLE: [&str; 4] = ["-p", "gorget-bpf", "--example", REPORT];

/// Builds the agent, the command line tool, the hook and the actor, and tests. All at once: another
/// selection of packages has other features of what they share, and that would be compiled again.
pub(crate) fn build(tests: Tests) -> Result<Binaries> {
    let (selected, more, extra): (_, _, &[&str]) = match tests {
        Tests::None => (Vec::new(), None, &[]),
        Tests::InCluster => {
            let operator = "gorget-operator";
            (selecting(tests)?, Some(operator), &["-p", operator])
        }
        Tests::InGuest => (selecting(tests)?, Some(REPORT), &REPORT_EXAMPLE),
    };
    let packages = ["gorget-agent", "gorget-cli", "gorget-containers", TESTS];
    let mut arguments: Vec<_> = packages.iter().flat_map(|name| ["-p", name]).collect();
    arguments.extend(GUEST);
    arguments.push("--bins");
    arguments.extend(extra);
    arguments.extend(selected.iter().map(String::as_str));
    let artifacts = cargo("build", &arguments)?;
    let more = more.into_iter().map(|name| {
        let path = binary(&artifacts, name)?;
        Ok((name.to_owned(), path))
    });
    let more = more.collect::<Result<_>>()?;
    let tests = executables(&artifacts);
    Ok(Binaries {
        gorgetd: binary(&artifacts, "gorgetd")?,
        gorget: binary(&artifacts, "gorget")?,
        hook: binary(&artifacts, "gorget-hook")?,
        actor: binary(&artifacts, "actor")?,
        more,
        tests,
    })
}

/// Builds the program that says what a kernel can do, and nothing else.
pub(crate) fn kernel_report() -> Result<PathBuf> {
    let artifacts = cargo("build", &[&REPORT_EXAMPLE[..], &GUEST].concat())?;
    binary(&artifacts, REPORT)
}

/// Builds the program that fills a node with workloads.
pub(crate) fn node() -> Result<PathBuf> {
    let name = "node";
    let example = ["-p", "gorget-bpf", "--release", "--example", name];
    binary(&cargo("build", &example)?, name)
}

/// Builds what is measured and the program that measures, as they are released, and gives them names
/// in a job.
pub(crate) fn measured() -> Result<Vec<(String, PathBuf)>> {
    let packages = ["-p", "gorget-agent", "-p", "gorget-vmtest"];
    let artifacts = cargo("build", &[&packages[..], &["--bins", "--release"]].concat())?;
    ["gorgetd", "bench"]
        .into_iter()
        .map(|name| Ok((name.to_owned(), binary(&artifacts, name)?)))
        .collect()
}

fn cargo(subcommand: &str, arguments: &[&str]) -> Result<Vec<Artifact>> {
    let (triple, (variable, flags)) = static_env();
    let mut child = command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .arg(subcommand)
        .args(arguments)
        .args([
            "--target",
            &triple,
            "--message-format=json-render-diagnostics",
        ])
        .env(variable, flags)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run `cargo`")?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let mut artifacts = Vec::new();
    for message in Message::parse_stream(BufReader::new(stdout)) {
        if let Message::CompilerArtifact(artifact) =
            message.context("cannot read cargo's output")?
        {
            artifacts.push(artifact);
        }
    }
    let status = child.wait().context("cannot wait for `cargo`")?;
    if !status.success() {
        bail!("`cargo {subcommand}` failed ({status})");
    }
    Ok(artifacts)
}

fn binary(artifacts: &[Artifact], name: &str) -> Result<PathBuf> {
    artifacts
        .iter()
        .filter(|artifact| artifact.target.name == name)
        .find_map(|artifact| artifact.executable.clone())
        .map(PathBuf::from)
        .with_context(|| format!("cargo built no program `{name}`"))
}

fn executables(artifacts: &[Artifact]) -> Vec<PathBuf> {
    artifacts
        .iter()
        .filter(|artifact| artifact.target.kind.contains(&TargetKind::Test))
        // Another package may have a test of that name.
        .filter(|artifact| artifact.package_id.repr.contains(TESTS))
        .filter_map(|artifact| artifact.executable.clone())
        .map(PathBuf::from)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact(name: &str, kind: &str, executable: Option<&str>) -> Artifact {
        artifact_of("path+file:///p#gorget-vmtest@0.1.0", name, kind, executable)
    }

    fn artifact_of(package: &str, name: &str, kind: &str, executable: Option<&str>) -> Artifact {
        serde_json::from_value(serde_json::json!({
            "package_id": package, "manifest_path": "/p/Cargo.toml", "features": [], "filenames": [],
            "fresh": true, "executable": executable,
            "profile": {"opt_level": "0", "debuginfo": 0, "debug_assertions": true,
                "overflow_checks": true, "test": kind == "test"},
            "target": {"name": name, "kind": [kind], "crate_types": ["bin"],
                "src_path": "/p/src/main.rs", "edition": "2024"},
        }))
        .unwrap()
    }

    #[test]
    fn only_integration_tests_are_collected() {
        let built = [
            artifact("actor", "bin", Some("/t/actor")),
            artifact("agent", "test", Some("/t/agent-1")),
            artifact_of("path+file:///c#0.1.0", "agent", "test", Some("/t/agent-2")),
            artifact("model", "lib", None),
        ];
        assert_eq!(executables(&built), [PathBuf::from("/t/agent-1")]);
    }

    #[test]
    fn a_program_is_found_by_its_name() {
        let built = [
            artifact("gorget", "lib", None),
            artifact("gorget", "bin", Some("/t/gorget")),
        ];
        assert_eq!(
            binary(&built, "gorget").unwrap(),
            PathBuf::from("/t/gorget")
        );
        let error = binary(&built, "gorgetd").unwrap_err();
        assert_eq!(error.to_string(), "cargo built no program `gorgetd`");
    }

    #[test]
    fn the_static_flag_is_limited_to_the_target() {
        let (triple, (variable, flags)) = static_env();
        assert_eq!(
            triple.to_uppercase().replace('-', "_").len() + 23,
            variable.len()
        );
        assert_eq!(flags, "-C target-feature=+crt-static");
    }
}
