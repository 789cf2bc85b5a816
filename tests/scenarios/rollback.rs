//! ADDs that fail half-way: the node has to be as it was before.

use std::{panic, thread};

use anyhow::{Context, ensure};

use super::network::{NETWORKS, Network, RICH};
use super::scene::{Allowed, Scene};
use crate::Test;
use crate::lab::Reply;

/// More changes than this mean that a fault never ends.
const LIMIT: u32 = 80;

const MOMENTS: [&str; 2] = ["before", "after"];

/// `code::TRAPPED`, `code::DEADLINE` and `code::INTERNAL` of weir.
const TRAPPED: u64 = 101;
const DEADLINE: u64 = 102;
const INTERNAL: u64 = 999;

/// The time of a call that is going to exceed it, in seconds.
const SHORT_TIME: &str = "0.6";

/// How many calls wait for their deadline at the same time. With many more
/// the kernel itself comes to a standstill over making and clearing namespaces.
const AT_ONCE: usize = 3;

pub(super) fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::new("rollback: an ADD whose journal has no place changes nothing", no_journal),
        Test::new("rollback: an ADD whose journal does not fit on the disk changes nothing", full_disk),
        Test::new("rollback: a fault of weir itself at any change leaves nothing", || {
            fail_everywhere(&RICH, "panic", false, INTERNAL)
        }),
    ];
    for network in &NETWORKS {
        let name = network.name;
        tests.push(Test::new(format!("rollback: a trap at any change leaves nothing of {name}"), || {
            fail_everywhere(network, "trap", false, TRAPPED)
        }));
        tests.push(Test::new(
            format!("rollback: a trap at any change leaves a neighbour alone on {name}"),
            || fail_everywhere(network, "trap", true, TRAPPED),
        ));
        tests.push(Test::new(format!("rollback: a deadline in mid-ADD leaves nothing of {name}"), || {
            stall(network)
        }));
        tests.push(Test::new(
            format!("rollback: a second ADD changes nothing of the first on {name}"),
            || again(network),
        ));
    }
    tests
}

/// Lets ADD fail at each of its changes. With a neighbour everything that
/// attachments share is there already, and must not be touched either.
fn fail_everywhere(
    network: &'static Network,
    kind: &str,
    has_neighbor: bool,
    code: u64,
) -> anyhow::Result<()> {
    for change in 1..LIMIT {
        for moment in MOMENTS {
            let fault = format!("{kind}-{moment}:{change}");
            if !disturb(network, &fault, has_neighbor, code).context(fault)? {
                ensure!(change > 1, "ADD makes no changes");
                return Ok(());
            }
        }
    }
    anyhow::bail!("ADD makes more than {LIMIT} changes")
}

/// Lets ADD run out of time at each of its changes. The calls do nothing but
/// wait, so some of them can do so at the same time.
fn stall(network: &'static Network) -> anyhow::Result<()> {
    let faults: Vec<String> = (1..=changes(network)?)
        .flat_map(|change| MOMENTS.map(|moment| format!("stall-{moment}:{change}")))
        .collect();
    let one = |fault: &str| {
        let failed = disturb(network, fault, false, DEADLINE).context(fault.to_owned())?;
        ensure!(failed, "{fault}: ADD succeeded");
        Ok(())
    };
    let mut broken = Vec::new();
    for some in faults.chunks(AT_ONCE) {
        thread::scope(|scope| {
            let running: Vec<_> = some.iter().map(|fault| scope.spawn(move || one(fault))).collect();
            broken.extend(
                running
                    .into_iter()
                    .filter_map(|run| run.join().unwrap_or_else(|cause| panic::resume_unwind(cause)).err()),
            );
        });
    }
    let report: Vec<String> = broken.iter().map(|error| format!("{error:#}")).collect();
    ensure!(report.is_empty(), "{}", report.join("\n"));
    Ok(())
}

