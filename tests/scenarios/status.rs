//! STATUS: whether ADD could succeed.

use anyhow::ensure;
use serde_json::{Value, json};

use super::network::{BRIDGE, NETWORKS};
use super::scene::Scene;
use crate::Test;
use crate::lab::Reply;

/// "The plugin is not available".
const UNAVAILABLE: u64 = 50;

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("status: every network of a fresh node is ready", ready),
        Test::new("status: an exhausted pool is unavailable until an address is released", exhausted),
        Test::new("status: one exhausted range set of two is enough", one_of_two),
        Test::new("status: a link in the bridge's place is unavailable", no_bridge),
    ]
}

fn status(scene: &Scene) -> anyhow::Result<Reply> {
    let plugin = scene.plugin();
    // As containerd asks: everything about a container is set and empty.
    let empty = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS"];
    let call = scene.lab.call(plugin, "STATUS").config(&scene.config);
    scene.lab.run(&empty.into_iter().fold(call, |call, name| call.variable(name, "")))
}

fn unavailable(scene: &Scene, words: &[&str]) -> anyhow::Result<()> {
    let error = status(scene)?.failure()?;
    ensure!(error.code == UNAVAILABLE, "the code is {}: {}", error.code, error.text);
    for word in words {
        ensure!(error.text.contains(word), "the error does not mention {word:?}: {}", error.text);
    }
    Ok(())
}

fn ready() -> anyhow::Result<()> {
    for network in NETWORKS.iter().filter(|network| network.version == "1.1.0") {
        let scene = Scene::new(network, 1)?;
        let before = scene.state()?;
        status(&scene)?.silence()?;
        ensure!(scene.state()? == before, "STATUS changed something of {}", network.name);
        scene.add(0)?;
        status(&scene)?.silence()?;
    }
    Ok(())
}

fn with_ranges(ranges: Value, containers: usize) -> anyhow::Result<Scene> {
    let mut scene = Scene::new(&BRIDGE, containers)?;
    scene.config["ipam"] = json!({"type": "host-local", "ranges": ranges});
    Ok(scene)
}

fn exhausted() -> anyhow::Result<()> {
    let scene = with_ranges(
        json!([[{"subnet": "10.1.0.0/29", "rangeStart": "10.1.0.2", "rangeEnd": "10.1.0.3"}]]),
        3,
    )?;
    scene.add(0)?;
    status(&scene)?.silence()?;
    scene.add(1)?;
    unavailable(&scene, &["10.1.0.2", "no IP addresses available"])?;
    let error = scene.lab.run(&scene.call("ADD", 2))?.failure()?;
    ensure!(error.text.contains("no IP addresses available"), "ADD says {}", error.text);
    scene.del(0)?;
    status(&scene)?.silence()?;
    scene.add(2).map(drop)
}

fn one_of_two() -> anyhow::Result<()> {
    let ranges = json!([[{"subnet": "10.1.0.0/24"}],
        [{"subnet": "fd00:1::/64", "rangeStart": "fd00:1::2", "rangeEnd": "fd00:1::2"}]]);
    let scene = with_ranges(ranges, 2)?;
    status(&scene)?.silence()?;
    scene.add(0)?;
    unavailable(&scene, &["fd00:1::2"])?;
    scene.lab.run(&scene.call("ADD", 1))?.failure()?;
    ensure!(scene.leased().len() == 2, "the failed ADD left a lease: {:?}", scene.leased());
    scene.del(0)?;
    status(&scene)?.silence()
}

fn no_bridge() -> anyhow::Result<()> {
    let scene = Scene::new(&BRIDGE, 1)?;
    scene.lab.on_node("ip link add cni0 type veth peer name other")?;
    unavailable(&scene, &["cni0", "not a bridge"])?;
    scene.lab.on_node("ip link delete cni0")?;
    status(&scene)?.silence()
}
