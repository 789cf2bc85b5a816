use weir_sdk::double::{IpamCall, Side};
use weir_sdk::net::types::NetError;
use weir_sdk::request::Attachment;
use weir_sdk::{CniError, InterfacePlugin};

use super::{attachment, config, dual, nears, node, refusal};
use crate::Ptp;

/// Without addresses.
fn addressless() -> Attachment {
    Attachment::new(&config(r#""mtu": 1400"#))
}

#[test]
fn del_takes_away_what_add_made_even_twice() {
    let node = node();
    let attachment = attachment(r#""ipMasq": true"#);
    Ptp::add(&attachment).unwrap();
    for _ in 0..2 {
        Ptp::del(&attachment).unwrap();
        assert!(nears(&node).is_empty() && node.link(Side::Container, "eth0").is_none());
        assert!(node.masqueraded().is_empty());
    }
    assert_eq!(node.ipam_calls(), [IpamCall::Add, IpamCall::Del, IpamCall::Del]);
}

#[test]
fn del_takes_away_nothing_else() {
    let node = dual();
    Ptp::add(&attachment(r#""ipMasq": true"#)).unwrap();
    let other = attachment(r#""ipMasq": true"#).with_ifname("eth1");
    Ptp::del(&other).unwrap();
    assert_eq!((nears(&node).len(), node.masqueraded().len()), (1, 2));
    assert!(node.link(Side::Container, "eth0").is_some());
}

#[test]
fn del_without_a_namespace_still_releases_the_rest() {
    let node = node();
    let attachment = attachment(r#""ipMasq": true"#);
    Ptp::add(&attachment).unwrap();
    node.container_gone();
    Ptp::del(&attachment).unwrap();
    assert_eq!(node.ipam_calls(), [IpamCall::Add, IpamCall::Del]);
    assert!(node.masqueraded().is_empty());
}

#[test]
fn del_does_not_need_a_valid_configuration() {
    let node = node();
    Ptp::add(&attachment("")).unwrap();
    Ptp::del(&attachment(r#""ipMasqBackend": "magic""#)).unwrap();
    assert!(nears(&node).is_empty());
    Ptp::add(&attachment("")).unwrap();
    Ptp::del(&addressless()).unwrap();
    assert!(nears(&node).is_empty());
    assert_eq!(
        node.ipam_calls(),
        [IpamCall::Add, IpamCall::Del, IpamCall::Add],
        "nobody is asked without ipam"
    );
}

#[test]
fn del_passes_on_what_is_refused() {
    let node = node();
    let attachment = attachment(r#""ipMasq": true"#);
    Ptp::add(&attachment).unwrap();
    for operation in ["masquerade.remove", "link.remove", "links.container"] {
        node.fail_next(operation, NetError::Busy(format!("no {operation}")));
        refusal(Ptp::del(&attachment), CniError::TRY_AGAIN, &format!("no {operation}"));
    }
    assert_eq!(node.ipam_calls(), [IpamCall::Add], "the address is in use as long as the link is there");
    node.fail_next("ipam.del", CniError::new(11, "locked"));
    refusal(Ptp::del(&attachment), 11, "locked");
}
