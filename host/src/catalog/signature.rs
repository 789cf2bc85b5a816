//! Detached signatures of components, in minisign's format.

use minisign_verify::{Error, PublicKey, Signature};

/// Why a signature does not count.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignatureError {
    /// The signature cannot be read.
    #[error("the signature cannot be read: {0}")]
    Unreadable(Error),
    /// A key cannot be read.
    #[error("the signing key {key:?} cannot be read: {error}")]
    Key { key: String, error: Error },
    /// No known key made it.
    #[error("the signature was made by none of the {0} known signing keys")]
    Unknown(usize),
    /// A known key made it, for something else.
    #[error("the signature of key {key} is not one of this file")]
    Wrong { key: String },
}

/// Checks a signature of `bytes` against `keys`, public keys in minisign's
/// format (one line, as `RWQ…`); returns the key that made it.
pub(crate) fn verify<'a>(
    bytes: &[u8],
    signature: &str,
    keys: &'a [String],
) -> Result<&'a str, SignatureError> {
    let signature = Signature::decode(signature).map_err(SignatureError::Unreadable)?;
    for text in keys {
        let key =
            PublicKey::from_base64(text).map_err(|error| SignatureError::Key { key: text.clone(), error })?;
        match key.verify(bytes, &signature, true) {
            Ok(()) => return Ok(text),
            Err(Error::UnexpectedKeyId) => {}
            Err(_) => return Err(SignatureError::Wrong { key: text.clone() }),
        }
    }
    Err(SignatureError::Unknown(keys.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the minisign-verify crate: a signature of `test`.
    const KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";
    const SIGNATURE: &str = "untrusted comment: signature from minisign secret key
RUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=
trusted comment: timestamp:1633700835\tfile:test\tprehashed
wLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==";
    /// The same with another number.
    const OTHER: &str = "RWQf6LRCGB9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

    fn keys(keys: &[&str]) -> Vec<String> {
        keys.iter().map(|key| (*key).to_owned()).collect()
    }

    #[test]
    fn a_known_key_has_to_have_signed_these_very_bytes() {
        assert_eq!(verify(b"test", SIGNATURE, &keys(&[KEY])).unwrap(), KEY);
        let wrong = verify(b"Test", SIGNATURE, &keys(&[KEY])).unwrap_err();
        assert!(matches!(wrong, SignatureError::Wrong { .. }), "{wrong}");
        let commented = SIGNATURE.replace("file:test", "file:best");
        let wrong = verify(b"test", &commented, &keys(&[KEY])).unwrap_err();
        assert!(matches!(wrong, SignatureError::Wrong { .. }), "{wrong}");
    }

    #[test]
    fn without_the_key_nothing_is_signed() {
        let unknown = verify(b"test", SIGNATURE, &[]).unwrap_err();
        assert!(matches!(unknown, SignatureError::Unknown(0)), "{unknown}");
        let bad = verify(b"test", SIGNATURE, &keys(&["RWQ"])).unwrap_err();
        assert!(matches!(bad, SignatureError::Key { .. }), "{bad}");
        let unreadable = verify(b"test", "signature", &keys(&[KEY])).unwrap_err();
        assert!(matches!(unreadable, SignatureError::Unreadable(_)), "{unreadable}");
        let unknown = verify(b"test", SIGNATURE, &keys(&[OTHER])).unwrap_err();
        assert!(matches!(unknown, SignatureError::Unknown(1)), "{unknown}");
        assert_eq!(verify(b"test", SIGNATURE, &keys(&[OTHER, KEY])).unwrap(), KEY);
    }
}
