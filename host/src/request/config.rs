//! The network configuration: the keys that the host itself needs. What the
//! rest means is for the plugins to say.

use std::collections::HashSet;

use serde_json::Value;

use super::environment::is_identifier;
use crate::failure::Failure;
use crate::result::CniResult;
use crate::version::Version;

/// More is no network configuration but an attack or an accident.
const SIZE_LIMIT: usize = 1 << 20;

/// One interface of one container.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AttachmentId {
    /// The container.
    pub container_id: String,
    /// The interface in it.
    pub ifname: String,
}

/// A network configuration.
#[derive(Debug)]
pub struct Config {
    /// As the runtime sent it.
    pub text: String,
    /// The same, parsed.
    pub value: Value,
    /// `cniVersion`.
    pub version: Version,
    /// `name`.
    pub name: String,
    /// `type`; containerd leaves it out for `loopback`.
    pub kind: Option<String>,
    /// `ipam.type`.
    pub ipam_kind: Option<String>,
    /// `prevResult`.
    pub prev_result: Option<CniResult>,
    /// Why it could not be read.
    unreadable: Option<String>,
    /// The attachments in use, if the runtime sent such a list (GC).
    pub valid_attachments: Option<HashSet<AttachmentId>>,
}

impl Config {
    /// Reads a configuration from JSON.
    pub fn parse(input: &str) -> Result<Self, Failure> {
        if input.len() > SIZE_LIMIT {
            return Err(Failure::config(format!(
                "network configuration: {} bytes on standard input, at most {SIZE_LIMIT} are read",
                input.len()
            )));
        }
        let value: Value = weir_config::from_str(input)?;
        if !value.is_object() {
            return Err(Failure::config("network configuration: expected a JSON object"));
        }
        let version = match string(&value, "cniVersion")? {
            None | Some("") => Version::UNSTATED,
            Some(text) => Version::parse(text).ok_or_else(|| Failure::unknown_version(text))?,
        };
        let name = match string(&value, "name")? {
            None | Some("") => {
                return Err(Failure::config(
                    "network configuration: missing network name: key \"name\" is required",
                ));
            }
            Some(name) if is_identifier(name) => name.to_owned(),
            Some(name) => {
                return Err(Failure::config(format!(
                    "network configuration: key \"name\": invalid characters in {name:?}: it must start with a letter or digit, followed by letters, digits, '_', '.' or '-'"
                )));
            }
        };
        let kind = plugin_type(&value, "type")?;
        let ipam_kind = match weir_config::get(&value, "ipam") {
            Some(ipam) if ipam.is_object() => plugin_type(ipam, "type").map_err(|failure| Failure {
                message: failure.message.replace("\"type\"", "\"ipam.type\""),
                ..failure
            })?,
            Some(other) => {
                return Err(Failure::config(format!(
                    "network configuration: key \"ipam\": expected an object, found {other}"
                )));
            }
            None => None,
        };
        let prev_result =
            weir_config::get(&value, "prevResult").map(|result| CniResult::read(result, version)).transpose();
        let (prev_result, unreadable) = match prev_result {
            Ok(prev_result) => (prev_result, None),
            Err(reason) => (None, Some(reason)),
        };
        let valid_attachments = valid_attachments(&value)?;
        Ok(Self {
            text: input.to_owned(),
            version,
            name,
            kind,
            ipam_kind,
            prev_result,
            unreadable,
            valid_attachments,
            value,
        })
    }

    /// Fails if there is a `prevResult` that could not be read. DEL does without
    /// it: it may be what another plugin of the chain made of it, and the
    /// container has to go.
    pub(super) fn check_prev_result(&self) -> Result<(), Failure> {
        match &self.unreadable {
            Some(reason) => {
                Err(Failure::config(format!("network configuration: key \"prevResult\": {reason}")))
            }
            None => Ok(()),
        }
    }

    /// The version to answer in, for a configuration that may be broken.
    pub fn version_of(input: &str) -> Version {
        weir_config::from_str::<Value>(input)
            .ok()
            .and_then(|value| Version::parse(weir_config::get(&value, "cniVersion")?.as_str()?))
            .unwrap_or(Version::LATEST)
    }

    /// Whether `value` stands anywhere in the configuration under `key`: the
    /// operator named it, so a plugin may use it.
    pub(crate) fn names(&self, key: &str, value: &str) -> bool {
        self.named(key).contains(&value)
    }

