//! The heap of the process: each thread has blocks of its own, and their memory
//! is the kernel's.

use std::num::NonZeroUsize;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use weir_heap::{Blocks, Chunk, Memory};

/// What is taken from the kernel at a time. What is not used of it costs no
/// memory.
const CHUNK: NonZeroUsize = NonZeroUsize::new(1 << 20).unwrap();

/// The allocator of the program.
pub type Heap = weir_heap::Heap<Kernel>;

/// The kernel's memory.
#[derive(Debug)]
pub struct Kernel;

thread_local! {
    // Nothing has to be done when a thread begins or ends, so that this can be
    // used at any time.
    static BLOCKS: Blocks = const { Blocks::new() };
}

// SAFETY: a mapping is made for whoever asks, and stays; threads have their
// own blocks.
unsafe impl Memory for Kernel {
    #[inline]
    fn with_blocks<T>(work: impl FnOnce(&Blocks) -> T) -> T {
        BLOCKS.with(work)
    }

    fn chunk(bytes: usize) -> Option<Chunk> {
        let length = CHUNK.max(NonZeroUsize::new(bytes)?);
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: it is memory that nobody else knows of.
        let start = unsafe { mmap_anonymous(None, length, access, MapFlags::MAP_PRIVATE) }.ok()?;
        Some(Chunk { start: start.cast(), bytes: length.get() })
    }
}
