//! What a test needs and the machine lacks.

/// The error with which a test ends that cannot be run here. It is reported as
/// ignored, with the reason, and never as passed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Missing(pub(crate) String);

/// Ends the test as not runnable, unless `present`.
pub(crate) fn require(present: bool, reason: &str) -> anyhow::Result<()> {
    if present { Ok(()) } else { Err(Missing(reason.to_owned()).into()) }
}
