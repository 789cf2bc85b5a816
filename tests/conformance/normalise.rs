//! Makes two labs comparable: random names and addresses get names of their
//! own.

use serde_json::Value;

use crate::lab::{Facts, Snapshot};

/// Texts that are random or differ between labs, and what stands for them.
#[derive(Debug, Default)]
pub(crate) struct Names(Vec<(String, String)>);

impl Names {
    /// Names everything random in the namespaces. `kept` is what the
    /// configuration says: a hardware address that stands in it is not random.
    pub(crate) fn of<'a>(namespaces: impl IntoIterator<Item = (&'a str, &'a Snapshot)>, kept: &str) -> Self {
        let mut names = Self::default();
        let kept = kept.to_ascii_lowercase();
        let mut number = 0;
        for (namespace, snapshot) in namespaces {
            for (name, mac) in &snapshot.links {
                let mut called = name.clone();
                if is_random(name) {
                    number += 1;
                    called = format!("veth#{number}");
                    names.0.push((name.clone(), called.clone()));
                }
                let is_known = names.0.iter().any(|(text, _)| text == mac);
                if mac.is_empty() || mac == "00:00:00:00:00:00" || kept.contains(mac) || is_known {
                    continue;
                }
                if let Some(address) = link_local(mac) {
                    names.0.push((address, format!("link-local of {namespace} {called}")));
                }
                names.0.push((mac.clone(), format!("mac of {namespace} {called}")));
            }
        }
        names
    }

    /// Also names the path of something in a lab.
    pub(crate) fn path(&mut self, path: &str, name: &str) {
        // Longer paths first, since one may begin with another.
        self.0.push((path.to_owned(), name.to_owned()));
        self.0.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
    }

    /// Replaces all of them in a text.
    pub(crate) fn apply(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (random, name)| text.replace(random, name))
    }

    /// The same in facts.
    pub(crate) fn apply_to(&self, facts: &Facts) -> Facts {
        facts.iter().map(|(key, value)| (self.apply(key), self.apply(value))).collect()
    }

    /// Turns a result into facts.
    pub(crate) fn result(&self, result: &Value) -> Facts {
        let mut facts = Facts::new();
        flatten("result", result, &mut facts);
        self.apply_to(&facts)
    }
}

/// `veth` and eight hexadecimal digits, as plugins name the node's end.
fn is_random(name: &str) -> bool {
    name.strip_prefix("veth")
        .is_some_and(|rest| rest.len() == 8 && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The link-local address that the kernel makes of a hardware address.
fn link_local(mac: &str) -> Option<String> {
    let bytes: Vec<u8> =
        mac.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>().ok()?;
    let [a, b, c, d, e, f] = bytes.try_into().ok()?;
    let host = [a ^ 2, b, c, 0xff, 0xfe, d, e, f];
    let words = host.as_chunks::<2>().0.iter().map(|pair| u16::from_be_bytes(*pair));
    let mut address = [0xfe80, 0, 0, 0, 0, 0, 0, 0];
    for (place, word) in address[4..].iter_mut().zip(words) {
        *place = word;
    }
    Some(std::net::Ipv6Addr::from(address).to_string())
}

/// Leaves of a JSON value by their path; what is empty is not there.
fn flatten(path: &str, value: &Value, facts: &mut Facts) {
    match value {
        Value::Null => {}
        Value::Object(object) => {
            object.iter().for_each(|(key, inner)| flatten(&format!("{path}/{key}"), inner, facts));
        }
        Value::Array(items) => {
            items
                .iter()
                .enumerate()
                .for_each(|(place, inner)| flatten(&format!("{path}/{place}"), inner, facts));
        }
        Value::String(text) => {
            facts.insert(path.to_owned(), text.clone());
        }
        other => {
            facts.insert(path.to_owned(), other.to_string());
        }
    }
}
