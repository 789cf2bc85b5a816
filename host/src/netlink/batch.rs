//! Lists of which all is done or nothing.

use std::fmt;

use super::NetlinkError;

/// Why a list was not carried out.
#[derive(Debug)]
pub(crate) struct BatchError {
    /// What the one that failed, failed with.
    pub(crate) error: NetlinkError,
    /// Whether everything before it is certain to be taken back.
    pub(crate) is_undone: bool,
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)?;
        if self.is_undone {
            Ok(())
        } else {
            f.write_str("; not all that was done before it is taken back yet")
        }
    }
}

impl From<BatchError> for NetlinkError {
    fn from(error: BatchError) -> Self {
        error.error
    }
}

/// Does something to each item. If that fails, it is taken back of those before
/// it, the last one first.
pub(super) fn all_or_none<T>(
    items: &[T],
    mut work: impl FnMut(&T) -> Result<(), NetlinkError>,
    mut undo: impl FnMut(&T) -> Result<(), NetlinkError>,
) -> Result<(), BatchError> {
    for (number, item) in items.iter().enumerate() {
        let Err(error) = work(item) else { continue };
        let mut is_undone = true;
        for done in items[..number].iter().rev() {
            is_undone &= undo(done).is_ok();
        }
        return Err(BatchError { error, is_undone });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn fail() -> Result<(), NetlinkError> {
        Err(NetlinkError::Absent { attempt: "do it".to_owned() })
    }

    #[test]
    fn what_was_done_is_taken_back_backwards() {
        let log = RefCell::new(Vec::new());
        let work = |item: &i32| {
            log.borrow_mut().push(*item);
            if *item == 3 { fail() } else { Ok(()) }
        };
        let undo = |item: &i32| {
            log.borrow_mut().push(-item);
            Ok(())
        };
        assert!(all_or_none(&[1, 2], work, undo).is_ok());
        let error = all_or_none(&[1, 2, 3, 4], work, undo).unwrap_err();
        assert!(error.is_undone);
        assert_eq!(log.take(), [1, 2, 1, 2, 3, -2, -1]);
    }

    #[test]
    fn what_cannot_be_taken_back_is_told() {
        let work = |item: &i32| if *item == 3 { fail() } else { Ok(()) };
        let undo = |item: &i32| if *item == 2 { fail() } else { Ok(()) };
        let error = all_or_none(&[1, 2, 3], work, undo).unwrap_err();
        assert!(!error.is_undone && error.to_string().contains("not all"), "{error}");
    }
}
