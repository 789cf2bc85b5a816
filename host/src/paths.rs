//! Where weir keeps its state on a node.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The directories of a node's state, and of its policy.
#[derive(Debug, Clone)]
pub struct Paths {
    state: PathBuf,
    leases: PathBuf,
    policy: PathBuf,
    audit: Option<PathBuf>,
    /// Where a plan keeps what a call would keep in `state`.
    scratch: Option<PathBuf>,
}

impl Paths {
    /// The defaults, or what `WEIR_STATE_DIR`, `WEIR_CNI_STATE_DIR` and
    /// `WEIR_POLICY_DIR` say.
    pub(crate) fn new(state: Option<OsString>, leases: Option<OsString>, policy: Option<OsString>) -> Self {
        Self {
            state: state.map_or_else(|| PathBuf::from("/var/lib/weir"), PathBuf::from),
            leases: leases.map_or_else(|| PathBuf::from("/var/lib/cni/networks"), PathBuf::from),
            policy: policy.map_or_else(|| PathBuf::from("/etc/weir"), PathBuf::from),
            audit: None,
            scratch: None,
        }
    }

    /// The same with what `WEIR_AUDIT_FILE` says.
    pub(crate) fn with_audit(self, audit: Option<OsString>) -> Self {
        Self { audit: audit.map(PathBuf::from), ..self }
    }

    /// Directories of their own below `directory`, for a trial.
    pub(crate) fn below(directory: &Path) -> Self {
        Self {
            state: directory.join("state"),
            leases: directory.join("leases"),
            policy: directory.join("policy"),
            audit: Some(directory.join("audit.jsonl")),
            scratch: None,
        }
    }

    /// The same for a plan: what calls change is in `scratch`, and what they
    /// only read stays where it is.
    pub(crate) fn with_scratch(self, scratch: PathBuf) -> Self {
        Self { scratch: Some(scratch), ..self }
    }

    /// Where calls keep what they change.
    fn changing(&self) -> &Path {
        self.scratch.as_deref().unwrap_or(&self.state)
    }

    /// Everything that weir keeps.
    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// The journal: one file per attachment and plugin.
    pub(crate) fn attachments(&self) -> PathBuf {
        self.changing().join("attachments")
    }

    /// Indexes of the lease directories; may be deleted at any time.
    pub(crate) fn lease_indexes(&self) -> PathBuf {
        self.changing().join("leases")
    }

    /// What plugins keep between calls is below this.
    pub(crate) fn bucket_state(&self) -> &Path {
        self.changing()
    }

    /// Where the policy's files are.
    pub fn policy(&self) -> &Path {
        &self.policy
    }

    /// The compiled policy; may be deleted at any time.
    pub fn policy_cache(&self) -> PathBuf {
        self.changing().join("policy.cache")
    }

    /// The audit log, for which the policy may name a file.
    pub(crate) fn audit(&self, of_policy: Option<&Path>) -> PathBuf {
        let named = self.audit.as_deref().or(of_policy);
        named.unwrap_or(Path::new("/var/log/weir/audit.jsonl")).to_owned()
    }

    /// Leases in host-local's format, one directory per network.
    pub(crate) fn leases(&self) -> &Path {
        &self.leases
    }
}
