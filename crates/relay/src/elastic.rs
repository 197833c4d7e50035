// SPDX-License-Identifier: Apache-2.0
//! Events to Elasticsearch or OpenSearch, by the bulk API, which both have.
//!
//! A batch is sent until every event of it is stored or refused for good. Of a batch that was stored in
//! part only the rest is sent again. An event's id is a hash of what it says, and it is created and never
//! overwritten: one that is sent twice, because an answer was lost or the relay began anew, is there once.
//! While the server is away events wait in the subscription's queue, which is bounded and tells its losses.

use crate::batch;
use crate::hub::Subscription;
use gorget_model::with_causes;
use gorget_telemetry::{Received, Sent};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, StatusCode, Uri};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use std::time::Duration;

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The answer repeats what was sent in few words; a longer one is none.
const MAX_ANSWER: usize = 8 << 20;

/// Where events are stored.
#[derive(Clone)]
pub struct ElasticSettings {
    /// Such as `https://elasticsearch:9200`.
    pub url: String,
    /// Index, alias or data stream of alerts.
    pub alerts_index: String,
    /// Of logs; they are not stored when there is none.
    pub logs_index: Option<String>,
    /// The value of the `Authorization` header, which names the user.
    pub authorization: Option<String>,
    /// Authorities of the server's certificate, PEM; needed for `https`.
    pub ca: Option<Vec<u8>>,
    /// How long a batch waits for more events.
    pub batch: Duration,
    /// How long to wait after a failure; each time twice as long.
    pub first_pause: Duration,
    /// And at most so long.
    pub longest_pause: Duration,
}

impl std::fmt::Debug for ElasticSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ElasticSettings")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// The settings mean nothing.
#[derive(Debug, thiserror::Error)]
pub enum ElasticError {
    /// The address.
    #[error("`{0}` is not an address such as `https://elasticsearch:9200`")]
    Url(String),
    /// The index.
    #[error("`{0}` is no name of an index: lower case, without spaces, quotes and slashes")]
    Index(String),
    /// The authorities.
    #[error("there is no certificate in PEM form among the authorities, which `https` needs")]
    Authorities,
    /// The user.
    #[error("user and password cannot be said in a header")]
    Authorization,
    /// The cryptography.
    #[error("preparing TLS")]
    Tls(#[source] rustls::Error),
}

/// A server that stores events.
#[derive(Debug)]
pub struct Elastic {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    bulk: Uri,
    authorization: Option<HeaderValue>,
    settings: ElasticSettings,
}

/// What the server says of a batch.
#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    items: Vec<Item>,
}

#[derive(Deserialize)]
struct Item {
    create: Outcome,
}

#[derive(Deserialize)]
struct Outcome {
    status: u16,
    error: Option<serde_json::Value>,
}

/// What is to be done about what was sent.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rest {
    /// To be sent again, as places in what was sent.
    again: Vec<usize>,
    refused: u64,
    reason: String,
}

impl Elastic {
    /// Nothing is connected before something is sent.
    ///
    /// # Errors
    ///
    /// When the settings mean nothing.
    pub fn new(settings: ElasticSettings) -> Result<Self, ElasticError> {
        let wrong = || ElasticError::Url(settings.url.clone());
        let bulk = format!("{}/_bulk", settings.url.trim_end_matches('/'));
        let bulk: Uri = bulk.parse().map_err(|_syntax| wrong())?;
        let is_tls = match bulk.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        for index in [Some(&settings.alerts_index), settings.logs_index.as_ref()] {
            let index = index.filter(|index| !is_index(index));
            if let Some(index) = index {
                return Err(ElasticError::Index(index.clone()));
            }
        }
        let authorization = settings.authorization.as_ref().map(|text| {
            let mut value =
                HeaderValue::from_str(text).map_err(|_syntax| ElasticError::Authorization)?;
            value.set_sensitive(true);
            Ok(value)
        });
        let tls = tls(settings.ca.as_deref().unwrap_or_default(), is_tls)?;
        let connector = HttpsConnectorBuilder::new().with_tls_config(tls);
        let connector = connector.https_or_http().enable_http1().build();
        Ok(Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
            bulk,
            authorization: authorization.transpose()?,
            settings,
        })
    }

    /// Stores events until the feed ends.
    pub async fn run(self, mut events: Subscription, told: impl Fn(Sent)) {
        while let Some(batch) = batch::next(&mut events, self.settings.batch).await {
            self.store(&batch, &told).await;
        }
    }

    async fn store(&self, batch: &[Arc<Received>], told: &impl Fn(Sent)) {
        let mut lines: Vec<String> = batch.iter().filter_map(|event| self.lines(event)).collect();
        let mut pause = self.settings.first_pause;
        // Fewer at once when the server says that it was too much.
        let mut most = lines.len();
        while !lines.is_empty() {
            let sent = lines.get(..most.min(lines.len())).unwrap_or_default();
            let count = sent.len();
            let rest = match self.send(sent).await {
                Ok(rest) => rest,
                Err(Failed::TooMuch) if count > 1 => {
                    most = count / 2;
                    continue;
                }
                Err(failed) => failed.rest(count),
            };
            let again = rest.again.iter().filter_map(|&at| lines.get(at).cloned());
            let again: Vec<_> = again.collect();
            let has_failed = !again.is_empty();
            lines.splice(..count, again);
            if has_failed || rest.refused > 0 {
                told(Sent::Fails {
                    reason: rest.reason,
                    lost: rest.refused,
                });
            } else {
                told(Sent::Works);
            }
            if has_failed {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(self.settings.longest_pause);
            }
        }
    }

    /// What is done with an event, and the event: two lines. Nothing, for one that is not stored.
    fn lines(&self, event: &Received) -> Option<String> {
        let index = match event {
            Received::Alert(_) => &self.settings.alerts_index,
            Received::Log(_) => self.settings.logs_index.as_ref()?,
            Received::Message(_) => return None,
        };
        let json = event.json();
        let hash = Sha256::digest(json.as_bytes());
        let id: String = hash.iter().take(16).map(|it| format!("{it:02x}")).collect();
        // Neither has a character that JSON would have to quote.
        Some(format!(
            "{{\"create\":{{\"_index\":\"{index}\",\"_id\":\"{id}\"}}}}\n{json}\n"
        ))
    }

    async fn send(&self, lines: &[String]) -> Result<Rest, Failed> {
        let passing = |reason: String| Failed::Passing(reason);
        let mut request = Request::new(Full::new(Bytes::from(lines.concat())));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.bulk.clone();
        let headers = request.headers_mut();
        let form = HeaderValue::from_static("application/x-ndjson");
        headers.insert(CONTENT_TYPE, form);
        if let Some(authorization) = &self.authorization {
            headers.insert(AUTHORIZATION, authorization.clone());
        }
        let exchange = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|error| passing(with_causes(&error)))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_ANSWER);
            let body = body.collect().await;
            let body = body.map_err(|error| passing(format!("reading the answer: {error}")))?;
            Ok((status, body.to_bytes()))
        };
        let answered = tokio::time::timeout(PATIENCE, exchange).await;
        let (status, body) =
            answered.map_err(|_late| passing(format!("no answer within {PATIENCE:?}")))??;
        judge(status, &body, lines.len())
    }
}

