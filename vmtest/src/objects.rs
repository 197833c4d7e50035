// SPDX-License-Identifier: Apache-2.0
//! What an actor does with things that are no files: sockets, names, capabilities, memory.
//!
//! An argument says what with; `socket` takes family, type and protocol as the kernel's numbers. What
//! is kept open is found again by the argument it was made with.

use crate::raw_calls;
use rustix::fs::{CWD, FileType, MemfdFlags, Mode, Uid, memfd_create, mknodat};
use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mmap_anonymous, mprotect};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, accept, bind, connect,
    getsockname, listen, recv, send, sendto, socket_with,
};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::num::NonZero;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;

/// Sockets that stay open between two requests.
pub type Kept = HashMap<String, OwnedFd>;

/// Performs an operation; `None` when there is none of this name.
pub fn perform(operation: &str, argument: &str, kept: &mut Kept) -> Option<io::Result<()>> {
    Some(match operation {
        "socket" => socket(argument).map(drop),
        "keep-socket" => socket(argument).map(|socket| {
            kept.insert(argument.to_owned(), socket);
        }),
        "bind-kept" => with(kept, argument, |socket| Ok(bind(socket, &loopback(0))?)),
        "listen-kept" => with(kept, argument, |socket| Ok(listen(socket, 1)?)),
        "connect-kept" => with(kept, argument, connect_to_listener),
        "accept-kept" => with(kept, argument, accept_from_client),
        "send-kept" => with(kept, argument, |socket| {
            Ok(sendto(socket, b"x", SendFlags::empty(), &loopback(9)).map(drop)?)
        }),
        "lookup" => lookup(argument, Transport::Unconnected),
        "lookup-connected" => lookup(argument, Transport::Connected),
        "lookup-tcp" => lookup(argument, Transport::Tcp),
        "capability" => use_capability(argument),
        "exec-with" => run(argument),
        "open-storm" => storm(argument, |path| File::open(path).map(drop)),
        "exec-storm" => storm(argument, |path| run(&format!("{path} end"))),
        "exec-memfd" => run_from_memory(argument),
        "map-executable" => map_executable(argument),
        "call" => raw_calls::native(argument),
        "call32" => raw_calls::compat(argument),
        "socketcall" => raw_calls::socketcall(argument),
        _ => return None,
    })
}

fn with(
    kept: &Kept,
    argument: &str,
    act: impl FnOnce(&OwnedFd) -> io::Result<()>,
) -> io::Result<()> {
    kept.get(argument)
        .ok_or_else(|| io::Error::other("this socket was not kept"))
        .and_then(act)
}

fn loopback(port: u16) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)
}

fn socket(argument: &str) -> io::Result<OwnedFd> {
    let mut numbers = argument.split(' ').map(str::parse::<u16>);
    let (Some(Ok(family)), Some(Ok(kind)), Some(Ok(protocol)), None) = (
        numbers.next(),
        numbers.next(),
        numbers.next(),
        numbers.next(),
    ) else {
        let why = format!("`{argument}` is not family, type and protocol");
        return Err(io::Error::other(why));
    };
    Ok(socket_with(
        AddressFamily::from_raw(family),
        SocketType::from_raw(kind.into()),
        SocketFlags::CLOEXEC,
        NonZero::new(u32::from(protocol)).map(Protocol::from_raw),
    )?)
}

/// A listener of our own whose socket is made here, too; only connecting is asked of `socket`.
fn connect_to_listener(socket: &OwnedFd) -> io::Result<()> {
    let listener = self::socket("2 1 0")?;
    bind(&listener, &loopback(0))?;
    listen(&listener, 1)?;
    Ok(connect(socket, &getsockname(&listener)?)?)
}

/// Accepts a connection that was made with a socket of our own.
fn accept_from_client(socket: &OwnedFd) -> io::Result<()> {
    let client = self::socket("2 1 0")?;
    connect(&client, &getsockname(socket)?)?;
    Ok(accept(socket).map(drop)?)
}

enum Transport {
    Unconnected,
    Connected,
    Tcp,
}

const DNS_PORT: u16 = 53;

