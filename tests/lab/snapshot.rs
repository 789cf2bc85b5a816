//! The kernel's state in a namespace, as facts that can be compared.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::{Map, Value};

use super::Namespace;
use super::program::Program;

/// What is, by a path such as `link/eth0/mtu`.
pub(crate) type Facts = BTreeMap<String, String>;

/// What is read about every link; see the kernel's `ip-sysctl` document.
const SYSCTLS: [(&str, &[&str]); 2] = [
    ("ipv4", &["accept_redirects", "arp_notify", "forwarding", "proxy_arp", "route_localnet", "rp_filter"]),
    (
        "ipv6",
        &[
            "accept_dad",
            "accept_ra",
            "addr_gen_mode",
            "autoconf",
            "disable_ipv6",
            "enhanced_dad",
            "forwarding",
            "keep_addr_on_down",
            "ndisc_notify",
            "optimistic_dad",
        ],
    ),
];

/// Properties of a link, by their name in `ip -json`.
const LINK_KEYS: [&str; 12] = [
    "address",
    "allmulti",
    "group",
    "ifalias",
    "inet6_addr_gen_mode",
    "link_type",
    "master",
    "mtu",
    "operstate",
    "promiscuity",
    "qdisc",
    "txqlen",
];

/// Properties of a bridge that no timer changes.
const BRIDGE_KEYS: [&str; 6] =
    ["ageing_time", "group_fwd_mask", "mcast_snooping", "priority", "stp_state", "vlan_filtering"];

/// Properties of a bridge's port.
const PORT_KEYS: [&str; 16] = [
    "bcast_flood",
    "cost",
    "fastleave",
    "flood",
    "guard",
    "hairpin",
    "isolated",
    "learning",
    "locked",
    "mcast_flood",
    "mcast_to_unicast",
    "neigh_suppress",
    "priority",
    "proxy_arp",
    "root_block",
    "state",
];

/// The state of a namespace at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Everything but indexes and timers.
    pub(crate) facts: Facts,
    /// Names and hardware addresses of links, oldest first.
    pub(crate) links: Vec<(String, String)>,
    /// How many routes there are to a destination with a metric, in a table.
    routes: HashMap<[String; 3], usize>,
}

impl Snapshot {
    /// Looks at a namespace.
    pub(crate) fn take(namespace: &Namespace) -> anyhow::Result<Self> {
        namespace.enter(|| {
            let text = Program::new("ip")
                .arguments(["-details", "-json", "-batch", "-"])
                .input("address show\nneighbour show nud permanent\nroute show table all\n")
                .succeed()?;
            let mut lists = serde_json::Deserializer::from_str(&text).into_iter::<Vec<Value>>();
            let mut list =
                || lists.next().transpose().context("read ip's answer").map(Option::unwrap_or_default);
            let mut snapshot = Self::default();
            for link in list()? {
                snapshot.add_link(&link)?;
            }
            for neighbor in list()? {
                let key = format!("neighbour/{}/{}", word(&neighbor, "dev"), word(&neighbor, "dst"));
                snapshot.facts.insert(key, word(&neighbor, "lladdr"));
            }
            for route in list()? {
                snapshot.add_route(&route);
            }
            snapshot.add_sysctls();
            snapshot.add_forwarding()?;
            Ok(snapshot)
        })
    }

