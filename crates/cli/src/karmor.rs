// SPDX-License-Identifier: Apache-2.0
//! Called as `karmor`: KubeArmor's command line, rewritten into ours.
//!
//! COMPAT: which words are understood is in docs/compat.md. What karmor does besides, and what would
//! mean something else here, is refused and named: a script must not believe that it was done.

use std::ffi::OsString;
use std::path::Path;

/// The name under which it is this command line.
const NAME: &str = "karmor";
/// Where karmor looks for the agent when no `--gRPC` says so.
pub(crate) const SERVICE: &str = "KUBEARMOR_SERVICE";
const DEFAULT_SERVICE: &str = "localhost:32767";

/// Whether this is the name that the program was called by.
pub(crate) fn is_called(name: &OsString) -> bool {
    Path::new(name).file_name().is_some_and(|name| name == NAME)
}

/// Our words for karmor's. `service` is what the environment says.
///
/// # Errors
///
/// What is not understood.
pub(crate) fn translated(words: &[String], service: Option<&str>) -> Result<Vec<String>, String> {
    let mut words = words.iter().map(String::as_str);
    let first = words.next().unwrap_or("--help");
    let rest: Vec<&str> = words.collect();
    match (first, rest.as_slice()) {
        ("install", rest) => install(rest),
        ("logs", rest) => logs(rest, service),
        ("probe", rest) => probe(rest),
        ("profile", rest) => profile(rest, service),
        ("recommend", rest) => recommend(rest),
        ("uninstall", rest) => uninstall(rest),
        ("vm", ["policy", verb @ ("add" | "delete"), rest @ ..]) => policy(verb, rest, service),
        ("version", _) => Ok(vec!["version".to_owned()]),
        ("completion", rest) => Ok([&["completion"], rest]
            .concat()
            .into_iter()
            .map(str::to_owned)
            .collect()),
        ("help" | "--help" | "-h", _) => Ok(vec!["--help".to_owned()]),
        (other, _) => Err(format!(
            "`karmor {other}` is not understood; docs/compat.md lists what is, `gorget --help` what \
             else there is"
        )),
    }
}

/// A flag and its value, which may be written `--flag=value`, and the words after it.
struct Words<'a> {
    rest: std::slice::Iter<'a, &'a str>,
}

impl<'a> Words<'a> {
    /// The next word; of a flag with a value in the same word, both.
    fn next(&mut self) -> Option<(&'a str, Option<&'a str>)> {
        let word: &'a str = self.rest.next()?;
        match word.split_once('=') {
            Some((flag, value)) if flag.starts_with('-') => Some((flag, Some(value))),
            Some(_) | None => Some((word, None)),
        }
    }

