// SPDX-License-Identifier: Apache-2.0
//! A certificate and the authority that vouches for it and for nothing else.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use std::time::Duration;

/// Clocks of a cluster differ.
const BEFORE: u64 = 3_600;
/// In the year 8307: no certificate can name a year after 9999.
const LATEST: u64 = 200_000_000_000;
/// Of base64 in PEM.
const LINE: usize = 64;

/// As PEM.
pub(super) struct Issued {
    pub(super) authority: String,
    pub(super) certificate: String,
    pub(super) key: String,
}

/// Makes both, for a server's name and a time in seconds since 1970.
pub(super) fn issue(name: &str, from: u64, until: u64) -> Result<Issued, rcgen::Error> {
    let from = from.saturating_sub(BEFORE);
    // The name tells authorities of different times apart.
    let mut authority = params(&format!("gorget-operator, from {from}"), from, until)?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let signing = KeyPair::generate()?;
    let authority_certificate = authority.self_signed(&signing)?;
    let mut server = params("gorget-operator", from, until)?;
    server.subject_alt_names = CertificateParams::new(vec![name.to_owned()])?.subject_alt_names;
    server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    server.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = server.signed_by(&key, &Issuer::new(authority, signing))?;
    Ok(Issued {
        authority: pem(authority_certificate.der()),
        certificate: pem(certificate.der()),
        key: key.serialize_pem(),
    })
}

fn params(common_name: &str, from: u64, until: u64) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, common_name);
    params.distinguished_name = subject;
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(from.min(LATEST));
    params.not_after = epoch + Duration::from_secs(until.min(LATEST));
    Ok(params)
}

/// As text.
pub(super) fn pem(certificate: &CertificateDer<'_>) -> String {
    let encoded = STANDARD.encode(certificate);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    for (number, character) in encoded.chars().enumerate() {
        if number > 0 && number % LINE == 0 {
            text.push('\n');
        }
        text.push(character);
    }
    text.push_str("\n-----END CERTIFICATE-----\n");
    text
}
