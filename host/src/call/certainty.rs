//! What an error says of the change that it ended.

use crate::buckets::BucketError;
use crate::failure::{Failure, code};
use crate::leases::LeaseError;
use crate::netlink::{BatchError, NetlinkError};

/// Whether an error proves that nothing was changed. If it does not, the way
/// back stays in the journal: a request without an answer may be carried out
/// all the same.
pub(crate) trait Certainty {
    /// Whether it is certain that nothing was changed.
    fn nothing_changed(&self) -> bool;

    /// Whether nothing was even tried, as the plugin may not do it.
    fn is_denial(&self) -> bool {
        false
    }
}

impl Certainty for NetlinkError {
    fn nothing_changed(&self) -> bool {
        matches!(self, Self::Kernel { .. } | Self::Absent { .. })
    }
}

impl Certainty for BatchError {
    fn nothing_changed(&self) -> bool {
        self.is_undone && self.error.nothing_changed()
    }
}

impl Certainty for Failure {
    fn nothing_changed(&self) -> bool {
        !matches!(self.code, code::DEADLINE | code::IO)
    }

    fn is_denial(&self) -> bool {
        self.code == code::DENIED
    }
}

/// A value is replaced by one rename, which succeeds or does nothing.
impl Certainty for BucketError {
    fn nothing_changed(&self) -> bool {
        true
    }
}

/// The pool writes the ways back of its leases by itself.
impl Certainty for LeaseError {
    fn nothing_changed(&self) -> bool {
        false
    }
}
