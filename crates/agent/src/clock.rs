// SPDX-License-Identifier: Apache-2.0
//! The only place where the agent asks for the time.
//!
//! Everything else takes `now` as an argument or gets the kernel's time of an event.

use rustix::time::{ClockId, Timespec, clock_gettime};
use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970-01-01 UTC.
pub(crate) fn unix_micros() -> i64 {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is where the agent gets its `now` from"
    )]
    let now = SystemTime::now();
    now.duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_micros()).ok())
        .unwrap_or(0)
}

/// The moment of boot in microseconds since 1970: what to add to `CLOCK_BOOTTIME`, which the kernel
/// programs use. Steps of the wall clock after the agent's start are not followed.
pub(crate) fn boot_unix_micros() -> i64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
    unix_micros() - tv_sec * 1_000_000 - tv_nsec / 1000
}

/// Nanoseconds since boot, as the kernel programs count them.
pub(crate) fn boot_ns() -> u64 {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Boottime);
    let ns = tv_sec.saturating_mul(1_000_000_000).saturating_add(tv_nsec);
    u64::try_from(ns).unwrap_or(0)
}
