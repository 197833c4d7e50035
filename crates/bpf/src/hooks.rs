// SPDX-License-Identifier: Apache-2.0
//! What differs from kernel to kernel among the hooks themselves.
//!
//! The kernel's type information says which hooks it has and what they are given. A program whose
//! hook is younger than the kernel is left out, if what the hook decides reaches another one there.
//! All other programs must load: a hook that is missing would be a hole.

use crate::abi;
use crate::calls;
use crate::lower::put;
use crate::programs::Programs;
use libbpf_rs::OpenObject;
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{Func, FuncProto};
use std::ffi::OsStr;
use std::mem::offset_of;

/// A program that was not loaded, because the kernel does not have its hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The program, named like its hook.
    pub name: &'static str,
    /// The hook that decides there instead.
    pub instead: &'static str,
}

/// Which of the programs are to be loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Those that decide.
    Decisions,
    /// Those that observe system calls.
    Calls,
    /// All.
    Both,
}

impl Part {
    fn has(self, program: &OsStr) -> bool {
        let is_of_calls = program.to_string_lossy().starts_with("call_");
        match self {
            Self::Decisions => !is_of_calls,
            Self::Calls => is_of_calls,
            Self::Both => true,
        }
    }
}

/// Hooks that older kernels do without, since when, and what decides there instead.
const YOUNGER: [(&str, &str); 5] = [
    // 6.2; path_truncate is called for open files, too.
    ("file_truncate", "path_truncate"),
    // 6.2; access lists are set as extended attributes.
    ("inode_set_acl", "inode_setxattr"),
    ("inode_remove_acl", "inode_removexattr"),
    // 6.8; file_ioctl is called for 32-bit programs, too.
    ("file_ioctl_compat", "file_ioctl"),
    // 6.17; there is no such system call.
    ("inode_file_setattr", "file_ioctl"),
];

/// Parameters of `inode_setattr` where it gets an idmap (since 6.9).
const SETATTR_WITH_IDMAP: usize = 3;

/// Fits the programs to the running kernel before they are loaded, and says which are left out.
pub(crate) fn fit(
    programs: Programs,
    part: Part,
    open: &mut OpenObject,
) -> libbpf_rs::Result<Vec<LeftOut>> {
    let btf = Btf::from_vmlinux()?;
    let of_hook = |hook: &str| parameters(&btf, &programs.function(hook));
    let with_idmap = of_hook("inode_setattr") == Some(SETATTR_WITH_IDMAP);
    let is_constants = |name: &OsStr| name.to_string_lossy().ends_with(".rodata");
    for mut map in open.maps_mut().filter(|map| is_constants(map.name())) {
        if let Some(bytes) = map.initial_value_mut() {
            let at = offset_of!(abi::enforce_rodata, setattr_gets_idmap);
            put(bytes, at, u32::from(with_idmap));
            calls::put_known(bytes, offset_of!(abi::enforce_rodata, calls_known));
        }
    }
    let younger = YOUNGER
        .into_iter()
        .filter(|(hook, _)| of_hook(hook).is_none())
        .map(|(name, instead)| LeftOut { name, instead });
    let mut left_out: Vec<_> = younger.collect();
    left_out.retain(|hook| part.has(OsStr::new(hook.name)));
    for mut program in open.progs_mut() {
        if !part.has(program.name()) || left_out.iter().any(|hook| program.name() == hook.name) {
            program.set_autoload(false);
        }
    }
    Ok(left_out)
}

/// How many parameters a function of the kernel has; `None` where there is no such function.
fn parameters(btf: &Btf<'_>, function: &str) -> Option<usize> {
    let function: Func<'_> = btf.type_by_name(function)?;
    let prototype = FuncProto::try_from(function.next_type()?).ok()?;
    Some(prototype.len())
}
