//! The start of the process, in place of Rust's own.

use std::fs::OpenOptions;
use std::os::fd::{BorrowedFd, IntoRawFd};

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal, signal};

/// Makes the process ready for everything else.
pub fn ready() {
    occupy_standard_streams();
    // SAFETY: no handler is installed; a reader that has gone away is then
    // seen as an error of the write.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigIgn) };
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

/// What a call uses of the heap, with room to spare.
const CALL_HEAP: usize = 448 << 10;

/// Has the kernel provide the memory of a call in one step. Page by page, as
/// it is first touched, takes twice as long.
pub fn provide_memory() {
    // SAFETY: both only grow the heap, whose end sbrk(0) tells; the range is
    // part of it and filled with zeros, which nobody relies on.
    unsafe {
        libc::mallopt(libc::M_TOP_PAD, CALL_HEAP as libc::c_int);
        // Larger than what is left of the first piece.
        drop(std::hint::black_box(Vec::<u8>::with_capacity(127 << 10)));
        let end = libc::sbrk(0) as usize;
        let start = (end - CALL_HEAP).next_multiple_of(4096);
        libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_POPULATE_WRITE);
    }
}
