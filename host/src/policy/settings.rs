//! What a policy says once for all calls, and the limits that it sets.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How privileged operations are recorded: `[audit]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSettings {
    /// Whether they are.
    pub enabled: bool,
    /// The file; it is not written where the journal of systemd is used.
    pub file: PathBuf,
    /// The size in bytes from which on the file is rotated.
    pub max_size: u64,
    /// How many rotated files are kept.
    pub keep: u32,
    /// Whether records go to the journal of systemd.
    pub journald: bool,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            file: PathBuf::from("/var/log/weir/audit.jsonl"),
            max_size: 16 << 20,
            keep: 4,
            journald: false,
        }
    }
}

/// Who may sign plugins: `[plugins]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signing {
    /// Public keys of minisign, of which each was read once.
    pub keys: Vec<String>,
    /// Whether plugins without a signature are refused.
    pub require_signature: bool,
}

/// What one call of a plugin may use up; `None` where the policy does not say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Time.
    pub time: Option<Duration>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Changes of the node.
    pub changes: Option<u32>,
    /// Handles that it has at once.
    pub handles: Option<u32>,
}

impl Limits {
    /// The lower of two limits each.
    pub(super) fn lowest(self, other: Self) -> Self {
        fn lower<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
            match (one, other) {
                (Some(one), Some(other)) => Some(one.min(other)),
                (one, other) => one.or(other),
            }
        }
        Self {
            time: lower(self.time, other.time),
            memory: lower(self.memory, other.memory),
            changes: lower(self.changes, other.changes),
            handles: lower(self.handles, other.handles),
        }
    }
}

/// What applies to bundled plugins that no rule matches.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Bundled {
    #[default]
    Unrestricted,
    /// Nothing. The greater one is the more restrictive one.
    ByRule,
}

/// All of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) bundled: Bundled,
    pub(crate) audit: AuditSettings,
    pub(crate) signing: Signing,
}
