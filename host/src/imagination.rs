//! What a plan changes instead of the node: a world that is laid over the
//! kernel's, and copies of the files that a call would write.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use nix::fcntl::OFlag;

use crate::buckets;
use crate::delegate::Delegate;
use crate::failure::{Failure, code};
use crate::firewall::Imagined;
use crate::netlink::World;
use crate::paths::Paths;
use crate::request::Command;
use crate::trace::Trace;

/// Larger files are neither leases nor journals.
const SIZE_LIMIT: u64 = 16 << 20;

/// What a plan changes. All calls of a plan share it, so that each sees what
/// those before it did.
#[derive(Debug)]
pub(crate) struct Imagination {
    world: Arc<World>,
    firewall: Rc<RefCell<Imagined>>,
    scratch: PathBuf,
    /// Directories of which there is a copy.
    copied: RefCell<Vec<PathBuf>>,
    /// Whether the plan has come to something that only others know.
    is_at_end: Cell<bool>,
    notes: RefCell<Vec<String>>,
    trace: Trace,
}

impl Imagination {
    /// Nothing is changed yet. Copies go into `scratch`, which the caller
    /// removes: sandboxes may be left as they are, and this value with them.
    pub(crate) fn new(scratch: &Path) -> Rc<Self> {
        Rc::new(Self {
            world: Arc::default(),
            firewall: Rc::default(),
            scratch: scratch.to_owned(),
            copied: RefCell::default(),
            is_at_end: Cell::new(false),
            notes: RefCell::default(),
            trace: Trace::default(),
        })
    }

    /// Where the calls of the plan note what they would do.
    pub(crate) fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What the kernel is overlaid with.
    pub(crate) fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// What the packet filter is overlaid with.
    pub(crate) fn firewall(&self) -> &Rc<RefCell<Imagined>> {
        &self.firewall
    }

    /// Where the calls of the plan find their files, with a copy of the
    /// journal.
    pub(crate) fn paths(&self, paths: Paths) -> Result<Paths, Failure> {
        let journal = paths.attachments();
        let state = self.copy_of(paths.state());
        self.copy(&journal)?;
        Ok(paths.with_scratch(state))
    }

    /// A copy of the leases of a network; returns what stands for `data_dir`.
    pub(crate) fn leases(&self, data_dir: &Path, network: &str) -> Result<PathBuf, Failure> {
        // Of any other name the pool itself says what is wrong with it.
        if !network.contains('/') && network != ".." {
            self.copy(&data_dir.join(network))?;
        }
        Ok(self.copy_of(data_dir))
    }

    /// Copies what a plugin keeps; `there` says where that is, and the calls
    /// of the plan find the copy below [`Paths::bucket_state`].
    pub(crate) fn bucket(&self, there: &buckets::Location) -> Result<(), Failure> {
        // Of any other names the bucket itself says what is wrong with them.
        if there.check().is_ok() { self.copy(&there.directory()) } else { Ok(()) }
    }

    /// Looks for a native plugin that would be executed.
    pub(crate) fn find(&self, delegate: &Delegate<'_>, command: Command) -> Result<(), Failure> {
        let program = delegate.find()?;
        self.note(format!(
            "the native IPAM plugin {} would be executed ({} {}), of which weir knows only that it is there",
            delegate.plugin,
            program.display(),
            command.as_str()
        ));
        Ok(())
    }

    /// Ends the plan: what the call would go on with only others know.
    pub(crate) fn end(&self, reason: String) -> Failure {
        self.is_at_end.set(true);
        self.trace.end();
        self.note(reason.clone());
        Failure::new(code::TRY_AGAIN, reason)
    }

    /// Whether the plan ended before the call did.
    pub(crate) fn is_at_end(&self) -> bool {
        self.is_at_end.get()
    }

    /// Notes what the reader of the plan has to know.
    pub(crate) fn note(&self, note: String) {
        self.notes.borrow_mut().push(note);
    }

    /// What was noted.
    pub(crate) fn notes(&self) -> Vec<String> {
        self.notes.borrow().clone()
    }

