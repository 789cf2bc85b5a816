//! The directory of a bucket.
//!
//! It is reached from the directory of weir's state step by step, without
//! following a symbolic link, and each step has to belong to weir alone. All
//! access to files is relative to what was opened.

use std::fs::{DirBuilder, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::{FileStat, Mode, fstat, mkdirat};
use nix::unistd::geteuid;

use super::value::FILE_LIMIT;
use super::{BUCKETS, BucketError, Location};

/// A value that is being written. One name suffices under the lock, and a
/// left-over is replaced. It is none of a key.
const UNFINISHED: &str = ".unfinished";

/// The opened directory of a bucket.
#[derive(Debug)]
pub(super) struct BucketDirectory {
    dir: Dir,
    path: PathBuf,
}

impl BucketDirectory {
    /// Opens the directory; none if it does not exist.
    pub(super) fn open(location: &Location) -> Result<Option<Self>, BucketError> {
        let Some(mut above) = open_state(location)? else { return Ok(None) };
        let mut path = location.state.clone();
        for name in [BUCKETS, &location.network, &location.plugin] {
            path.push(name);
            let Some(directory) = open_below(&above, name, &path)? else { return Ok(None) };
            above = directory;
        }
        // Only now, as a confined process may read no other directory, nor one
        // that was not trusted.
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let dir = openat(&above, ".", flags, Mode::empty())
            .map_err(|errno| BucketError::io("open the bucket", &path, errno))?;
        Ok(Some(Self { dir: Dir::from_std_file(File::from(dir)), path }))
    }

    /// Makes the directory, and those above it, and opens it.
    pub(super) fn create(location: &Location) -> Result<Self, BucketError> {
        let failed = |source: io::Error| BucketError::io("create the bucket", &location.directory(), source);
        let vanished = || failed(Errno::ENOENT.into());
        DirBuilder::new().recursive(true).mode(0o700).create(&location.state).map_err(failed)?;
        let mut above = open_state(location)?.ok_or_else(vanished)?;
        let mut path = location.state.clone();
        for name in [BUCKETS, &location.network, &location.plugin] {
            match mkdirat(&above, name, Mode::S_IRWXU) {
                Ok(()) | Err(Errno::EEXIST) => {}
                Err(errno) => return Err(failed(errno.into())),
            }
            path.push(name);
            above = open_below(&above, name, &path)?.ok_or_else(vanished)?;
        }
        Self::open(location)?.ok_or_else(vanished)
    }

    /// The open directory as a file, which can be locked, and its path.
    pub(super) fn into_parts(self) -> (File, PathBuf) {
        (self.dir.into_std_file(), self.path)
    }

    /// What [`Self::into_parts`] gave.
    pub(super) fn of_parts(file: File, path: PathBuf) -> Self {
        Self { dir: Dir::from_std_file(file), path }
    }

    /// Its path, for messages.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// What stands in a file; none if there is none, and why not if it is none
    /// of weir's.
    pub(super) fn read(&self, name: &str) -> Result<Option<Result<Vec<u8>, String>>, BucketError> {
        let failed = |source: io::Error| self.failed("read the value", name, source);
        // Without O_NONBLOCK, opening a fifo would wait for its writer.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(&self.dir, name, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP) => return Ok(Some(Err("it is a symbolic link".to_owned()))),
            Err(Errno::ENXIO) => return Ok(Some(Err("it is no regular file".to_owned()))),
            Err(errno) => return Err(failed(errno.into())),
        };
        let file = File::from(file);
        let status = fstat(&file).map_err(|errno| failed(errno.into()))?;
        if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Ok(Some(Err("it is no regular file".to_owned())));
        }
        if let Err(reason) = check_owner(&status) {
            return Ok(Some(Err(reason)));
        }
        let mut content = Vec::with_capacity(256);
        // One byte more, so that a longer file is not taken for a whole one.
        file.take(FILE_LIMIT as u64 + 1).read_to_end(&mut content).map_err(failed)?;
        Ok(Some(Ok(content)))
    }

    /// Writes a file, whole or not at all.
    ///
    /// Nothing is flushed to the disk, as with leases and the journal: ADD
    /// would wait for it. A file that a power failure leaves blank is known by
    /// its checksum.
    pub(super) fn write(&self, name: &str, content: &[u8]) -> Result<(), BucketError> {
        let failed = |source: io::Error| self.failed("write the value", name, source);
        self.remove(UNFINISHED)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = openat(&self.dir, UNFINISHED, flags, mode).map_err(|errno| failed(errno.into()))?;
        let written = File::from(file)
            .write_all(content)
            .and_then(|()| self.dir.rename(UNFINISHED, &self.dir, name))
            .map_err(failed);
        if written.is_err() {
            // It would be replaced anyway.
            drop(self.remove(UNFINISHED));
        }
        written
    }

    /// Removes a file, if it exists.
    pub(super) fn remove(&self, name: &str) -> Result<(), BucketError> {
        match self.dir.remove_file(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.failed("remove", name, error)),
            _ => Ok(()),
        }
    }

    /// The names of all that is here. Ours are UTF-8.
    pub(super) fn names(&self) -> Result<Vec<String>, BucketError> {
        let failed = |error| self.failed("list the keys in", "", error);
        let mut names = Vec::new();
        for entry in self.dir.entries().map_err(failed)? {
            names.extend(entry.map_err(failed)?.file_name().into_string());
        }
        Ok(names)
    }

    fn failed(&self, action: &'static str, name: &str, source: impl Into<io::Error>) -> BucketError {
        let path = if name.is_empty() { self.path.clone() } else { self.path.join(name) };
        BucketError::io(action, &path, source)
    }
}

/// Opens weir's own directory, by whatever way leads to it.
fn open_state(location: &Location) -> Result<Option<OwnedFd>, BucketError> {
    let path = &location.state;
    checked(open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()), path)
}

/// Opens a directory in another one.
fn open_below(above: &OwnedFd, name: &str, path: &Path) -> Result<Option<OwnedFd>, BucketError> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    checked(openat(above, name, flags, Mode::empty()), path)
}

/// A directory that nobody but weir may change; none if it does not exist.
fn checked(opened: Result<OwnedFd, Errno>, path: &Path) -> Result<Option<OwnedFd>, BucketError> {
    let untrusted = |reason: String| BucketError::Untrusted { path: path.to_owned(), reason };
    let failed = |errno| BucketError::io("open the bucket", path, errno);
    let directory = match opened {
        Ok(directory) => directory,
        Err(Errno::ENOENT) => return Ok(None),
        Err(Errno::ELOOP | Errno::ENOTDIR) => {
            return Err(untrusted("it is a symbolic link, or no directory at all".to_owned()));
        }
        Err(errno) => return Err(failed(errno)),
    };
    let status = fstat(&directory).map_err(failed)?;
    check_owner(&status).map_err(untrusted)?;
    Ok(Some(directory))
}

/// Whether nobody but the user that weir runs as can have changed something.
fn check_owner(status: &FileStat) -> Result<(), String> {
    let own = geteuid();
    if status.st_uid != own.as_raw() {
        return Err(format!("it belongs to user {}, not to user {own}", status.st_uid));
    }
    if status.st_mode & 0o022 != 0 {
        return Err(format!("others may write to it (mode {:04o})", status.st_mode & 0o7777));
    }
    Ok(())
}
