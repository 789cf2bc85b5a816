//! Errors as plugins see them.

use crate::failure::Failure;
use crate::netlink::NetlinkError;
use crate::wit::weir::net::types::{KernelError, NetError};

/// Maps the kernel's refusals to the cases that plugins can tell apart.
pub(super) fn net_error(error: NetlinkError) -> NetError {
    let message = error.to_string();
    match &error {
        NetlinkError::TimedOut { .. } => NetError::Limit(message),
        NetlinkError::Socket { .. } => NetError::Other(message),
        _ if error.is_absent() => NetError::NotFound(message),
        _ if error.is_existing() => NetError::AlreadyExists(message),
        _ => match error.errno() {
            nix::libc::EBUSY => NetError::Busy(message),
            nix::libc::EOPNOTSUPP => NetError::Unsupported(message),
            errno => NetError::Kernel(KernelError { errno, message }),
        },
    }
}

/// Maps a failure of the host to what plugins understand.
pub(super) fn failure_to_net_error(failure: Failure) -> NetError {
    NetError::Other(failure.to_string())
}
