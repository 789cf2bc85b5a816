//! The programs that are measured: copies of the native plugins, and weir as it
//! is installed on nodes, for musl and without the features that the
//! dependencies of tests add to its own. The list of functions
//! (`super::order`) fits only that program.

use std::env::consts::ARCH;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::lab::{Lab, Plugins};

/// Names the file for what a program has counted.
pub(super) const COUNTS: &str = "LLVM_PROFILE_FILE";

/// Builds it, as the README tells operators to; `WEIR_BENCH_PROGRAM` names
/// another one.
pub(super) fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("WEIR_BENCH_PROGRAM") {
        return Ok(path.into());
    }
    build(&target_directory()?, None)
}

/// Builds one that counts what it executes, apart from others.
pub(super) fn counting_program() -> Result<PathBuf> {
    build(&target_directory()?.join("profile"), Some("-Cprofile-generate"))
}

/// A file that builds are made by.
pub(super) fn profile(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("profile").join(name)
}

/// The workspace.
pub(super) fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the host crate is not in a workspace")
}

fn build(directory: &Path, flags: Option<&str>) -> Result<PathBuf> {
    let target = format!("{ARCH}-unknown-linux-musl");
    let run = |command: &mut Command| {
        let status = command.current_dir(root()?).status().with_context(|| format!("execute {command:?}"))?;
        ensure!(status.success(), "{command:?}: {status}");
        anyhow::Ok(())
    };
    run(Command::new("rustup").args(["target", "add", &target]))?;
    let mut cargo = Command::new("cargo");
    cargo
        .args(["build", "--release", "--package", "weir", "--target", &target, "--target-dir"])
        .arg(directory);
    cargo.envs(flags.map(|flags| ("RUSTFLAGS", flags)));
    run(&mut cargo)?;
    Ok(directory.join(target).join("release/weir"))
}

fn target_directory() -> Result<PathBuf> {
    let metadata = Command::new("cargo")
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root()?)
        .output()
        .context("run cargo metadata")?;
    let metadata: Value =
        serde_json::from_slice(&metadata.stdout).context("read what cargo metadata says")?;
    Ok(metadata["target_directory"].as_str().context("cargo names no target directory")?.into())
}

/// A lab with copies of the native plugins. How fast a program starts depends
/// on how the kernel keeps its file, and what one call has written it keeps in
/// larger pages than what it has read: they are written as `weir install`
/// writes weir.
pub(super) fn native_lab() -> Result<Lab> {
    let mut lab = Lab::new(Plugins::native()?)?;
    let copies = lab.path("native");
    fs::create_dir(&copies)?;
    for plugin in ["bridge", "host-local"] {
        copy(&lab.bin.join(plugin), &copies.join(plugin)).with_context(|| format!("copy {plugin}"))?;
    }
    lab.bin = copies;
    Ok(lab)
}

/// In parts: what this process has in memory at once, the kernel counts as the
/// peak of each process that it starts.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let (mut from, mut to) = (File::open(from)?, File::create(to)?);
    to.set_permissions(from.metadata()?.permissions())?;
    let mut part = Vec::new();
    while (&mut from).take(256 << 10).read_to_end(&mut part)? > 0 {
        to.write_all(&part)?;
        part.clear();
    }
    Ok(())
}

/// A lab in which weir is installed, instead of what was built with the
/// benchmark.
pub(super) fn weir_lab(program: &Path) -> Result<Lab> {
    let lab = Lab::new(Plugins::Weir)?;
    for entry in fs::read_dir(&lab.bin)? {
        fs::remove_file(entry?.path())?;
    }
    let installed = Command::new(program)
        .args(["install", "--bin-dir"])
        .arg(&lab.bin)
        // One that counts is asked about calls only.
        .env(COUNTS, "/dev/null")
        .output()
        .with_context(|| format!("execute {}", program.display()))?;
    ensure!(installed.status.success(), "install: {}", String::from_utf8_lossy(&installed.stderr));
    Ok(lab)
}
