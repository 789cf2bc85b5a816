//! Files of the journal: naming, locking, reading, appending.

use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::entry::{Inverse, Line};
use crate::boot;
use crate::delegate::Process;
use crate::failure::{Failure, code};
use crate::lock;

/// So many characters of a name that is too long are kept.
const START: usize = 50;

/// What a journal is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Key {
    /// The network's name.
    pub(crate) network: String,
    /// The container.
    pub(crate) container_id: String,
    /// The interface in it.
    pub(crate) ifname: String,
    /// The plugin's type: plugins of one chain share all of the above.
    pub(crate) plugin: String,
}

impl Key {
    /// Names the attachment within the limits of a file name.
    ///
    /// None of the parts can contain `:`, so two keys never share a name.
    pub(crate) fn name(&self) -> String {
        const LIMIT: usize = 200;
        let name = format!("{}:{}:{}:{}", self.network, self.container_id, self.ifname, self.plugin);
        if name.len() <= LIMIT {
            return name;
        }
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let start: String = name.chars().take(START).collect();
        format!("{start}:{:016x}", hasher.finish())
    }

    /// Whether a journal of that name may be of the network; its header tells
    /// for sure. Names of other networks may begin alike, and long ones are cut.
    pub(crate) fn may_be_of(name: &str, network: &str) -> bool {
        network.chars().zip(name.chars()).take(START).all(|(one, other)| one == other)
    }

    /// Reads a name; none if it was too long to say everything.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        let parts: Vec<&str> = name.split(':').collect();
        let [network, container_id, ifname, plugin] = parts[..] else { return None };
        let [network, container_id, ifname, plugin] =
            [network, container_id, ifname, plugin].map(str::to_owned);
        Some(Self { network, container_id, ifname, plugin })
    }
}

/// The first line of a journal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) struct Header {
    /// Format of the file.
    pub(crate) weir: u32,
    /// The kernel's boot id: after a reboot, all but leases is gone by itself.
    pub(crate) boot: String,
    /// What it is about.
    #[serde(flatten)]
    pub(crate) key: Key,
    /// The container's namespace at ADD.
    pub(crate) netns: Option<PathBuf>,
    /// Its inode: paths are used again, above all those of processes.
    pub(crate) netns_inode: Option<u64>,
    /// For whom the container runs, if the runtime said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
    /// Seconds since 1970.
    pub(crate) begun: u64,
    /// The network configuration at ADD.
    pub(crate) config: String,
}

impl Header {
    pub(crate) fn new(key: Key, netns: Option<PathBuf>, netns_inode: Option<u64>, config: String) -> Self {
        let begun = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let (boot, tenant) = (boot::id().to_owned(), None);
        Self { weir: 1, boot, key, netns, netns_inode, tenant, begun, config }
    }

    /// The same for a container of a tenant.
    pub(crate) fn of_tenant(self, tenant: Option<&str>) -> Self {
        Self { tenant: tenant.map(str::to_owned), ..self }
    }
}

/// An open, locked journal.
#[derive(Debug)]
pub(crate) struct Journal {
    pub(super) file: File,
    path: PathBuf,
    pub(crate) header: Header,
    /// Each change, oldest first; `None` once it is undone or was never made.
    changes: Vec<Option<Inverse>>,
    /// Addresses of a successful ADD.
    pub(crate) added: Option<Vec<String>>,
    /// A program that an ADD waited for.
    waits_for: Option<Process>,
    /// Length of the file and of `changes` when it was opened.
    before: (u64, usize),
    /// Length of the file.
    length: u64,
    /// Whether the header is in the file.
    written: bool,
}

