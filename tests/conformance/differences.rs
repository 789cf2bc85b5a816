//! Where weir deliberately differs from the native plugins: the one list, each
//! with its reason. A difference that is listed and does not occur any more
//! fails its cases.

use super::cases::{Case, Step};
use crate::lab::Facts;

/// Which reference a difference is with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Against {
    /// Debian 12's 1.1.1 and other plugins that do not speak CNI 1.1.0.
    Old,
    /// 1.9.1 and others that do.
    Recent,
    /// All.
    Any,
}

/// A deliberate difference.
pub(crate) struct Difference {
    /// Why.
    pub(crate) reason: &'static str,
    /// The facts by which it shows.
    pub(crate) facts: &'static [Fact],
    /// With which reference.
    pub(crate) against: Against,
    /// In which cases it has to occur.
    pub(crate) case: fn(&Case) -> bool,
}

/// A fact, and what weir and the native plugins say: none for nothing. `*`
/// stands for anything, in all three.
pub(crate) type Fact = (&'static str, Option<&'static str>, Option<&'static str>);

/// A fact that is not the same in both labs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Gap {
    pub(crate) fact: String,
    pub(crate) weir: Option<String>,
    pub(crate) native: Option<String>,
}

/// The list.
pub(crate) const DIFFERENCES: &[Difference] = &[
    Difference {
        reason: "A link's queue has the kernel's own length; the native plugins ask for 0, which makes a qdisc that \
                 is added later drop everything.",
        facts: &[("*/link/*/txqlen", Some("1000"), None)],
        against: Against::Any,
        case: |case| connects(case) && !is_followed_by(case, "bandwidth"),
    },
    Difference {
        reason: "The same; later versions of bandwidth give the queue a length.",
        facts: &[("*/link/*/txqlen", Some("1000"), None)],
        against: Against::Old,
        case: |case| connects(case) && is_followed_by(case, "bandwidth"),
    },
    Difference {
        reason: "A bridge keeps the hardware address that it was made with. The native plugins pin it only with a \
                 gateway; else it is that of the lowest port, and changes as containers come and go.",
        facts: &[
            ("node/link/veth#*/address", Some("mac of node veth#*"), Some("mac of node cni0")),
            ("result/interfaces/1/mac", Some("mac of node veth#*"), Some("mac of node cni0")),
            ("node/link/cni0/address", Some("mac of node cni0"), Some("00:00:00:00:00:00")),
            ("result/interfaces/0/mac", Some("mac of node cni0"), Some("00:00:00:00:00:00")),
            ("node/link/cni0/address/fe80::*", None, Some("link")),
            ("node/link/cni0/address/link-local of node cni0/64", Some("link"), None),
            ("node/link/veth#*/address/link-local of node veth#*/64", Some("link"), None),
            ("node/link/veth#*/address/link-local of node cni0/64", None, Some("link")),
        ],
        against: Against::Any,
        case: |case| {
            let has_address = is_gateway(case) && !is_in_vlan(case);
            case.plugin == "bridge" && connects(case) && is_new_bridge(case) && !has_address
        },
    },
    Difference {
        reason: "The node's own port in a VLAN, which has the gateway's address, takes no router advertisements, as \
                 the bridge itself does not where it has the address.",
        facts: &[("node/sysctl/ipv6/cni0.*/accept_ra", Some("0"), Some("1"))],
        against: Against::Any,
        case: |case| connects(case) && is_gateway(case) && is_in_vlan(case),
    },
    Difference {
        reason: "The addresses of a container survive its link going down, as 1.9.1 has it.",
        facts: &[("c*/sysctl/ipv6/eth0/keep_addr_on_down", Some("1"), Some("0"))],
        against: Against::Old,
        case: |case| connects(case) && has_ipam(case) && has_ipv6(case),
    },
    Difference {
        reason: "Neighbors hear of a container's IPv6 addresses, as they do of IPv4's.",
        facts: &[("c*/sysctl/ipv6/eth0/ndisc_notify", Some("1"), Some("0"))],
        against: Against::Any,
        case: |case| case.plugin == "bridge" && connects(case) && has_ipam(case) && has_ipv6(case),
    },
    Difference {
        reason: "The DNS settings that the IPAM plugin returns are not thrown away, as 1.9.1 has it.",
        facts: &[("result/dns/*", Some("*"), None)],
        against: Against::Old,
        case: |case| {
            let returns_dns = ["with resolvConf", "with an empty dns", "with static addresses"];
            case.plugin == "bridge" && returns_dns.contains(&case.name.as_str())
        },
    },
    Difference {
        reason: "Results of CNI 1.1.0 tell the MTU of every interface; the native plugins leave it out.",
        facts: &[("result/interfaces/*/mtu", Some("*"), None)],
        against: Against::Recent,
        case: |case| case.version == "1.1.0" && connects(case),
    },
    Difference {
        reason: "The kernel gets the mtu and advmss of a route; the native plugins only repeat them in the result.",
        facts: &[
            ("c*/route/* metric 50", None, Some("")),
            ("c*/route/* metric 50 metrics *advmss*mtu*", Some(""), None),
        ],
        against: Against::Recent,
        case: |case| connects(case) && has(case, "advmss"),
    },
    Difference {
        reason: "Results of CNI 0.3 and 0.4 tell the IP version, which the specification demands; native loopback \
                 leaves it out.",
        facts: &[("result/ips/*/version", Some("*"), None)],
        against: Against::Any,
        case: |case| case.plugin == "loopback" && ["0.3.1", "0.4.0"].contains(&case.version),
    },
    Difference {
        reason: "A container that is connected by ptp uses its addresses at once: nobody else is on the link, so \
                 duplicate detection only costs a second of each start.",
        facts: &[("c*/sysctl/ipv6/eth0/accept_dad", Some("0"), Some("1"))],
        against: Against::Any,
        case: |case| case.plugin == "ptp" && connects(case),
    },
    Difference {
        reason: "DEL removes the link of a container that still runs even if the runtime does not name its namespace: \
                 the journal knows it.",
        facts: &[
            ("*veth#1*", None, Some("*")),
            ("c1/*eth0*", None, Some("*")),
            ("node/link/cni0/flags", Some("*NO-CARRIER*"), Some("*LOWER_UP*")),
            ("node/link/cni0/operstate", Some("DOWN"), Some("UP")),
            ("node/route/fe80::/64 dev cni0 *", None, Some("")),
        ],
        against: Against::Any,
        case: |case| case.name == "removed without its namespace's path",
    },
];

