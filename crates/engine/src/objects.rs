// SPDX-License-Identifier: Apache-2.0
//! Objects of every category as strings of bytes, so that one kind of automaton serves them all.
//!
//! | category | bytes |
//! |---|---|
//! | process, file | the path |
//! | network | family, type, protocol, each in one byte, plus 1 |
//! | dns | the name in lower case, last byte first |
//! | capability | its number plus 1 |
//! | syscall | two bytes for the call, then the path if any |
//! | device | class, subclass, protocol, level, each in two bytes |
//! | preset | its place in [`Preset::ALL`] plus 1 |
//!
//! INVARIANT: no encoding contains byte 0, which backends use to end a string, and no two objects
//! that rules can tell apart have the same bytes. Backends build the same bytes in the kernel.

use gorget_model::network::{AF_PACKET, IPPROTO_MPTCP, IPPROTO_TCP};
use gorget_model::{Capability, Category, Device, Object, Preset, Socket, Syscall};
use std::borrow::Cow;

/// Rules name protocols up to 132; all above this are the same to them.
const LAST_PROTOCOL: u16 = 254;

/// The bytes that the automaton of the object's category runs over; `None` for an image without a
/// name, which no rule names.
pub fn object_bytes(object: &Object) -> Option<Cow<'_, [u8]>> {
    Some(Cow::Owned(match object {
        Object::Nameless => return None,
        Object::Path(path) => return Some(Cow::Borrowed(path)),
        Object::Socket(socket) => socket_bytes(*socket).to_vec(),
        Object::Domain(domain) => domain_bytes(domain),
        Object::Capability(capability) => vec![capability.number().saturating_add(1)],
        Object::Syscall { call, path } => {
            let mut bytes = call_bytes(*call).to_vec();
            bytes.extend(path.iter().flatten());
            bytes
        }
        Object::Device(device) => [device.class, device.subclass, device.protocol, device.level]
            .into_iter()
            .flat_map(nibbles)
            .collect(),
        Object::Preset(preset) => vec![preset_byte(*preset)],
    }))
}

/// The object that has these bytes; `None` when there is none. Paths must be absolute.
pub fn object_from_bytes(category: Category, bytes: &[u8]) -> Option<Object> {
    Some(match (category, bytes) {
        (Category::Process | Category::File, [b'/', ..]) => Object::Path(bytes.to_vec()),
        (Category::Network, [family, kind, protocol]) => Object::Socket(Socket {
            family: family.checked_sub(1)?,
            kind: kind.checked_sub(1)?,
            protocol: protocol.checked_sub(1)?.into(),
        }),
        (Category::Dns, [_, ..]) => Object::Domain(bytes.iter().rev().copied().collect()),
        (Category::Capability, [byte]) => {
            Object::Capability(Capability::from_number(byte.checked_sub(1)?)?)
        }
        (Category::Syscall, [high, low, path @ ..])
            if path.is_empty() || path.starts_with(b"/") =>
        {
            let index = u16::from(high.checked_sub(1)?) * 255 + u16::from(low.checked_sub(1)?);
            Object::Syscall {
                call: Syscall::from_index(index)?,
                path: (!path.is_empty()).then(|| path.to_vec()),
            }
        }
        (Category::Device, [class @ .., a, b, c, d, e, f]) if class.len() == 2 => {
            let [class_high, class_low] = class else {
                return None;
            };
            Object::Device(Device {
                class: byte(*class_high, *class_low)?,
                subclass: byte(*a, *b)?,
                protocol: byte(*c, *d)?,
                level: byte(*e, *f)?,
            })
        }
        (Category::Preset, [byte]) => {
            let at = usize::from(byte.checked_sub(1)?);
            Object::Preset(*Preset::ALL.get(at)?)
        }
        (
            Category::Process
            | Category::File
            | Category::Network
            | Category::Dns
            | Category::Capability
            | Category::Syscall
            | Category::Device
            | Category::Preset,
            _,
        ) => return None,
    })
}

