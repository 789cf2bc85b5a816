//! A heap for what serves one call and then ends: a process of weir's, or a
//! component that runs in it.
//!
//! A call takes some thousands of small blocks, most of which it keeps until
//! its end. An allocator for what stays would spend a fortieth of the call on
//! keeping memory in good order. Here a block has one of a few sizes; one that
//! is given back waits for the next of its size; and nothing is ever locked.
//! Nothing goes back to where it came from, but for large blocks, which are left
//! to the standard library's own allocator.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

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

/// What a heap is made of.
///
/// # Safety
///
/// `chunk` gives what nobody else has, forever, and `blocks` what nobody uses
/// at the same time, each time the same to the same thread.
pub unsafe trait Memory {
    /// Has something done with the blocks of the thread.
    fn with_blocks<T>(work: impl FnOnce(&Blocks) -> T) -> T;

    /// Memory of at least so many bytes, which are all zero. It begins at a
    /// multiple of 16.
    fn chunk(bytes: usize) -> Option<Chunk>;
}

/// A piece of memory.
#[derive(Debug, Clone, Copy)]
pub struct Chunk {
    /// Where it begins.
    pub start: NonNull<u8>,
    /// How many bytes it has.
    pub bytes: usize,
}

/// An allocator of memory of this kind.
#[derive(Debug)]
pub struct Heap<M>(PhantomData<M>);

impl<M> Heap<M> {
    /// An allocator, which has nothing of its own.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "what is made in a static cannot be a default")]
    pub const fn new() -> Self {
        Self(PhantomData)
    }
}

/// What a thread has.
#[derive(Debug)]
pub struct Blocks {
    /// By size, the block that was given back last. It holds the address of the
    /// one before.
    free: [Cell<*mut u8>; SIZES],
    /// The part of the chunk that was never used.
    unused: Cell<*mut u8>,
    /// How many bytes that has.
    left: Cell<usize>,
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
    /// None.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "what is made in a static cannot be a default")]
    pub const fn new() -> Self {
        Self {
            free: [const { Cell::new(ptr::null_mut()) }; SIZES],
            unused: Cell::new(ptr::null_mut()),
            left: Cell::new(0),
        }
    }

    /// A block, and whether it was never used before, so that it has zeros
    /// only. Null if there is no memory.
    #[inline]
    fn take<M: Memory>(&self, size: Size) -> (*mut u8, bool) {
        let free = &self.free[size.index];
        let block = free.get();
        if block.is_null() {
            return (self.cut::<M>(size.bytes), true);
        }
        // SAFETY: a block that was given back holds this, as `give_back` wrote
        // it, and belongs to nobody else.
        free.set(unsafe { block.cast::<*mut u8>().read() });
        (block, false)
    }

    /// A block from the part of the chunk that was never used.
    #[inline]
    fn cut<M: Memory>(&self, bytes: usize) -> *mut u8 {
        if self.left.get() < bytes && !self.renew::<M>(bytes) {
            return ptr::null_mut();
        }
        let block = self.unused.get();
        // SAFETY: the chunk has this many more bytes.
        self.unused.set(unsafe { block.add(bytes) });
        self.left.set(self.left.get() - bytes);
        block
    }

    /// Takes another chunk, from which a block of so many bytes can be cut.
    #[cold]
    fn renew<M: Memory>(&self, bytes: usize) -> bool {
        let Some(Chunk { start, bytes }) = M::chunk(bytes) else { return false };
        self.unused.set(start.as_ptr());
        self.left.set(bytes);
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
unsafe impl<M: Memory> GlobalAlloc for Heap<M> {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match Size::of(layout) {
            Some(size) => M::with_blocks(|blocks| blocks.take::<M>(size).0),
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
        let (block, has_zeros) = M::with_blocks(|blocks| blocks.take::<M>(size));
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
            Some(size) => M::with_blocks(|blocks| unsafe { blocks.give_back(block, size) }),
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
    use std::{slice, thread};

    use proptest::prelude::*;

    use super::*;

    /// Chunks of the usual allocator's.
    struct Usual;

    thread_local! {
        static BLOCKS: Blocks = const { Blocks::new() };
    }

    const CHUNK: usize = 256 << 10;

    // SAFETY: a chunk is never given back, and a thread has its own blocks.
    unsafe impl Memory for Usual {
        fn with_blocks<T>(work: impl FnOnce(&Blocks) -> T) -> T {
            BLOCKS.with(work)
        }

        fn chunk(bytes: usize) -> Option<Chunk> {
            let bytes = bytes.max(CHUNK);
            let layout = Layout::from_size_align(bytes, STEP).unwrap();
            // SAFETY: the layout is not empty.
            let start = NonNull::new(unsafe { System.alloc_zeroed(layout) })?;
            Some(Chunk { start, bytes })
        }
    }

    #[allow(non_upper_case_globals, reason = "as an allocator is called")]
    const Heap: super::Heap<Usual> = super::Heap::new();

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
                            let all = slice::from_raw_parts(block, wanted.size());
                            prop_assert!(all.iter().all(|byte| *byte == 0));
                        }
                        block.write_bytes(mark, wanted.size());
                        blocks.push((block, wanted, mark));
                        continue;
                    }
                    let place = index.index(blocks.len());
                    let (block, has, mark) = blocks.swap_remove(place);
                    let all = slice::from_raw_parts(block, has.size());
                    prop_assert!(all.iter().all(|byte| *byte == mark));
                    if action == 2 {
                        Heap.dealloc(block, has);
                        continue;
                    }
                    let moved = Heap.realloc(block, has, wanted.size());
                    let kept = slice::from_raw_parts(moved, wanted.size().min(has.size()));
                    prop_assert!(kept.iter().all(|byte| *byte == mark));
                    moved.write_bytes(mark, wanted.size());
                    blocks.push((moved, wanted, mark));
                }
            }
            for (block, has, mark) in blocks {
                // SAFETY: as above.
                unsafe {
                    prop_assert!(slice::from_raw_parts(block, has.size()).iter().all(|byte| *byte == mark));
                    Heap.dealloc(block, has);
                }
            }
        }
    }
}
