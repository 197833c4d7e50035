// SPDX-License-Identifier: Apache-2.0
//! Bytes from the ring buffer for logs to what they mean. As in `decode.rs`, nothing is cast.

use crate::abi::{self, ev_log, ev_log_head, ev_repeats};
use crate::decode::{DecodeError, Strings, actor, operation, read_u32, read_u64};
use gorget_engine::object_from_bytes;
use gorget_model::{
    Address, Asked, Capability, Category, KernelLog, KernelRepeats, Logged, LoggedPath, Object,
    Repeats, Socket, Syscall,
};
use std::mem::offset_of;

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogRecord {
    /// Something was done.
    Log(Box<KernelLog>),
    /// The same was done again.
    Repeats(KernelRepeats),
}

/// Decodes one record.
pub(crate) fn decode(record: &[u8]) -> Result<LogRecord, DecodeError> {
    let word = |at: usize| read_u32(record, at);
    let found = word(offset_of!(ev_log_head, abi))?;
    let known = abi::limit::ABI_VERSION.0;
    if found != known {
        return Err(DecodeError::Layout { found, known });
    }
    let boot_ns = read_u64(record, offset_of!(ev_log_head, boot_ns))?;
    let of = Repeats {
        slot: word(offset_of!(ev_log_head, slot))?,
        serial: read_u64(record, offset_of!(ev_log_head, serial))?,
    };
    let kind = abi::log_kind(word(offset_of!(ev_log_head, kind))?);
    if kind == abi::log_kind::ABI_LOG_REPEATS {
        return Ok(LogRecord::Repeats(KernelRepeats {
            boot_ns,
            of,
            count: read_u64(record, offset_of!(ev_repeats, count))?,
        }));
    }
    let mut strings = Strings::new(record, size_of::<ev_log>());
    let object = strings.next(word(offset_of!(ev_log, object_len))?)?;
    Ok(LogRecord::Log(Box::new(KernelLog {
        boot_ns,
        workload: word(offset_of!(ev_log, workload))?,
        what: logged(record, kind, object)?,
        result: word(offset_of!(ev_log, result))?.cast_signed(),
        repeats: (of.slot < abi::limit::ABI_LOG_SLOTS.0).then_some(of),
        task: actor(record, offset_of!(ev_log, actor), &mut strings)?,
    })))
}

fn logged(record: &[u8], kind: abi::log_kind, object: Vec<u8>) -> Result<Logged, DecodeError> {
    let number = read_u32(record, offset_of!(ev_log, number))?;
    let call = || call(read_u32(record, offset_of!(ev_log, call))?);
    Ok(match kind {
        abi::log_kind::ABI_LOG_EXEC => Logged::Exec {
            call: call()?,
            path: path(record, object)?,
        },
        abi::log_kind::ABI_LOG_EXIT => Logged::Exit { status: number },
        abi::log_kind::ABI_LOG_FILE => Logged::File {
            asked: asked(record)?,
            path: path(record, object)?,
        },
        abi::log_kind::ABI_LOG_NETWORK => {
            let [family, kind, low, high] = number.to_le_bytes();
            Logged::Network {
                asked: asked(record)?,
                socket: Socket {
                    family,
                    kind,
                    protocol: u16::from_le_bytes([low, high]),
                },
                address: Address::from_bytes(&object),
            }
        }
        abi::log_kind::ABI_LOG_CAPABILITY => {
            let capability = u8::try_from(number).ok().and_then(Capability::from_number);
            let category = Category::Capability;
            Logged::Capability(capability.ok_or(DecodeError::Object { category })?)
        }
        abi::log_kind::ABI_LOG_LOOKUP => Logged::Lookup(object.into_iter().rev().collect()),
        abi::log_kind(value) => {
            let field = "kind";
            return Err(DecodeError::Range { field, value });
        }
    })
}

fn asked(record: &[u8]) -> Result<Asked, DecodeError> {
    let word = read_u32(record, offset_of!(ev_log, call))?;
    let flags = read_u32(record, offset_of!(ev_log, flags))?;
    Ok(match flags & abi::log_flag::ABI_LOG_BY_RING.0 {
        0 => Asked::Call(call(word)?),
        _ => Asked::Ring(operation(word)?),
    })
}

/// The word has the two bytes that a call is in rules, the first in the lowest.
fn call(word: u32) -> Result<Syscall, DecodeError> {
    let [high, low, ..] = word.to_le_bytes();
    let category = Category::Syscall;
    match object_from_bytes(category, &[high, low]) {
        Some(Object::Syscall { call, path: _ }) => Ok(call),
        _ => Err(DecodeError::Object { category }),
    }
}