/// How many changes ADD makes on a fresh node.
pub(super) fn changes(network: &'static Network) -> anyhow::Result<u32> {
    for change in 1..LIMIT {
        let scene = Scene::new(network, 1)?;
        let call = scene.call("ADD", 0).variable("WEIR_FAULT", format!("trap-before:{change}"));
        if matches!(scene.lab.run(&call)?, Reply::Success(_)) {
            return Ok(change - 1);
        }
    }
    anyhow::bail!("ADD makes more than {LIMIT} changes")
}

/// One disturbed ADD on a fresh node; false if the fault is beyond its last
/// change.
fn disturb(network: &'static Network, fault: &str, has_neighbor: bool, code: u64) -> anyhow::Result<bool> {
    let scene = Scene::new(network, if has_neighbor { 2 } else { 1 })?;
    let mut allowed = Allowed::Shared;
    if has_neighbor {
        scene.add(1).context("the neighbour's ADD")?;
        allowed = Allowed::Marks;
    }
    let before = if has_neighbor { scene.settled_state()? } else { scene.state()? };
    let mut call = scene.call("ADD", 0).variable("WEIR_FAULT", fault);
    if fault.starts_with("stall") {
        call = call.variable("WEIR_TIMEOUT", SHORT_TIME);
    }
    let Reply::Failure(error) = scene.lab.run(&call)? else {
        scene.del(0)?;
        scene.expect(&before, allowed).context("after ADD and DEL")?;
        return Ok(false);
    };
    ensure!(error.code == code, "ADD failed with code {}: {}", error.code, error.text);
    ensure!(!error.text.contains("could be undone"), "{}", error.text);
    scene.expect(&before, allowed)?;
    // The runtime sends a DEL after it, and may try again.
    scene.del(0)?;
    scene.expect(&before, allowed).context("after the DEL that follows")?;
    Ok(true)
}

/// ADD of what is attached already: refused, or done as before.
fn again(network: &'static Network) -> anyhow::Result<()> {
    let scene = Scene::new(network, 1)?;
    let before = scene.state()?;
    scene.add(0)?;
    let attached = scene.settled_state()?;
    let reply = scene.lab.run(&scene.call("ADD", 0))?;
    let is_repeatable = network.plugin == "loopback";
    ensure!(matches!(reply, Reply::Success(_)) == is_repeatable, "the second ADD: {reply:?}");
    if is_repeatable {
        // Its journal has grown, which does no harm.
        scene.del(0)?;
        return scene.expect(&before, Allowed::Shared);
    }
    scene.expect(&attached, Allowed::Marks)?;
    scene.del(0)?;
    scene.expect(&before, Allowed::Shared)
}

fn no_journal() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    let before = scene.state()?;
    let call = scene.call("ADD", 0).variable("WEIR_STATE_DIR", "/dev/null");
    let error = scene.lab.run(&call)?.failure()?;
    ensure!(
        error.text.contains("journal") && error.text.contains("/dev/null"),
        "the error is {}",
        error.text
    );
    scene.expect(&before, Allowed::Shared)
}

fn full_disk() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 1)?;
    let before = scene.state()?;
    let place = scene.lab.path("weir").display().to_string();
    // The first journal has a place, so that its directory is there.
    scene.lab.on_node(&format!("mount -t tmpfs -o size=64k tmpfs {place}"))?;
    scene.add(0)?;
    scene.del(0)?;
    let fill = format!("dd if=/dev/zero of={place}/full bs=1k count=128");
    ensure!(scene.lab.on_node(&fill).is_err(), "the disk is not full");
    let error = scene.lab.run(&scene.call("ADD", 0))?.failure()?;
    ensure!(error.text.contains("journal"), "the error is {}", error.text);
    scene.expect(&before, Allowed::Shared)?;
    scene.del(0)?;
    scene.lab.on_node(&format!("rm {place}/full"))?;
    scene.add(0)?;
    scene.del(0)?;
    scene.expect(&before, Allowed::Shared)
}
