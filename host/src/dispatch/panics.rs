//! What becomes of a call if weir itself panics: a failure like any other.
//! What was done before has to be taken back and recorded.
//!
//! Nothing can unwind the code of a component. If a function of the host that
//! it called panics, the call ends from there, and the process with it.

use std::cell::Cell;
use std::os::fd::AsFd;
use std::panic::{self, AssertUnwindSafe};
use std::process;
use std::ptr::NonNull;
use std::sync::Once;
use std::time::Duration;

use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;

use crate::call::Call;
use crate::failure::Failure;
use crate::lock;
use crate::platform;
use crate::reply;
use crate::request::Command;

thread_local! {
    /// The call that the thread serves. It need not be told when the thread
    /// ends, which each call would pay for.
    static SERVED: Cell<Option<NonNull<Call>>> = const { Cell::new(None) };
}

/// Does something for a call, and turns a panic into a failure.
pub(super) fn caught<T>(call: &Call, work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            print(panic);
            if platform::is_in_component()
                && let Some(call) = SERVED.take()
            {
                // SAFETY: `caught` borrows the call, and has not returned.
                end(unsafe { call.as_ref() }, Failure::panicked(panic.payload()));
            }
        }));
    });
    SERVED.set(Some(NonNull::from(call)));
    let result = panic::catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|payload| Err(Failure::panicked(&*payload)));
    SERVED.set(None);
    result
}

/// Ends a call where it is. What the panic came upon may be in the way of
/// undoing: then the process ends as if it was killed, and the journal stays for
/// DEL and GC. So ADD answers first; whoever called waits for the process.
fn end(call: &Call, failure: Failure) -> ! {
    if !call.request.environment.is_alone {
        // A command, whose report would have to wait for what does not come.
        eprintln!("weir: {failure}");
        process::exit(1);
    }
    let _killer = killer();
    if let Ok(journal) = call.journal.try_borrow()
        && let Some(journal) = &*journal
    {
        // What the component held is not put away.
        lock::give_up_all_but(journal.as_fd());
    }
    let succeeded = match call.request.environment.command {
        Command::Add => {
            answer(call, &failure);
            let undone = super::undo_add(call, failure.clone());
            if undone.details != failure.details {
                eprintln!("weir: {undone}");
            }
            false
        }
        Command::Del => del_by_journal(call, failure).map_err(|failure| answer(call, &failure)).is_ok(),
        _ => {
            answer(call, &failure);
            false
        }
    };
    call.audit.flush();
    process::exit(i32::from(!succeeded))
}

/// A DEL that failed needs no component if anything is known of the attachment.
fn del_by_journal(call: &Call, failure: Failure) -> Result<(), Failure> {
    let Some(journal) = super::take_journal(call) else { return Err(failure) };
    super::undo_all(call, journal, call.remembered.get().unwrap_or(&call.node))?;
    super::tell_of_plugin(call, &failure);
    Ok(())
}

fn answer(call: &Call, failure: &Failure) {
    reply::failure(failure, call.request.config.version);
}

/// Has the process killed if it does not come to its end.
fn killer() -> Option<Timer> {
    let event = SigEvent::new(SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 });
    let mut timer = Timer::new(ClockId::CLOCK_MONOTONIC, event).ok()?;
    let time = TimeSpec::from_duration(super::CLEAN_UP_TIME + Duration::from_secs(1));
    timer.set(Expiration::OneShot(time), TimerSetTimeFlags::empty()).ok()?;
    Some(timer)
}