/// Sends a question about a name to ourselves, and waits until it has come.
fn lookup(name: &str, transport: Transport) -> io::Result<()> {
    let tcp = matches!(transport, Transport::Tcp);
    let kind = if tcp { "2 1 0" } else { "2 2 0" };
    let (server, client) = (socket(kind)?, socket(kind)?);
    rustix::net::sockopt::set_socket_reuseaddr(&server, true)?;
    bind(&server, &loopback(DNS_PORT))?;
    let question = question(name);
    match transport {
        Transport::Unconnected => {
            sendto(&client, &question, SendFlags::empty(), &loopback(DNS_PORT))?;
            receive(&server)
        }
        Transport::Connected => {
            connect(&client, &loopback(DNS_PORT))?;
            send(&client, &question, SendFlags::empty())?;
            receive(&server)
        }
        Transport::Tcp => {
            listen(&server, 1)?;
            connect(&client, &loopback(DNS_PORT))?;
            let length = u16::try_from(question.len()).map_err(io::Error::other)?;
            let message = [&length.to_be_bytes(), question.as_slice()].concat();
            send(&client, &message, SendFlags::empty())?;
            receive(&accept(&server)?)
        }
    }
}

fn receive(from: &OwnedFd) -> io::Result<()> {
    let mut buffer = [0_u8; 512];
    Ok(recv(from, &mut buffer, RecvFlags::DONTWAIT).map(drop)?)
}

/// RFC 1035, 4.1: a standard query for the address of a name.
fn question(name: &str) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        message.extend(label.bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    message
}

/// Does something that needs one capability and changes nothing of importance.
fn use_capability(name: &str) -> io::Result<()> {
    match name {
        "net_raw" => socket("2 3 1").map(drop),
        "sys_chroot" => std::os::unix::fs::chroot("/"),
        "mknod" => {
            let device = Mode::RUSR;
            mknodat(
                CWD,
                "/zero",
                FileType::CharacterDevice,
                device,
                rustix::fs::makedev(1, 5),
            )?;
            std::fs::remove_file("/zero")
        }
        "chown" => {
            std::fs::write("/owned", "")?;
            Ok(rustix::fs::chown("/owned", Some(Uid::from_raw(1)), None)?)
        }
        "sys_admin" => Ok(rustix::system::sethostname(b"gorget-vm")?),
        _ => Err(io::Error::other(format!("no use is known for `{name}`"))),
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test program that runs programs"
)]
fn run(argument: &str) -> io::Result<()> {
    let mut words = argument.split(' ');
    let program = words.next().unwrap_or_default();
    ended(Command::new(program).args(words))
}

/// `TIMES BEGINNING FILES`.
fn storm(argument: &str, each: impl Fn(&str) -> io::Result<()>) -> io::Result<()> {
    let words: Vec<_> = argument.split(' ').collect();
    let [times, beginning, files] = words.as_slice() else {
        return Err(io::Error::other("how often, which, and how many?"));
    };
    let number = |word: &str| word.parse::<u64>().map_err(io::Error::other);
    let (times, files) = (number(times)?, number(files)?.max(1));
    (0..times).try_for_each(|n| each(&format!("{beginning}{}", n % files)))
}

/// Copies a program into a memfd and runs it from there.
#[expect(
    clippy::disallowed_methods,
    reason = "a test program that runs programs"
)]
fn run_from_memory(program: &str) -> io::Result<()> {
    let memory = memfd_create("copy", MemfdFlags::empty())?;
    let mut file = File::from(memory);
    file.write_all(&std::fs::read(program)?)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    ended(Command::new(path).arg0(program).arg("end"))
}

/// Makes memory executable, in one of the ways that code without a file comes by it.
#[expect(
    unsafe_code,
    reason = "nobody uses the memory, which is gone with the process"
)]
fn map_executable(way: &str) -> io::Result<()> {
    let (null, length) = (std::ptr::null_mut(), 4096);
    let (data, code) = (
        ProtFlags::READ | ProtFlags::WRITE,
        ProtFlags::READ | ProtFlags::EXEC,
    );
    let flags = MapFlags::PRIVATE;
    // SAFETY: all addresses are chosen by the kernel, and nothing is read or written.
    let mapped = unsafe {
        match way {
            "at once" => mmap_anonymous(null, length, code, flags).map(drop),
            "later" => mmap_anonymous(null, length, data, flags)
                .and_then(|memory| mprotect(memory, length, MprotectFlags::EXEC)),
            "memfd" => memfd_create("code", MemfdFlags::empty())
                .and_then(|memory| mmap(null, length, code, flags, memory, 0))
                .map(drop),
            "library" => {
                let library = File::open("/proc/self/exe")?;
                mmap(null, length, code, flags, library, 0).map(drop)
            }
            _ => return Err(io::Error::other(format!("no such way: `{way}`"))),
        }
    };
    Ok(mapped?)
}

/// A program that was killed before its first instruction was denied.
fn ended(command: &mut Command) -> io::Result<()> {
    let status = command.status()?;
    if status.success() {
        return Ok(());
    }
    Err(
        match std::os::unix::process::ExitStatusExt::signal(&status) {
            Some(9) => io::Error::from_raw_os_error(13),
            _ => io::Error::other(status.to_string()),
        },
    )
}
