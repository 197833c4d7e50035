// SPDX-License-Identifier: Apache-2.0
//! Operations as text, for test files and command lines.
//!
//! | text | is |
//! |---|---|
//! | `exec:PATH` | an image is run; `exec:memfd:NAME` and `exec:anon:` have no path |
//! | `file:read:PATH`, `write`, `readwrite`, `tree` | `tree` moves or removes a directory |
//! | `network:tcp` | or another protocol or socket type, as rules name them |
//! | `network:inet6/dgram/58` | family, type and protocol, by name or number; protocol 0 may be left out |
//! | `dns:NAME` | a name is looked up |
//! | `capability:NAME` | with or without `CAP_` |
//! | `syscall:NAME`, `syscall:NAME:PATH` | |
//! | `device:CLASS:SUBCLASS:PROTOCOL:LEVEL` | by name or number; 0, 0 and 1 may be left out |
//! | `preset:NAME` | what the preset describes happens |
//!
//! INVARIANT: what [`OperationSpec`] displays parses to an equal one when its strings are UTF-8.

use gorget_model::network::{
    AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP,
    IPPROTO_TCP, IPPROTO_UDP, SOCK_DCCP, SOCK_DGRAM, SOCK_PACKET, SOCK_RAW, SOCK_RDM,
    SOCK_SEQPACKET, SOCK_STREAM,
};
use gorget_model::{
    Access, Capability, Category, Device, Modes, Object, Preset, Protocol, Socket, Subject,
    Syscall, class_by_name,
};
use std::fmt;

/// Families by the names that are used here, which are those of `AF_*` in lower case.
const FAMILIES: [(&str, u8); 5] = [
    ("unix", AF_UNIX),
    ("inet", AF_INET),
    ("inet6", AF_INET6),
    ("netlink", AF_NETLINK),
    ("packet", AF_PACKET),
];

/// Socket types, as `SOCK_*` in lower case.
const TYPES: [(&str, u8); 7] = [
    ("stream", SOCK_STREAM),
    ("dgram", SOCK_DGRAM),
    ("raw", SOCK_RAW),
    ("rdm", SOCK_RDM),
    ("seqpacket", SOCK_SEQPACKET),
    ("dccp", SOCK_DCCP),
    ("packet", SOCK_PACKET),
];

/// Protocols, as `IPPROTO_*` in lower case.
const PROTOCOLS: [(&str, u16); 5] = [
    ("icmp", IPPROTO_ICMP),
    ("tcp", IPPROTO_TCP),
    ("udp", IPPROTO_UDP),
    ("icmpv6", IPPROTO_ICMPV6),
    ("sctp", IPPROTO_SCTP),
];

/// The kernel has fewer address families.
const FAMILY_LIMIT: u8 = 64;

/// What is attempted, without who attempts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationSpec {
    /// Which rules can speak about it.
    pub category: Category,
    /// What is acted upon.
    pub object: Object,
    /// Of files: content is read.
    pub read: bool,
    /// Of files: something is changed.
    pub write: bool,
    /// Of files: a directory moves.
    pub tree: bool,
}

/// Who attempts an operation, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Who.
    pub subject: Subject,
    /// Whether the object is the actor's own.
    pub owner: bool,
    /// Whether the actor has a controlling terminal.
    pub terminal: bool,
    /// Of a program that is run: its arguments after `argv[0]`.
    pub arguments: Vec<Vec<u8>>,
}

/// Why a text is no operation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// It does not begin with the name of a sort of operation.
    #[error(
        "`{0}` is not an operation; \
         write `exec:`, `file:`, `network:`, `dns:`, `capability:`, `syscall:`, `device:` or \
         `preset:` and what it is about"
    )]
    Sort(String),
    /// A file without what is done to it.
    #[error("`{0}` does not say what is done; write `file:read:`, `write`, `readwrite` or `tree`")]
    Mode(String),
    /// A path that the kernel would not report.
    #[error("path `{path}` {reason}")]
    Path {
        /// As written.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A part has a name or number that does not exist.
    #[error("there is no {what} `{name}`{}", hint(help))]
    Unknown {
        /// Sort of thing.
        what: &'static str,
        /// As written.
        name: String,
        /// What there is; may be empty.
        help: &'static str,
    },
    /// `network:all`.
    #[error("`all` is every socket; write one, such as `network:tcp` or `network:inet/raw/1`")]
    EverySocket,
    /// Not a name that can be looked up.
    #[error("`{0}` is not a domain name")]
    Domain(String),
    /// Something follows that has no meaning.
    #[error("`{0}` has no meaning at the end of this operation")]
    Rest(String),
}

