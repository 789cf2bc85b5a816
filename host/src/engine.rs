//! The WebAssembly engine: one configuration for the compiler (build script)
//! and for running, because a component only loads under the settings that it
//! was compiled with.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use nix::sys::signal::{SaFlags, SigAction, SigEvent, SigHandler, SigSet, SigevNotify, Signal, sigaction};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use wasmtime::Engine;

use crate::aot::InPlace;

include!("engine/settings.rs");

/// A guest's linear memory may grow to this many bytes.
pub(crate) const MEMORY_LIMIT: usize = 32 << 20;

/// Handles that a guest may hold at a time.
pub(crate) const HANDLE_LIMIT: usize = 1024;

/// The engine of the process.
static ENGINE: OnceLock<Engine> = OnceLock::new();

/// Gives the engine, which is made for the first call.
pub(crate) fn engine() -> wasmtime::Result<&'static Engine> {
    match ENGINE.get() {
        Some(engine) => Ok(engine),
        None => {
            let mut settings = settings();
            settings.with_custom_code_memory(Some(Arc::new(InPlace)));
            let engine = Engine::new(&settings)?;
            Ok(ENGINE.get_or_init(|| engine))
        }
    }
}

/// Interrupts all guests once its time is over; disarmed when dropped.
///
/// A timer of the kernel rather than a thread, whose start and end would cost
/// more than most calls have to do otherwise.
pub(crate) struct Deadline {
    _timer: Timer,
}

impl Deadline {
    /// Begins to count.
    pub(crate) fn after(budget: Duration) -> io::Result<Self> {
        let action = SigAction::new(SigHandler::Handler(interrupt), SaFlags::SA_RESTART, SigSet::empty());
        // SAFETY: the handler does nothing but two atomic operations, which
        // may be done at any moment; nobody else uses this signal.
        unsafe { sigaction(Signal::SIGALRM, &action) }?;
        let event = SigEvent::new(SigevNotify::SigevSignal { signal: Signal::SIGALRM, si_value: 0 });
        let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, event)?;
        // Zero would disarm it.
        let time = TimeSpec::from_duration(budget.max(Duration::from_nanos(1)));
        timer.set(Expiration::OneShot(time), TimerSetTimeFlags::empty())?;
        Ok(Self { _timer: timer })
    }
}

extern "C" fn interrupt(_: nix::libc::c_int) {
    if let Some(engine) = ENGINE.get() {
        engine.increment_epoch();
    }
}
