//! VLANs of bridge ports.

use std::collections::BTreeMap;

use super::links::VlanRange;
use super::types::NetError;

/// The VLANs of a port, and whether frames leave it without a tag.
#[derive(Debug, Clone, Default)]
pub(super) struct Vlans {
    untagged: BTreeMap<u16, bool>,
    /// The VLAN of frames without a tag.
    pvid: Option<u16>,
}

impl Vlans {
    /// Those of a new port.
    pub(super) fn of_port(default_vlan: bool) -> Self {
        if !default_vlan {
            return Self::default();
        }
        Self { untagged: [(1, true)].into(), pvid: Some(1) }
    }

    pub(super) fn add(&mut self, ranges: &[VlanRange]) -> Result<(), NetError> {
        for range in ranges {
            let is_range = 1 <= range.first && range.first <= range.last && range.last <= 4094;
            if !is_range || (range.pvid && range.first != range.last) {
                return Err(super::kernel(22, "add link to VLANs", "Invalid argument"));
            }
            for vlan in range.first..=range.last {
                self.untagged.insert(vlan, range.untagged);
                if range.pvid {
                    self.pvid = Some(vlan);
                } else if self.pvid == Some(vlan) {
                    self.pvid = None;
                }
            }
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, ranges: &[VlanRange]) -> Result<(), NetError> {
        for vlan in ranges.iter().flat_map(|range| range.first..=range.last) {
            if self.untagged.remove(&vlan).is_none() {
                return Err(NetError::NotFound(format!(
                    "take link out of VLAN {vlan}: No such file or directory"
                )));
            }
            self.pvid = self.pvid.filter(|pvid| *pvid != vlan);
        }
        Ok(())
    }

    pub(super) fn list(&self) -> Vec<VlanRange> {
        let range = |(vlan, untagged): (&u16, &bool)| VlanRange {
            first: *vlan,
            last: *vlan,
            pvid: self.pvid == Some(*vlan),
            untagged: *untagged,
        };
        self.untagged.iter().map(range).collect()
    }
}
