//! What weir asks of the kernel for a veth pair, beyond what the native
//! plugins do.

use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::network::{BRIDGE, NETWORKS, RICH};
use super::scene::{Scene, addresses};
use crate::Test;

/// For longer the kernel does not leave the state of links alone.
const LINKS_REST: Duration = Duration::from_millis(1200);

pub(super) fn tests() -> Vec<Test> {
    [Some(&BRIDGE), NETWORKS.iter().find(|network| network.plugin == "ptp")]
        .into_iter()
        .flatten()
        .map(|network| {
            Test::new(format!("veth: both ends have the one queue that is used, on {}", network.name), || {
                let scene = Scene::new(network, 1)?;
                scene.add(0)?;
                let query = "ip -d -j link show type veth";
                for shown in [scene.lab.on_node(query)?, scene.lab.in_container(0, query)?] {
                    let links: Value = serde_json::from_str(&shown)?;
                    let queues = |key: &str| {
                        links.as_array().map(|links| links.iter().map(|link| link[key].as_u64()).collect())
                    };
                    for key in ["num_tx_queues", "num_rx_queues"] {
                        ensure!(queues(key) == Some(vec![Some(1)]), "{key}: {links}");
                    }
                }
                Ok(())
            })
        })
        .chain([Test::new("veth: a neighbor hears of an address that has moved", neighbors_hear)])
        .collect()
}

/// Another container and the node hear, also when no link has changed for so
/// long that the kernel looks at a new one at once: as soon as it is there it
/// is taken out of service, as it has no carrier yet.
fn neighbors_hear() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 2)?;
    scene.add(0)?;
    let node = |command: &str| scene.lab.on_node(command);
    let container = |command: &str| scene.lab.in_container(0, command);
    for pause in [Duration::ZERO, LINKS_REST, Duration::ZERO] {
        thread::sleep(pause);
        hears(&scene, "eth0", container).with_context(|| format!("a container, after {pause:?}"))?;
        thread::sleep(pause);
        hears(&scene, "cni0", node).with_context(|| format!("the node, after {pause:?}"))?;
    }
    Ok(())
}

/// Whoever `run` asks knows by its link where the addresses of a new container
/// are, and thought that they were elsewhere.
fn hears(scene: &Scene, link: &str, run: impl Fn(&str) -> anyhow::Result<String>) -> anyhow::Result<()> {
    for last in 2..16 {
        for address in [format!("10.1.0.{last}"), format!("fd00:1::{last:x}")] {
            run(&format!("ip neighbor replace {address} lladdr 02:00:00:00:00:99 dev {link} nud stale"))?;
        }
    }
    let result = scene.add(1)?;
    let mac = result["interfaces"][2]["mac"].as_str().context("the result has no hardware address")?;
    for address in addresses(&result)? {
        let known = run(&format!("ip neighbor show {address}"))?;
        ensure!(known.contains(mac), "{address} is at {mac}, and known as: {known}");
    }
    scene.del(1)
}
