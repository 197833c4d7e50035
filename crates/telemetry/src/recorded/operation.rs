// SPDX-License-Identifier: Apache-2.0
//! What an event says was attempted: one function for each `Operation`.
//!
//! The forms of the values are those of KubeArmor 1.7, of which Gorget writes a part.

use super::Unreadable;
use super::line::Line;
use gorget_model::network::{
    AF_INET, AF_INET6, AF_NETLINK, AF_PACKET, AF_UNIX, IPPROTO_ICMP, IPPROTO_ICMPV6, IPPROTO_SCTP,
    IPPROTO_TCP, IPPROTO_UDP, SOCK_DCCP, SOCK_DGRAM, SOCK_PACKET, SOCK_RAW, SOCK_RDM,
    SOCK_SEQPACKET, SOCK_STREAM,
};
use gorget_model::{
    Access, Capability, Category, Device, Modes, Object, Preset, Socket, Subject, Syscall,
    class_by_name,
};

/// Families by the names in events; `linux/socket.h`.
const FAMILIES: [(&str, u8); 13] = [
    ("AF_UNIX", AF_UNIX),
    ("AF_LOCAL", AF_UNIX),
    ("AF_INET", AF_INET),
    ("AF_INET6", AF_INET6),
    ("AF_KEY", 15),
    ("AF_NETLINK", AF_NETLINK),
    ("AF_PACKET", AF_PACKET),
    ("AF_CAN", 29),
    ("AF_TIPC", 30),
    ("AF_BLUETOOTH", 31),
    ("AF_ALG", 38),
    ("AF_VSOCK", 40),
    ("AF_XDP", 44),
];

const TYPES: [(&str, u8); 7] = [
    ("SOCK_STREAM", SOCK_STREAM),
    ("SOCK_DGRAM", SOCK_DGRAM),
    ("SOCK_RAW", SOCK_RAW),
    ("SOCK_RDM", SOCK_RDM),
    ("SOCK_SEQPACKET", SOCK_SEQPACKET),
    ("SOCK_DCCP", SOCK_DCCP),
    ("SOCK_PACKET", SOCK_PACKET),
];

const PROTOCOLS: [(&str, u16); 5] = [
    ("ICMP", IPPROTO_ICMP),
    ("TCP", IPPROTO_TCP),
    ("UDP", IPPROTO_UDP),
    ("ICMPV6", IPPROTO_ICMPV6),
    ("SCTP", IPPROTO_SCTP),
];

const PRESETS: [(&str, Preset); 5] = [
    ("PRESET-AnonMapExecutionPreset", Preset::AnonymousMapExec),
    ("PRESET-FilelessExecutionPreset", Preset::FilelessExec),
    ("PRESET-ProtectEnvPreset", Preset::ProtectEnv),
    ("PRESET-ProtectProcPreset", Preset::ProtectProc),
    ("PRESET-ExecPreset", Preset::Exec),
];

/// An argument that nobody would list.
const UNLISTED_ARGUMENT: &[u8] = b"\0";

/// What was attempted.
pub(super) struct Attempt {
    pub(super) access: Access,
    /// If an assumption is wrong.
    pub(super) or: Vec<Access>,
    /// The object has an owner.
    pub(super) owned: bool,
}

pub(super) fn attempt(line: &Line) -> Result<Attempt, Unreadable> {
    if matches!(line.kind.as_str(), "Message" | "SystemEvent") {
        return Err(Unreadable::AboutAgent);
    }
    let preset = PRESETS.iter().find(|(name, _)| *name == line.enforcer);
    if let Some((_, preset)) = preset {
        let object = Object::Preset(*preset);
        return Ok(simple(line, Category::Preset, actor(line), object));
    }
    match line.operation.as_str() {
        "" => Err(Unreadable::NoOperation),
        "Process" => process(line),
        "File" => file(line),
        "Network" => network(line),
        "Capabilities" => capability(line),
        "Syscall" => syscall(line),
        "Device" => device(line),
        "NetworkFirewall" => Err(Unreadable::Packet),
        "AlertThreshold" | "Dropped" => Err(Unreadable::AboutAgent),
        _ => Err(Unreadable::UnknownOperation),
    }
}

