// SPDX-License-Identifier: Apache-2.0
//! The certificate that the API server is shown, and when it is another one: [`step`].
//!
//! All replicas have what one Secret says. Each certificate has an authority of its own, whose key is
//! thrown away when it has signed: nothing in the cluster can sign another one. A new certificate is made
//! a month before the old one ends, and goes through three steps, so that whatever the API server has
//! heard of yet, it believes what it is shown:
//!
//! 1. The new authority is beside the old one in `ca.crt`; the certificate waits in `next.crt`.
//! 2. When webhook configurations have had both authorities for [`SETTLE`], it is the one that is shown.
//! 3. When all replicas have had time to show it ([`FORGET`]), the old authority is taken out.
//!
//! A certificate that is missing, broken or over, or is not for the service's name, is made anew at once.
//!
//! INVARIANT: `step` is a function of the Secret, the time and whether configurations have `ca.crt`. What is
//! asked of a certificate is what the API server asks: whether an authority of `ca.crt` vouches for it,
//! for this name, at this time.

mod issue;
pub(crate) mod keep;

use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use std::sync::Arc;
use std::time::Duration;

const DAY: u64 = 86_400;
/// Short enough that rotation is not a thing of the far future, long enough that a cluster can stand still
/// for two months.
const VALID: u64 = 90 * DAY;
/// A certificate that ends sooner is replaced.
const RENEW: u64 = 30 * DAY;
/// How long API servers may take to hear of a changed webhook configuration.
const SETTLE: u64 = 600;
/// How long replicas may take to show the new certificate.
const FORGET: u64 = DAY;

/// What the Secret says.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Whom the API server believes; several in one text.
    pub(crate) authorities: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) next: Option<Next>,
    /// When the certificate was first shown, in seconds since 1970.
    pub(crate) shown_since: u64,
}

/// A certificate that is not shown yet.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Next {
    pub(crate) certificate: String,
    pub(crate) key: String,
    /// Since when its authority is believed.
    pub(crate) since: u64,
}

/// What is to be done with the Secret.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Nothing.
    Keep,
    /// A new certificate is to be shown at once, because this one is of no use.
    Make(Useless),
    /// A new one is to wait.
    Prepare,
    /// The one that waits is to be shown.
    Show,
    /// Authorities that vouch for nothing any more are to be taken out.
    Forget,
}

/// Why a certificate is of no use.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(crate) enum Useless {
    #[error("there is none")]
    Missing,
    #[error("`{0}` is not PEM")]
    NotPem(&'static str),
    #[error("it and its key do not fit")]
    Key(rustls::Error),
    #[error("no authority of `ca.crt` vouches for it now: {0}")]
    Refused(rustls::Error),
    #[error("`ca.crt` has no authority")]
    NoAuthority,
    #[error("`{0}` is no name of a server")]
    Name(String),
}

/// What is to be done. `is_believed`: all webhook configurations have the authorities of the Secret.
pub(crate) fn step(stored: Option<&Stored>, name: &str, now: u64, is_believed: bool) -> Step {
    let Some(stored) = stored else {
        return Step::Make(Useless::Missing);
    };
    let Stored {
        authorities,
        certificate,
        key,
        next,
        shown_since,
    } = stored;
    let at = |certificate: &str, key: &str, at| usable(authorities, certificate, key, name, at);
    if let Err(useless) = at(certificate, key, now) {
        return Step::Make(useless);
    }
    if let Some(next) = next {
        let is_usable = at(&next.certificate, &next.key, now + RENEW).is_ok();
        return match (
            is_usable,
            is_believed && next.since.saturating_add(SETTLE) <= now,
        ) {
            (false, _) => Step::Prepare,
            (true, true) => Step::Show,
            (true, false) => Step::Keep,
        };
    }
    if at(certificate, key, now + RENEW).is_err() {
        return Step::Prepare;
    }
    let is_settled = shown_since.saturating_add(FORGET) <= now;
    match is_settled && vouching(authorities, certificate, name, now) != *authorities {
        true => Step::Forget,
        false => Step::Keep,
    }
}

/// The Secret after the step.
pub(crate) fn after(
    step: &Step,
    stored: Option<&Stored>,
    name: &str,
    now: u64,
) -> Result<Option<Stored>, rcgen::Error> {
    let stored = stored.cloned().unwrap_or_default();
    Ok(match step {
        Step::Keep => None,
        Step::Make(_) => {
            let issued = issue::issue(name, now, now + VALID)?;
            Some(Stored {
                authorities: issued.authority,
                certificate: issued.certificate,
                key: issued.key,
                next: None,
                shown_since: now,
            })
        }
        Step::Prepare => {
            let issued = issue::issue(name, now, now + VALID)?;
            let shown = vouching(&stored.authorities, &stored.certificate, name, now);
            Some(Stored {
                // Of a next one that was never shown nothing is kept.
                authorities: shown + &issued.authority,
                next: Some(Next {
                    certificate: issued.certificate,
                    key: issued.key,
                    since: now,
                }),
                ..stored
            })
        }
        Step::Show => stored.next.clone().map(|next| Stored {
            certificate: next.certificate,
            key: next.key,
            next: None,
            shown_since: now,
            ..stored
        }),
        Step::Forget => Some(Stored {
            authorities: vouching(&stored.authorities, &stored.certificate, name, now),
            ..stored
        }),
    })
}

/// What a server shows.
pub(crate) fn certified(certificate: &str, key: &str) -> Result<CertifiedKey, Useless> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_no_pem| Useless::NotPem("tls.crt"))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
    let key = key.map_err(|_no_pem| Useless::NotPem("tls.key"))?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(Useless::Key)
}

/// Whether a client that believes the authorities is content with the certificate.
fn usable(
    authorities: &str,
    certificate: &str,
    key: &str,
    name: &str,
    at: u64,
) -> Result<(), Useless> {
    let shown = certified(certificate, key)?;
    vouched(&ders(authorities)?, &shown.cert, name, at)
}

fn vouched(
    authorities: &[CertificateDer<'static>],
    chain: &[CertificateDer<'static>],
    name: &str,
    at: u64,
) -> Result<(), Useless> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities.iter().cloned());
    let provider: Arc<CryptoProvider> = ring::default_provider().into();
    let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider)
        .build()
        .map_err(|_no_roots| Useless::NoAuthority)?;
    let server = ServerName::try_from(name.to_owned());
    let server = server.map_err(|_no_name| Useless::Name(name.to_owned()))?;
    let (first, rest) = chain.split_first().ok_or(Useless::NotPem("tls.crt"))?;
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
    let verified = verifier.verify_server_cert(first, rest, &server, &[], at);
    verified.map(drop).map_err(Useless::Refused)
}

/// Those of the authorities without which the certificate would not be believed, as one text.
fn vouching(authorities: &str, certificate: &str, name: &str, now: u64) -> String {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate.as_bytes())
        .filter_map(Result::ok)
        .collect();
    let all = ders(authorities).unwrap_or_default().into_iter();
    all.filter(|one| vouched(std::slice::from_ref(one), &chain, name, now).is_ok())
        .map(|one| issue::pem(&one))
        .collect()
}

fn ders(authorities: &str) -> Result<Vec<CertificateDer<'static>>, Useless> {
    CertificateDer::pem_slice_iter(authorities.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_no_pem| Useless::NotPem("ca.crt"))
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the keys.
        f.debug_struct("Stored")
            .field("shown_since", &self.shown_since)
            .field("next", &self.next.as_ref().map(|next| next.since))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
