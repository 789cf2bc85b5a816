//! The heap of a component, which serves one call and ends: what of its memory
//! is left from the start, and then what it grows by.

use std::arch::wasm32;
use std::cell::Cell;
use std::ptr::{self, NonNull};

use weir_heap::{Blocks, Chunk, Heap, Memory};

/// The unit of WebAssembly's memory.
const PAGE: usize = 64 << 10;

/// What the memory grows by at a time. What is not used of it costs nothing.
const CHUNK: usize = 256 << 10;

#[global_allocator]
static HEAP: Heap<Linear> = Heap::new();

// What of the memory is left from the start lies between these (wasm-ld's
// names). By the time that it is taken, the memory may have grown for others.
unsafe extern "C" {
    #[link_name = "__heap_base"]
    static BASE: u8;
    #[link_name = "__heap_end"]
    static END: u8;
}

/// The component's memory.
struct Linear {
    blocks: Blocks,
    /// Whether what is left from the start was given out.
    is_begun: Cell<bool>,
}

static LINEAR: Linear = Linear { blocks: Blocks::new(), is_begun: Cell::new(false) };

// SAFETY: a component has one thread.
unsafe impl Sync for Linear {}

// SAFETY: nobody else uses what is left from the start, which is taken once, and
// what the memory grows by is that of whoever had it grow. Both are zero. One
// thread has one set of blocks.
unsafe impl Memory for Linear {
    #[inline]
    fn with_blocks<T>(work: impl FnOnce(&Blocks) -> T) -> T {
        work(&LINEAR.blocks)
    }

    fn chunk(bytes: usize) -> Option<Chunk> {
        if !LINEAR.is_begun.replace(true) {
            let base = (&raw const BASE).addr().next_multiple_of(16);
            let left = (&raw const END).addr().saturating_sub(base);
            if left >= bytes {
                return chunk_at(base, left);
            }
        }
        // The memory may have a limit that is nearer.
        [bytes.max(CHUNK), bytes].into_iter().find_map(|bytes| {
            let pages = bytes.div_ceil(PAGE);
            let before = wasm32::memory_grow::<0>(pages);
            if before == usize::MAX { None } else { chunk_at(before * PAGE, pages * PAGE) }
        })
    }
}

fn chunk_at(address: usize, bytes: usize) -> Option<Chunk> {
    let start = NonNull::new(ptr::with_exposed_provenance_mut(address))?;
    Some(Chunk { start, bytes })
}
