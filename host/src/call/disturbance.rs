//! Faults that tests of recovery ask for. Not in release builds.

use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use wasmtime::Trap;

use super::{Call, Served};
use crate::request::{FaultKind, Moment};

impl Call {
    /// Disturbs the change of this number, if that was asked for.
    pub(super) fn disturb(&self, moment: Moment, count: u32) -> Served<()> {
        let Some(fault) = self.request.environment.fault else { return Ok(()) };
        if fault.moment != moment || fault.change != count {
            return Ok(());
        }
        match fault.kind {
            FaultKind::Trap => Err(Trap::UnreachableCodeReached.into()),
            FaultKind::Kill => {
                let _ = kill(Pid::this(), Signal::SIGKILL);
                Ok(())
            }
            FaultKind::Stall => {
                thread::sleep(self.remaining() + Duration::from_millis(10));
                Ok(())
            }
            FaultKind::Panic => panic!("fault that was asked for"),
        }
    }
}