    /// A text with the names of the files that the copies stand for.
    pub(crate) fn real_names(&self, text: &str) -> String {
        text.replace(&self.scratch.display().to_string(), "")
    }

    /// Where the copy of something is: below the scratch directory, under its
    /// own path.
    fn copy_of(&self, path: &Path) -> PathBuf {
        let parts = path.components().filter(|part| matches!(part, Component::Normal(_)));
        self.scratch.join(parts.collect::<PathBuf>())
    }

    /// Copies the files of a directory, unless that was done before. No lock
    /// is taken, as none may be waited for, or made: each file is complete at
    /// any moment, and what changes later the plan could not know anyway.
    fn copy(&self, directory: &Path) -> Result<(), Failure> {
        if self.copied.borrow().iter().any(|copied| copied == directory) {
            return Ok(());
        }
        let failed = |error: io::Error| {
            let advice =
                if error.kind() == ErrorKind::PermissionDenied { "run the plan as root" } else { "" };
            Failure::io(format!("copy {} for the plan: {error}", directory.display())).details(advice)
        };
        copy_files(directory, &self.copy_of(directory)).map_err(failed)?;
        self.copied.borrow_mut().push(directory.to_owned());
        Ok(())
    }
}

fn copy_files(from: &Path, to: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(from) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
        entries => entries?,
    };
    fs::create_dir_all(to)?;
    for entry in entries {
        let entry = entry?;
        match copy_file(&entry.path(), &to.join(entry.file_name())) {
            // It was removed meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            copied => copied?,
        }
    }
    Ok(())
}

/// Copies a regular file; anything else is left out.
fn copy_file(from: &Path, to: &Path) -> io::Result<()> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOATIME;
    let mut options = fs::OpenOptions::new();
    options.read(true);
    let opened = match options.custom_flags(flags.bits()).open(from) {
        // Files of others cannot be read without a trace.
        Err(error) if error.raw_os_error() == Some(nix::libc::EPERM) => {
            options.custom_flags((flags & !OFlag::O_NOATIME).bits()).open(from)
        }
        opened => opened,
    };
    let mut source = match opened {
        Err(error) if error.raw_os_error() == Some(nix::libc::ELOOP) => return Ok(()),
        opened => opened?,
    };
    let status = source.metadata()?;
    if !status.is_file() || status.len() > SIZE_LIMIT {
        return Ok(());
    }
    let mut copy = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut source, &mut copy).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn copies_stand_for_files_and_leave_them_alone() {
        let node = tempfile::tempdir().unwrap();
        let pool = node.path().join("n");
        fs::create_dir(&pool).unwrap();
        fs::write(pool.join("10.1.0.2"), "c1").unwrap();
        fs::write(pool.join("lock"), "").unwrap();
        symlink("/etc/passwd", pool.join("10.1.0.3")).unwrap();
        let before = fs::metadata(&pool).unwrap().modified().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let imagination = Imagination::new(scratch.path());
        let copy = imagination.leases(node.path(), "n").unwrap();
        assert_ne!(copy, node.path());
        assert_eq!(fs::read_to_string(copy.join("n/10.1.0.2")).unwrap(), "c1");
        assert!(copy.join("n/lock").exists() && !copy.join("n/10.1.0.3").exists());
        // What a plan changes stays changed for it.
        fs::remove_file(copy.join("n/10.1.0.2")).unwrap();
        imagination.leases(node.path(), "n").unwrap();
        assert!(!copy.join("n/10.1.0.2").exists() && pool.join("10.1.0.2").exists());
        assert_eq!(fs::metadata(&pool).unwrap().modified().unwrap(), before);
        let text = format!("read {}: no", copy.join("n/10.1.0.2").display());
        assert_eq!(imagination.real_names(&text), format!("read {}: no", pool.join("10.1.0.2").display()));
        assert_eq!(imagination.leases(node.path(), "absent").unwrap(), copy);
        assert!(!copy.join("absent").exists());
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_not_followed() {
        let node = tempfile::tempdir().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        let imagination = Imagination::new(scratch.path());
        let copy = imagination.leases(&node.path().join("../x"), "../y").unwrap();
        assert!(copy.starts_with(scratch.path()));
    }
}
