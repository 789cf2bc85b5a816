use std::net::IpAddr;

use weir_sdk::double::{Node, Side};
use weir_sdk::net::links::{self, LinkInfo};
use weir_sdk::net::routes::Route;
use weir_sdk::net::types::IpFamily;
use weir_sdk::request::Attachment;
use weir_sdk::{CniError, IpNet};

mod check;
mod container;
mod del;
mod ipam;
mod masquerade;
mod routes;

/// Keys of a configuration with addresses.
const IPAM: &str = r#""ipam": {"type": "host-local"}"#;

fn config(keys: &str) -> String {
    format!(r#"{{"cniVersion": "1.1.0", "name": "net", "type": "ptp", {keys}}}"#)
}

/// With the addresses that the node's IPAM plugin hands out.
fn attachment(keys: &str) -> Attachment {
    let comma = if keys.is_empty() { "" } else { ", " };
    Attachment::new(&config(&format!("{IPAM}{comma}{keys}")))
}

fn node() -> Node {
    Node::new().with_ipam_address("10.1.0.5/24", Some("10.1.0.1"))
}

/// A node whose IPAM plugin hands out addresses of both families.
fn dual() -> Node {
    node().with_ipam_address("fd00::5/64", Some("fd00::1"))
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

/// A route as text, in the manner of ip-route(8).
fn text(route: Route) -> String {
    let destination = IpNet::from(route.destination);
    let gateway = route.gateway.map(|gateway| format!(" via {}", IpAddr::from(gateway)));
    let source = route.source.map(|source| format!(" src {}", IpAddr::from(source)));
    format!(
        "{destination}{}{} scope {}",
        gateway.unwrap_or_default(),
        source.unwrap_or_default(),
        route.scope
    )
}

fn host_routes(node: &Node) -> Vec<String> {
    node.routes(Side::Host, &near(node).name).into_iter().map(text).collect()
}

/// The node's links that are ends of pairs.
fn nears(node: &Node) -> Vec<LinkInfo> {
    node.links(Side::Host).into_iter().filter(|link| link.kind.as_deref() == Some("veth")).collect()
}

fn near(node: &Node) -> LinkInfo {
    let [near] = &nears(node)[..] else { panic!("one pair: {:?}", nears(node)) };
    near.clone()
}

fn far() -> links::Link {
    links::container().unwrap().link("eth0").unwrap()
}

/// Nothing has become of the node.
#[track_caller]
fn untouched(node: &Node) {
    assert!(nears(node).is_empty() && node.link(Side::Container, "eth0").is_none());
    assert!(!node.forwards(Side::Host, IpFamily::Ipv4) && !node.forwards(Side::Host, IpFamily::Ipv6));
    assert!(node.masqueraded().is_empty());
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(done: Result<T, CniError>, code: u32, text: &str) {
    let error = done.unwrap_err();
    assert_eq!(error.code, code, "{error:?}");
    assert!(error.message.contains(text), "{error:?}");
}