impl Journal {
    /// Opens the journal of an attachment, making it if there is none.
    pub(crate) fn begin(directory: &Path, header: Header, wait: Duration) -> Result<Self, Failure> {
        let path = directory.join(header.key.name());
        let file = match open_locked(&path, true, wait)? {
            Some(file) => file,
            None => {
                fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
                    Failure::io(format!("create the journal's directory {}: {error}", directory.display()))
                })?;
                open_locked(&path, true, wait)?
                    .ok_or_else(|| Failure::io("the journal's directory vanished"))?
            }
        };
        Self::read(file, path, Some(header))
    }

    /// Opens the journal of an attachment, if there is one.
    pub(crate) fn open(directory: &Path, name: &str, wait: Duration) -> Result<Option<Self>, Failure> {
        let path = directory.join(name);
        let Some(file) = open_locked(&path, false, wait)? else { return Ok(None) };
        Self::read(file, path, None).map(Some)
    }

    fn read(mut file: File, path: PathBuf, header: Option<Header>) -> Result<Self, Failure> {
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .map_err(|error| Failure::io(format!("read the journal {}: {error}", path.display())))?;
        let (lines, is_torn) = whole_lines(&bytes);
        let length = lines.len() as u64;
        let mut lines = lines.split_inclusive(|byte| *byte == b'\n');
        let stored = lines.next().and_then(|line| serde_json::from_slice::<Header>(line).ok());
        let written = stored.is_some();
        let mut journal = Self {
            header: match (stored, header) {
                // An earlier ADD's header tells what to undo with which
                // configuration; this call's says nothing of that.
                (Some(stored), _) => stored,
                (None, Some(header)) => header,
                (None, None) => Header::new(key_of(&path), None, None, String::new()),
            },
            file,
            path,
            changes: Vec::new(),
            added: None,
            waits_for: None,
            before: (0, 0),
            length,
            written,
        };
        if !written {
            if !bytes.is_empty() {
                journal.truncate(0)?;
            }
            return Ok(journal);
        }
        if is_torn {
            // What is appended next begins a line of its own.
            journal.truncate(length)?;
        }
        for line in lines {
            match serde_json::from_slice(line) {
                Ok(Line::Change(inverse)) => journal.changes.push(Some(inverse)),
                Ok(Line::Cancelled { cancel }) => {
                    if let Some(change) = journal.changes.get_mut(cancel) {
                        *change = None;
                    }
                }
                Ok(Line::Waiting(process)) => journal.waits_for = Some(process),
                Ok(Line::Added { added }) => {
                    journal.added = Some(added);
                    journal.settle(Inverse::is_until_added);
                }
                Err(_) => {}
            }
        }
        journal.before = (length, journal.changes.len());
        Ok(journal)
    }

    /// Whether anything is in the file.
    pub(super) fn is_written(&self) -> bool {
        self.written
    }

    /// Whether an ADD was interrupted and left changes behind.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.written && self.added.is_none()
    }

    /// Whether the attachment was made since the node was started; so it is
    /// taken if nobody knows, as what is gone by itself does no harm.
    pub(crate) fn is_of_this_boot(&self) -> bool {
        let (then, now) = (self.header.boot.as_str(), boot::id());
        then == now || then.is_empty() || now.is_empty()
    }

    /// Writes down a change that is about to be made; returns its number.
    pub(crate) fn record(&mut self, inverse: Inverse) -> Result<usize, Failure> {
        let mut text = String::new();
        if !self.written {
            text = json(&self.header)? + "\n";
        }
        text.push_str(&json(&inverse)?);
        text.push('\n');
        self.append(&text)?;
        self.written = true;
        self.changes.push(Some(inverse));
        Ok(self.changes.len() - 1)
    }

    /// Writes down a program before ADD waits for it.
    pub(crate) fn record_process(&mut self, process: Process) -> Result<(), Failure> {
        let line = json(&Line::Waiting(process))?;
        self.append(&(line + "\n"))
    }

    /// Ends a program that was left running: nobody waits for it, since the
    /// journal is not held by its call any more.
    pub(crate) fn end_process(&self) {
        if let Some(process) = self.waits_for {
            process.end();
        }
    }

    /// Notes that a change was not made after all.
    pub(crate) fn cancel(&mut self, number: usize) -> Result<(), Failure> {
        self.changes[number] = None;
        let line = json(&Line::Cancelled { cancel: number })?;
        self.append(&(line + "\n"))
    }

    /// Notes that changes are undone already.
    pub(crate) fn cancel_all(&mut self, is_undone: impl Fn(&Inverse) -> bool) -> Result<(), Failure> {
        let pending = self.pending(false).into_iter();
        let mut undone = pending.filter(|(_, inverse)| is_undone(inverse));
        undone.try_for_each(|(number, _)| self.cancel(number))
    }

    /// Notes that ADD succeeded. An attachment without changes that DEL has to
    /// take back has no file.
    pub(crate) fn commit(&mut self, addresses: Vec<String>) -> Result<(), Failure> {
        if self.changes.iter().flatten().all(Inverse::is_until_added) {
            return self.remove();
        }
        let line = json(&Line::Added { added: addresses.clone() })?;
        self.added = Some(addresses);
        self.append(&(line + "\n"))
    }

    /// Forgets changes that are not to be undone: during DEL, since the plugin
    /// itself has undone them. The file still has them.
    pub(crate) fn settle(&mut self, is_undone: impl Fn(&Inverse) -> bool) {
        for change in &mut self.changes {
            if change.as_ref().is_some_and(&is_undone) {
                *change = None;
            }
        }
    }

    /// Changes that are left, with their numbers, newest first.
    pub(crate) fn pending(&self, only_new: bool) -> Vec<(usize, Inverse)> {
        let start = if only_new { self.before.1 } else { 0 };
        let all = self.changes.iter().enumerate().skip(start);
        all.filter_map(|(number, change)| Some((number, change.clone()?))).rev().collect()
    }

    /// Forgets a change that was undone.
    pub(crate) fn forget(&mut self, number: usize) {
        self.changes[number] = None;
    }

    /// Goes back to the state before this call, once its changes are undone.
    pub(crate) fn reset(&mut self) -> Result<(), Failure> {
        if self.before.1 == 0 {
            return self.remove();
        }
        self.changes.truncate(self.before.1);
        self.truncate(self.before.0)
    }

    /// Starts anew, once everything that an interrupted ADD did is undone.
    pub(crate) fn restart(&mut self, header: Header) -> Result<(), Failure> {
        self.header = header;
        self.changes.clear();
        self.before = (0, 0);
        self.written = false;
        self.truncate(0)
    }

    /// Deletes the file.
    pub(crate) fn remove(&self) -> Result<(), Failure> {
        match fs::remove_file(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Failure::io(format!("remove the journal {}: {error}", self.path.display())))
            }
            _ => Ok(()),
        }
    }

    fn truncate(&mut self, length: u64) -> Result<(), Failure> {
        self.length = length;
        self.file
            .set_len(length)
            .and_then(|()| self.file.seek(SeekFrom::Start(length)))
            .map(drop)
            .map_err(|error| Failure::io(format!("shorten the journal {}: {error}", self.path.display())))
    }

    fn append(&mut self, text: &str) -> Result<(), Failure> {
        if let Err(error) = self.file.write_all(text.as_bytes()) {
            // A part of it may be there, as on a disk that is full.
            self.truncate(self.length)?;
            return Err(Failure::io(format!("write the journal {}: {error}", self.path.display())));
        }
        self.length += text.len() as u64;
        Ok(())
    }
}

