//! `host-local`, under `bridge` and called by itself.

use super::{Case, Step};

fn bridge(name: &str, config: &'static str) -> Case {
    Case::new("bridge", name, config)
}

/// `host-local` as it is called by a native plugin: with the configuration of
/// the interface plugin.
fn direct(name: &str, config: &'static str) -> Case {
    Case::new("host-local", name, config)
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = ranges();
    cases.extend(requests());
    cases.extend(dns());
    cases.extend(called_directly());
    cases
}

fn ranges() -> Vec<Case> {
    vec![
        bridge(
            "leases of both families",
            r#"{"isGateway":true,"ipam":{"type":"host-local",
                "ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64"}]],
                "routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0"}]}}"#,
        ),
        bridge(
            "leases of both families in version 0.2.0",
            r#"{"isGateway":true,"ipam":{"type":"host-local",
                "subnet":"10.1.0.0/24","routes":[{"dst":"0.0.0.0/0"}]}}"#,
        )
        .version("0.2.0"),
        bridge(
            "leases of both families in version 0.3.1",
            r#"{"isGateway":true,"ipam":{"type":"host-local",
                "ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64"}]]}}"#,
        )
        .version("0.3.1"),
        bridge("leases of IPv6 alone", r#"{"isGateway":true,"ipam":{"type":"host-local","subnet":"fd00:1::/64"}}"#),
        bridge(
            "leases of IPv6 alone in version 0.1.0",
            r#"{"ipam":{"type":"host-local","subnet":"fd00:1::/64","routes":[{"dst":"fd00:9::/32"}]}}"#,
        )
        .version("0.1.0"),
        bridge(
            "leases between two ends",
            r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/16","rangeStart":"10.1.3.20","rangeEnd":"10.1.3.21","gateway":"10.1.3.254"}}"#,
        ),
        bridge(
            "leases of a set of two ranges",
            r#"{"ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24","rangeStart":"10.1.0.5","rangeEnd":"10.1.0.5"},
                {"subnet":"10.2.0.0/24"}]]}}"#,
        ),
        bridge(
            "leases of three sets",
            r#"{"ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"10.2.0.0/16","gateway":"10.2.9.9"}],
                [{"subnet":"fd00:1::/120"}]]}}"#,
        ),
        bridge(
            "leases of the flat subnet and of ranges",
            r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/24","rangeStart":"10.1.0.100",
                "ranges":[[{"subnet":"fd00:1::/64","rangeStart":"fd00:1::100"}]]}}"#,
        ),
        bridge(
            "leases of ranges of the runtime",
            r#"{"capabilities":{"ipRanges":true},"runtimeConfig":{"ipRanges":[[{"subnet":"10.7.0.0/24"}],[{"subnet":"fd00:7::/64"}]]},
                "ipam":{"type":"host-local"}}"#,
        ),
        bridge(
            "leases of ranges of the runtime before its own",
            r#"{"runtimeConfig":{"ipRanges":[[{"subnet":"10.7.0.0/24","rangeStart":"10.7.0.9"}]]},
                "ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#,
        ),
        bridge("leases of the smallest subnet", r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/30","gateway":"10.1.0.3"}}"#),
        bridge(
            "leases around the pool",
            r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/29","rangeStart":"10.1.0.3","rangeEnd":"10.1.0.4"}}"#,
        )
        .steps([Step::Add(0), Step::Add(1), Step::Del(0), Step::Add(2), Step::Del(1), Step::Add(0), Step::Del(2)]),
        bridge(
            "keeps leases in a directory of its own",
            r#"{"ipam":{"type":"host-local","dataDir":"/var/lib/cni/elsewhere","subnet":"10.1.0.0/24"}}"#,
        ),
    ]
}

