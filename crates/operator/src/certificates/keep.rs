// SPDX-License-Identifier: Apache-2.0
//! The Secret, what webhook configurations say of it, and what this replica shows.
//!
//! All replicas do the same; whoever is first writes the Secret, and the others take what is there. What
//! cannot be read or written is said once, and a certificate that is there is shown on.

use super::{Next, Step, Stored, after, certified, step};
use crate::api::{AskError, Objects, Written, with};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use serde_json::{Value, json};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// How often the Secret and the configurations are looked at.
const PERIOD: Duration = Duration::from_secs(60);
/// After something failed.
const AGAIN: Duration = Duration::from_secs(5);
/// How often others may be first, one after the other.
const MOST_CONFLICTS: u32 = 8;

/// What is shown to whoever connects; nothing until there is a certificate.
#[derive(Debug, Default)]
pub(crate) struct Shown(RwLock<Option<Arc<CertifiedKey>>>);

impl Shown {
    fn set(&self, key: CertifiedKey) {
        let mut shown = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *shown = Some(Arc::new(key));
    }

    pub(crate) fn is_there(&self) -> bool {
        let shown = self.0.read().unwrap_or_else(PoisonError::into_inner);
        shown.is_some()
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let shown = self.0.read().unwrap_or_else(PoisonError::into_inner);
        shown.clone()
    }
}

/// Keeps the certificate.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) secrets: Objects,
    pub(crate) namespace: String,
    pub(crate) secret: String,
    /// Name of the service, as the API server calls it.
    pub(crate) server: String,
    /// Kinds and names of webhook configurations.
    pub(crate) configurations: Vec<(Objects, String)>,
    pub(crate) shown: Arc<Shown>,
}

