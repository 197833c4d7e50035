// SPDX-License-Identifier: Apache-2.0
//! Objects that are names: protocols, domains, capabilities, presets, USB devices.
//!
//! Protocols, capabilities and domains may be written with commas between them; every element
//! becomes an object. KubeArmor's schema looks only at the end of such a list and the daemon takes
//! an unknown capability for `chown`; here every element must be known.

use crate::fields::{Field, Fields, Text, not_one_of};
use crate::policy::{DeviceMatcher, ObjectMatcher};
use crate::problem::{Problems, quote};
use gorget_model::{Capability, Preset, Protocol, class_by_name};

/// RFC 1035, 2.3.4, without the dot at the end.
const MOST_DOMAIN: usize = 253;

/// RFC 1035, 2.3.4.
const MOST_LABEL: usize = 63;

/// `network.matchProtocols`.
pub(crate) fn protocols(entry: &Fields<'_>, problems: &mut Problems) -> Vec<ObjectMatcher> {
    let known = || Protocol::ALL.map(Protocol::name).to_vec();
    named(entry, "protocol", known, problems, |name| {
        Protocol::from_name(name).map(ObjectMatcher::Protocol)
    })
}

/// `capabilities.matchCapabilities`, with or without `cap_`.
pub(crate) fn capabilities(entry: &Fields<'_>, problems: &mut Problems) -> Vec<ObjectMatcher> {
    let known = || Capability::all().map(Capability::name).collect();
    named(entry, "capability", known, problems, |name| {
        let name = name.strip_prefix("cap_").unwrap_or(name);
        Capability::from_name(name).map(ObjectMatcher::Capability)
    })
}

/// `network.matchDNSQueries`.
pub(crate) fn domains(entry: &Fields<'_>, problems: &mut Problems) -> Vec<ObjectMatcher> {
    let field = Field::Key(&entry.field, "domain");
    let mut domains = Vec::new();
    for written in elements(entry, "domain", problems) {
        match domain(written.text) {
            Ok(domain) => {
                if domain.contains('*') {
                    let reason = format!("in {} the `*` stands for itself", quote(written.text));
                    let help = "a domain covers everything below it";
                    problems.warning(written.at, field, reason, help);
                }
                domains.push(ObjectMatcher::Domain(domain));
            }
            Err(error) => {
                let reason = format!("{} {error}", quote(written.text));
                match error.help() {
                    Some(help) => problems.error_with_help(written.at, field, reason, help),
                    None => problems.error(written.at, field, reason),
                }
            }
        }
    }
    domains
}

/// `presets`.
pub(crate) fn presets(entry: &Fields<'_>, problems: &mut Problems) -> Vec<ObjectMatcher> {
    let Some(name) = entry.text("name", problems) else {
        return Vec::new();
    };
    let preset = Preset::from_name(name.text);
    if preset.is_none() {
        let field = Field::Key(&entry.field, "name");
        not_one_of(name, field, &Preset::ALL.map(Preset::name), problems);
    }
    preset.map(ObjectMatcher::Preset).into_iter().collect()
}

/// `device.matchDevice`.
pub(crate) fn devices(entry: &Fields<'_>, problems: &mut Problems) -> Vec<ObjectMatcher> {
    let mut byte = |name| {
        let number = entry.number(name, problems);
        number.and_then(|number| u8::try_from(number).ok())
    };
    let (subclass, protocol, level) = (byte("subClass"), byte("protocol"), byte("level"));
    let Some(written) = entry.text("class", problems) else {
        return Vec::new();
    };
    let Some(class) = device_class(written.text) else {
        let reason = format!("{} is not a USB class", quote(written.text));
        let help = "write a number from 0 to 255, `0x` and hexadecimal digits, a name such as \
                    `MASS-STORAGE`, or `ALL`";
        problems.error_with_help(written.at, Field::Key(&entry.field, "class"), reason, help);
        return Vec::new();
    };
    vec![ObjectMatcher::Device(DeviceMatcher {
        class,
        subclass,
        protocol,
        level,
    })]
}

/// `Some(None)` is every class.
fn device_class(text: &str) -> Option<Option<u8>> {
    if text.eq_ignore_ascii_case("ALL") {
        return Some(None);
    }
    let hexadecimal = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
    let is_digits = |digits: &str, radix| digits.chars().all(|digit| digit.is_digit(radix));
    let number = match hexadecimal {
        Some(digits) if is_digits(digits, 16) => u8::from_str_radix(digits, 16).ok(),
        None if is_digits(text, 10) => text.parse().ok(),
        Some(_) | None => class_by_name(text),
    };
    number.map(Some)
}

/// The objects of a comma list of names, in any case.
fn named(
    entry: &Fields<'_>,
    field: &str,
    known: fn() -> Vec<&'static str>,
    problems: &mut Problems,
    object: impl Fn(&str) -> Option<ObjectMatcher>,
) -> Vec<ObjectMatcher> {
    let mut objects = Vec::new();
    for written in elements(entry, field, problems) {
        match object(&written.text.to_ascii_lowercase()) {
            Some(object) => objects.push(object),
            None => not_one_of(written, Field::Key(&entry.field, field), &known(), problems),
        }
    }
    objects
}

/// What is between the commas, without spaces.
fn elements<'n>(entry: &Fields<'n>, name: &str, problems: &mut Problems) -> Vec<Text<'n>> {
    let Some(written) = entry.text(name, problems) else {
        return Vec::new();
    };
    let mut elements = Vec::new();
    for element in written.text.split(',').map(str::trim) {
        if element.is_empty() {
            let reason = match written.text.trim() {
                "" => "is empty".to_owned(),
                _ => format!("{} has an empty element", quote(written.text)),
            };
            problems.error(written.at, Field::Key(&entry.field, name), reason);
            return Vec::new();
        }
        elements.push(Text {
            text: element,
            at: written.at,
        });
    }
    elements
}

/// Why something is not a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum DomainError {
    #[error("has an empty label")]
    EmptyLabel,
    #[error("has a label of more than {MOST_LABEL} bytes")]
    LongLabel,
    #[error("is longer than {MOST_DOMAIN} bytes")]
    Long,
    #[error("contains a character that no query contains")]
    Character,
}

impl DomainError {
    fn help(self) -> Option<&'static str> {
        match self {
            Self::EmptyLabel => Some("write `example.com`, which covers everything below it"),
            Self::Character => Some(
                "write the name alone; letters that are not ASCII as in `xn--bcher-kva.example`",
            ),
            Self::LongLabel | Self::Long => None,
        }
    }
}

/// Lower case, without the dot at the end.
fn domain(text: &str) -> Result<String, DomainError> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let in_no_query = |c: char| !c.is_ascii_graphic() || matches!(c, '/' | ':' | '\\' | '@');
    if name.contains(in_no_query) {
        return Err(DomainError::Character);
    }
    if name.split('.').any(str::is_empty) {
        return Err(DomainError::EmptyLabel);
    }
    if name.split('.').any(|label| label.len() > MOST_LABEL) {
        return Err(DomainError::LongLabel);
    }
    if name.len() > MOST_DOMAIN {
        return Err(DomainError::Long);
    }
    Ok(name.to_ascii_lowercase())
}
