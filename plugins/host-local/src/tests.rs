use std::net::IpAddr;

use weir_sdk::double::Node;
use weir_sdk::request::{Attachment, Network};
use weir_sdk::store::files::FileError;
use weir_sdk::store::leases::StoreError;
use weir_sdk::types::Dns;
use weir_sdk::{CniError, CniResult, IpNet, IpamPlugin, IpamResult};

use crate::HostLocal;

const SUBNET: &str = r#"{"type": "host-local", "subnet": "10.1.0.0/24"}"#;
/// Two sets of IPv4, the first of two ranges, and one of IPv6.
const SETS: &str = r#"{"type": "host-local", "ranges": [
    [{"subnet": "10.1.0.0/30", "gateway": "10.1.0.1"}, {"subnet": "10.1.1.0/30"}],
    [{"subnet": "10.2.0.0/24", "rangeStart": "10.2.0.10", "rangeEnd": "10.2.0.19"}],
    [{"subnet": "fd00::/64"}]
]}"#;

fn config(version: &str, ipam: &str) -> String {
    format!(r#"{{"cniVersion": "{version}", "name": "net", "ipam": {ipam}}}"#)
}

fn attachment(ipam: &str) -> Attachment {
    Attachment::new(&config("1.1.0", ipam))
}

fn network(ipam: &str) -> Network {
    Network::new(&config("1.1.0", ipam))
}

/// The addresses and gateways of a result.
fn given(result: &IpamResult) -> Vec<String> {
    let gateway =
        |gateway: Option<_>| gateway.map_or("none".to_owned(), |gateway| IpAddr::from(gateway).to_string());
    result.ips.iter().map(|ip| format!("{} by {}", IpNet::from(ip.address), gateway(ip.gateway))).collect()
}

fn leased(node: &Node) -> Vec<String> {
    node.leases()
        .iter()
        .map(|lease| format!("{} {} {}", lease.address, lease.id.container_id, lease.id.ifname))
        .collect()
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(done: Result<T, CniError>, code: u32, text: &str) {
    let error = done.unwrap_err();
    assert_eq!(error.code, code, "{error:?}");
    assert!(error.message.contains(text), "{error:?}");
}

fn result_of(answer: &IpamResult) -> CniResult {
    let IpamResult { ips, routes, dns } = answer.clone();
    CniResult { interfaces: Vec::new(), ips, routes, dns }
}

#[test]
fn add_leases_an_address_of_each_set() {
    let node = Node::new();
    let result = HostLocal::add(&attachment(SETS)).unwrap();
    assert_eq!(
        given(&result),
        ["10.1.0.2/30 by 10.1.0.1", "10.2.0.10/24 by 10.2.0.1", "fd00::2/64 by fd00::1"]
    );
    assert_eq!(
        leased(&node),
        ["10.1.0.2 container eth0", "10.2.0.10 container eth0", "fd00::2 container eth0"]
    );
    assert!(result.ips.iter().all(|ip| ip.interface.is_none()));
}

#[test]
fn a_set_goes_on_in_its_next_range_and_with_that_ranges_gateway() {
    let _node = Node::new().with_lease("10.1.0.2", "other", "eth0");
    let result = HostLocal::add(&attachment(SETS)).unwrap();
    assert_eq!(given(&result)[0], "10.1.1.2/30 by 10.1.1.1");
}

#[test]
fn addresses_are_given_in_turn_rather_than_reused_at_once() {
    let _node = Node::new();
    let first = attachment(SUBNET);
    let second = attachment(SUBNET).with_container("second");
    assert_eq!(given(&HostLocal::add(&first).unwrap()), ["10.1.0.2/24 by 10.1.0.1"]);
    HostLocal::del(&first).unwrap();
    assert_eq!(given(&HostLocal::add(&second).unwrap()), ["10.1.0.3/24 by 10.1.0.1"]);
}

#[test]
fn sets_of_the_runtime_come_before_the_subnet_and_the_sets() {
    let _node = Node::new();
    let text = r#"{"cniVersion": "1.1.0", "runtimeConfig": {"ipRanges": [[{"subnet": "10.9.0.0/24"}]]},
        "ipam": {"subnet": "10.1.0.0/24", "gateway": "10.1.0.254", "ranges": [[{"subnet": "fd00::/64"}]]}}"#;
    let result = HostLocal::add(&Attachment::new(text)).unwrap();
    assert_eq!(
        given(&result),
        ["10.9.0.2/24 by 10.9.0.1", "10.1.0.1/24 by 10.1.0.254", "fd00::2/64 by fd00::1"]
    );
}

#[test]
fn addresses_may_be_requested_in_three_ways() {
    let _node = Node::new();
    let text = r#"{"cniVersion": "1.1.0", "args": {"cni": {"ips": ["fd00::77"]}},
        "runtimeConfig": {"ips": ["10.2.0.15/24", "10.1.1.2"]},
        "ipam": {"ranges": [
            [{"subnet": "10.1.0.0/30"}, {"subnet": "10.1.1.0/30"}],
            [{"subnet": "10.2.0.0/24"}], [{"subnet": "fd00::/64"}], [{"subnet": "10.3.0.0/24"}]
        ]}}"#;
    let attachment = Attachment::new(text).with_arguments([("IP", "10.3.0.33")]);
    let result = HostLocal::add(&attachment).unwrap();
    assert_eq!(
        given(&result),
        [
            "10.1.1.2/30 by 10.1.1.1",
            "10.2.0.15/24 by 10.2.0.1",
            "fd00::77/64 by fd00::1",
            "10.3.0.33/24 by 10.3.0.1"
        ]
    );
}

