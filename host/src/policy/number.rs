//! Numbers of VLANs and VXLAN networks, as rules name them: `100`, `100-199`.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::rule::Key;

/// The highest number of a VLAN; the lowest is 1 (IEEE 802.1Q).
pub(crate) const LAST_VLAN: u32 = 4094;

/// The highest identifier of a VXLAN network, with 24 bits (RFC 7348, section 5).
pub(crate) const LAST_VNI: u32 = (1 << 24) - 1;

/// Numbers that follow on each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Numbers {
    first: u32,
    last: u32,
}

impl Numbers {
    /// The numbers between two, with both, in whatever order.
    pub fn between(one: u32, other: u32) -> Self {
        Self { first: one.min(other), last: one.max(other) }
    }

    /// Reads an entry of a policy file.
    pub(crate) fn parse(key: Key, text: &str) -> Result<Self, String> {
        let (lowest, highest) = if key == Key::Vlans { (1, LAST_VLAN) } else { (0, LAST_VNI) };
        let number = |text: &str| {
            let is_plain =
                text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
            text.parse::<u32>().ok().filter(|number| is_plain && (lowest..=highest).contains(number))
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (number(first), number(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            (Some(_), Some(_)) => {
                Err(format!("{text:?} ends before it begins: write the lower number first"))
            }
            _ => Err(format!(
                "{text:?} names no numbers from {lowest} to {highest}: expected the like of \"100\" or \"100-199\""
            )),
        }
    }

    /// Whether each of them is in an entry of a list.
    pub(super) fn are_in(&self, list: &[Self]) -> bool {
        let mut next = self.first;
        while let Some(entry) = list.iter().find(|entry| entry.first <= next && next <= entry.last) {
            if entry.last >= self.last {
                return true;
            }
            next = entry.last + 1;
        }
        false
    }

    /// Whether all of `narrow` is in it.
    pub(super) fn covers(&self, narrow: &Self) -> bool {
        self.first <= narrow.first && narrow.last <= self.last
    }

    /// Whether it has a number in common with `other`.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.first, self.last) {
            (first, last) if first == last => write!(f, "{first}"),
            (first, last) => write!(f, "{first}-{last}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_read_back() {
        for (key, text) in
            [(Key::Vlans, "1"), (Key::Vlans, "100-4094"), (Key::Vnis, "0"), (Key::Vnis, "4096-16777215")]
        {
            assert_eq!(Numbers::parse(key, text).unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_is_no_entry_is_refused() {
        for bad in ["", "0", "4095", "01", "+1", "1-", "-1", "9-1", "1-2-3", "*", " 1", "0x1", "4294967297"] {
            assert!(Numbers::parse(Key::Vlans, bad).is_err(), "{bad}");
        }
        assert!(Numbers::parse(Key::Vnis, "16777216").is_err());
    }

    #[test]
    fn ranges_cover_and_overlap() {
        let numbers = |text| Numbers::parse(Key::Vlans, text).unwrap();
        let wide = numbers("100-199");
        for (other, covered, common) in
            [("100-199", true, true), ("150", true, true), ("199-200", false, true), ("200", false, false)]
        {
            assert_eq!((wide.covers(&numbers(other)), wide.overlaps(&numbers(other))), (covered, common));
        }
        assert!(!numbers("150").covers(&wide));
        let list = ["150-199", "7", "100-120", "110-149"].map(numbers);
        for (text, is_in) in
            [("100-199", true), ("7", true), ("99-120", false), ("150-200", false), ("8", false)]
        {
            assert_eq!(numbers(text).are_in(&list), is_in, "{text}");
        }
        assert!(!numbers("7").are_in(&[]));
    }
}
