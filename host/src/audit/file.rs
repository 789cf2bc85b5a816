//! The file of the audit log: opened with care, added to in whole lines, put
//! aside when it is large.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::unistd::geteuid;

use super::AuditSettings;

/// An open audit log.
#[derive(Debug)]
pub(super) struct LogFile {
    file: File,
    /// Its last line was cut off, as on a disk that was full.
    is_torn: bool,
}

impl LogFile {
    /// Opens the log, and makes it if there is none. A file that has reached
    /// its size is put aside first, which is done only here: nothing of the
    /// file system but the descriptor is needed afterwards.
    pub(super) fn open(path: &Path, settings: &AuditSettings) -> io::Result<Self> {
        let (directory, name) = match (path.parent(), path.file_name()) {
            (Some(directory), Some(name)) if path.is_absolute() => (directory, name),
            _ => return Err(refuse("its path has to be absolute, and to end with a name")),
        };
        let directory = open_directory(directory)?;
        loop {
            let file = open_file(&directory, name)?;
            let size = checked(&file)?.st_size;
            if size.cast_unsigned() < settings.max_size {
                let mut last = [b'\n'];
                if let Some(end) = size.cast_unsigned().checked_sub(1) {
                    file.read_at(&mut last, end)?;
                }
                return Ok(Self { file, is_torn: last != [b'\n'] });
            }
            match file.try_lock() {
                Ok(()) => {}
                // Somebody is putting it aside: what is added stays in it.
                Err(TryLockError::WouldBlock) => return Ok(Self { file, is_torn: false }),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Whoever had the lock before may have put it aside already.
            if is_same(&fstat(&file)?, fstatat(&directory, name, nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW)) {
                put_aside(&directory, name, settings.keep.max(1))?;
            }
        }
    }

    /// Adds lines with one write, so that those of other calls do not come in
    /// between.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        if std::mem::take(&mut self.is_torn) {
            self.file.write_all(b"\n")?;
        }
        self.file.write_all(lines)
    }
}

/// Opens the directory of the log, and makes it if there is none.
fn open_directory(path: &Path) -> io::Result<File> {
    let open = || {
        let flags = nix::libc::O_NOFOLLOW | nix::libc::O_DIRECTORY;
        File::options().read(true).custom_flags(flags).open(path)
    };
    let directory = match open() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            DirBuilder::new().recursive(true).mode(0o700).create(path)?;
            open()?
        }
        outcome => outcome?,
    };
    check(&fstat(&directory)?, "its directory")?;
    Ok(directory)
}

