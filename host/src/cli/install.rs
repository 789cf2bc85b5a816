//! `weir install`: this program and its links in a directory of plugins.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::catalog::{self, Store, Writer};
use crate::cli::output::say;
use crate::failure::Failure;
use crate::request::state_paths;

/// The name of the binary itself.
const PROGRAM: &str = "weir";
/// What is written at once. A call needs nearly all of some parts and nothing of
/// the others; of larger ones, it would have more in memory than it needs.
const PART: usize = 256 << 10;

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
    let compiled = compile_plugins().context("compile the plugins of others for this weir")?;
    fs::create_dir_all(bin_dir).with_context(|| format!("create {}", bin_dir.display()))?;
    install_program(bin_dir)?;
    for name in &types {
        link(bin_dir, name)?;
    }
    if let Some(writer) = compiled {
        writer.forget_other_engines().map_err(Failure::from)?;
    }
    say!("{}: weir, and links to it for {}", bin_dir.display(), types.join(", "));
    Ok(ExitCode::SUCCESS)
}

/// Compiles what is installed of others for this weir, if it was for another
/// one, which goes on with what it has: no call finds its plugin uncompiled.
fn compile_plugins() -> Result<Option<Writer>> {
    let paths = state_paths();
    let store = Store::open(&paths).map_err(Failure::from)?;
    let is_outdated = store.map(|store| store.is_outdated()).transpose().map_err(Failure::from)?;
    if is_outdated != Some(true) {
        return Ok(None);
    }
    let writer = Writer::open(&paths)?;
    super::plugin::compile_installed(&writer)?;
    Ok(Some(writer))
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
    sweep(bin_dir).with_context(|| format!("look for interrupted installations in {}", bin_dir.display()))?;
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

/// Removes copies that nobody completes any more.
fn sweep(bin_dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(bin_dir)? {
        let path = entry?.path();
        let is_copy = path.file_stem().is_some_and(|stem| stem == unfinished_stem(PROGRAM).as_str());
        if is_copy && File::open(&path).is_ok_and(|file| file.try_lock().is_ok()) {
            fs::remove_file(&path)?;
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
    // Shows that it is not left of an interrupted installation.
    copy.lock()?;
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
    bin_dir.join(format!("{}.{}", unfinished_stem(name), std::process::id()))
}

fn unfinished_stem(name: &str) -> String {
    format!(".{name}")
}
