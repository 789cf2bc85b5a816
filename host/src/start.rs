//! The start of the process, in place of Rust's own.

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::fs::OpenOptions;
use std::os::fd::{BorrowedFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, SigSet, Signal, signal};

/// Makes the process ready for everything else.
pub fn ready() {
    occupy_standard_streams();
    for error_of_a_write in [Signal::SIGPIPE, Signal::SIGXFSZ] {
        // SAFETY: no handler is installed; that a reader has gone away, or a
        // file may not become larger, is then seen as an error of the write.
        let _ = unsafe { signal(error_of_a_write, SigHandler::SigIgn) };
    }
    // Whoever executes this may have blocked them: deadlines and the traps of
    // components come as signals.
    let needed = [Signal::SIGALRM, Signal::SIGSEGV, Signal::SIGBUS, Signal::SIGILL, Signal::SIGFPE];
    let _ = needed.into_iter().collect::<SigSet>().thread_unblock();
}

/// Reads the arguments of the program. Under musl the standard library knows
/// them only from its own `main`.
///
/// # Safety
///
/// Both have to be what the C library gave to `main`.
pub unsafe fn arguments(count: c_int, arguments: *const *const c_char) -> Vec<OsString> {
    (0..usize::try_from(count).unwrap_or_default())
        .map(|number| {
            // SAFETY: there are `count` strings, which end with a zero and stay
            // as they are.
            let argument = unsafe { CStr::from_ptr(*arguments.add(number)) };
            OsStr::from_bytes(argument.to_bytes()).to_owned()
        })
        .collect()
}

/// Opens `/dev/null` for each standard stream that the caller has closed, so
/// that nothing opened later takes its number.
fn occupy_standard_streams() {
    // SAFETY: the numbers are only asked about, which is allowed for closed
    // ones too: poll(2) then reports POLLNVAL.
    let streams = [0, 1, 2].map(|number| unsafe { BorrowedFd::borrow_raw(number) });
    let mut asked = streams.map(|stream| PollFd::new(stream, PollFlags::empty()));
    if poll(&mut asked, PollTimeout::ZERO).is_ok_and(|count| count == 0) {
        return;
    }
    for stream in asked {
        if stream.revents().is_some_and(|events| events.contains(PollFlags::POLLNVAL))
            && let Ok(null) = OpenOptions::new().read(true).write(true).open("/dev/null")
        {
            let _ = null.into_raw_fd();
        }
    }
}