fn open_file(directory: &File, name: &std::ffi::OsStr) -> io::Result<File> {
    // Without O_NONBLOCK, opening a fifo would wait for a reader.
    let flags = OFlag::O_RDWR
        | OFlag::O_APPEND
        | OFlag::O_CREAT
        | OFlag::O_NOFOLLOW
        | OFlag::O_NONBLOCK
        | OFlag::O_NOCTTY
        | OFlag::O_CLOEXEC;
    Ok(File::from(openat(directory, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?))
}

/// The state of a file that may be written to.
fn checked(file: &File) -> io::Result<FileStat> {
    let state = fstat(file)?;
    if SFlag::from_bits_truncate(state.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(refuse("it is not a regular file"));
    }
    check(&state, "it")?;
    Ok(state)
}

/// Nobody else may have a say in what the log holds.
fn check(state: &FileStat, what: &str) -> io::Result<()> {
    if state.st_uid != geteuid().as_raw() {
        return Err(refuse(&format!("{what} belongs to another user (id {})", state.st_uid)));
    }
    if state.st_mode & 0o022 != 0 {
        return Err(refuse(&format!(
            "{what} may be written to by others (mode {:o})",
            state.st_mode & 0o7777
        )));
    }
    Ok(())
}

fn is_same(file: &FileStat, there: nix::Result<FileStat>) -> bool {
    there.is_ok_and(|there| (there.st_dev, there.st_ino) == (file.st_dev, file.st_ino))
}

/// Renames the log to `.1`, what was `.1` to `.2`, and so on. The last step
/// lets others make a new file, so that nobody else does the same meanwhile.
fn put_aside(directory: &File, name: &std::ffi::OsStr, keep: u32) -> io::Result<()> {
    for number in (0..keep).rev() {
        match renameat(
            directory,
            numbered(name, number).as_os_str(),
            directory,
            numbered(name, number + 1).as_os_str(),
        ) {
            Ok(()) | Err(nix::Error::ENOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// The name of a file that was put aside; 0 is the log itself.
fn numbered(name: &std::ffi::OsStr, number: u32) -> OsString {
    let mut name = name.to_owned();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name
}

fn refuse(reason: &str) -> io::Error {
    io::Error::other(reason.to_owned())
}

/// The files of a log that exist, oldest first, with their inodes.
pub(crate) fn files(path: &Path) -> Vec<(PathBuf, u64)> {
    let mut found = Vec::new();
    let mut is_missing = false;
    for number in 0.. {
        let path = PathBuf::from(numbered(path.as_os_str(), number));
        match fs::metadata(&path) {
            Ok(state) => {
                found.push((path, state.ino()));
                is_missing = false;
            }
            Err(_) if is_missing => break,
            // One of them is missing for a moment while they are put aside.
            Err(_) => is_missing = true,
        }
    }
    found.reverse();
    found
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::thread;

    use super::*;

    fn settings(max_size: u64, keep: u32) -> AuditSettings {
        AuditSettings { max_size, keep, ..AuditSettings::default() }
    }

    fn add(path: &Path, settings: &AuditSettings, line: &str) {
        LogFile::open(path, settings).unwrap().append(line.as_bytes()).unwrap();
    }

    fn refusal(path: &Path) -> String {
        LogFile::open(path, &settings(100, 1)).unwrap_err().to_string()
    }

    #[test]
    fn directories_and_files_are_made_for_the_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a/b/audit.jsonl");
        add(&path, &settings(100, 1), "1\n");
        add(&path, &settings(100, 1), "2\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n2\n");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    }

    #[test]
    fn what_others_could_have_put_there_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let other = directory.path().join("other");
        fs::write(&other, "").unwrap();
        symlink(&other, &path).unwrap();
        refusal(&path);
        assert_eq!(fs::read_to_string(&other).unwrap(), "");
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        refusal(&path);
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        refusal(&path);
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o620)).unwrap();
        assert!(refusal(&path).contains("mode 620"));
        fs::remove_file(&path).unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(refusal(&path).contains("its directory"));
        assert!(refusal(Path::new("audit.jsonl")).contains("absolute"));
    }

    #[test]
    fn a_directory_that_is_a_link_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("real")).unwrap();
        symlink("real", directory.path().join("link")).unwrap();
        refusal(&directory.path().join("link/audit.jsonl"));
    }

    #[test]
    fn large_files_are_put_aside_and_old_ones_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        for number in 0..5 {
            add(&path, &settings(2, 2), &format!("{number}\n"));
        }
        let texts: Vec<String> =
            files(&path).iter().map(|(path, _)| fs::read_to_string(path).unwrap()).collect();
        assert_eq!(texts, ["2\n", "3\n", "4\n"]);
    }

    #[test]
    fn a_crowd_loses_nothing_and_puts_nothing_aside_twice() {
        const WRITERS: usize = 8;
        const LINES: usize = 300;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let settings = settings(1000, 1000);
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (path, settings) = (&path, &settings);
                scope.spawn(move || {
                    for line in 0..LINES {
                        add(path, settings, &format!("{writer} {line}\n"));
                    }
                });
            }
        });
        let mut lines = Vec::new();
        let files = files(&path);
        for (path, _) in &files {
            let text = fs::read_to_string(path).unwrap();
            assert!(!text.is_empty() || files.len() == 1, "{} is empty", path.display());
            lines.extend(text.lines().map(str::to_owned));
        }
        assert!(files.len() > 1, "{files:?}");
        lines.sort();
        let mut expected: Vec<String> =
            (0..WRITERS).flat_map(|writer| (0..LINES).map(move |line| format!("{writer} {line}"))).collect();
        expected.sort();
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_line_that_was_cut_off_does_not_swallow_the_next_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        for line in ["1\n", "cut o", "2\n", "3\n"] {
            add(&path, &settings(100, 1), line);
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\ncut o\n2\n3\n");
    }
}
