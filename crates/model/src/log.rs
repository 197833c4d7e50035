// SPDX-License-Identifier: Apache-2.0
//! What the kernel reports of operations that are visible, decoded.

use crate::{Capability, Category, Operation, Socket, Syscall, TaskInfo};
use std::net::{Ipv4Addr, Ipv6Addr};

/// An operation that ended, and that nobody need have a rule about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelLog {
    /// Nanoseconds since boot (`CLOCK_BOOTTIME`).
    pub boot_ns: u64,
    /// Index of the workload in the kernel's table; 0 is the host.
    pub workload: u32,
    /// What was done.
    pub what: Logged,
    /// 0, or the error as a negative number.
    pub result: i32,
    /// Where repeats of it are counted; `None`: nowhere.
    pub repeats: Option<Repeats>,
    /// Who did it. Of a program that was started, who started it, but for the arguments, which are the
    /// new program's when it was.
    pub task: TaskInfo,
}

/// A place where the kernel counts repeats, and what of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Repeats {
    /// The place, which is used again and again.
    pub slot: u32,
    /// The operation that is repeated.
    pub serial: u64,
}

/// An operation was repeated: same workload, image, object and result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelRepeats {
    /// When they were counted, in nanoseconds since boot.
    pub boot_ns: u64,
    /// What was repeated.
    pub of: Repeats,
    /// How often, besides what was told before.
    pub count: u64,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Logged {
    /// A program was to be run.
    Exec {
        /// `execve` or `execveat`.
        call: Syscall,
        /// The image.
        path: LoggedPath,
    },
    /// A process ended.
    Exit {
        /// As wait(2) gives it.
        status: u32,
    },
    /// A call about a path.
    File {
        /// By which, or how else.
        asked: Asked,
        /// The first path of the call.
        path: LoggedPath,
    },
    /// A call about a socket.
    Network {
        /// By which, or how else.
        asked: Asked,
        /// The socket; of family 0 when the call did not come to one.
        socket: Socket,
        /// Whom it is for, or from.
        address: Address,
    },
    /// A capability was asked for.
    Capability(Capability),
    /// A name was looked up.
    Lookup(Vec<u8>),
}

impl Logged {
    /// What has to be visible for it to be told.
    pub fn category(&self) -> Category {
        match self {
            Self::Exec { .. } | Self::Exit { .. } => Category::Process,
            Self::File { .. } => Category::File,
            Self::Network { .. } => Category::Network,
            Self::Capability(_) => Category::Capability,
            Self::Lookup(_) => Category::Dns,
        }
    }
}

/// How the kernel was asked to do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// By a system call.
    Call(Syscall),
    /// By a request in an `io_uring`. It is told when the security modules answer: its result is
    /// theirs, and what the kernel does afterwards can still fail.
    Ring(Operation),
}

/// A path that a call was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoggedPath {
    /// What the kernel found.
    Found(Vec<u8>),
    /// It found nothing: what the program wrote, at the end of the call; perhaps relative.
    Written(Vec<u8>),
    /// Not known.
    Unknown,
}

/// Whom a socket call is for, or from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// Nobody is named.
    None,
    /// IP version 4, and a port.
    V4(Ipv4Addr, u16),
    /// IP version 6, and a port.
    V6(Ipv6Addr, u16),
    /// A socket of the file system; the name of an abstract one begins with a NUL.
    Unix(Vec<u8>),
    /// Something else, by its family.
    Other(u16),
}

impl Address {
    /// From a `struct sockaddr`, of which the end may be missing.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let Some((family, rest)) = bytes.split_first_chunk() else {
            return Self::None;
        };
        let family = u16::from_ne_bytes(*family);
        match family {
            1 => {
                let is_abstract = rest.first() == Some(&0) && rest.len() > 1;
                let end = rest.iter().position(|byte| *byte == 0);
                let name = end
                    .filter(|_| !is_abstract)
                    .map_or(rest, |end| rest.get(..end).unwrap_or_default());
                Self::Unix(name.to_vec())
            }
            2 => match rest.first_chunk::<6>() {
                Some([a, b, ip @ ..]) => {
                    let ip: [u8; 4] = *ip;
                    Self::V4(ip.into(), u16::from_be_bytes([*a, *b]))
                }
                None => Self::Other(family),
            },
            10 => match rest.first_chunk::<22>() {
                Some([a, b, _, _, _, _, ip @ ..]) => {
                    let ip: [u8; 16] = *ip;
                    Self::V6(ip.into(), u16::from_be_bytes([*a, *b]))
                }
                None => Self::Other(family),
            },
            _ => Self::Other(family),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_what_the_kernel_has() {
        let address = |family: u16, rest: &[u8]| {
            let family = family.to_ne_bytes();
            Address::from_bytes(&[family.as_slice(), rest].concat())
        };
        assert_eq!(
            address(2, &[0, 53, 10, 0, 0, 10]),
            Address::V4(Ipv4Addr::new(10, 0, 0, 10), 53)
        );
        let mut six = [0; 22];
        (six[1], six[21]) = (80, 1);
        assert_eq!(address(10, &six), Address::V6(Ipv6Addr::LOCALHOST, 80));
        assert_eq!(address(1, b"/run/s\0\0"), Address::Unix(b"/run/s".to_vec()));
        assert_eq!(address(1, b"\0name"), Address::Unix(b"\0name".to_vec()));
        assert_eq!(address(2, &[0, 53]), Address::Other(2));
        assert_eq!(address(16, &[]), Address::Other(16));
        assert_eq!(Address::from_bytes(&[2]), Address::None);
    }
}