fn path(record: &[u8], path: Vec<u8>) -> Result<LoggedPath, DecodeError> {
    let flags = read_u32(record, offset_of!(ev_log, flags))?;
    Ok(match flags & abi::log_flag::ABI_LOG_AS_WRITTEN.0 {
        _ if path.is_empty() => LoggedPath::Unknown,
        0 => LoggedPath::Found(path),
        _ => LoggedPath::Written(path),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::ev_actor;
    use gorget_model::Operation;

    fn record(kind: abi::log_kind, number: u32, strings: &[&[u8]]) -> Vec<u8> {
        let mut bytes = vec![0; size_of::<ev_log>()];
        let mut put = |at: usize, word: u32| bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        put(offset_of!(ev_log_head, abi), abi::limit::ABI_VERSION.0);
        put(offset_of!(ev_log_head, kind), kind.0);
        put(offset_of!(ev_log_head, slot), 7);
        // The first of all calls.
        put(offset_of!(ev_log, call), 1 | 1 << 8);
        put(offset_of!(ev_log, number), number);
        put(offset_of!(ev_log, result), (-2i32).cast_unsigned());
        let actor = offset_of!(ev_log, actor);
        let lengths = [
            offset_of!(ev_log, object_len),
            actor + offset_of!(ev_actor, exe_len),
            actor + offset_of!(ev_actor, parent_len),
        ];
        for (length, string) in lengths.into_iter().zip(strings) {
            let len = u32::try_from(string.len()).unwrap();
            put(length, len);
        }
        bytes.extend(strings.concat());
        bytes
    }

    fn log(bytes: &[u8]) -> KernelLog {
        match decode(bytes) {
            Ok(LogRecord::Log(log)) => *log,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_log_has_its_object_its_result_and_its_actor() {
        let strings: [&[u8]; 3] = [b"/etc/hosts", b"/bin/cat", b"/bin/sh"];
        let found = log(&record(abi::log_kind::ABI_LOG_FILE, 0, &strings));
        let path = LoggedPath::Found(b"/etc/hosts".to_vec());
        assert!(matches!(found.what, Logged::File { path: p, .. } if p == path));
        assert_eq!(
            (found.result, found.task.exe.as_slice()),
            (-2, &b"/bin/cat"[..])
        );
        assert_eq!(found.repeats, Some(Repeats { slot: 7, serial: 0 }));
    }

    #[test]
    fn what_a_ring_did_is_named_by_its_operation() {
        let mut bytes = record(abi::log_kind::ABI_LOG_FILE, 0, &[b"/a"]);
        let mut put = |at: usize, word: u32| bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        put(offset_of!(ev_log, flags), abi::log_flag::ABI_LOG_BY_RING.0);
        put(offset_of!(ev_log, call), abi::operation::ABI_OP_RENAME.0);
        let Logged::File { asked, .. } = log(&bytes).what else {
            panic!("no file");
        };
        assert_eq!(asked, Asked::Ring(Operation::Rename));
    }

    #[test]
    fn sockets_capabilities_names_and_ends_are_told_apart() {
        let number = 2 | 1 << 8 | 6 << 16;
        let address: [&[u8]; 1] = [&[2, 0, 0, 80, 127, 0, 0, 1]];
        let what = log(&record(abi::log_kind::ABI_LOG_NETWORK, number, &address)).what;
        let Logged::Network {
            socket, address, ..
        } = what
        else {
            panic!("{what:?}");
        };
        assert_eq!((socket.family, socket.kind, socket.protocol), (2, 1, 6));
        assert_eq!(address, Address::V4([127, 0, 0, 1].into(), 80));
        let what = |kind, number| log(&record(kind, number, &[b"gro.a"])).what;
        assert_eq!(
            what(abi::log_kind::ABI_LOG_LOOKUP, 0),
            Logged::Lookup(b"a.org".to_vec())
        );
        assert_eq!(
            what(abi::log_kind::ABI_LOG_EXIT, 256),
            Logged::Exit { status: 256 }
        );
        let Logged::Capability(capability) = what(abi::log_kind::ABI_LOG_CAPABILITY, 13) else {
            panic!("no capability");
        };
        assert_eq!(capability.to_string(), "CAP_NET_RAW");
    }

    #[test]
    fn numbers_out_of_range_are_named_and_shorter_records_are_truncated() {
        let bytes = record(abi::log_kind::ABI_LOG_COUNT, 0, &[]);
        let value = abi::log_kind::ABI_LOG_COUNT.0;
        let field = "kind";
        assert_eq!(decode(&bytes), Err(DecodeError::Range { field, value }));
        let bytes = record(abi::log_kind::ABI_LOG_CAPABILITY, 99, &[]);
        assert!(matches!(decode(&bytes), Err(DecodeError::Object { .. })));
        let whole = record(abi::log_kind::ABI_LOG_FILE, 0, &[b"/a"]);
        for len in 0..whole.len() {
            assert_eq!(decode(&whole[..len]), Err(DecodeError::Truncated { len }));
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
            let mut bytes = bytes;
            if let Some(abi) = bytes.get_mut(8..12) {
                abi.copy_from_slice(&abi::limit::ABI_VERSION.0.to_ne_bytes());
            }
            drop(decode(&bytes));
        }
    }
}
