//! One call of a plugin, as a runtime makes it.

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::program::{Output, Program};

/// A call that is being put together.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    program: Program,
}

impl Call {
    /// A call of `binary` with nothing but `CNI_COMMAND` and `CNI_PATH`.
    pub(crate) fn new(binary: PathBuf, command: &str, path: &Path) -> Self {
        let program = Program::new(binary).variable("CNI_COMMAND", command).variable("CNI_PATH", path);
        Self { program }
    }

    /// Sets an environment variable.
    pub(crate) fn variable(mut self, name: &str, value: impl AsRef<std::ffi::OsStr>) -> Self {
        self.program = self.program.variable(name, value);
        self
    }

    /// Removes an environment variable.
    pub(crate) fn without_variable(mut self, name: &str) -> Self {
        self.program = self.program.without_variable(name);
        self
    }

    /// Sets the network configuration.
    pub(crate) fn config(self, config: &Value) -> Self {
        self.input(config.to_string())
    }

    /// Sets standard input.
    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.program = self.program.input(input);
        self
    }

    /// The program to run.
    pub(crate) fn program(&self) -> &Program {
        &self.program
    }
}

/// What a plugin answered.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// It succeeded; CHECK, DEL and GC say nothing then.
    Success(Option<Value>),
    /// It failed.
    Failure(CniError),
}

/// An error object on standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CniError {
    /// The code.
    pub(crate) code: u64,
    /// Message and details.
    pub(crate) text: String,
}

impl Reply {
    /// Reads the answer. A program that breaks the protocol is an error.
    pub(crate) fn read(output: &Output) -> anyhow::Result<Self> {
        let stdout = output.stdout.trim();
        let value: Option<Value> = match stdout {
            "" => None,
            text => Some(
                serde_json::from_str(text).with_context(|| format!("standard output is no JSON: {text}"))?,
            ),
        };
        match output.status.code() {
            Some(0) => Ok(Self::Success(value)),
            Some(1) => {
                let value = value.context("it failed and printed no error object")?;
                let code = value["code"].as_u64().with_context(|| format!("no code in {value}"))?;
                let message = value["msg"].as_str().with_context(|| format!("no msg in {value}"))?;
                let details = value["details"].as_str().unwrap_or_default();
                Ok(Self::Failure(CniError { code, text: format!("{message} {details}").trim().to_owned() }))
            }
            _ => anyhow::bail!(
                "it ended with {}, stdout {stdout:?}, stderr {:?}",
                output.status,
                output.stderr
            ),
        }
    }

    /// The result of a call that has to succeed.
    pub(crate) fn success(self) -> anyhow::Result<Value> {
        match self {
            Self::Success(value) => Ok(value.unwrap_or_default()),
            Self::Failure(error) => anyhow::bail!("it failed with code {}: {}", error.code, error.text),
        }
    }

    /// The error of a call that has to fail.
    pub(crate) fn failure(self) -> anyhow::Result<CniError> {
        match self {
            Self::Failure(error) => Ok(error),
            Self::Success(value) => anyhow::bail!("it succeeded, with {}", value.unwrap_or_default()),
        }
    }

    /// Checks a call that has to succeed and say nothing.
    pub(crate) fn silence(self) -> anyhow::Result<()> {
        let value = self.success()?;
        ensure!(value.is_null(), "it printed {value}");
        Ok(())
    }
}
