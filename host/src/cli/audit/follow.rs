//! Lines of a log that others add to and put aside meanwhile.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::audit::files;

/// How often it is looked whether something was added.
const PAUSE: Duration = Duration::from_millis(200);

/// How often it is tried to find the files of a log while they are put aside.
const LISTINGS: usize = 1000;

/// More is no line of the audit log.
const LINE_LIMIT: usize = 1 << 20;

/// The lines of a log and of what was put aside, oldest first.
pub(super) struct Lines {
    path: PathBuf,
    open: Option<Open>,
    /// Files that come next. They are open already: by now others may have
    /// their names.
    next: VecDeque<io::Result<(File, u64)>>,
}

struct Open {
    reader: BufReader<File>,
    inode: u64,
    /// A line whose end is not there yet.
    begun: Vec<u8>,
}

impl Lines {
    pub(super) fn of(path: PathBuf) -> Self {
        let next = open_all(&path).into();
        Self { path, open: None, next }
    }

    /// The next line; none if there is none at present.
    pub(super) fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(open) = &mut self.open {
                if let Some(line) = open.line()? {
                    return Ok(Some(line));
                }
                if self.next.is_empty() {
                    return Ok(None);
                }
                // What a writer did not finish stays as it is.
                if !open.begun.is_empty() {
                    return Ok(Some(std::mem::take(&mut open.begun)));
                }
            }
            let Some(next) = self.next.pop_front() else { return Ok(None) };
            let (file, inode) = next?;
            self.open = Some(Open { reader: BufReader::new(file), inode, begun: Vec::new() });
        }
    }

    /// Waits a little, and finds files that came after the present one.
    pub(super) fn wait(&mut self) {
        thread::sleep(PAUSE);
        let files = open_all(&self.path);
        let is_open = |file: &io::Result<(File, u64)>| {
            file.as_ref().is_ok_and(|(_, inode)| self.open.as_ref().is_some_and(|open| open.inode == *inode))
        };
        let seen = files.iter().position(is_open);
        self.next = files.into_iter().skip(seen.map_or(0, |seen| seen + 1)).collect();
    }
}

/// Opens the files of a log, oldest first, as they were at one moment.
fn open_all(path: &Path) -> Vec<io::Result<(File, u64)>> {
    for _ in 0..LISTINGS {
        let listed = files(path);
        let opened: Vec<_> =
            listed.iter().map(|(path, inode)| open(path).map(|file| (file, *inode))).collect();
        let is_whole = opened.iter().all(|file| match file {
            Ok((file, inode)) => file.metadata().is_ok_and(|state| state.ino() == *inode),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        });
        if is_whole && files(path) == listed {
            return opened;
        }
    }
    vec![Err(io::Error::other(format!("{}: it is put aside again and again", path.display())))]
}

fn open(path: &Path) -> io::Result<File> {
    File::open(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

impl Open {
    fn line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let there = self.reader.fill_buf()?;
            if there.is_empty() {
                return Ok(None);
            }
            let end = there.iter().position(|byte| *byte == b'\n');
            let part = &there[..end.unwrap_or(there.len())];
            if self.begun.len() + part.len() <= LINE_LIMIT {
                self.begun.extend_from_slice(part);
            }
            let length = end.map_or(there.len(), |end| end + 1);
            self.reader.consume(length);
            if end.is_some() {
                return Ok(Some(std::mem::take(&mut self.begun)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use super::*;

    fn all(lines: &mut Lines) -> Vec<String> {
        std::iter::from_fn(|| lines.next().unwrap()).map(|line| String::from_utf8(line).unwrap()).collect()
    }

    #[test]
    fn files_are_read_oldest_first_and_followed_when_they_are_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let aside = |number: u32| directory.path().join(format!("log.{number}"));
        fs::write(aside(2), "1\n").unwrap();
        fs::write(aside(1), "2\n").unwrap();
        fs::write(&path, "3\nhal").unwrap();
        let mut lines = Lines::of(path.clone());
        assert_eq!(all(&mut lines), ["1", "2", "3"]);
        fs::File::options().append(true).open(&path).unwrap().write_all(b"f\n4\n").unwrap();
        lines.wait();
        assert_eq!(all(&mut lines), ["half", "4"]);
        // Put aside twice between two looks.
        fs::rename(aside(1), aside(3)).unwrap();
        fs::File::options().append(true).open(&path).unwrap().write_all(b"5\ntorn").unwrap();
        fs::rename(&path, aside(2)).unwrap();
        fs::write(aside(1), "6\n").unwrap();
        fs::write(&path, "7\n").unwrap();
        lines.wait();
        assert_eq!(all(&mut lines), ["5", "torn", "6", "7"]);
        lines.wait();
        assert!(all(&mut lines).is_empty());
    }

    #[test]
    fn what_is_put_aside_before_it_is_read_is_not_passed_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let aside = |number: u32| directory.path().join(format!("log.{number}"));
        fs::write(aside(2), "1\n").unwrap();
        fs::write(aside(1), "2\n").unwrap();
        fs::write(&path, "3\n").unwrap();
        let mut lines = Lines::of(path.clone());
        fs::rename(aside(2), aside(3)).unwrap();
        fs::rename(aside(1), aside(2)).unwrap();
        fs::rename(&path, aside(1)).unwrap();
        fs::write(&path, "4\n").unwrap();
        assert_eq!(all(&mut lines), ["1", "2", "3"]);
        lines.wait();
        assert_eq!(all(&mut lines), ["4"]);
        // In the middle of it, one has no name.
        fs::rename(aside(2), aside(3)).unwrap();
        let mut lines = Lines::of(path);
        assert_eq!(all(&mut lines), ["2", "3", "4"]);
    }

    #[test]
    fn a_log_that_is_made_later_is_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut lines = Lines::of(path.clone());
        assert!(all(&mut lines).is_empty());
        fs::write(&path, "1\n").unwrap();
        lines.wait();
        assert_eq!(all(&mut lines), ["1"]);
    }
}
