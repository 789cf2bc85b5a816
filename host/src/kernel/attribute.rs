//! Attributes as the kernel writes them. A listing of all elements of a set is
//! long, so answers are read in place, and only what is needed of them.

/// The attributes in `bytes`, each with its type and value. Ends at the first
/// that is cut off.
pub(crate) fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// Bits of the type that tell how the value is made.
    const FLAGS: u16 = 0xc000;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1, ..] = *rest else { return None };
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]) & !FLAGS, value))
    })
}

/// The value of the first attribute of a type.
pub(crate) fn attribute(bytes: &[u8], kind: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(other, _)| *other == kind).map(|(_, value)| value)
}

/// A number, which nf_tables writes in network order.
pub(crate) fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// A text, without the terminating zero.
pub(crate) fn text(value: &[u8]) -> Option<&str> {
    str::from_utf8(value.strip_suffix(b"\0").unwrap_or(value)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = [(value.len() as u16 + 4).to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn attributes_are_found_behind_padding() {
        let bytes = [encoded(1, b"abc\0e"), encoded(0x8002, &7_u32.to_be_bytes()), encoded(3, b"")].concat();
        assert_eq!(attributes(&bytes).count(), 3);
        assert_eq!(attribute(&bytes, 2).and_then(number), Some(7));
        assert_eq!(attribute(&bytes, 3), Some(&[][..]));
        assert_eq!(attribute(&bytes, 4), None);
        assert_eq!(text(b"abc\0"), Some("abc"));
    }

    #[test]
    fn malformed_attributes_end_the_list() {
        for bytes in [&[][..], &[0; 3], &[0; 8], &[3, 0, 1, 0], &[9, 0, 1, 0, 1, 2, 3, 4], &[255; 64]] {
            assert_eq!(attributes(bytes).count(), 0);
        }
    }
}
