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
        let log_left = &self.call.log_left;
        if log_left.get() == 0 {
            return Ok(());
        }
        let level = match level {
            log::Level::Debug => "debug",
            log::Level::Info => "info",
            log::Level::Warning => "warning",
            log::Level::Error => "error",
        };
        let request = &self.call.request;
        let line = format!(
            "weir: {level}: network {} container {} {}: {}: {}",
            request.config.name,
            request.environment.container_id,
            request.environment.ifname,
            self.guest.name,
            printable(&message)
        );
        // The whole line counts, as there are empty messages too; and all of
        // the message, as it has to be looked at.
        let Some(left) = log_left.get().checked_sub(line.len().max(message.len())) else {
            log_left.set(0);
            eprintln!(
                "weir: plugin {} logs too much: further lines of this call are dropped",
                self.guest.name
            );
            return Ok(());
        };
        log_left.set(left);
        eprintln!("{line}");
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
