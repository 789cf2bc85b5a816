//! wasmtime's locks, each of which is a number that begins as zero. Calls have
//! one thread, and whoever waits here does so for a few instructions of
//! another.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Nobody holds it.
const FREE: usize = 0;

/// Somebody holds it alone; otherwise it counts those who share it.
const ALONE: usize = usize::MAX;

/// # Safety
///
/// It has to be one of wasmtime's locks, which live as long as they are used.
unsafe fn state_of<'a>(lock: *mut usize) -> &'a AtomicUsize {
    // SAFETY: as above; all that is done to it is done here.
    unsafe { AtomicUsize::from_ptr(lock) }
}

/// Waits until the lock can be changed from one state to another.
fn wait(lock: &AtomicUsize, next: impl Fn(usize) -> Option<usize>) {
    while lock.fetch_update(Ordering::Acquire, Ordering::Relaxed, &next).is_err() {
        thread::yield_now();
    }
}

/// A lock that is only ever held alone is one that nobody shares.
#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_sync_lock_acquire(lock: *mut usize) {
    // SAFETY: wasmtime calls this.
    unsafe { wasmtime_sync_rwlock_write(lock) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_sync_lock_release(lock: *mut usize) {
    // SAFETY: wasmtime calls this, and holds it alone.
    unsafe { wasmtime_sync_rwlock_write_release(lock) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_sync_rwlock_write(lock: *mut usize) {
    // SAFETY: wasmtime calls this.
    wait(unsafe { state_of(lock) }, |state| (state == FREE).then_some(ALONE));
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_sync_rwlock_write_release(lock: *mut usize) {
    // SAFETY: wasmtime calls this, and holds it alone.
    unsafe { state_of(lock) }.store(FREE, Ordering::Release);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_sync_rwlock_read(lock: *mut usize) {
    // SAFETY: wasmtime calls this.
    wait(unsafe { state_of(lock) }, |state| (state != ALONE).then(|| state + 1));
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_sync_rwlock_read_release(lock: *mut usize) {
    // SAFETY: wasmtime calls this, and shares it.
    unsafe { state_of(lock) }.fetch_sub(1, Ordering::Release);
}

/// Does nothing: a number holds nothing else.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_sync_lock_free(_: *mut usize) {}

/// Does nothing: a number holds nothing else.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_sync_rwlock_free(_: *mut usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Threads that add to a number which is no atomic one.
    fn add(times: usize, before: impl Fn() + Sync, after: impl Fn() + Sync, number: *mut usize) {
        let number = number.expose_provenance();
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..times {
                        before();
                        let number = std::ptr::with_exposed_provenance_mut::<usize>(number);
                        // SAFETY: the number is there, and nobody else uses it
                        // while the lock is held.
                        unsafe { number.write(number.read() + 1) };
                        after();
                    }
                });
            }
        });
    }

    #[test]
    fn one_at_a_time() {
        let (lock, mut number) = (AtomicUsize::new(FREE), 0);
        // SAFETY: the lock outlives its use.
        let take = || unsafe { wasmtime_sync_lock_acquire(lock.as_ptr()) };
        // SAFETY: as above.
        add(10_000, take, || unsafe { wasmtime_sync_lock_release(lock.as_ptr()) }, &raw mut number);
        // SAFETY: as above.
        let take = || unsafe { wasmtime_sync_rwlock_write(lock.as_ptr()) };
        // SAFETY: as above.
        add(10_000, take, || unsafe { wasmtime_sync_rwlock_write_release(lock.as_ptr()) }, &raw mut number);
        assert_eq!(number, 80_000);
        assert_eq!(lock.into_inner(), FREE);
    }

    #[test]
    fn readers_share_and_keep_writers_out() {
        let lock = AtomicUsize::new(FREE);
        // SAFETY: the lock outlives its use.
        unsafe {
            wasmtime_sync_rwlock_read(lock.as_ptr());
            wasmtime_sync_rwlock_read(lock.as_ptr());
        }
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                // SAFETY: as above.
                unsafe { wasmtime_sync_rwlock_write(lock.as_ptr()) };
            });
            thread::sleep(std::time::Duration::from_millis(20));
            assert!(!writer.is_finished());
            // SAFETY: as above.
            unsafe {
                wasmtime_sync_rwlock_read_release(lock.as_ptr());
                wasmtime_sync_rwlock_read_release(lock.as_ptr());
            }
        });
        assert_eq!(lock.into_inner(), ALONE);
    }
}
