//! Hardware addresses as text.

use crate::CniError;
use crate::bindings::platform::weir::net::types::MacAddress;

/// Reads an interface's address: six bytes in hexadecimal, with `:` or `-`
/// between them, or `.` between pairs of them.
pub fn parse(text: &str) -> Result<MacAddress, CniError> {
    let refuse = || CniError::config(format!("hardware address {text:?}: expected one as 02:00:00:00:00:01"));
    let is_in_pairs = text.len() == 14 && text.bytes().skip(4).step_by(5).all(|byte| byte == b'.');
    let parts: Vec<&str> = if is_in_pairs && text.is_ascii() {
        text.split('.').flat_map(|pair| [&pair[..pair.len() / 2], &pair[pair.len() / 2..]]).collect()
    } else {
        text.split([':', '-']).collect()
    };
    let bytes: Vec<u8> = parts
        .iter()
        .filter(|part| part.len() == 2 && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .map(|part| u8::from_str_radix(part, 16).map_err(|_| refuse()))
        .collect::<Result<_, _>>()?;
    match bytes[..] {
        // The lowest bit is that of groups (IEEE 802, section 8.2.2).
        [a, ..] if parts.len() == 6 && a & 1 == 1 => Err(CniError::config(format!(
            "hardware address {text:?}: it is that of a group, not of one interface"
        ))),
        [a, b, c, d, e, f] if parts.len() == 6 => Ok((a, b, c, d, e, f)),
        _ => Err(refuse()),
    }
}

/// Writes an address; nothing for a link that has none.
pub fn text(mac: Option<MacAddress>) -> String {
    mac.map(|(a, b, c, d, e, f)| format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_six_bytes() {
        assert_eq!(parse("02:00-0A:ff:00:01").unwrap(), (2, 0, 10, 255, 0, 1));
        assert_eq!(parse("0200.0Aff.0001").unwrap(), (2, 0, 10, 255, 0, 1));
        assert_eq!(text(Some((2, 0, 10, 255, 0, 1))), "02:00:0a:ff:00:01");
        for bad in [
            "",
            "02:00:00:00:00",
            "2:0:0:0:0:1",
            "02:00:00:00:00:zz",
            "02:00:00:00:00:00:01",
            "+2:00:00:00:00:01",
            "01:00:5e:00:00:01",
            "0200.0aff",
            "0200.0aff.00:1",
            "0200.0a.ff0001",
            "02.00.0a.ff.01",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
