//! weir's own commands.

mod attachments;
mod audit;
mod chain;
mod install;
mod output;
mod plan;
mod plugin;
mod policy;
mod trial;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// A CNI plugin host: privileged operations are done by this program,
/// decisions are made by sandboxed WebAssembly components.
///
/// Container runtimes call it by the names of plugin types (bridge,
/// host-local, …), which `weir install` links to it. Called as `weir` with
/// CNI_COMMAND in the environment it is the plugin that the configuration's
/// `type` names.
#[derive(Debug, Parser)]
#[command(name = "weir", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Connects two throw-away containers, shows what happens, and cleans up.
    ///
    /// Everything takes place in network namespaces of its own; the machine's
    /// network is not touched. Runs without root where unprivileged user
    /// namespaces are allowed.
    Try {
        /// A network configuration or list of plugins (JSON), all of which come
        /// with weir; "-" for standard input. Without one, a bridge with
        /// addresses of 10.244.0.0/16 and masquerading.
        conflist: Option<PathBuf>,
    },
    /// Installs weir and a link to it for each plugin type.
    Install {
        /// Where the container runtime looks for plugins.
        #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
        bin_dir: PathBuf,
        /// Plugin types to link; all that weir serves by default.
        #[arg(long, value_name = "TYPE", value_delimiter = ',', num_args = 1..)]
        types: Vec<String>,
        /// Replaces programs of these names that are not weir's.
        #[arg(long)]
        replace: bool,
    },
    /// Installs and removes third parties' components.
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// Lists the attachments that the journal knows.
    Attachments {
        /// Writes JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
    /// Validates the policy, and explains what it allows.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Shows what a call would do to this node, and whether it may, without
    /// doing it.
    ///
    /// The components run, and see the node as it is; what they change is kept
    /// from it. Ends with 0 if the call would succeed.
    Plan(plan::Options),
    /// Shows what plugins did to the node, oldest first.
    ///
    /// Every privileged operation of every call leaves a record in the audit
    /// log, also one that was refused, that failed, or that was taken back.
    Audit(audit::Options),
}

/// Runs the command line; the first argument is the name of the program.
pub fn run(arguments: Vec<OsString>) -> ExitCode {
    let done = match Arguments::parse_from(arguments).command {
        Command::Try { conflist } => trial::run(conflist.as_deref()),
        Command::Install { bin_dir, types, replace } => install::run(&bin_dir, &types, replace),
        Command::Plugin(command) => plugin::run(command),
        Command::Attachments { json } => attachments::run(json),
        Command::Policy(command) => policy::run(command),
        Command::Plan(options) => plan::run(&options),
        Command::Audit(options) => audit::run(&options),
    };
    match done {
        Ok(_) if output::is_lost() => ExitCode::FAILURE,
        Ok(code) => code,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::FAILURE
        }
    }
}
