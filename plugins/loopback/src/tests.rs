use weir_sdk::double::{Node, Side};
use weir_sdk::net::links;
use weir_sdk::net::types::NetError;
use weir_sdk::request::{Attachment, Network};
use weir_sdk::types::{CniResult, Dns, Interface, IpConfig, Sandbox};
use weir_sdk::{CniError, InterfacePlugin, IpNet};

use crate::Loopback;

/// As containerd calls it, but with the name that others give.
fn attachment() -> Attachment {
    Attachment::new(r#"{"cniVersion": "0.3.1", "name": "cni-loopback"}"#)
}

fn is_up(node: &Node) -> bool {
    node.link(Side::Container, "lo").unwrap().up
}

fn addresses(result: &CniResult) -> Vec<String> {
    result.ips.iter().map(|ip| IpNet::from(ip.address).to_string()).collect()
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(done: Result<T, CniError>, code: u32, text: &str) {
    let error = done.unwrap_err();
    assert_eq!(error.code, code, "{error:?}");
    assert!(error.message.contains(text), "{error:?}");
}

#[test]
fn add_brings_lo_up_whatever_interface_is_named() {
    for ifname in ["lo", "eth0"] {
        let node = Node::new();
        assert!(!is_up(&node));
        let result = Loopback::add(&attachment().with_ifname(ifname)).unwrap();
        assert!(is_up(&node));
        assert_eq!(node.links(Side::Container).len(), 1, "nothing else is made");
        let [lo] = &result.interfaces[..] else { panic!("one interface: {result:?}") };
        assert_eq!((lo.name.as_str(), lo.mac.as_str()), ("lo", "00:00:00:00:00:00"));
        assert_eq!((&lo.sandbox, lo.mtu), (&Sandbox::Container, None));
    }
}

#[test]
fn add_lists_the_addresses_that_the_kernel_gave() {
    let _node = Node::new();
    let result = Loopback::add(&attachment()).unwrap();
    assert_eq!(addresses(&result), ["127.0.0.1/8", "::1/128"]);
    assert!(result.ips.iter().all(|ip| ip.interface == Some(0) && ip.gateway.is_none()));
    assert!(result.routes.is_empty());
    assert_eq!(result.dns, Dns::none());
}

#[test]
fn without_ipv6_there_is_one_address() {
    let _node = Node::new().without_ipv6();
    assert_eq!(addresses(&Loopback::add(&attachment()).unwrap()), ["127.0.0.1/8"]);
}

#[test]
fn of_several_addresses_of_a_family_the_first_is_listed() {
    let _node = Node::new().with_address(Side::Container, "lo", "127.0.0.2/8").with_address(
        Side::Container,
        "lo",
        "127.0.0.3/8",
    );
    assert_eq!(addresses(&Loopback::add(&attachment()).unwrap()), ["127.0.0.2/8", "::1/128"]);
}

#[test]
fn the_result_of_the_plugins_before_is_passed_on_as_it_is() {
    let node = Node::new();
    let eth0 = Interface {
        name: "eth0".to_owned(),
        mac: String::new(),
        mtu: Some(1400),
        sandbox: Sandbox::Container,
    };
    let address = "10.1.0.5/24".parse::<IpNet>().unwrap().into();
    let before = CniResult {
        interfaces: vec![eth0],
        ips: vec![IpConfig { address, gateway: None, interface: Some(0) }],
        routes: Vec::new(),
        dns: Dns { domain: Some("a.b".to_owned()), ..Dns::none() },
    };
    let result = Loopback::add(&attachment().with_prev_result(before.clone())).unwrap();
    assert_eq!(result, before);
    assert!(is_up(&node));
}

#[test]
fn an_address_that_is_not_of_loopback_is_refused() {
    for (address, others) in
        [("10.1.0.5/24", &[][..]), ("10.1.0.5/24", &["127.0.0.2/8"]), ("fd00::5/64", &["::1/128"])]
    {
        let node =
            others.iter().fold(Node::new(), |node, other| node.with_address(Side::Container, "lo", other));
        let _node = node.with_address(Side::Container, "lo", address);
        let text = format!("loopback interface found with non-loopback address \"{address}\"");
        refusal(Loopback::add(&attachment()), CniError::CONFIG, &text);
        let before =
            CniResult { interfaces: Vec::new(), ips: Vec::new(), routes: Vec::new(), dns: Dns::none() };
        refusal(Loopback::add(&attachment().with_prev_result(before)), CniError::CONFIG, &text);
    }
}

#[test]
fn add_says_what_the_kernel_refuses() {
    let node = Node::new();
    node.fail_next("link.set-up", NetError::Busy("the kernel has no time".to_owned()));
    refusal(Loopback::add(&attachment()), CniError::TRY_AGAIN, "no time");
    node.fail_next("addresses.list", NetError::Denied("policy".to_owned()));
    refusal(Loopback::add(&attachment()), CniError::DENIED, "policy");
    node.container_gone();
    refusal(Loopback::add(&attachment()), CniError::KERNEL, "does not exist any more");
}

#[test]
fn del_sets_lo_down_even_twice() {
    let node = Node::new();
    Loopback::add(&attachment()).unwrap();
    for _ in 0..2 {
        Loopback::del(&attachment().with_ifname("eth0")).unwrap();
        assert!(!is_up(&node));
    }
}

#[test]
fn del_does_not_need_the_namespace() {
    let node = Node::new();
    Loopback::add(&attachment()).unwrap();
    node.container_gone();
    Loopback::del(&attachment()).unwrap();
}

#[test]
fn del_does_not_hide_other_failures() {
    let node = Node::new();
    node.fail_next("links.container", NetError::Busy("the kernel has no time".to_owned()));
    refusal(Loopback::del(&attachment()), CniError::TRY_AGAIN, "no time");
    node.fail_next("link.set-up", NetError::Denied("policy".to_owned()));
    refusal(Loopback::del(&attachment()), CniError::DENIED, "policy");
}

#[test]
fn check_finds_lo_down() {
    let node = Node::new();
    refusal(Loopback::check(&attachment()), CniError::CHANGED, "check lo: it is down");
    Loopback::add(&attachment()).unwrap();
    Loopback::check(&attachment()).unwrap();
    links::container().unwrap().link("lo").unwrap().set_up(false).unwrap();
    refusal(Loopback::check(&attachment()), CniError::CHANGED, "check lo: it is down");
    node.container_gone();
    refusal(Loopback::check(&attachment()), CniError::KERNEL, "does not exist any more");
}

#[test]
fn there_is_nothing_to_collect_and_add_can_always_succeed() {
    let node = Node::new();
    let network = Network::new(r#"{"cniVersion": "1.1.0", "name": "net"}"#);
    Loopback::gc(&network.clone().with_valid_attachments([])).unwrap();
    Loopback::status(&network).unwrap();
    assert!(!is_up(&node));
}
