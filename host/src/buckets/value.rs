//! Values as contents of files.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `WB1` and a line feed: the format |
//! | 4 | the checksum of the rest and of the key |
//! | 8 | the tag: a random number that tells this change from any other |
//! | up to 16,384 | the value |

use std::io;

use rustix::rand::{GetRandomFlags, getrandom};
use serde::{Deserialize, Serialize};

use super::VALUE_LIMIT;

const FORMAT: [u8; 4] = *b"WB1\n";
/// Bytes before the value.
const START: usize = 16;
/// Bytes of the longest file.
pub(super) const FILE_LIMIT: usize = START + VALUE_LIMIT;

/// A value, as one change gave it to a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Value {
    tag: u64,
    bytes: Vec<u8>,
}

impl Value {
    /// A value with a tag that no other has.
    pub(crate) fn new(bytes: Vec<u8>) -> io::Result<Self> {
        let mut tag = [0; 8];
        // So few bytes come at once.
        getrandom(&mut tag, GetRandomFlags::empty())?;
        Ok(Self { tag: u64::from_le_bytes(tag), bytes })
    }

    /// What tells the change that made it from any other, also from one to the
    /// same value.
    pub(crate) fn tag(&self) -> u64 {
        self.tag
    }

    /// The value itself.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// How many bytes it has.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// The content of the file for a key.
    pub(super) fn encode(&self, key: &str) -> Vec<u8> {
        let tag = self.tag.to_le_bytes();
        let sum = checksum(key, tag, &self.bytes);
        [&FORMAT[..], &sum.to_le_bytes(), &tag, &self.bytes].concat()
    }

    /// Reads the content of the file for a key; why not, if it is no whole
    /// value of it.
    pub(super) fn decode(key: &str, content: &[u8]) -> Result<Self, String> {
        let read = || {
            let (format, rest) = content.split_first_chunk()?;
            let (sum, rest) = rest.split_first_chunk()?;
            let (tag, bytes) = rest.split_first_chunk()?;
            let is_whole = *format == FORMAT
                && bytes.len() <= VALUE_LIMIT
                && u32::from_le_bytes(*sum) == checksum(key, *tag, bytes);
            is_whole.then(|| Self { tag: u64::from_le_bytes(*tag), bytes: bytes.to_vec() })
        };
        read().ok_or_else(|| "it is damaged, or not what weir wrote".to_owned())
    }
}

fn checksum(key: &str, tag: [u8; 8], bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&tag);
    // Or the end of one might pass for the start of the other.
    hasher.update(&key.len().to_le_bytes());
    hasher.update(key.as_bytes());
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_damage_is_found() {
        let value = Value::new(b"ten pods".to_vec()).unwrap();
        let content = value.encode("count");
        assert_eq!(Value::decode("count", &content), Ok(value));
        // That of another key, under this one's name.
        assert!(Value::decode("other", &content).is_err());
        for length in 0..content.len() {
            assert!(Value::decode("count", &content[..length]).is_err(), "{length}");
        }
        for bit in 0..content.len() * 8 {
            let mut damaged = content.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Value::decode("count", &damaged).is_err(), "bit {bit}");
        }
        assert!(Value::decode("count", &[0; 100]).is_err());
        let longer = Value { tag: 1, bytes: vec![0; VALUE_LIMIT + 1] };
        assert!(Value::decode("count", &longer.encode("count")).is_err());
    }

    #[test]
    fn two_changes_to_the_same_value_can_be_told_apart() {
        let value = || Value::new(Vec::new()).unwrap();
        assert_ne!(value().tag(), value().tag());
    }
}