#[test]
fn the_same_address_may_be_requested_twice() {
    let _node = Node::new();
    let text = r#"{"cniVersion": "1.1.0", "args": {"cni": {"ips": ["10.1.0.7"]}}, "ipam": {"subnet": "10.1.0.0/24"}}"#;
    let attachment = Attachment::new(text).with_arguments([("IP", "10.1.0.7")]);
    assert_eq!(given(&HostLocal::add(&attachment).unwrap()), ["10.1.0.7/24 by 10.1.0.1"]);
}

#[test]
fn a_gateway_is_never_leased() {
    let node = Node::new();
    let attachment = attachment(SUBNET).with_arguments([("IP", "10.1.0.1")]);
    refusal(HostLocal::add(&attachment), CniError::CONFIG, "requested ip 10.1.0.1 is subnet's gateway");
    assert!(node.leases().is_empty());
}

#[test]
fn a_taken_address_is_refused_with_its_holder() {
    let _node = Node::new().with_lease("10.1.0.7", "other", "net1");
    let attachment = attachment(SUBNET).with_arguments([("IP", "10.1.0.7")]);
    let added = HostLocal::add(&attachment);
    refusal(
        added.clone(),
        CniError::CONFIG,
        "requested IP address 10.1.0.7 is not available in range set 10.1.0.1-",
    );
    refusal(added, CniError::CONFIG, "other net1");
}

#[test]
fn a_requested_address_of_no_set_is_refused() {
    let _node = Node::new();
    for (number, wish) in ["10.9.0.7", "fd00::7"].into_iter().enumerate() {
        let attachment =
            attachment(SUBNET).with_container(&number.to_string()).with_arguments([("IP", wish)]);
        refusal(
            HostLocal::add(&attachment),
            CniError::CONFIG,
            &format!("failed to allocate all requested IPs: {wish}"),
        );
    }
    let two = r#"{"runtimeConfig": {"ips": ["10.1.0.7", "10.1.0.8"]}, "ipam": {"subnet": "10.1.0.0/24"}}"#;
    refusal(HostLocal::add(&Attachment::new(two)), CniError::CONFIG, "requested IPs: 10.1.0.8");
}

#[test]
fn what_is_no_address_is_refused() {
    let _node = Node::new();
    let attachment = attachment(SUBNET).with_arguments([("IP", "10.1.0")]);
    refusal(HostLocal::add(&attachment), CniError::CONFIG, "\"10.1.0\" is not an IP address");
}

#[test]
fn a_second_add_of_one_attachment_is_refused() {
    let node = Node::new();
    let attachment = attachment(SUBNET);
    HostLocal::add(&attachment).unwrap();
    refusal(HostLocal::add(&attachment), CniError::CONFIG, "10.1.0.2 has been allocated to container");
    assert_eq!(node.leases().len(), 1);
    // Another interface of the container is another attachment.
    HostLocal::add(&attachment.with_ifname("eth1")).unwrap();
    assert_eq!(leased(&node), ["10.1.0.2 container eth0", "10.1.0.3 container eth1"]);
}

#[test]
fn an_exhausted_set_is_named() {
    let _node = Node::new().with_lease("10.1.0.2", "one", "eth0").with_lease("10.1.1.2", "two", "eth0");
    refusal(
        HostLocal::add(&attachment(SETS)),
        CniError::EXHAUSTED,
        "range set: 10.1.0.1-10.1.0.2,10.1.1.1-10.1.1.2",
    );
}

