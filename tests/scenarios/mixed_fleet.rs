//! Native plugins and weir on the same node.

use std::collections::HashMap;
use std::sync::Mutex;
use std::{panic, thread};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use super::network::{BRIDGE, Network, RICH, native};
use super::scene::{Allowed, Scene, addresses};
use crate::Test;
use crate::lab::{Call, Container, Handle, Plugins, require};

/// The version that all native plugins speak.
const VERSION: &str = "1.0.0";

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("mixed fleet: native and weir's host-local take turns on one pool", take_turns),
        Test::new(
            "mixed fleet: native and weir's host-local share a pool at the same time",
            at_the_same_time,
        ),
        Test::new("mixed fleet: weir hands out the address after the native plugin's last one", in_order),
        Test::new("mixed fleet: the native bridge asks weir's host-local", native_bridge),
        Test::new("mixed fleet: weir detaches what native plugins attached", weir_detaches),
        Test::new("mixed fleet: native plugins detach what weir attached", native_detaches),
        Test::new(
            "mixed fleet: weir checks and takes away what native plugins put into the packet filter",
            filtered,
        ),
        Test::new("mixed fleet: an address that moved on keeps its masquerading", moved_address),
        Test::new("mixed fleet: weir's bridge and the native one share a bridge", one_bridge),
    ]
}

/// Whose plugin is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Weir,
    Native,
}

impl Side {
    const BOTH: [Self; 2] = [Self::Weir, Self::Native];

    fn other(self) -> Self {
        if self == Self::Weir { Self::Native } else { Self::Weir }
    }
}

fn scene(network: &'static Network, containers: usize) -> anyhow::Result<Scene> {
    let mut scene = Scene::new(network, 0)?;
    for number in 0..containers {
        scene.add_container(&format!("m{number}"), Handle::BindMount)?;
    }
    scene.config["cniVersion"] = VERSION.into();
    Ok(scene)
}

fn call(
    scene: &Scene,
    side: Side,
    plugin: &str,
    command: &str,
    container: &Container,
) -> anyhow::Result<Call> {
    match side {
        Side::Weir => Ok(scene.lab.call_for(plugin, command, container, "eth0").config(&scene.config)),
        Side::Native => scene.native_call(plugin, command, container),
    }
}

/// Calls host-local for an owner that needs no namespace.
fn host_local(scene: &Scene, side: Side, command: &str, owner: &str) -> anyhow::Result<Value> {
    let call = call(scene, side, "host-local", command, &scene.lab.containers[0])?
        .variable("CNI_CONTAINERID", owner);
    scene.lab.run(&call)?.success().with_context(|| format!("{command} of {owner} by {side:?}"))
}

fn lease(scene: &Scene, side: Side, owner: &str) -> anyhow::Result<String> {
    let result = host_local(scene, side, "ADD", owner)?;
    addresses(&result)?.pop().context("host-local returned no address")
}

fn take_turns() -> anyhow::Result<()> {
    let scene = scene(&BRIDGE, 1)?;
    let before = scene.state()?;
    let mut held: HashMap<String, (String, Side)> = HashMap::new();
    for round in 0..3 {
        for number in 0..20 {
            let side = Side::BOTH[(number + round) % 2];
            let owner = format!("owner-{round}-{number}");
            let address = lease(&scene, side, &owner)?;
            if let Some((other, first)) = held.insert(address.clone(), (owner.clone(), side)) {
                anyhow::bail!("{address} went to {other} by {first:?} and to {owner} by {side:?}");
            }
        }
        // Half of them go, half of these by the other side.
        let leaving: Vec<String> = held.keys().take(10).cloned().collect();
        for (number, address) in leaving.into_iter().enumerate() {
            let (owner, side) = held.remove(&address).context("it is held")?;
            host_local(&scene, if number % 2 == 0 { side } else { side.other() }, "DEL", &owner)?;
        }
        let mut leased = scene.leased();
        let mut expected: Vec<String> = held.keys().cloned().collect();
        leased.sort();
        expected.sort();
        ensure!(leased == expected, "leased are {leased:?}, held {expected:?}");
    }
    for (owner, side) in held.into_values() {
        host_local(&scene, side.other(), "DEL", &owner)?;
    }
    expect_no_leases(&scene)?;
    // A journal of weir's whose lease a native plugin has released ends with
    // the runtime's repeated DEL.
    for journal in scene.journals() {
        let name = journal.file_name().context("a journal has a name")?.to_string_lossy().into_owned();
        let owner = name.split(':').nth(1).context("a journal names its container")?;
        host_local(&scene, Side::Weir, "DEL", owner)?;
    }
    scene.expect(&before, Allowed::Shared)
}

