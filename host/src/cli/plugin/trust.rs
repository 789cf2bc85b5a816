//! Whose signatures count.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::file;
use crate::catalog::verify;
use crate::policy::{self, Policy};

/// What the policy says of signatures.
pub(super) struct Trust {
    /// Public keys, in minisign's format.
    pub(super) keys: Vec<String>,
    /// Whether a component needs a signature.
    pub(super) is_required: bool,
}

impl Trust {
    /// What the node's policy says. One that cannot be used trusts nobody.
    pub(super) fn on_this_node(directory: &Path) -> Result<Self> {
        let (document, _) = policy::read(directory);
        let policy = Policy::of(document).context("find out whose signatures count")?;
        let signing = policy.signing();
        Ok(Self { keys: signing.keys.clone(), is_required: signing.require_signature })
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