fn hint(help: &str) -> String {
    if help.is_empty() {
        String::new()
    } else {
        format!("; there are {help}")
    }
}

impl OperationSpec {
    /// Reads an operation.
    ///
    /// # Errors
    ///
    /// When the text is none, with the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, OperationError> {
        let (sort, rest) = text
            .split_once(':')
            .ok_or_else(|| OperationError::Sort(text.to_owned()))?;
        Ok(match sort {
            "exec" => Self::of(Category::Process, image(rest)?),
            "file" => return file(rest),
            "network" => Self::of(Category::Network, Object::Socket(socket(rest)?)),
            "dns" => Self::of(Category::Dns, Object::Domain(domain(rest)?)),
            "capability" => Self::of(Category::Capability, capability(rest)?),
            "syscall" => Self::of(Category::Syscall, syscall(rest)?),
            "device" => Self::of(Category::Device, Object::Device(device(rest)?)),
            "preset" => Self::of(Category::Preset, preset(rest)?),
            _ => return Err(OperationError::Sort(text.to_owned())),
        })
    }

    /// The operation of an access.
    pub fn of_access(access: &Access) -> Self {
        let Modes {
            read, write, tree, ..
        } = access.modes;
        Self {
            category: access.category,
            object: access.object.clone(),
            read,
            write,
            tree,
        }
    }

    /// Whether it runs a program, and so has arguments.
    pub fn has_arguments(&self) -> bool {
        self.category == Category::Process
    }

    /// The access that is this operation of `actor`.
    pub fn by(self, actor: Actor) -> Access {
        let Actor {
            subject,
            owner,
            terminal,
            arguments,
        } = actor;
        let Self {
            category,
            object,
            read,
            write,
            tree,
        } = self;
        Access {
            category,
            subject,
            object,
            modes: Modes {
                read,
                write,
                owner,
                tree,
                terminal,
            },
            arguments,
        }
    }

    fn of(category: Category, object: Object) -> Self {
        Self {
            category,
            object,
            read: false,
            write: false,
            tree: false,
        }
    }
}

fn file(text: &str) -> Result<OperationSpec, OperationError> {
    let parts = text.split_once(':');
    let modes = parts.and_then(|(mode, path)| {
        let modes = match mode {
            "read" => (true, false, false),
            "write" => (false, true, false),
            "readwrite" => (true, true, false),
            "tree" => (false, true, true),
            _ => return None,
        };
        Some((modes, path))
    });
    let ((read, write, tree), written) =
        modes.ok_or_else(|| OperationError::Mode(format!("file:{text}")))?;
    Ok(OperationSpec {
        category: Category::File,
        object: Object::Path(path(written)?),
        read,
        write,
        tree,
    })
}

fn image(text: &str) -> Result<Object, OperationError> {
    if text.starts_with("memfd:") || text == "anon:" {
        return Ok(Object::Nameless);
    }
    path(text).map(Object::Path)
}

/// As the kernel reports paths: a rule that compares bytes would never match another form.
pub(crate) fn path(text: &str) -> Result<Vec<u8>, OperationError> {
    let components = || text.split('/').skip(1);
    let reason = if !text.starts_with('/') {
        "is not absolute"
    } else if text.contains('\0') {
        "contains a zero byte"
    } else if text == "/" {
        return Ok(text.into());
    } else if text.ends_with('/') {
        "ends with a slash, which the kernel leaves out"
    } else if components().any(str::is_empty) {
        "has two slashes in a row, of which the kernel reports one"
    } else if components().any(|component| component == "." || component == "..") {
        "contains `.` or `..`, which the kernel resolves"
    } else {
        return Ok(text.into());
    };
    Err(OperationError::Path {
        path: text.to_owned(),
        reason,
    })
}

