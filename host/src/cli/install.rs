//! `weir install`: this program and its links in a directory of plugins.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::catalog::{self, Outdated, Store, Writer};
use crate::cli::output::say;
use crate::failure::Failure;
use crate::lock;
use crate::request::state_paths;

/// The name of the binary itself.
const PROGRAM: &str = "weir";
/// What is written at once. A call needs nearly all of some parts and nothing of
/// the others; of larger ones, it would have more in memory than it needs.
const PART: usize = 256 << 10;
/// How long an installation waits for another one.
const TURN_WAIT: Duration = Duration::from_secs(30);

pub(super) fn run(bin_dir: &Path, types: &[String], replace: bool) -> Result<ExitCode> {
    let known = catalog::names(&state_paths())?;
    if let Some(unknown) = types.iter().find(|name| !known.contains(name)) {
        bail!("install plugin type {unknown:?}: weir has no such component; it serves {}", known.join(", "));
    }
    let types = if types.is_empty() { &known } else { types };
    let types: Vec<&str> = types.iter().map(String::as_str).collect();
    let foreign: Vec<&str> = types.iter().copied().filter(|name| is_foreign(&bin_dir.join(name))).collect();
    if !foreign.is_empty() && !replace {
        bail!(
            "install into {}: other programs have the names {}; --replace replaces them, --types leaves some out",
            bin_dir.display(),
            foreign.join(", ")
        );
    }
    compile_plugins().context("compile the plugins of others for this weir")?;
    fs::create_dir_all(bin_dir).with_context(|| format!("create {}", bin_dir.display()))?;
    let _turn = take_turn(bin_dir, TURN_WAIT)?;
    let names: Vec<&str> = known.iter().map(String::as_str).chain([PROGRAM]).collect();
    sweep(bin_dir, &names)
        .with_context(|| format!("remove what interrupted installations left in {}", bin_dir.display()))?;
    install_program(bin_dir)?;
    for name in &types {
        link(bin_dir, name)?;
    }
    say!("{}: weir, and links to it for {}", bin_dir.display(), types.join(", "));
    Ok(ExitCode::SUCCESS)
}

/// Compiles what is installed of others for this weir, if it was for another
/// one, which goes on with what it has: no call finds its plugin uncompiled.
fn compile_plugins() -> Result<()> {
    let paths = state_paths();
    let store = Store::open(&paths).map_err(Failure::from)?;
    let is_outdated = store.map(|store| store.is_outdated()).transpose().map_err(Failure::from)?;
    if is_outdated != Some(true) {
        return Ok(());
    }
    let writer = Writer::open(&paths)?;
    let mut failures = Vec::new();
    for Outdated { in_use_by, failure } in super::plugin::compile_installed(&writer)?.failed {
        match in_use_by {
            Some(kind) => failures.push(failure.details(format!(
                "plugin type {kind} would not work with this weir: add a version that does, or run \
                 \"weir plugin remove {kind}\""
            ))),
            None => eprintln!("weir: a component that is not in use: {failure}"),
        }
    }
    Ok(Failure::all(failures)?)
}

/// One installation at a time, where the file system knows locks.
fn take_turn(bin_dir: &Path, wait: Duration) -> Result<Option<File>> {
    let directory = File::open(bin_dir).with_context(|| format!("open {}", bin_dir.display()))?;
    match lock::acquire(directory, Instant::now() + wait) {
        Ok(None) => bail!(
            "install into {}: another installation has not ended within {} s; end it, or try again later",
            bin_dir.display(),
            wait.as_secs()
        ),
        Ok(turn) => Ok(turn),
        // Every file and link is replaced as a whole even so.
        Err(_) => Ok(None),
    }
}

/// Whether something that is not weir's has the name.
fn is_foreign(path: &Path) -> bool {
    match fs::read_link(path) {
        Ok(target) => target.file_name().is_none_or(|name| name != PROGRAM),
        Err(_) => fs::symlink_metadata(path).is_ok(),
    }
}

/// Puts the running program there by a rename: a runtime that executes the old
/// one at this moment must not find half of the new one ("text file busy").
fn install_program(bin_dir: &Path) -> Result<()> {
    let target = bin_dir.join(PROGRAM);
    let own = std::env::current_exe().context("find this program")?;
    if fs::canonicalize(&target).is_ok_and(|there| there == own) {
        return Ok(());
    }
    let fresh = unfinished(bin_dir, PROGRAM);
    let installed = copy_in_large_parts(&own, &fresh)
        .and_then(|copy| {
            copy.set_permissions(fs::Permissions::from_mode(0o755))?;
            copy.sync_all()
        })
        .and_then(|()| fs::rename(&fresh, &target));
    if installed.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    installed.with_context(|| format!("copy {} to {}", own.display(), target.display()))
}

/// Removes what nobody completes any more.
fn sweep(bin_dir: &Path, names: &[&str]) -> io::Result<()> {
    for entry in fs::read_dir(bin_dir)? {
        let entry = entry?;
        let file = entry.file_name();
        let is_unfinished = file.to_str().and_then(unfinished_name).is_some_and(|name| names.contains(&name));
        if is_unfinished && !entry.file_type()?.is_dir() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Copies a program so that the kernel maps it in few steps: a file system that
/// can keeps what one call writes in a page that is as large, which becomes part
/// of a process as a whole.
fn copy_in_large_parts(from: &Path, to: &Path) -> io::Result<File> {
    let program = fs::read(from)?;
    let mut copy = File::create(to)?;
    for part in program.chunks(PART) {
        copy.write_all(part)?;
    }
    Ok(copy)
}

/// Links a type to the program beside it, so that the directory may be moved.
fn link(bin_dir: &Path, name: &str) -> Result<()> {
    let fresh = unfinished(bin_dir, name);
    let _ = fs::remove_file(&fresh);
    let linked = symlink(PROGRAM, &fresh).and_then(|()| fs::rename(&fresh, bin_dir.join(name)));
    if linked.is_err() {
        let _ = fs::remove_file(&fresh);
    }
    linked.with_context(|| format!("link {} to weir", bin_dir.join(name).display()))
}

fn unfinished(bin_dir: &Path, name: &str) -> PathBuf {
    bin_dir.join(format!(".{name}.{}", std::process::id()))
}

/// What the name of a file that is [unfinished] will be.
fn unfinished_name(file: &str) -> Option<&str> {
    let (name, process) = file.strip_prefix('.')?.rsplit_once('.')?;
    process.bytes().all(|byte| byte.is_ascii_digit()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_installs_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let wait = Duration::from_millis(20);
        let turn = take_turn(directory.path(), wait).unwrap();
        assert!(turn.is_some());
        let refusal = take_turn(directory.path(), wait).unwrap_err().to_string();
        assert!(refusal.contains("another installation"), "{refusal}");
        drop(turn);
        assert!(take_turn(directory.path(), TURN_WAIT).unwrap().is_some());
    }
}
