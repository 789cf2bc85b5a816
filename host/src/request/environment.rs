//! The `CNI_*` variables (specification, section "Parameters").

use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::failure::Failure;
use crate::imagination::Imagination;
use crate::paths::Paths;
use crate::trace::Trace;

/// Interface names are at most this long (`IFNAMSIZ` less the final zero).
pub(crate) const NAME_LIMIT: usize = 15;

/// How long a call may take, if the runtime's environment says nothing.
const DEFAULT_BUDGET: Duration = Duration::from_secs(30);

/// What the runtime wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Attach a container to a network.
    Add,
    /// Detach it.
    Del,
    /// Check that it is attached as it should be.
    Check,
    /// Remove what belongs to attachments that no longer exist.
    Gc,
    /// Tell whether ADD could succeed.
    Status,
    /// Tell which versions are spoken.
    Version,
}

impl Command {
    const ALL: [Self; 6] = [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version];

    /// Its text in `CNI_COMMAND`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    fn concerns_a_container(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }
}

/// The environment of a call, checked.
#[derive(Debug)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: Command,
    /// The name by which the binary was called.
    pub called_as: String,
    /// `CNI_CONTAINERID`; empty for GC, STATUS and VERSION.
    pub container_id: String,
    /// `CNI_IFNAME`; empty for GC, STATUS and VERSION.
    pub ifname: String,
    /// `CNI_NETNS`, if set and not empty.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS` as key and value, in their order.
    pub args: Vec<(String, String)>,
    /// The directories of `CNI_PATH`.
    pub path: Vec<PathBuf>,
    /// `CNI_NETNS_OVERRIDE`: the container may share the node's namespace.
    pub netns_override: bool,
    /// Where state is kept.
    pub paths: Paths,
    /// How long the call may take.
    pub budget: Duration,
    /// Where operations are noted, for `weir try`.
    pub(crate) trace: Option<Trace>,
    /// In a plan, what is changed instead of the node.
    pub(crate) imagination: Option<Rc<Imagination>>,
    /// Whether the process does nothing but this call, so that it may give up
    /// what the call does not need.
    pub(crate) is_alone: bool,
    #[cfg(debug_assertions)]
    pub(crate) fault: Option<super::Fault>,
}

impl Environment {
    /// For whom the container runs: its namespace in Kubernetes, which the
    /// runtime tells in `CNI_ARGS`.
    pub(crate) fn tenant(&self) -> Option<&str> {
        let named = self.args.iter().find(|(key, _)| key == "K8S_POD_NAMESPACE");
        named.map(|(_, value)| value.as_str()).filter(|tenant| !tenant.is_empty())
    }

    /// Reads the environment. `None` when `CNI_COMMAND` is not set.
    pub fn read(called_as: String) -> Result<Option<Self>, Failure> {
        Self::from_variables(&Variables(&variable), called_as)
    }

    /// Reads an environment of which `variable` tells the values, for tests.
    pub fn of(
        variable: &dyn Fn(&str) -> Option<OsString>,
        called_as: String,
    ) -> Result<Option<Self>, Failure> {
        Self::from_variables(&Variables(variable), called_as)
    }

    /// The environment of a call that weir makes itself, about interface
    /// `eth0` of a container.
    pub(crate) fn of_own_call(
        command: Command,
        called_as: &str,
        container: (&str, PathBuf),
        paths: Paths,
        trace: Trace,
    ) -> Self {
        let (container_id, netns) = container;
        Self {
            command,
            called_as: called_as.to_owned(),
            container_id: container_id.to_owned(),
            ifname: "eth0".to_owned(),
            netns: Some(netns),
            args: Vec::new(),
            path: Vec::new(),
            netns_override: false,
            paths,
            budget: DEFAULT_BUDGET,
            trace: Some(trace),
            imagination: None,
            is_alone: false,
            #[cfg(debug_assertions)]
            fault: None,
        }
    }

