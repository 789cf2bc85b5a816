//! Reads JSON configuration as the reference plugins do.
//!
//! Those are written in Go, whose decoder matches the keys of structures
//! without regard to case and takes `null` for "absent". Runtimes depend on
//! both: containerd sends `"HostPort"`, CRI-O sends lists that are `null`.
//! Keys of maps (sysctl names, labels) keep their case.
//!
//! Structures need `#[serde(default)]` on what may be absent, as ever.

#![forbid(unsafe_code)]

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::Value;

mod decode;

/// Why a configuration could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConfigError {
    /// The text is not JSON.
    Syntax(String),
    /// A value does not fit.
    Value {
        /// The way to it, as `ipam.ranges[0][1].subnet`; empty for the whole.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(reason) => write!(f, "the configuration is not valid JSON: {reason}"),
            Self::Value { path, reason } if path.is_empty() => f.write_str(reason),
            Self::Value { path, reason } => write!(f, "key \"{path}\": {reason}"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Reads a structure from JSON text.
pub fn from_str<T: DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    let value: Value = serde_json::from_str(text).map_err(|error| ConfigError::Syntax(error.to_string()))?;
    from_value(&value)
}

/// Reads a structure from a JSON value.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, ConfigError> {
    T::deserialize(decode::Decoder::new(value)).map_err(decode::Mismatch::into_config_error)
}

/// Finds the value of a key of an object, without regard to case; `null`
/// counts as absent.
pub fn get<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    let object = value.as_object()?;
    let found = object.get(key).or_else(|| {
        let mut matching = object.iter().filter(|(name, _)| name.eq_ignore_ascii_case(key));
        matching.next_back().map(|(_, value)| value)
    })?;
    (!found.is_null()).then_some(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, rename_all = "camelCase")]
    struct Port {
        host_port: u16,
        protocol: Option<String>,
    }

    #[derive(Debug, Default, Deserialize, PartialEq)]
    #[serde(default, rename_all = "camelCase")]
    struct Config {
        is_gateway: bool,
        ports: Vec<Port>,
        sysctl: BTreeMap<String, String>,
        burst: Option<u64>,
    }

    #[test]
    fn struct_keys_match_without_regard_to_case() {
        let config: Config =
            from_str(r#"{"ISGATEWAY":true,"Ports":[{"HostPort":80,"Protocol":"tcp"}]}"#).unwrap();
        assert!(config.is_gateway);
        assert_eq!(config.ports, [Port { host_port: 80, protocol: Some("tcp".into()) }]);
    }

    #[test]
    fn an_exact_key_wins_over_another_spelling() {
        let config: Config = from_str(r#"{"isGateway":true,"isgateway":false}"#).unwrap();
        assert!(config.is_gateway);
    }

    #[test]
    fn map_keys_keep_their_case() {
        let config: Config = from_str(r#"{"sysctl":{"net.ipv4.conf.IFNAME.rp_filter":"1"}}"#).unwrap();
        assert!(config.sysctl.contains_key("net.ipv4.conf.IFNAME.rp_filter"));
    }

    #[test]
    fn null_is_absent() {
        let config: Config =
            from_str(r#"{"isGateway":null,"ports":null,"sysctl":null,"burst":null}"#).unwrap();
        assert_eq!(config, Config::default());
    }

    #[test]
    fn large_numbers_survive() {
        let config: Config = from_str(r#"{"burst":34359738359}"#).unwrap();
        assert_eq!(config.burst, Some(34_359_738_359));
    }

    #[test]
    fn errors_name_the_path() {
        let error = from_str::<Config>(r#"{"ports":[{"hostPort":1},{"HostPort":"x"}]}"#).unwrap_err();
        assert_eq!(error.to_string(), "key \"ports[1].HostPort\": invalid type: string \"x\", expected u16");
    }

    #[test]
    fn syntax_errors_are_told_apart() {
        assert!(matches!(from_str::<Config>("{"), Err(ConfigError::Syntax(_))));
        assert!(matches!(from_str::<Config>("[]"), Err(ConfigError::Value { .. })));
    }

    #[test]
    fn get_ignores_case_and_null() {
        let value = serde_json::json!({"CniVersion": "1.0.0", "name": null});
        assert_eq!(get(&value, "cniVersion"), Some(&serde_json::json!("1.0.0")));
        assert_eq!(get(&value, "name"), None);
    }
}
