//! `weir plan`: what a call would do to the node.

mod container;
mod report;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::chain::{self, Chain};
use crate::dispatch;
use crate::failure::Failure;
use crate::imagination::Imagination;
use crate::request::{Command, Environment};
use container::FutureContainer;
use report::{Outcome, Report};

/// The id of a container that does not exist yet.
const FUTURE_ID: &str = "plan";

/// What is to be planned.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// What the runtime would want.
    #[arg(long, value_enum, default_value = "add")]
    command: Wish,
    /// A network configuration or list of plugins (JSON); - reads it from
    /// standard input. CHECK, and DEL if a plugin wants it, take the result of
    /// ADD from its key prevResult.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The container's network namespace; without one, ADD is planned for a
    /// container that does not exist yet.
    #[arg(long, value_name = "PATH")]
    netns: Option<PathBuf>,
    /// The container's id [default for add: plan].
    #[arg(long, value_name = "ID")]
    container_id: Option<String>,
    /// The interface in the container.
    #[arg(long, value_name = "NAME", default_value = "eth0")]
    ifname: String,
    /// What the runtime would pass as CNI_ARGS, as
    /// K8S_POD_NAMESPACE=team-a;K8S_POD_NAME=p.
    #[arg(long, value_name = "K=V;…")]
    args: Option<String>,
    /// Where native plugins are, as in CNI_PATH.
    #[arg(long, value_name = "DIRS", default_value = "/opt/cni/bin")]
    cni_path: String,
    /// Writes a JSON object.
    #[arg(long)]
    json: bool,
}

/// The commands that concern a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Wish {
    /// Attach a container.
    Add,
    /// Detach it.
    Del,
    /// Check that it is attached as it should be.
    Check,
}

impl Wish {
    fn command(self) -> Command {
        match self {
            Self::Add => Command::Add,
            Self::Del => Command::Del,
            Self::Check => Command::Check,
        }
    }
}

pub(super) fn run(options: &Options) -> Result<ExitCode> {
    let chain = Chain::parse(&chain::read(&options.config)?)?;
    let future = match (&options.netns, options.command) {
        (None, Wish::Add) => Some(FutureContainer::make()?),
        (None, Wish::Check) => {
            bail!("CHECK is about a container that exists: name its namespace with --netns")
        }
        _ => None,
    };
    let scratch = tempfile::Builder::new().prefix("weir-plan-").tempdir();
    let scratch = scratch.context("create a directory for what the plan changes")?;
    let plan = Plan { options, future, imagination: Imagination::new(scratch.path()) };
    let outcome = plan.outcome(&chain)?;
    let path = scratch.path().to_owned();
    scratch.close().with_context(|| format!("remove {}", path.display()))?;
    let report = Report {
        network: &chain.name,
        types: chain.types(),
        command: options.command.command(),
        operations: plan.imagination.trace().take(),
        outcome,
        notes: plan.imagination.notes(),
    };
    let report = report.with_texts(&|text| plan.for_people(text));
    if options.json {
        report.print_json()
    } else {
        report.print()
    }
    Ok(if report.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

struct Plan<'a> {
    options: &'a Options,
    future: Option<FutureContainer>,
    imagination: Rc<Imagination>,
}

impl Plan<'_> {
    /// Runs the plugins as a runtime does, up to the first that fails.
    fn outcome(&self, chain: &Chain) -> Result<Outcome> {
        let command = self.options.command.command();
        if self.options.container_id.is_none() && command != Command::Add {
            bail!("{} is about a container that exists: name it with --container-id", command.as_str());
        }
        let mut result = chain.earlier.clone();
        let mut plugins: Vec<&Value> = chain.plugins.iter().collect();
        if command == Command::Del {
            plugins.reverse();
        }
        for plugin in plugins {
            let called = match chain::kind(plugin) {
                Some(kind) if !dispatch::serves(kind) => self.skip(kind, command).map(|()| None),
                _ => chain::call(command, plugin, result.as_ref(), &|command, called_as| {
                    self.environment(command, called_as)
                }),
            };
            match called {
                Ok(answer) => result = answer.or(result),
                Err(_) if self.imagination.is_at_end() => return Ok(Outcome::Unknown),
                Err(failure) => return Ok(Outcome::Failure(failure)),
            }
        }
        Ok(Outcome::Success(result.filter(|_| command == Command::Add)))
    }

    /// A plugin that the runtime does not ask weir for.
    fn skip(&self, kind: &str, command: Command) -> Result<(), Failure> {
        let program = format!("plugin {kind} is none of weir's: the runtime executes a program of that name");
        if command == Command::Add {
            return Err(self.imagination.end(format!("{program}, and the plan ends here")));
        }
        self.imagination.note(format!("{program}, which is left out"));
        Ok(())
    }

    fn environment(&self, command: Command, called_as: &str) -> Result<Environment, Failure> {
        let Options { netns, container_id, ifname, args, cni_path, .. } = self.options;
        let future = self.future.as_ref().map(FutureContainer::path);
        let netns = netns.clone().or(future).unwrap_or_default();
        let given = |name: &str| -> Option<OsString> {
            Some(match name {
                "CNI_COMMAND" => command.as_str().into(),
                "CNI_CONTAINERID" => container_id.as_deref().unwrap_or(FUTURE_ID).into(),
                "CNI_NETNS" => netns.clone().into(),
                "CNI_IFNAME" => ifname.into(),
                "CNI_ARGS" => args.as_deref().unwrap_or_default().into(),
                "CNI_PATH" => cni_path.into(),
                _ => return None,
            })
        };
        Environment::of_plan(&given, called_as, Rc::clone(&self.imagination))
    }

    /// A text without the names of what exists for the plan only.
    fn for_people(&self, text: &str) -> String {
        let text = self.imagination.real_names(text);
        match &self.future {
            Some(future) => text.replace(&future.path().display().to_string(), FutureContainer::NAME),
            None => text,
        }
    }
}
