// SPDX-License-Identifier: Apache-2.0
//! Which strings of bytes are objects, category by category.
//!
//! Automata answer any bytes, objects are only some: a path begins with a slash and has no empty
//! component and no `.` and `..`; a label of a domain has at most 63 bytes; a system call has one of
//! the names that there are. A search that walks an automaton keeps to these rules, so that what it
//! finds can happen.
//!
//! A grammar is a small automaton of its own, and it prefers some bytes to others: of two objects
//! equally long a person would rather read the one with letters.
//!
//! INVARIANT: `crate::object_from_bytes` reads what a grammar of a category accepts, and
//! `crate::object_bytes` gives the same bytes again.

use gorget_model::network::{
    AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_TCP,
    IPPROTO_UDP,
};
use gorget_model::{Capability, Category, Preset, Syscall};

/// The language of the objects of a category, or of the images of subjects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Grammar {
    /// An absolute path.
    Path,
    /// The path of something that runs, so not of the root directory.
    Image,
    /// Family, type, protocol.
    Socket,
    /// A domain, last byte first.
    Domain,
    /// One byte, from 1 to this.
    Number(u8),
    /// A system call, with or without a path.
    Call,
    /// Class, subclass, protocol, level.
    Device,
    /// Any string, to see what a rule names that no object can be.
    Anything,
}

/// What the kernel takes as a path, less the NUL at its end.
const LONGEST_PATH: usize = 4095;
const LONGEST_DOMAIN: usize = 253;
const LONGEST_LABEL: u8 = 63;
/// The kernel has fewer than 64 families.
const LAST_FAMILY: u8 = 63;
/// `SOCK_MAX - 1`.
const LAST_SOCKET_TYPE: u8 = 10;

const PATH_START: u8 = 0;
const PATH_ROOT: u8 = 1;
const PATH_SLASH: u8 = 2;
const PATH_DOT: u8 = 3;
const PATH_DOT_DOT: u8 = 4;
const PATH_NAME: u8 = 5;

const SOCKET_TYPE: u8 = 1;
const PACKET_TYPE: u8 = 2;
const SOCKET_PROTOCOL: u8 = 3;
const PACKET_PROTOCOL: u8 = 4;
const SOCKET_END: u8 = 5;

/// States 1 to 9 remember the first byte of the call, which has few values.
const CALL_END: u8 = 10;

/// The first half of a level: 0 needs a second half that is not.
const LEVEL: u8 = 6;
const LEVEL_BELOW_16: u8 = 7;
const LEVEL_ABOVE_15: u8 = 8;
const DEVICE_END: u8 = 9;

const NUMBER_END: u8 = 1;

impl Grammar {
    pub(crate) fn of(category: Category) -> Self {
        match category {
            Category::Process => Self::Image,
            Category::File => Self::Path,
            Category::Network => Self::Socket,
            Category::Dns => Self::Domain,
            Category::Capability => Self::Number(count(Capability::all().count())),
            Category::Syscall => Self::Call,
            Category::Device => Self::Device,
            Category::Preset => Self::Number(count(Preset::ALL.len())),
        }
    }

    /// How many states there are; 0 is where every object begins.
    pub(crate) fn states(self) -> u8 {
        match self {
            Self::Path | Self::Image => PATH_NAME + 1,
            Self::Socket => SOCKET_END + 1,
            Self::Domain => LONGEST_LABEL + 1,
            Self::Number(_) => NUMBER_END + 1,
            Self::Call => CALL_END + PATH_NAME + 1,
            Self::Device => DEVICE_END + 1,
            Self::Anything => 1,
        }
    }

    /// The state after `byte`; `None` when nothing that begins so is an object.
    pub(crate) fn step(self, state: u8, byte: u8) -> Option<u8> {
        if byte == 0 {
            return None;
        }
        match self {
            Self::Path | Self::Image => path_step(state, byte),
            Self::Socket => socket_step(state, byte),
            Self::Domain => match byte {
                b'.' => (state > 0).then_some(0),
                b'A'..=b'Z' => None,
                _ => (state < LONGEST_LABEL).then(|| state.saturating_add(1)),
            },
            Self::Number(last) => (state == 0 && byte <= last).then_some(NUMBER_END),
            Self::Call => call_step(state, byte),
            Self::Device => device_step(state, byte),
            Self::Anything => Some(state),
        }
    }

