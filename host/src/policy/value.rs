//! Values of policy files that are texts with a meaning.

use std::time::Duration;

use super::interface;
use super::pattern::{self, Alphabet};
use super::rule::Key;

/// Kinds of links that plugins can create on the node.
pub(crate) const LINK_KINDS: [&str; 4] = ["bridge", "macvlan", "veth", "vxlan"];

/// Namespaces, as in [`Side`](super::Side).
const NAMESPACES: [&str; 2] = ["container", "host"];

/// Checks a name or pattern of a rule.
pub(crate) fn check_name(key: Key, text: &str) -> Result<(), String> {
    let one_of = |known: &[&str], what: &str| {
        if known.contains(&text) {
            return Ok(());
        }
        Err(format!("{text:?} is no {what}: expected one of {}", known.join(", ")))
    };
    match key {
        Key::Interfaces => check_interface(text),
        Key::Namespaces => one_of(&NAMESPACES, "namespace"),
        Key::LinkKinds => one_of(&LINK_KINDS, "kind of links that plugins create on the node"),
        Key::Links | Key::Bridges | Key::Parents => pattern::check(text, Alphabet::Link),
        Key::Sysctls => pattern::check(text, Alphabet::Setting),
        Key::Delegates => pattern::check(text, Alphabet::File),
        Key::DataDirs => check_directory(text),
        // Prefixes, ports and numbers are read elsewhere.
        Key::Addresses | Key::Routes | Key::Neighbors | Key::Ports | Key::Vlans | Key::Vnis => Ok(()),
    }
}

fn check_interface(text: &str) -> Result<(), String> {
    pattern::check(text, Alphabet::Text)?;
    if interface::KNOWN.iter().any(|known| pattern::matches(text, known)) {
        return Ok(());
    }
    let name = interface::unversioned(text);
    if name != text && interface::KNOWN.iter().any(|known| pattern::matches(name, known)) {
        return Err(format!("{text:?}: interfaces are named without their version: write \"{name}\""));
    }
    Err(format!("{text:?} is no interface: expected one of {}, or a pattern", interface::KNOWN.join(", ")))
}

/// A directory has one spelling, so that no pattern is got round by another.
fn check_directory(text: &str) -> Result<(), String> {
    pattern::check(text, Alphabet::Text)?;
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    match text.strip_prefix('/') {
        Some(parts) if parts.split('/').all(is_plain) => Ok(()),
        Some(_) => Err(format!("{text:?}: write it without \"//\", \"/.\", \"/..\" and a slash at its end")),
        None if text == "*" => Ok(()),
        None => Err(format!("{text:?} is no directory: expected a path that begins with a slash")),
    }
}

/// Checks a component's digest.
pub(crate) fn check_digest(text: &str) -> Result<(), String> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    match text.strip_prefix("sha256:") {
        Some(digits) if digits.len() == 64 && digits.bytes().all(is_digit) => Ok(()),
        _ => Err(format!(
            "{text:?} is no digest: expected \"sha256:\" and 64 lower-case hexadecimal digits, as \"weir plugin inspect\" shows them"
        )),
    }
}

/// Checks a public key of minisign.
pub(super) fn check_signing_key(text: &str) -> Result<(), String> {
    minisign_verify::PublicKey::from_base64(text).map(drop).map_err(|error| {
        format!("{text:?} is no public key of minisign ({error}): expected the second line of a .pub file")
    })
}

/// Reads a number of bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let units = [("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("B", 1)];
    amount(text, &units)
        .filter(|bytes| (1..=1 << 40).contains(bytes))
        .ok_or_else(|| format!("{text:?} is no size: expected the like of \"512KiB\", \"16MiB\" or \"1GiB\""))
}

/// Reads a duration.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000)];
    amount(text, &units)
        .filter(|milliseconds| (1..=3_600_000).contains(milliseconds))
        .map(Duration::from_millis)
        .ok_or_else(|| {
            format!(
                "{text:?} is no duration: expected the like of \"500ms\", \"5s\" or \"2m\", at most an hour"
            )
        })
}

/// A whole number with a unit behind it.
fn amount(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, factor) =
        units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor)))?;
    if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_have_units() {
        assert_eq!(size("16MiB"), Ok(16 << 20));
        assert_eq!(size("1B"), Ok(1));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_secs(120)));
        for bad in ["", "1", "MiB", "-1MiB", "+1MiB", "1 MiB", "1MB", "1.5MiB", "0B", "99999999999999999GiB"]
        {
            assert!(size(bad).is_err(), "{bad}");
        }
        for bad in ["", "5", "s", "0s", "61m", "1h", "1e3s", "99999999999999999999s"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn digests_have_one_spelling() {
        let digits = "0123456789abcdef".repeat(4);
        assert_eq!(check_digest(&format!("sha256:{digits}")), Ok(()));
        for bad in [digits.clone(), format!("sha256:{}", digits.to_uppercase()), format!("sha256:{digits}0")]
        {
            assert!(check_digest(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn interfaces_exist() {
        for good in ["*", "weir:net/links", "weir:store/*", "weir:*/l*"] {
            assert_eq!(check_name(Key::Interfaces, good), Ok(()), "{good}");
        }
        for bad in ["", "weir:net/link", "wasi:*", "weir:plugin/plugin", "Weir:net/links"] {
            assert!(check_name(Key::Interfaces, bad).is_err(), "{bad}");
        }
        assert!(
            check_name(Key::Interfaces, "weir:net/links@0.1.0").unwrap_err().contains("\"weir:net/links\"")
        );
        assert!(check_name(Key::LinkKinds, "ipvlan").unwrap_err().contains("bridge, macvlan, veth, vxlan"));
    }

    #[test]
    fn directories_have_one_spelling() {
        for good in ["*", "/srv", "/srv/leases-?/*"] {
            assert_eq!(check_name(Key::DataDirs, good), Ok(()), "{good}");
        }
        for bad in ["", "/", "srv", "*/leases", "/srv/", "/srv//leases", "/srv/../etc", "/srv/."] {
            assert!(check_name(Key::DataDirs, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn signing_keys_are_those_of_minisign() {
        let key = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
        assert_eq!(check_signing_key(key), Ok(()));
        for bad in ["", "RWQ", &key[1..], "untrusted comment: minisign public key"] {
            assert!(check_signing_key(bad).is_err(), "{bad}");
        }
    }
}
