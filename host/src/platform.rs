//! What wasmtime asks of the platform that it runs on.
//!
//! wasmtime brings that along, as its feature `std`, with hash functions that
//! take an eighth of a call's instructions, for tables that an adversary fills
//! over and over.
//! Those of a call hold the names in one component, are of a limited size, and
//! are gone with the call. Without that feature it calls the functions here, by
//! the names and with the types of its `wasmtime-platform.h`. They say what they
//! do there, and return 0 or an error number.

mod locks;

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::num::NonZeroUsize;
use std::ptr::{self, NonNull};
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::libc::{_SC_PAGESIZE, siginfo_t, sysconf, ucontext_t};
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect, munmap};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use crate::aot::PAGE;

thread_local! {
    /// What wasmtime keeps for each thread: where the component that runs is
    /// described, with a mark in the last bit that stays.
    static KEPT: Cell<*mut u8> = const { Cell::new(ptr::null_mut()) };
}

/// Whether the thread runs a component, so that a panic cannot get further than
/// to the function that the component called.
pub(crate) fn is_in_component() -> bool {
    KEPT.get().addr() & !1 != 0
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_get(_slot: usize) -> *mut u8 {
    KEPT.get()
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_tls_set(_slot: usize, kept: *mut u8) {
    KEPT.set(kept);
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_page_size() -> usize {
    // SAFETY: this only asks.
    let size = unsafe { sysconf(_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(PAGE)
}

#[unsafe(no_mangle)]
extern "C" fn wasmtime_mmap_new(length: usize, access: u32, mapped: &mut *mut u8) -> c_int {
    returned(length_of(length).and_then(|length| {
        // SAFETY: it is memory that nobody else knows of. Most of it is never
        // used, and none of that counts.
        let memory = unsafe {
            mmap_anonymous(None, length, protection(access), MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE)
        }?;
        *mapped = memory.as_ptr().cast();
        Ok(())
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_mmap_remap(start: *mut u8, length: usize, access: u32) -> c_int {
    let Some(address) = NonZeroUsize::new(start.addr()) else { return Errno::EINVAL as c_int };
    returned(length_of(length).and_then(|length| {
        // SAFETY: what was there is wasmtime's, which wants it replaced.
        unsafe {
            mmap_anonymous(
                Some(address),
                length,
                protection(access),
                MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED,
            )
        }?;
        Ok(())
    }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_munmap(start: *mut u8, length: usize) -> c_int {
    // SAFETY: what is there is wasmtime's, which does not use it any more.
    returned(address_of(start).and_then(|start| unsafe { munmap(start, length) }))
}

#[unsafe(no_mangle)]
unsafe extern "C" fn wasmtime_mprotect(start: *mut u8, length: usize, access: u32) -> c_int {
    // SAFETY: what is there is wasmtime's, which knows what it uses it for.
    returned(address_of(start).and_then(|start| unsafe { mprotect(start, length, protection(access)) }))
}

/// Makes none, which wasmtime can do without: the settings ask for no images.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_memory_image_new(_: *const u8, _: usize, image: &mut *mut c_void) -> c_int {
    *image = ptr::null_mut();
    0
}

/// Is not called, as there are no images.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_memory_image_map_at(_: *mut c_void, _: *mut u8, _: usize) -> c_int {
    Errno::ENOSYS as c_int
}

/// Is not called, as there are no images.
#[unsafe(no_mangle)]
extern "C" fn wasmtime_memory_image_free(_: *mut c_void) {}

/// wasmtime's function for a fault of the processor: where it happened, the
/// frame, whether it is about an address, and which. It returns if the fault
/// was none of a component's.
type TrapHandler = extern "C" fn(usize, usize, bool, usize);

static TRAP_HANDLER: OnceLock<TrapHandler> = OnceLock::new();

#[unsafe(no_mangle)]
extern "C" fn wasmtime_init_traps(handler: TrapHandler) -> c_int {
    let _ = TRAP_HANDLER.set(handler);
    // Components that fault again have to be noticed again, although the
    // handler does not return.
    let flags = SaFlags::SA_SIGINFO | SaFlags::SA_NODEFER;
    let action = SigAction::new(SigHandler::SigAction(fault), flags, SigSet::empty());
    // SAFETY: the handler does what wasmtime's own does: it looks whether the
    // fault happened in a component, whose code holds nothing that could be
    // left in disorder, and otherwise has the process end by it.
    let installed = [Signal::SIGSEGV, Signal::SIGILL, Signal::SIGFPE]
        .into_iter()
        .try_for_each(|signal| unsafe { sigaction(signal, &action) }.map(drop));
    returned(installed)
}

extern "C" fn fault(signal: c_int, information: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes both to a handler with `SA_SIGINFO`, and the
    // field belongs to these signals (sigaction(2)).
    let (context, address) = unsafe { (&*context.cast::<ucontext_t>(), (*information).si_addr()) };
    let (instruction, frame) = place(context);
    if let Some(handler) = TRAP_HANDLER.get() {
        handler(instruction, frame, signal == Signal::SIGSEGV as c_int, address.addr());
    }
    let as_usual = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    if let Ok(signal) = Signal::try_from(signal) {
        // SAFETY: this removes a handler. The fault happens again on return.
        let _ = unsafe { sigaction(signal, &as_usual) };
    }
}

/// The addresses of the instruction and of the frame that were interrupted.
#[cfg(target_arch = "x86_64")]
fn place(context: &ucontext_t) -> (usize, usize) {
    let register = |number: c_int| context.uc_mcontext.gregs[number as usize] as usize;
    (register(nix::libc::REG_RIP), register(nix::libc::REG_RBP))
}

/// The addresses of the instruction and of the frame that were interrupted.
#[cfg(target_arch = "aarch64")]
fn place(context: &ucontext_t) -> (usize, usize) {
    const FRAME: usize = 29;
    (context.uc_mcontext.pc as usize, context.uc_mcontext.regs[FRAME] as usize)
}

/// Reading, writing and executing have the same bits as for the kernel.
fn protection(access: u32) -> ProtFlags {
    ProtFlags::from_bits_truncate(access.cast_signed())
}

fn length_of(length: usize) -> Result<NonZeroUsize, Errno> {
    NonZeroUsize::new(length).ok_or(Errno::EINVAL)
}

fn address_of(start: *mut u8) -> Result<NonNull<c_void>, Errno> {
    NonNull::new(start.cast()).ok_or(Errno::EINVAL)
}

fn returned(done: Result<(), Errno>) -> c_int {
    done.map_or_else(|errno| errno as c_int, |()| 0)
}
