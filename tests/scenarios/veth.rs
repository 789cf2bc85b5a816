//! What weir asks of the kernel for a veth pair, beyond what the native
//! plugins do.

use anyhow::{Context, ensure};
use serde_json::Value;

use super::network::{BRIDGE, NETWORKS, RICH};
use super::scene::{Scene, addresses};
use crate::Test;

/// As many containers as somebody may miss one after the other.
const TRIES: usize = 6;

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

/// Another container and the node hear what the kernel announces as the
/// container's end comes up, unless it has just found the port without a
/// carrier, as it may if no link has changed for a second.
fn neighbors_hear() -> anyhow::Result<()> {
    let scene = Scene::new(&RICH, 2)?;
    scene.add(0)?;
    hears(&scene, "eth0", |command| scene.lab.in_container(0, command)).context("a container")?;
    hears(&scene, "cni0", |command| scene.lab.on_node(command)).context("the node")
}

/// Whoever `run` asks knows by its link where the addresses of one of several
/// new containers are, and thought that they were elsewhere.
fn hears(scene: &Scene, link: &str, run: impl Fn(&str) -> anyhow::Result<String>) -> anyhow::Result<()> {
    for last in 2..16 {
        for address in [format!("10.1.0.{last}"), format!("fd00:1::{last:x}")] {
            run(&format!("ip neighbor replace {address} lladdr 02:00:00:00:00:99 dev {link} nud stale"))?;
        }
    }
    let mut heard = String::new();
    for _ in 0..TRIES {
        let result = scene.add(1)?;
        let mac = result["interfaces"][2]["mac"].as_str().context("the result has no hardware address")?;
        let mut is_known = true;
        heard = format!("{mac} is known as");
        for address in addresses(&result)? {
            let known = run(&format!("ip neighbor show {address}"))?;
            is_known &= known.contains(mac);
            heard.push_str(&known);
        }
        scene.del(1)?;
        if is_known {
            return Ok(());
        }
    }
    anyhow::bail!("it heard of none of {TRIES} containers; {heard}")
}
