// SPDX-License-Identifier: Apache-2.0
//! Bytes from the ring buffer to [`KernelEvent`].
//!
//! Nothing is cast: every number is read at the offset that `abi.h` gives it and checked for range,
//! every string is bounded by the record. What cannot be decoded is an error with the reason, and
//! the caller counts it.

use crate::abi::{self, ev_actor, ev_decision};
use gorget_engine::object_from_bytes;
use gorget_model::{
    Category, Cause, Hashes, KernelEvent, Object, Operation, OtherPath, Outcome, Preset, RuleId,
    Session, Tamper, TaskInfo, Verdict,
};
use std::mem::offset_of;

/// A record is not what `abi.h` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It ends before its fixed part or its strings do.
    #[error("a record of {len} bytes ends too early")]
    Truncated {
        /// Bytes there are.
        len: usize,
    },
    /// The programs that wrote it have another layout.
    #[error("a record has layout {found}, this agent knows {known}")]
    Layout {
        /// In the record.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// A number is out of its range.
    #[error("a record's `{field}` is {value}, which means nothing")]
    Range {
        /// Field of the record.
        field: &'static str,
        /// Its value.
        value: u32,
    },
    /// It is about something that there is not.
    #[error("a record is about a {category} object that there is not")]
    Object {
        /// Of which kind.
        category: Category,
    },
}

/// Decodes one record.
pub(crate) fn decode(record: &[u8]) -> Result<KernelEvent, DecodeError> {
    let word = |at: usize| read_u32(record, at);
    let found = word(offset_of!(ev_decision, abi))?;
    let known = abi::limit::ABI_VERSION.0;
    if found != known {
        return Err(DecodeError::Layout { found, known });
    }
    let mut strings = Strings::new(record, size_of::<ev_decision>());
    let flags = word(offset_of!(ev_decision, flags))?;
    let operation = operation(word(offset_of!(ev_decision, operation))?)?;
    let object = strings.next(word(offset_of!(ev_decision, object_len))?)?;
    let object = match operation {
        Operation::Syscall => call(word(offset_of!(ev_decision, call))?, object)?,
        _ => self::object(operation.category(), object)?,
    };
    let task = actor(record, offset_of!(ev_decision, actor), &mut strings)?;
    let other = strings.next(word(offset_of!(ev_decision, other_len))?)?;
    Ok(KernelEvent {
        boot_ns: read_u64(record, offset_of!(ev_decision, boot_ns))?,
        workload: word(offset_of!(ev_decision, workload))?,
        ruleset: word(offset_of!(ev_decision, ruleset))?,
        operation,
        verdict: verdict(word(offset_of!(ev_decision, verdict))?)?,
        audited: flags & abi::event_flag::ABI_EVENT_AUDITED.0 != 0,
        killed: flags & abi::event_flag::ABI_EVENT_KILLED.0 != 0,
        result: word(offset_of!(ev_decision, result))?.cast_signed(),
        object,
        other_path: (!other.is_empty()).then_some(OtherPath {
            path: other,
            is_first: flags & abi::event_flag::ABI_EVENT_SECOND.0 != 0,
        }),
        task,
    })
}

/// Who acts: `at` in the record, with the strings that come next.
pub(crate) fn actor(
    record: &[u8],
    at: usize,
    strings: &mut Strings<'_>,
) -> Result<TaskInfo, DecodeError> {
    let word = |field: usize| read_u32(record, at + field);
    const {
        assert!(
            abi::limit::ABI_SESSION_NAME.0 == 32,
            "the next line knows it"
        )
    };
    let name = read::<32>(record, at + offset_of!(ev_actor, session_name))?;
    let session = Session {
        since_boot_ns: read_u64(record, at + offset_of!(ev_actor, session))?,
        program: name
            .split(|byte| *byte == 0)
            .next()
            .map(<[u8]>::to_vec)
            .unwrap_or_default(),
    };
    Ok(TaskInfo {
        host_pid: word(offset_of!(ev_actor, host_pid))?,
        host_ppid: word(offset_of!(ev_actor, host_ppid))?,
        pid: word(offset_of!(ev_actor, pid))?,
        ppid: word(offset_of!(ev_actor, ppid))?,
        uid: word(offset_of!(ev_actor, uid))?,
        session: (session.since_boot_ns != 0).then_some(session),
        exe: strings.next(word(offset_of!(ev_actor, exe_len))?)?,
        parent_exe: strings.next(word(offset_of!(ev_actor, parent_len))?)?,
        cwd: strings.next(word(offset_of!(ev_actor, cwd_len))?)?,
        tty: strings.next(word(offset_of!(ev_actor, tty_len))?)?,
        args: strings.next(word(offset_of!(ev_actor, args_len))?)?,
        // They are looked up afterwards, where they are made.
        hashes: Hashes::default(),
    })
}

