//! Directories of leases that a configuration names.

use std::path::{Component, Path, PathBuf};

use super::Call;
use crate::guest::Guest;
use crate::paths::Paths;
use crate::policy::{Operation, Policy};
use crate::real_path::real;

/// A directory of leases, as it really is: other names of it must not get round
/// the policy.
pub(crate) struct DataDir {
    /// Without links.
    pub(crate) path: PathBuf,
    /// The same as text, and that of the network's own directory in it.
    text: String,
    pool: String,
    /// Whether it is the one for networks that name none.
    pub(crate) is_default: bool,
}

impl DataDir {
    /// Finds the directory that a network names.
    ///
    /// # Errors
    ///
    /// Leases have no place there, whatever the policy says: the pool of the
    /// network would be in the way of what weir itself keeps.
    pub(crate) fn find(paths: &Paths, policy: &Policy, network: &str, named: &str) -> Result<Self, String> {
        let path =
            real(Path::new(named)).ok_or("leave out the \"..\" behind a directory that does not exist")?;
        let is_default = real(paths.leases()).is_some_and(|default| default == path);
        let pool = path.join(network);
        if !is_default {
            for own in [paths.policy(), paths.state()] {
                if real(own).is_some_and(|own| pool.starts_with(&own) || own.starts_with(&pool)) {
                    return Err(format!("weir keeps its own files in {}", own.display()));
                }
            }
            let audit = paths.audit(policy.audit().file.as_deref());
            if is_beside(&pool, &audit) {
                return Err(format!("the audit log {} is rotated there", audit.display()));
            }
        }
        Ok(Self { text: path.display().to_string(), pool: pool.display().to_string(), path, is_default })
    }

    /// What the policy is asked about it.
    pub(crate) fn operation(&self) -> Operation<'_> {
        Operation::DataDir { path: &self.text, pool: &self.pool }
    }
}

impl Call {
    /// Finds the directory that the call's network names.
    ///
    /// # Errors
    ///
    /// Those of [`DataDir::find`].
    pub(crate) fn data_dir(&self, named: &str) -> Result<DataDir, String> {
        DataDir::find(self.node.paths(), &self.policy, &self.key.network, named)
    }

    /// Whether a rule has to let a plugin keep leases in a directory. What is
    /// there goes with the container, also what a native plugin leased where no
    /// rule would have let a bundled one.
    pub(crate) fn is_ruled(&self, guest: &Guest, data_dir: &DataDir) -> bool {
        let only_releases = self.is_del() && guest.grants.is_some();
        !(guest.is_unrestricted() || data_dir.is_default || only_releases)
    }
}

/// Whether a directory has the name of a file that a log is rotated to, is in
/// such a one, or has the log in it.
fn is_beside(directory: &Path, log: &Path) -> bool {
    let (Some(place), Some(name)) = (log.parent().and_then(real), log.file_name()) else { return false };
    let Ok(below) = directory.strip_prefix(&place) else { return place.starts_with(directory) };
    let first = below.components().next().map(Component::as_os_str);
    first.is_none_or(|first| first.as_encoded_bytes().starts_with(name.as_encoded_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logs_are_rotated_beside_themselves() {
        let root = tempfile::tempdir().unwrap();
        let log = root.path().join("audit.jsonl");
        let place = root.path().canonicalize().unwrap();
        for (directory, expected) in [
            ("audit.jsonl", true),
            ("audit.jsonl.1", true),
            ("audit.jsonl.1/leases/n", true),
            ("leases/audit.jsonl.1", false),
            ("audit", false),
            ("", true),
            ("..", true),
        ] {
            let directory = real(&place.join(directory)).unwrap();
            assert_eq!(is_beside(&directory, &log), expected, "{}", directory.display());
        }
    }
}
