//! Paths without links: finding them, and using one so that it is still the
//! path that was looked at.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{Mode, mkdirat};

/// A path without links and dots, as far as it exists.
pub(crate) fn real(path: &Path) -> Option<PathBuf> {
    let (there, real) = path.ancestors().find_map(|above| Some((above, fs::canonicalize(above).ok()?)))?;
    let missing = path.strip_prefix(there).ok()?;
    // Part by part: a path joined as a whole may end in a slash, with which no
    // pattern counts.
    missing.components().try_fold(real, |real, part| match part {
        Component::Normal(name) => Some(real.join(name)),
        _ => None,
    })
}

/// Opens a directory without following a link, only for what is in it;
/// `missing` is the mode with which those that do not exist are made.
pub(crate) fn open_real(path: &Path, missing: Option<Mode>) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut directory = open("/", flags, Mode::empty())?;
    for part in path.components() {
        let name = match part {
            Component::RootDir => continue,
            Component::Normal(name) => name,
            _ => return Err(Errno::EINVAL),
        };
        directory = match (openat(&directory, name, flags, Mode::empty()), missing) {
            (Err(Errno::ENOENT), Some(mode)) => {
                match mkdirat(&directory, name, mode) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(errno),
                }
                openat(&directory, name, flags, Mode::empty())?
            }
            (opened, _) => opened?,
        };
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_lose_links_and_dots_as_far_as_they_exist() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        fs::create_dir(root.join("a")).unwrap();
        symlink("a", root.join("link")).unwrap();
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
    fn links_are_not_followed_wherever_they_are() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("a/b")).unwrap();
        symlink("a", root.join("link")).unwrap();
        symlink("b", root.join("a/link")).unwrap();
        let opens = |path: &str, missing| open_real(&root.join(path), missing).map(drop);
        assert_eq!(opens("a/b", None), Ok(()));
        for path in ["link", "link/b", "a/link"] {
            assert_eq!(opens(path, Some(Mode::S_IRWXU)), Err(Errno::ENOTDIR), "{path}");
        }
        assert_eq!(opens("a/c/d", None), Err(Errno::ENOENT));
        assert_eq!(opens("a/c/d", Some(Mode::S_IRWXU)), Ok(()));
        assert!(root.join("a/c/d").is_dir());
        assert_eq!(opens("a/../a", None), Err(Errno::EINVAL));
    }
}
