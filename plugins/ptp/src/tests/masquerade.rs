use std::net::IpAddr;

use weir_sdk::double::Node;
use weir_sdk::firewall::masquerade;
use weir_sdk::request::Network;
use weir_sdk::{CniError, InterfacePlugin, IpNet};

use super::{IPAM, attachment, config, dual, node, refusal, untouched};
use crate::Ptp;

fn masqueraded(node: &Node) -> Vec<String> {
    let text = |entry: masquerade::Entry| {
        format!("{} outside of {}", IpAddr::from(entry.source), IpNet::from(entry.direct))
    };
    node.masqueraded().into_iter().map(text).collect()
}

#[test]
fn containers_are_masqueraded_outside_of_their_networks_if_asked_for() {
    let node = dual();
    Ptp::add(&attachment(r#""ipMasq": true"#)).unwrap();
    assert_eq!(masqueraded(&node), ["10.1.0.5 outside of 10.1.0.0/24", "fd00::5 outside of fd00::/64"]);
    for keys in ["", r#""ipMasq": false"#, r#""ipMasq": null, "ipMasqBackend": "nftables""#] {
        let node = dual();
        Ptp::add(&attachment(keys)).unwrap();
        assert!(node.masqueraded().is_empty(), "{keys}");
    }
}

#[test]
fn the_backends_of_the_reference_plugin_are_accepted_and_no_others() {
    for backend in ["", "iptables", "nftables"] {
        let node = node();
        Ptp::add(&attachment(&format!(r#""ipMasq": true, "ipMasqBackend": "{backend}""#))).unwrap();
        assert_eq!(masqueraded(&node).len(), 1, "{backend}");
    }
    let node = node();
    let keys = r#""ipMasqBackend": "magic""#;
    let text = "key \"ipMasqBackend\": \"magic\" is neither iptables nor nftables";
    refusal(Ptp::add(&attachment(keys)), CniError::CONFIG, text);
    refusal(Ptp::check(&attachment(keys)), CniError::CONFIG, text);
    refusal(Ptp::status(&Network::new(&config(&format!("{IPAM}, {keys}")))), CniError::CONFIG, text);
    untouched(&node);
    assert!(node.ipam_calls().is_empty());
}
