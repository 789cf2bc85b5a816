//! Operations on the command line.

use std::net::IpAddr;

use anyhow::{Context, Result, anyhow, bail};
use ipnet::IpNet;

use crate::policy::{Key, Numbers, Operation, Port, Side, check_digest, check_name};

/// An operation that can be read.
pub(super) fn checked(text: &str) -> Result<String> {
    operation(text).map(|_| text.to_owned())
}

/// Reads a digest, with or without the name of its function.
pub(super) fn digest(text: &str) -> Result<String> {
    let digest = if text.starts_with("sha256:") { text.to_owned() } else { format!("sha256:{text}") };
    check_digest(&digest).map_err(|reason| anyhow!(reason))?;
    Ok(digest)
}

/// Reads an operation, as in `bridge:br-a`.
pub(super) fn operation(text: &str) -> Result<Operation<'_>> {
    let Some((name, object)) = text.split_once(':').filter(|(_, object)| !object.is_empty()) else {
        bail!("operation {text:?}: expected a name and an object, as in bridge:br-a");
    };
    Ok(match name {
        "import" => Operation::Import(object),
        "namespace" => Operation::Namespace(match object {
            "host" => Side::Host,
            "container" => Side::Container,
            _ => bail!("operation {text:?}: expected namespace:host or namespace:container"),
        }),
        "create-link" => {
            let (kind, name) = object.split_once(':').with_context(|| {
                format!("operation {text:?}: expected a kind and a name, as in create-link:veth:veth0")
            })?;
            named(Key::LinkKinds, kind)?;
            named(Key::Links, name)?;
            Operation::CreateLink { kind, name }
        }
        "bridge" => Operation::Bridge(object),
        "parent" => match object.split_once(':') {
            Some(("passthru", name)) => Operation::Passthru(name),
            Some((kind, name)) => {
                named(Key::LinkKinds, kind)?;
                named(Key::Parents, name)?;
                Operation::PutOn { kind, parent: Some(name).filter(|name| *name != "*") }
            }
            None => Operation::Parent(object),
        },
        "address" => Operation::Address(prefix(text, object)?),
        "route" => Operation::Route(prefix(text, object)?),
        "neighbor" => Operation::Neighbor(prefix(text, object)?),
        "sysctl" => Operation::Sysctl(object),
        "delegate" => Operation::Delegate(object),
        "data-dir" => {
            named(Key::DataDirs, object)?;
            Operation::DataDir { path: object, pool: "" }
        }
        "port" => {
            Operation::Port(Port::parse(object).map_err(|reason| anyhow!("operation {text:?}: {reason}"))?)
        }
        "vlan" => {
            let (bridge, numbers) = segment(text, Key::Bridges, object)?;
            let vlans = Numbers::parse(Key::Vlans, numbers).map_err(|reason| anyhow!(reason))?;
            Operation::Vlans { bridge, vlans }
        }
        "vni" => {
            let (parent, number) = segment(text, Key::Parents, object)?;
            Numbers::parse(Key::Vnis, number).map_err(|reason| anyhow!(reason))?;
            let vni = number.parse().with_context(|| format!("operation {text:?}: expected one number"))?;
            Operation::Vni { parent, vni }
        }
        _ => bail!(
            "operation {text:?}: expected one of import, namespace, create-link, bridge, parent, address, route, neighbor, sysctl, delegate, data-dir, port, vlan, vni"
        ),
    })
}

/// Checks a name as it would stand in a rule.
fn named(key: Key, name: &str) -> Result<()> {
    check_name(key, name).map_err(|reason| anyhow!(reason))
}

/// A link, of which * is any, and what it is asked for.
fn segment<'a>(text: &str, key: Key, object: &'a str) -> Result<(Option<&'a str>, &'a str)> {
    let (name, number) = object.split_once(':').with_context(|| {
        format!("operation {text:?}: expected a link and a number, as in vlan:br-a:100 or vni:eth1:4096")
    })?;
    named(key, name)?;
    Ok((Some(name).filter(|name| *name != "*"), number))
}

fn prefix(text: &str, object: &str) -> Result<IpNet> {
    object
        .parse::<IpNet>()
        .or_else(|_| object.parse::<IpAddr>().map(IpNet::from))
        .with_context(|| format!("operation {text:?}: {object:?} is neither an address nor a prefix"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_may_have_colons() {
        assert_eq!(operation("import:weir:net/links").unwrap(), Operation::Import("weir:net/links"));
        assert_eq!(
            operation("create-link:veth:veth0").unwrap(),
            Operation::CreateLink { kind: "veth", name: "veth0" }
        );
        assert_eq!(operation("parent:eth1").unwrap(), Operation::Parent("eth1"));
        let put_on = |kind, parent| Operation::PutOn { kind, parent };
        assert_eq!(operation("parent:macvlan:eth1").unwrap(), put_on("macvlan", Some("eth1")));
        assert_eq!(operation("parent:vxlan:*").unwrap(), put_on("vxlan", None));
        assert_eq!(operation("parent:passthru:eth1").unwrap(), Operation::Passthru("eth1"));
        assert_eq!(operation("address:fd00::1").unwrap(), Operation::Address("fd00::1/128".parse().unwrap()));
        assert_eq!(operation("route:0.0.0.0/0").unwrap(), Operation::Route("0.0.0.0/0".parse().unwrap()));
        assert_eq!(
            operation("neighbor:10.1.0.5").unwrap(),
            Operation::Neighbor("10.1.0.5/32".parse().unwrap())
        );
        assert_eq!(operation("namespace:host").unwrap(), Operation::Namespace(Side::Host));
        let port = |text: &str| Operation::Port(Port::parse(text).unwrap());
        assert_eq!(operation("port:8080/tcp").unwrap(), port("8080/tcp"));
        assert_eq!(operation("port:[fd00::1]:53/udp").unwrap(), port("[fd00::1]:53/udp"));
        let vlans = Numbers::between(10, 19);
        let vlans = |bridge| Operation::Vlans { bridge, vlans };
        assert_eq!(operation("vlan:br-a:10-19").unwrap(), vlans(Some("br-a")));
        assert_eq!(operation("vlan:*:10-19").unwrap(), vlans(None));
        assert_eq!(operation("vni:up0:4096").unwrap(), Operation::Vni { parent: Some("up0"), vni: 4096 });
        for bad in [
            "",
            "vlan:100",
            "vlan:br-a:0",
            "vni:up0:1-2",
            "port:80",
            "port:1-2/tcp",
            "bridge",
            "bridge:",
            "create-link:veth",
            "create-link::veth0",
            "create-link:veth:",
            "parent:macvlan:",
            "data-dir:leases",
            "data-dir:/srv/",
            "data-dir:/srv/../etc",
            "address:x",
            "neighbor:x",
            "namespace:pod",
            "reboot:now",
        ] {
            assert!(operation(bad).is_err(), "{bad}");
        }
    }
}
