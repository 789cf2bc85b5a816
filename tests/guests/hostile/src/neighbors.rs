//! Neighbors and forwarding databases.

use std::net::{IpAddr, Ipv4Addr};

use weir_sdk::CniError;
use weir_sdk::net::neighbors::{self, Forwarding, Neighbor};
use weir_sdk::net::types::{IpAddress, MacAddress};

use crate::network::ip;
use crate::{Raid, Step};

impl Raid<'_> {
    /// Takes a step that is about neighbors; none if it is of another kind.
    pub(crate) fn neighbors(&mut self, step: Step<'_>) -> Option<Result<(), CniError>> {
        let taken = match step.text("do") {
            "add-neighbors" => {
                stations(step).and_then(|list| self.with(step, |link| neighbors::add(link, &list)))
            }
            "remove-neighbors" => {
                stations(step).and_then(|list| self.with(step, |link| neighbors::remove(link, &list)))
            }
            "add-forwarding" => {
                entries(step).and_then(|list| self.with(step, |link| neighbors::add_forwarding(link, &list)))
            }
            "remove-forwarding" => entries(step)
                .and_then(|list| self.with(step, |link| neighbors::remove_forwarding(link, &list))),
            "list-neighbors" => self.with(step, |link| {
                let permanent = neighbors::list(link, None)?.iter().filter(|info| info.permanent).count();
                let known = match step.is("forwarding") {
                    true => neighbors::list_forwarding(link)?.iter().filter(|info| info.permanent).count(),
                    false => permanent,
                };
                assert_eq!(known as u64, step.number("count"), "so many are known");
                Ok(())
            }),
            _ => return None,
        };
        Some(taken)
    }
}

/// `count` of them, one address after the other.
fn stations(step: Step<'_>) -> Result<Vec<Neighbor>, CniError> {
    let first = ip(step.text("address"))?;
    let station = |number| Neighbor { address: after(first, number), mac: mac(step) };
    Ok((0..step.count("count").max(1)).map(station).collect())
}

fn entries(step: Step<'_>) -> Result<Vec<Forwarding>, CniError> {
    let destination = step.has("destination").then(|| ip(step.text("destination"))).transpose()?;
    let count = step.count("count").max(1);
    let entry = |number| Forwarding {
        mac: mac(step),
        destination: destination.map(|destination| after(destination, number)),
    };
    Ok((0..count).map(entry).collect())
}

fn after(address: IpAddress, number: u32) -> IpAddress {
    match IpAddr::from(address) {
        IpAddr::V4(address) => {
            IpAddr::from(Ipv4Addr::from_bits(address.to_bits().wrapping_add(number))).into()
        }
        address => address.into(),
    }
}

/// Any six bytes, those of nobody too.
fn mac(step: Step<'_>) -> MacAddress {
    let mut bytes = step.text("mac").split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap_or(0));
    let mut next = || bytes.next().unwrap_or(0);
    (next(), next(), next(), next(), next(), next())
}