/// Why nothing of what was sent was stored.
#[derive(Debug, PartialEq, Eq)]
enum Failed {
    /// It may be, later.
    Passing(String),
    /// It may be, in parts.
    TooMuch,
    /// It never will.
    ForGood(String),
}

impl Failed {
    fn rest(self, count: usize) -> Rest {
        let lost = u64::try_from(count).unwrap_or(u64::MAX);
        let (again, refused, reason) = match self {
            Self::Passing(reason) => ((0..count).collect(), 0, reason),
            Self::TooMuch => (Vec::new(), lost, "an event is too long".to_owned()),
            Self::ForGood(reason) => (Vec::new(), lost, reason),
        };
        Rest {
            again,
            refused,
            reason,
        }
    }
}

fn judge(status: StatusCode, body: &[u8], count: usize) -> Result<Rest, Failed> {
    match status {
        StatusCode::OK => {}
        StatusCode::PAYLOAD_TOO_LARGE => return Err(Failed::TooMuch),
        StatusCode::BAD_REQUEST => return Err(Failed::ForGood(said(status, body))),
        // A wrong password, a missing right or a server that starts: somebody will see to it.
        _ => return Err(Failed::Passing(said(status, body))),
    }
    let answer: Result<Answer, _> = serde_json::from_slice(body);
    let items = match answer {
        Ok(answer) if answer.items.len() == count => answer.items,
        Ok(answer) => {
            let found = answer.items.len();
            let reason = format!("the answer is about {found} events, {count} were sent");
            return Err(Failed::Passing(reason));
        }
        Err(error) => {
            let reason = format!("the answer is none of the bulk API: {error}");
            return Err(Failed::Passing(reason));
        }
    };
    let mut rest = Rest::default();
    for (at, item) in items.into_iter().enumerate() {
        let Outcome { status, error } = item.create;
        match status {
            // 409: it is stored already.
            200..=299 | 409 => continue,
            429 | 500.. => rest.again.push(at),
            _ => rest.refused += 1,
        }
        if rest.reason.is_empty() {
            let error = error.map(|error| cut(&error.to_string()));
            rest.reason = format!("status {status}: {}", error.unwrap_or_default());
        }
    }
    Ok(rest)
}

fn said(status: StatusCode, body: &[u8]) -> String {
    format!("status {status}: {}", cut(&String::from_utf8_lossy(body)))
}

/// Short enough for a line.
fn cut(text: &str) -> String {
    let plain = text.chars().filter(|c| !c.is_control());
    plain.take(300).collect()
}

/// What both servers allow, and nothing that would end a JSON string.
fn is_index(name: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_.".contains(&c);
    let first = name.bytes().next();
    name.len() < 256 && first.is_some_and(|c| !b"-_.".contains(&c)) && name.bytes().all(allowed)
}

fn tls(authorities: &[u8], is_needed: bool) -> Result<ClientConfig, ElasticError> {
    let mut roots = RootCertStore::empty();
    let found = CertificateDer::pem_slice_iter(authorities).filter_map(Result::ok);
    let (added, _unreadable) = roots.add_parsable_certificates(found);
    if is_needed && added == 0 {
        return Err(ElasticError::Authorities);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions();
    let config = config.map_err(ElasticError::Tls)?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

#[cfg(test)]
mod tests;