fn actor(line: &Line) -> Subject {
    image(&[&line.process_name, first_word(&line.source)])
}

/// Of a process event: who starts the program.
fn starter(line: &Line) -> Subject {
    image(&[&line.parent_process_name, first_word(&line.source)])
}

fn image(names: &[&str]) -> Subject {
    let mut names = names.iter().filter(|name| name.starts_with('/'));
    names
        .next()
        .map_or(Subject::Runtime, |name| Subject::Image((*name).into()))
}

fn first_word(text: &str) -> &str {
    text.split_whitespace().next().unwrap_or_default()
}

/// An access whose modes do not matter.
fn simple(line: &Line, category: Category, subject: Subject, object: Object) -> Attempt {
    Attempt {
        access: Access {
            category,
            subject,
            object,
            modes: modes(line),
            arguments: Vec::new(),
        },
        or: Vec::new(),
        owned: false,
    }
}

fn modes(line: &Line) -> Modes {
    Modes {
        owner: line.owner().unwrap_or(true),
        terminal: !line.tty.is_empty(),
        ..Modes::default()
    }
}

/// The program is `ProcessName`; `Resource` is its command line, or only its path.
fn process(line: &Line) -> Result<Attempt, Unreadable> {
    if line.value("syscall") == Some("SYS_PTRACE") {
        return syscall(line);
    }
    let program = [line.process_name.as_str(), first_word(&line.resource)]
        .into_iter()
        .find(|name| !name.is_empty());
    let object = path(line, program.ok_or(Unreadable::NoObject)?)?;
    // The path may have spaces in it; `argv[0]` may be another name.
    let after_path = line.resource.strip_prefix(&line.process_name);
    let after_path = after_path.filter(|rest| rest.is_empty() || rest.starts_with(' '));
    let arguments: Vec<Vec<u8>> = match after_path {
        Some(rest) if !line.process_name.is_empty() => words(rest).collect(),
        Some(_) | None => words(&line.resource).skip(1).collect(),
    };
    let unknown = arguments.is_empty();
    let access = Access {
        category: Category::Process,
        subject: starter(line),
        object,
        modes: modes(line),
        arguments,
    };
    let with_arguments = unknown.then(|| Access {
        arguments: vec![UNLISTED_ARGUMENT.to_vec()],
        ..access.clone()
    });
    Ok(Attempt {
        access,
        or: with_arguments.into_iter().collect(),
        owned: true,
    })
}

fn words(text: &str) -> impl Iterator<Item = Vec<u8>> {
    text.split_whitespace().map(|word| word.as_bytes().to_vec())
}

/// What is done to a file, and what it may be instead.
struct Done {
    likely: Modes,
    perhaps: Option<Modes>,
}

fn file(line: &Line) -> Result<Attempt, Unreadable> {
    if line.resource.is_empty() {
        return Err(Unreadable::NoObject);
    }
    let object = path(line, &line.resource)?;
    let Done { likely, perhaps } = done(line).ok_or(Unreadable::UnknownAction)?;
    let access = |done: Modes| Access {
        category: Category::File,
        subject: actor(line),
        object: object.clone(),
        modes: Modes {
            read: done.read,
            write: done.write,
            tree: done.tree,
            ..modes(line)
        },
        arguments: Vec::new(),
    };
    Ok(Attempt {
        access: access(likely),
        or: perhaps.map(access).into_iter().collect(),
        owned: true,
    })
}

