// SPDX-License-Identifier: Apache-2.0
//! The API server's questions, over HTTPS.
//!
//! Whoever reaches the port may ask: a question changes nothing, and its answer says nothing that the
//! question does not. So everything has a bound: connections, the time for a handshake, a header and a body,
//! a body's length, and how many questions are answered at a time. Who is too slow is let go.
//!
//! Searching a policy for rules that never decide can take seconds. It runs beside, and what takes longer than
//! [`SEARCH`] is answered without.

use crate::admission::{Answer, Depth, Known, MOST_BYTES, Malformed, answer, answer_for_pod};
use crate::certificates::keep::Shown;
use crate::counts::Counts;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use rustls::crypto::ring;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// Where policies are judged.
pub(crate) const POLICIES: &str = "/validate-policies";
/// Where pods get profiles.
pub(crate) const PODS: &str = "/mutate-pods";
/// Answers as soon as there is a certificate.
const HEALTH: &str = "/healthz";

/// API servers keep a few connections each.
const CONNECTIONS: usize = 128;
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a connection may be idle, and how long a header may take.
const HEADER: Duration = Duration::from_secs(60);
const BODY: Duration = Duration::from_secs(5);
/// How long rules that never decide are searched for.
const SEARCH: Duration = Duration::from_secs(3);
/// Searches at a time; who finds none free is answered without.
const SEARCHES: usize = 2;
/// After a connection could not be accepted.
const PAUSE: Duration = Duration::from_secs(1);

/// What answers need.
#[derive(Clone)]
pub(crate) struct Answering {
    pub(crate) known: watch::Receiver<Arc<Known>>,
    pub(crate) counts: Arc<Counts>,
    searches: Arc<Semaphore>,
}

impl Answering {
    pub(crate) fn new(known: watch::Receiver<Arc<Known>>, counts: Arc<Counts>) -> Self {
        Self {
            known,
            counts,
            searches: Arc::new(Semaphore::new(SEARCHES)),
        }
    }
}

