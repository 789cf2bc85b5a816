//! Leases and files.

use weir_sdk::CniError;
use weir_sdk::store::files;
use weir_sdk::store::leases::{self, AddressRange};

use crate::network::ip;
use crate::{Raid, Step};

impl Raid<'_> {
    /// Takes a step in the store; none if it is of another kind.
    pub(crate) fn store(&mut self, step: Step<'_>) -> Option<Result<(), CniError>> {
        Some(match step.text("do") {
            "open" => {
                let data_dir = step.has("data-dir").then(|| step.text("data-dir"));
                leases::open(data_dir).map(|pool| self.pools.push(pool)).map_err(Into::into)
            }
            "read-file" => files::read(step.text("path"))
                // Whoever reads the error has the file.
                .map_err(Into::into)
                .and_then(|text| Err(CniError::new(CniError::CONFIG, format!("the file says {text}")))),
            "reserve" | "reserve-next" | "release" | "usage" => self.lease(step),
            _ => return None,
        })
    }

    fn lease(&mut self, step: Step<'_>) -> Result<(), CniError> {
        if self.pools.is_empty() {
            self.pools.push(leases::open(None)?);
        }
        let Some(pool) = self.pools.last() else { return Ok(()) };
        match step.text("do") {
            "reserve" => pool.reserve(ip(step.text("address"))?, 0)?,
            "reserve-next" => {
                let skip = (0..step.count("skip")).map(|number| {
                    let [_, a, b, c] = number.to_be_bytes();
                    weir_sdk::net::types::IpAddress::Ipv4((10, a | 66, b, c))
                });
                let leased = pool.reserve_next(&ranges(step)?, None, &skip.collect::<Vec<_>>(), 0)?;
                if leased.is_none() {
                    return Err(CniError::new(CniError::EXHAUSTED, "no address is left"));
                }
            }
            "release" => {
                pool.release()?;
            }
            _ => {
                pool.usage(&ranges(step)?, &[])?;
            }
        }
        Ok(())
    }
}

/// One range, `count` times.
fn ranges(step: Step<'_>) -> Result<Vec<AddressRange>, CniError> {
    let range = AddressRange { first: ip(step.text("first"))?, last: ip(step.text("last"))? };
    Ok(vec![range; step.number("count").max(1) as usize])
}