    fn add_link(&mut self, link: &Value) -> anyhow::Result<()> {
        let name = word(link, "ifname");
        anyhow::ensure!(!name.is_empty(), "a link without a name: {link}");
        self.links.push((name.clone(), word(link, "address")));
        let mut add = |key: &str, value: String| self.facts.insert(format!("link/{name}/{key}"), value);
        let mut flags: Vec<String> = link["flags"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect();
        flags.sort();
        add("flags", flags.join(" "));
        for key in LINK_KEYS.into_iter().filter(|key| !link[key].is_null()) {
            // Of a veth without carrier the kernel looks up the peer's index in
            // the wrong namespace, so that chance decides between these two.
            add(key, word(link, key).replace("LOWERLAYERDOWN", "DOWN"));
        }
        let info = &link["linkinfo"];
        if !info["info_kind"].is_null() {
            add("kind", word(info, "info_kind"));
        }
        if info["info_kind"] == "bridge" {
            for key in BRIDGE_KEYS {
                add(&format!("bridge/{key}"), word(&info["info_data"], key));
            }
        }
        if info["info_slave_kind"] == "bridge" {
            for key in PORT_KEYS {
                add(&format!("port/{key}"), word(&info["info_slave_data"], key));
            }
        }
        for address in link["addr_info"].as_array().into_iter().flatten() {
            let key = format!("address/{}/{}", word(address, "local"), word(address, "prefixlen"));
            add(&key, describe_address(address));
        }
        Ok(())
    }

    fn add_route(&mut self, route: &Value) {
        // These follow from addresses, some of them later.
        if ["local", "broadcast", "anycast", "multicast"].contains(&word(route, "type").as_str()) {
            return;
        }
        let dev = word(route, "dev");
        let has_carrier =
            self.facts.get(&format!("link/{dev}/flags")).is_some_and(|flags| flags.contains("LOWER_UP"));
        // Without carrier it depends on a race whether this one exists.
        if word(route, "dst") == "fe80::/64" && !has_carrier {
            return;
        }
        let mut text = word(route, "dst");
        for key in [
            "gateway", "via", "dev", "table", "protocol", "scope", "prefsrc", "metric", "metrics", "nexthops",
        ] {
            if !route[key].is_null() {
                text = format!("{text} {key} {}", word(route, key));
            }
        }
        let flags = route["flags"].as_array().into_iter().flatten().filter_map(Value::as_str);
        // The kernel sets this one when the carrier is gone, some time later.
        let mut state: Vec<&str> = flags.filter(|flag| *flag != "linkdown").collect();
        // The first one of those that are alike is used. Link-local ones come
        // in any order, and whoever uses them says the link.
        let alike = self.routes.entry(["dst", "table", "metric"].map(|key| word(route, key))).or_default();
        let place = alike.to_string();
        if *alike > 0 && word(route, "dst") != "fe80::/64" {
            state.extend(["after", &place]);
        }
        *alike += 1;
        self.facts.insert(format!("route/{text}"), state.join(" "));
    }

    /// Entries that somebody added to the forwarding databases of bridges and
    /// of VXLAN links.
    fn add_forwarding(&mut self) -> anyhow::Result<()> {
        let text = Program::new("bridge").arguments(["-json", "fdb", "show"]).succeed()?;
        let entries: Vec<Value> = serde_json::from_str(&text).context("read bridge's answer")?;
        for entry in entries {
            // Without a destination, what is permanent is an address of a link.
            let is_added = match word(&entry, "state").as_str() {
                "static" => true,
                "permanent" => !entry["dst"].is_null(),
                _ => false,
            };
            if is_added {
                let (dev, mac) = (word(&entry, "ifname"), word(&entry, "mac"));
                self.facts.insert(format!("forwarding/{dev}/{mac}/{}", word(&entry, "dst")), String::new());
            }
        }
        Ok(())
    }

    fn add_sysctls(&mut self) {
        for (family, keys) in SYSCTLS {
            let names = self.links.iter().map(|(name, _)| name.as_str()).chain(["all", "default"]);
            for name in names {
                for key in keys {
                    let path = Path::new("/proc/sys/net").join(family).join("conf").join(name).join(key);
                    if let Ok(value) = fs::read_to_string(&path) {
                        self.facts.insert(format!("sysctl/{family}/{name}/{key}"), value.trim().to_owned());
                    }
                }
            }
        }
    }
}

/// Scope and flags of an address. Duplicate detection of link-local addresses
/// runs by itself and is left out.
fn describe_address(address: &Value) -> String {
    let is_link_local = address["family"] == "inet6" && address["scope"] == "link";
    let flags =
        address.as_object().into_iter().flat_map(Map::iter).filter(|(_, value)| **value == Value::Bool(true));
    let flags = flags.map(|(name, _)| name.as_str()).filter(|name| !(is_link_local && *name == "tentative"));
    let mut words = vec![word(address, "scope")];
    for key in ["broadcast", "label", "address"] {
        if !address[key].is_null() {
            words.push(format!("{key} {}", word(address, key)));
        }
    }
    words.extend(flags.map(str::to_owned));
    words.join(" ")
}

fn word(object: &Value, key: &str) -> String {
    match &object[key] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
