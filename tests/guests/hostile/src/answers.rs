//! Results that nobody should believe.

use weir_sdk::CniError;
use weir_sdk::net::types::IpPrefix;
use weir_sdk::types::{Interface, IpConfig, Route, Sandbox};

use crate::network::ip;
use crate::{Raid, Step};

impl Raid<'_> {
    /// Takes a step that adds to the result; none if it is of another kind.
    pub(crate) fn answer(&mut self, step: Step<'_>) -> Option<Result<(), CniError>> {
        let repeated = step.number("count").max(1);
        match step.text("do") {
            "answer-interface" => {
                let interface = Interface {
                    name: step.long_text("name"),
                    mac: step.text("mac").to_owned(),
                    mtu: None,
                    sandbox: match step.text("sandbox") {
                        "host" => Sandbox::Host,
                        "" => Sandbox::Container,
                        other => Sandbox::Other(other.to_owned()),
                    },
                };
                self.result.interfaces.extend((0..repeated).map(|_| interface.clone()));
            }
            "answer-address" => match prefix(step) {
                Ok(address) => {
                    let gateway = step.has("gateway").then(|| ip(step.text("gateway"))).transpose();
                    let gateway = match gateway {
                        Ok(gateway) => gateway,
                        Err(error) => return Some(Err(error)),
                    };
                    let interface = step.has("interface").then(|| step.count("interface"));
                    let ip = IpConfig { address, gateway, interface };
                    self.result.ips.extend((0..repeated).map(|_| ip));
                }
                Err(error) => return Some(Err(error)),
            },
            "answer-route" => match prefix(step) {
                Ok(destination) => {
                    let route = Route {
                        destination,
                        gateway: None,
                        mtu: None,
                        advmss: None,
                        priority: None,
                        table: None,
                        scope: None,
                    };
                    self.result.routes.extend((0..repeated).map(|_| route));
                }
                Err(error) => return Some(Err(error)),
            },
            "answer-names" => {
                let name = step.long_text("name");
                self.result.dns.search.extend((0..repeated).map(|_| name.clone()));
            }
            _ => return None,
        }
        Some(Ok(()))
    }
}

/// An address whose prefix length may be nonsense.
fn prefix(step: Step<'_>) -> Result<IpPrefix, CniError> {
    Ok(IpPrefix { address: ip(step.text("address"))?, length: step.number("length") as u8 })
}
