// SPDX-License-Identifier: Apache-2.0
//! Whether a program can be at a hook of security modules, found out with one that lets everything
//! pass.
//!
//! A kernel can load such programs and still refuse them at their hooks, where the processor's
//! architecture has no trampolines. Whether a hook then asks its programs is not found out here: it
//! does where `bpf` is among the active modules.

use crate::attach::LoadError;
use crate::refusal::explained;
use libbpf_rs::{Link, ObjectBuilder};

/// `bpf/attach.bpf.c`.
const OBJECT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/attach.bpf.o"));

/// Attaches the program, and removes it again. Nothing is denied meanwhile.
///
/// # Errors
///
/// When the kernel refuses it, with why.
pub fn attachable() -> Result<(), LoadError> {
    let open = ObjectBuilder::default().open_memory(OBJECT);
    let open = open.map_err(LoadError::Open)?;
    let object = explained(|| open.load()).map_err(LoadError::Load)?;
    for program in object.progs_mut() {
        let link: Result<Link, _> = program.attach();
        // Dropping a link detaches.
        drop(link.map_err(|source| LoadError::Attach {
            hook: program.name().to_string_lossy().into_owned(),
            source,
        })?);
    }
    Ok(())
}
