// SPDX-License-Identifier: Apache-2.0
//! The API server's way into the cluster: to the kubelet, which `kubectl exec` and `kubectl logs` take, and to
//! webhooks.
//!
//! The guest's network cannot be reached from here; QEMU forwards two ports. The API server asks a proxy on
//! a Unix socket for connections into its cluster (`CONNECT ADDRESS HTTP/1.1`), and this is the proxy:
//! what is for the kubelet or a service goes to the forwarded port, everything else where it says. There
//! is one service that it asks: the operator's, whose pod has the node's network.

use anyhow::{Context as _, Result, bail};
use serde_json::json;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

/// The guest's address in QEMU's user network, and the kubelet's port.
pub(super) const KUBELET: &str = "10.0.2.15:10250";
/// The operator's port.
pub(super) const WEBHOOK: &str = "10.0.2.15:9443";
/// What addresses of services begin with.
const SERVICES: &str = "10.96.";

/// The file that tells the API server about the proxy.
pub(super) const SELECTION: &str = "egress.yaml";
const SOCKET: &str = "tunnel.sock";

/// More is no request of an API server.
const LONGEST_REQUEST: usize = 4096;

/// Ports of this machine that are forwarded to the guest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inside {
    pub(super) kubelet: u16,
    pub(super) webhook: u16,
}

impl Inside {
    /// Where a connection to an address goes.
    fn target(self, asked: String) -> String {
        let port = match asked.as_str() {
            KUBELET => self.kubelet,
            service if service.starts_with(SERVICES) => self.webhook,
            _ => return asked,
        };
        format!("127.0.0.1:{port}")
    }
}

/// Serves until this process ends.
pub(super) fn serve(directory: &Path, inside: Inside) -> Result<()> {
    let socket = directory.join(SOCKET);
    let listener = UnixListener::bind(&socket)
        .with_context(|| format!("cannot listen at `{}`", socket.display()))?;
    fs::write(directory.join(SELECTION), selection(&socket))?;
    thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || {
                if let Err(error) = forward(client, inside) {
                    eprintln!("a connection into the cluster: {error:#}");
                }
            });
        }
    });
    Ok(())
}

/// JSON, which is YAML as well.
fn selection(socket: &Path) -> String {
    let connection = json!({
        "proxyProtocol": "HTTPConnect",
        "transport": {"uds": {"udsName": socket}},
    });
    json!({
        "apiVersion": "apiserver.k8s.io/v1beta1",
        "kind": "EgressSelectorConfiguration",
        "egressSelections": [{"name": "cluster", "connection": connection}],
    })
    .to_string()
}

fn forward(mut client: UnixStream, inside: Inside) -> Result<()> {
    let target = inside.target(address(&request(&mut client)?)?);
    let server = match TcpStream::connect(&target) {
        Ok(server) => server,
        Err(error) => {
            client.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")?;
            return Err(error).with_context(|| format!("cannot connect to {target}"));
        }
    };
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from_client, mut to_server) = (client.try_clone()?, server.try_clone()?);
    thread::spawn(move || {
        // Either end may go away at any time.
        drop(io::copy(&mut from_client, &mut to_server));
        drop(to_server.shutdown(Shutdown::Write));
    });
    let (mut from_server, mut to_client) = (server, client);
    drop(io::copy(&mut from_server, &mut to_client));
    drop(to_client.shutdown(Shutdown::Both));
    Ok(())
}

/// Reads up to the empty line, and no byte more.
fn request(client: &mut impl Read) -> Result<String> {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        if bytes.len() == LONGEST_REQUEST {
            bail!("a request of more than {LONGEST_REQUEST} bytes");
        }
        client.read_exact(&mut byte).context("reading a request")?;
        bytes.extend(byte);
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Of the first line, `CONNECT ADDRESS HTTP/1.1`.
fn address(request: &str) -> Result<String> {
    let line = request.lines().next().unwrap_or_default();
    let mut words = line.split(' ');
    match (words.next(), words.next()) {
        (Some("CONNECT"), Some(address)) => Ok(address.to_owned()),
        _ => bail!("`{line}` asks for no connection"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn what_is_for_the_kubelet_goes_to_the_forwarded_port_both_ways() {
        let place = tempfile::tempdir().unwrap();
        let kubelet = TcpListener::bind("127.0.0.1:0").unwrap();
        let inside = Inside {
            kubelet: kubelet.local_addr().unwrap().port(),
            webhook: 1,
        };
        serve(place.path(), inside).unwrap();
        let mut client = UnixStream::connect(place.path().join(SOCKET)).unwrap();
        write!(client, "CONNECT {KUBELET} HTTP/1.1\r\nHost: x\r\n\r\nping").unwrap();
        let (mut server, _) = kubelet.accept().unwrap();
        let mut said = [0; 4];
        server.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"ping");
        server.write_all(b"pong").unwrap();
        drop(server);
        let mut all = String::new();
        client.read_to_string(&mut all).unwrap();
        assert_eq!(all, "HTTP/1.1 200 OK\r\n\r\npong");
    }

    #[test]
    fn services_are_the_webhook_and_other_addresses_themselves() {
        let inside = Inside {
            kubelet: 1,
            webhook: 2,
        };
        let target = |asked: &str| inside.target(asked.to_owned());
        assert_eq!(target("10.96.3.4:443"), "127.0.0.1:2");
        assert_eq!(target("127.0.0.1:80"), "127.0.0.1:80");
    }

    #[test]
    fn an_address_is_only_taken_from_a_request_to_connect() {
        assert_eq!(address("CONNECT a:1 HTTP/1.1\r\n\r\n").unwrap(), "a:1");
        assert!(address("GET / HTTP/1.1\r\n\r\n").is_err());
        assert!(address("").is_err());
        assert!(request(&mut [b'x'; LONGEST_REQUEST + 1].as_slice()).is_err());
    }
}
