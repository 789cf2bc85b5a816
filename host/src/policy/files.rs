//! The files of a policy, and whether they can be trusted: whoever may write
//! to one of them decides what plugins may do to the node.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, lstat, stat};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

use super::document::{Document, MAIN_FILE, PARTS};
use super::error::Problem;

/// More is no policy but an accident.
const SIZE_LIMIT: u64 = 1 << 20;

/// Files that look as if they belonged to the policy, but are not read.
pub(crate) type Ignored = Vec<PathBuf>;

/// What was found in a policy's directory.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// Paths and texts, in the order in which they count.
    pub(super) files: Vec<(PathBuf, String)>,
    /// What the files were like before they were read.
    pub(super) state: State,
    pub(super) problems: Vec<Problem>,
    pub(super) ignored: Ignored,
}

/// The state of a policy's directory and files. As long as it is the same, so
/// is the policy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    directory: Option<Stamp>,
    main: Option<Stamp>,
    parts: Option<Stamp>,
    /// The files in the directory of parts.
    files: Vec<(String, Stamp)>,
}

/// The state of one file or directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    device: u64,
    inode: u64,
    owner: u32,
    mode: u32,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn new(status: &FileStat) -> Self {
        Self {
            device: status.st_dev,
            inode: status.st_ino,
            owner: status.st_uid,
            mode: status.st_mode,
            size: status.st_size,
            modified: (status.st_mtime, status.st_mtime_nsec),
            changed: (status.st_ctime, status.st_ctime_nsec),
        }
    }

    /// Of a directory in which other things may change.
    fn of_place(status: &FileStat) -> Self {
        Self { size: 0, modified: (0, 0), changed: (0, 0), ..Self::new(status) }
    }
}

impl State {
    /// Whether the files in `directory` are still in this state.
    pub(super) fn is_current(&self, directory: &Path) -> bool {
        let look = |path: &Path| match lstat(path) {
            Ok(status) => Ok(Some(Stamp::new(&status))),
            Err(Errno::ENOENT) => Ok(None),
            Err(errno) => Err(errno),
        };
        let parts = directory.join(PARTS);
        stat(directory).is_ok_and(|status| self.directory == Some(Stamp::of_place(&status)))
            && look(&directory.join(MAIN_FILE)).is_ok_and(|stamp| stamp == self.main)
            && look(&parts).is_ok_and(|stamp| stamp == self.parts)
            && self
                .files
                .iter()
                .all(|(name, stamp)| look(&parts.join(name)).is_ok_and(|found| found.as_ref() == Some(stamp)))
    }

    /// The latest time, in seconds, at which one of the files was changed.
    pub(super) fn changed(&self) -> i64 {
        let files = self.files.iter().map(|(_, stamp)| stamp);
        let all = self.main.iter().chain(&self.parts).chain(files);
        all.map(|stamp| stamp.changed.0).max().unwrap_or(i64::MAX)
    }
}

/// Whether there are files of a policy in a directory. This is all that is
/// done on a node without any.
pub(super) fn exist(directory: &Path) -> Result<bool, Problem> {
    for path in [directory.join(MAIN_FILE), directory.join(PARTS)] {
        match lstat(&path) {
            Ok(_) => return Ok(true),
            Err(Errno::ENOENT) => {}
            Err(errno) => {
                return Err(Problem::about(&path, format!("it cannot be told whether it exists: {errno}")));
            }
        }
    }
    Ok(false)
}

/// Reads all files in a directory, with all that can be found wrong with them.
pub(super) fn read(directory: &Path) -> (Document, Ignored) {
    let sources = Sources::read(directory);
    let mut document = Document::parse(&sources.files);
    // What cannot be trusted comes first.
    document.problems.splice(0..0, sources.problems);
    (document, sources.ignored)
}

impl Sources {
    /// Reads all files in a directory.
    pub(super) fn read(directory: &Path) -> Self {
        let mut sources = Self::default();
        if let Err(problem) = exist(directory).and_then(|exist| match exist {
            true => sources.read_existing(directory),
            false => Ok(()),
        }) {
            sources.problems.push(problem);
        }
        sources
    }

