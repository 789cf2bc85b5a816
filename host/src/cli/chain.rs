//! A network configuration: one plugin or a list, run as a runtime does
//! (specification, section "Lifecycle & Ordering").

use std::path::Path;
use std::{fs, io};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::dispatch;
use crate::failure::{Failure, code};
use crate::request::{Command, Environment, Request};
use crate::result::CniResult;
use crate::version::Version;

/// Makes the environment of a call of a plugin type.
pub(super) type Surroundings<'a> = dyn Fn(Command, &str) -> Result<Environment, Failure> + 'a;

/// Reads a configuration; `-` is standard input.
pub(super) fn read(path: &Path) -> Result<String> {
    if path == Path::new("-") {
        return io::read_to_string(io::stdin()).context("read standard input");
    }
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}

/// The plugins of a network, in their order.
pub(super) struct Chain {
    pub(super) name: String,
    /// The version that it is written in.
    pub(super) version: Version,
    /// The configuration of each.
    pub(super) plugins: Vec<Value>,
    /// The result of an earlier ADD, if the configuration brings one along.
    pub(super) earlier: Option<Value>,
}

impl Chain {
    /// Reads a configuration.
    pub(super) fn parse(text: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_str(text).context("read the network configuration: it is not JSON")?;
        let string = |key: &str| weir_config::get(&value, key).and_then(Value::as_str);
        let name = string("name").context("network configuration: key \"name\" is missing")?.to_owned();
        let version = match string("cniVersion") {
            None => Version::UNSTATED,
            Some(text) => Version::parse(text)
                .with_context(|| format!("network configuration: key \"cniVersion\": {text:?} is unknown"))?,
        };
        let mut plugins = match weir_config::get(&value, "plugins") {
            Some(Value::Array(plugins)) => plugins.clone(),
            Some(_) => bail!("network configuration: key \"plugins\": expected a list"),
            None => vec![value.clone()],
        };
        ensure!(!plugins.is_empty(), "network configuration: key \"plugins\": the list is empty");
        for plugin in &mut plugins {
            let plugin =
                plugin.as_object_mut().context("network configuration: a plugin is not an object")?;
            plugin.insert("name".to_owned(), name.clone().into());
            plugin.insert("cniVersion".to_owned(), version.as_str().into());
        }
        let earlier = weir_config::get(&value, "prevResult").cloned();
        Ok(Self { name, version, plugins, earlier })
    }

    /// Leaves out where the machine's leases are: those of a trial are the
    /// trial's.
    pub(super) fn without_data_dir(mut self) -> Self {
        self.plugins.iter_mut().for_each(forget_data_dir);
        self
    }

    /// The types of the plugins.
    pub(super) fn types(&self) -> Vec<&str> {
        self.plugins.iter().filter_map(kind).collect()
    }

    /// Whether a bridge keeps containers of the network from each other.
    pub(super) fn isolates_ports(&self) -> bool {
        let isolates = |plugin| weir_config::get(plugin, "portIsolation") == Some(&Value::Bool(true));
        self.plugins.iter().any(|plugin| kind(plugin) == Some("bridge") && isolates(plugin))
    }

    /// Adds a container; takes back what was done if a plugin fails.
    pub(super) fn add(&self, surroundings: &Surroundings<'_>) -> Result<CniResult, Failure> {
        let mut result = None;
        for plugin in &self.plugins {
            match call(Command::Add, plugin, result.as_ref(), surroundings) {
                Ok(answer) => result = answer,
                Err(failure) => {
                    // What this fails with says less than why ADD failed.
                    let _ = self.run(Command::Del, surroundings, None);
                    return Err(failure);
                }
            }
        }
        let result = result.unwrap_or_default();
        CniResult::read(&result, self.version).map_err(|reason| Failure::new(code::DECODE, reason))
    }

    /// Runs a command that has no result; DEL in reverse order.
    pub(super) fn run(
        &self,
        command: Command,
        surroundings: &Surroundings<'_>,
        result: Option<&CniResult>,
    ) -> Result<(), Failure> {
        let result = result.and_then(|result| result.write(self.version).ok());
        for plugin in self.plugins.iter().rev() {
            call(command, plugin, result.as_ref(), surroundings)?;
        }
        Ok(())
    }
}

/// Calls one plugin, with the result of the one before it.
pub(super) fn call(
    command: Command,
    plugin: &Value,
    result: Option<&Value>,
    surroundings: &Surroundings<'_>,
) -> Result<Option<Value>, Failure> {
    let mut config = plugin.clone();
    if let Some(result) = result {
        config["prevResult"] = result.clone();
    }
    let environment = surroundings(command, kind(plugin).unwrap_or("weir"))?;
    dispatch::serve(Request::new(environment, &config.to_string())?, |answer| answer)
}

/// The type of a plugin.
pub(super) fn kind(plugin: &Value) -> Option<&str> {
    weir_config::get(plugin, "type")?.as_str()
}

fn forget_data_dir(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|key, _| !key.eq_ignore_ascii_case("dataDir"));
            object.values_mut().for_each(forget_data_dir);
        }
        Value::Array(items) => items.iter_mut().for_each(forget_data_dir),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plugins_of_a_list_get_its_name_and_version() {
        let chain = Chain::parse(
            r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"bridge","ipam":{"dataDir":"/x"}},{"type":"y"}]}"#,
        )
        .unwrap()
        .without_data_dir();
        assert_eq!(chain.types(), ["bridge", "y"]);
        assert_eq!(
            chain.plugins[0],
            json!({"cniVersion": "1.0.0", "name": "n", "type": "bridge", "ipam": {}}),
            "the machine's leases are out of reach"
        );
    }

    #[test]
    fn what_is_no_configuration_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"name":"n","plugins":[]}"#,
            r#"{"name":"n","cniVersion":"9.9.9","type":"t"}"#,
        ] {
            assert!(Chain::parse(text).is_err(), "{text}");
        }
    }
}
