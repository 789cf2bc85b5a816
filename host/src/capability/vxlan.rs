//! `weir:net/links`: VXLAN tunnel endpoints.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use wasmtime::component::Resource;

use super::error::net_error;
use super::links::LinkHandle;
use super::namespaces::{NetnsHandle, check_name, random_mac};
use crate::call::Served;
use crate::journal::Side;
use crate::netlink::{LinkState, VxlanSpec};
use crate::policy::{LAST_VNI, Operation};
use crate::session::Session;
use crate::wit;
use crate::wit::weir::net::links::VxlanOptions;
use crate::wit::weir::net::types::NetError;

/// Below are the ports of the node's own services.
const FIRST_PORT: u16 = 1024;

impl Session {
    /// Makes a tunnel endpoint on the node.
    pub(super) fn make_vxlan(
        &mut self,
        netns: &Resource<NetnsHandle>,
        options: VxlanOptions,
        underlay: Option<&Resource<LinkHandle>>,
        bridge: Option<&Resource<LinkHandle>>,
    ) -> Served<Result<Resource<LinkHandle>, NetError>> {
        self.call.check_time()?;
        if let Err(error) = check_name(&options.name).and_then(|()| check_identifier(&options)) {
            return Ok(Err(error));
        }
        let (netns, side) = self.netns_of(netns)?;
        if side == Side::Container {
            return Ok(Err(NetError::Invalid(format!(
                "create VXLAN endpoint {}: it is shared by attachments, and has no place in a container",
                options.name
            ))));
        }
        let below = match underlay.map(|underlay| self.index_in(underlay, side)).transpose()?.transpose() {
            // It may have got another name since it was found.
            Ok(index) => index.map(|index| netns.link_by_index(index)).transpose().map_err(net_error),
            Err(error) => Err(error),
        };
        let below = match below {
            Ok(below) => below,
            Err(error) => return Ok(Err(error)),
        };
        let parent = below.as_ref().map(|below| below.name.as_str());
        let object =
            parent.map_or_else(|| options.name.clone(), |parent| format!("{} on {parent}", options.name));
        let local = options.local.map(wit::ip);
        let mut wanted = vec![
            Operation::PutOn { kind: "vxlan", parent },
            Operation::CreateLink { kind: "vxlan", name: &options.name },
            Operation::Vni { parent, vni: options.vni },
        ];
        // Whoever sends a packet becomes a remote end.
        if options.learning {
            wanted.push(Operation::Neighbor(any_address(local)));
        }
        match self.permit("create-vxlan", &object, &wanted)? {
            Err(NetError::Denied(reason)) if options.learning => {
                return Ok(Err(NetError::Denied(format!(
                    "create VXLAN endpoint {}, which learns its remote ends: {reason}",
                    options.name
                ))));
            }
            Err(denied) => return Ok(Err(denied)),
            Ok(()) => {}
        }
        let controller = match bridge {
            Some(bridge) => match self.index_in(bridge, side)? {
                Ok(index) => match self.permit_bridge(bridge, "create-vxlan")? {
                    Ok(()) => Some(index),
                    Err(denied) => return Ok(Err(denied)),
                },
                Err(error) => return Ok(Err(error)),
            },
            None => None,
        };
        let vxlan = VxlanSpec {
            mac: options.mac.map(wit::mac).map_or_else(random_mac, Ok)?,
            name: options.name,
            mtu: options.mtu,
            up: options.up,
            vni: options.vni,
            port: options.port,
            local,
            learning: options.learning,
            underlay: below.as_ref().map(|below| below.index),
            controller,
        };
        if let Err(error) = check_fit(&vxlan, below.as_ref()) {
            return Ok(Err(error));
        }
        let made =
            self.call.change_shared(&self.guest, "create-vxlan", object, || netns.create_vxlan(&vxlan))?;
        match made {
            Ok(link) => Ok(Ok(self.push_link(netns, side, link, true)?)),
            Err(error) => Ok(Err(net_error(error))),
        }
    }
}

/// All addresses that remote ends of a tunnel can have.
fn any_address(local: Option<IpAddr>) -> IpNet {
    match local {
        Some(IpAddr::V6(_)) => Ipv6Net::default().into(),
        _ => Ipv4Net::default().into(),
    }
}

fn check_identifier(options: &VxlanOptions) -> Result<(), NetError> {
    if options.vni <= LAST_VNI {
        return Ok(());
    }
    Err(NetError::Invalid(format!(
        "create VXLAN endpoint {}: identifier {} has more than 24 bits",
        options.name, options.vni
    )))
}

/// What the kernel would refuse without saying why, or do otherwise than it
/// was asked.
fn check_fit(vxlan: &VxlanSpec, below: Option<&LinkState>) -> Result<(), NetError> {
    let invalid =
        |reason: String| Err(NetError::Invalid(format!("create VXLAN endpoint {}: {reason}", vxlan.name)));
    if vxlan.port < FIRST_PORT {
        return invalid(format!("port {} belongs to the node: name one from {FIRST_PORT} on", vxlan.port));
    }
    match below {
        Some(below) if vxlan.mtu > below.mtu.saturating_sub(vxlan.overhead()) => invalid(format!(
            "MTU {} and {} bytes of headers are above the MTU of {}, which is {}",
            vxlan.mtu,
            vxlan.overhead(),
            below.name,
            below.mtu
        )),
        _ => Ok(()),
    }
}
