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
        .collect()
}
