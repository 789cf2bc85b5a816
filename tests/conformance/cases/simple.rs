//! `static` and `loopback`.

use super::{Case, Step};

fn with_static(name: &str, config: &'static str) -> Case {
    Case::new("bridge", name, config).steps([Step::Add(0), Step::Check(0), Step::Del(0), Step::Del(0)])
}

fn direct(name: &str, config: &'static str) -> Case {
    Case::new("static", name, config).steps([Step::Add(0), Step::Check(0), Step::Del(0), Step::Del(0)])
}

fn loopback(name: &str, config: &'static str) -> Case {
    let mut case = Case::new("loopback", name, config);
    case.ifname = "lo";
    case
}

pub(super) fn cases() -> Vec<Case> {
    let mut cases = vec![
        with_static(
            "with static addresses",
            r#"{"isGateway":true,"ipam":{"type":"static","addresses":[{"address":"10.1.0.9/24","gateway":"10.1.0.1"},
                {"address":"fd00:1::9/64","gateway":"fd00:1::1"}],"routes":[{"dst":"0.0.0.0/0"},{"dst":"::/0","gw":"fd00:1::1"}],
                "dns":{"nameservers":["10.1.0.1"],"domain":"a.test","search":["a.test"],"options":["ndots:2"]}}}"#,
        ),
        with_static(
            "with a static address without a gateway",
            r#"{"isGateway":true,"ipam":{"type":"static","addresses":[{"address":"10.1.0.9/24"}]}}"#,
        ),
        with_static("with static addresses in CNI_ARGS", r#"{"ipam":{"type":"static"}}"#)
            .arguments("IP=10.1.0.11/24,fd00:1::11/64;GATEWAY=10.1.0.1;IgnoreUnknown=1"),
        with_static(
            "with static addresses in CNI_ARGS beside others",
            r#"{"ipam":{"type":"static","addresses":[{"address":"10.2.0.9/24","gateway":"10.2.0.1"}]}}"#,
        )
        .arguments("IP=10.1.0.11/24;GATEWAY=10.1.0.1;IgnoreUnknown=1"),
        with_static(
            "with static addresses in args",
            r#"{"args":{"cni":{"ips":["10.1.0.12/24"]}},"ipam":{"type":"static","addresses":[{"address":"10.2.0.9/24"}]}}"#,
        ),
        with_static(
            "with static addresses of the runtime",
            r#"{"capabilities":{"ips":true},"runtimeConfig":{"ips":["10.1.0.13/24","fd00:1::13/64"]},
                "args":{"cni":{"ips":["10.1.0.12/24"]}},"ipam":{"type":"static","addresses":[{"address":"10.2.0.9/24"}]}}"#,
        ),
        with_static(
            "with a static address in version 0.2.0",
            r#"{"ipam":{"type":"static","addresses":[{"address":"10.1.0.9/24","gateway":"10.1.0.1"}],"routes":[{"dst":"0.0.0.0/0"}]}}"#,
        )
        .version("0.2.0")
        .steps([Step::Add(0), Step::Del(0)]),
        direct(
            "called for bridge",
            r#"{"type":"bridge","ipam":{"type":"static","addresses":[{"address":"10.1.0.9/24","gateway":"10.1.0.1"}],
                "routes":[{"dst":"192.168.0.0/16"},{"dst":"172.16.0.0/12","gw":"10.1.0.5"}],"dns":{"nameservers":["10.1.0.1"]}}}"#,
        ),
        direct("without addresses", r#"{"type":"bridge","ipam":{"type":"static"}}"#)
            .steps([Step::Add(0), Step::Del(0)]),
        direct("with an address without a prefix length", r#"{"type":"bridge","ipam":{"type":"static","addresses":[{"address":"10.1.0.9"}]}}"#)
            .refused(["10.1.0.9"]),
        direct("with a text as address", r#"{"type":"bridge","ipam":{"type":"static","addresses":[{"address":"nine"}]}}"#)
            .refused(["nine"]),
        direct("with a bad address in CNI_ARGS", r#"{"type":"bridge","ipam":{"type":"static"}}"#)
            .arguments("IP=10.1.0.300/24;IgnoreUnknown=1")
            .refused(["10.1.0.300/24"]),
        direct("with a bad gateway in CNI_ARGS", r#"{"type":"bridge","ipam":{"type":"static","addresses":[{"address":"10.1.0.9/24"}]}}"#)
            .arguments("GATEWAY=10.1.0;IgnoreUnknown=1")
            .refused(["10.1.0"]),
        loopback("as containerd calls it", "{}").version("0.3.1"),
        loopback("without a version", "{}").version(""),
        loopback("in version 0.4.0", "{}").version("0.4.0"),
        loopback("in version 1.0.0", "{}"),
        loopback("of a container whose lo is up", "{}").first([Step::InContainer(0, "ip link set lo up")]),
        loopback("in version 1.1.0", "{}").version("1.1.0"),
        loopback("after another plugin", r#"{"prevResult":{"cniVersion":"1.0.0","interfaces":[{"name":"eth0","mac":"02:00:00:00:00:01",
            "sandbox":"/x"}],"ips":[{"address":"10.1.0.2/24","gateway":"10.1.0.1","interface":0}],"routes":[{"dst":"0.0.0.0/0"}],
            "dns":{"nameservers":["10.1.0.1"]}}}"#)
            .steps([Step::Add(0), Step::Del(0)]),
        loopback("finds that lo went down", "{}")
            .steps([Step::Add(0), Step::InContainer(0, "ip link set lo down"), Step::Changed(0), Step::Del(0)]),
    ];
    // Some call it with the name of the container's interface.
    cases.extend([Case::new("loopback", "with another interface's name", "{}")]);
    cases
}
