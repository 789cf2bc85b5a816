//! Directories of leases that a configuration names.

use std::fs;
use std::path::{Component, Path, PathBuf};

use super::Call;

impl Call {
    /// Where a named directory of leases really is. Other names of it must not
    /// get round the policy.
    ///
    /// # Errors
    ///
    /// Leases have no place there, whatever the policy says: the pool of the
    /// network would be in the way of what weir itself keeps.
    pub(crate) fn real_data_dir(&self, path: &str) -> Result<PathBuf, String> {
        let data_dir =
            real(Path::new(path)).ok_or("leave out the \"..\" behind a directory that does not exist")?;
        if self.is_default_data_dir(&data_dir) {
            return Ok(data_dir);
        }
        let pool = data_dir.join(&self.key.network);
        let paths = self.node.paths();
        for own in [paths.policy(), paths.state()] {
            if real(own).is_some_and(|own| pool.starts_with(&own) || own.starts_with(&pool)) {
                return Err(format!("weir keeps its own files in {}", own.display()));
            }
        }
        let audit = paths.audit(self.policy.audit().file.as_deref());
        if is_beside(&pool, &audit) {
            return Err(format!("the audit log {} is rotated there", audit.display()));
        }
        Ok(data_dir)
    }

    /// The network's own directory in one of leases.
    pub(crate) fn pool_in(&self, data_dir: &Path) -> String {
        data_dir.join(&self.key.network).display().to_string()
    }

    /// Whether a [real](Self::real_data_dir) directory is the one for networks
    /// that name none.
    pub(crate) fn is_default_data_dir(&self, data_dir: &Path) -> bool {
        real(self.node.paths().leases()).is_some_and(|default| default == *data_dir)
    }
}

/// A path without links and dots, as far as it exists.
fn real(path: &Path) -> Option<PathBuf> {
    let (there, real) = path.ancestors().find_map(|above| Some((above, fs::canonicalize(above).ok()?)))?;
    let missing = path.strip_prefix(there).ok()?;
    // Part by part: a path joined as a whole may end in a slash, with which no
    // pattern counts.
    missing.components().try_fold(real, |real, part| match part {
        Component::Normal(name) => Some(real.join(name)),
        _ => None,
    })
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
    fn paths_lose_links_and_dots_as_far_as_they_exist() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        fs::create_dir(root.join("a")).unwrap();
        std::os::unix::fs::symlink("a", root.join("link")).unwrap();
        for (path, expected) in [
            ("a", Some("a")),
            ("a/", Some("a")),
            ("b/", Some("b")),
            ("link/./b//c/", Some("a/b/c")),
            ("a/../link", Some("a")),
            ("b/c", Some("b/c")),
            ("b/../c", None),
        ] {
            let text = |path: PathBuf| path.into_os_string();
            let expected = expected.map(|path| text(root.join(path)));
            assert_eq!(real(&root.join(path)).map(text), expected, "{path}");
        }
    }

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
