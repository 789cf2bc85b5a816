//! DELs under bad conditions: they have to succeed, and to clean up.

use std::fs;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use super::network::{BRIDGE, NETWORKS, Network, RICH};
use super::scene::{Allowed, Scene};
use crate::Test;
use crate::lab::{Call, Facts, Handle};

pub(super) fn tests() -> Vec<Test> {
    let mut tests = vec![
        Test::new("removal: DEL works when there is no component of the plugin's type", without_a_component),
        Test::new(
            "removal: DEL works when called as weir with a type that has no component",
            with_another_type,
        ),
        Test::new("removal: DEL works when the component runs out of time", out_of_time),
        Test::new("removal: DEL works when the configuration has become invalid", with_a_bad_configuration),
        Test::new("removal: DEL works when the bridge was deleted", without_the_bridge),
        Test::new("removal: DEL works when somebody flushed the packet filter", without_the_packet_filter),
        Test::new("removal: DEL leaves a link alone that only has the name of the old one", of_a_namesake),
        Test::new("removal: DEL of what was never added changes nothing", of_nothing),
        Test::new("removal: DELs of one container at the same time all succeed", at_the_same_time),
        Test::new("removal: DEL works when weir itself fails at any change", failing_weir),
    ];
    for network in &NETWORKS {
        let name = network.name;
        tests.push(Test::new(format!("removal: DEL works when the component traps on {name}"), || {
            faulty(network, "trap-before:1")
        }));
        tests.push(Test::new(format!("removal: DEL works when the namespace is gone from {name}"), || {
            gone(network)
        }));
        tests.push(Test::new(
            format!("removal: DEL works twice, with and without prevResult, on {name}"),
            || twice(network),
        ));
        tests.push(Test::new(format!("removal: a killed DEL can be repeated on {name}"), || killed(network)));
    }
    tests
}

/// A node with an attached container, and its state before.
fn attached(network: &'static Network, handle: Handle) -> anyhow::Result<(Scene, Facts, Value)> {
    let mut scene = Scene::new(network, 0)?;
    scene.add_container("c1", handle)?;
    let before = scene.state()?;
    let result = scene.add(0)?;
    Ok((scene, before, result))
}

/// Makes the journal one of a plugin that does not exist.
fn rename_plugin(scene: &Scene) -> anyhow::Result<()> {
    let journals = scene.journals();
    let [journal] = journals.as_slice() else { anyhow::bail!("expected one journal: {journals:?}") };
    let text = fs::read_to_string(journal)?;
    let (header, rest) = text.split_once('\n').context("a journal has a header")?;
    let mut header: Value = serde_json::from_str(header)?;
    ensure!(header["plugin"] == "bridge", "the header names no plugin: {header}");
    header["plugin"] = "vanished".into();
    let name = journal.to_string_lossy().replace(":bridge", ":vanished");
    fs::write(name, format!("{header}\n{rest}"))?;
    Ok(fs::remove_file(journal)?)
}

fn without_a_component() -> anyhow::Result<()> {
    let (mut scene, before, _) = attached(&BRIDGE, Handle::BindMount)?;
    rename_plugin(&scene)?;
    scene.config["type"] = "vanished".into();
    std::os::unix::fs::symlink(scene.lab.bin.join("weir"), scene.lab.bin.join("vanished"))?;
    let call = scene.lab.call_for("vanished", "DEL", &scene.lab.containers[0], "eth0").config(&scene.config);
    scene.silent(&call)?;
    scene.expect(&before, Allowed::Shared)
}

fn with_another_type() -> anyhow::Result<()> {
    let (mut scene, before, _) = attached(&BRIDGE, Handle::Process)?;
    rename_plugin(&scene)?;
    scene.config["type"] = "vanished".into();
    let call = scene.lab.call_for("weir", "DEL", &scene.lab.containers[0], "eth0").config(&scene.config);
    scene.silent(&call)?;
    scene.expect(&before, Allowed::Shared)
}

fn out_of_time() -> anyhow::Result<()> {
    let (scene, before, _) = attached(&RICH, Handle::BindMount)?;
    let call = scene.call("DEL", 0).variable("WEIR_FAULT", "stall-before:2").variable("WEIR_TIMEOUT", "0.4");
    scene.silent(&call)?;
    scene.expect(&before, Allowed::Shared)
}

fn with_a_bad_configuration() -> anyhow::Result<()> {
    let (mut scene, before, _) = attached(&RICH, Handle::BindMount)?;
    scene.config["ipam"]["ranges"] = json!([[{"subnet": "10.99.0.0/24", "rangeStart": "nonsense"}]]);
    scene.config["mtu"] = json!("many");
    scene.config["bridge"] = json!(7);
    scene.del(0)?;
    scene.expect(&before, Allowed::Shared)
}

