// SPDX-License-Identifier: Apache-2.0
//! A runtime that is not one, at the other end of a socket.

use super::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

/// `payload` as the runtime sends it on its connection to the plugin, cut in pieces of `size` bytes.
fn sent(stream: u32, method: &str, payload: Vec<u8>, size: usize) -> Vec<u8> {
    let call = Call {
        service: PLUGIN.to_owned(),
        method: method.to_owned(),
        payload,
        timeout_nano: 0,
    };
    let call = call.encode_to_vec();
    let mut message = u32::try_from(call.len()).unwrap().to_be_bytes().to_vec();
    message.extend(stream.to_be_bytes());
    message.extend([1, 0]);
    message.extend(call);
    let mut bytes = Vec::new();
    for piece in message.chunks(size) {
        bytes.extend(1u32.to_be_bytes());
        bytes.extend(u32::try_from(piece.len()).unwrap().to_be_bytes());
        bytes.extend(piece);
    }
    bytes
}

struct Runtime {
    listener: UnixListener,
    told: mpsc::Receiver<Told>,
    following: tokio::task::JoinSet<()>,
    _dir: tempfile::TempDir,
}

impl Runtime {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("nri.sock");
        let (out, told) = mpsc::channel(8);
        let listener = UnixListener::bind(&socket).unwrap();
        let mut following = tokio::task::JoinSet::new();
        following.spawn(follow(socket, Backoff::default(), out));
        Self {
            listener,
            told,
            following,
            _dir: dir,
        }
    }

    /// Accepts the plugin's connection and takes its registration.
    async fn accept(&mut self) -> UnixStream {
        let (mut stream, _) = self.listener.accept().await.unwrap();
        let (connection, message) = read(&mut stream).await;
        assert_eq!(connection, 2);
        let call = Call::decode(&message[10..]).unwrap();
        assert_eq!(
            (call.service.as_str(), call.method.as_str()),
            (RUNTIME, "RegisterPlugin")
        );
        let plugin = wire::RegisterPluginRequest::decode(call.payload.as_slice()).unwrap();
        assert_eq!(
            (plugin.plugin_name.as_str(), plugin.plugin_idx.as_str()),
            ("gorget", "99")
        );
        stream
    }
}

/// A piece: its connection and bytes.
async fn read(stream: &mut UnixStream) -> (u32, Vec<u8>) {
    let connection = stream.read_u32().await.unwrap();
    let mut bytes = vec![0; usize::try_from(stream.read_u32().await.unwrap()).unwrap()];
    stream.read_exact(&mut bytes).await.unwrap();
    (connection, bytes)
}

async fn reply(stream: &mut UnixStream) -> (u32, Reply) {
    let (connection, bytes) = read(stream).await;
    assert_eq!((connection, bytes[8]), (1, 2));
    let number = u32::from_be_bytes(bytes[4..8].try_into().unwrap());
    (number, Reply::decode(&bytes[10..]).unwrap())
}

fn starting(id: &str) -> Vec<u8> {
    let container = wire::Container {
        id: id.to_owned(),
        pid: 0,
    };
    let event = wire::StateChangeEvent {
        event: START_CONTAINER,
        container: Some(container),
    };
    event.encode_to_vec()
}

#[tokio::test]
async fn a_container_starts_when_it_was_answered_and_others_need_not_wait_for_it() {
    let mut runtime = Runtime::new();
    let mut stream = runtime.accept().await;
    let configure = wire::ConfigureRequest {
        runtime_name: "containerd".to_owned(),
        runtime_version: "1.7".to_owned(),
    };
    let bytes = sent(1, "Configure", configure.encode_to_vec(), 7);
    stream.write_all(&bytes).await.unwrap();
    let (number, configured) = reply(&mut stream).await;
    let configured = wire::ConfigureResponse::decode(configured.payload.as_slice()).unwrap();
    assert_eq!((number, configured.events), (1, 32));
    let told = runtime.told.recv().await.unwrap();
    assert!(matches!(told, Told::Connected { runtime } if runtime == "containerd 1.7"));

    let mut answers = Vec::new();
    for (number, name) in [(3, "slow"), (5, "fast")] {
        let bytes = sent(number, "StateChange", starting(name), 4096);
        stream.write_all(&bytes).await.unwrap();
        match runtime.told.recv().await.unwrap() {
            Told::Starting { id, answer, .. } if id == name => answers.push(answer),
            other => panic!("{other:?}"),
        }
    }
    answers.pop().unwrap().send(Ok(())).unwrap();
    assert_eq!(reply(&mut stream).await, (5, done(&wire::Empty {})));
    answers.pop().unwrap().send(Err("no".to_owned())).unwrap();
    assert_eq!(
        reply(&mut stream).await,
        (3, failed(UNKNOWN, "no".to_owned()))
    );
}

#[tokio::test]
async fn what_is_not_understood_is_refused_and_the_connection_goes_on() {
    let mut runtime = Runtime::new();
    let mut stream = runtime.accept().await;
    for (method, payload, code) in [
        ("Dance", Vec::new(), UNIMPLEMENTED),
        ("StateChange", vec![0xff], UNKNOWN),
        ("Configure", vec![0xff], UNKNOWN),
    ] {
        stream
            .write_all(&sent(1, method, payload, 4096))
            .await
            .unwrap();
        let (_, reply) = reply(&mut stream).await;
        assert_eq!(
            reply.status.map(|status| status.code),
            Some(code),
            "{method}"
        );
    }
}

#[tokio::test]
async fn a_lost_connection_is_told_and_made_again() {
    let mut runtime = Runtime::new();
    let mut stream = runtime.accept().await;
    stream
        .write_all(&sent(1, "Configure", Vec::new(), 99))
        .await
        .unwrap();
    assert!(matches!(
        runtime.told.recv().await,
        Some(Told::Connected { .. })
    ));
    // A piece of four gigabytes.
    stream
        .write_all(&[0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff])
        .await
        .unwrap();
    match runtime.told.recv().await.unwrap() {
        Told::Disconnected { reason } => assert!(reason.contains("the limit is"), "{reason}"),
        other => panic!("{other:?}"),
    }
    drop(runtime.accept().await);
    drop(runtime.told);
    runtime.following.join_next().await.unwrap().unwrap();
}
