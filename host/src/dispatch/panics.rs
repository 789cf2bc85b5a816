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
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
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

/// Ends a call where it is.
fn end(call: &Call, failure: Failure) -> ! {
    if let Ok(journal) = call.journal.try_borrow()
        && let Some(journal) = &*journal
    {
        // What the component held is not put away, and is in the way of undoing.
        lock::give_up_all_but(journal.as_fd());
    }
    let ended = match call.request.environment.command {
        Command::Add => Err(super::undo_add(call, failure)),
        Command::Del => match super::take_journal(call) {
            Some(journal) => {
                super::undo_all(call, journal, &call.node).inspect(|()| super::tell_of_plugin(call, &failure))
            }
            None => Err(failure),
        },
        _ => Err(failure),
    };
    call.audit.flush();
    process::exit(match ended {
        Ok(()) => 0,
        Err(failure) => {
            let _ = reply::failure(&failure, call.request.config.version);
            1
        }
    })
}
