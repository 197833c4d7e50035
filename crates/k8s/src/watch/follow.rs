// SPDX-License-Identifier: Apache-2.0
//! One kind: listed, followed, listed again where that is needed.

use super::{Seen, Trouble, Watched};
use crate::objects::{Key, Namespace, Node, Object, Pod, PolicyObject, PolicyResource, ReadError};
use crate::settings::SettingsMap;
use futures_util::{Stream, StreamExt as _};
use gorget_model::with_causes;
use kube::Client;
use kube::core::params::{ListParams, WatchParams};
use kube::core::{Request, WatchEvent};
use serde::Deserialize;
use serde_json::Value;
use std::convert::Infallible;
use std::error::Error;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::pin::pin;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// Objects in one answer. The server keeps the rest for the next.
const PAGE: u32 = 500;
/// How long the server follows before it wants to be asked again, in seconds. Shorter finds a connection
/// that is dead sooner; every agent asks this often, once for each kind.
const FOLLOW_SECONDS: u32 = 240;
/// What an answer may take longer than the server says.
const GRACE: Duration = Duration::from_secs(15);
/// How long a list may take.
const LIST_LIMIT: Duration = Duration::from_secs(60);
/// A server that ends an answer sooner than that, without a word, is in trouble.
const TOO_SOON: Duration = Duration::from_secs(1);

/// How long to wait between attempts. Each wait is longer by up to a half, by chance, so that a thousand
/// agents do not ask at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    pub(super) first: Duration,
    pub(super) limit: Duration,
    /// For a kind that is not installed.
    pub(super) missing: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            first: Duration::from_millis(500),
            limit: Duration::from_secs(20),
            missing: Duration::from_secs(10),
        }
    }
}

/// Why asking ended.
#[derive(Debug)]
enum End {
    /// The reader is gone.
    Unheard,
    /// The server does not know any more what came after the version that was seen last.
    Expired,
    /// Something could not be read that is not known to be one object.
    Unreadable,
    Trouble(Trouble),
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMetadata,
    items: Option<Vec<Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    next: Option<String>,
}

pub(super) struct Following {
    client: Client,
    what: Watched,
    path: String,
    fields: Option<String>,
    labels: Option<String>,
    out: mpsc::Sender<Seen>,
    pace: Pace,
    /// What was seen last. None: it must be listed.
    version: Option<String>,
    /// It was listed before: a cached list could be older than what was seen.
    was_listed: bool,
    /// How often nothing came of it, one after the other.
    failures: u32,
    /// What was told of it last; the outer none: nothing yet.
    told: Option<Option<Trouble>>,
}

impl Following {
    pub(super) fn new(
        client: Client,
        what: Watched,
        node: &str,
        out: mpsc::Sender<Seen>,
        pace: Pace,
    ) -> Self {
        let (path, fields, labels) = match &what {
            Watched::Pods => (
                "/api/v1/pods".to_owned(),
                Some(format!("spec.nodeName={node}")),
                None,
            ),
            Watched::Node => (
                "/api/v1/nodes".to_owned(),
                Some(format!("metadata.name={node}")),
                None,
            ),
            Watched::Namespaces => ("/api/v1/namespaces".to_owned(), None, None),
            Watched::Policies(resource) => {
                let version = PolicyResource::API_VERSION;
                let path = format!("/apis/{version}/{}", resource.plural());
                (path, None, None)
            }
            Watched::Settings { origin, namespace } => (
                format!("/api/v1/namespaces/{namespace}/configmaps"),
                None,
                Some(origin.label().to_owned()),
            ),
        };
        Self {
            client,
            what,
            path,
            fields,
            labels,
            out,
            pace,
            version: None,
            was_listed: false,
            failures: 0,
            told: None,
        }
    }

    /// Until the reader is gone.
    pub(super) async fn run(mut self) {
        loop {
            let Err(end) = self.ask().await;
            let wait = match end {
                End::Unheard => return,
                End::Expired => {
                    self.version = None;
                    // At once, unless that was tried just now.
                    let wait = self.delay();
                    if self.failures > 1 {
                        wait
                    } else {
                        Duration::ZERO
                    }
                }
                End::Unreadable => {
                    self.version = None;
                    self.delay()
                }
                End::Trouble(trouble) => match self.trouble(trouble).await {
                    Ok(wait) => wait,
                    Err(Unheard) => return,
                },
            };
            sleep(wait).await;
        }
    }