/// The certificate could not be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error("making a certificate: {0}")]
    Issue(#[from] rcgen::Error),
    #[error("the certificate of the Secret: {0}")]
    Useless(#[from] super::Useless),
    #[error("the Secret or a webhook configuration is changed by somebody else again and again")]
    Contended,
}

impl Keeper {
    /// For ever. `now`: seconds since 1970.
    pub(crate) async fn run(self, now: impl Fn() -> u64) {
        let mut shown = Stored::default();
        let mut is_failing = false;
        loop {
            let wait = match self.round(&mut shown, now()).await {
                Ok(()) => {
                    if std::mem::replace(&mut is_failing, false) {
                        tracing::info!("the certificate of the webhooks is in order again");
                    }
                    PERIOD
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::error!("the certificate of the webhooks: {error}");
                    }
                    AGAIN
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// One look at everything. `shown` is what this replica shows.
    pub(crate) async fn round(&self, shown: &mut Stored, now: u64) -> Result<(), KeepError> {
        for _attempt in 0..MOST_CONFLICTS {
            let object = self.secrets.get(&self.secret).await?;
            let stored = object.as_ref().map(read);
            let believed = match &stored {
                Some(stored) => self.tell(&stored.authorities).await,
                None => Ok(true),
            };
            if let Ok(false) = believed {
                continue;
            }
            let step = step(stored.as_ref(), &self.server, now, believed.is_ok());
            let next = after(&step, stored.as_ref(), &self.server, now)?;
            let Some(next) = next else {
                let stored = stored.unwrap_or_default();
                if (&shown.certificate, &shown.key) != (&stored.certificate, &stored.key) {
                    self.shown.set(certified(&stored.certificate, &stored.key)?);
                }
                *shown = stored;
                return Ok(believed.map(drop)?);
            };
            if self.write(object.as_ref(), &next).await? {
                say(&step);
            }
        }
        Err(KeepError::Contended)
    }

    /// Whether it was this replica that wrote.
    async fn write(&self, there: Option<&Value>, next: &Stored) -> Result<bool, AskError> {
        let written = match there {
            Some(there) => {
                let object = with(there.clone(), "data", data(next));
                self.secrets.replace(&self.secret, &object).await?
            }
            None => {
                let object = json!({
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {
                        "name": self.secret,
                        "namespace": self.namespace,
                        "labels": { "app.kubernetes.io/part-of": "gorget" },
                    },
                    "type": "Opaque",
                    "data": data(next),
                });
                self.secrets.create(&self.secret, &object).await?
            }
        };
        Ok(written != Written::Conflict)
    }

    /// Has every configuration believe these authorities. False when one was changed at the same time: it is
    /// not known to have them, so that no step may rest on that.
    async fn tell(&self, authorities: &str) -> Result<bool, AskError> {
        let bundle = STANDARD.encode(authorities);
        for (objects, name) in &self.configurations {
            // One that is not there yet is told when it is; there is nobody to be believed by.
            let Some(object) = objects.get(name).await? else {
                continue;
            };
            if let Some(object) = with_bundle(&object, &bundle)
                && objects.replace(name, &object).await? == Written::Conflict
            {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The configuration with that bundle in each of its webhooks; none when they have it.
fn with_bundle(configuration: &Value, bundle: &str) -> Option<Value> {
    let mut next = configuration.clone();
    let webhooks = next.get_mut("webhooks")?.as_array_mut()?;
    for webhook in webhooks {
        let client = webhook
            .get_mut("clientConfig")
            .and_then(Value::as_object_mut);
        if let Some(client) = client {
            client.insert("caBundle".to_owned(), bundle.into());
        }
    }
    (next != *configuration).then_some(next)
}

/// What is there. What is no text reads as empty, which is of no use and made anew.
fn read(secret: &Value) -> Stored {
    let text = |key: &str| {
        let encoded = secret.get("data").and_then(|data| data.get(key));
        let bytes = STANDARD.decode(encoded?.as_str()?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let number = |key| text(key).and_then(|it| it.trim().parse().ok());
    let next = text("next.crt").zip(text("next.key"));
    Stored {
        authorities: text("ca.crt").unwrap_or_default(),
        certificate: text("tls.crt").unwrap_or_default(),
        key: text("tls.key").unwrap_or_default(),
        next: next.map(|(certificate, key)| Next {
            certificate,
            key,
            since: number("next.since").unwrap_or_default(),
        }),
        shown_since: number("tls.since").unwrap_or_default(),
    }
}

fn data(stored: &Stored) -> Value {
    let Stored {
        authorities,
        certificate,
        key,
        next,
        shown_since,
    } = stored;
    let mut data = json!({
        "ca.crt": STANDARD.encode(authorities),
        "tls.crt": STANDARD.encode(certificate),
        "tls.key": STANDARD.encode(key),
        "tls.since": STANDARD.encode(shown_since.to_string()),
    });
    if let (Some(next), Some(data)) = (next, data.as_object_mut()) {
        let Next {
            certificate,
            key,
            since,
        } = next;
        let since = since.to_string();
        for (name, text) in [
            ("next.crt", certificate),
            ("next.key", key),
            ("next.since", &since),
        ] {
            data.insert(name.to_owned(), STANDARD.encode(text).into());
        }
    }
    data
}

fn say(step: &Step) {
    match step {
        Step::Keep => {}
        Step::Make(useless) => tracing::info!("a certificate for the webhooks is made: {useless}"),
        Step::Prepare => tracing::info!("a new certificate for the webhooks is made and waits"),
        Step::Show => tracing::info!("the new certificate for the webhooks is shown"),
        Step::Forget => tracing::info!("the authority of the old certificate is taken out"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::store::Store;

    const SECRET: &str = "/api/v1/namespaces/gorget/secrets/gorget-webhook-tls";
    const PLURAL: &str = "validatingwebhookconfigurations";
    const HOOK: &str =
        "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/gorget";
    const NOW: u64 = 1_800_000_000;
    const DAY: u64 = 86_400;

    fn keeper(store: &Store) -> Keeper {
        let client = store.client();
        let hooks = Objects::new(&client, "admissionregistration.k8s.io/v1", "", PLURAL);
        Keeper {
            secrets: Objects::new(&client, "v1", "gorget", "secrets"),
            namespace: "gorget".to_owned(),
            secret: "gorget-webhook-tls".to_owned(),
            server: "gorget-operator.gorget.svc".to_owned(),
            configurations: vec![(hooks, "gorget".to_owned())],
            shown: Arc::default(),
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(future)
    }

    fn store() -> Store {
        let store = Store::default();
        let webhook = json!({ "name": "a", "clientConfig": { "service": { "name": "x" } } });
        let object = json!({ "metadata": { "name": "gorget" }, "webhooks": [webhook, webhook] });
        store.put(HOOK, object);
        store
    }

    fn bundle(store: &Store) -> Value {
        let hook = store.get(HOOK).unwrap();
        let bundle = |at: usize| hook["webhooks"][at]["clientConfig"]["caBundle"].clone();
        assert_eq!(bundle(0), bundle(1));
        assert_eq!(hook["webhooks"][0]["clientConfig"]["service"]["name"], "x");
        bundle(0)
    }

    #[test]
    fn replicas_that_start_together_show_the_same_certificate() {
        block_on(async {
            let store = store();
            let (one, two) = (keeper(&store), keeper(&store));
            let (mut of_one, mut of_two) = (Stored::default(), Stored::default());
            let rounds = tokio::join!(one.round(&mut of_one, NOW), two.round(&mut of_two, NOW));
            assert!(rounds.0.is_ok() && rounds.1.is_ok(), "{rounds:?}");
            assert!(of_one == of_two && !of_one.certificate.is_empty());
            assert!(one.shown.is_there() && two.shown.is_there());
            assert_eq!(bundle(&store), STANDARD.encode(&of_one.authorities));
            let writes = store.writes();
            let made = writes.iter().filter(|it| it.contains("secrets")).count();
            assert_eq!(made, 1, "{writes:?}");
        });
    }

    #[test]
    fn what_is_in_order_is_not_written_again() {
        block_on(async {
            let store = store();
            let keeper = keeper(&store);
            let mut shown = Stored::default();
            keeper.round(&mut shown, NOW).await.unwrap();
            let before = store.writes();
            keeper.round(&mut shown, NOW + DAY).await.unwrap();
            assert_eq!(store.writes(), before);
        });
    }

    #[test]
    fn a_rotation_goes_through_the_secret_and_the_configurations() {
        block_on(async {
            let store = store();
            let keeper = keeper(&store);
            let mut shown = Stored::default();
            keeper.round(&mut shown, NOW).await.unwrap();
            let old = shown.clone();
            keeper.round(&mut shown, NOW + 61 * DAY).await.unwrap();
            assert_eq!(shown.certificate, old.certificate);
            assert_eq!(bundle(&store), STANDARD.encode(&shown.authorities));
            let both = &shown.authorities;
            assert!(both.starts_with(&old.authorities) && *both != old.authorities);
            let settled = NOW + 61 * DAY + 600;
            keeper.round(&mut shown, settled).await.unwrap();
            assert_ne!(shown.certificate, old.certificate);
            keeper.round(&mut shown, NOW + 63 * DAY).await.unwrap();
            assert!(!shown.authorities.contains(&old.authorities));
            assert_eq!(bundle(&store), STANDARD.encode(&shown.authorities));
        });
    }

    #[test]
    fn a_secret_that_is_damaged_is_repaired_and_nothing_else_of_it_is_touched() {
        block_on(async {
            let store = store();
            let metadata = json!({ "name": "gorget-webhook-tls", "labels": { "a": "b" } });
            let secret = json!({ "metadata": metadata, "data": { "tls.crt": "%%" } });
            store.put(SECRET, secret);
            let keeper = keeper(&store);
            let mut shown = Stored::default();
            keeper.round(&mut shown, NOW).await.unwrap();
            assert!(keeper.shown.is_there());
            let secret = store.get(SECRET).unwrap();
            assert_eq!(secret["metadata"]["labels"]["a"], "b");
        });
    }
}