    /// The texts that stand anywhere in the configuration under `key`.
    pub(crate) fn named(&self, key: &str) -> Vec<&str> {
        fn search<'a>(node: &'a Value, key: &str, found: &mut Vec<&'a str>) {
            match node {
                Value::Object(object) => {
                    for (name, inner) in object {
                        if name.eq_ignore_ascii_case(key) {
                            found.extend(inner.as_str());
                        }
                        search(inner, key, found);
                    }
                }
                Value::Array(items) => items.iter().for_each(|inner| search(inner, key, found)),
                _ => {}
            }
        }
        let mut found = Vec::new();
        search(&self.value, key, &mut found);
        found
    }
}

fn string<'a>(object: &'a Value, key: &str) -> Result<Option<&'a str>, Failure> {
    match weir_config::get(object, key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(Failure::config(format!(
            "network configuration: key \"{key}\": expected a string, found {other}"
        ))),
    }
}

/// A plugin's type is a file name in `CNI_PATH` (CVE-2021-20206).
fn plugin_type(object: &Value, key: &str) -> Result<Option<String>, Failure> {
    match string(object, key)? {
        None | Some("") => Ok(None),
        Some(kind) if kind.contains(['/', '\\', '\0']) || kind == "." || kind == ".." => {
            Err(Failure::config(format!(
                "network configuration: key \"{key}\": {kind:?} is a path, not a plugin's type"
            )))
        }
        Some(kind) => Ok(Some(kind.to_owned())),
    }
}

/// Reads both spellings of the list; an attachment in either is in use.
///
/// A key that is there and null (CRI-O) is an empty list. Without either key
/// nothing is known, and GC must not destroy anything.
fn valid_attachments(config: &Value) -> Result<Option<HashSet<AttachmentId>>, Failure> {
    let Some(object) = config.as_object() else { return Ok(None) };
    let mut valid: Option<HashSet<AttachmentId>> = None;
    for (key, list) in object {
        if !["cni.dev/valid-attachments", "cni.dev/attachments"].contains(&key.to_ascii_lowercase().as_str())
        {
            continue;
        }
        let refuse =
            |reason: &str| Failure::config(format!("network configuration: key \"{key}\": {reason}"));
        let valid = valid.get_or_insert_default();
        let items: &[Value] = match list {
            Value::Null => &[],
            Value::Array(items) => items,
            _ => return Err(refuse("expected a list of {\"containerID\", \"ifname\"}")),
        };
        for item in items {
            let text = |key| weir_config::get(item, key).and_then(Value::as_str);
            let (Some(container_id), Some(ifname)) = (text("containerID"), text("ifname")) else {
                return Err(refuse("each item needs the strings \"containerID\" and \"ifname\""));
            };
            valid.insert(AttachmentId { container_id: container_id.to_owned(), ifname: ifname.to_owned() });
        }
    }
    Ok(valid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, Failure> {
        Config::parse(text)
    }

    #[test]
    fn loopback_of_containerd_has_no_type() {
        let config = parse(r#"{"cniVersion":"0.3.1","name":"cni-loopback"}"#).unwrap();
        assert_eq!(config.kind, None);
        assert_eq!(config.version, Version::V0_3_1);
    }

    #[test]
    fn missing_version_is_the_oldest() {
        assert_eq!(parse(r#"{"name":"n","type":"t"}"#).unwrap().version, Version::V0_1_0);
    }

    #[test]
    fn null_lists_of_gc_are_empty_and_absent_ones_unknown() {
        let null = parse(r#"{"name":"n","cni.dev/attachments":null}"#).unwrap();
        assert_eq!(null.valid_attachments, Some(HashSet::new()));
        assert_eq!(parse(r#"{"name":"n"}"#).unwrap().valid_attachments, None);
    }

    #[test]
    fn both_gc_keys_count() {
        let both = parse(
            r#"{"name":"n","cni.dev/attachments":[{"containerID":"a","ifname":"e"}],
                "cni.dev/valid-attachments":[{"containerID":"b","ifname":"e"}]}"#,
        )
        .unwrap();
        assert_eq!(both.valid_attachments.unwrap().len(), 2);
    }

    #[test]
    fn types_are_not_paths() {
        for bad in [r#"{"name":"n","type":"../x"}"#, r#"{"name":"n","type":"t","ipam":{"type":"a/b"}}"#] {
            assert_eq!(parse(bad).unwrap_err().code, 7, "{bad}");
        }
    }

    #[test]
    fn only_what_the_configuration_names_is_granted() {
        let config = parse(r#"{"name":"n","ipam":{"DataDir":"/srv/x","other":"/etc"}}"#).unwrap();
        assert!(config.names("dataDir", "/srv/x"));
        assert!(!config.names("dataDir", "/etc"));
    }
}
