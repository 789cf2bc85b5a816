//! A directory that only its owner can have changed: no symbolic link, no
//! foreign owner, nobody else who may write, checked on what was opened.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, fsync, geteuid, unlinkat};

use super::store::StoreError;

/// An open directory.
#[derive(Debug)]
pub(crate) struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens a directory, by whatever way leads to it. The caller has to
    /// [`check`](Self::check) it before relying on what is in it.
    pub(crate) fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match nix::fcntl::open(path, flags, Mode::empty()) {
            Ok(fd) => Ok(Some(Self { fd, path: path.to_owned() })),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno) => Err(StoreError::io("open", path, errno)),
        }
    }

    /// The path by which it was opened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks who owns it and who may write to it.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let stat = fstat(&self.fd).map_err(|errno| StoreError::io("look at", &self.path, errno))?;
        check(&stat, SFlag::S_IFDIR, &self.path)
    }

    /// Opens a directory in it.
    pub(crate) fn directory(&self, name: &str) -> Result<Option<Self>, StoreError> {
        let path = self.path.join(name);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => {
                let directory = Self { fd, path };
                directory.check()?;
                Ok(Some(directory))
            }
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::ELOOP | Errno::ENOTDIR) => {
                Err(StoreError::untrusted(path, "it is a symbolic link, or no directory at all"))
            }
            Err(errno) => Err(StoreError::io("open", &path, errno)),
        }
    }

    /// Opens a directory in it, and makes it if there is none.
    pub(crate) fn ensure(&self, name: &str) -> Result<Self, StoreError> {
        let path = self.path.join(name);
        match mkdirat(&self.fd, name, Mode::from_bits_truncate(0o755)) {
            Ok(()) => self.sync()?,
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(StoreError::io("create", &path, errno)),
        }
        self.directory(name)?.ok_or_else(|| StoreError::io("open", &path, Errno::ENOENT))
    }

    /// Opens a file in it for reading.
    pub(super) fn file(&self, name: &str) -> Result<Option<File>, StoreError> {
        let path = self.path.join(name);
        // Without O_NONBLOCK, opening a fifo would wait for its writer.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP) => return Err(StoreError::untrusted(path, "it is a symbolic link")),
            Err(errno) => return Err(StoreError::io("open", &path, errno)),
        };
        let stat = fstat(&fd).map_err(|errno| StoreError::io("look at", &path, errno))?;
        check(&stat, SFlag::S_IFREG, &path)?;
        Ok(Some(File::from(fd)))
    }

    /// Reads a file in it that is no larger than `limit`.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let Some(file) = self.file(name)? else { return Ok(None) };
        let path = self.path.join(name);
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| StoreError::Io {
            attempt: "read",
            path: path.clone(),
            error,
        })?;
        if bytes.len() as u64 > limit {
            return Err(StoreError::damaged(path, format!("it is larger than {limit} bytes")));
        }
        Ok(Some(bytes))
    }

    /// Writes a file in it, whole or not at all, and durably.
    ///
    /// Two writers must not write the same file at the same time.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path.join(name);
        let fresh = format!(".{name}");
        let _ = unlinkat(&self.fd, fresh.as_str(), UnlinkatFlags::NoRemoveDir);
        let written = self
            .write_fresh(&fresh, bytes)
            .and_then(|()| Ok(renameat(&self.fd, fresh.as_str(), &self.fd, name)?))
            .map_err(|error| StoreError::Io { attempt: "write", path, error });
        if written.is_err() {
            let _ = unlinkat(&self.fd, fresh.as_str(), UnlinkatFlags::NoRemoveDir);
        }
        written?;
        self.sync()
    }

    fn write_fresh(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mode = Mode::from_bits_truncate(0o644);
        let mut file = File::from(openat(&self.fd, name, flags, mode)?);
        // Whatever the umask is: unprivileged tools may look at it.
        fchmod(&file, mode)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Removes a file in it; false if there was none.
    pub(super) fn remove(&self, name: &str) -> Result<bool, StoreError> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => self.sync().map(|()| true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(StoreError::io("remove", &self.path.join(name), errno)),
        }
    }

    /// The names in it, sorted, also of unfinished files.
    pub(super) fn names(&self) -> Result<Vec<String>, StoreError> {
        let io = |errno| StoreError::io("list", &self.path, errno);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let mut directory = Dir::openat(self.fd.as_fd(), ".", flags, Mode::empty()).map_err(io)?;
        let mut names = Vec::new();
        for entry in directory.iter() {
            // Ours are all UTF-8.
            if let Ok(name) = entry.map_err(io)?.file_name().to_str()
                && !matches!(name, "." | "..")
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// Opens a file in it to lock it.
    pub(super) fn lock_file(&self, name: &str) -> Result<File, StoreError> {
        let path = self.path.join(name);
        let flags = OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let fd = openat(&self.fd, name, flags, Mode::from_bits_truncate(0o600))
            .map_err(|errno| StoreError::io("open", &path, errno))?;
        let stat = fstat(&fd).map_err(|errno| StoreError::io("look at", &path, errno))?;
        check(&stat, SFlag::S_IFREG, &path)?;
        Ok(File::from(fd))
    }

    fn sync(&self) -> Result<(), StoreError> {
        fsync(&self.fd).map_err(|errno| StoreError::io("write", &self.path, errno))
    }
}

/// Whether nobody but the user that weir runs as can have changed something.
fn check(stat: &FileStat, kind: SFlag, path: &Path) -> Result<(), StoreError> {
    let untrusted = |reason: String| Err(StoreError::untrusted(path.to_owned(), reason));
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != kind {
        return untrusted("it is no regular file".to_owned());
    }
    let own = geteuid();
    if stat.st_uid == 0 && !own.is_root() {
        return Err(StoreError::NotRoot { path: path.to_owned() });
    }
    if stat.st_uid != own.as_raw() {
        return untrusted(format!("it belongs to user {}, not to user {own}", stat.st_uid));
    }
    if stat.st_mode & 0o022 != 0 {
        return untrusted(format!("others may write to it (mode {:04o})", stat.st_mode & 0o7777));
    }
    Ok(())
}
