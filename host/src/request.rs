//! A request of a runtime: environment and configuration, checked.
//!
//! This module is the only reader of the process environment.

mod config;
mod environment;
#[cfg(debug_assertions)]
mod fault;

pub use config::{AttachmentId, Config};
pub use environment::{Command, Environment};
pub(crate) use environment::{NAME_LIMIT, is_identifier, state_paths};
#[cfg(debug_assertions)]
pub(crate) use fault::{Fault, FaultKind, Moment};

use crate::failure::Failure;
use crate::version::Version;

/// Everything that a runtime says in one call.
#[derive(Debug)]
pub struct Request {
    /// The environment.
    pub environment: Environment,
    /// The network configuration.
    pub config: Config,
}

impl Request {
    /// Checks the configuration on standard input against the environment.
    ///
    /// The order of checks is the reference library's, so that a call with
    /// several faults gets the code that runtimes know.
    pub fn new(environment: Environment, input: &str) -> Result<Self, Failure> {
        let config = Config::parse(input)?;
        let minimum = match environment.command {
            Command::Check => Version::V0_4_0,
            Command::Gc | Command::Status => Version::V1_1_0,
            Command::Add | Command::Del | Command::Version => Version::V0_1_0,
        };
        if config.version < minimum {
            return Err(Failure::version_too_old(environment.command.as_str(), config.version, minimum));
        }
        if environment.command != Command::Del {
            config.check_prev_result()?;
        }
        if environment.command == Command::Check && config.prev_result.is_none() {
            return Err(Failure::config(
                "CHECK needs \"prevResult\" in the network configuration: it is missing",
            ));
        }
        Ok(Self { environment, config })
    }
}