    fn read_existing(&mut self, directory: &Path) -> Result<(), Problem> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let place = nix::fcntl::open(directory, flags, Mode::empty())
            .map_err(|errno| cannot_open(directory, errno))?;
        let status = fstat(&place).map_err(|errno| cannot_open(directory, errno))?;
        self.check_owner(directory, &status);
        self.state.directory = Some(Stamp::of_place(&status));
        self.state.main = self.read_file(&place, MAIN_FILE, &directory.join(MAIN_FILE))?;
        let path = directory.join(PARTS);
        let parts = match openat(&place, PARTS, flags | OFlag::O_NOFOLLOW, Mode::empty()) {
            Ok(parts) => parts,
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(cannot_open(&path, errno)),
        };
        let status = fstat(&parts).map_err(|errno| cannot_open(&path, errno))?;
        self.check_owner(&path, &status);
        self.state.parts = Some(Stamp::new(&status));
        let names = self.list(&path, &parts).map_err(|errno| cannot_open(&path, errno))?;
        for name in names {
            let path = path.join(&name);
            match self.read_file(&parts, &name, &path) {
                Ok(Some(stamp)) => self.state.files.push((name, stamp)),
                Ok(None) => self.problems.push(Problem::about(&path, "it was deleted meanwhile: try again")),
                Err(problem) => self.problems.push(problem),
            }
        }
        Ok(())
    }

    /// The names of the files in the directory of parts, in their order.
    fn list(&mut self, path: &Path, parts: &impl AsFd) -> nix::Result<Vec<String>> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let mut names = Vec::new();
        for entry in Dir::openat(parts, ".", flags, Mode::empty())?.iter() {
            let entry = entry?;
            let name = String::from_utf8_lossy(entry.file_name().to_bytes()).into_owned();
            match name.as_str() {
                "." | ".." => {}
                // A name that is not UTF-8 is not found under its lossy form,
                // which is an error as it should be.
                name if name.ends_with(".toml") && !name.starts_with('.') => names.push(name.to_owned()),
                name => self.ignored.push(path.join(name)),
            }
        }
        names.sort();
        self.ignored.sort();
        Ok(names)
    }

    /// Reads one file, unless there is none.
    fn read_file(&mut self, place: &impl AsFd, name: &str, path: &Path) -> Result<Option<Stamp>, Problem> {
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = match openat(place, name, flags, Mode::empty()) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(None),
            Err(errno) => return Err(cannot_open(path, errno)),
        };
        let status = fstat(&file).map_err(|errno| cannot_open(path, errno))?;
        if status.st_mode & SFlag::S_IFMT.bits() != SFlag::S_IFREG.bits() {
            return Err(Problem::about(path, "it is no regular file"));
        }
        self.check_owner(path, &status);
        let mut text = String::new();
        match file.take(SIZE_LIMIT + 1).read_to_string(&mut text) {
            Ok(_) if text.len() as u64 > SIZE_LIMIT => {
                return Err(Problem::about(path, format!("it is longer than {SIZE_LIMIT} bytes")));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                return Err(Problem::about(path, "it is not UTF-8"));
            }
            Err(error) => return Err(Problem::about(path, format!("it cannot be read: {error}"))),
        }
        self.files.push((path.to_owned(), text));
        Ok(Some(Stamp::new(&status)))
    }

    fn check_owner(&mut self, path: &Path, status: &FileStat) {
        let user = geteuid().as_raw();
        if status.st_uid != 0 && status.st_uid != user {
            let message = format!(
                "it belongs to user {}, who could allow anything: chown root it, once its content is what you want",
                status.st_uid
            );
            self.problems.push(Problem::about(path, message));
        }
        if status.st_mode & 0o022 != 0 {
            let message = format!(
                "others than its owner may write to it (mode {:04o}): chmod go-w it, once its content is what you want",
                status.st_mode & 0o7777
            );
            self.problems.push(Problem::about(path, message));
        }
    }
}

fn cannot_open(path: &Path, errno: Errno) -> Problem {
    let reason = match errno {
        // Which of the two it is depends on whether a directory is expected.
        Errno::ELOOP => "it is a symbolic link: put the file itself there".to_owned(),
        Errno::ENOTDIR => "it is no directory, or a symbolic link".to_owned(),
        errno => format!("it cannot be opened: {}", errno.desc()),
    };
    Problem::about(path, reason)
}

/// Whether a file is one that only this user, or root, can have written and
/// read.
pub(super) fn is_private(status: &FileStat) -> bool {
    let is_own = status.st_uid == 0 || status.st_uid == geteuid().as_raw();
    is_own
        && status.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits()
        && status.st_mode & 0o7777 & !0o600 == 0
}