    /// The environment of a call that is only planned: `given` tells what a
    /// runtime would, the process's own environment where weir's files are.
    pub(crate) fn of_plan(
        given: &dyn Fn(&str) -> Option<OsString>,
        called_as: &str,
        imagination: Rc<Imagination>,
    ) -> Result<Self, Failure> {
        let get = |name: &str| if name.starts_with("CNI_") { given(name) } else { variable(name) };
        let environment = Self::from_variables(&Variables(&get), called_as.to_owned())?
            .ok_or_else(|| Failure::environment("CNI_COMMAND is not set"))?;
        Ok(Self {
            paths: imagination.paths(environment.paths)?,
            trace: Some(imagination.trace().clone()),
            imagination: Some(imagination),
            is_alone: false,
            ..environment
        })
    }

    fn from_variables(variables: &Variables<'_>, called_as: String) -> Result<Option<Self>, Failure> {
        let Some(command) = variables.text("CNI_COMMAND")? else { return Ok(None) };
        let command = Command::ALL.into_iter().find(|known| known.as_str() == command).ok_or_else(|| {
            Failure::environment(format!(
                "unknown CNI_COMMAND: {command:?}: expected one of {}",
                Command::ALL.map(Command::as_str).join(", ")
            ))
        })?;
        let netns = variables.text("CNI_NETNS")?;
        let container_id = variables.text("CNI_CONTAINERID")?;
        let ifname = variables.text("CNI_IFNAME")?;
        if command.concerns_a_container() {
            let mut missing = Vec::new();
            if container_id.is_none() {
                missing.push("CNI_CONTAINERID");
            }
            if netns.is_none() && command != Command::Del {
                missing.push("CNI_NETNS");
            }
            if ifname.is_none() {
                missing.push("CNI_IFNAME");
            }
            if !missing.is_empty() {
                return Err(Failure::environment(format!(
                    "required env variables [{}] missing for {}",
                    missing.join(","),
                    command.as_str()
                ))
                .details("the container runtime has to set them"));
            }
        }
        let container_id = container_id.unwrap_or_default();
        let ifname = ifname.unwrap_or_default();
        if command.concerns_a_container() {
            check_container_id(&container_id)?;
            check_ifname(&ifname)?;
        }
        Ok(Some(Self {
            command,
            called_as,
            container_id,
            ifname,
            netns: netns.map(PathBuf::from),
            args: if command.concerns_a_container() { arguments(variables, command)? } else { Vec::new() },
            path: variables
                .text("CNI_PATH")?
                .map(|path| env::split_paths(&path).collect())
                .unwrap_or_default(),
            netns_override: matches!(
                variables.text("CNI_NETNS_OVERRIDE")?.as_deref(),
                Some("1" | "t" | "T" | "true" | "TRUE" | "True")
            ),
            paths: paths(variables),
            budget: budget(variables)?,
            trace: None,
            imagination: None,
            is_alone: true,
            #[cfg(debug_assertions)]
            fault: variables.text("WEIR_FAULT")?.map(|fault| super::Fault::parse(&fault)).transpose()?,
        }))
    }
}

/// Where the values of variables come from.
struct Variables<'a>(&'a dyn Fn(&str) -> Option<OsString>);

impl Variables<'_> {
    /// An empty one counts as not set.
    fn get(&self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &str) -> Result<Option<String>, Failure> {
        self.get(name)
            .map(|value| {
                value
                    .into_string()
                    .map_err(|value| Failure::environment(format!("{name} is not UTF-8: {value:?}")))
            })
            .transpose()
    }
}

/// Where weir's own commands find the node's state.
pub(crate) fn state_paths() -> Paths {
    paths(&Variables(&variable))
}

fn paths(variables: &Variables<'_>) -> Paths {
    Paths::new(
        variables.get("WEIR_STATE_DIR"),
        variables.get("WEIR_CNI_STATE_DIR"),
        variables.get("WEIR_POLICY_DIR"),
    )
    .with_audit(variables.get("WEIR_AUDIT_FILE"))
}

#[expect(clippy::disallowed_methods, reason = "this module is the reader of the environment")]
fn variable(name: &str) -> Option<OsString> {
    env::var_os(name)
}

