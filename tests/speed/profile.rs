//! What calls execute, and how often: the compiler puts that first, and makes
//! it fast at the cost of the rest (`host/profile/calls.profdata`).

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{installed, measure, usual};
use crate::lab::{Call, Handle};

/// How often each call is made.
const TIMES: usize = 4;

/// Makes calls with a program that counts, and writes the profile.
pub(super) fn write(program: &Path) -> Result<()> {
    let merge = tool("llvm-profdata")?;
    let mut lab = installed::weir_lab(program)?;
    lab.add_container_as("profile", Handle::BindMount)?;
    let container = &lab.containers[0];
    // A call may write files to few directories.
    let directory = lab.path("weir/attachments");
    let counted = |call: Call| call.variable(installed::COUNTS, directory.join("%p.profraw"));
    usual(&lab, |config| {
        for _ in 0..TIMES {
            for command in ["ADD", "DEL"] {
                let call = lab.call_for("bridge", command, container, "eth0").config(config);
                measure::call(&lab, &counted(call))?;
            }
        }
        Ok(())
    })?;
    let files = fs::read_dir(&directory)?.map(|entry| Ok(entry?.path()));
    let mut counts = files.collect::<Result<Vec<PathBuf>>>()?;
    counts.retain(|path| path.extension().is_some_and(|kind| kind == "profraw"));
    ensure!(counts.len() >= 3 * 2 * TIMES, "only {} calls wrote what they counted", counts.len());
    let profile = installed::profile("calls.profdata");
    let merged = Command::new(&merge).args(["merge", "--sparse", "-o"]).arg(&profile).args(&counts).status();
    let merged = merged.with_context(|| format!("execute {}", merge.display()))?;
    ensure!(merged.success(), "merge what {} calls counted: {merged}", counts.len());
    println!("{} calls in {}", counts.len(), profile.display());
    println!("cargo does not know of it: remove target/*/release before the next build");
    Ok(())
}

/// A program of the toolchain's.
fn tool(name: &str) -> Result<PathBuf> {
    let output = Command::new("rustc")
        .args(["--print", "target-libdir"])
        .current_dir(installed::root()?)
        .output()
        .context("execute rustc")?;
    let libraries = String::from_utf8(output.stdout)?;
    let path = Path::new(libraries.trim()).with_file_name("bin").join(name);
    ensure!(path.is_file(), "the toolchain lacks {name}: rustup component add llvm-tools");
    Ok(path)
}
