//! The control group of a node's containers.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use std::{fs, process, thread};

use anyhow::Context;

use crate::lab::Missing;

const ROOT: &str = "/sys/fs/cgroup";

/// How long the kernel may need to see that a group's processes have ended.
const PATIENCE: Duration = Duration::from_secs(5);

/// A control group in every hierarchy. Whatever is left in it is removed with
/// this value.
#[derive(Debug)]
pub(crate) struct Cgroup {
    name: String,
    directories: Vec<PathBuf>,
}

impl Cgroup {
    /// Makes a group. A machine that does not let us is one without containers.
    pub(crate) fn new() -> anyhow::Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("weir-test-{}-{}", process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut cgroup = Self { name, directories: Vec::new() };
        for hierarchy in hierarchies()? {
            let directory = hierarchy.join(&cgroup.name);
            fs::create_dir(&directory).map_err(|error| {
                Missing(format!("control groups cannot be made in {}: {error}", hierarchy.display()))
            })?;
            cgroup.directories.push(directory);
        }
        Ok(cgroup)
    }

    /// The path that runtimes know it by.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.name)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.directories.iter().any(|directory| !remove(directory)) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Where groups can be made: one place (version 2), or one for every controller.
fn hierarchies() -> anyhow::Result<Vec<PathBuf>> {
    let root = PathBuf::from(ROOT);
    if root.join("cgroup.controllers").exists() {
        return Ok(vec![root]);
    }
    let entries = fs::read_dir(&root)
        .map_err(|error| Missing(format!("there are no control groups in {ROOT}: {error}")))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.context("list the control groups")?;
        // Links are other names of the same controllers.
        if entry.file_type()?.is_dir() && entry.path().join("cgroup.procs").exists() {
            found.push(entry.path());
        }
    }
    if found.is_empty() {
        return Err(Missing(format!("there are no control groups in {ROOT}")).into());
    }
    Ok(found)
}

/// Removes a group and those in it; the files of a group go with it.
fn remove(directory: &Path) -> bool {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove(&entry.path());
        }
    }
    fs::remove_dir(directory).is_ok() || !directory.exists()
}
