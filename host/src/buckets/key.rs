//! Keys as names of files.
//!
//! A key may be any text, as long as a file name and with every character that
//! a path gives a meaning to. So its bytes are written in base 32 (RFC 4648, in
//! lower case and without padding), of which 128 take 205 characters. Those are
//! the same on file systems that do not tell capital letters or spellings of
//! Unicode apart, and none begins with a dot.

use super::BucketError;
use crate::printable::printable;

/// Bytes of a key.
const LIMIT: usize = 128;

const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Bits of a digit.
const WIDTH: u32 = 5;

/// The name of the file for a key.
pub(super) fn file_name(key: &str) -> Result<String, BucketError> {
    match key.len() {
        0 => Err(BucketError::Invalid("a key of a bucket must not be empty".to_owned())),
        1..=LIMIT => Ok(encode(key.as_bytes())),
        length => Err(BucketError::Invalid(format!(
            "the key {:?} of a bucket has {length} bytes, at most {LIMIT}",
            printable(key)
        ))),
    }
}

/// The key that a file is for; none if it is for none.
pub(super) fn of_file_name(name: &str) -> Option<String> {
    let key = String::from_utf8(decode(name)?).ok()?;
    // Each key has one name only.
    (file_name(&key).ok()? == name).then_some(key)
}

fn encode(bytes: &[u8]) -> String {
    let digit = |bits: u32| char::from(DIGITS[(bits & 31) as usize]);
    let (mut name, mut bits, mut count) = (String::new(), 0_u32, 0);
    for byte in bytes {
        // At most four bits are left of the bytes before.
        bits = (bits << 8) | u32::from(*byte);
        count += 8;
        while count >= WIDTH {
            count -= WIDTH;
            name.push(digit(bits >> count));
        }
    }
    if count > 0 {
        name.push(digit(bits << (WIDTH - count)));
    }
    name
}

fn decode(name: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut count) = (Vec::new(), 0_u32, 0);
    for digit in name.bytes() {
        let value = DIGITS.iter().position(|known| *known == digit)?;
        bits = (bits << WIDTH) | u32::try_from(value).ok()?;
        count += WIDTH;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count).to_le_bytes()[0]);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_those_of_the_standard() {
        for (key, name) in [("f", "my"), ("fo", "mzxq"), ("foo", "mzxw6"), ("foobar", "mzxw6ytboi")] {
            assert_eq!(file_name(key).unwrap(), name);
        }
        assert_eq!(file_name(&"\u{10ffff}".repeat(32)).unwrap().len(), 205);
    }

    #[test]
    fn keys_are_neither_empty_nor_long() {
        assert!(matches!(file_name(""), Err(BucketError::Invalid(_))));
        assert!(file_name(&"k".repeat(128)).is_ok());
        let error = file_name(&"\u{1b}".repeat(1 << 20)).unwrap_err().to_string();
        assert!(error.len() < 8192 && !error.contains('\u{1b}'), "{error}");
    }

    #[test]
    fn other_names_are_no_keys() {
        for name in ["", ".unfinished", "MY", "my======", "mz", "m", "lock", "77", "my.", "../my"] {
            assert_eq!(of_file_name(name), None, "{name}");
        }
    }

    proptest! {
        #[test]
        fn each_key_has_a_name_of_its_own(one in ".{1,128}", other in ".{1,128}") {
            prop_assume!(one.len() <= LIMIT && other.len() <= LIMIT);
            let name = file_name(&one).unwrap();
            prop_assert!(name.len() <= 205 && name.bytes().all(|byte| DIGITS.contains(&byte)));
            prop_assert_eq!(name == file_name(&other).unwrap(), one == other);
            prop_assert_eq!(of_file_name(&name), Some(one));
        }

        #[test]
        fn no_name_is_that_of_two_keys(name in "[a-z2-7]{0,12}") {
            if let Some(key) = of_file_name(&name) {
                prop_assert_eq!(file_name(&key).unwrap(), name);
            }
        }
    }
}