fn at_the_same_time() -> anyhow::Result<()> {
    let scene = scene(&BRIDGE, 1)?;
    let held: Mutex<HashMap<String, String>> = Mutex::new(HashMap::new());
    let locked = || held.lock().map_err(|_| anyhow::anyhow!("another worker panicked"));
    let work = |worker: usize| {
        for round in 0..12 {
            let owner = format!("owner-{worker}-{round}");
            let side = Side::BOTH[(worker + round) % 2];
            let address = lease(&scene, side, &owner)?;
            if let Some(other) = locked()?.insert(address.clone(), owner.clone()) {
                anyhow::bail!("{address} is held by {other}, and went to {owner} by {side:?}");
            }
            if round % 3 != 2 {
                // Before it is free, so that nobody else can hold it already.
                locked()?.remove(&address);
                host_local(&scene, if round % 2 == 0 { side } else { side.other() }, "DEL", &owner)?;
            }
        }
        Ok(())
    };
    thread::scope(|scope| {
        let running: Vec<_> = (0..8).map(|worker| scope.spawn(move || work(worker))).collect();
        running.into_iter().try_for_each(|run| run.join().unwrap_or_else(|cause| panic::resume_unwind(cause)))
    })?;
    let mut leased = scene.leased();
    let held = held.into_inner()?;
    let mut expected: Vec<String> = held.keys().cloned().collect();
    leased.sort();
    expected.sort();
    ensure!(leased == expected, "leased are {leased:?}, held {expected:?}");
    for owner in held.values() {
        host_local(&scene, Side::Native, "DEL", owner)?;
    }
    expect_no_leases(&scene)
}

fn in_order() -> anyhow::Result<()> {
    let scene = scene(&BRIDGE, 1)?;
    let sides = [Side::Native, Side::Weir, Side::Weir, Side::Native, Side::Native, Side::Weir];
    for (number, side) in (2..).zip(sides) {
        let address = lease(&scene, side, &format!("owner-{number}"))?;
        ensure!(address == format!("10.1.0.{number}"), "{side:?} handed out {address}, not 10.1.0.{number}");
    }
    Ok(())
}

fn expect_no_leases(scene: &Scene) -> anyhow::Result<()> {
    ensure!(scene.leased().is_empty(), "leases are left: {:?}", scene.leased());
    Ok(())
}

fn native_bridge() -> anyhow::Result<()> {
    let scene = scene(&BRIDGE, 2)?;
    let mixed = scene.lab.path("mixed");
    std::fs::create_dir(&mixed)?;
    std::os::unix::fs::symlink(native("bridge")?, mixed.join("bridge"))?;
    std::os::unix::fs::symlink(scene.lab.bin.join("weir"), mixed.join("host-local"))?;
    let before = scene.state()?;
    let calls = |command: &str| -> anyhow::Result<Vec<Value>> {
        let one = |container: &Container| {
            let call = call(&scene, Side::Native, "bridge", command, container)?.variable("CNI_PATH", &mixed);
            scene.lab.run(&call)?.success().context(command.to_owned())
        };
        scene.lab.containers.iter().map(one).collect()
    };
    let results = calls("ADD")?;
    ensure!(scene.journals().len() == 2, "weir's host-local was not asked: {:?}", scene.journals());
    ensure!(addresses(&results[0])? != addresses(&results[1])?, "both have {:?}", addresses(&results[0])?);
    ensure!(scene.leased().len() == 2, "leased are {:?}", scene.leased());
    calls("DEL")?;
    scene.expect(&before, Allowed::Shared)?;
    calls("DEL")?;
    scene.expect(&before, Allowed::Shared)
}

/// Attaches by one side and detaches by the other.
fn cross(side: Side, has_netns: bool) -> anyhow::Result<(Scene, crate::lab::Facts)> {
    let scene = scene(&BRIDGE, 1)?;
    let before = scene.state()?;
    let container = &scene.lab.containers[0];
    scene.lab.run(&call(&scene, side, "bridge", "ADD", container)?)?.success()?;
    let mut del = call(&scene, side.other(), "bridge", "DEL", container)?;
    if !has_netns {
        del = del.variable("CNI_NETNS", "");
    }
    scene.silent(&del)?;
    expect_no_leases(&scene)?;
    Ok((scene, before))
}

fn weir_detaches() -> anyhow::Result<()> {
    let (scene, before) = cross(Side::Native, true)?;
    scene.expect(&before, Allowed::Shared)?;
    // Nobody can find the link then, but the lease is released.
    cross(Side::Native, false).map(drop).context("with an empty CNI_NETNS")
}

