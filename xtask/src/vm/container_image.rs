// SPDX-License-Identifier: Apache-2.0
//! The container image of the demonstration, as an archive that `ctr image import` reads.
//!
//! Its root directory consists of programs that the guest has anyway, with the
//! libraries they need and Debian's merged `/usr`. They are separate programs on
//! purpose: of a multi-call binary the kernel sees only one path.

use super::cache;
use crate::command;
use anyhow::{Context as _, Result};
use serde_json::json;
use std::fs;
use std::path::Path;

/// This file; changing how the archive is made makes another virtual machine image.
pub(crate) const RECIPE: &str = include_str!("container_image.rs");

const NAME: &str = "docker.io/library/gorget-demo:1";

const PROGRAMS: &[&str] = &[
    "cat", "cp", "dash", "head", "id", "ls", "mkdir", "mv", "sleep", "touch", "true",
];

/// Run by a shell as root, in the directory of the layer, with the guest's root as `$1` and the
/// programs after it. `ldd` prints libraries as paths of the guest.
const LAYER: &str = r#"
root=$1; shift
mkdir -p usr/bin usr/lib usr/lib64 usr/sbin proc sys dev run etc tmp root
chmod 1777 tmp
for name in bin lib lib64 sbin; do ln -s "usr/$name" "$name"; done
for program; do
    cp "$root/usr/bin/$program" usr/bin/
    for library in $(chroot "$root" ldd "/usr/bin/$program" | grep -o '/[^ ]*'); do
        library=${library#/usr}
        mkdir -p "usr${library%/*}"
        cp -L "$root/usr$library" "usr$library"
    done
done
ln -s dash usr/bin/sh
printf 'root:x:0:0:root:/root:/bin/sh\n' >etc/passwd
printf 'root:x:0:\n' >etc/group
token=run/secrets/kubernetes.io/serviceaccount
mkdir -p "$token"
printf 'demo-token\n' >"$token/token"
"#;

/// Writes `demo-image.tar` to the directory `target`; `layer` is a directory it may use.
pub(crate) fn write(root: &Path, layer: &Path, target: &Path) -> Result<()> {
    fs::create_dir(layer)?;
    command::run(
        command::as_root("sh")?
            .args(["-euc", LAYER, "sh"])
            .arg(root)
            .args(PROGRAMS)
            .current_dir(layer),
    )
    .context("cannot make the demonstration's container image")?;

    fs::create_dir_all(target)?;
    let archive = tempfile::tempdir_in(target)?;
    let content = archive.path().join("layer.tar");
    command::run(
        command::as_root("tar")?
            .args(["--owner=0", "--group=0", "--mtime=@0", "--sort=name", "-cf"])
            .arg(&content)
            .arg("-C")
            .arg(layer)
            .arg("."),
    )?;
    let (config, manifest) = documents(&cache::hex_digest(&fs::read(&content)?))?;
    fs::write(archive.path().join("config.json"), config)?;
    fs::write(archive.path().join("manifest.json"), manifest)?;
    command::run(
        command::new("tar")
            .arg("-cf")
            .arg(target.join("demo-image.tar"))
            .arg("-C")
            .arg(archive.path())
            .args(["config.json", "layer.tar", "manifest.json"]),
    )
}

/// The image's configuration, and the list of what is in the archive.
fn documents(layer_digest: &str) -> Result<(String, String)> {
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer_digest}")]},
        "history": [{"created_by": "gorget"}],
    });
    let manifest = json!([
        {"Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"]},
    ]);
    Ok((
        serde_json::to_string(&config)?,
        serde_json::to_string(&manifest)?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_names_the_layer_by_its_digest() {
        let (config, manifest) = documents("abc").unwrap();
        assert!(config.contains(r#""diff_ids":["sha256:abc"]"#), "{config}");
        assert!(
            manifest.contains("docker.io/library/gorget-demo:1"),
            "{manifest}"
        );
    }
}
