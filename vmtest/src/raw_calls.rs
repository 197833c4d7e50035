// SPDX-License-Identifier: Apache-2.0
//! System calls made by their numbers, as 64-bit and as 32-bit programs make them.
//!
//! A call is its name and its arguments, separated by spaces: a number, `at` for the working directory,
//! `dir:PATH` for a directory that is opened for it, or anything else as a string.

use gorget_model::Syscall;
use rustix::fs::{Mode, OFlags, open};
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
use std::arch::asm;
use std::ffi::c_void;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::ptr;

/// `AT_FDCWD` (fcntl.h).
const AT_FDCWD: i64 = -100;
/// Room for the strings of a call.
const ROOM: usize = 65_536;
/// Below 2 GiB (asm/mman.h of x86).
const MAP_32BIT: u32 = 0x40;
const MOST_ARGUMENTS: usize = 5;

/// Makes a call like a program of this machine's kind.
///
/// # Errors
///
/// What the call returns, or that there is no such call.
pub fn native(call: &str) -> io::Result<()> {
    make(call, Syscall::x86_64, |number, [a, b, c, d, e]| {
        let returned: i64;
        // SAFETY: the arguments are numbers, or addresses of strings that live until the call ended. What
        // the call changes is what the test is about; it writes at most into the room behind the strings.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") i64::from(number) => returned,
                in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e,
                lateout("rcx") _, lateout("r11") _,
            );
        }
        returned
    })
}

/// Makes a call like a 32-bit program.
///
/// # Errors
///
/// As [`native`].
pub fn compat(call: &str) -> io::Result<()> {
    let number = |call: Syscall| {
        let mut all = Syscall::i386();
        all.find_map(|(number, known)| (known == call).then_some(number))
    };
    make(call, number, |number, [a, b, c, d, e]| {
        let returned: i64;
        // SAFETY: as above; rbx is LLVM's and is put back.
        unsafe {
            asm!(
                "xchg rbx, {a}",
                "int 0x80",
                "xchg rbx, {a}",
                a = inout(reg) a => _,
                inlateout("rax") i64::from(number) => returned,
                in("rcx") b, in("rdx") c, in("rsi") d, in("rdi") e,
                lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
            );
        }
        // The kernel returns 32 bits.
        low_half(returned)
    })
}

/// `socketcall(2)` of i386: `CALL A B C`.
///
/// # Errors
///
/// As [`native`].
pub fn socketcall(arguments: &str) -> io::Result<()> {
    let numbers: Vec<i64> = arguments
        .split(' ')
        .filter_map(|n| n.parse().ok())
        .collect();
    let [call, words @ ..] = numbers.as_slice() else {
        return Err(io::Error::other("which call?"));
    };
    let mut room = Room::new()?;
    let bytes: Vec<u8> = words
        .iter()
        .flat_map(|n| n.to_le_bytes().into_iter().take(4))
        .collect();
    let at = room.keep(&bytes)?;
    let returned: i64;
    // SAFETY: as above.
    unsafe {
        asm!(
            "xchg rbx, {a}",
            "int 0x80",
            "xchg rbx, {a}",
            a = inout(reg) *call => _,
            inlateout("rax") i64::from(Syscall::I386_SOCKETCALL) => returned,
            in("rcx") at,
            lateout("r8") _, lateout("r9") _, lateout("r10") _, lateout("r11") _,
        );
    }
    result(low_half(returned))
}

fn make(
    call: &str,
    number: impl Fn(Syscall) -> Option<u16>,
    by: impl Fn(u16, [i64; MOST_ARGUMENTS]) -> i64,
) -> io::Result<()> {
    let mut words = call.split(' ');
    let name = words.next().unwrap_or_default();
    let number = Syscall::from_name(name)
        .and_then(number)
        .ok_or_else(|| io::Error::other(format!("there is no call `{name}`")))?;
    let mut room = Room::new()?;
    let mut directories: Vec<OwnedFd> = Vec::new();
    let mut arguments = [0; MOST_ARGUMENTS];
    for (argument, word) in arguments.iter_mut().zip(words) {
        *argument = if word == "at" {
            AT_FDCWD
        } else if let Some(path) = word.strip_prefix("dir:") {
            let directory = open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
            let fd = directory.as_raw_fd();
            directories.push(directory);
            fd.into()
        } else if let Ok(number) = word.parse() {
            number
        } else if word == "room" {
            room.rest()
        } else {
            let mut bytes = word.as_bytes().to_vec();
            bytes.push(0);
            room.keep(&bytes)?
        };
    }
    result(by(number, arguments))
}

/// The low 32 bits, as a number with a sign.
fn low_half(word: i64) -> i64 {
    (word << 32) >> 32
}

fn result(returned: i64) -> io::Result<()> {
    match i32::try_from(returned) {
        Ok(error @ -4095..=-1) => Err(io::Error::from_raw_os_error(-error)),
        _ => Ok(()),
    }
}

/// Memory that 32-bit programs can name, too.
struct Room {
    start: *mut u8,
    used: usize,
}

impl Room {
    fn new() -> io::Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::from_bits_retain(MAP_32BIT);
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: new memory is nobody else's.
        let start = unsafe { mmap_anonymous(ptr::null_mut(), ROOM, protection, flags) }?;
        Ok(Self {
            start: start.cast(),
            used: 0,
        })
    }

    /// The address of a copy.
    fn keep(&mut self, bytes: &[u8]) -> io::Result<i64> {
        let at = self.used;
        if at + bytes.len() > ROOM / 2 {
            return Err(io::Error::other("the arguments are too long"));
        }
        self.used += bytes.len();
        // SAFETY: `at` and the length are within the memory, which is ours.
        let to = unsafe {
            let to = self.start.add(at);
            ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len());
            to
        };
        i64::try_from(to.addr()).map_err(io::Error::other)
    }

    /// The address of what the call may write to.
    fn rest(&self) -> i64 {
        i64::try_from(self.start.addr() + ROOM / 2).unwrap_or(0)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // SAFETY: made in `new`, and nothing refers to it any more.
        let _released = unsafe { rustix::mm::munmap(self.start.cast::<c_void>(), ROOM) };
    }
}