/// What the native plugins refuse and weir does. If it is ADD, weir takes the
/// case's steps alone.
pub(crate) struct Refusal {
    /// Why weir does it.
    pub(crate) reason: &'static str,
    /// The command.
    pub(crate) command: &'static str,
    /// In which cases.
    pub(crate) case: fn(&Case) -> bool,
    /// What the native plugin says.
    pub(crate) says: &'static str,
    /// With which reference.
    pub(crate) against: Against,
}

/// The list of refusals.
pub(crate) const REFUSALS: &[Refusal] = &[
    Refusal {
        reason: "The operator's default route and the one that isDefaultGateway adds are the same route.",
        command: "ADD",
        case: |case| case.name == "as the default gateway beside a default route without a gateway",
        says: "file exists",
        against: Against::Any,
    },
    Refusal {
        reason: "An argument that the other plugin of the configuration knows is not unknown.",
        command: "ADD",
        case: |case| case.name.ends_with("in CNI_ARGS without IgnoreUnknown"),
        says: "unknown args",
        against: Against::Any,
    },
    Refusal {
        reason: "Without IPAM there is no IPAM plugin to ask.",
        command: "CHECK",
        case: |case| case.plugin == "bridge" && !has_ipam(case),
        says: "no plugin name provided",
        against: Against::Any,
    },
    Refusal {
        reason: "A route is looked for in the table that it was put into.",
        command: "CHECK",
        case: |case| has(case, r#""table":"#) && case.plugin == "bridge",
        says: "not found in routing table",
        against: Against::Recent,
    },
    Refusal {
        reason: "A route with a gateway of its own is found again, as 1.9.1 has it.",
        command: "CHECK",
        case: |case| {
            ["with routes", "with a gateway of the range"].contains(&case.name.as_str())
                && has(case, "172.16")
        },
        says: "not found in routing table",
        against: Against::Old,
    },
    Refusal {
        reason: "What nftables masquerades is not looked for in iptables.",
        command: "DEL",
        case: |case| case.name == "masquerades by nftables",
        says: "iptables",
        against: Against::Recent,
    },
];

fn connects(case: &Case) -> bool {
    ["bridge", "ptp"].contains(&case.plugin) && case.steps.iter().any(|step| matches!(step, Step::Add(_)))
}

fn has(case: &Case, text: &str) -> bool {
    case.config.contains(text)
}

fn is_followed_by(case: &Case, plugin: &str) -> bool {
    case.followers.iter().any(|(follower, _)| *follower == plugin)
}

fn is_new_bridge(case: &Case) -> bool {
    !has(case, "br0")
}

fn is_gateway(case: &Case) -> bool {
    has(case, "isGateway") || has(case, "isDefaultGateway")
}

fn is_in_vlan(case: &Case) -> bool {
    has(case, r#""vlan":"#)
}

fn has_ipam(case: &Case) -> bool {
    has(case, r#""ipam":{""#)
}

fn has_ipv6(case: &Case) -> bool {
    has(case, "fd00:") || case.arguments.contains("fd00:")
}

impl Against {
    /// Whether a reference is meant.
    pub(crate) fn is(self, is_recent: bool) -> bool {
        match self {
            Self::Old => !is_recent,
            Self::Recent => is_recent,
            Self::Any => true,
        }
    }
}

impl Difference {
    /// Whether it explains a gap.
    pub(crate) fn explains(&self, gap: &Gap) -> bool {
        let side = |pattern: Option<&str>, value: Option<&str>| match (pattern, value) {
            (None, None) => true,
            (Some(pattern), Some(value)) => matches(pattern, value),
            _ => false,
        };
        self.facts.iter().any(|(fact, weir, native)| {
            matches(fact, &gap.fact)
                && side(*weir, gap.weir.as_deref())
                && side(*native, gap.native.as_deref())
        })
    }
}

/// What differs between the facts of both labs.
pub(crate) fn gaps(weir: &Facts, native: &Facts) -> Vec<Gap> {
    let keys: std::collections::BTreeSet<&String> = weir.keys().chain(native.keys()).collect();
    let differing = keys.into_iter().filter(|key| weir.get(*key) != native.get(*key));
    differing
        .map(|key| Gap { fact: key.clone(), weir: weir.get(key).cloned(), native: native.get(key).cloned() })
        .collect()
}

impl std::fmt::Display for Gap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |value: &Option<String>| {
            value.as_ref().map_or("nothing".to_owned(), |value| format!("{value:?}"))
        };
        write!(f, "{}: weir {}, native {}", self.fact, text(&self.weir), text(&self.native))
    }
}

/// Whether a text fits a pattern in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(text) = text.strip_prefix(start) else { return false };
    (0..=text.len()).filter(|end| text.is_char_boundary(*end)).any(|end| matches(rest, &text[end..]))
}
