use weir_sdk::double::{IpamCall, Side};
use weir_sdk::net::types::NetError;
use weir_sdk::{CniError, InterfacePlugin};

use super::{attachment, node, ports, refusal};
use crate::Bridge;

#[test]
fn del_takes_away_what_add_made_even_twice() {
    let node = node();
    let attachment = attachment(r#""ipMasq": true, "macspoofchk": true"#);
    Bridge::add(&attachment).unwrap();
    for _ in 0..2 {
        Bridge::del(&attachment).unwrap();
        assert!(ports(&node).is_empty());
        assert!(node.link(Side::Container, "eth0").is_none());
        assert!(node.masqueraded().is_empty() && node.guards().is_empty());
    }
    assert_eq!(node.ipam_calls(), [IpamCall::Add, IpamCall::Del, IpamCall::Del]);
    assert!(node.link(Side::Host, "br0").is_some(), "the bridge is shared");
}

#[test]
fn del_without_a_namespace_still_releases_the_rest() {
    let node = node();
    let attachment = attachment(r#""ipMasq": true"#);
    Bridge::add(&attachment).unwrap();
    node.container_gone();
    Bridge::del(&attachment).unwrap();
    assert_eq!(node.ipam_calls(), [IpamCall::Add, IpamCall::Del]);
    assert!(node.masqueraded().is_empty());
}

#[test]
fn del_does_not_need_a_valid_configuration() {
    let node = node();
    Bridge::add(&attachment("")).unwrap();
    let broken = attachment(r#""vlan": 9999, "hairpinMode": true, "promiscMode": true"#);
    Bridge::del(&broken.with_arguments([("NO", "such")])).unwrap();
    assert!(ports(&node).is_empty());
}

#[test]
fn del_passes_on_what_the_ipam_plugin_says() {
    let node = node();
    Bridge::add(&attachment("")).unwrap();
    node.fail_next("ipam.del", CniError::new(11, "locked"));
    refusal(Bridge::del(&attachment("")), 11, "locked");
    node.fail_next("link.remove", NetError::Busy("the kernel has no time".to_owned()));
    Bridge::add(&attachment("")).unwrap();
    refusal(Bridge::del(&attachment("")), CniError::TRY_AGAIN, "no time");
}
