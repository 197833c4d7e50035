// SPDX-License-Identifier: Apache-2.0
//! Certificates between agents and who asks them: one authority, whose key is kept nowhere, and one certificate
//! for all, as the chart makes them.

use crate::cluster::NAMESPACE;
use crate::cluster::tunnels::AGENTS_NAME;
use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};

/// Where agents, relay and operator look for them.
pub(super) const SECRET: &str = "gorget-feed-tls";
/// What is in it.
pub(super) const PARTS: [&str; 3] = ["ca.crt", "tls.crt", "tls.key"];
const DAY: u64 = 24 * 3_600;
/// As in the chart.
const DAYS: u64 = 3_650;

/// The Secret with new ones.
pub(super) fn secret(now: SystemTime) -> Result<Value> {
    let issued = issue(now).context("cannot make certificates for the feed")?;
    let [ca, certificate, key] = issued.map(|part| STANDARD.encode(part));
    Ok(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": SECRET,
            "namespace": NAMESPACE,
            "labels": {"app.kubernetes.io/part-of": "gorget"},
        },
        "type": "kubernetes.io/tls",
        "data": {"ca.crt": ca, "tls.crt": certificate, "tls.key": key},
    }))
}

fn issue(now: SystemTime) -> Result<[String; 3]> {
    let now = now.duration_since(SystemTime::UNIX_EPOCH)?;
    let mut authority = params("gorget", now)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let signing = KeyPair::generate()?;
    let ca = authority.self_signed(&signing)?.pem();
    let mut both = params(AGENTS_NAME, now)?;
    let names = CertificateParams::new(vec![AGENTS_NAME.to_owned()])?;
    both.subject_alt_names = names.subject_alt_names;
    both.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // Relay and operator show it to agents.
    both.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    both.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = both.signed_by(&key, &Issuer::new(authority, signing))?;
    Ok([ca, certificate.pem(), key.serialize_pem()])
}

/// From a day ago, because clocks of a cluster differ.
fn params(common_name: &str, now: Duration) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, common_name);
    params.distinguished_name = subject;
    let epoch = date_time_ymd(1970, 1, 1);
    let (day, days) = (Duration::from_secs(DAY), Duration::from_secs(DAYS * DAY));
    params.not_before = epoch + now.saturating_sub(day);
    params.not_after = epoch + now.saturating_add(days);
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gorget_telemetry::{Address, Client, ClientTls, Feeder, Services, Tcp, Tls};

    #[test]
    fn an_agent_and_who_asks_it_believe_each_other_with_them() {
        #[expect(clippy::disallowed_methods, reason = "rustls looks at the clock, too")]
        let secret = secret(SystemTime::now()).unwrap();
        let part = |name: &str| {
            let part = secret["data"][name].as_str().unwrap();
            STANDARD.decode(part).unwrap()
        };
        let [ca, certificate, key] = PARTS.map(part);
        crate::cluster::runtime().unwrap().block_on(async {
            let tls = Tls {
                ca: ca.clone(),
                certificate: certificate.clone(),
                key: key.clone(),
            };
            let tcp = Tcp::bind("127.0.0.1:0".parse().unwrap(), Some(tls))
                .await
                .unwrap();
            let address = tcp.address().unwrap();
            let services = Services::new(Feeder::new());
            let served = tcp.serve(services, std::future::pending());
            let asked = async {
                let tls = ClientTls {
                    ca,
                    identity: Some((certificate, key)),
                    server_name: Some(AGENTS_NAME.to_owned()),
                };
                let address = Address::Tcp(address.to_string());
                let mut client = Client::connect_to(&address, Some(&tls)).await.unwrap();
                // Only an answer says that the agent believes, too.
                client.messages().await
            };
            tokio::select! {
                served = served => panic!("{served:?}"),
                asked = asked => drop(asked.unwrap()),
            }
        });
    }
}
