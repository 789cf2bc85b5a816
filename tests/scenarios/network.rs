//! The networks at which things go wrong.

use crate::lab::{Lab, Plugins, line};

/// A network, and the node and the container that it needs.
#[derive(Debug)]
pub(super) struct Network {
    /// What is special about it.
    pub(super) name: &'static str,
    /// The plugin that is called.
    pub(super) plugin: &'static str,
    /// `cniVersion`.
    pub(super) version: &'static str,
    /// The configuration less `cniVersion` and `name`, and `type` if it is the
    /// plugin.
    pub(super) config: &'static str,
    /// What the node has before.
    node: &'static [&'static str],
    /// What happens in the container before.
    container: &'static [&'static str],
    /// Whether the container's image has turned IPv6 off.
    without_ipv6: bool,
    /// A native IPAM plugin, which gets a name that weir does not know.
    native: Option<&'static str>,
}

impl Network {
    const fn new(name: &'static str, plugin: &'static str, config: &'static str) -> Self {
        Self {
            name,
            plugin,
            version: "1.1.0",
            config,
            node: &[],
            container: &[],
            without_ipv6: false,
            native: None,
        }
    }

    /// Makes what the network needs beside a container.
    pub(super) fn prepare(&self, lab: &Lab) -> anyhow::Result<()> {
        for text in self.node {
            lab.on_node(text)?;
        }
        if let Some(name) = self.native {
            let link = lab.bin.join(format!("native-{name}"));
            std::os::unix::fs::symlink(native(name)?, link)?;
        }
        Ok(())
    }

    /// Makes what the network needs in a container.
    pub(super) fn prepare_container(&self, lab: &Lab, number: usize) -> anyhow::Result<()> {
        for text in self.container {
            lab.in_container(number, text)?;
        }
        if self.without_ipv6 {
            lab.containers[number]
                .namespace
                .enter(|| Ok(std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1")?))?;
        }
        Ok(())
    }
}

/// The path of a native plugin.
pub(super) fn native(name: &str) -> anyhow::Result<std::path::PathBuf> {
    let directory = Plugins::native_directory()?;
    // As it stands, so that it may be linked to.
    let path = line(&format!("readlink -f {}", directory.join(name).display())).succeed()?;
    Ok(path.trim().into())
}

/// One subnet on a bridge.
pub(super) const BRIDGE: Network = Network::new(
    "a bridge",
    "bridge",
    r#"{"isGateway":true,"ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#,
);

/// Everything that a bridge can do for a container.
pub(super) const RICH: Network = Network::new(
    "a bridge with everything",
    "bridge",
    r#"{"isDefaultGateway":true,"ipMasq":true,"macspoofchk":true,"hairpinMode":true,
        "ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64"}]]}}"#,
);

/// All of them.
pub(super) const NETWORKS: [Network; 10] = [
    BRIDGE,
    RICH,
    Network {
        without_ipv6: true,
        ..Network::new(
            "a bridge for a container without IPv6",
            "bridge",
            r#"{"isDefaultGateway":true,"ipMasq":true,
                "ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64"}]]}}"#,
        )
    },
    Network::new(
        "a bridge with isolated ports",
        "bridge",
        r#"{"portIsolation":true,"macspoofchk":true,"promiscMode":true,"mtu":1400,
            "ipam":{"type":"host-local","subnet":"10.1.0.0/24","routes":[{"dst":"192.0.2.0/24","gw":"10.1.0.9"}]}}"#,
    ),
    Network::new("a bridge without addresses", "bridge", r#"{"macspoofchk":true}"#),
    Network {
        node: &["ip link add br7 type bridge", "ip address add 10.1.0.99/24 dev br7", "ip link set br7 up"],
        ..Network::new(
            "a bridge with a forced address",
            "bridge",
            r#"{"bridge":"br7","isGateway":true,"forceAddress":true,"ipMasq":true,
                "ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#,
        )
    },
    Network::new(
        "a point-to-point link",
        "ptp",
        r#"{"ipMasq":true,"ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64"}]],
            "routes":[{"dst":"0.0.0.0/0"}]}}"#,
    ),
    Network {
        // The kernel keeps some of what it does when lo is brought up for the
        // first time.
        container: &["ip link set lo up", "ip link set lo down"],
        ..Network::new("the loopback interface", "loopback", "{}")
    },
    Network::new(
        "host-local alone",
        "host-local",
        r#"{"type":"other","ipam":{"type":"host-local","ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64"}]]}}"#,
    ),
    Network {
        // Debian's native plugins speak no newer one.
        version: "1.0.0",
        native: Some("host-local"),
        ..Network::new(
            "a bridge with a native IPAM plugin",
            "bridge",
            r#"{"isGateway":true,"ipMasq":true,"ipam":{"type":"native-host-local","subnet":"10.1.0.0/24"}}"#,
        )
    },
];