    pub(crate) fn accepts(self, state: u8) -> bool {
        match self {
            Self::Path => state == PATH_ROOT || state == PATH_NAME,
            Self::Image => state == PATH_NAME,
            Self::Socket => state == SOCKET_END,
            Self::Domain => state > 0,
            Self::Number(_) => state == NUMBER_END,
            Self::Call => match state.checked_sub(CALL_END) {
                None => false,
                Some(path) => path == PATH_START || Self::Path.accepts(path),
            },
            Self::Device => state == DEVICE_END,
            Self::Anything => true,
        }
    }

    /// The most bytes that an object can have.
    pub(crate) fn longest(self) -> usize {
        match self {
            Self::Path | Self::Image | Self::Anything => LONGEST_PATH,
            Self::Socket => 3,
            Self::Domain => LONGEST_DOMAIN,
            Self::Number(_) => 1,
            Self::Call => LONGEST_PATH + 2,
            Self::Device => 8,
        }
    }

    /// Every byte that can follow and where it leads, the most readable first.
    pub(crate) fn steps(self, state: u8) -> Vec<(u8, u8)> {
        let mut steps: Vec<(u8, u8)> = (1..=u8::MAX)
            .filter_map(|byte| Some((byte, self.step(state, byte)?)))
            .collect();
        steps.sort_by_key(|(byte, _)| (self.strangeness(state, *byte), *byte));
        steps
    }

    fn strangeness(self, state: u8, byte: u8) -> usize {
        let families = [AF_INET, AF_INET6, AF_UNIX, AF_NETLINK, AF_PACKET];
        let protocols = [0, IPPROTO_TCP, IPPROTO_UDP, IPPROTO_ICMP, IPPROTO_ICMPV6];
        let place = |known: &[u16]| {
            let number = u16::from(byte).saturating_sub(1);
            known.iter().position(|k| *k == number)
        };
        match self {
            Self::Socket if state == 0 => place(&families.map(u16::from)).unwrap_or(families.len()),
            Self::Socket if state == SOCKET_PROTOCOL => {
                place(&protocols).unwrap_or(protocols.len())
            }
            Self::Call if state < CALL_END => 0,
            Self::Socket | Self::Number(_) | Self::Device => 0,
            Self::Path | Self::Image | Self::Domain | Self::Call | Self::Anything => match byte {
                b'a'..=b'z' => 0,
                b'0'..=b'9' => 1,
                b'/' => 2,
                b'.' | b'-' | b'_' => 3,
                b'A'..=b'Z' => 4,
                b'!'..=b'~' => 5,
                _ => 6,
            },
        }
    }
}

fn count(count: usize) -> u8 {
    u8::try_from(count).unwrap_or(u8::MAX)
}

fn path_step(state: u8, byte: u8) -> Option<u8> {
    match (state, byte) {
        (PATH_START, b'/') => Some(PATH_ROOT),
        (PATH_NAME, b'/') => Some(PATH_SLASH),
        (PATH_START, _) | (_, b'/') => None,
        (PATH_ROOT | PATH_SLASH, b'.') => Some(PATH_DOT),
        (PATH_DOT, b'.') => Some(PATH_DOT_DOT),
        _ => Some(PATH_NAME),
    }
}

fn socket_step(state: u8, byte: u8) -> Option<u8> {
    let number = byte.checked_sub(1)?;
    let is_type = (1..=LAST_SOCKET_TYPE).contains(&number);
    match state {
        0 if number == AF_PACKET => Some(PACKET_TYPE),
        0 => (1..=LAST_FAMILY).contains(&number).then_some(SOCKET_TYPE),
        SOCKET_TYPE => is_type.then_some(SOCKET_PROTOCOL),
        PACKET_TYPE => is_type.then_some(PACKET_PROTOCOL),
        SOCKET_PROTOCOL => Some(SOCKET_END),
        PACKET_PROTOCOL => (number == 0).then_some(SOCKET_END),
        _ => None,
    }
}