/// TLS with whatever certificate is shown now.
pub(crate) fn acceptor(shown: Arc<Shown>) -> Result<TlsAcceptor, rustls::Error> {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// For ever.
pub(crate) async fn serve(listener: TcpListener, tls: TlsAcceptor, answering: Answering) {
    let mut connections = JoinSet::new();
    loop {
        while connections.len() >= CONNECTIONS {
            drop(connections.join_next().await);
        }
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((stream, _from)) => {
                connections.spawn(connection(stream, tls.clone(), answering.clone()));
            }
            Err(error) => {
                tracing::warn!("a connection cannot be accepted: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, tls: TlsAcceptor, answering: Answering) {
    let Ok(Ok(stream)) = timeout(HANDSHAKE, tls.accept(stream)).await else {
        answering.counts.handshake_failed();
        return;
    };
    let service = service_fn(|request: Request<Incoming>| {
        let answering = answering.clone();
        async move { Ok::<_, Infallible>(respond(request, &answering).await) }
    });
    let mut http = http1::Builder::new();
    let http = http.timer(TokioTimer::new()).header_read_timeout(HEADER);
    // Who speaks something else is let go.
    drop(http.serve_connection(TokioIo::new(stream), service).await);
}

async fn respond<B>(request: Request<B>, answering: &Answering) -> Response<Full<Bytes>>
where
    B: Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let is_pod = request.uri().path() == PODS;
    let wanted = match request.uri().path() {
        POLICIES | PODS => Method::POST,
        HEALTH => Method::GET,
        _ => {
            let text = format!("there are {POLICIES}, {PODS} and {HEALTH}\n");
            return plain(StatusCode::NOT_FOUND, text);
        }
    };
    if *request.method() != wanted {
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, String::new());
        let allow = match wanted {
            Method::GET => "GET",
            _ => "POST",
        };
        let headers = response.headers_mut();
        headers.insert(ALLOW, HeaderValue::from_static(allow));
        return response;
    }
    if wanted == Method::GET {
        return plain(StatusCode::OK, "ok\n".to_owned());
    }
    let body = Limited::new(request.into_body(), MOST_BYTES);
    let body = match timeout(BODY, body.collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => {
            answering.counts.malformed();
            let is_long = error.is::<http_body_util::LengthLimitError>();
            return match is_long {
                true => plain(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    format!("the body has more than {MOST_BYTES} bytes\n"),
                ),
                false => plain(StatusCode::BAD_REQUEST, format!("the body: {error}\n")),
            };
        }
        Err(_late) => {
            answering.counts.malformed();
            let text = "the body did not come in time\n".to_owned();
            return plain(StatusCode::REQUEST_TIMEOUT, text);
        }
    };
    let answer = match is_pod {
        true => Some(answer_for_pod(&body, &answering.known.borrow())),
        false => judged(body, answering).await,
    };
    match answer {
        Some(Ok(answer)) => {
            answering.counts.answered(answer.is_allowed);
            let mut response = plain(StatusCode::OK, answer.text);
            let headers = response.headers_mut();
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
            response
        }
        Some(Err(malformed)) => {
            answering.counts.malformed();
            plain(StatusCode::BAD_REQUEST, format!("{malformed}\n"))
        }
        None => {
            answering.counts.failed();
            let text = "the review could not be answered\n".to_owned();
            plain(StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    }
}

/// The answer; none when answering ended without one.
async fn judged(body: Bytes, answering: &Answering) -> Option<Result<Answer, Malformed>> {
    let known = Arc::clone(&answering.known.borrow());
    if let Ok(place) = Arc::clone(&answering.searches).try_acquire_owned() {
        let (body, known) = (body.clone(), Arc::clone(&known));
        let search = spawn_blocking(move || {
            // Kept until the search ends, whoever still waits for it.
            let _place = place;
            answer(&body, &known, Depth::Search)
        });
        if let Ok(ended) = timeout(SEARCH, search).await {
            return ended.ok();
        }
    }
    answering.counts.unsearched();
    let read = spawn_blocking(move || answer(&body, &known, Depth::Read));
    read.await.ok()
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let form = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, form);
    response
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn answering() -> Answering {
        let (_known, known) = watch::channel(Arc::default());
        Answering::new(known, Arc::default())
    }

    fn asked(method: Method, path: &str, body: Vec<u8>) -> (StatusCode, String) {
        let request = Request::builder().method(method).uri(path);
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().unwrap();
        runtime.block_on(async {
            let response = respond(request, &answering()).await;
            let status = response.status();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        })
    }

    #[test]
    fn a_review_is_answered_and_anything_else_is_told_what_there_is() {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview",
            "request": {
                "uid": "7", "operation": "DELETE",
                "kind": { "group": "security.kubearmor.com", "version": "v1", "kind": "KubeArmorPolicy" },
            },
        });
        let (status, text) = asked(Method::POST, POLICIES, review.to_string().into_bytes());
        assert_eq!(status, StatusCode::OK);
        let answer: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(answer["response"], json!({ "uid": "7", "allowed": true }));
        let status = |method, path| asked(method, path, Vec::new()).0;
        assert_eq!(status(Method::GET, HEALTH), StatusCode::OK);
        assert_eq!(
            status(Method::GET, POLICIES),
            StatusCode::METHOD_NOT_ALLOWED
        );
        assert_eq!(status(Method::POST, HEALTH), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(status(Method::POST, "/"), StatusCode::NOT_FOUND);
    }

    #[test]
    fn a_body_that_is_too_long_or_no_review_is_said_to_be() {
        let (status, text) = asked(Method::POST, POLICIES, vec![b' '; MOST_BYTES + 1]);
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(text, "the body has more than 8388608 bytes\n");
        let (status, text) = asked(Method::POST, POLICIES, b"{}".to_vec());
        assert_eq!(status, StatusCode::BAD_REQUEST);
        assert!(text.starts_with("the body has `apiVersion: `"), "{text}");
    }
}
