// SPDX-License-Identifier: Apache-2.0
//! Sockets, and the protocol names by which rules speak about them.
//!
//! The numbers are the kernel's (`linux/socket.h`, `linux/net.h`, `linux/in.h`) and the same on every
//! architecture that Gorget runs on.

use std::fmt;

/// `AF_UNIX`.
pub const AF_UNIX: u8 = 1;
/// `AF_INET`.
pub const AF_INET: u8 = 2;
/// `AF_INET6`.
pub const AF_INET6: u8 = 10;
/// `AF_NETLINK`.
pub const AF_NETLINK: u8 = 16;
/// `AF_PACKET`.
pub const AF_PACKET: u8 = 17;

/// `SOCK_STREAM`.
pub const SOCK_STREAM: u8 = 1;
/// `SOCK_DGRAM`.
pub const SOCK_DGRAM: u8 = 2;
/// `SOCK_RAW`.
pub const SOCK_RAW: u8 = 3;
/// `SOCK_RDM`.
pub const SOCK_RDM: u8 = 4;
/// `SOCK_SEQPACKET`.
pub const SOCK_SEQPACKET: u8 = 5;
/// `SOCK_DCCP`.
pub const SOCK_DCCP: u8 = 6;
/// `SOCK_PACKET`.
pub const SOCK_PACKET: u8 = 10;

/// `IPPROTO_ICMP`.
pub const IPPROTO_ICMP: u16 = 1;
/// `IPPROTO_TCP`.
pub const IPPROTO_TCP: u16 = 6;
/// `IPPROTO_UDP`.
pub const IPPROTO_UDP: u16 = 17;
/// `IPPROTO_ICMPV6`.
pub const IPPROTO_ICMPV6: u16 = 58;
/// `IPPROTO_SCTP`.
pub const IPPROTO_SCTP: u16 = 132;
/// `IPPROTO_MPTCP`.
pub const IPPROTO_MPTCP: u16 = 262;

/// What a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Socket {
    /// Address family, `AF_*`; the kernel has fewer than 64.
    pub family: u8,
    /// Type, `SOCK_*`, 1 to 10, without flags.
    pub kind: u8,
    /// Protocol number; 0 is the family's default. Of no meaning for `AF_PACKET`.
    pub protocol: u16,
}

/// A protocol or socket type as rules name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Everything.
    All,
    /// IPv4 and IPv6, `SOCK_STREAM`, protocol 0, 6 or MPTCP.
    Tcp,
    /// IPv4 and IPv6, `SOCK_DGRAM`, protocol 0 or 17.
    Udp,
    /// IPv4, `SOCK_RAW` or `SOCK_DGRAM`, protocol 1.
    Icmp,
    /// IPv6, `SOCK_RAW` or `SOCK_DGRAM`, protocol 58.
    Icmpv6,
    /// IPv4 and IPv6, `SOCK_STREAM` or `SOCK_SEQPACKET`, protocol 132.
    Sctp,
    /// `SOCK_RAW` of IPv4, IPv6 and `AF_PACKET`.
    Raw,
    /// `SOCK_STREAM`.
    Stream,
    /// `SOCK_DGRAM`.
    Dgram,
    /// `SOCK_RDM`.
    Rdm,
    /// `SOCK_SEQPACKET`.
    Seqpacket,
    /// `SOCK_DCCP`.
    Dccp,
    /// `SOCK_PACKET`.
    Packet,
}

impl Protocol {
    /// Every name.
    pub const ALL: [Self; 13] = [
        Self::All,
        Self::Tcp,
        Self::Udp,
        Self::Icmp,
        Self::Icmpv6,
        Self::Sctp,
        Self::Raw,
        Self::Stream,
        Self::Dgram,
        Self::Rdm,
        Self::Seqpacket,
        Self::Dccp,
        Self::Packet,
    ];

    /// As policies write it, lower case.
    pub fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Icmpv6 => "icmpv6",
            Self::Sctp => "sctp",
            Self::Raw => "raw",
            Self::Stream => "stream",
            Self::Dgram => "dgram",
            Self::Rdm => "rdm",
            Self::Seqpacket => "seqpacket",
            Self::Dccp => "dccp",
            Self::Packet => "packet",
        }
    }

    /// By [`Protocol::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.name() == name)
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