fn requests() -> Vec<Case> {
    let one = |case: Case| case.steps([Step::Add(0), Step::Check(0), Step::Del(0), Step::Del(0)]);
    vec![
        one(bridge("leases the address in CNI_ARGS", r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#)
            .arguments("IP=10.1.0.77;IgnoreUnknown=1")),
        one(bridge("leases the address in CNI_ARGS without IgnoreUnknown", r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#)
            .arguments("IP=10.1.0.77")),
        one(bridge("leases the address of a pod of Kubernetes", r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#)
            .arguments("K8S_POD_NAME=p;K8S_POD_NAMESPACE=n;IP=10.1.0.77;K8S_POD_INFRA_CONTAINER_ID=c1;IgnoreUnknown=1")),
        one(bridge(
            "leases the addresses in args",
            r#"{"args":{"cni":{"ips":["10.1.0.78","fd00:1::78"]}},"ipam":{"type":"host-local",
                "ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64"}]]}}"#,
        )),
        one(bridge(
            "leases the addresses of the runtime",
            r#"{"capabilities":{"ips":true},"runtimeConfig":{"ips":["10.1.0.79","fd00:1::79"]},"ipam":{"type":"host-local",
                "ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64"}]]}}"#,
        )),
        one(bridge(
            "leases an address with a prefix length",
            r#"{"runtimeConfig":{"ips":["10.1.0.79/24"]},"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#,
        )),
        one(bridge(
            "leases addresses of two sources",
            r#"{"runtimeConfig":{"ips":["10.1.0.79"]},"args":{"cni":{"ips":["10.2.0.80"]}},"ipam":{"type":"host-local",
                "ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"10.2.0.0/24"}],[{"subnet":"fd00:1::/64"}]]}}"#,
        )
        .arguments("IP=fd00:1::81;IgnoreUnknown=1")),
        one(bridge(
            "leases one requested address and one that is free",
            r#"{"runtimeConfig":{"ips":["fd00:1::79"]},"ipam":{"type":"host-local",
                "ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64"}]]}}"#,
        )),
    ]
}

const RESOLV_CONF: &str = "# a comment\ndomain b.test\nsearch b.test c.test\nnameserver 192.0.2.53\nnameserver 2001:db8::53\noptions ndots:3 edns0\n";

fn dns() -> Vec<Case> {
    vec![
        bridge(
            "with resolvConf",
            r#"{"ipam":{"type":"host-local","subnet":"10.1.0.0/24","resolvConf":"{dir}resolv.conf"}}"#,
        )
        .file("resolv.conf", RESOLV_CONF),
        bridge(
            "with dns and resolvConf",
            r#"{"dns":{"nameservers":["10.1.0.1"]},"ipam":{"type":"host-local","subnet":"10.1.0.0/24","resolvConf":"{dir}resolv.conf"}}"#,
        )
        .file("resolv.conf", RESOLV_CONF),
        bridge(
            "with an empty dns",
            r#"{"dns":{},"ipam":{"type":"host-local","subnet":"10.1.0.0/24","resolvConf":"{dir}resolv.conf"}}"#,
        )
        .file("resolv.conf", "nameserver 192.0.2.53\n"),
        bridge(
            "with an empty list in dns",
            r#"{"dns":{"nameservers":[]},"ipam":{"type":"host-local","subnet":"10.1.0.0/24","resolvConf":"{dir}resolv.conf"}}"#,
        )
        .file("resolv.conf", "nameserver 192.0.2.53\n"),
    ]
}

fn called_directly() -> Vec<Case> {
    let config = r#"{"type":"bridge","isGateway":true,"ipam":{"type":"host-local","subnet":"10.1.0.0/24",
        "routes":[{"dst":"0.0.0.0/0"}],"resolvConf":"{dir}resolv.conf"}}"#;
    let of = |version| {
        direct(&format!("called for bridge in version {version}"), config)
            .version(version)
            .file("resolv.conf", RESOLV_CONF)
    };
    let mut cases: Vec<Case> = ["0.2.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"].map(of).into();
    cases.extend([
        direct(
            "called for a plugin that weir does not know",
            r#"{"type":"x-test","ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64"}]]}}"#,
        ),
        direct(
            "called with routes of version 1.1",
            r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"10.1.0.0/24","routes":[
                {"dst":"192.168.0.0/16","mtu":1400,"advmss":1300,"priority":50,"table":7,"scope":253}]}}"#,
        )
        .version("1.1.0"),
        direct(
            "misses the lease",
            r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#,
        )
        .steps([Step::Add(0), Step::OnNode("rm /var/lib/cni/networks/mynet/10.1.0.2"), Step::Changed(0), Step::Del(0)]),
        direct(
            "skips leases of others and ignores what is no lease",
            r#"{"type":"bridge","ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#,
        )
        .first([
            Step::OnNode("mkdir -p /var/lib/cni/networks/mynet"),
            Step::OnNode("cp /proc/sys/kernel/ostype /var/lib/cni/networks/mynet/10.1.0.2"),
            Step::OnNode("cp /proc/sys/kernel/ostype /var/lib/cni/networks/mynet/last_reserved_ip.0"),
            Step::OnNode("cp /proc/sys/kernel/ostype /var/lib/cni/networks/mynet/note.txt"),
        ]),
    ]);
    cases
}