/// Paths are what they are; everything else is a word whose unused bytes are 0.
fn object(category: Category, mut bytes: Vec<u8>) -> Result<Object, DecodeError> {
    if matches!(
        category,
        Category::Process | Category::File | Category::Preset
    ) {
        return Ok(match bytes.is_empty() {
            true => Object::Nameless,
            false => Object::Path(bytes),
        });
    }
    while bytes.pop_if(|last| *last == 0).is_some() {}
    object_from_bytes(category, &bytes).ok_or(DecodeError::Object { category })
}

/// The word has the two bytes that a call is in rules, the first in the lowest.
fn call(word: u32, path: Vec<u8>) -> Result<Object, DecodeError> {
    let [high, low, ..] = word.to_le_bytes();
    let category = Category::Syscall;
    match object_from_bytes(category, &[high, low]) {
        Some(Object::Syscall { call, path: _ }) => Ok(Object::Syscall {
            call,
            path: Some(path).filter(|path| !path.is_empty()),
        }),
        _ => Err(DecodeError::Object { category }),
    }
}

/// The strings of a record, one after the other.
pub(crate) struct Strings<'a> {
    record: &'a [u8],
    at: usize,
}

impl<'a> Strings<'a> {
    pub(crate) fn new(record: &'a [u8], at: usize) -> Self {
        Self { record, at }
    }

    pub(crate) fn next(&mut self, len: u32) -> Result<Vec<u8>, DecodeError> {
        let truncated = DecodeError::Truncated {
            len: self.record.len(),
        };
        let end = usize::try_from(len)
            .ok()
            .and_then(|len| self.at.checked_add(len))
            .ok_or(truncated)?;
        let bytes = self.record.get(self.at..end).ok_or(truncated)?;
        self.at = end;
        Ok(bytes.to_vec())
    }
}

pub(crate) fn read<const N: usize>(record: &[u8], at: usize) -> Result<[u8; N], DecodeError> {
    record
        .get(at..)
        .and_then(|rest| rest.first_chunk::<N>())
        .copied()
        .ok_or(DecodeError::Truncated { len: record.len() })
}

pub(crate) fn read_u32(record: &[u8], at: usize) -> Result<u32, DecodeError> {
    read(record, at).map(u32::from_ne_bytes)
}

pub(crate) fn read_u64(record: &[u8], at: usize) -> Result<u64, DecodeError> {
    read(record, at).map(u64::from_ne_bytes)
}

pub(crate) fn operation(value: u32) -> Result<Operation, DecodeError> {
    Ok(match abi::operation(value) {
        abi::operation::ABI_OP_EXEC => Operation::Exec,
        abi::operation::ABI_OP_OPEN => Operation::Open,
        abi::operation::ABI_OP_PERMISSION => Operation::Permission,
        abi::operation::ABI_OP_CREATE => Operation::Create,
        abi::operation::ABI_OP_MKDIR => Operation::Mkdir,
        abi::operation::ABI_OP_UNLINK => Operation::Unlink,
        abi::operation::ABI_OP_RMDIR => Operation::Rmdir,
        abi::operation::ABI_OP_SYMLINK => Operation::Symlink,
        abi::operation::ABI_OP_LINK => Operation::Link,
        abi::operation::ABI_OP_RENAME => Operation::Rename,
        abi::operation::ABI_OP_CHMOD => Operation::Chmod,
        abi::operation::ABI_OP_CHOWN => Operation::Chown,
        abi::operation::ABI_OP_TRUNCATE => Operation::Truncate,
        abi::operation::ABI_OP_SETATTR => Operation::Setattr,
        abi::operation::ABI_OP_SETXATTR => Operation::Setxattr,
        abi::operation::ABI_OP_IOCTL => Operation::Ioctl,
        abi::operation::ABI_OP_LOCAL_CONNECT => Operation::LocalConnect,
        abi::operation::ABI_OP_MOUNT => Operation::Mount,
        abi::operation::ABI_OP_UMOUNT => Operation::Umount,
        abi::operation::ABI_OP_PIVOT_ROOT => Operation::PivotRoot,
        abi::operation::ABI_OP_LOAD => Operation::Load,
        abi::operation::ABI_OP_SOCKET_CREATE => Operation::SocketCreate,
        abi::operation::ABI_OP_SOCKET_BIND => Operation::SocketBind,
        abi::operation::ABI_OP_SOCKET_CONNECT => Operation::SocketConnect,
        abi::operation::ABI_OP_SOCKET_LISTEN => Operation::SocketListen,
        abi::operation::ABI_OP_SOCKET_ACCEPT => Operation::SocketAccept,
        abi::operation::ABI_OP_SOCKET_SEND => Operation::SocketSend,
        abi::operation::ABI_OP_LOOKUP => Operation::Lookup,
        abi::operation::ABI_OP_CAPABLE => Operation::Capable,
        abi::operation::ABI_OP_PRESET_ANONYMOUS_MAP_EXEC => {
            Operation::Preset(Preset::AnonymousMapExec)
        }
        abi::operation::ABI_OP_PRESET_FILELESS_EXEC => Operation::Preset(Preset::FilelessExec),
        abi::operation::ABI_OP_PRESET_PROTECT_ENV => Operation::Preset(Preset::ProtectEnv),
        abi::operation::ABI_OP_PRESET_PROTECT_PROC => Operation::Preset(Preset::ProtectProc),
        abi::operation::ABI_OP_PRESET_EXEC => Operation::Preset(Preset::Exec),
        abi::operation::ABI_OP_TRACE => Operation::Trace,
        abi::operation::ABI_OP_TAMPER_SIGNAL => Operation::Tamper(Tamper::Signal),
        abi::operation::ABI_OP_TAMPER_TRACE => Operation::Tamper(Tamper::Trace),
        abi::operation::ABI_OP_TAMPER_TABLE => Operation::Tamper(Tamper::Table),
        abi::operation::ABI_OP_TAMPER_LINK => Operation::Tamper(Tamper::Link),
        abi::operation::ABI_OP_TAMPER_PIN => Operation::Tamper(Tamper::Pin),
        abi::operation::ABI_OP_SYSCALL => Operation::Syscall,
        abi::operation(value) => {
            return Err(DecodeError::Range {
                field: "operation",
                value,
            });
        }
    })
}

