//! Why an operation on the packet filter failed.

use crate::kernel::{Interruption, Refusal};

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

impl From<Interruption> for Cause {
    fn from(interruption: Interruption) -> Self {
        match interruption {
            Interruption::TimedOut => Self::TimedOut,
            Interruption::Socket(reason) => Self::Socket(reason),
        }
    }
}
