//! The heap of a process that serves one call.
//!
//! A call takes some thousands of small blocks, most of which it keeps until
//! its end. An allocator for processes that stay would spend a fortieth of the
//! call on keeping memory in good order. Here a block has one of a few
//! sizes; one that is given back waits for the next of its size; and each
//! thread has blocks of its own, so that nothing is ever locked. Nothing goes
//! back to the kernel before the process does, but for large blocks, which are
//! left to the C library.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::num::NonZeroUsize;
use std::ptr;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

/// Blocks begin at multiples of this many bytes, and so do the sizes of small
/// ones.
const STEP: usize = 16;

/// Blocks of up to this many bytes have sizes that are [`STEP`] apart; above,
/// there are four sizes from each power of two to the next.
const SMALL: usize = 512;

/// The largest block that comes from here.
const LARGEST: usize = 128 << 10;

/// How many sizes there are, and one for a size that nobody asks for: nothing.
const SIZES: usize = 1 + SMALL / STEP + 4 * (LARGEST / SMALL).ilog2() as usize;

/// What is taken from the kernel at a time. What is not used of it costs no
/// memory.
const CHUNK: NonZeroUsize = NonZeroUsize::new(1 << 20).unwrap();

/// The allocator of the program.
pub struct Heap;

/// What a thread has.
struct Blocks {
    /// By size, the block that was given back last. It holds the address of the
    /// one before.
    free: [Cell<*mut u8>; SIZES],
    /// The part of the chunk that was never used.
    unused: Cell<*mut u8>,
    /// How many bytes that has.
    left: Cell<usize>,
}

thread_local! {
    // Nothing has to be done when a thread begins or ends, so that this can be
    // used at any time.
    static BLOCKS: Blocks = const {
        Blocks {
            free: [const { Cell::new(ptr::null_mut()) }; SIZES],
            unused: Cell::new(ptr::null_mut()),
            left: Cell::new(0),
        }
    };
}

/// A size of blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Size {
    /// Its place among the sizes.
    index: usize,
    /// How many bytes a block has.
    bytes: usize,
}

impl Size {
    /// The size of blocks for this, unless it is large, or has to begin at a
    /// place that not all blocks begin at.
    #[inline]
    fn of(layout: Layout) -> Option<Self> {
        let bytes = layout.size();
        if bytes > LARGEST || layout.align() > STEP {
            return None;
        }
        if bytes <= SMALL {
            let index = bytes.div_ceil(STEP);
            return Some(Self { index, bytes: index * STEP });
        }
        // The power of two that it is above.
        let power = (bytes - 1).ilog2();
        let step = 1 << (power - 2);
        let steps = bytes.div_ceil(step);
        let before = 4 * (power - SMALL.ilog2()) as usize;
        Some(Self { index: SMALL / STEP + before + (steps - 4), bytes: steps * step })
    }
}

impl Blocks {
    /// A block, and whether it was never used before, so that it has zeros
    /// only. Null if there is no memory.
    #[inline]
    fn take(&self, size: Size) -> (*mut u8, bool) {
        let free = &self.free[size.index];
        let block = free.get();
        if block.is_null() {
            return (self.cut(size.bytes), true);
        }
        // SAFETY: a block that was given back holds this, as `give_back` wrote
        // it, and belongs to nobody else.
        free.set(unsafe { block.cast::<*mut u8>().read() });
        (block, false)
    }

    /// A block from the part of the chunk that was never used.
    #[inline]
    fn cut(&self, bytes: usize) -> *mut u8 {
        if self.left.get() < bytes && !self.renew() {
            return ptr::null_mut();
        }
        let block = self.unused.get();
        // SAFETY: the chunk has this many more bytes.
        self.unused.set(unsafe { block.add(bytes) });
        self.left.set(self.left.get() - bytes);
        block
    }

    /// Takes a chunk from the kernel.
    #[cold]
    fn renew(&self) -> bool {
        let access = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: it is memory that nobody else knows of.
        let chunk = unsafe { mmap_anonymous(None, CHUNK, access, MapFlags::MAP_PRIVATE) };
        let Ok(chunk) = chunk else { return false };
        self.unused.set(chunk.as_ptr().cast());
        self.left.set(CHUNK.get());
        true
    }

    /// Takes a block back.
    ///
    /// # Safety
    ///
    /// It was taken in this size, if by whichever thread, and is not used any
    /// more.
    #[inline]
    unsafe fn give_back(&self, block: *mut u8, size: Size) {
        let free = &self.free[size.index];
        // SAFETY: each block has room for an address and begins at a multiple
        // of an address's size, and this one is nobody's now.
        unsafe { block.cast::<*mut u8>().write(free.get()) };
        free.set(block);
    }
}

