use weir_sdk::double::{IpamCall, Node};
use weir_sdk::request::{Attachment, Network};
use weir_sdk::types::Dns;
use weir_sdk::{CniError, InterfacePlugin, IpamResult};

use super::{IPAM, attachment, config, refusal, untouched};
use crate::Ptp;

#[test]
fn name_resolution_is_that_of_ipam_unless_the_configuration_has_its_own() {
    let of_ipam = Dns {
        nameservers: vec!["10.0.0.53".to_owned()],
        domain: Some("ipam.example".to_owned()),
        search: vec!["a.b".to_owned()],
        options: Vec::new(),
    };
    let add = |keys: &str| {
        let answer = IpamResult { ips: Vec::new(), routes: Vec::new(), dns: of_ipam.clone() };
        let _node = Node::new().with_ipam(answer).with_ipam_address("10.1.0.5/24", Some("10.1.0.1"));
        Ptp::add(&attachment(keys)).unwrap().dns
    };
    for none in ["", r#""dns": {}"#, r#""dns": null"#, r#""dns": {"search": null, "domain": ""}"#] {
        assert_eq!(add(none), of_ipam, "{none}");
    }
    for (keys, dns) in [
        (r#""dns": {"options": ["ndots:5"]}"#, Dns { options: vec!["ndots:5".to_owned()], ..Dns::none() }),
        (
            r#""dns": {"domain": "own.example"}"#,
            Dns { domain: Some("own.example".to_owned()), ..Dns::none() },
        ),
    ] {
        assert_eq!(add(keys), dns, "as a whole: {keys}");
    }
}

#[test]
fn without_ipam_there_is_nothing_to_route_to() {
    let node = Node::new();
    for keys in [r#""mtu": 1400"#, r#""ipam": {}"#, r#""ipam": {"type": ""}"#] {
        let (attachment, network) = (Attachment::new(&config(keys)), Network::new(&config(keys)));
        for done in [Ptp::add(&attachment).map(drop), Ptp::check(&attachment), Ptp::status(&network)] {
            refusal(done, CniError::CONFIG, "key \"ipam.type\": required by ptp, and missing");
        }
        Ptp::gc(&network).unwrap();
    }
    untouched(&node);
    assert!(node.ipam_calls().is_empty());
}

#[test]
fn an_address_without_a_gateway_is_refused() {
    let text = "IPAM plugin returned 10.1.0.5/24 without a gateway, which ptp needs";
    let node = Node::new().with_ipam_address("10.1.0.5/24", None);
    refusal(Ptp::add(&attachment("")), CniError::CONFIG, text);
    untouched(&node);
    let node =
        Node::new().with_ipam_address("fd00::5/64", Some("fd00::1")).with_ipam_address("10.1.0.5/24", None);
    refusal(Ptp::add(&attachment("")), CniError::CONFIG, text);
    untouched(&node);
}

#[test]
fn no_link_is_made_if_there_is_no_address() {
    let node = Node::new();
    node.fail_next("ipam.add", CniError::new(106, "all are leased"));
    refusal(Ptp::add(&attachment("")), 106, "all are leased");
    untouched(&node);
    let node = Node::new().with_ipam(IpamResult { ips: Vec::new(), routes: Vec::new(), dns: Dns::none() });
    refusal(Ptp::add(&attachment("")), CniError::CONFIG, "IPAM plugin returned missing IP config");
    untouched(&node);
}

#[test]
fn status_and_gc_are_forwarded_to_the_ipam_plugin() {
    let network = Network::new(&config(IPAM));
    let node = Node::new();
    Ptp::status(&network).unwrap();
    Ptp::gc(&network).unwrap();
    assert_eq!(node.ipam_calls(), [IpamCall::Status, IpamCall::Gc]);
    node.fail_next("ipam.status", CniError::new(50, "exhausted"));
    refusal(Ptp::status(&network), 50, "exhausted");
    node.fail_next("ipam.gc", CniError::new(5, "the disk is broken"));
    refusal(Ptp::gc(&network), 5, "the disk is broken");
}