fn done(line: &Line) -> Option<Done> {
    let done = |read, write, tree| Modes {
        read,
        write,
        tree,
        ..Modes::default()
    };
    let certain = |likely| Done {
        likely,
        perhaps: None,
    };
    let (read, written, moved) = (
        done(true, false, false),
        done(false, true, false),
        done(false, true, true),
    );
    let opened = || match line.value("flags").filter(|flags| !flags.is_empty()) {
        Some(flags) => certain(opened_with(flags)),
        None => Done {
            likely: read,
            perhaps: Some(done(true, true, false)),
        },
    };
    let by = |prefix: &str, key| line.value(key)?.strip_prefix(prefix);
    if let Some(hook) = by("FILE_", "lsm") {
        return Some(match hook {
            "OPEN" => opened(),
            "PERMISSION" => Done {
                likely: written,
                perhaps: Some(read),
            },
            "RENAME" => Done {
                likely: written,
                perhaps: Some(moved),
            },
            "RMDIR" => certain(moved),
            "MKNOD" | "MKDIR" | "UNLINK" | "SYMLINK" | "LINK" | "CHMOD" | "CHOWN" | "TRUNCATE" => {
                certain(written)
            }
            _ => return None,
        });
    }
    Some(match by("SYS_", "syscall")? {
        "OPEN" | "OPENAT" | "OPENAT2" => opened(),
        "CREAT" | "UNLINK" | "CHOWN" | "FCHOWN" | "FCHOWNAT" | "LCHOWN" | "CHMOD" | "FCHMOD"
        | "FCHMODAT" | "TRUNCATE" | "FTRUNCATE" | "MKNOD" | "MKNODAT" | "MKDIR" | "MKDIRAT"
        | "LINK" | "LINKAT" | "SYMLINK" | "SYMLINKAT" => certain(written),
        "UNLINKAT" if line.value("flags").is_some_and(removes_directory) => certain(moved),
        "UNLINKAT" => certain(written),
        "RMDIR" => certain(moved),
        "RENAME" | "RENAMEAT" | "RENAMEAT2" => Done {
            likely: written,
            perhaps: Some(moved),
        },
        _ => return None,
    })
}

/// `AT_REMOVEDIR`.
fn removes_directory(flags: &str) -> bool {
    flags.split('|').any(|flag| flag == "AT_REMOVEDIR") || flags == "512"
}

/// `O_RDWR|O_CREAT|O_CLOEXEC`.
fn opened_with(flags: &str) -> Modes {
    let has = |flag| flags.split('|').any(|f| f == flag);
    let only_writes = has("O_WRONLY");
    Modes {
        read: !only_writes,
        write: only_writes || has("O_RDWR") || has("O_CREAT") || has("O_TRUNC") || has("O_APPEND"),
        ..Modes::default()
    }
}

/// The path as the kernel reports it.
fn path(line: &Line, text: &str) -> Result<Object, Unreadable> {
    let anonymous = ["memfd:", "anon:", "anon_inode:", "pipe:", "socket:"];
    if anonymous.iter().any(|start| text.starts_with(start)) {
        return Ok(Object::Nameless);
    }
    let absolute = if text.starts_with('/') {
        text.to_owned()
    } else if line.cwd.starts_with('/') {
        format!("{}/{text}", line.cwd)
    } else {
        return Err(Unreadable::RelativePath);
    };
    let mut components: Vec<&str> = Vec::new();
    for component in absolute.split('/') {
        match component {
            "" | "." => {}
            ".." => {
                components.pop();
            }
            name => components.push(name),
        }
    }
    Ok(Object::Path(
        format!("/{}", components.join("/")).into_bytes(),
    ))
}

