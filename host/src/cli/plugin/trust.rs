//! Whose signatures count.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::file;
use crate::catalog::verify;

/// What the policy says of signatures.
pub(super) struct Trust {
    /// Public keys, in minisign's format.
    pub(super) keys: Vec<String>,
    /// Whether a component needs a signature.
    pub(super) is_required: bool,
}

impl Trust {
    /// No policy names any keys.
    pub(super) fn on_this_node() -> Self {
        Self { keys: Vec::new(), is_required: false }
    }

    /// Checks the signature of what was read from `path`; returns the key that
    /// made it, if there is a signature.
    pub(super) fn check(
        &self,
        path: &Path,
        bytes: &[u8],
        signature: Option<&Path>,
    ) -> Result<Option<String>> {
        let Some(signature) = signature else {
            if self.is_required {
                bail!("add {}: the policy requires a signature: pass it with --signature", path.display());
            }
            return Ok(None);
        };
        let text = file::signature(signature)?;
        let key = verify(bytes, &text, &self.keys)
            .with_context(|| format!("check {} with {}", path.display(), signature.display()))?;
        Ok(Some(key.to_owned()))
    }
}