/// Opens and locks a file; none if it, or with `create` its directory, is not
/// there. The holder of the lock may delete it: the locked one has to be there.
fn open_locked(path: &Path, create: bool, wait: Duration) -> Result<Option<File>, Failure> {
    let end = Instant::now() + wait;
    let broken = |error: io::Error| Failure::io(format!("open the journal {}: {error}", path.display()));
    loop {
        let mut options = OpenOptions::new();
        // Without O_NONBLOCK, reading a fifo would wait for a writer.
        let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
        options.read(true).write(true).create(create).mode(0o600).custom_flags(flags);
        let file = match options.open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            // CHECK only looks.
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem && !create => {
                options.write(false).open(path).map_err(broken)?
            }
            Err(error) => return Err(broken(error)),
        };
        let Some(file) = lock::acquire(file, end).map_err(broken)? else {
            return Err(Failure::new(
                code::TRY_AGAIN,
                format!(
                    "lock the journal {}: another call for this attachment is still running",
                    path.display()
                ),
            ));
        };
        let locked = file.metadata().map_err(broken)?;
        if fs::symlink_metadata(path).is_ok_and(|there| there.ino() == locked.ino()) {
            return Ok(Some(file));
        }
    }
}

/// The lines that were written to their end, and whether there is a rest: the
/// last line is torn, maybe in the middle of a character, if its writer was
/// killed. What it says was not done then.
pub(super) fn whole_lines(bytes: &[u8]) -> (&[u8], bool) {
    let end = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
    (&bytes[..end], end < bytes.len())
}

/// The key of a journal whose first line is torn, as far as its name tells.
fn key_of(path: &Path) -> Key {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Key::parse(&name).unwrap_or_else(|| Key {
        network: name.split(':').next().unwrap_or_default().to_owned(),
        container_id: String::new(),
        ifname: String::new(),
        plugin: String::new(),
    })
}

fn json(value: &impl Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::io(format!("write the journal: {error}")))
}
