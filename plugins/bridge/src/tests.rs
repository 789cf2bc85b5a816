use std::net::IpAddr;

use weir_sdk::double::{Node, Side};
use weir_sdk::net::{links, routes};
use weir_sdk::request::{Attachment, Network};
use weir_sdk::{CniError, IpNet};

mod check;
mod config;
mod container;
mod del;
mod device;
mod gateway;
mod ipam;
mod port;

/// Keys of a configuration with addresses.
const IPAM: &str = r#""ipam": {"type": "host-local"}"#;

fn config(keys: &str) -> String {
    let comma = if keys.is_empty() { "" } else { ", " };
    format!(r#"{{"cniVersion": "1.1.0", "name": "net", "type": "bridge", "bridge": "br0"{comma}{keys}}}"#)
}

/// Without addresses.
fn layer2(keys: &str) -> Attachment {
    Attachment::new(&config(keys))
}

/// With the addresses that the node's IPAM plugin hands out.
fn attachment(keys: &str) -> Attachment {
    layer2(&if keys.is_empty() { IPAM.to_owned() } else { format!("{IPAM}, {keys}") })
}

fn network(keys: &str) -> Network {
    Network::new(&config(keys))
}

/// A node whose IPAM plugin hands out one address and names no gateway.
fn node() -> Node {
    Node::new().with_ipam_address("10.1.0.5/24", None)
}

/// A node whose IPAM plugin hands out addresses of both families.
fn dual() -> Node {
    node().with_ipam_address("fd00::5/64", None)
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// The routes that the plugin made in the container, as text.
fn routed(node: &Node) -> Vec<String> {
    let routes = node.routes(Side::Container, "eth0").into_iter();
    let text = |route: routes::Route| {
        let gateway = route.gateway.map_or("link".to_owned(), |gateway| IpAddr::from(gateway).to_string());
        format!("{} by {gateway}", IpNet::from(route.destination))
    };
    routes.map(text).collect()
}

/// The node's links that are ends of pairs.
fn ports(node: &Node) -> Vec<links::LinkInfo> {
    node.links(Side::Host).into_iter().filter(|link| link.kind.as_deref() == Some("veth")).collect()
}

fn far() -> links::Link {
    links::container().unwrap().link("eth0").unwrap()
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(done: Result<T, CniError>, code: u32, text: &str) {
    let error = done.unwrap_err();
    assert_eq!(error.code, code, "{error:?}");
    assert!(error.message.contains(text), "{error:?}");
}
