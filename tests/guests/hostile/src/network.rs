//! Links, addresses, routes, settings and the packet filter.

use std::net::IpAddr;

use weir_sdk::firewall::{guards, masquerade, publish};
use weir_sdk::net::links::{
    self, BridgeOptions, Link, MacvlanMode, MacvlanOptions, Netns, PortOptions, VethEnd, VlanRange,
    VxlanOptions,
};
use weir_sdk::net::routes::{self, Route};
use weir_sdk::net::types::{IpAddress, IpFamily, IpPrefix, MacAddress, NetError};
use weir_sdk::net::{addresses, sysctls};
use weir_sdk::{CniError, mac};

use crate::{Raid, Step};

type Taken = Result<(), CniError>;

impl Raid<'_> {
    /// Takes a step that makes or changes links; none if it is of another kind.
    pub(crate) fn network(&mut self, step: Step<'_>) -> Option<Taken> {
        let taken = match step.text("do") {
            "create-veth" => self.create_veth(step),
            "create-shared-veth" => self.create_shared_veth(step),
            "create-bridge" => create_bridge(step),
            "create-macvlan" => self.create_macvlan(step),
            "create-vxlan" => self.create_vxlan(step),
            "enable-forwarding" => side(step).and_then(|netns| Ok(netns.enable_forwarding(family(step))?)),
            "find" => self.with(step, |_| Ok(())),
            "set-up" => self.with(step, |link| link.set_up(true)),
            "set-down" => self.with(step, |link| link.set_up(false)),
            "set-mtu" => self.with(step, |link| link.set_mtu(step.count("mtu"))),
            "set-mac" => self.with(step, |link| link.set_mac(mac_address(step))),
            "set-promiscuous" => self.with(step, |link| link.set_promiscuous(!step.is("off"))),
            "set-port" => {
                self.with(step, |link| link.set_port(PortOptions { hairpin: true, isolated: false }))
            }
            "set-vlan-filtering" => self.with(step, |link| link.set_vlan_filtering(step.is("on"))),
            "add-vlans" => {
                let vlan = VlanRange { first: 2, last: 3, pvid: false, untagged: false };
                self.with(step, |link| link.add_vlans(&vec![vlan; step.number("count") as usize]))
            }
            "attach" => self.attach(step),
            "remove" => self.with(step, Link::remove),
            "wait-up" => self.with(step, |link| link.wait_until_up(u32::MAX)),
            "settle" => self.with(step, |link| addresses::settle(link, u32::MAX)),
            "announce" => self.with(step, addresses::announce),
            _ => return None,
        };
        Some(taken)
    }

    /// The same for what links carry.
    pub(crate) fn addresses(&mut self, step: Step<'_>) -> Option<Taken> {
        let taken = match step.text("do") {
            "add-address" => self.with_prefix(step, addresses::add),
            "remove-address" => self.with_prefix(step, addresses::remove),
            "add-route" => self.with_prefix(step, |link, to| routes::add(link, route(step, to))),
            "prepend-route" => self.with_prefix(step, |link, to| routes::prepend(link, route(step, to))),
            "remove-route" => self.with_prefix(step, |link, to| routes::remove(link, route(step, to))),
            "set-sysctl" => self.with(step, |link| {
                sysctls::set(link, family(step), step.text("key"), &step.long_text("value"))
            }),
            "read-sysctl" => {
                self.with(step, |link| sysctls::get(link, family(step), step.text("key")).map(drop))
            }
            "masquerade" => ip(step.text("address")).and_then(|source| {
                let direct =
                    IpPrefix { address: ip(step.text("direct"))?, length: step.number("length") as u8 };
                Ok(masquerade::add(masquerade::Entry { source, direct })?)
            }),
            "publish" => ports(step).and_then(|ports| Ok(publish::add(&ports)?)),
            "enable-loopback" => self.with(step, publish::enable_loopback),
            "unpublish" => publish::remove().map_err(CniError::from),
            "look-at-ports" => publish::list().map_err(CniError::from).map(|ports| {
                if ports.len() as u64 != step.number("count") {
                    panic!("there are {} ports", ports.len())
                }
            }),
            "guard" => self.with(step, |link| guards::add(link, mac_address(step))),
            "look-at-guard" => self.with(step, |link| {
                guards::present(link, mac_address(step)).map(|present| {
                    if present {
                        panic!("there is such a guard")
                    }
                })
            }),
            _ => return None,
        };
        Some(taken)
    }

    /// Does something with a link, which is found unless it is known.
    pub(crate) fn with(
        &mut self,
        step: Step<'_>,
        work: impl FnOnce(&Link) -> Result<(), NetError>,
    ) -> Result<(), CniError> {
        let name = step.text("link");
        if !self.links.contains_key(name) {
            let link = side(step)?.link(name)?;
            self.links.insert(name.to_owned(), link);
        }
        match self.links.get(name) {
            Some(link) => Ok(work(link)?),
            None => Ok(()),
        }
    }

    fn with_prefix(
        &mut self,
        step: Step<'_>,
        work: impl FnOnce(&Link, IpPrefix) -> Result<(), NetError>,
    ) -> Taken {
        let prefix = IpPrefix { address: ip(step.text("address"))?, length: step.number("length") as u8 };
        self.with(step, |link| work(link, prefix))
    }

    /// Makes a pair: `near` on the node, `far` in the container unless
    /// `far-side` says otherwise.
    fn create_veth(&mut self, step: Step<'_>) -> Taken {
        let near = end(step, "near");
        let far = end(step, "far");
        let there = if step.text("far-side") == "host" { links::host()? } else { links::container()? };
        let here = side(step)?;
        let bridge = step.has("bridge").then(|| here.link(step.text("bridge"))).transpose()?;
        let (first, second) = here.create_veth(&near, &far, &there, 0, bridge.as_ref())?;
        self.links.insert(near.name, first);
        self.links.insert(far.name, second);
        Ok(())
    }

    fn create_shared_veth(&mut self, step: Step<'_>) -> Taken {
        let (port, own) = (end(step, "near"), end(step, "far"));
        let here = side(step)?;
        let bridge = here.link(step.text("bridge"))?;
        let (first, second) = here.create_shared_veth(&port, &own, 0, &bridge)?;
        self.links.insert(port.name, first);
        self.links.insert(own.name, second);
        Ok(())
    }

    /// Makes a macvlan in the container, unless `target` says otherwise, on a
    /// link of the side that `parent-side` names.
    fn create_macvlan(&mut self, step: Step<'_>) -> Taken {
        let home = side(step)?;
        let target = if step.text("target") == "host" { links::host()? } else { links::container()? };
        let name = step.text("parent");
        let found = match step.text("parent-side") {
            "" if self.links.contains_key(name) => None,
            "container" => Some(links::container()?.link(name)?),
            _ => Some(home.link(name)?),
        };
        let Some(parent) = found.as_ref().or_else(|| self.links.get(name)) else { return Ok(()) };
        let options = MacvlanOptions {
            name: step.text("name").to_owned(),
            mode: match step.text("mode") {
                "private" => MacvlanMode::Private,
                "vepa" => MacvlanMode::Vepa,
                "passthru" => MacvlanMode::Passthru,
                _ => MacvlanMode::Bridge,
            },
            mac: step.has("mac").then(|| mac_address(step)),
            mtu: step.count("mtu"),
            up: !step.is("down"),
        };
        let made = home.create_macvlan(&options, parent, &target)?;
        self.links.insert(options.name, made);
        Ok(())
    }

    fn create_vxlan(&mut self, step: Step<'_>) -> Taken {
        let here = side(step)?;
        let find = |key: &str| step.has(key).then(|| here.link(step.text(key))).transpose();
        let (underlay, bridge) = (find("underlay")?, find("bridge")?);
        let options = VxlanOptions {
            name: step.text("name").to_owned(),
            vni: step.count("vni"),
            port: if step.has("port") { step.count("port") as u16 } else { 4789 },
            local: step.has("local").then(|| ip(step.text("local"))).transpose()?,
            learning: step.is("learning"),
            mtu: step.count("mtu"),
            mac: step.has("mac").then(|| mac_address(step)),
            up: true,
        };
        let made = here.create_vxlan(&options, underlay.as_ref(), bridge.as_ref())?;
        self.links.insert(options.name, made);
        Ok(())
    }

    fn attach(&mut self, step: Step<'_>) -> Taken {
        let bridge = side(step)?.link(step.text("bridge"))?;
        self.with(step, |link| link.attach_to(&bridge))
    }
}

