//! The network configuration.

use serde::Deserialize;
use weir_sdk::net::links::VlanRange;
use weir_sdk::net::types::MacAddress;
use weir_sdk::request::Attachment;
use weir_sdk::{Arguments, CniError, DnsConfig, interface, mac, read_config};

/// The bridge that containers join if the operator names none.
const DEFAULT_BRIDGE: &str = "cni0";

/// What the kernel accepts for Ethernet links (`ETH_MIN_MTU`, `ETH_MAX_MTU`).
const MTU_RANGE: std::ops::RangeInclusive<u32> = 68..=65535;

/// The kernel's limit of a link's name.
const NAME_LIMIT: usize = 15;

/// The configuration as the operator and the runtime wrote it.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct NetworkConfig {
    bridge: String,
    is_gateway: bool,
    is_default_gateway: bool,
    force_address: bool,
    pub(crate) ip_masq: bool,
    ip_masq_backend: String,
    mtu: u32,
    hairpin_mode: bool,
    promisc_mode: bool,
    vlan: i64,
    vlan_trunk: Vec<Trunk>,
    preserve_default_vlan: Option<bool>,
    pub(crate) macspoofchk: bool,
    disable_container_interface: bool,
    port_isolation: bool,
    enabledad: bool,
    ipam: Ipam,
    dns: DnsConfig,
    args: Args,
    runtime_config: RuntimeConfig,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Ipam {
    r#type: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Trunk {
    #[serde(rename = "minID")]
    min_id: Option<i64>,
    #[serde(rename = "maxID")]
    max_id: Option<i64>,
    id: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: CniArgs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CniArgs {
    mac: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RuntimeConfig {
    mac: String,
}

impl NetworkConfig {
    /// Whether containers get addresses.
    pub(crate) fn has_ipam(&self) -> bool {
        !self.ipam.r#type.is_empty()
    }
}

/// The same, checked.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) bridge: String,
    pub(crate) is_gateway: bool,
    pub(crate) is_default_gateway: bool,
    /// Another address of the bridge gives way to the gateway's.
    pub(crate) forces_address: bool,
    pub(crate) masquerades: bool,
    /// 0: the kernel's choice.
    pub(crate) mtu: u32,
    pub(crate) hairpin: bool,
    pub(crate) promiscuous: bool,
    pub(crate) isolated: bool,
    /// VLANs of the port; empty without VLANs.
    pub(crate) vlans: Vec<VlanRange>,
    /// The VLAN of untagged frames, in which the gateway is too.
    pub(crate) access_vlan: Option<u16>,
    pub(crate) keeps_default_vlan: bool,
    pub(crate) guards_mac: bool,
    pub(crate) container_stays_down: bool,
    pub(crate) detects_duplicates: bool,
    pub(crate) has_ipam: bool,
    pub(crate) dns: DnsConfig,
    pub(crate) mac: Option<MacAddress>,
}

impl Config {
    /// Reads and checks what concerns an attachment.
    pub(crate) fn read(attachment: &Attachment) -> Result<Self, CniError> {
        let arguments = Arguments::read(attachment)?;
        Self::check(read_config(attachment)?, arguments.get("MAC"))
    }

    /// Checks a configuration.
    pub(crate) fn check(network: NetworkConfig, mac_argument: Option<&str>) -> Result<Self, CniError> {
        let has_ipam = network.has_ipam();
        let refuse = |reason: &str| Err(CniError::config(reason));
        if has_ipam && network.disable_container_interface {
            return refuse(
                "keys \"ipam\" and \"disableContainerInterface\": cannot use IPAM when the container's interface is disabled",
            );
        }
        check_bridge_name(&network.bridge)?;
        if network.mtu != 0 && !MTU_RANGE.contains(&network.mtu) {
            return Err(CniError::config(format!(
                "key \"mtu\": {} is not between {} and {}",
                network.mtu,
                MTU_RANGE.start(),
                MTU_RANGE.end()
            )));
        }
        if network.hairpin_mode && network.promisc_mode {
            return refuse(
                "cannot set hairpin mode and promiscuous mode at the same time: \"hairpinMode\", \"promiscMode\"",
            );
        }
        interface::check_masquerade_backend(&network.ip_masq_backend)?;
        let access_vlan = match network.vlan {
            0 => None,
            vlan => Some(vlan_id("vlan", vlan)?),
        };
        let mut vlans: Vec<VlanRange> = access_vlan
            .map(|vlan| VlanRange { first: vlan, last: vlan, pvid: true, untagged: true })
            .into_iter()
            .collect();
        for trunk in &network.vlan_trunk {
            vlans.extend(trunk.ranges()?);
        }
        let macs = [&network.runtime_config.mac, &network.args.cni.mac].into_iter().map(String::as_str);
        let wished = macs.chain(mac_argument).find(|mac| !mac.is_empty());
        Ok(Self {
            bridge: if network.bridge.is_empty() { DEFAULT_BRIDGE.to_owned() } else { network.bridge },
            is_gateway: network.is_gateway || network.is_default_gateway,
            is_default_gateway: network.is_default_gateway,
            forces_address: network.force_address,
            masquerades: network.ip_masq && has_ipam,
            mtu: network.mtu,
            hairpin: network.hairpin_mode,
            promiscuous: network.promisc_mode,
            isolated: network.port_isolation,
            vlans,
            access_vlan,
            keeps_default_vlan: network.preserve_default_vlan.unwrap_or(true),
            guards_mac: network.macspoofchk,
            container_stays_down: network.disable_container_interface,
            detects_duplicates: network.enabledad,
            has_ipam,
            dns: network.dns,
            mac: wished.map(mac::parse).transpose()?,
        })
    }
}

impl Trunk {
    fn ranges(&self) -> Result<Vec<VlanRange>, CniError> {
        let tagged = |first, last| VlanRange { first, last, pvid: false, untagged: false };
        let mut ranges = Vec::new();
        match (self.min_id, self.max_id) {
            (Some(min), Some(max)) => {
                let (first, last) = (vlan_id("vlanTrunk.minID", min)?, vlan_id("vlanTrunk.maxID", max)?);
                if first > last {
                    return Err(CniError::config(format!(
                        "key \"vlanTrunk\": minID {first} cannot be greater than maxID {last}"
                    )));
                }
                ranges.push(tagged(first, last));
            }
            (None, None) => {}
            (Some(_), None) => {
                return Err(CniError::config(
                    "key \"vlanTrunk\": minID and maxID should be configured simultaneously, maxID is missing",
                ));
            }
            (None, Some(_)) => {
                return Err(CniError::config(
                    "key \"vlanTrunk\": minID and maxID should be configured simultaneously, minID is missing",
                ));
            }
        }
        if let Some(id) = self.id {
            let id = vlan_id("vlanTrunk.id", id)?;
            ranges.push(tagged(id, id));
        }
        Ok(ranges)
    }
}

/// An empty name stands for the default.
fn check_bridge_name(name: &str) -> Result<(), CniError> {
    let is_bad = |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c.is_control();
    if name.len() > NAME_LIMIT || name == "." || name == ".." || name.contains(is_bad) {
        return Err(CniError::config(format!(
            "key \"bridge\": {name:?} is no name for a link: at most {NAME_LIMIT} bytes, without '/', ':', '%' and spaces"
        )));
    }
    Ok(())
}

fn vlan_id(key: &str, id: i64) -> Result<u16, CniError> {
    match u16::try_from(id) {
        Ok(id @ 1..=4094) => Ok(id),
        _ => {
            Err(CniError::config(format!("key \"{key}\": invalid VLAN ID {id} (must be between 1 and 4094)")))
        }
    }
}
