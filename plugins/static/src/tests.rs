use std::net::IpAddr;

use weir_sdk::double::Node;
use weir_sdk::request::{Attachment, Network};
use weir_sdk::types::Dns;
use weir_sdk::{CniError, CniResult, IpNet, IpamPlugin, IpamResult};

use crate::Static;

/// An address of each family, of which one has a gateway.
const BOTH: &str = r#"{"type": "static", "addresses": [
    {"address": "10.1.0.5/24", "gateway": "10.1.0.1"}, {"address": "fd00::5/64"}
]}"#;

fn attachment(ipam: &str) -> Attachment {
    asked(ipam, "")
}

/// With wishes of the runtime: further keys of the configuration.
fn asked(ipam: &str, keys: &str) -> Attachment {
    Attachment::new(&format!(r#"{{"cniVersion": "1.1.0", "name": "net", "ipam": {ipam}{keys}}}"#))
}

/// The addresses and gateways of a result.
fn given(result: &IpamResult) -> Vec<String> {
    let gateway =
        |gateway: Option<_>| gateway.map_or("none".to_owned(), |gateway| IpAddr::from(gateway).to_string());
    result.ips.iter().map(|ip| format!("{} by {}", IpNet::from(ip.address), gateway(ip.gateway))).collect()
}

#[track_caller]
fn refusal<T: std::fmt::Debug>(done: Result<T, CniError>, code: u32, text: &str) {
    let error = done.unwrap_err();
    assert_eq!(error.code, code, "{error:?}");
    assert!(error.message.contains(text), "{error:?}");
}

#[test]
fn add_hands_out_the_addresses_of_the_configuration_in_their_order() {
    let _node = Node::new();
    let result = Static::add(&attachment(BOTH)).unwrap();
    assert_eq!(given(&result), ["10.1.0.5/24 by 10.1.0.1", "fd00::5/64 by none"]);
    assert!(result.ips.iter().all(|ip| ip.interface.is_none()));
    assert!(result.routes.is_empty());
    assert_eq!(result.dns, Dns::none());
}

#[test]
fn nothing_is_kept() {
    let node = Node::new();
    let (first, second) = (attachment(BOTH), attachment(BOTH).with_container("second"));
    assert_eq!(given(&Static::add(&first).unwrap()), given(&Static::add(&second).unwrap()));
    assert!(node.leases().is_empty());
}

#[test]
fn no_address_is_an_answer_too() {
    let _node = Node::new();
    for ipam in ["{}", r#"{"addresses": []}"#, r#"{"addresses": null, "routes": null, "dns": null}"#] {
        assert!(Static::add(&attachment(ipam)).unwrap().ips.is_empty(), "{ipam}");
    }
}

#[test]
fn an_empty_gateway_is_none() {
    let _node = Node::new();
    let result = Static::add(&attachment(r#"{"addresses": [{"address": "10.1.0.5/24", "gateway": ""}]}"#));
    assert_eq!(given(&result.unwrap()), ["10.1.0.5/24 by none"]);
}

#[test]
fn routes_are_passed_on_with_all_that_they_say() {
    let _node = Node::new();
    let result = Static::add(&attachment(
        r#"{"routes": [
            {"dst": "10.8.1.2/16", "gw": "10.1.0.9", "mtu": 1400, "advmss": 1300, "priority": 5, "table": 100, "scope": 253},
            {"dst": "::/0", "gw": ""}
        ]}"#,
    ));
    let [first, second] = &result.unwrap().routes[..] else { panic!("two routes") };
    assert_eq!(IpNet::from(first.destination).to_string(), "10.8.0.0/16", "the network, without host bits");
    assert_eq!(first.gateway.map(IpAddr::from), Some("10.1.0.9".parse().unwrap()));
    assert_eq!((first.mtu, first.advmss, first.priority), (Some(1400), Some(1300), Some(5)));
    assert_eq!((first.table, first.scope), (Some(100), Some(253)));
    assert_eq!(IpNet::from(second.destination).to_string(), "::/0");
    assert_eq!((second.gateway, second.mtu, second.scope), (None, None, None));
}

#[test]
fn name_resolution_is_passed_on() {
    let _node = Node::new();
    let result = Static::add(&attachment(
        r#"{"dns": {"nameservers": ["10.0.0.53"], "domain": "a.b", "search": ["c.d"], "options": ["ndots:5"]}}"#,
    ));
    let dns = result.unwrap().dns;
    assert_eq!((&dns.nameservers[..], dns.domain.as_deref()), (&["10.0.0.53".to_owned()][..], Some("a.b")));
    assert_eq!((&dns.search[..], &dns.options[..]), (&["c.d".to_owned()][..], &["ndots:5".to_owned()][..]));
}

#[test]
fn addresses_of_the_arguments_come_after_those_of_the_configuration() {
    let _node = Node::new();
    let attachment = attachment(BOTH).with_arguments([("IP", "10.2.0.7/24, fd01::7/64")]);
    assert_eq!(
        given(&Static::add(&attachment).unwrap()),
        ["10.1.0.5/24 by 10.1.0.1", "fd00::5/64 by none", "10.2.0.7/24 by none", "fd01::7/64 by none"]
    );
}

#[test]
fn a_gateway_of_the_arguments_belongs_to_the_address_whose_network_it_is_in() {
    let _node = Node::new();
    let attachment = attachment("{}").with_arguments([
        ("IP", "10.2.0.7/24,fd01::7/64,10.3.0.7/24"),
        ("GATEWAY", "fd01::1,10.9.0.1, 10.2.0.1"),
    ]);
    assert_eq!(
        given(&Static::add(&attachment).unwrap()),
        ["10.2.0.7/24 by 10.2.0.1", "fd01::7/64 by fd01::1", "10.3.0.7/24 by none"]
    );
}

#[test]
fn a_gateway_of_the_arguments_is_not_for_addresses_of_the_configuration() {
    let _node = Node::new();
    let attachment = attachment(BOTH).with_arguments([("GATEWAY", "10.1.0.254,fd00::fe")]);
    assert_eq!(
        given(&Static::add(&attachment).unwrap()),
        ["10.1.0.5/24 by 10.1.0.1", "fd00::5/64 by none"],
        "as the reference plugin has it"
    );
}

#[test]
fn what_the_runtime_asks_for_replaces_all_else() {
    let _node = Node::new();
    let args = r#", "args": {"cni": {"ips": ["10.3.0.7/24", "fd03::7/64"]}}"#;
    let runtime = r#", "runtimeConfig": {"ips": ["10.4.0.7/24"]}"#;
    let given = |keys: &str| {
        let asked = asked(BOTH, keys).with_arguments([("IP", "10.2.0.7/24"), ("GATEWAY", "10.3.0.1")]);
        given(&Static::add(&asked).unwrap())
    };
    assert_eq!(given(args), ["10.3.0.7/24 by none", "fd03::7/64 by none"]);
    assert_eq!(given(runtime), ["10.4.0.7/24 by none"]);
    assert_eq!(given(&format!("{args}{runtime}")), ["10.4.0.7/24 by none"], "capabilities win");
}

#[test]
fn a_runtime_that_asks_for_nothing_replaces_nothing() {
    let _node = Node::new();
    let keys = r#", "args": {"cni": {"ips": []}}, "runtimeConfig": {"ips": null}"#;
    assert_eq!(Static::add(&asked(BOTH, keys)).unwrap().ips.len(), 2);
}

#[test]
fn routes_and_name_resolution_stay_when_addresses_are_replaced() {
    let _node = Node::new();
    let ipam = r#"{"routes": [{"dst": "0.0.0.0/0"}], "dns": {"domain": "a.b"}}"#;
    let result = Static::add(&asked(ipam, r#", "runtimeConfig": {"ips": ["10.4.0.7/24"]}"#)).unwrap();
    assert_eq!((result.routes.len(), result.dns.domain.as_deref()), (1, Some("a.b")));
}

#[test]
fn an_address_needs_a_prefix_length_wherever_it_is_written() {
    let _node = Node::new();
    for bad in ["10.1.0.5", "10.1.0.5/33", "10.1.0/24", "fd00::5/129", ""] {
        let configured = attachment(&format!(r#"{{"addresses": [{{"address": "{bad}"}}]}}"#));
        refusal(
            Static::add(&configured),
            CniError::CONFIG,
            "ipam.addresses: the 'address' field is expected",
        );
        for (keys, key) in [("args\": {\"cni", "args.cni.ips"), ("runtimeConfig", "runtimeConfig.ips")] {
            let end = if key.starts_with("args") { "}}" } else { "}" };
            let asked = asked(BOTH, &format!(r#", "{keys}": {{"ips": ["10.4.0.7/24", "{bad}"]{end}"#));
            refusal(
                Static::add(&asked),
                CniError::CONFIG,
                &format!("{key}: the 'address' field is expected"),
            );
        }
    }
    let requested = attachment(BOTH).with_arguments([("IP", "10.2.0.7/24,10.2.0.8")]);
    refusal(Static::add(&requested), CniError::CONFIG, "CNI_ARGS: IP: the 'address' field is expected");
    refusal(Static::add(&requested), CniError::CONFIG, "got: \"10.2.0.8\"");
}

#[test]
fn what_is_no_gateway_is_refused() {
    let _node = Node::new();
    let configured = attachment(r#"{"addresses": [{"address": "10.1.0.5/24", "gateway": "ten"}]}"#);
    refusal(Static::add(&configured), CniError::CONFIG, "\"gateway\": \"ten\" is not an IP address");
    let requested = attachment(BOTH).with_arguments([("IP", "10.2.0.7/24"), ("GATEWAY", "10.2.0.1,ten")]);
    refusal(Static::add(&requested), CniError::ENVIRONMENT, "GATEWAY: \"ten\" is not an IP address");
}

#[test]
fn what_is_no_route_is_refused() {
    let _node = Node::new();
    for (route, reason) in [
        (r#"{"gw": "10.1.0.1"}"#, "key \"ipam.routes\": \"dst\": \"\" is not a network"),
        (r#"{"dst": "10.8.0.0"}"#, "key \"ipam.routes\": \"dst\": \"10.8.0.0\" is not a network"),
        (r#"{"dst": "10.8.0.0/16", "gw": "ten"}"#, "key \"ipam.routes\": \"gw\": \"ten\""),
        (r#"{"dst": "10.8.0.0/16", "mtu": -1}"#, "key \"ipam.routes[0].mtu\""),
    ] {
        let done = Static::add(&attachment(&format!(r#"{{"routes": [{route}]}}"#)));
        refusal(done, CniError::CONFIG, reason);
    }
}

#[test]
fn old_versions_have_room_for_one_address_of_each_family() {
    let _node = Node::new();
    let add = |version: &str, addresses: &[&str]| {
        let addresses: Vec<String> =
            addresses.iter().map(|address| format!(r#"{{"address": "{address}"}}"#)).collect();
        let addresses = addresses.join(",");
        Static::add(&Attachment::new(&format!(r#"{{{version} "ipam": {{"addresses": [{addresses}]}}}}"#)))
    };
    let (ipv4, ipv6) = (["10.1.0.5/24", "10.1.0.6/24"], ["fd00::5/64", "fd00::6/64"]);
    for version in ["", r#""cniVersion": "0.1.0","#, r#""cniVersion": "0.2.0","#] {
        assert_eq!(add(version, &[ipv4[0], ipv6[0]]).unwrap().ips.len(), 2, "{version}");
        for two in [ipv4, ipv6] {
            let text = "does not support more than 1 address per family";
            refusal(add(version, &two), CniError::CONFIG, text);
        }
    }
    for version in ["0.3.0", "0.4.0", "1.1.0"] {
        let version = format!(r#""cniVersion": "{version}","#);
        assert_eq!(add(&version, &[ipv4, ipv6].concat()).unwrap().ips.len(), 4, "{version}");
    }
}

#[test]
fn only_what_is_handed_out_counts_for_old_versions() {
    let _node = Node::new();
    let text = r#"{"cniVersion": "0.2.0", "runtimeConfig": {"ips": ["10.4.0.7/24"]},
        "ipam": {"addresses": [{"address": "10.1.0.5/24"}, {"address": "10.1.0.6/24"}]}}"#;
    assert_eq!(given(&Static::add(&Attachment::new(text)).unwrap()), ["10.4.0.7/24 by none"]);
    let one = r#"{"cniVersion": "0.2.0", "ipam": {"addresses": [{"address": "10.1.0.5/24"}]}}"#;
    let attachment = Attachment::new(one).with_arguments([("IP", "10.2.0.7/24")]);
    refusal(Static::add(&attachment), CniError::CONFIG, "CNI version 0.2.0 does not support");
}

#[test]
fn unknown_arguments_are_refused_unless_the_runtime_says_otherwise() {
    let _node = Node::new();
    let named = ("K8S_POD_NAME", "web");
    refusal(
        Static::add(&attachment(BOTH).with_arguments([named])),
        CniError::ENVIRONMENT,
        "K8S_POD_NAME=web",
    );
    let ignoring =
        attachment(BOTH).with_arguments([named, ("IgnoreUnknown", "1"), ("MAC", "02:00:00:00:00:05")]);
    assert_eq!(Static::add(&ignoring).unwrap().ips.len(), 2);
}

#[test]
fn without_its_part_of_the_configuration_there_is_nothing_to_hand_out() {
    let _node = Node::new();
    let text = r#"{"cniVersion": "1.1.0", "name": "net", "runtimeConfig": {"ips": ["10.4.0.7/24"]}}"#;
    let (attachment, network) = (Attachment::new(text), Network::new(text));
    for refused in [Static::add(&attachment).map(drop), Static::check(&attachment), Static::status(&network)]
    {
        refusal(refused, CniError::CONFIG, "key \"ipam\" is missing");
    }
    // What has to succeed does.
    Static::del(&attachment).unwrap();
    Static::gc(&network).unwrap();
}

#[test]
fn status_is_good_if_the_configuration_can_be_read() {
    let _node = Node::new();
    let network = |ipam: &str| Network::new(&format!(r#"{{"name": "net", "ipam": {ipam}}}"#));
    Static::status(&network(BOTH)).unwrap();
    refusal(Static::status(&network(r#"{"addresses": [{"address": 5}]}"#)), CniError::CONFIG, "addresses[0]");
}

/// CHECK with what stands in `prevResult`.
fn check(ipam: &str, addresses: &[&str]) -> Result<(), CniError> {
    let _node = Node::new();
    let mut answer = Static::add(&attachment(r#"{"addresses": []}"#)).unwrap();
    for address in addresses {
        let one = Static::add(&attachment(&format!(r#"{{"addresses": [{{"address": "{address}"}}]}}"#)));
        answer.ips.extend(one.unwrap().ips);
    }
    for ip in &mut answer.ips {
        ip.interface = Some(2);
    }
    let IpamResult { ips, routes, dns } = answer;
    let result = CniResult { interfaces: Vec::new(), ips, routes, dns };
    Static::check(&attachment(ipam).with_prev_result(result))
}

#[test]
fn check_is_content_if_the_result_has_every_address() {
    check(BOTH, &["10.1.0.5/24", "fd00::5/64"]).unwrap();
    check(BOTH, &["10.9.0.5/24", "fd00::5/64", "10.1.0.5/24"]).unwrap();
}

#[test]
fn check_finds_an_address_that_the_result_has_not() {
    for (present, missing) in [
        (&["fd00::5/64"][..], "10.1.0.5/24"),
        (&["10.1.0.5/24"][..], "fd00::5/64"),
        (&["10.1.0.5/16", "fd00::5/64"][..], "10.1.0.5/24"),
        (&["10.1.0.6/24", "fd00::5/64"][..], "10.1.0.5/24"),
        (&[][..], "10.1.0.5/24"),
    ] {
        let text = format!("static: Failed to find address {missing} in prevResult");
        refusal(check(BOTH, present), CniError::CHANGED, &text);
    }
    let _node = Node::new();
    refusal(Static::check(&attachment(BOTH)), CniError::CHANGED, "10.1.0.5/24");
}
