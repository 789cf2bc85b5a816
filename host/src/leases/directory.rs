//! The directory of a pool: lease files, the lock file and the notes about
//! the address that was reserved last.
//!
//! Access is relative to the opened directory and never follows a symbolic
//! link in it: the path above belongs to the operator, the names in it to
//! whoever may write there.

use std::fs::{DirBuilder, File};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat};
use nix::sys::stat::{Mode, fstat, fstatat, futimens, mkdirat};
use nix::sys::time::TimeSpec;
use rustix::fs::{RenameFlags, renameat_with};

use super::record::Record;
use super::{LeaseError, Location, Owner};
use crate::real_path::open_real;

const LOCK: &str = "lock";
/// A lease that is being written. One name suffices under the lock.
const UNFINISHED: &str = ".weir-unfinished";
/// More than any content of a lease: ids and interface names are short.
const MAX_CONTENT: u64 = 4096;

/// The opened directory of a pool.
pub(super) struct LeaseDirectory {
    dir: Dir,
    path: PathBuf,
}

/// What tells one state of a directory from any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// Seconds and nanoseconds.
    pub(super) modified: (i64, i64),
    /// Seconds and nanoseconds. A restored backup brings the time of
    /// modification with it, but cannot set this one.
    pub(super) changed: (i64, i64),
}

impl LeaseDirectory {
    /// Opens the directory, and makes it if it does not exist.
    pub(super) fn create(location: &Location) -> Result<Self, LeaseError> {
        if let Some(directory) = Self::open(location)? {
            return Ok(directory);
        }
        let path = location.directory();
        let mode = Mode::from_bits_truncate(0o755);
        let made = if location.is_real {
            open_real(&location.data_dir, Some(mode)).map_err(io::Error::from)
        } else {
            let made = DirBuilder::new().recursive(true).mode(mode.bits()).create(&location.data_dir);
            made.and_then(|()| open_directory(&location.data_dir)).map(|dir| dir.into_std_file().into())
        };
        let made = made.and_then(|data_dir| match mkdirat(&data_dir, location.network.as_str(), mode) {
            Err(Errno::EEXIST) => Ok(()),
            outcome => Ok(outcome?),
        });
        made.map_err(|source| LeaseError::io("create the lease directory", &path, source))?;
        let vanished = || LeaseError::io("open the lease directory", &path, Errno::ENOENT);
        Self::open(location)?.ok_or_else(vanished)
    }

