//! What the kernel says when it refuses something.

use super::attribute::{attribute, text};

/// The kernel's answer to a message that it did not accept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// The positive errno.
    pub(crate) errno: i32,
    /// The errno's text and the kernel's own, if it sent one.
    pub(crate) reason: String,
}

impl Refusal {
    /// Reads a refusal, about which the kernel may say more in attributes.
    pub(crate) fn new(errno: i32, attributes: &[u8]) -> Self {
        const NLMSGERR_ATTR_MSG: u16 = 1;
        let mut reason = nix::Error::from_raw(errno).desc().to_owned();
        if let Some(words) = attribute(attributes, NLMSGERR_ATTR_MSG).and_then(text) {
            reason = format!("{reason}: {words}");
        }
        Self { errno, reason }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_words_follow_the_errno() {
        let mut rest = Vec::new();
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
        for rest in [&[][..], &[0; 3], &[0; 8], &[255; 24]] {
            assert_eq!(Refusal::new(nix::libc::EPERM, rest).reason, "Operation not permitted");
        }
    }
}
