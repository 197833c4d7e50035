// SPDX-License-Identifier: Apache-2.0
//! `gorget sysdump` of a machine that is made here.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "runs the binary")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

#[test]
fn a_secret_that_was_planted_everywhere_is_not_in_the_archive() {
    const SECRET: &str = "hunter2-a-planted-secret";
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    let policy = format!("metadata: {{name: p}}\n# token={SECRET}\n");
    write(
        "etc/gorget/gorget.yaml",
        &format!(
            "cluster: shop\notlp:\n  headers: {{authorization: Bearer {SECRET}}}\n  endpoint: https://a:{SECRET}@b\npassword: \"{SECRET}\"\n"
        ),
    );
    write("etc/gorget/policies/p.yaml", &policy);
    write(
        "var/lib/gorget/policies/q.json",
        &format!("{{\"apiKey\": \"{SECRET}\"}}"),
    );
    write(
        "proc/cmdline",
        &format!("root=/dev/vda rd.luks.password={SECRET}\n"),
    );
    write("sys/kernel/security/lsm", "capability,bpf\n");
    let file = root.path().join("dump.tar.gz");
    let dump = || {
        let (file, root) = (file.to_str().unwrap(), root.path().to_str().unwrap());
        Command::new(env!("CARGO_BIN_EXE_gorget"))
            .args(["sysdump", "--only-read", "--file", file, "--root", root])
            .args(["--socket", "/nowhere/gorget.sock"])
            .output()
            .unwrap()
    };
    let output = dump();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("not in it: what the agent says"), "{said}");
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut names = Vec::new();
    let packed = flate2::read::GzDecoder::new(fs::File::open(&file).unwrap());
    let mut archive = tar::Archive::new(packed);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut entry, &mut text).unwrap();
        let name = entry.path().unwrap().display().to_string();
        assert!(!text.contains(SECRET), "{name}: {text}");
        if name.ends_with("gorget.yaml") {
            assert!(text.contains("cluster: shop"), "{text}");
        }
        names.push(name);
    }
    for name in [
        "version.json",
        "probe.txt",
        "probe.json",
        "kernel/lsm",
        "kernel/cmdline",
        "configuration/gorget.yaml",
        "policies/directory/p.yaml",
        "policies/applied/q.json",
        "missing.txt",
    ] {
        let name = format!("gorget-sysdump/{name}");
        assert!(names.contains(&name), "{name}: {names:?}");
    }
    // What is there is never overwritten.
    assert_eq!(dump().status.code(), Some(1));
}