    /// Opens the directory; none if it does not exist.
    pub(super) fn open(location: &Location) -> Result<Option<Self>, LeaseError> {
        let network = location.network.as_str();
        if network.is_empty() || network == "." || network == ".." || network.contains(['/', '\\', '\0']) {
            return Err(LeaseError::Invalid(format!(
                "leases of network {network:?}: the name must be usable as the name of one directory"
            )));
        }
        let path = location.directory();
        let failed = |source: io::Error| LeaseError::io("open the lease directory", &path, source);
        let opened = if location.is_real {
            let opened = open_real(&location.data_dir, None).map_err(io::Error::from);
            opened.map(|dir| Dir::from_std_file(File::from(dir)))
        } else {
            open_directory(&location.data_dir)
        };
        let data_dir = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            outcome => outcome.map_err(failed)?,
        };
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&data_dir, network, flags, Mode::empty()) {
            Ok(dir) => Ok(Some(Self { dir: Dir::from_std_file(File::from(dir)), path })),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(failed(errno.into())),
        }
    }

    /// Opens the lock file; none if it does not exist and is not to be made.
    pub(super) fn lock_file(&self, create: bool) -> Result<Option<File>, LeaseError> {
        let mut options = plain();
        // flock needs no write access, and STATUS may run on what is
        // mounted read-only.
        let opened = match self.dir.open_with(LOCK, options.read(true)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !create {
                    return Ok(None);
                }
                self.dir.open_with(LOCK, plain().write(true).create(true).mode(0o644))
            }
            outcome => outcome,
        };
        match opened {
            Ok(file) => Ok(Some(file.into_std())),
            // The directory was removed after we opened it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.failed("open the lock", LOCK, error)),
        }
    }

    /// The path of the lock file, for messages.
    pub(super) fn lock_path(&self) -> PathBuf {
        self.path.join(LOCK)
    }

    /// The path of a lease, for messages.
    pub(super) fn lease_path(&self, address: IpAddr) -> PathBuf {
        self.path.join(address.to_string())
    }

    /// What stands in the lease of `address`; none if there is none. Whatever
    /// is no regular file is foreign.
    pub(super) fn read(&self, address: IpAddr) -> Result<Option<Record>, LeaseError> {
        let name = address.to_string();
        // Without O_NONBLOCK, opening a fifo would hang.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(&self.dir, name.as_str(), flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(None),
            Err(Errno::ELOOP | Errno::ENXIO) => return Ok(Some(Record::Foreign)),
            Err(errno) => return Err(self.failed("open the lease", &name, errno)),
        };
        // A fifo that nobody writes to reads as if it were empty.
        if !file.metadata().is_ok_and(|status| status.is_file()) {
            return Ok(Some(Record::Foreign));
        }
        let mut content = Vec::with_capacity(128);
        match file.take(MAX_CONTENT + 1).read_to_end(&mut content) {
            Ok(length) if length as u64 > MAX_CONTENT => Ok(Some(Record::Foreign)),
            Ok(_) => Ok(Some(Record::parse(&content))),
            Err(error) => Err(self.failed("read the lease", &name, error)),
        }
    }

    /// Whether anything has the name of `address`.
    pub(super) fn exists(&self, address: IpAddr) -> Result<bool, LeaseError> {
        let name = address.to_string();
        match fstatat(&self.dir, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(errno) => Err(self.failed("look for the lease", &name, errno)),
        }
    }

    /// Makes a lease. False, and nothing is changed, if its name is in use.
    ///
    /// Nobody ever sees half a lease: it is written under a name that no
    /// address has, and renamed. (A file without a name needs nothing cleared
    /// away, but takes a file system with a journal twice as long.) Whoever is
    /// killed in between leaves that name behind, and with it a change that
    /// makes the next one read the whole directory, which removes it.
    ///
    /// Nothing is synced to disk. Leases that a power failure loses belong to
    /// containers that are gone too, and a file that comes back blank is
    /// recognised as torn.
    pub(super) fn make(&self, owner: &Owner, address: IpAddr) -> Result<bool, LeaseError> {
        let name = address.to_string();
        let failed = |error| {
            let _ = self.remove_unfinished();
            self.failed("create the lease", &name, error)
        };
        self.write_unfinished(owner).map_err(failed)?;
        match self.name_unfinished(&name) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let _ = self.remove_unfinished();
                Ok(false)
            }
            Err(error) => Err(failed(error)),
        }
    }

    fn name_unfinished(&self, name: &str) -> io::Result<()> {
        match renameat_with(&self.dir, UNFINISHED, &self.dir, name, RenameFlags::NOREPLACE) {
            // Not every file system can keep what has the name. The lease is
            // made then, so that a left-over name of it does not count.
            Err(rustix::io::Errno::INVAL) => {
                self.dir.hard_link(UNFINISHED, &self.dir, name).inspect(|()| drop(self.remove_unfinished()))
            }
            renamed => Ok(renamed?),
        }
    }

    fn write_unfinished(&self, owner: &Owner) -> io::Result<()> {
        let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let open = || openat(&self.dir, UNFINISHED, flags, Mode::S_IRUSR | Mode::S_IWUSR);
        let file = match open() {
            Err(Errno::EEXIST) => {
                self.remove_unfinished()?;
                open()
            }
            opened => opened,
        };
        File::from(file?).write_all(owner.content().as_bytes())
    }

    /// Removes what somebody left who was killed while he made a lease.
    fn remove_unfinished(&self) -> io::Result<()> {
        match self.dir.remove_file(UNFINISHED) {
            // Where nothing can be written, it is not there or in nobody's way.
            Err(error)
                if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ReadOnlyFilesystem) =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Removes a lease. False if there was none.
    pub(super) fn remove(&self, address: IpAddr) -> Result<bool, LeaseError> {
        let name = address.to_string();
        match self.dir.remove_file(&name) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(self.failed("remove the lease", &name, error)),
        }
    }

    /// Every address that is the name of something here: one pass over the
    /// directory, no file is opened.
    pub(super) fn addresses(&self) -> Result<Vec<IpAddr>, LeaseError> {
        Ok(self.list()?.into_iter().map(|(address, _)| address).collect())
    }

    /// Reads every lease. Torn and unfinished ones are removed on the way.
    pub(super) fn scan(&self) -> Result<Vec<(IpAddr, Record)>, LeaseError> {
        self.remove_unfinished().map_err(|error| self.failed("remove", UNFINISHED, error))?;
        let mut leases = Vec::new();
        for (address, is_file) in self.list()? {
            if !is_file {
                continue;
            }
            match self.read(address)? {
                Some(Record::Torn) => {
                    self.remove(address)?;
                }
                Some(record) => leases.push((address, record)),
                None => {}
            }
        }
        Ok(leases)
    }

    /// The names that are addresses in canonical form, and whether each is a
    /// regular file. Any other name is no lease, in whatever form.
    fn list(&self) -> Result<Vec<(IpAddr, bool)>, LeaseError> {
        let failed = |error| self.failed("list the leases in", "", error);
        let mut found = Vec::new();
        for entry in self.dir.entries().map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let Some(name) = name.to_str() else { continue };
            let Ok(address) = name.parse::<IpAddr>() else { continue };
            if address.to_canonical().to_string() == name {
                found.push((address, entry.file_type().map_err(failed)?.is_file()));
            }
        }
        Ok(found)
    }

    /// The address that was reserved last for a set. It only says where to go
    /// on, so that what cannot be read counts as none.
    pub(super) fn last_reserved(&self, set: u32) -> Result<Option<IpAddr>, LeaseError> {
        let name = format!("last_reserved_ip.{set}");
        let mut text = String::new();
        let read = self
            .dir
            .open_with(&name, plain().read(true))
            .and_then(|file| file.take(64).read_to_string(&mut text));
        match read {
            Ok(_) => Ok(text.trim().parse().ok()),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                Ok(None)
            }
            Err(error) => Err(self.failed("read the last reserved address", &name, error)),
        }
    }

    /// Notes the address that was reserved last for a set.
    pub(super) fn note_reserved(&self, set: u32, address: IpAddr) -> Result<(), LeaseError> {
        let name = format!("last_reserved_ip.{set}");
        let mut options = plain();
        options.write(true).create(true).mode(0o600);
        let text = address.to_string();
        // Not truncated first: ext4 hurries a file that was emptied and
        // written again to the disk.
        let write = |file: File| -> io::Result<()> {
            file.write_all_at(text.as_bytes(), 0)?;
            if file.metadata()?.size() > text.len() as u64 { file.set_len(text.len() as u64) } else { Ok(()) }
        };
        self.dir
            .open_with(&name, &options)
            .and_then(|file| write(file.into_std()))
            .map_err(|error| self.failed("note the last reserved address", &name, error))
    }

    /// The present state of the directory.
    pub(super) fn stamp(&self) -> io::Result<Stamp> {
        let status = fstat(&self.dir)?;
        Ok(Stamp {
            device: status.st_dev,
            inode: status.st_ino,
            modified: (status.st_mtime, status.st_mtime_nsec),
            changed: (status.st_ctime, status.st_ctime_nsec),
        })
    }

    /// Gives the directory a time of modification that no other change can
    /// cause: the kernel's clock is coarse, so that two changes in a row may
    /// leave the same time behind, but it does not hit random nanoseconds.
    pub(super) fn restamp(&self) -> io::Result<Stamp> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_err(io::Error::other)?.as_secs();
        let random = RandomState::new().hash_one(now) % 1_000_000_000;
        let time = TimeSpec::new(now.cast_signed(), random.cast_signed());
        futimens(&self.dir, &TimeSpec::UTIME_OMIT, &time)?;
        let stamp = self.stamp()?;
        if stamp.modified != (time.tv_sec(), time.tv_nsec()) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "the file system rounds times"));
        }
        Ok(stamp)
    }

    fn failed(&self, action: &'static str, name: &str, source: impl Into<io::Error>) -> LeaseError {
        let path: &Path = &self.path;
        LeaseError::io(
            action,
            if name.is_empty() { path.to_owned() } else { path.join(name) }.as_path(),
            source,
        )
    }
}

/// Options that open no symbolic link, and do not wait for a fifo.
fn plain() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits());
    options
}

/// Opens a directory only for what is in it: it need not be readable. (What
/// `cap_std` does for a path depends on the C library.)
pub(super) fn open_directory(path: &Path) -> io::Result<Dir> {
    let opened = open(path, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    Ok(Dir::from_std_file(File::from(opened)))
}
