// SPDX-License-Identifier: Apache-2.0
//! How the C library keeps memory that was freed: in one arena for all threads.
//!
//! Otherwise each thread has its own, and what one thread makes and another drops stays where it was made:
//! events are read by one thread and dropped by whoever told them last. In the full storm of
//! `vmtest/tests/storm.rs` a released agent had 48 MiB with several arenas, and 34 with one.

/// Has all threads share. To be called before there are any.
///
/// # Errors
///
/// When the C library refuses; then nothing is different.
pub(crate) fn share_one_arena() -> Result<(), &'static str> {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: it takes two numbers, no pointers, and changes a limit for arenas that are made later.
        let taken = unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
        if taken != 1 {
            return Err("the C library keeps an arena of memory for each thread");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_library_takes_it() {
        assert_eq!(share_one_arena(), Ok(()));
    }
}