fn create_bridge(step: Step<'_>) -> Taken {
    side(step)?.create_bridge(&BridgeOptions {
        name: step.text("name").to_owned(),
        mtu: 0,
        vlan_filtering: false,
        default_vlan: false,
    })?;
    Ok(())
}

/// One port, or as many as `count` says, which follow on each other.
fn ports(step: Step<'_>) -> Result<Vec<publish::Port>, CniError> {
    let length = if step.has("length") { step.number("length") as u8 } else { 24 };
    let protocol = match step.text("protocol") {
        "udp" => publish::Protocol::Udp,
        "sctp" => publish::Protocol::Sctp,
        _ => publish::Protocol::Tcp,
    };
    let port = publish::Port {
        protocol,
        host_address: step.has("host").then(|| ip(step.text("host"))).transpose()?,
        host_port: step.number("port") as u16,
        container: IpPrefix { address: ip(step.text("address"))?, length },
        container_port: step.number("to") as u16,
    };
    let count = step.number("count").max(1) as u16;
    Ok((0..count)
        .map(|more| publish::Port { host_port: port.host_port.wrapping_add(more), ..port })
        .collect())
}

fn side(step: Step<'_>) -> Result<Netns, CniError> {
    Ok(if step.text("side") == "container" { links::container()? } else { links::host()? })
}

fn end(step: Step<'_>, key: &str) -> VethEnd {
    let mac = mac::parse(step.text(&format!("{key}-mac"))).ok();
    VethEnd { name: step.text(key).to_owned(), mac, up: true }
}

fn family(step: Step<'_>) -> IpFamily {
    if step.is("ipv6") { IpFamily::Ipv6 } else { IpFamily::Ipv4 }
}

fn mac_address(step: Step<'_>) -> MacAddress {
    mac::parse(step.text("mac")).unwrap_or((2, 0, 0, 0, 0, 1))
}

fn route(step: Step<'_>, destination: IpPrefix) -> Route {
    let gateway = ip(step.text("gateway")).ok();
    Route {
        destination,
        gateway,
        source: None,
        scope: if gateway.is_some() { 0 } else { 253 },
        table: step.has("table").then(|| step.count("table")),
        priority: None,
        mtu: None,
        advmss: None,
    }
}

pub(crate) fn ip(text: &str) -> Result<IpAddress, CniError> {
    let address: IpAddr = text.parse().map_err(|_| CniError::config(format!("{text:?} is no address")))?;
    Ok(address.into())
}
