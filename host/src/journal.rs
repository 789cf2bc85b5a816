//! The journal: what a call has done to the node, and how to take it back.
//!
//! One file for each attachment and plugin. A line is written *before* the
//! change that it describes is made, so that a call that is killed at any
//! moment leaves enough behind for the next DEL or GC to clean up. Nothing is
//! flushed to disk: all but leases and the values of buckets lives in the
//! kernel's memory and goes with it, leases are found by their owner, and values
//! are not flushed either.

use std::os::fd::{AsFd, BorrowedFd};

pub(crate) mod census;
mod entry;
mod file;
mod listing;
mod undo;

#[cfg(test)]
mod tests;

pub(crate) use entry::{Inverse, LinkId, Side, some_of};
pub(crate) use file::{Header, Journal, Key};
pub(crate) use listing::{Entry, State, list, look};
pub(crate) use undo::{Undone, roll_back};

/// The file whose lock says that somebody is at work on the attachment.
impl AsFd for Journal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