fn native_detaches() -> anyhow::Result<()> {
    let (scene, before) = cross(Side::Weir, true)?;
    // Native plugins know nothing of the journal. It must not be in the way of
    // the next attachment, and its end is the next DEL.
    let result = scene.add(0).context("ADD after the native plugin's DEL")?;
    scene.check(0, &result)?;
    scene.del(0)?;
    scene.expect(&before, Allowed::Shared)
}

/// A node on which weir took the place of native plugins while containers run.
fn filtered() -> anyhow::Result<()> {
    let mut backends = vec![None];
    // Which newer ones have.
    if Plugins::native()?.supports("bridge", "1.1.0")? {
        backends.push(Some("nftables"));
    }
    for backend in backends {
        let mut scene = scene(&RICH, 2)?;
        if let Some(backend) = backend {
            scene.config["ipMasqBackend"] = backend.into();
        }
        let rules = || -> anyhow::Result<Vec<String>> {
            let text = scene.lab.on_node("nft list ruleset")?;
            let is_one = |line: &&str| {
                line.contains(" comment \"") || line.contains("CNI-") || line.contains("cni-br")
            };
            Ok(text.lines().filter(is_one).map(|line| line.trim().to_owned()).collect())
        };
        let before = scene.state()?;
        let mut made = Vec::new();
        for container in &scene.lab.containers {
            let add = call(&scene, Side::Native, "bridge", "ADD", container)?;
            made.push((scene.lab.run(&add)?.success()?, rules()?.len()));
        }
        let [(first, of_first), (second, of_both)] = made.as_slice() else { bail!("there are two") };
        require(*of_first >= 6, "the native plugins filter packets where nf_tables does not see it")?;
        for (number, result) in [first, second].into_iter().enumerate() {
            scene.check(number, result)?;
        }
        scene.del(0)?;
        ensure!(rules()?.len() == of_both - of_first, "DEL leaves {:?}", rules()?);
        scene.check(1, second)?;
        scene.del_without_netns(1)?;
        ensure!(rules()?.is_empty(), "DEL leaves {:?}", rules()?);
        scene.del(1)?;
        scene.expect(&before, Allowed::Shared)?;
    }
    Ok(())
}

/// A native plugin detaches a container of weir's, whose masquerading stays.
/// The address goes to another container; the late DEL of the first one must
/// not take anything from it.
fn moved_address() -> anyhow::Result<()> {
    let mut scene = scene(&RICH, 2)?;
    scene.config["ipam"] = json!({"type": "host-local", "subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.2"});
    let before = scene.state()?;
    let first = scene.add(0)?;
    // Not with ipMasq, for which it would need programs.
    let mut plain = scene.config.clone();
    for key in ["ipMasq", "macspoofchk"] {
        plain[key] = false.into();
    }
    let del = call(&scene, Side::Native, "bridge", "DEL", &scene.lab.containers[0])?.config(&plain);
    scene.silent(&del)?;
    let second = scene.add(1).context("ADD of the second container")?;
    ensure!(addresses(&first)? == addresses(&second)?, "the address did not move on");
    let attached = scene.state()?;
    let masqueraded = |facts: &crate::lab::Facts| {
        facts.keys().filter(|key| key.contains("masquerade4") && key.contains("n:m1:")).count()
    };
    ensure!(masqueraded(&attached) == 1, "the second container is not masqueraded");
    scene.del(0).context("the late DEL of the first container")?;
    let later = scene.state()?;
    ensure!(masqueraded(&later) == 1, "the late DEL took the second container's masquerading");
    ensure!(scene.leased().len() == 1, "the late DEL released the second container's lease");
    scene.check(1, &second)?;
    scene.del(1)?;
    scene.expect(&before, Allowed::Shared)
}

fn one_bridge() -> anyhow::Result<()> {
    let scene = scene(&BRIDGE, 4)?;
    let before = scene.state()?;
    for (number, container) in scene.lab.containers.iter().enumerate() {
        let side = Side::BOTH[number % 2];
        scene
            .lab
            .run(&call(&scene, side, "bridge", "ADD", container)?)?
            .success()
            .with_context(|| format!("{side:?}"))?;
    }
    for (own, container) in (2..).zip(&scene.lab.containers) {
        for number in (1..6).filter(|number| *number != own) {
            let address = format!("10.1.0.{number}").parse()?;
            let answers = crate::lab::reaches(&container.namespace, address)?;
            ensure!(answers, "{} does not reach {address}", container.id);
        }
    }
    for (number, container) in scene.lab.containers.iter().enumerate() {
        scene.silent(&call(&scene, Side::BOTH[number % 2], "bridge", "DEL", container)?)?;
    }
    scene.expect(&before, Allowed::Shared)
}
