//! The policy: what a plugin may do, as the operator of the node wrote it
//! down.
//!
//! Rules [match](Subject) a plugin in a call by network, type, digest and
//! tenant, and allow or deny values of keys. The outcome is a [`Permit`],
//! which the host asks at the moment of each [`Operation`]. What the policy
//! does not know how to read it does not allow: a policy with an error in it
//! is no policy, and nothing works until it is put right.

mod analysis;
mod cache;
mod compiled;
mod document;
mod error;
mod files;
mod interface;
mod number;
mod operation;
mod pattern;
mod permit;
mod port;
mod prefix;
mod refusal;
mod rule;
mod settings;
#[cfg(test)]
mod tests;
mod value;

use std::path::{Path, PathBuf};
use std::rc::Rc;

use compiled::Rules;
use settings::Settings;

pub(crate) use analysis::{strangers, warnings};
pub(crate) use document::Document;
pub use error::{PolicyError, Problem};
pub(crate) use interface::{is_free, unversioned};
pub use number::Numbers;
pub(crate) use number::{LAST_VLAN, LAST_VNI};
pub use operation::{Operation, Side};
pub(crate) use permit::Grant;
pub use permit::Permit;
pub use port::Port;
pub use refusal::Refusal;
pub(crate) use rule::{Effect, Key};
pub use settings::{Limits, Signing};
pub(crate) use value::{LINK_KINDS, check_digest, check_name};

use crate::audit::AuditSettings;
pub use crate::protocol::Protocol;

/// A policy.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    settings: Settings,
    files: Vec<Rc<Path>>,
    rules: Rules,
}

/// What rules match: a plugin in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject<'a> {
    /// The network's name.
    pub network: &'a str,
    /// The plugin's type.
    pub plugin: &'a str,
    /// The digest of its component, `sha256:` and 64 digits.
    pub digest: &'a str,
    /// Whom the container belongs to, if the runtime said so.
    pub tenant: Option<&'a str>,
    /// Whether the plugin came with weir.
    pub is_bundled: bool,
}

impl Policy {
    /// Reads the policy in a directory. The file `cache` saves most of the
    /// work the next time; it need not exist.
    ///
    /// # Errors
    ///
    /// The policy cannot be used. Nothing may be done then.
    pub fn load(directory: &Path, cache: &Path) -> Result<Self, PolicyError> {
        cache::load(directory, cache, cache::SETTLED)
    }

    /// Reads a policy from the texts of its files.
    ///
    /// # Errors
    ///
    /// Something is wrong with them.
    pub fn parse(files: &[(PathBuf, String)]) -> Result<Self, PolicyError> {
        Self::of(Document::parse(files))
    }

    /// The policy that a document describes.
    pub(crate) fn of(document: Document) -> Result<Self, PolicyError> {
        if !document.problems.is_empty() {
            return Err(PolicyError::new(document.problems));
        }
        let rules = Rules::compile(&document.rules).map_err(|compiled::Damaged| {
            let path = document.files.first().map(PathBuf::as_path).unwrap_or(Path::new(""));
            Problem::about(path, "the policy is too large")
        })?;
        let files = document.files.iter().map(|path| Rc::from(path.as_path())).collect();
        Ok(Self { settings: document.settings, files, rules })
    }

    /// What a plugin may do.
    pub fn permit(&self, subject: &Subject<'_>) -> Permit {
        Permit::new(subject, self.settings.bundled, &self.files, self.rules.of(subject).ok())
    }

    /// How operations are recorded.
    pub(crate) fn audit(&self) -> &AuditSettings {
        &self.settings.audit
    }

    /// Who may sign plugins.
    pub fn signing(&self) -> &Signing {
        &self.settings.signing
    }

    /// Whether there is no policy file.
    pub fn is_default(&self) -> bool {
        self.files.is_empty()
    }
}

/// Reads the files of a policy, without a cache and with all that can be found
/// wrong with them.
pub(crate) fn read(directory: &Path) -> (Document, files::Ignored) {
    files::read(directory)
}
