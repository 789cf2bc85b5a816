//! Failures as the runtime sees them: the one place where an error gets its
//! CNI code (specification, section "Error").

use std::any::Any;
use std::fmt;

use weir_config::ConfigError;

use crate::buckets::BucketError;
use crate::firewall::FirewallError;
use crate::leases::LeaseError;
use crate::netlink::NetlinkError;
use crate::policy::PolicyError;
use crate::version::Version;

/// Codes of the specification, and weir's own from 100.
pub(crate) mod code {
    /// Incompatible CNI version.
    pub(crate) const VERSION: u32 = 1;
    /// Invalid environment variables.
    pub(crate) const ENVIRONMENT: u32 = 4;
    /// Input or output failed.
    pub(crate) const IO: u32 = 5;
    /// The content could not be decoded.
    pub(crate) const DECODE: u32 = 6;
    /// The network configuration is invalid.
    pub(crate) const CONFIG: u32 = 7;
    /// The container's namespace is the node's (an extension of libcni).
    pub(crate) const HOST_NETNS: u32 = 8;
    /// Try again later.
    pub(crate) const TRY_AGAIN: u32 = 11;
    /// A plugin asked for something that it may not do.
    pub(crate) const DENIED: u32 = 100;
    /// A plugin trapped.
    pub(crate) const TRAPPED: u32 = 101;
    /// A plugin ran out of time.
    pub(crate) const DEADLINE: u32 = 102;
    /// A plugin ran out of memory or another resource.
    pub(crate) const LIMIT: u32 = 103;
    /// A component could not be loaded.
    pub(crate) const COMPONENT: u32 = 104;
    /// The kernel refused an operation.
    pub(crate) const KERNEL: u32 = 105;
    /// Anything else.
    pub(crate) const INTERNAL: u32 = 999;
}

/// A failure on its way to the runtime.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The CNI error code.
    pub code: u32,
    /// What was attempted, on which object, and why it failed.
    pub message: String,
    /// What to do next; may be empty.
    pub details: String,
}

impl Failure {
    pub(crate) fn new(code: u32, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: String::new() }
    }

    pub(crate) fn details(mut self, details: impl Into<String>) -> Self {
        self.details = details.into();
        self
    }

    /// Everything that failed, under the code of what failed first.
    pub(crate) fn all(failures: Vec<Self>) -> Result<(), Self> {
        let mut failures = failures.into_iter();
        let Some(mut first) = failures.next() else { return Ok(()) };
        for failure in failures {
            first.message = format!("{}; {failure}", first.message);
        }
        Err(first)
    }

    /// An environment variable is missing or wrong.
    pub(crate) fn environment(message: impl Into<String>) -> Self {
        Self::new(code::ENVIRONMENT, message)
    }

    /// The configuration says something that cannot be done.
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(code::CONFIG, message)
    }

    /// A file or directory of the node could not be used.
    pub(crate) fn io(message: impl Into<String>) -> Self {
        Self::new(code::IO, message)
    }

    /// Standard input could not be read.
    pub fn input(message: impl Into<String>) -> Self {
        Self::io(message)
    }

    /// Standard input is no text.
    pub fn undecodable(message: impl Into<String>) -> Self {
        Self::new(code::DECODE, message)
    }

    /// weir panicked, with this payload.
    pub fn panicked(payload: &(dyn Any + Send)) -> Self {
        let text = payload.downcast_ref::<String>().map(String::as_str);
        let cause = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("an unknown fault");
        Self::new(code::INTERNAL, format!("weir itself failed: {cause}"))
            .details("please report this, with what weir wrote to standard error")
    }

    /// The configuration's version is unknown.
    pub(crate) fn unknown_version(text: &str) -> Self {
        let supported: Vec<&str> = Version::ALL.into_iter().map(Version::as_str).collect();
        Self::new(code::VERSION, format!("incompatible CNI versions: cniVersion \"{text}\" is not supported"))
            .details(format!("config is \"{text}\", plugin supports {supported:?}"))
    }

    /// The configuration's version does not know the command.
    pub(crate) fn version_too_old(command: &str, version: Version, minimum: Version) -> Self {
        Self::new(
            code::VERSION,
            format!("config version {version} does not allow {command}: it needs {minimum} or newer"),
        )
        .details("raise \"cniVersion\" in the network configuration")
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        if !self.details.is_empty() {
            write!(f, " ({})", self.details)?;
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        match &error {
            ConfigError::Syntax(_) => Self::new(code::DECODE, error.to_string()),
            ConfigError::Value { .. } => Self::config(format!("network configuration: {error}")),
        }
    }
}

impl From<NetlinkError> for Failure {
    fn from(error: NetlinkError) -> Self {
        let code = match &error {
            NetlinkError::TimedOut { .. } => code::DEADLINE,
            NetlinkError::Kernel { .. } | NetlinkError::Absent { .. } => code::KERNEL,
            NetlinkError::Socket { .. } => code::IO,
        };
        Self::new(code, error.to_string())
    }
}

impl From<LeaseError> for Failure {
    fn from(error: LeaseError) -> Self {
        let code = match &error {
            LeaseError::Busy { .. } => code::TRY_AGAIN,
            LeaseError::Taken { .. } | LeaseError::Invalid(_) => code::CONFIG,
            LeaseError::Journal { .. } | LeaseError::Io { .. } => code::IO,
        };
        Self::new(code, error.to_string())
    }
}

impl From<BucketError> for Failure {
    fn from(error: BucketError) -> Self {
        let code = match &error {
            BucketError::Busy { .. } => code::TRY_AGAIN,
            BucketError::Invalid(_) => code::CONFIG,
            BucketError::Limit(_) => code::LIMIT,
            BucketError::Damaged { .. } | BucketError::Untrusted { .. } | BucketError::Io { .. } => code::IO,
        };
        Self::new(code, error.to_string())
    }
}

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        Self::new(code::DENIED, format!("nothing is allowed, because the policy cannot be used: {error}"))
            .details("correct the file, and run \"weir policy check\" before the next call")
    }
}

impl From<FirewallError> for Failure {
    fn from(error: FirewallError) -> Self {
        let code = match &error {
            FirewallError::Kernel { .. } | FirewallError::Unsupported { .. } => code::KERNEL,
            FirewallError::Invalid { .. } => code::CONFIG,
            FirewallError::TimedOut { .. } => code::DEADLINE,
            FirewallError::Socket { .. } => code::IO,
        };
        Self::new(code, error.to_string())
    }
}