fn socket(text: &str) -> Result<Socket, OperationError> {
    let mut parts = text.split('/');
    let (first, kind, protocol) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    if let Some(rest) = parts.next() {
        return Err(OperationError::Rest(rest.to_owned()));
    }
    let Some(kind) = kind else {
        return typical_socket(first);
    };
    let unknown = |what, name: &str, help| OperationError::Unknown {
        what,
        name: name.to_owned(),
        help,
    };
    let families = "`unix`, `inet`, `inet6`, `netlink`, `packet` and the numbers below 64";
    let types =
        "`stream`, `dgram`, `raw`, `rdm`, `seqpacket`, `dccp`, `packet` and the numbers 1 to 10";
    let protocols = "`icmp`, `tcp`, `udp`, `icmpv6`, `sctp` and numbers";
    Ok(Socket {
        family: named(&FAMILIES, first)
            .filter(|family| *family < FAMILY_LIMIT)
            .ok_or_else(|| unknown("address family", first, families))?,
        kind: named(&TYPES, kind)
            .filter(|kind| (SOCK_STREAM..=SOCK_PACKET).contains(kind))
            .ok_or_else(|| unknown("socket type", kind, types))?,
        protocol: match protocol {
            None => 0,
            Some(protocol) => named(&PROTOCOLS, protocol)
                .ok_or_else(|| unknown("protocol number", protocol, protocols))?,
        },
    })
}

/// The socket that most programs would open for what a rule calls so.
fn typical_socket(name: &str) -> Result<Socket, OperationError> {
    let protocol = Protocol::from_name(&name.to_ascii_lowercase());
    let protocol = protocol.ok_or_else(|| OperationError::Unknown {
        what: "protocol",
        name: name.to_owned(),
        help: "`tcp`, `udp`, `icmp`, `icmpv6`, `sctp`, socket types, and `FAMILY/TYPE/PROTOCOL`",
    })?;
    let (family, kind, protocol) = match protocol {
        Protocol::All => return Err(OperationError::EverySocket),
        Protocol::Tcp => (AF_INET, SOCK_STREAM, IPPROTO_TCP),
        Protocol::Udp => (AF_INET, SOCK_DGRAM, IPPROTO_UDP),
        Protocol::Icmp => (AF_INET, SOCK_RAW, IPPROTO_ICMP),
        Protocol::Icmpv6 => (AF_INET6, SOCK_RAW, IPPROTO_ICMPV6),
        Protocol::Sctp => (AF_INET, SOCK_STREAM, IPPROTO_SCTP),
        Protocol::Raw => (AF_INET, SOCK_RAW, 0),
        Protocol::Stream => (AF_INET, SOCK_STREAM, 0),
        Protocol::Dgram => (AF_INET, SOCK_DGRAM, 0),
        Protocol::Rdm => (AF_INET, SOCK_RDM, 0),
        Protocol::Seqpacket => (AF_INET, SOCK_SEQPACKET, 0),
        Protocol::Dccp => (AF_INET, SOCK_DCCP, 0),
        Protocol::Packet => (AF_PACKET, SOCK_PACKET, 0),
    };
    Ok(Socket {
        family,
        kind,
        protocol,
    })
}

fn named<T: Copy + std::str::FromStr>(names: &[(&str, T)], text: &str) -> Option<T> {
    let mut names = names.iter();
    let by_name = names.find(|(name, _)| name.eq_ignore_ascii_case(text));
    by_name.map_or_else(|| text.parse().ok(), |(_, number)| Some(*number))
}

fn domain(text: &str) -> Result<Vec<u8>, OperationError> {
    let labels = text.strip_suffix('.').unwrap_or(text).split('.');
    let odd = |c: char| c.is_whitespace() || c.is_control() || c == '*' || c == '/';
    for label in labels {
        if label.is_empty() || label.len() > 63 || label.contains(odd) {
            return Err(OperationError::Domain(text.to_owned()));
        }
    }
    Ok(text.into())
}

