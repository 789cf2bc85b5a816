//! Where weir keeps its state on a node.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The directories of a node's state.
#[derive(Debug, Clone)]
pub struct Paths {
    state: PathBuf,
    leases: PathBuf,
    policy: PathBuf,
}

impl Paths {
    /// The defaults, or what `WEIR_STATE_DIR`, `WEIR_CNI_STATE_DIR` and
    /// `WEIR_POLICY_DIR` say.
    pub(crate) fn new(state: Option<OsString>, leases: Option<OsString>, policy: Option<OsString>) -> Self {
        Self {
            state: state.map_or_else(|| PathBuf::from("/var/lib/weir"), PathBuf::from),
            leases: leases.map_or_else(|| PathBuf::from("/var/lib/cni/networks"), PathBuf::from),
            policy: policy.map_or_else(|| PathBuf::from("/etc/weir"), PathBuf::from),
        }
    }

    /// Directories of their own below `directory`, for a trial.
    pub(crate) fn below(directory: &Path) -> Self {
        Self {
            state: directory.join("state"),
            leases: directory.join("leases"),
            policy: directory.join("policy"),
        }
    }

    /// Everything that weir keeps.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// The journal: one file per attachment and plugin.
    pub(crate) fn attachments(&self) -> PathBuf {
        self.state.join("attachments")
    }

    /// Indexes of the lease directories; may be deleted at any time.
    pub(crate) fn lease_indexes(&self) -> PathBuf {
        self.state.join("leases")
    }

    /// What the operator allows.
    pub(crate) fn policy(&self) -> &Path {
        &self.policy
    }

    /// Leases in host-local's format, one directory per network.
    pub(crate) fn leases(&self) -> &Path {
        &self.leases
    }
}