// SAFETY: a block is not given out again before it was given back; it has at
// least the bytes that were asked for and begins at a multiple of `STEP`, which
// is all that is asked for where `Size::of` finds a size. What it finds for a
// block is the same each time, so that a block goes back to where it came from.
// Nothing here panics or allocates.
unsafe impl GlobalAlloc for Heap {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Size::of(layout) {
            Some(size) => BLOCKS.with(|blocks| blocks.take(size).0),
            // SAFETY: the caller keeps the same promise to both.
            None => unsafe { System.alloc(layout) },
        }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(size) = Size::of(layout) else {
            // SAFETY: the caller keeps the same promise to both.
            return unsafe { System.alloc_zeroed(layout) };
        };
        let (block, has_zeros) = BLOCKS.with(|blocks| blocks.take(size));
        if !has_zeros {
            // SAFETY: the block has at least these bytes.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match Size::of(layout) {
            // SAFETY: `alloc` gave the block, for the same layout.
            Some(size) => BLOCKS.with(|blocks| unsafe { blocks.give_back(block, size) }),
            // SAFETY: `alloc` had it from there.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // SAFETY: the caller promises that this is a layout.
        let wanted = unsafe { Layout::from_size_align_unchecked(bytes, layout.align()) };
        match (Size::of(layout), Size::of(wanted)) {
            (Some(has), Some(wants)) if has == wants => block,
            // SAFETY: the block is from there.
            (None, None) => unsafe { System.realloc(block, layout, bytes) },
            // SAFETY: the new block is not the old one; both have at least the
            // bytes that are copied. The old one is not used any more.
            _ => unsafe {
                let moved = self.alloc(wanted);
                if !moved.is_null() {
                    moved.copy_from_nonoverlapping(block, bytes.min(layout.size()));
                    self.dealloc(block, layout);
                }
                moved
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, 8).unwrap()
    }

    #[test]
    fn sizes_are_in_order_and_waste_little() {
        let mut before = Size { index: 0, bytes: 0 };
        for bytes in 1..=LARGEST {
            let size = Size::of(layout(bytes)).unwrap();
            assert!(size.bytes >= bytes && size.bytes.is_multiple_of(STEP), "{bytes}: {size:?}");
            assert!(size.bytes - bytes < STEP.max(bytes.div_ceil(4)), "{bytes}: {size:?}");
            // Each size follows the one before, for the first number above it.
            let is_next = bytes == before.bytes + 1;
            assert_eq!(size.index, before.index + usize::from(is_next), "{bytes}");
            assert_eq!(is_next, size != before, "{bytes}");
            before = size;
        }
        assert_eq!(before, Size { index: SIZES - 1, bytes: LARGEST });
        assert_eq!(Size::of(layout(LARGEST + 1)), None);
        assert_eq!(Size::of(Layout::from_size_align(8, 32).unwrap()), None);
    }

    #[test]
    fn a_block_that_was_given_back_is_used_again() {
        // SAFETY: each block is given back once, for its layout.
        unsafe {
            let first = Heap.alloc(layout(700));
            Heap.dealloc(first, layout(700));
            assert_eq!(Heap.alloc(layout(760)), first, "the same size of blocks");
            let other = Heap.alloc(layout(700));
            assert_ne!(other, first);
            Heap.dealloc(first, layout(760));
            Heap.dealloc(other, layout(700));
        }
    }

    #[test]
    fn another_thread_can_give_a_block_back() {
        // SAFETY: the other thread gives the block back once, for its layout.
        unsafe {
            let block = Heap.alloc(layout(100)).addr();
            let elsewhere = thread::spawn(move || {
                Heap.dealloc(ptr::with_exposed_provenance_mut(block), layout(100));
                Heap.alloc(layout(100)).addr()
            });
            assert_eq!(elsewhere.join().unwrap(), block);
        }
    }

    proptest! {
        /// Blocks keep what is written to them, whatever happens to others.
        #[test]
        fn blocks_are_apart(
            steps in prop::collection::vec((any::<prop::sample::Index>(), 1_usize..300_000, 0_u32..18, 0..4), 1..200),
        ) {
            // What each block has to hold, in all its bytes.
            let mut blocks: Vec<(*mut u8, Layout, u8)> = Vec::new();
            for (number, (index, bytes, smaller, action)) in steps.into_iter().enumerate() {
                let wanted = layout((bytes >> smaller).max(1));
                let mark = u8::try_from(number + 1).unwrap();
                // SAFETY: blocks are used within their layouts, and until they
                // are given back.
                unsafe {
                    if action < 2 || blocks.is_empty() {
                        let block = if action == 0 { Heap.alloc(wanted) } else { Heap.alloc_zeroed(wanted) };
                        prop_assert!(!block.is_null() && block.addr().is_multiple_of(STEP));
                        if action == 1 {
                            let all = std::slice::from_raw_parts(block, wanted.size());
                            prop_assert!(all.iter().all(|byte| *byte == 0));
                        }
                        block.write_bytes(mark, wanted.size());
                        blocks.push((block, wanted, mark));
                        continue;
                    }
                    let place = index.index(blocks.len());
                    let (block, has, mark) = blocks.swap_remove(place);
                    let all = std::slice::from_raw_parts(block, has.size());
                    prop_assert!(all.iter().all(|byte| *byte == mark));
                    if action == 2 {
                        Heap.dealloc(block, has);
                        continue;
                    }
                    let moved = Heap.realloc(block, has, wanted.size());
                    let kept = std::slice::from_raw_parts(moved, wanted.size().min(has.size()));
                    prop_assert!(kept.iter().all(|byte| *byte == mark));
                    moved.write_bytes(mark, wanted.size());
                    blocks.push((moved, wanted, mark));
                }
            }
            for (block, has, mark) in blocks {
                // SAFETY: as above.
                unsafe {
                    prop_assert!(std::slice::from_raw_parts(block, has.size()).iter().all(|byte| *byte == mark));
                    Heap.dealloc(block, has);
                }
            }
        }
    }
}