#[test]
fn routes_and_name_resolution_are_copied() {
    let _node = Node::new().with_file("/run/resolv.conf", "nameserver 10.0.0.53\nsearch a.example\n");
    let ipam = r#"{"subnet": "10.1.0.0/24", "resolvConf": "/run/resolv.conf", "routes": [
        {"dst": "10.8.3.4/16", "gw": "10.1.0.9", "mtu": 1400, "priority": 7}, {"dst": "::/0"}
    ]}"#;
    let result = HostLocal::add(&attachment(ipam)).unwrap();
    assert_eq!(result.dns.nameservers, ["10.0.0.53"]);
    assert_eq!(result.dns.search, ["a.example"]);
    let destinations: Vec<IpNet> = result.routes.iter().map(|route| route.destination.into()).collect();
    assert_eq!(destinations, ["10.8.0.0/16".parse().unwrap(), "::/0".parse().unwrap()]);
    assert_eq!(result.routes[0].gateway.map(IpAddr::from), Some("10.1.0.9".parse().unwrap()));
    assert_eq!((result.routes[0].mtu, result.routes[0].priority), (Some(1400), Some(7)));
    assert_eq!(HostLocal::add(&attachment(SUBNET).with_container("other")).unwrap().dns, Dns::none());
}

#[test]
fn nothing_is_leased_if_the_resolver_configuration_is_missing() {
    let node = Node::new();
    let ipam = r#"{"subnet": "10.1.0.0/24", "resolvConf": "/run/resolv.conf"}"#;
    refusal(HostLocal::add(&attachment(ipam)), CniError::IO, "/run/resolv.conf");
    node.fail_next("files.read", FileError::Denied("policy".to_owned()));
    refusal(HostLocal::add(&attachment(ipam)), CniError::DENIED, "policy");
    assert!(node.leases().is_empty());
}