/// MPTCP is TCP to rules, and packet sockets have an Ethernet type where others have a protocol.
fn socket_bytes(socket: Socket) -> [u8; 3] {
    let protocol = match (socket.family, socket.protocol) {
        (AF_PACKET, _) => 0,
        (_, IPPROTO_MPTCP) => IPPROTO_TCP,
        (_, protocol) => protocol.min(LAST_PROTOCOL),
    };
    let protocol = u8::try_from(protocol).unwrap_or(u8::MAX);
    [socket.family, socket.kind, protocol].map(|number| number.saturating_add(1))
}

/// Without dots at the end, as rules are written.
pub(crate) fn domain_bytes(domain: &[u8]) -> Vec<u8> {
    let bytes = domain.iter().rev().skip_while(|byte| **byte == b'.');
    bytes.map(u8::to_ascii_lowercase).collect()
}

/// 255 calls to the first byte.
pub(crate) fn call_bytes(call: Syscall) -> [u8; 2] {
    let place = |part: u16| u8::try_from(part.saturating_add(1)).unwrap_or(u8::MAX);
    [place(call.index() / 255), place(call.index() % 255)]
}

pub(crate) fn preset_byte(preset: Preset) -> u8 {
    let mut numbered = (1..).zip(Preset::ALL);
    numbered
        .find(|(_, known)| *known == preset)
        .map_or(u8::MAX, |(number, _)| number)
}

pub(crate) fn nibbles(byte: u8) -> [u8; 2] {
    [(byte >> 4) + 1, (byte & 15) + 1]
}

fn byte(high: u8, low: u8) -> Option<u8> {
    let nibble = |byte: u8| byte.checked_sub(1).filter(|nibble| *nibble < 16);
    Some(nibble(high)? << 4 | nibble(low)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use gorget_model::network::{AF_INET, SOCK_STREAM};

    fn there_and_back(category: Category, object: &Object) {
        let bytes = object_bytes(object).unwrap();
        assert!(!bytes.contains(&0), "{object:?}");
        assert_eq!(object_from_bytes(category, &bytes).as_ref(), Some(object));
    }

    #[test]
    fn every_object_is_found_again_by_its_bytes() {
        for capability in Capability::all() {
            there_and_back(Category::Capability, &Object::Capability(capability));
        }
        for call in Syscall::all() {
            let path = Some(b"/home/x".to_vec());
            there_and_back(Category::Syscall, &Object::Syscall { call, path });
            there_and_back(Category::Syscall, &Object::Syscall { call, path: None });
        }
        for preset in Preset::ALL {
            there_and_back(Category::Preset, &Object::Preset(preset));
        }
        for class in 0..=u8::MAX {
            let device = Device {
                class,
                subclass: 255 - class,
                protocol: 0,
                level: 1,
            };
            there_and_back(Category::Device, &Object::Device(device));
        }
        there_and_back(Category::File, &Object::Path(b"/etc/passwd".to_vec()));
        there_and_back(Category::Dns, &Object::Domain(b"a.example".to_vec()));
    }

    #[test]
    fn names_are_compared_without_case_and_final_dot() {
        let bytes = |name: &[u8]| {
            object_bytes(&Object::Domain(name.to_vec()))
                .unwrap()
                .into_owned()
        };
        assert_eq!(bytes(b"Google.COM."), bytes(b"google.com"));
    }

    #[test]
    fn multipath_tcp_is_tcp() {
        let bytes = |protocol| {
            let socket = Socket {
                family: AF_INET,
                kind: SOCK_STREAM,
                protocol,
            };
            object_bytes(&Object::Socket(socket)).unwrap().into_owned()
        };
        assert_eq!(bytes(IPPROTO_MPTCP), bytes(IPPROTO_TCP));
        assert_ne!(bytes(0), bytes(IPPROTO_TCP));
    }
}
