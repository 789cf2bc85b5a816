//! What an operator can say about the audit log.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where the audit log is kept, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AuditSettings {
    /// Whether there is one.
    pub(crate) enabled: bool,
    /// The file; none for the default. `WEIR_AUDIT_FILE` comes before either.
    pub(crate) file: Option<PathBuf>,
    /// A file that has reached this many bytes is put aside.
    pub(crate) max_size: u64,
    /// How many files that were put aside are kept; at least one is.
    pub(crate) keep: u32,
    /// Whether records go to the systemd journal instead of the file.
    pub(crate) journald: bool,
    /// Whether a call fails, before it does anything, if its records could
    /// not be written.
    pub(crate) required: bool,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self { enabled: true, file: None, max_size: 16 << 20, keep: 4, journald: false, required: false }
    }
}
