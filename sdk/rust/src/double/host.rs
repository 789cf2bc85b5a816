//! `weir:host`: a log, a clock and random bytes.

use super::{Node, state};
use crate::bindings::platform::weir::host::log::Level;

/// What every plugin may use without asking.
#[derive(Debug)]
pub(super) struct Ambient {
    log: Vec<(Level, String)>,
    now: u64,
    remaining: u64,
    random: u64,
}

impl Default for Ambient {
    fn default() -> Self {
        Self { log: Vec::new(), now: 1_700_000_000_000, remaining: 30_000, random: 0 }
    }
}

impl Ambient {
    /// Lets time pass.
    pub(super) fn wait(&mut self, milliseconds: u32) {
        let passed = u64::from(milliseconds).min(self.remaining);
        self.now += passed;
        self.remaining -= passed;
    }

    /// The next byte of a sequence that is the same in every test (splitmix64).
    pub(super) fn random_byte(&mut self) -> u8 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed >> 56) as u8
    }
}

impl Node {
    /// The time that the clock shows, in milliseconds since 1970.
    #[must_use]
    pub fn with_clock(self, now: u64) -> Self {
        self.0.borrow_mut().ambient.now = now;
        self
    }

    /// The milliseconds that remain of the call; 30 seconds otherwise.
    #[must_use]
    pub fn with_remaining(self, milliseconds: u64) -> Self {
        self.0.borrow_mut().ambient.remaining = milliseconds;
        self
    }

    /// What plugins have written to the log.
    pub fn log(&self) -> Vec<(Level, String)> {
        self.0.borrow().ambient.log.clone()
    }
}

/// Diagnostics for the operator.
pub mod log {
    use super::state;
    pub use crate::bindings::platform::weir::host::log::Level;

    /// Writes one line.
    pub fn emit(level: Level, message: &str) {
        state::current().borrow_mut().ambient.log.push((level, message.to_owned()));
    }
}

/// Time, which passes only while a plugin waits for something.
pub mod clock {
    use super::state;

    /// Wall-clock time in milliseconds since 1970-01-01T00:00:00Z.
    pub fn now() -> u64 {
        state::current().borrow().ambient.now
    }

    /// Milliseconds that remain of the call.
    pub fn remaining() -> u64 {
        state::current().borrow().ambient.remaining
    }
}

/// Random numbers, which are the same in every test.
pub mod random {
    use super::state;

    /// Bytes in one answer.
    const LIMIT: u32 = 256;

    /// Returns `length` bytes (at most 256).
    pub fn bytes(length: u32) -> Vec<u8> {
        let node = state::current();
        let mut state = node.borrow_mut();
        (0..length.min(LIMIT)).map(|_| state.ambient.random_byte()).collect()
    }
}
