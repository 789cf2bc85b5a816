//! Giving up what a call does not need, before code of others runs in it.
//!
//! The sandbox is what keeps a component from the node. Should one break out
//! of it, it finds itself in a process that may still change networks, as that
//! is what the call is for, but that has no other privilege, sees no files but
//! those of the call, executes nothing and reaches no service of the node.
//!
//! Each piece is given up for good, so that only a process that serves a
//! single call may do it. What the kernel does not know is noted in the audit
//! log, and the call goes on.

mod capabilities;
mod files;
mod needs;
mod program;
mod syscalls;

use std::time::Instant;

use crate::audit::{Outcome, Record};
use crate::boot;
use crate::call::Call;
use crate::catalog::Plugin;
use crate::failure::Failure;
use capabilities::Capabilities;
use files::Files;
use needs::Needs;

/// Confines the process to what is left to do of a call: running a component
/// and taking back what the journal holds.
///
/// Where a native program may have to be executed, which needs more than weir
/// does, only capabilities are given up: the program gets them back.
pub(crate) fn confine(call: &Call, plugin: &Plugin) -> Result<(), Failure> {
    let started = Instant::now();
    let needs = Needs::of(call, plugin);
    // Otherwise these are opened later on, when they cannot be any more.
    if needs.container {
        call.node.container()?;
    }
    boot::id();

    let mut capabilities = Capabilities::lower(&needs);
    let files = Files::open(&needs, &mut capabilities).map_err(Failure::io)?;
    if let Some(program) = &needs.program {
        capabilities.leave_to_program();
        let object = format!("capabilities only: native plugin {program} may have to be executed");
        note(call, &object, Outcome::Done, started);
        return Ok(());
    }
    let pieces: [(&str, Result<(), String>); 3] = [
        ("files (landlock)", files.restrict()),
        ("capabilities", capabilities.give_up()),
        ("system calls (seccomp)", syscalls::restrict()),
    ];
    for (piece, result) in pieces {
        if let Err(reason) = result {
            note(call, piece, Outcome::Failed(&reason), started);
        }
    }
    Ok(())
}

fn note(call: &Call, object: &str, outcome: Outcome<'_>, started: Instant) {
    let (operation, duration) = ("confine", started.elapsed());
    call.audit.add(Record { plugin: &call.key.plugin, digest: "", operation, object, outcome, duration });
}

#[cfg(test)]
mod tests;
