//! Comments, in the form in which nft(8) keeps them: type, length and value,
//! a byte each for type and length.
//!
//! A comment of a set element names the element's owner. nft lists a comment
//! of any length, but refuses to load one of more than 128 bytes, and an
//! operator who saves the node's rule set has to be able to load it again. So
//! the name of an owner that is longer than that is kept in two parts: the
//! comment has its beginning and a hash of the whole, a record of weir's own
//! has the rest. nft ignores that record and loses it when it saves and loads
//! a rule set; the hash then still tells one owner from another.

/// The comment of a set element, a rule, a chain or a table.
const COMMENT: u8 = 0;
/// The comment of a set.
const SET_COMMENT: u8 = 7;
/// The order of the bytes of a set's keys.
const SET_BYTE_ORDER: u8 = 0;
/// What did not fit into the comment. nft knows types from 0 upwards.
const REST: u8 = 0xf7;

/// `NFTNL_UDATA_COMMENT_MAXLEN`, without the terminating zero.
const COMMENT_MAX: usize = 128;
/// `NFT_USERDATA_MAXLEN`.
const USERDATA_MAX: usize = 256;
/// What follows the beginning of a long name: a tilde and 16 digits.
const HASH_LEN: usize = 17;

/// The comment of anything but a set. `text` is short.
pub(super) fn plain(text: &str) -> Vec<u8> {
    let mut userdata = Vec::with_capacity(text.len() + 3);
    push(&mut userdata, COMMENT, text.as_bytes(), true);
    userdata
}

/// How nft has to read the keys of a set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum ByteOrder {
    /// Each field of the key has its own.
    OfFields = 0,
    Host = 1,
    Network = 2,
}

/// The comment of a set, and the order of the bytes of its keys: nft shows
/// names of interfaces as empty if it does not know. `text` is short.
pub(super) fn of_set(text: &str, order: ByteOrder) -> Vec<u8> {
    let mut userdata = Vec::with_capacity(text.len() + 9);
    push(&mut userdata, SET_BYTE_ORDER, &(order as u32).to_ne_bytes(), false);
    push(&mut userdata, SET_COMMENT, text.as_bytes(), true);
    userdata
}

/// The user data of an element of `owner`; none if the name is too long or
/// contains a zero.
pub(super) fn of_owner(owner: &str) -> Option<Vec<u8>> {
    if owner.contains('\0') {
        return None;
    }
    if owner.len() <= COMMENT_MAX {
        return Some(plain(owner));
    }
    let (_, rest) = owner.split_at(beginning(owner));
    let mut userdata = plain(&shortened(owner));
    if userdata.len() + 2 + rest.len() > USERDATA_MAX {
        return None;
    }
    push(&mut userdata, REST, rest.as_bytes(), false);
    Some(userdata)
}

/// The owner that user data names: empty if it names none.
pub(super) fn owner(userdata: &[u8]) -> String {
    let (mut comment, mut rest) = (&[][..], None);
    let mut records = userdata;
    while let [kind, length, tail @ ..] = records {
        let Some((value, tail)) = tail.split_at_checked(usize::from(*length)) else { break };
        match *kind {
            COMMENT => comment = value.strip_suffix(b"\0").unwrap_or(value),
            REST => rest = Some(value),
            _ => {}
        }
        records = tail;
    }
    let bytes = match rest {
        Some(rest) => [&comment[..comment.len().saturating_sub(HASH_LEN)], rest].concat(),
        None => comment.to_vec(),
    };
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// Whether `named`, as read from an element, means `owner`.
pub(super) fn names(named: &str, owner: &str) -> bool {
    named == owner || (owner.len() > COMMENT_MAX && named == shortened(owner))
}

fn push(userdata: &mut Vec<u8>, kind: u8, value: &[u8], terminate: bool) {
    let length = value.len() + usize::from(terminate);
    debug_assert!(length <= usize::from(u8::MAX), "a record's length is one byte");
    userdata.extend_from_slice(&[kind, length as u8]);
    userdata.extend_from_slice(value);
    if terminate {
        userdata.push(0);
    }
}

fn shortened(owner: &str) -> String {
    format!("{}~{:016x}", &owner[..beginning(owner)], fnv1a(owner.as_bytes()))
}

/// How much of a long name the comment holds.
fn beginning(owner: &str) -> usize {
    owner.floor_char_boundary(COMMENT_MAX - HASH_LEN)
}

/// The hash must be the same in every build of weir, which those of the
/// standard library are not.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_is_what_nft_writes() {
        assert_eq!(plain("ab"), [0, 3, b'a', b'b', 0]);
        let [a, b, c, d] = 1_u32.to_ne_bytes();
        assert_eq!(of_set("ab", ByteOrder::Host), [0, 4, a, b, c, d, 7, 3, b'a', b'b', 0]);
    }

    #[test]
    fn every_owner_reads_back() {
        for length in 0..=234 {
            let name: String = ('a'..='z').cycle().take(length).collect();
            let userdata = of_owner(&name).unwrap();
            assert!(userdata.len() <= USERDATA_MAX);
            assert!(usize::from(userdata[1]) <= COMMENT_MAX + 1, "nft could not load it again");
            assert_eq!(owner(&userdata), name);
        }
        let name = "é".repeat(100);
        assert_eq!(owner(&of_owner(&name).unwrap()), name);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert_eq!(of_owner(&"x".repeat(300)), None);
        assert_eq!(of_owner("a\0b"), None);
    }

    #[test]
    fn owners_that_begin_alike_are_not_confused() {
        let (one, other) = (format!("{}1", "x".repeat(150)), format!("{}2", "x".repeat(150)));
        assert!(!names(&owner(&of_owner(&one).unwrap()), &other));
        // As after `nft list ruleset` and `nft -f`.
        let saved = owner(&plain(&shortened(&one)));
        assert!(names(&saved, &one));
        assert!(!names(&saved, &other));
    }

    #[test]
    fn foreign_user_data_names_nobody() {
        assert_eq!(owner(&[]), "");
        assert_eq!(owner(&[0]), "");
        assert_eq!(owner(&[0, 9, b'a']), "");
        assert_eq!(owner(&[1, 4, 0, 0, 0, 0]), "");
        assert_eq!(owner(&[0xf7, 1, b'a']), "a");
    }
}
