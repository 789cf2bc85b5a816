//! Signatures in minisign's format, as an author of plugins makes them.

use ed25519_compact::{KeyPair, Noise, Seed};

/// The algorithm that signs the file itself and not its hash.
const ALGORITHM: &[u8] = b"Ed";

/// A key of an author.
pub(crate) struct SigningKey {
    number: u8,
    pair: KeyPair,
}

impl SigningKey {
    /// A key that is always the same for a number.
    pub(crate) fn new(number: u8) -> Self {
        Self { number, pair: KeyPair::from_seed(Seed::new([number; 32])) }
    }

    /// The public key, as a policy names it.
    pub(crate) fn public(&self) -> String {
        base64(&[ALGORITHM, &self.id(), self.pair.pk.as_ref()].concat())
    }

    /// The content of a signature's file.
    pub(crate) fn sign(&self, bytes: &[u8]) -> String {
        const COMMENT: &str = "made by a test";
        let signature = self.pair.sk.sign(bytes, None::<Noise>);
        let whole = self.pair.sk.sign([signature.as_ref(), COMMENT.as_bytes()].concat(), None);
        let first = base64(&[ALGORITHM, &self.id(), signature.as_ref()].concat());
        let second = base64(whole.as_ref());
        format!("untrusted comment: a test\n{first}\ntrusted comment: {COMMENT}\n{second}\n")
    }

    fn id(&self) -> [u8; 8] {
        [self.number; 8]
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = (0..3).fold(0_u32, |bits, place| bits << 8 | u32::from(*group.get(place).unwrap_or(&0)));
        for place in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * place) & 63) as usize];
            text.push(if place > group.len() { '=' } else { char::from(digit) });
        }
    }
    text
}
