//! Waiting for the lock of a file, `flock(2)`, which processes of others (the
//! reference plugin) take too.

use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::FdFlags;

/// Between two tries, where nobody can wait.
const POLL: Duration = Duration::from_millis(2);

/// Above the numbers of all files that a call has open, even if its caller has
/// left it thousands.
const NUMBERS: RawFd = 1 << 16;

/// Waits for the exclusive lock of `file` until `deadline`. The lock lasts
/// until the returned file is closed; none if the time is over.
pub(crate) fn acquire(file: File, deadline: Instant) -> io::Result<Option<File>> {
    match file.try_lock() {
        Ok(()) => return Ok(Some(file)),
        Err(TryLockError::Error(error)) => return Err(error),
        Err(TryLockError::WouldBlock) => {}
    }
    let remaining = deadline.saturating_duration_since(Instant::now());
    if remaining.is_zero() {
        return Ok(None);
    }
    // flock has no timeout, and whoever polls starves behind the queue of
    // those that block. So a thread of ours queues up. If we give up first, it
    // ends with the process, or closes the file, and with it frees the lock,
    // as soon as it gets it: then nobody receives.
    let (sender, receiver) = mpsc::channel();
    let polled = file.try_clone();
    let waiter = thread::Builder::new().name("lock".to_owned()).spawn(move || {
        let locked = loop {
            match file.lock() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome.map(|()| file),
            }
        };
        drop(sender.send(locked));
    });
    if waiter.is_err() {
        // It may be one process too many.
        return poll(polled?, deadline);
    }
    match receiver.recv_timeout(remaining) {
        Ok(locked) => locked.map(Some),
        Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(io::Error::other("the thread that waits panicked")),
    }
}

/// Asks for the lock again and again.
fn poll(file: File, deadline: Instant) -> io::Result<Option<File>> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(Some(file)),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => return Ok(None),
            Err(TryLockError::WouldBlock) => thread::sleep(POLL),
        }
    }
}

/// Gives up all locks of the process but that of one file. For its end, when
/// whoever took them does not come back.
pub(crate) fn give_up_all_but(kept: BorrowedFd<'_>) {
    for number in 3..NUMBERS {
        // SAFETY: the number is only asked about, and closed ones answer with
        // an error.
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        // The locks of files that were open before are those of the caller.
        let is_own = rustix::io::fcntl_getfd(file).is_ok_and(|flags| flags.contains(FdFlags::CLOEXEC));
        if is_own && number != kept.as_raw_fd() {
            let _ = rustix::fs::flock(file, FlockOperation::Unlock);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_up_in_time_and_leaves_nothing_locked() {
        let directory = tempfile::tempdir().unwrap();
        let open = || File::options().create(true).append(true).open(directory.path().join("lock")).unwrap();
        let held = acquire(open(), Instant::now()).unwrap().unwrap();
        assert!(acquire(open(), Instant::now()).unwrap().is_none());
        let start = Instant::now();
        assert!(acquire(open(), start + Duration::from_millis(50)).unwrap().is_none());
        assert!(start.elapsed() >= Duration::from_millis(50));
        drop(held);
        let later = Instant::now() + Duration::from_secs(10);
        assert!(acquire(open(), later).unwrap().is_some());
    }

    #[test]
    fn is_handed_over() {
        let directory = tempfile::tempdir().unwrap();
        let open = || File::options().create(true).append(true).open(directory.path().join("lock")).unwrap();
        let held = acquire(open(), Instant::now()).unwrap().unwrap();
        let waiter = thread::spawn({
            let file = open();
            move || acquire(file, Instant::now() + Duration::from_secs(10)).unwrap().is_some()
        });
        thread::sleep(Duration::from_millis(20));
        drop(held);
        assert!(waiter.join().unwrap());
    }

    #[test]
    fn is_asked_for_where_nobody_can_wait() {
        let directory = tempfile::tempdir().unwrap();
        let open = || File::options().create(true).append(true).open(directory.path().join("lock")).unwrap();
        let held = acquire(open(), Instant::now()).unwrap().unwrap();
        assert!(poll(open(), Instant::now() + Duration::from_millis(20)).unwrap().is_none());
        drop(held);
        assert!(poll(open(), Instant::now()).unwrap().is_some());
    }
}