fn without_the_bridge() -> anyhow::Result<()> {
    let (scene, before, _) = attached(&RICH, Handle::BindMount)?;
    scene.lab.on_node("ip link delete cni0")?;
    scene.del(0)?;
    scene.expect(&before, Allowed::Shared)
}

fn of_a_namesake() -> anyhow::Result<()> {
    let (scene, _, result) = attached(&BRIDGE, Handle::BindMount)?;
    let interfaces = result["interfaces"].as_array().context("the result lists interfaces")?;
    let mut names = interfaces.iter().filter_map(|interface| interface["name"].as_str());
    let port = names.find(|name| name.starts_with("veth")).context("the result lists a veth")?;
    scene.lab.on_node(&format!("ip link delete {port}"))?;
    scene.lab.on_node(&format!("ip link add {port} type veth peer name other"))?;
    scene.del(0)?;
    scene.lab.on_node(&format!("ip link show {port}")).context("DEL took the namesake away")?;
    ensure!(scene.journals().is_empty(), "left are {:?}", scene.journals());
    Ok(())
}

fn without_the_packet_filter() -> anyhow::Result<()> {
    let (scene, before, _) = attached(&RICH, Handle::BindMount)?;
    scene.lab.on_node("nft flush ruleset")?;
    scene.del(0)?;
    scene.expect(&before, Allowed::Shared)
}

fn of_nothing() -> anyhow::Result<()> {
    for network in &NETWORKS {
        let mut scene = Scene::new(network, 1)?;
        let before = scene.state()?;
        scene.del(0).context(network.name)?;
        scene.expect(&before, Allowed::Marks).context(network.name)?;
        scene.del_without_netns(0).context(network.name)?;
        let del = scene.end_container(0)?;
        scene.silent(&del).context(network.name)?;
        scene.expect(&before, Allowed::Marks).context(network.name)?;
    }
    Ok(())
}

fn at_the_same_time() -> anyhow::Result<()> {
    let (scene, before, _) = attached(&RICH, Handle::BindMount)?;
    std::thread::scope(|scope| {
        let calls: Vec<_> = (0..6).map(|_| scope.spawn(|| scene.del(0))).collect();
        calls
            .into_iter()
            .try_for_each(|call| call.join().unwrap_or_else(|cause| std::panic::resume_unwind(cause)))
    })?;
    scene.expect(&before, Allowed::Shared)
}

/// DELs in which something goes wrong, with the namespace and without.
fn faulty(network: &'static Network, fault: &str) -> anyhow::Result<()> {
    for handle in [Handle::BindMount, Handle::Process] {
        let (mut scene, before, _) = attached(network, handle)?;
        let faulty = |call: Call| call.variable("WEIR_FAULT", fault);
        if handle == Handle::BindMount {
            scene.silent(&faulty(scene.call("DEL", 0)))?;
        } else {
            let del = scene.end_container(0)?;
            scene.silent(&faulty(del)).context("with the namespace gone")?;
        }
        scene.expect(&before, Allowed::Shared)?;
    }
    Ok(())
}

fn failing_weir() -> anyhow::Result<()> {
    for change in 1..8 {
        for moment in ["before", "after"] {
            let fault = format!("panic-{moment}:{change}");
            faulty(&RICH, &fault).context(fault)?;
        }
    }
    Ok(())
}

fn gone(network: &'static Network) -> anyhow::Result<()> {
    // The path of a process vanishes, a mount point becomes a plain file.
    for handle in [Handle::BindMount, Handle::Process] {
        let (mut scene, before, _) = attached(network, handle)?;
        let del = scene.end_container(0)?;
        scene.silent(&del)?;
        scene.expect(&before, Allowed::Shared).with_context(|| format!("{handle:?}"))?;
        scene.silent(&del.variable("CNI_NETNS", "")).context("once more, with an empty CNI_NETNS")?;
    }
    Ok(())
}

fn twice(network: &'static Network) -> anyhow::Result<()> {
    for knows_result in [false, true] {
        let (mut scene, before, result) = attached(network, Handle::BindMount)?;
        if knows_result {
            scene.config["prevResult"] = result;
        }
        scene.del(0)?;
        scene.expect(&before, Allowed::Shared)?;
        scene.del(0).context("the second time")?;
        scene.expect(&before, Allowed::Shared).context("the second time")?;
    }
    Ok(())
}

fn killed(network: &'static Network) -> anyhow::Result<()> {
    for change in 1..40 {
        for moment in ["before", "after"] {
            let fault = format!("kill-{moment}:{change}");
            let (scene, before, _) = attached(network, Handle::BindMount)?;
            let call = scene.call("DEL", 0).variable("WEIR_FAULT", &fault);
            let reply = scene.survive(&call)?;
            if reply.is_none() {
                scene.del(0).context(fault.clone())?;
            }
            scene.expect(&before, Allowed::Shared).context(fault)?;
            if let Some(reply) = reply {
                return reply.silence();
            }
        }
    }
    anyhow::bail!("DEL makes too many changes")
}
