//! ADDs of which one system call fails, such as for lack of memory or room: the
//! error says why, and the node is as it was before.

use anyhow::{Context, ensure};

use super::network::{NETWORKS, Network, RICH};
use super::scene::{Allowed, Scene};
use crate::Test;
use crate::lab::Reply;

/// What a call asks of the kernel to change or to tell something, how that
/// fails, and what errors say then.
const KINDS: [(&str, &str, &[&str]); 8] = [
    ("sendto", "ENOBUFS", &["No buffer space available"]),
    ("recvfrom", "ENOBUFS", &["No buffer space available"]),
    ("write", "ENOSPC", &["No space left on device"]),
    ("pwrite64", "ENOSPC", &["No space left on device"]),
    ("renameat2", "ENOSPC", &["No space left on device"]),
    ("open", "ENFILE", TOO_MANY_FILES),
    ("openat", "ENFILE", TOO_MANY_FILES),
    ("openat2", "ENFILE", TOO_MANY_FILES),
];

const TOO_MANY_FILES: &[&str] = &["Too many open files in system", "File table overflow"];

/// Beside a bridge with everything, networks of other plugins.
const OTHERS: [&str; 2] = ["a point-to-point link", "host-local alone"];

/// The network whose IPAM plugin is a program.
const DELEGATING: &str = "a bridge with a native IPAM plugin";

/// `code::INTERNAL` of weir.
const INTERNAL: u64 = 999;

pub(super) fn tests() -> Vec<Test> {
    let others = NETWORKS.iter().filter(|network| OTHERS.contains(&network.name));
    others
        .chain([&RICH])
        .map(|network| {
            let name = network.name;
            Test::new(format!("system calls: one that fails leaves nothing of {name}"), || fail_each(network))
        })
        .chain([
            Test::new("system calls: an ADD whose result nobody can read leaves nothing", unread),
            Test::new("system calls: a fault at the start has an error object", fault_at_the_start),
            Test::new("system calls: a native plugin without a thread for it is ended", no_thread),
        ])
        .collect()
}

/// Lets ADD fail at each of its system calls, one by one.
fn fail_each(network: &'static Network) -> anyhow::Result<()> {
    let scene = Scene::new(network, 1)?;
    // Makes what attachments share.
    scene.add(0)?;
    scene.del(0)?;
    let before = scene.settled_state()?;
    // Not every machine has all of them.
    let kinds = KINDS.map(|(kind, ..)| format!("?{kind}")).join(",");
    let (output, calls) = scene.trace(&scene.call("ADD", 0), &format!("trace={kinds}"))?;
    Reply::read(&output)?.success()?;
    scene.del(0)?;
    for (kind, name, words) in KINDS {
        let made = calls.lines().filter(|line| line.contains(&format!(" {kind}("))).count();
        // The last that is written is the result.
        for number in 1..=if kind == "write" { made - 1 } else { made } {
            let fault = format!("inject={kind}:error={name}:when={number}");
            let (output, _) = scene.trace(&scene.call("ADD", 0), &fault)?;
            let end = || -> anyhow::Result<()> {
                if let Reply::Failure(error) = Reply::read(&output)? {
                    let is_told = words.iter().any(|words| error.text.contains(words));
                    ensure!(is_told, "it does not say why: {}", error.text);
                    ensure!(!error.text.contains("could be undone"), "{}", error.text);
                    scene.expect(&before, Allowed::Marks)?;
                }
                scene.del(0)?;
                scene.expect(&before, Allowed::Marks).context("after DEL")
            };
            end().with_context(|| format!("{kind} number {number}"))?;
        }
    }
    Ok(())
}

fn unread() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    scene.add(0)?;
    scene.del(0)?;
    let before = scene.settled_state()?;
    // Every write to this device fails.
    let shell = ["-c", "exec \"$0\" > /dev/full"];
    let add = || {
        let program = scene.call("ADD", 0).program().clone().executed_by("sh", shell);
        scene.lab.node.enter(|| program.run())
    };
    let output = add()?;
    ensure!(output.status.code() == Some(1), "ADD ended with {}", output.status);
    ensure!(output.stderr.contains("write the result"), "{:?}", output.stderr);
    scene.expect(&before, Allowed::Marks)?;
    ensure!(scene.journals().is_empty(), "the journal still has it");
    // The runtime may ask again, and the attachment of before stays.
    scene.add(0)?;
    let before = scene.settled_state()?;
    add()?;
    scene.expect(&before, Allowed::Marks).context("after a second ADD")?;
    scene.del(0)
}

/// The first random number is for the tables that everything else is in.
fn fault_at_the_start() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    let (output, _) = scene.trace(&scene.call("ADD", 0), "inject=getrandom:error=EIO")?;
    let error = Reply::read(&output)?.failure()?;
    ensure!(error.code == INTERNAL, "it failed with code {}: {}", error.code, error.text);
    Ok(())
}

/// The first that is started is the program, then come threads.
fn no_thread() -> anyhow::Result<()> {
    let network = NETWORKS.iter().find(|network| network.name == DELEGATING);
    let scene = Scene::new(network.context("there is no such network")?, 1)?;
    scene.add(0)?;
    scene.del(0)?;
    let before = scene.settled_state()?;
    for number in [2, 3] {
        let fault = format!("inject=clone,clone3:error=EAGAIN:when={number}");
        let (output, _) = scene.trace(&scene.call("ADD", 0), &fault)?;
        let error = Reply::read(&output)?.failure().with_context(|| format!("start number {number}"))?;
        ensure!(error.text.contains("start a thread"), "{}", error.text);
        scene.expect(&before, Allowed::Marks)?;
        scene.del(0)?;
    }
    Ok(())
}