    async fn trouble(&mut self, trouble: Trouble) -> Result<Duration, Unheard> {
        let mut wait = self.delay();
        if trouble == Trouble::NotInstalled {
            wait = jittered(self.pace.missing);
            self.version = None;
            // With its kind all objects are gone.
            if self.told != Some(Some(Trouble::NotInstalled)) {
                self.send(Seen::Listed {
                    what: self.what.clone(),
                    objects: Vec::new(),
                    unreadable: Vec::new(),
                })
                .await?;
            }
        }
        let is_news = self.told.as_ref() != Some(&Some(trouble.clone()));
        self.told = Some(Some(trouble.clone()));
        if is_news && !(self.what.is_optional() && matches!(trouble, Trouble::Refused { .. })) {
            let what = self.what.clone();
            self.send(Seen::Away { what, trouble }).await?;
        }
        Ok(wait)
    }

    async fn ask(&mut self) -> Result<Infallible, End> {
        if self.version.is_none() {
            let version = self.list().await?;
            self.version = Some(version);
            self.connected().await?;
        }
        loop {
            let begun = Instant::now();
            let heard = self.follow().await?;
            if heard == 0 && begun.elapsed() < TOO_SOON {
                return Err(End::Trouble(Trouble::Unanswered {
                    reason: "the server ends its answers at once".to_owned(),
                }));
            }
        }
    }