fn budget(variables: &Variables<'_>) -> Result<Duration, Failure> {
    let Some(value) = variables.text("WEIR_TIMEOUT")? else { return Ok(DEFAULT_BUDGET) };
    match value.parse::<f64>() {
        // Less would round to nothing.
        Ok(seconds) if (0.001..=3600.0).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(Failure::environment(format!(
            "WEIR_TIMEOUT={value:?}: expected seconds, at least 0.001 and at most 3600"
        ))),
    }
}

/// Splits `CNI_ARGS`. Keys are checked by those who know them; a pair without
/// `=` is refused, as the reference library does, but at DEL: the container has
/// to go.
fn arguments(variables: &Variables<'_>, command: Command) -> Result<Vec<(String, String)>, Failure> {
    let Some(args) = variables.text("CNI_ARGS")? else { return Ok(Vec::new()) };
    args.split(';')
        .filter(|pair| !pair.is_empty())
        .filter_map(|pair| match pair.split_once('=') {
            Some((key, value)) if !key.is_empty() => Some(Ok((key.to_owned(), value.to_owned()))),
            _ if command == Command::Del => None,
            _ => Some(Err(Failure::environment(format!(
                "CNI_ARGS: invalid pair {pair:?}: expected KEY=VALUE;KEY=VALUE"
            )))),
        })
        .collect()
}

/// An alphanumeric character, then alphanumerics, `_`, `.` and `-`.
pub(crate) fn is_identifier(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

fn check_container_id(id: &str) -> Result<(), Failure> {
    if is_identifier(id) {
        return Ok(());
    }
    Err(Failure::environment(format!(
        "invalid characters in CNI_CONTAINERID={id:?}: it must start with a letter or digit, followed by letters, digits, '_', '.' or '-'"
    )))
}

fn check_ifname(name: &str) -> Result<(), Failure> {
    let reason = if name.len() > NAME_LIMIT {
        "it is longer than 15 bytes"
    } else if name == "." || name == ".." {
        "it is a path"
    } else if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) {
        "it contains '/', ':', white space or control characters"
    } else {
        return Ok(());
    };
    Err(Failure::environment(format!("invalid CNI_IFNAME={name:?}: {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers() {
        for good in ["a", "0", "k8s.io-c1", "a_b.c-d"] {
            assert!(is_identifier(good), "{good}");
        }
        for bad in ["", ".", "..", "-a", "a/b", "a b", "../x", "a\n", "é"] {
            assert!(!is_identifier(bad), "{bad}");
        }
    }

    #[test]
    fn interface_names() {
        for good in ["eth0", "a", "é"] {
            assert!(check_ifname(good).is_ok(), "{good}");
        }
        for bad in [".", "..", "a/b", "a:b", "a b", "sixteen-bytes-xx", "a\u{7}"] {
            assert!(check_ifname(bad).is_err(), "{bad}");
        }
    }

    fn read(variables: &[(&str, &str)]) -> Result<Environment, Failure> {
        let get =
            |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Environment::of(&get, "bridge".to_owned()).map(|environment| environment.expect("there is a command"))
    }

    #[test]
    fn all_missing_variables_are_listed_at_once() {
        let failure = read(&[("CNI_COMMAND", "ADD")]).unwrap_err();
        assert_eq!(failure.code, 4);
        assert!(failure.message.contains("[CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME]"), "{failure}");
        let del =
            [("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "c"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", "")];
        assert_eq!(read(&del).unwrap().netns, None);
    }

    #[test]
    fn arguments_are_pairs_in_their_order() {
        let with = |args| {
            read(&[
                ("CNI_COMMAND", "ADD"),
                ("CNI_CONTAINERID", "c"),
                ("CNI_IFNAME", "eth0"),
                ("CNI_NETNS", "/x"),
                ("CNI_ARGS", args),
            ])
        };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            with("IgnoreUnknown=1;K=a=b;").unwrap().args,
            [pair("IgnoreUnknown", "1"), pair("K", "a=b")]
        );
        assert_eq!(with("K").unwrap_err().code, 4);
        assert_eq!(with("=v").unwrap_err().code, 4);
    }
}
