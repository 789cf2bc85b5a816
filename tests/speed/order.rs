//! The functions of a call, in the order in which they first run. The linker
//! puts them beside each other (`host/profile/functions.order`), since a process
//! that lives for a few milliseconds mostly waits for the pages of its program:
//! spread over all of it, these functions are in almost every page.
//!
//! Found by ptrace(2), with a breakpoint at the start of every function.

use std::collections::{BTreeMap, HashSet};
use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use object::{Object, ObjectSection, ObjectSymbol, SymbolKind};

use super::{installed, measure, usual};
use crate::lab::{Call, Handle};

/// An instruction that stops the process (`int3`).
const BREAKPOINT: u8 = 0xcc;

/// Names the program to execute under the eyes of the caller.
pub(super) const TRACED: &str = "WEIR_BENCH_TRACED";

/// The share of the list, in percent, below which it is worth making anew.
const STALE: usize = 80;

fn list() -> PathBuf {
    installed::profile("functions.order")
}

/// Says so if the list does not fit the program any more: names carry a hash
/// that depends on the compiler and on the versions of all dependencies.
pub(super) fn warn_if_stale(path: &Path) -> Result<()> {
    let program = Program::read(path)?;
    let names: HashSet<&str> = program.functions.values().flatten().map(String::as_str).collect();
    let list = fs::read_to_string(list())?;
    let known = list.lines().filter(|name| names.contains(name)).count();
    if known * 100 < list.lines().count() * STALE {
        let all = list.lines().count();
        eprintln!(
            "of {all} functions in host/profile/functions.order the program has {known}: renew it with --order"
        );
    }
    Ok(())
}

/// Executes a program that the caller traces.
pub(super) fn execute_traced(path: &OsStr) -> Result<()> {
    ptrace::traceme().context("ask to be traced")?;
    Err(Command::new(path).env_remove(TRACED).exec())
        .with_context(|| format!("execute {}", Path::new(path).display()))
}

/// Follows calls and writes the list.
pub(super) fn write(path: &Path) -> Result<()> {
    let program = Program::read(path)?;
    let mut lab = installed::weir_lab(path)?;
    lab.add_container_as("order", Handle::BindMount)?;
    let container = &lab.containers[0];
    let mut order = Vec::new();
    usual(&lab, |config| {
        // Makes what later calls find, and compiles the policy.
        for command in ["ADD", "DEL"] {
            measure::call(&lab, &lab.call_for("bridge", command, container, "eth0").config(config))?;
        }
        for command in ["ADD", "DEL", "VERSION"] {
            let call = lab
                .call_binary(env::current_exe()?, command)
                .variable(TRACED, lab.bin.join("bridge"))
                .variable("CNI_CONTAINERID", &container.id)
                .variable("CNI_NETNS", &container.path)
                .variable("CNI_IFNAME", "eth0")
                .config(config);
            lab.node.enter(|| program.follow(&call, &mut order))?;
        }
        Ok(())
    })?;
    let mut seen = HashSet::new();
    order.retain(|address| seen.insert(*address));
    let names: Vec<&str> =
        order.iter().flat_map(|address| &program.functions[address]).map(String::as_str).collect();
    fs::write(list(), names.join("\n") + "\n")?;
    println!("{} functions in {}", names.len(), list().display());
    Ok(())
}

/// weir's executable.
struct Program {
    /// The code, and where it is loaded.
    text: Vec<u8>,
    start: u64,
    /// The names of functions by their addresses.
    functions: BTreeMap<u64, Vec<String>>,
}

impl Program {
    fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let file =
            object::File::parse(bytes.as_slice()).with_context(|| format!("read {}", path.display()))?;
        let text = file.section_by_name(".text").context("it has no .text")?;
        let mut functions: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        for symbol in file.symbols() {
            let is_inside =
                symbol.address() >= text.address() && symbol.address() < text.address() + text.size();
            if symbol.kind() == SymbolKind::Text && symbol.size() > 0 && is_inside {
                functions.entry(symbol.address()).or_default().push(symbol.name()?.to_owned());
            }
        }
        Ok(Self { text: text.data()?.to_owned(), start: text.address(), functions })
    }

    /// Runs a call to its end, and adds the functions that it runs.
    fn follow(&self, call: &Call, order: &mut Vec<u64>) -> Result<()> {
        let child = call.program().start_with_input()?;
        let pid = Pid::from_raw(i32::try_from(child.id())?);
        ensure!(
            matches!(waitpid(pid, None)?, WaitStatus::Stopped(_, Signal::SIGTRAP)),
            "the call did not stop when it was executed"
        );
        ptrace::setoptions(pid, ptrace::Options::PTRACE_O_EXITKILL)?;
        let base = base(pid)?;
        let memory = File::options().write(true).open(format!("/proc/{pid}/mem"))?;
        let mut text = self.text.clone();
        for address in self.functions.keys() {
            text[usize::try_from(address - self.start)?] = BREAKPOINT;
        }
        memory.write_all_at(&text, base + self.start).context("set the breakpoints")?;
        let mut signal = None;
        loop {
            ptrace::cont(pid, signal.take())?;
            match waitpid(pid, None)? {
                WaitStatus::Exited(_, 0) => return Ok(()),
                WaitStatus::Stopped(_, Signal::SIGTRAP) => {
                    let address = resume_at_breakpoint(pid)? - base;
                    let original = self.text[usize::try_from(address - self.start)?];
                    memory.write_all_at(&[original], base + address)?;
                    order.push(address);
                }
                WaitStatus::Stopped(_, other) => signal = Some(other),
                status => bail!("the call ended with {status:?}"),
            }
        }
    }
}

/// Where the first page of the executable is.
fn base(pid: Pid) -> Result<u64> {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
    let path = fs::read_link(format!("/proc/{pid}/exe"))?;
    let line = maps
        .lines()
        .find(|line| line.ends_with(&*path.to_string_lossy()))
        .context("the process does not map its executable")?;
    let start = line.split('-').next().unwrap_or_default();
    u64::from_str_radix(start, 16).with_context(|| format!("read {line}"))
}

/// Goes back to the instruction that a breakpoint replaced; returns its address.
#[cfg(target_arch = "x86_64")]
fn resume_at_breakpoint(pid: Pid) -> Result<u64> {
    let mut registers = ptrace::getregs(pid)?;
    registers.rip -= 1;
    ptrace::setregs(pid, registers)?;
    Ok(registers.rip)
}

#[cfg(not(target_arch = "x86_64"))]
fn resume_at_breakpoint(_: Pid) -> Result<u64> {
    bail!("only breakpoints of x86-64 are known")
}
