// SPDX-License-Identifier: Apache-2.0
//! The keys, certificates and kubeconfigs of a cluster, made on the spot with the `openssl` command.
//!
//! One authority signs everything, and its key stays in the cluster's directory. A kubeconfig names its
//! certificates by paths relative to itself, so the directory for the guest can be copied there whole.

use super::NODE;
use crate::command;
use crate::packages::{Tool, ensure};
use anyhow::Result;
use serde_json::json;
use std::fs;
use std::path::Path;

/// Where QEMU's user network puts the host.
pub(super) const HOST_OF_GUEST: &str = "10.0.2.2";

const OPENSSL: Tool = Tool {
    probe: "openssl",
    package: "openssl",
};

const AGENT: &str = "agent";
const FEED: &str = "feed";

/// A cluster does not live that long.
const DAYS: &str = "2";

/// Extensions; the names of the server are those by which the host and the guest reach it, and the
/// service's.
const CONFIG: &str = "
[req]
distinguished_name = name
[name]
[authority]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, digitalSignature
subjectKeyIdentifier = hash
[client]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
[server]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectAltName = IP:127.0.0.1, IP:10.0.2.2, IP:10.96.0.1, DNS:localhost, DNS:kubernetes.default.svc
[feed]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = DNS:gorget-agent
";

/// Writes everything to `directory`, and what the guest needs to its subdirectory `guest`.
pub(super) fn make(directory: &Path, port: u16) -> Result<()> {
    ensure(&[OPENSSL])?;
    let guest = directory.join("guest");
    fs::create_dir(&guest)?;
    fs::write(directory.join("openssl.cnf"), CONFIG)?;
    sign(
        directory,
        "ca",
        "/CN=gorget-test-cluster",
        "authority",
        false,
    )?;
    fs::copy(directory.join("ca.crt"), guest.join("ca.crt"))?;
    sign(
        directory,
        "api-server",
        "/CN=kube-apiserver",
        "server",
        true,
    )?;
    // Of agents, and of who asks them.
    sign(directory, FEED, "/CN=gorget-agent", FEED, true)?;
    copy_pair(directory, &guest, FEED)?;
    command::run(
        command::new("openssl")
            .args(["genrsa", "-out", "service-accounts.key", "2048"])
            .current_dir(directory),
    )?;
    // Who may do what is decided by the names in these certificates.
    let clients = [
        ("admin", "/O=system:masters/CN=admin".to_owned()),
        (
            "controller-manager",
            "/CN=system:kube-controller-manager".to_owned(),
        ),
        ("scheduler", "/CN=system:kube-scheduler".to_owned()),
        ("kubelet", format!("/O=system:nodes/CN=system:node:{NODE}")),
        // The name of the service account that the agent's pod has: it may do what that may.
        (
            AGENT,
            "/O=system:serviceaccounts/CN=system:serviceaccount:gorget:gorget-agent".to_owned(),
        ),
    ];
    for (name, subject) in clients {
        sign(directory, name, &subject, "client", true)?;
        fs::write(
            directory.join(format!("{name}.kubeconfig")),
            kubeconfig(name, "127.0.0.1", port),
        )?;
        if matches!(name, "admin" | "kubelet" | AGENT) {
            copy_pair(directory, &guest, name)?;
            fs::write(
                guest.join(format!("{name}.kubeconfig")),
                kubeconfig(name, HOST_OF_GUEST, port),
            )?;
        }
    }
    Ok(())
}

/// Copies a certificate and its key.
fn copy_pair(from: &Path, to: &Path, name: &str) -> Result<()> {
    for ending in ["crt", "key"] {
        let file = format!("{name}.{ending}");
        fs::copy(from.join(&file), to.join(&file))?;
    }
    Ok(())
}

/// Makes a key and a certificate, signed by the authority or by itself.
fn sign(
    directory: &Path,
    name: &str,
    subject: &str,
    extensions: &str,
    by_authority: bool,
) -> Result<()> {
    let mut openssl = command::new("openssl");
    openssl
        .args(["req", "-x509", "-config", "openssl.cnf", "-newkey", "ec"])
        .args([
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-noenc",
            "-days",
            DAYS,
        ])
        .args(["-subj", subject, "-extensions", extensions])
        .args(["-keyout", &format!("{name}.key")])
        .args(["-out", &format!("{name}.crt")])
        .current_dir(directory);
    if by_authority {
        openssl.args(["-CA", "ca.crt", "-CAkey", "ca.key"]);
    }
    command::run(&mut openssl)
}

/// JSON, which is YAML as well.
fn kubeconfig(user: &str, host: &str, port: u16) -> String {
    // The agent's is that of its pod, in which its settings are.
    let namespace = if user == AGENT { "gorget" } else { "default" };
    let context = json!({"cluster": "gorget", "user": user, "namespace": namespace});
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "gorget",
        "clusters": [{"name": "gorget", "cluster": {
            "server": format!("https://{host}:{port}"),
            "certificate-authority": "ca.crt",
        }}],
        "users": [{"name": user, "user": {
            "client-certificate": format!("{user}.crt"),
            "client-key": format!("{user}.key"),
        }}],
        "contexts": [{"name": "gorget", "context": context}],
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_gets_what_it_needs_and_not_the_key_of_the_authority() {
        let place = tempfile::tempdir().unwrap();
        make(place.path(), 6443).unwrap();
        let guest = place.path().join("guest");
        for name in ["admin", "agent", "kubelet"] {
            for ending in ["crt", "key", "kubeconfig"] {
                assert!(guest.join(format!("{name}.{ending}")).is_file(), "{name}");
            }
        }
        assert!(!guest.join("ca.key").exists());
        let text = fs::read_to_string(guest.join("kubelet.kubeconfig")).unwrap();
        assert!(text.contains("https://10.0.2.2:6443"), "{text}");
        command::run(
            command::new("openssl")
                .args([
                    "verify",
                    "-CAfile",
                    "ca.crt",
                    "api-server.crt",
                    "kubelet.crt",
                ])
                .current_dir(place.path()),
        )
        .unwrap();
    }
}