/// The meaning of a decision's word.
pub(crate) fn verdict(value: u32) -> Result<Verdict, DecodeError> {
    let outcome = match abi::outcome(value & abi::verdict::ABI_OUTCOME_MASK.0) {
        abi::outcome::ABI_OUTCOME_PASS => Outcome::Pass,
        abi::outcome::ABI_OUTCOME_AUDIT => Outcome::Audit,
        abi::outcome::ABI_OUTCOME_BLOCK => Outcome::Block,
        abi::outcome(_) => {
            return Err(DecodeError::Range {
                field: "verdict",
                value,
            });
        }
    };
    let cause = (value >> abi::verdict::ABI_CAUSE_SHIFT.0) & abi::verdict::ABI_CAUSE_MASK.0;
    let cause = match abi::cause(cause) {
        abi::cause::ABI_CAUSE_NO_RULE => Cause::NoRule,
        abi::cause::ABI_CAUSE_RULE => Cause::Rule(RuleId(value >> abi::verdict::ABI_RULE_SHIFT.0)),
        abi::cause::ABI_CAUSE_POSTURE => Cause::DefaultPosture,
        abi::cause(_) => {
            return Err(DecodeError::Range {
                field: "verdict",
                value,
            });
        }
    };
    Ok(Verdict { outcome, cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Vec<u8> {
        let mut bytes = vec![0; size_of::<ev_decision>()];
        let mut put = |at: usize, word: u32| bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        put(offset_of!(ev_decision, abi), abi::limit::ABI_VERSION.0);
        put(offset_of!(ev_decision, verdict), 2 | 1 << 2 | 77 << 4);
        put(offset_of!(ev_decision, operation), 1);
        put(offset_of!(ev_decision, object_len), 6);
        put(
            offset_of!(ev_decision, actor) + offset_of!(ev_actor, exe_len),
            4,
        );
        bytes.extend_from_slice(b"/a/b/c/exe");
        bytes
    }

    #[test]
    fn strings_are_read_in_order() {
        let event = decode(&record()).unwrap();
        assert_eq!(event.object, Object::Path(b"/a/b/c".to_vec()));
        assert_eq!(event.task.exe, b"/exe");
        assert_eq!(event.verdict.cause, Cause::Rule(RuleId(77)));
        assert_eq!(event.verdict.outcome, Outcome::Block);
    }

    #[test]
    fn the_other_path_of_a_call_comes_last_and_is_the_first_when_the_object_is_the_second() {
        let mut bytes = record();
        let other: &[u8] = b"/other";
        bytes.extend_from_slice(other);
        let mut put = |at: usize, word: u32| bytes[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        put(offset_of!(ev_decision, other_len), 6);
        let expected = |is_first| {
            Some(OtherPath {
                path: other.to_vec(),
                is_first,
            })
        };
        put(offset_of!(ev_decision, flags), 0);
        assert_eq!(decode(&bytes).unwrap().other_path, expected(false));
        let second = abi::event_flag::ABI_EVENT_SECOND.0;
        let at = offset_of!(ev_decision, flags);
        bytes[at..at + 4].copy_from_slice(&second.to_ne_bytes());
        assert_eq!(decode(&bytes).unwrap().other_path, expected(true));
        assert_eq!(decode(&record()).unwrap().other_path, None);
    }

    #[test]
    fn every_shorter_record_is_truncated() {
        let whole = record();
        for len in 0..whole.len() {
            assert_eq!(
                decode(&whole[..len]),
                Err(DecodeError::Truncated { len }),
                "{len}"
            );
        }
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let mut bytes = record();
        bytes[offset_of!(ev_decision, operation)] = 200;
        assert_eq!(
            decode(&bytes),
            Err(DecodeError::Range {
                field: "operation",
                value: 200
            })
        );
        bytes[offset_of!(ev_decision, abi)] = 99;
        assert!(matches!(
            decode(&bytes),
            Err(DecodeError::Layout { found: 99, .. })
        ));
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