    fn value(&mut self, flag: &str, written: Option<&'a str>) -> Result<&'a str, String> {
        let value = written.or_else(|| self.rest.next().copied());
        value.ok_or_else(|| format!("`{flag}` has no value"))
    }
}

fn logs(rest: &[&str], service: Option<&str>) -> Result<Vec<String>, String> {
    let mut words = Words { rest: rest.iter() };
    let mut ours = vec!["logs".to_owned()];
    let mut address = service.unwrap_or(DEFAULT_SERVICE).to_owned();
    let mut sorts = "alerts";
    while let Some((flag, written)) = words.next() {
        // karmor's expressions ignore case, but for these two.
        let field = match flag {
            "--namespace" | "-n" => Some(("--namespace", "(?i)")),
            "--operation" => Some(("--operation", "(?i)")),
            "--container" => Some(("--container", "(?i)")),
            "--pod" => Some(("--pod", "(?i)")),
            "--resource" => Some(("--resource", "")),
            "--source" => Some(("--source", "")),
            _ => None,
        };
        match (flag, field) {
            (_, Some((name, how))) => {
                let value = words.value(flag, written)?;
                ours.push(format!("{name}=~{how}{value}"));
            }
            ("--gRPC", None) => address = words.value(flag, written)?.to_owned(),
            ("--json", None) => ours.push("--output=json".to_owned()),
            ("--output" | "-o", None) => match words.value(flag, written)? {
                "text" => {}
                "json" => ours.push("--output=json".to_owned()),
                other => {
                    return Err(format!(
                        "`--output {other}` is not understood: `text`, `json`"
                    ));
                }
            },
            ("--logFilter", None) => {
                sorts = match words.value(flag, written)? {
                    "policy" => "alerts",
                    "system" => "logs",
                    "all" => "alerts,logs",
                    other => {
                        return Err(format!(
                            "`--logFilter {other}` is none of `all`, `policy`, `system`"
                        ));
                    }
                }
            }
            ("--limit", None) => {
                // 0 is no limit there.
                let value = words.value(flag, written)?;
                if value != "0" {
                    ours.push(format!("--limit={value}"));
                }
            }
            (other, None) => {
                return Err(format!("`{other}` is not understood after `karmor logs`"));
            }
        }
    }
    ours.push(format!("--agent={address}"));
    ours.push(format!("--type={sorts}"));
    Ok(ours)
}

fn probe(rest: &[&str]) -> Result<Vec<String>, String> {
    let mut words = Words { rest: rest.iter() };
    let mut ours = vec!["probe".to_owned()];
    while let Some((flag, written)) = words.next() {
        match flag {
            "--format" | "-f" => match words.value(flag, written)? {
                "text" => {}
                "json" => ours.push("--output=json".to_owned()),
                "no-color" => ours.push("--color=never".to_owned()),
                other => {
                    return Err(format!(
                        "`--format {other}` is none of `text`, `json`, `no-color`"
                    ));
                }
            },
            other => return Err(format!("`{other}` is not understood after `karmor probe`")),
        }
    }
    Ok(ours)
}

fn profile(rest: &[&str], service: Option<&str>) -> Result<Vec<String>, String> {
    let mut words = Words { rest: rest.iter() };
    let mut ours = vec!["profile".to_owned()];
    let mut address = service.unwrap_or(DEFAULT_SERVICE).to_owned();
    while let Some((flag, written)) = words.next() {
        let field = match flag {
            "--gRPC" => {
                words.value(flag, written)?.clone_into(&mut address);
                continue;
            }
            "--namespace" | "-n" => "--namespace",
            "--pod" => "--pod",
            "--container" | "-c" => "--container",
            other => {
                return Err(format!(
                    "`{other}` is not understood after `karmor profile`"
                ));
            }
        };
        // Nothing is everything there.
        match words.value(flag, written)? {
            "" => {}
            value => ours.push(format!("{field}={value}")),
        }
    }
    ours.push(format!("--agent={address}"));
    Ok(ours)
}

/// What would become of KubeArmor's images and settings nobody would guess, so they are refused.
fn install(rest: &[&str]) -> Result<Vec<String>, String> {
    let mut words = Words { rest: rest.iter() };
    let mut ours = vec!["install".to_owned()];
    while let Some((flag, written)) = words.next() {
        match (flag, written) {
            ("--registry" | "-r", _) => {
                let value = words.value(flag, written)?;
                ours.push(format!("--image-registry={value}"));
            }
            // It always waits.
            ("--verify", None | Some("true")) => {}
            (other, _) => {
                return Err(format!(
                    "`{other}` is not understood after `karmor install`; `gorget install --help` shows \
                     what there is"
                ));
            }
        }
    }
    Ok(ours)
}

fn uninstall(rest: &[&str]) -> Result<Vec<String>, String> {
    let mut words = Words { rest: rest.iter() };
    let mut ours = vec!["uninstall".to_owned()];
    while let Some((flag, written)) = words.next() {
        match (flag, written) {
            // With the kinds, and all policies, there as well.
            ("--force", None | Some("true")) => ours.push("--crds".to_owned()),
            ("--force", Some("false")) | ("--verify", None | Some("true")) => {}
            (other, _) => {
                return Err(format!(
                    "`{other}` is not understood after `karmor uninstall`"
                ));
            }
        }
    }
    Ok(ours)
}

/// What it finds out there about images and workloads nobody finds out here, so naming one is refused.
fn recommend(rest: &[&str]) -> Result<Vec<String>, String> {
    let mut words = Words { rest: rest.iter() };
    let mut ours = vec!["recommend".to_owned()];
    let mut directory = "out";
    while let Some((flag, written)) = words.next() {
        match flag {
            "--namespace" | "-n" => {
                ours.push(format!("--namespace={}", words.value(flag, written)?));
            }
            "--labels" | "-l" => {
                // A colon is as good as an equals sign there.
                let pairs = words.value(flag, written)?.split(',');
                let pairs = pairs.map(|pair| {
                    if pair.contains('=') {
                        pair.to_owned()
                    } else {
                        pair.replacen(':', "=", 1)
                    }
                });
                ours.extend(pairs.map(|pair| format!("--labels={pair}")));
            }
            "--tag" | "-t" => ours.push(format!("--tag={}", words.value(flag, written)?)),
            "--outdir" | "-o" => directory = words.value(flag, written)?,
            other => {
                return Err(format!(
                    "`{other}` is not understood after `karmor recommend`"
                ));
            }
        }
    }
    ours.push(format!("--write-to={directory}"));
    Ok(ours)
}

fn policy(verb: &str, rest: &[&str], service: Option<&str>) -> Result<Vec<String>, String> {
    let mut words = Words { rest: rest.iter() };
    let mut ours = ["vm", "policy", verb].map(str::to_owned).to_vec();
    // Without an address, the socket, on which policies can always be changed.
    let mut address = service.map(str::to_owned);
    while let Some((flag, written)) = words.next() {
        match flag {
            "--gRPC" => address = Some(words.value(flag, written)?.to_owned()),
            other if other.starts_with('-') => {
                return Err(format!(
                    "`{other}` is not understood after `karmor vm policy {verb}`"
                ));
            }
            file => ours.push(file.to_owned()),
        }
    }
    ours.extend(address.map(|address| format!("--agent={address}")));
    Ok(ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ours(line: &str) -> Result<String, String> {
        let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
        translated(&words, None).map(|words| words.join(" "))
    }

    #[test]
    fn karmors_words_become_ours() {
        assert_eq!(
            ours("logs --gRPC :32767 --logFilter=all --json -n shop --limit 0").unwrap(),
            "logs --output=json --namespace=~(?i)shop --agent=:32767 --type=alerts,logs"
        );
        assert_eq!(
            ours("logs").unwrap(),
            "logs --agent=localhost:32767 --type=alerts"
        );
        assert_eq!(
            ours("vm policy add a.yaml").unwrap(),
            "vm policy add a.yaml"
        );
        assert_eq!(
            ours("vm policy delete --gRPC h:1 a.yaml").unwrap(),
            "vm policy delete a.yaml --agent=h:1"
        );
        assert_eq!(ours("probe -f json").unwrap(), "probe --output=json");
        assert_eq!(
            ours("profile -n shop -c=web --gRPC :1").unwrap(),
            "profile --namespace=shop --container=web --agent=:1"
        );
        assert_eq!(
            ours("recommend -n shop -l app=web,tier:1 -t escape").unwrap(),
            "recommend --namespace=shop --labels=app=web --labels=tier=1 --tag=escape --write-to=out"
        );
        assert_eq!(ours("recommend -o d").unwrap(), "recommend --write-to=d");
        assert_eq!(ours("version").unwrap(), "version");
        assert_eq!(ours("install").unwrap(), "install");
        assert_eq!(
            ours("install --verify -r registry.example/a").unwrap(),
            "install --image-registry=registry.example/a"
        );
        assert_eq!(ours("uninstall --force").unwrap(), "uninstall --crds");
        assert_eq!(ours("uninstall --force=false").unwrap(), "uninstall");
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for line in [
            "install --nonk8s",
            "install --block all",
            "uninstall -n kubearmor",
            "logs --labels a=b",
            "logs --gRPC",
            "probe --full",
            "profile --save",
            "recommend -i nginx",
            "recommend update",
            "vm list",
            "vm policy add --tls a.yaml",
        ] {
            let error = ours(line).unwrap_err();
            assert!(error.contains('`'), "{error}");
        }
    }
}
