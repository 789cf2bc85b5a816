//! What weir asks of the kernel for a veth pair, beyond what the native
//! plugins do.

use anyhow::ensure;
use serde_json::Value;

use super::network::{BRIDGE, NETWORKS};
use super::scene::Scene;
use crate::Test;

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

/// What the kernel announces as the container's end comes up gets through the
/// bridge, unless it has just found the port without a carrier.
fn neighbors_hear() -> anyhow::Result<()> {
    let scene = Scene::new(&BRIDGE, 2)?;
    scene.add(0)?;
    let addresses = (3..9).map(|last| format!("10.1.0.{last}"));
    for address in addresses.clone() {
        let old = format!("ip neighbor replace {address} lladdr 02:00:00:00:00:99 dev eth0 nud stale");
        scene.lab.in_container(0, &old)?;
    }
    for address in addresses {
        let result = scene.add(1)?;
        ensure!(result["ips"][0]["address"] == format!("{address}/24"), "{result}");
        let known = scene.lab.in_container(0, &format!("ip neighbor show {address}"))?;
        if result["interfaces"][2]["mac"].as_str().is_some_and(|mac| known.contains(mac)) {
            return Ok(());
        }
        scene.del(1)?;
    }
    anyhow::bail!("a neighbor heard of none of six addresses")
}