fn network(line: &Line) -> Result<Attempt, Unreadable> {
    let family = line.value("domain").or_else(|| line.value("sa_family"));
    let to = |object, category| simple(line, category, actor(line), object);
    if let Some(name) = line.value("domain").filter(|name| !is_family(name)) {
        return Ok(to(Object::Domain(name.into()), Category::Dns));
    }
    let family = match family {
        None => None,
        Some(name) => Some(named(&FAMILIES, name).ok_or(Unreadable::UnknownName)?),
    };
    let kind = match line.value("type") {
        None => None,
        Some(name) => Some(named(&TYPES, first_flag(name)).ok_or(Unreadable::UnknownName)?),
    };
    let protocol = match line.value("protocol") {
        None => None,
        Some(name) => {
            let name = name.to_ascii_uppercase();
            Some(named(&PROTOCOLS, &name).ok_or(Unreadable::UnknownName)?)
        }
    };
    if (family, kind, protocol) == (None, None, None) {
        return Err(Unreadable::NoObject);
    }
    let likely_kind = kind.unwrap_or(match protocol {
        Some(IPPROTO_UDP) => SOCK_DGRAM,
        Some(IPPROTO_ICMP | IPPROTO_ICMPV6) => SOCK_RAW,
        Some(_) | None => SOCK_STREAM,
    });
    let likely = Socket {
        family: family.unwrap_or(AF_INET),
        kind: likely_kind,
        protocol: protocol.unwrap_or(0),
    };
    let other_family = family.is_none().then_some(Socket {
        family: AF_INET6,
        ..likely
    });
    let other_kind = (kind.is_none() && protocol.is_none()).then_some(Socket {
        kind: SOCK_DGRAM,
        ..likely
    });
    let mut attempt = to(Object::Socket(likely), Category::Network);
    let others = other_family.into_iter().chain(other_kind);
    attempt.or = others
        .map(|socket| Access {
            object: Object::Socket(socket),
            ..attempt.access.clone()
        })
        .collect();
    Ok(attempt)
}

fn is_family(name: &str) -> bool {
    name.starts_with("AF_") || name.bytes().all(|byte| byte.is_ascii_digit())
}

/// `SOCK_STREAM|SOCK_CLOEXEC`.
fn first_flag(text: &str) -> &str {
    text.split('|').next().unwrap_or_default()
}

fn named<T: Copy + std::str::FromStr>(names: &[(&str, T)], text: &str) -> Option<T> {
    let mut names = names.iter();
    let by_name = names.find(|(name, _)| *name == text);
    by_name.map_or_else(|| text.parse().ok(), |(_, number)| Some(*number))
}

fn capability(line: &Line) -> Result<Attempt, Unreadable> {
    let mut words = line.all_words();
    let name = words.find_map(|word| word.strip_prefix("CAP_"));
    let name = name.ok_or(Unreadable::NoObject)?.to_ascii_lowercase();
    let capability = Capability::from_name(&name).ok_or(Unreadable::UnknownName)?;
    let object = Object::Capability(capability);
    Ok(simple(line, Category::Capability, actor(line), object))
}

fn syscall(line: &Line) -> Result<Attempt, Unreadable> {
    let name = line.value("syscall").ok_or(Unreadable::NoObject)?;
    let name = name.strip_prefix("SYS_").unwrap_or(name);
    let call = Syscall::from_name(&name.to_ascii_lowercase()).ok_or(Unreadable::UnknownName)?;
    let given = [Some(line.resource.as_str()), line.value("target")];
    let given = given
        .into_iter()
        .flatten()
        .find(|path| path.starts_with('/'));
    let path = match given.map(|given| path(line, given)).transpose()? {
        Some(Object::Path(path)) => Some(path),
        Some(_) | None => None,
    };
    let object = Object::Syscall { call, path };
    Ok(simple(line, Category::Syscall, actor(line), object))
}

fn device(line: &Line) -> Result<Attempt, Unreadable> {
    let number = |key: &str| match line.value(key) {
        None => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_not_a_number| Unreadable::UnknownName),
    };
    let class = line.value("Class").or_else(|| {
        let usb = line.resource.strip_prefix("USB ")?;
        Some(usb.trim())
    });
    let class = class.ok_or(Unreadable::NoObject)?;
    let device = Device {
        class: class_by_name(class)
            .or_else(|| class.parse().ok())
            .ok_or(Unreadable::UnknownName)?,
        subclass: number("SubClass")?.unwrap_or(0),
        protocol: number("Protocol")?.unwrap_or(0),
        level: number("Level")?.unwrap_or(1),
    };
    let object = Object::Device(device);
    Ok(simple(line, Category::Device, Subject::Runtime, object))
}
