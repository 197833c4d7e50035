// SPDX-License-Identifier: Apache-2.0
//! Which container runtimes are here, and their versions, as they say themselves.
//!
//! A runtime that does not answer is named with its socket and why. Nothing is started by asking:
//! a socket that systemd listens on is Podman's only, and Podman ends by itself again.

use super::facts::{Found, Runtime, RuntimeKind};
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use tonic::transport::Endpoint;

/// The same places where the agent looks.
const PLACES: [(RuntimeKind, &str); 8] = [
    (RuntimeKind::Docker, "run/docker.sock"),
    (RuntimeKind::Containerd, "run/containerd/containerd.sock"),
    (
        RuntimeKind::Containerd,
        "run/k3s/containerd/containerd.sock",
    ),
    (
        RuntimeKind::Containerd,
        "var/snap/microk8s/common/run/containerd.sock",
    ),
    (RuntimeKind::Containerd, "run/k0s/containerd.sock"),
    (
        RuntimeKind::Containerd,
        "run/docker/containerd/containerd.sock",
    ),
    (RuntimeKind::Podman, "run/podman/podman.sock"),
    (RuntimeKind::Crio, "run/crio/crio.sock"),
];

/// A runtime that takes longer is not well.
const PATIENCE: Duration = Duration::from_secs(2);
/// An answer about versions has some KiB.
const MOST_ANSWER: u64 = 1 << 20;

pub(crate) fn find(root: &Path) -> Vec<Runtime> {
    let there = PLACES.into_iter().filter_map(|(kind, place)| {
        let path = root.join(place);
        let version = match fs::metadata(&path) {
            Ok(_) => version(kind, &path),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error.to_string()),
            Err(_) => return None,
        };
        Some(Runtime {
            kind,
            socket: format!("/{place}"),
            version: version.map_or_else(Found::Refused, Found::Is),
        })
    });
    there.collect()
}

fn version(kind: RuntimeKind, socket: &Path) -> Result<String, String> {
    match kind {
        RuntimeKind::Docker | RuntimeKind::Podman => over_http(socket),
        RuntimeKind::Containerd => {
            let path = "/containerd.services.version.v1.Version/Version";
            over_grpc(socket, path, Asked::default(), |said| said.first)
        }
        RuntimeKind::Crio => {
            let asked = Asked {
                version: "v1".to_owned(),
            };
            let path = "/runtime.v1.RuntimeService/Version";
            over_grpc(socket, path, asked, |said| said.third)
        }
    }
}

/// `GET /version`, which Docker and Podman answer alike.
fn over_http(socket: &Path) -> Result<String, String> {
    let ask = || -> io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(b"GET /version HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.take(MOST_ANSWER).read_to_end(&mut answer)?;
        Ok(answer)
    };
    let answer = ask().map_err(|error| error.to_string())?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let version = serde_json::from_str::<serde_json::Value>(body).ok();
    let version = version
        .as_ref()
        .and_then(|said| said.get("Version"))
        .and_then(serde_json::Value::as_str);
    version.map(str::to_owned).ok_or_else(|| {
        let first = head.lines().next().unwrap_or("nothing");
        format!("it answers `{first}`")
    })
}

/// containerd asks nothing; Kubernetes' interface, which version of it is spoken.
#[derive(Clone, PartialEq, prost::Message)]
struct Asked {
    #[prost(string, tag = "1")]
    version: String,
}

/// containerd's version is the first field; that of a runtime of Kubernetes the third.
#[derive(Clone, PartialEq, prost::Message)]
struct Said {
    #[prost(string, tag = "1")]
    first: String,
    #[prost(string, tag = "3")]
    third: String,
}

fn over_grpc(
    socket: &Path,
    method: &'static str,
    asked: Asked,
    field: impl FnOnce(Said) -> String,
) -> Result<String, String> {
    let ask = async {
        let endpoint = Endpoint::from_shared(format!("unix:{}", socket.display()));
        let channel = endpoint.map_err(causes)?.connect().await.map_err(causes)?;
        let mut client = tonic::client::Grpc::new(channel);
        client.ready().await.map_err(causes)?;
        let codec = tonic_prost::ProstCodec::<Asked, Said>::default();
        let path = http::uri::PathAndQuery::from_static(method);
        let answer = client.unary(tonic::Request::new(asked), path, codec).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| status.message().to_owned())
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let said = runtime.block_on(async { tokio::time::timeout(PATIENCE, ask).await });
    let said = said.map_err(|_late| "it does not answer".to_owned())??;
    Ok(field(said))
}

/// The last cause is the one that says something.
fn causes(error: tonic::transport::Error) -> String {
    let mut last = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        last = error.to_string();
        cause = error.source();
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::os::unix::net::UnixListener;
    use std::thread;

    fn answered(answer: &'static str) -> Vec<Runtime> {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("run")).unwrap();
        let listener = UnixListener::bind(root.path().join("run/docker.sock")).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
            stream.write_all(answer.as_bytes()).unwrap();
        });
        let found = find(root.path());
        server.join().unwrap();
        found
    }

    #[test]
    fn a_runtime_says_its_version() {
        let found = answered("HTTP/1.0 200 OK\r\n\r\n{\"Version\":\"27.5.1\",\"Other\":[]}");
        assert_eq!(
            found,
            [Runtime {
                kind: RuntimeKind::Docker,
                socket: "/run/docker.sock".to_owned(),
                version: Found::Is("27.5.1".to_owned()),
            }]
        );
    }

    #[test]
    fn what_is_no_answer_is_told() {
        let found = answered("HTTP/1.0 403 Forbidden\r\n\r\nno");
        assert_eq!(
            found[0].version,
            Found::Refused("it answers `HTTP/1.0 403 Forbidden`".to_owned())
        );
    }

    #[test]
    fn a_socket_that_nobody_listens_on_is_told_of() {
        let root = tempfile::tempdir().unwrap();
        for dir in ["run/containerd", "run/crio", "run/podman"] {
            fs::create_dir_all(root.path().join(dir)).unwrap();
        }
        for socket in ["containerd/containerd", "crio/crio", "podman/podman"] {
            let path = root.path().join(format!("run/{socket}.sock"));
            drop(UnixListener::bind(path).unwrap());
        }
        let found = find(root.path());
        assert_eq!(found.len(), 3);
        for runtime in found {
            assert!(
                matches!(&runtime.version, Found::Refused(why) if why.contains("refused")),
                "{runtime:?}"
            );
        }
    }
}
