//! Why an operation on the packet filter failed.

use super::attribute::{attribute, text};

/// A failed operation, as the operator reads it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FirewallError {
    /// The kernel refused.
    #[error("{attempt}: {reason} (errno {errno})")]
    Kernel {
        /// What was attempted, on which object.
        attempt: String,
        /// The positive errno.
        errno: i32,
        /// The kernel's words.
        reason: String,
    },
    /// The kernel was built without something that weir needs, or cannot load
    /// the module that has it.
    #[error("{attempt}: the kernel lacks {needs}: {reason} (errno {errno})")]
    Unsupported {
        /// What was attempted, on which object.
        attempt: String,
        /// What the kernel lacks, with its build option.
        needs: &'static str,
        /// The positive errno.
        errno: i32,
        /// The kernel's words.
        reason: String,
    },
    /// The request cannot be expressed in nf_tables.
    #[error("{attempt}: {reason}")]
    Invalid {
        /// What was attempted, on which object.
        attempt: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Not done within the call's time.
    #[error("{attempt}: not done within the time that the call has left")]
    TimedOut {
        /// What was attempted, on which object.
        attempt: String,
    },
    /// The socket failed.
    #[error("{attempt}: {reason}")]
    Socket {
        /// What was attempted, on which object.
        attempt: String,
        /// Why.
        reason: String,
    },
}

/// A failure whose place in the whole is not known yet.
#[derive(Debug)]
pub(super) enum Cause {
    Kernel(Refusal),
    Unsupported { needs: &'static str, refusal: Refusal },
    Invalid(String),
    TimedOut,
    Socket(String),
}

/// The kernel's answer to a message that it did not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The positive errno.
    pub(super) errno: i32,
    /// The errno's text and the kernel's own, if it sent one.
    pub(super) reason: String,
}

impl Refusal {
    /// Reads a refusal. `rest` is what follows the error code: the header of
    /// the refused request (16 bytes, as `NETLINK_CAP_ACK` is on), then
    /// attributes.
    pub(super) fn new(errno: i32, rest: &[u8]) -> Self {
        const REQUEST_HEADER: usize = 16;
        const NLMSGERR_ATTR_MSG: u16 = 1;
        let mut reason = nix::Error::from_raw(errno).desc().to_owned();
        let attributes = rest.get(REQUEST_HEADER..).unwrap_or_default();
        if let Some(words) = attribute(attributes, NLMSGERR_ATTR_MSG).and_then(text) {
            reason = format!("{reason}: {words}");
        }
        Self { errno, reason }
    }
}

impl Cause {
    /// Says what was attempted.
    pub(super) fn during(self, attempt: String) -> FirewallError {
        match self {
            Self::Kernel(Refusal { errno, reason }) => FirewallError::Kernel { attempt, errno, reason },
            Self::Unsupported { needs, refusal: Refusal { errno, reason } } => {
                FirewallError::Unsupported { attempt, needs, errno, reason }
            }
            Self::Invalid(reason) => FirewallError::Invalid { attempt, reason },
            Self::TimedOut => FirewallError::TimedOut { attempt },
            Self::Socket(reason) => FirewallError::Socket { attempt, reason },
        }
    }
}

impl From<std::io::Error> for Cause {
    fn from(error: std::io::Error) -> Self {
        Self::Socket(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_words_follow_the_errno() {
        let mut rest = vec![0; 16];
        rest.extend_from_slice(&8_u16.to_ne_bytes());
        rest.extend_from_slice(&2_u16.to_ne_bytes());
        rest.extend_from_slice(&[0; 4]);
        rest.extend_from_slice(&9_u16.to_ne_bytes());
        rest.extend_from_slice(&1_u16.to_ne_bytes());
        rest.extend_from_slice(b"why!\0\0\0\0");
        assert_eq!(Refusal::new(nix::libc::ENOENT, &rest).reason, "No such file or directory: why!");
    }

    #[test]
    fn a_malformed_answer_is_still_a_refusal() {
        for rest in [&[][..], &[0; 16], &[0; 19], &[0; 24], &[255; 40]] {
            assert_eq!(Refusal::new(nix::libc::EPERM, rest).reason, "Operation not permitted");
        }
    }
}