#[test]
fn leases_are_kept_where_the_operator_says() {
    let node = Node::new();
    let attachment = attachment(r#"{"subnet": "10.1.0.0/24", "dataDir": "/run/leases"}"#);
    HostLocal::add(&attachment).unwrap();
    assert_eq!(node.leases()[0].data_dir.as_deref(), Some("/run/leases"));
    HostLocal::del(&attachment).unwrap();
    assert!(node.leases().is_empty());
}

#[test]
fn del_releases_what_the_attachment_holds_even_twice() {
    let node = Node::new().with_lease("10.1.0.9", "container", "eth1");
    let attachment = attachment(SETS);
    HostLocal::add(&attachment).unwrap();
    HostLocal::del(&attachment).unwrap();
    HostLocal::del(&attachment).unwrap();
    assert_eq!(leased(&node), ["10.1.0.9 container eth1"]);
}

#[test]
fn del_does_not_need_valid_ranges_or_arguments() {
    let node = Node::new();
    HostLocal::add(&attachment(SUBNET)).unwrap();
    let broken =
        attachment(r#"{"ranges": [[{"subnet": "10.1.0.1/24"}], []]}"#).with_arguments([("NO", "such")]);
    HostLocal::del(&broken).unwrap();
    assert!(node.leases().is_empty());
}

#[test]
fn check_finds_a_lost_lease() {
    let node = Node::new();
    let added = attachment(SETS);
    let mut result = result_of(&HostLocal::add(&added).unwrap());
    HostLocal::check(&added.clone().with_prev_result(result.clone())).unwrap();
    // Of another plugin in the chain.
    let foreign = IpNet::from(result.ips[0].address);
    assert_eq!(foreign.to_string(), "10.1.0.2/30");
    result.ips[0].address = "192.168.0.1/24".parse::<IpNet>().unwrap().into();
    HostLocal::check(&added.clone().with_prev_result(result.clone())).unwrap();
    // An address that is not the leased one.
    result.ips[1].address = "10.2.0.11/24".parse::<IpNet>().unwrap().into();
    let check = HostLocal::check(&added.clone().with_prev_result(result.clone()));
    refusal(check, CniError::CHANGED, "10.2.0.11 is not leased to container container");
    HostLocal::del(&added).unwrap();
    let check = HostLocal::check(&added.with_prev_result(result));
    refusal(check, CniError::CHANGED, "Failed to find address added by container container");
    assert!(node.leases().is_empty());
}

#[test]
fn gc_releases_what_is_stale_only() {
    let node = Node::new().with_lease("10.1.0.2", "gone", "eth0").with_lease("10.1.0.3", "alive", "eth0");
    HostLocal::gc(&network(SUBNET)).unwrap();
    assert_eq!(node.leases().len(), 2, "nothing is known without a list");
    HostLocal::gc(&network(SUBNET).with_valid_attachments([("alive", "eth0"), ("gone", "eth1")])).unwrap();
    assert_eq!(leased(&node), ["10.1.0.3 alive eth0"]);
}

#[test]
fn status_says_that_a_set_is_full() {
    let _node = Node::new().with_lease("10.1.0.2", "one", "eth0");
    HostLocal::status(&network(SETS)).unwrap();
    // The gateway counts neither as free nor as leased.
    let small = network(r#"{"subnet": "10.1.0.0/30"}"#);
    refusal(HostLocal::status(&small), CniError::UNAVAILABLE, "range set: 10.1.0.1-10.1.0.2 (1 are leased)");
}

#[test]
fn status_knows_no_ranges_that_come_with_calls() {
    let _node = Node::new();
    let with = |capabilities: &str| {
        let network = format!(r#"{{"ipam": {{"type": "host-local"}}, "capabilities": {capabilities}}}"#);
        HostLocal::status(&Network::new(&network))
    };
    with(r#"{"ipRanges": true}"#).unwrap();
    for capabilities in [r#"{"ipRanges": false}"#, r#"{"ips": true}"#, "null"] {
        refusal(with(capabilities), CniError::CONFIG, "no IP ranges specified");
    }
}

#[test]
fn status_says_that_leases_cannot_be_read() {
    let node = Node::new();
    node.fail_next("leases.open", StoreError::Busy("locked".to_owned()));
    refusal(HostLocal::status(&network(SUBNET)), CniError::UNAVAILABLE, "locked");
    node.fail_next("pool.usage", StoreError::Io("the disk is broken".to_owned()));
    refusal(HostLocal::status(&network(SUBNET)), CniError::UNAVAILABLE, "the disk is broken");
    refusal(HostLocal::status(&network(r#"{"subnet": "10.1.0.0/31"}"#)), CniError::CONFIG, "too small");
}

#[test]
fn a_busy_store_is_to_be_tried_again() {
    let node = Node::new();
    node.fail_next("leases.open", StoreError::Busy("locked".to_owned()));
    refusal(HostLocal::add(&attachment(SUBNET)), CniError::TRY_AGAIN, "locked");
}

#[test]
fn unknown_arguments_are_refused_unless_they_are_to_be_ignored() {
    let node = Node::new();
    let attachment = attachment(SUBNET);
    let unknown = attachment.clone().with_arguments([("K8S_POD_NAME", "web"), ("IP", "10.1.0.7")]);
    refusal(HostLocal::add(&unknown), CniError::ENVIRONMENT, "unknown args [\"K8S_POD_NAME=web\"]");
    assert!(node.leases().is_empty());
    let ignored = [("IgnoreUnknown", "true"), ("K8S_POD_NAME", "web"), ("IP", "10.1.0.7")];
    let result = HostLocal::add(&attachment.clone().with_arguments(ignored)).unwrap();
    assert_eq!(given(&result), ["10.1.0.7/24 by 10.1.0.1"]);
    let unclear = attachment.with_arguments([("IgnoreUnknown", "maybe")]);
    refusal(HostLocal::add(&unclear), CniError::ENVIRONMENT, "IgnoreUnknown=maybe");
}

#[test]
fn old_versions_have_room_for_one_address_of_each_family() {
    let node = Node::new();
    refusal(
        HostLocal::add(&Attachment::new(&config("0.2.0", SETS))),
        CniError::CONFIG,
        "CNI version 0.2.0 does not support more than 1 address per family",
    );
    assert!(node.leases().is_empty());
    let dual = r#"{"ranges": [[{"subnet": "10.1.0.0/24"}], [{"subnet": "fd00::/64"}]]}"#;
    assert_eq!(HostLocal::add(&Attachment::new(&config("0.2.0", dual))).unwrap().ips.len(), 2);
}

#[test]
fn configurations_without_usable_ranges_are_refused() {
    let _node = Node::new();
    for (ipam, reason) in [
        ("null", "key \"ipam\" is missing"),
        ("{}", "no IP ranges specified"),
        (r#"{"ranges": [[]]}"#, "invalid range set 0: empty range set"),
        (
            r#"{"subnet": "10.1.0.0/24", "ranges": [[{"subnet": "10.1.0.0/16"}]]}"#,
            "range set 0 overlaps with 1",
        ),
        (
            r#"{"subnet": "10.1.0.0/24", "routes": [{"dst": "everywhere"}]}"#,
            "\"dst\": \"everywhere\" is not a network",
        ),
        (r#"{"subnet": "10.1.0.0/24", "routes": [{"dst": "0.0.0.0/0", "gw": "x"}]}"#, "\"gw\": \"x\""),
        (r#"{"subnet": 7}"#, "ipam.subnet"),
    ] {
        refusal(HostLocal::add(&attachment(ipam)), CniError::CONFIG, reason);
    }
    refusal(HostLocal::add(&Attachment::new("{")), CniError::DECODE, "not valid JSON");
}