fn call_step(state: u8, byte: u8) -> Option<u8> {
    let call = |high: u8, low: u8| {
        let index = u16::from(high.checked_sub(1)?) * 255 + u16::from(low.checked_sub(1)?);
        Syscall::from_index(index)
    };
    match state {
        0 => call(byte, 1).filter(|_| byte < CALL_END).map(|_| byte),
        1..CALL_END => call(state, byte).map(|_| CALL_END),
        _ => path_step(state.checked_sub(CALL_END)?, byte)?.checked_add(CALL_END),
    }
}

fn device_step(state: u8, byte: u8) -> Option<u8> {
    let nibble = byte.checked_sub(1).filter(|nibble| *nibble < 16)?;
    match state {
        LEVEL if nibble == 0 => Some(LEVEL_BELOW_16),
        LEVEL => Some(LEVEL_ABOVE_15),
        LEVEL_BELOW_16 => (nibble > 0).then_some(DEVICE_END),
        LEVEL_ABOVE_15 => Some(DEVICE_END),
        DEVICE_END => None,
        _ => Some(state.saturating_add(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{object_bytes, object_from_bytes};
    use proptest::prelude::*;

    fn accepts(grammar: Grammar, bytes: &[u8]) -> bool {
        let state = bytes
            .iter()
            .try_fold(0, |state, byte| grammar.step(state, *byte));
        state.is_some_and(|state| grammar.accepts(state))
    }

    #[test]
    fn paths_are_absolute_and_resolved() {
        for path in ["/", "/a", "/a/b", "/.a", "/..a", "/a/.../b", "/a.", "/ "] {
            assert!(accepts(Grammar::Path, path.as_bytes()), "{path}");
        }
        for no_path in [
            "", "a", "//", "/a/", "/a//b", "/.", "/..", "/a/./b", "/a/../b", "/a\0",
        ] {
            assert!(!accepts(Grammar::Path, no_path.as_bytes()), "{no_path}");
        }
    }

    #[test]
    fn every_number_that_the_kernel_counts_is_an_object_and_no_other() {
        let numbers =
            |category| (0..=u8::MAX).filter(move |b| accepts(Grammar::of(category), &[*b]));
        assert_eq!(numbers(Category::Capability).count(), 41);
        assert_eq!(numbers(Category::Preset).count(), 5);
        let calls = (0..=u16::MAX).filter(|n| accepts(Grammar::Call, &n.to_be_bytes()));
        assert_eq!(calls.count(), Syscall::all().count());
    }

    #[test]
    fn a_device_is_behind_a_port() {
        assert!(!accepts(Grammar::Device, &[1, 1, 1, 1, 1, 1, 1, 1]));
        assert!(accepts(Grammar::Device, &[16, 16, 1, 1, 1, 1, 1, 2]));
        assert!(accepts(Grammar::Device, &[16, 16, 1, 1, 1, 1, 2, 1]));
    }

    proptest! {
        #[test]
        fn objects_have_the_bytes_that_they_were_made_of(
            choices in prop::collection::vec(any::<prop::sample::Index>(), 1..90),
        ) {
            for category in Category::ALL {
                let grammar = Grammar::of(category);
                let (mut state, mut bytes) = (0, Vec::new());
                for choice in &choices {
                    let steps = grammar.steps(state);
                    if steps.is_empty() {
                        break;
                    }
                    let (byte, next) = steps[choice.index(steps.len())];
                    bytes.push(byte);
                    state = next;
                    if grammar.accepts(state) {
                        let object = object_from_bytes(category, &bytes).unwrap();
                        prop_assert_eq!(&*object_bytes(&object).unwrap(), &*bytes);
                    }
                }
            }
        }
    }
}
