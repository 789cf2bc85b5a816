//! `weir:host`: log, clock, random.

use std::time::SystemTime;

use crate::call::Served;
use crate::printable::printable;
use crate::session::Session;
use crate::wit::weir::host::{clock, log, random};

/// Random bytes in one answer.
const RANDOM_LIMIT: u32 = 256;

impl log::Host for Session {
    fn emit(&mut self, level: log::Level, message: String) -> Served<()> {
        if self.log_left == 0 {
            return Ok(());
        }
        let level = match level {
            log::Level::Debug => "debug",
            log::Level::Info => "info",
            log::Level::Warning => "warning",
            log::Level::Error => "error",
        };
        let request = &self.call.request;
        if message.len() > self.log_left {
            self.log_left = 0;
            eprintln!("weir: plugin {} logs too much: its further lines are dropped", self.guest.name);
            return Ok(());
        }
        self.log_left -= message.len();
        eprintln!(
            "weir: {level}: network {} container {} {}: {}: {}",
            request.config.name,
            request.environment.container_id,
            request.environment.ifname,
            self.guest.name,
            printable(&message)
        );
        Ok(())
    }
}

impl clock::Host for Session {
    fn now(&mut self) -> Served<u64> {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Ok(since.as_millis().try_into().unwrap_or(u64::MAX))
    }

    fn remaining(&mut self) -> Served<u64> {
        Ok(self.call.remaining().as_millis().try_into().unwrap_or(u64::MAX))
    }
}

impl random::Host for Session {
    fn bytes(&mut self, length: u32) -> Served<Vec<u8>> {
        Ok(random_bytes(length.min(RANDOM_LIMIT) as usize)?)
    }
}

/// Reads from the kernel's generator.
pub(super) fn random_bytes(length: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    // Up to 256 bytes come at once, and the length is at most that.
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    Ok(bytes)
}
