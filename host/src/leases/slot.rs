//! The slots of an index, as bytes.

use std::net::IpAddr;

/// Bytes of a slot: key 8, address 16, state 1, padding 3, check 4.
pub(super) const SIZE: usize = 32;

/// One place of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Slot {
    /// Never used: a search ends here.
    Empty,
    /// Used once: a search goes on.
    Removed,
    /// A lease: the hash of its owner, and its address.
    Lease(u64, IpAddr),
}

impl Slot {
    /// The bytes of the slot at `position`. No slot is all zeros and each
    /// knows where it belongs, so that holes and shifted blocks are found.
    pub(super) fn encode(self, salt: u64, position: u64) -> [u8; SIZE] {
        let mut bytes = [0; SIZE];
        match self {
            Self::Empty => bytes[24] = b'e',
            Self::Removed => bytes[24] = b'r',
            Self::Lease(key, address) => {
                bytes[..8].copy_from_slice(&key.to_le_bytes());
                match address {
                    IpAddr::V4(address) => {
                        bytes[8..12].copy_from_slice(&address.octets());
                        bytes[24] = b'4';
                    }
                    IpAddr::V6(address) => {
                        bytes[8..24].copy_from_slice(&address.octets());
                        bytes[24] = b'6';
                    }
                }
            }
        }
        let check = check(&bytes, salt, position);
        bytes[28..].copy_from_slice(&check);
        bytes
    }

    /// Understands the bytes of the slot at `position`; none if they are
    /// damaged.
    pub(super) fn decode(bytes: &[u8; SIZE], salt: u64, position: u64) -> Option<Self> {
        if bytes[28..] != check(bytes, salt, position) {
            return None;
        }
        let key = u64::from_le_bytes(bytes[..8].try_into().ok()?);
        match bytes[24] {
            b'e' => Some(Self::Empty),
            b'r' => Some(Self::Removed),
            b'4' => Some(Self::Lease(key, IpAddr::from(<[u8; 4]>::try_from(&bytes[8..12]).ok()?))),
            b'6' => Some(Self::Lease(key, IpAddr::from(<[u8; 16]>::try_from(&bytes[8..24]).ok()?))),
            _ => None,
        }
    }
}

fn check(bytes: &[u8; SIZE], salt: u64, position: u64) -> [u8; 4] {
    let sum = mix(bytes[..28].chunks(8).fold(salt ^ mix(position), |sum, part| {
        let mut word = [0; 8];
        word[..part.len()].copy_from_slice(part);
        mix(sum ^ u64::from_le_bytes(word))
    }));
    let [a, b, c, d, ..] = sum.to_le_bytes();
    [a, b, c, d]
}

/// A hash of `parts`, the same on every machine and in every version: it
/// outlives the process, which the standard library's hashers do not promise.
/// FNV-1a, with the bits spread at the end.
pub(super) fn hash(salt: u64, parts: &[&[u8]]) -> u64 {
    let mut sum = 0xcbf2_9ce4_8422_2325 ^ salt;
    for part in parts {
        for byte in part.iter().chain(&[0]) {
            sum = (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    mix(sum)
}

/// Spreads the bits of a word: each of them affects each of the result.
fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    word = (word ^ (word >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    word ^ (word >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_survives_and_every_damage_is_found() {
        let slots = [
            Slot::Empty,
            Slot::Removed,
            Slot::Lease(7, "10.0.0.1".parse().unwrap()),
            Slot::Lease(u64::MAX, "fd00::1".parse().unwrap()),
        ];
        for slot in slots {
            let bytes = slot.encode(42, 9);
            assert_eq!(Slot::decode(&bytes, 42, 9), Some(slot));
            assert_eq!(Slot::decode(&bytes, 42, 10), None);
            assert_eq!(Slot::decode(&bytes, 43, 9), None);
            for bit in 0..SIZE * 8 {
                let mut damaged = bytes;
                damaged[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(Slot::decode(&damaged, 42, 9), None, "bit {bit} of {slot:?}");
            }
        }
        assert_eq!(Slot::decode(&[0; SIZE], 0, 0), None);
    }

    #[test]
    fn parts_do_not_run_together() {
        assert_ne!(hash(0, &[b"ab", b"c"]), hash(0, &[b"a", b"bc"]));
        assert_ne!(hash(0, &[b"a"]), hash(1, &[b"a"]));
    }
}
