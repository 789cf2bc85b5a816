//! What weir asks of the kernel for a veth pair, beyond what the native
//! plugins do.

use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::network::{BRIDGE, NETWORKS, RICH};
use super::scene::{Scene, addresses};
use crate::Test;

/// So many new containers have to be heard of.
const CONTAINERS: usize = 4;

/// The kernel lets so much time pass between two looks at the carriers of all
/// links.
const QUIET: Duration = Duration::from_millis(1_100);

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

/// Another container and the node hear where the addresses of a new container
/// are. After a second in which no link has changed, the kernel is quick to
/// notice that a port has no carrier yet.
fn neighbors_hear() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 2)?;
    scene.add(0)?;
    hears(&scene, "eth0", |command| scene.lab.in_container(0, command)).context("a container")?;
    hears(&scene, "cni0", |command| scene.lab.on_node(command)).context("the node")
}

/// Whoever `run` asks knows by its link where the addresses of each of several
/// new containers are, and thought that they were elsewhere.
fn hears(scene: &Scene, link: &str, run: impl Fn(&str) -> anyhow::Result<String>) -> anyhow::Result<()> {
    for last in 2..16 {
        for address in [format!("10.1.0.{last}"), format!("fd00:1::{last:x}")] {
            run(&format!("ip neighbor replace {address} lladdr 02:00:00:00:00:99 dev {link} nud stale"))?;
        }
    }
    for number in 0..CONTAINERS {
        thread::sleep(QUIET);
        let result = scene.add(1)?;
        let mac = result["interfaces"][2]["mac"].as_str().context("the result has no hardware address")?;
        for address in addresses(&result)? {
            let known = run(&format!("ip neighbor show {address}"))?;
            ensure!(known.contains(mac), "container {number} has {mac}, and is known as {known}");
        }
        scene.del(1)?;
    }
    Ok(())
}