fn capability(text: &str) -> Result<Object, OperationError> {
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_prefix("cap_").unwrap_or(&lower);
    let capability = Capability::from_name(name).ok_or_else(|| OperationError::Unknown {
        what: "capability",
        name: text.to_owned(),
        help: "",
    })?;
    Ok(Object::Capability(capability))
}

fn syscall(text: &str) -> Result<Object, OperationError> {
    let (name, written) = match text.split_once(':') {
        Some((name, path)) => (name, Some(path)),
        None => (text, None),
    };
    let call = Syscall::from_name(name).ok_or_else(|| OperationError::Unknown {
        what: "system call",
        name: name.to_owned(),
        help: "",
    })?;
    let path = written.map(path).transpose()?;
    Ok(Object::Syscall { call, path })
}

fn device(text: &str) -> Result<Device, OperationError> {
    let mut parts = text.split(':');
    let class = parts.next().unwrap_or_default();
    let number = |what, part: Option<&str>, default| match part {
        None => Ok(default),
        Some(part) => named(&[], part).ok_or_else(|| OperationError::Unknown {
            what,
            name: part.to_owned(),
            help: "the numbers 0 to 255",
        }),
    };
    let device = Device {
        class: match class_by_name(class) {
            Some(class) => class,
            None => number("device class", Some(class), 0)?,
        },
        subclass: number("device subclass", parts.next(), 0)?,
        protocol: number("device protocol", parts.next(), 0)?,
        level: number("device level", parts.next(), 1)?,
    };
    match parts.next() {
        None => Ok(device),
        Some(rest) => Err(OperationError::Rest(rest.to_owned())),
    }
}

fn preset(text: &str) -> Result<Object, OperationError> {
    let preset = Preset::from_name(text).ok_or_else(|| OperationError::Unknown {
        what: "preset",
        name: text.to_owned(),
        help: "`anonymousMapExec`, `filelessExec`, `protectEnv`, `protectProc` and `exec`",
    })?;
    Ok(Object::Preset(preset))
}

impl fmt::Display for OperationSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match (self.category, self.tree, self.write, self.read) {
            (Category::File, true, _, _) => "file:tree:",
            (Category::File, false, true, true) => "file:readwrite:",
            (Category::File, false, true, false) => "file:write:",
            (Category::File, false, false, _) => "file:read:",
            (Category::Process, ..) => "exec:",
            (
                Category::Network
                | Category::Dns
                | Category::Capability
                | Category::Syscall
                | Category::Device
                | Category::Preset,
                ..,
            ) => "",
        };
        f.write_str(mode)?;
        match &self.object {
            Object::Path(path) => f.write_str(&String::from_utf8_lossy(path)),
            Object::Nameless => f.write_str("anon:"),
            Object::Socket(socket) => show_socket(f, *socket),
            Object::Domain(name) => write!(f, "dns:{}", String::from_utf8_lossy(name)),
            Object::Capability(capability) => write!(f, "capability:{}", capability.name()),
            Object::Syscall { call, path: None } => write!(f, "syscall:{call}"),
            Object::Syscall {
                call,
                path: Some(path),
            } => write!(f, "syscall:{call}:{}", String::from_utf8_lossy(path)),
            Object::Device(Device {
                class,
                subclass,
                protocol,
                level,
            }) => write!(f, "device:{class}:{subclass}:{protocol}:{level}"),
            Object::Preset(preset) => write!(f, "preset:{preset}"),
        }
    }
}

fn show_socket(f: &mut fmt::Formatter<'_>, socket: Socket) -> fmt::Result {
    let Socket {
        family,
        kind,
        protocol,
    } = socket;
    let name = |names: &[(&str, u8)], number: u8| {
        let mut names = names.iter();
        let known = names.find(|(_, known)| *known == number);
        known.map_or_else(|| number.to_string(), |(name, _)| (*name).to_owned())
    };
    let (family, kind) = (name(&FAMILIES, family), name(&TYPES, kind));
    write!(f, "network:{family}/{kind}/{protocol}")
}
