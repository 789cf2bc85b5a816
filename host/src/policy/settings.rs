//! What a policy says once for all calls, and the limits that it sets.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::audit::AuditSettings;

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