    /// Tells all there are. Gives the version that the list is of.
    async fn list(&mut self) -> Result<String, End> {
        let mut parameters = ListParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            // Any version will do the first time: the server need not ask its database, and cuts no pages.
            limit: self.was_listed.then_some(PAGE),
            resource_version: (!self.was_listed).then(|| "0".to_owned()),
            ..ListParams::default()
        };
        let (mut objects, mut unreadable) = (Vec::new(), Vec::new());
        let version = loop {
            let request = Request::new(&self.path).list(&parameters);
            let request = request.map_err(|error| unanswered(&error))?;
            let answer = timeout(LIST_LIMIT, self.client.request::<Page>(request)).await;
            let page = answer.map_err(|_late| no_answer())?;
            let page = page.map_err(|error| self.end_of(&error))?;
            for item in page.items.unwrap_or_default() {
                match self.read(&item) {
                    Ok(object) => objects.push(object),
                    Err(error) => {
                        unreadable.extend(Key::of(&item));
                        self.unreadable(Key::of(&item), with_causes(&error)).await?;
                    }
                }
            }
            match page.metadata.next.filter(|next| !next.is_empty()) {
                None => break page.metadata.resource_version.unwrap_or_default(),
                next => {
                    parameters.continue_token = next;
                    parameters.limit = Some(PAGE);
                    // The token says it.
                    parameters.resource_version = None;
                }
            }
        };
        self.was_listed = true;
        self.send(Seen::Listed {
            what: self.what.clone(),
            objects,
            unreadable,
        })
        .await?;
        Ok(version)
    }

    /// Tells changes until the server ends its answer. Gives how many events came.
    async fn follow(&mut self) -> Result<u64, End> {
        let parameters = WatchParams {
            label_selector: self.labels.clone(),
            field_selector: self.fields.clone(),
            timeout: Some(FOLLOW_SECONDS),
            ..WatchParams::default()
        };
        let version = self.version.clone().unwrap_or_default();
        let request = Request::new(&self.path).watch(&parameters, &version);
        let request = request.map_err(|error| unanswered(&error))?;
        let answer = timeout(LIST_LIMIT, self.client.request_events::<Value>(request)).await;
        let events = answer.map_err(|_late| no_answer())?;
        let events = events.map_err(|error| self.end_of(&error))?;
        self.connected().await?;
        self.hear(events).await
    }

    async fn hear(
        &mut self,
        events: impl Stream<Item = Result<WatchEvent<Value>, kube::Error>>,
    ) -> Result<u64, End> {
        let mut events = pin!(events);
        let mut heard = 0;
        let silence = Duration::from_secs(FOLLOW_SECONDS.into()) + GRACE;
        loop {
            let next = timeout(silence, events.next()).await;
            let Some(event) = next.map_err(|_silent| no_answer())? else {
                return Ok(heard);
            };
            match event {
                Ok(event) => self.take(event).await?,
                Err(kube::Error::SerdeError(error)) => {
                    self.unreadable(None, error.to_string()).await?;
                    return Err(End::Unreadable);
                }
                // Anything that is JSON reads as a status; one that says nothing is an event that is lost.
                Err(kube::Error::Api(status)) if status.code == 0 => {
                    let reason = "a line of the answer is no event".to_owned();
                    self.unreadable(None, reason).await?;
                    return Err(End::Unreadable);
                }
                Err(error) => return Err(self.end_of(&error)),
            }
            heard += 1;
            self.failures = 0;
        }
    }

    async fn take(&mut self, event: WatchEvent<Value>) -> Result<(), End> {
        let (value, is_gone) = match event {
            WatchEvent::Added(value) | WatchEvent::Modified(value) => (value, false),
            WatchEvent::Deleted(value) => (value, true),
            WatchEvent::Bookmark(bookmark) => {
                self.version = Some(bookmark.metadata.resource_version);
                return Ok(());
            }
            WatchEvent::Error(status) => {
                return Err(self.end_of(&kube::Error::Api(status)));
            }
        };
        let version = value.pointer("/metadata/resourceVersion");
        if let Some(version) = version.and_then(Value::as_str) {
            self.version = Some(version.to_owned());
        }
        let what = self.what.clone();
        match (is_gone, Key::of(&value)) {
            (true, Some(key)) => self.send(Seen::Gone { what, key }).await?,
            (_, key) => match self.read(&value) {
                Ok(object) => self.send(Seen::Changed { what, object }).await?,
                Err(error) => self.unreadable(key, with_causes(&error)).await?,
            },
        }
        Ok(())
    }

    fn read(&self, value: &Value) -> Result<Object, ReadError> {
        Ok(match &self.what {
            Watched::Pods => Object::Pod(Pod::read(value)?),
            Watched::Node => Object::Node(Node::read(value)?),
            Watched::Namespaces => Object::Namespace(Namespace::read(value)?),
            Watched::Policies(resource) => Object::Policy(PolicyObject::read(*resource, value)?),
            Watched::Settings { origin, .. } => {
                Object::Settings(SettingsMap::read(*origin, value)?)
            }
        })
    }

    async fn unreadable(&self, key: Option<Key>, reason: String) -> Result<(), Unheard> {
        let what = self.what.clone();
        self.send(Seen::Unreadable { what, key, reason }).await
    }

    async fn connected(&mut self) -> Result<(), Unheard> {
        if self.told != Some(None) {
            self.told = Some(None);
            let what = self.what.clone();
            self.send(Seen::Connected { what }).await?;
        }
        Ok(())
    }

    async fn send(&self, seen: Seen) -> Result<(), Unheard> {
        self.out.send(seen).await.map_err(|_gone| Unheard)
    }

    pub(super) fn delay(&mut self) -> Duration {
        let doubled = self.pace.first.saturating_mul(1 << self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        jittered(doubled.min(self.pace.limit))
    }

    fn end_of(&self, error: &kube::Error) -> End {
        let kube::Error::Api(status) = error else {
            return unanswered(error);
        };
        let reason = status.message.clone();
        match status.code {
            410 => End::Expired,
            404 => End::Trouble(Trouble::NotInstalled),
            401 => End::Trouble(Trouble::Refused {
                reason: format!("the server does not know who asks: {reason}"),
                remedy: "look at the service account's token, or the user of the kubeconfig"
                    .to_owned(),
            }),
            403 => End::Trouble(Trouble::Refused {
                reason,
                remedy: format!(
                    "give the agent's role the verbs `list` and `watch` of `{}`",
                    self.what.resource()
                ),
            }),
            code => End::Trouble(Trouble::Unanswered {
                reason: format!("the server answers {code}: {reason}"),
            }),
        }
    }
}

/// The reader is gone.
#[derive(Debug)]
struct Unheard;

impl From<Unheard> for End {
    fn from(_gone: Unheard) -> Self {
        Self::Unheard
    }
}

fn unanswered(error: &(dyn Error + 'static)) -> End {
    End::Trouble(Trouble::Unanswered {
        reason: with_causes(error),
    })
}

fn no_answer() -> End {
    End::Trouble(Trouble::Unanswered {
        reason: "the server does not answer in time".to_owned(),
    })
}

/// Longer by up to a half.
fn jittered(wait: Duration) -> Duration {
    // As random as hash maps need it, which is enough to spread agents.
    let chance = RandomState::new().build_hasher().finish() % 512;
    let chance = u32::try_from(chance).unwrap_or_default();
    wait + wait * chance / 1024
}
