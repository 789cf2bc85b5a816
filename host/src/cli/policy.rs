//! `weir policy`: what the policy says, and whether it says it well.

mod check;
mod explain;
mod question;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};

use super::output::is_lost;

#[derive(Debug, Subcommand)]
pub(super) enum PolicyCommand {
    /// Validates the policy's files, and warns of rules without effect.
    ///
    /// Ends with 1 if the policy cannot be used, so that nothing would be
    /// allowed.
    Check {
        /// The directory of policy.toml and policy.d [default: /etc/weir, or
        /// WEIR_POLICY_DIR].
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// Tells what a plugin may do, and by which line.
    Explain(Question),
}

/// What is to be explained.
#[derive(Debug, Args)]
pub(super) struct Question {
    /// The network's name.
    #[arg(long, value_name = "NAME")]
    network: String,
    /// The plugin's type.
    #[arg(long, value_name = "TYPE")]
    plugin: String,
    /// Whom the container belongs to: K8S_POD_NAMESPACE of CNI_ARGS.
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// The digest of the plugin's component, as `weir plugin inspect` shows it.
    #[arg(long, value_name = "SHA256", value_parser = question::digest)]
    digest: Option<String>,
    /// One operation, as in import:weir:net/links, namespace:host,
    /// create-link:veth:veth0, bridge:br-a, parent:eth1 (also with what is put
    /// on it: parent:macvlan:eth1, parent:passthru:eth1, parent:vxlan:*),
    /// address:10.1.2.3, route:0.0.0.0/0, neighbor:10.1.2.3, sysctl:accept_ra,
    /// delegate:dhcp, data-dir:/srv/leases, vlan:br-a:100-199, vni:eth1:4096,
    /// port:8080/tcp or port:127.0.0.1:8080/tcp. Ends with 1 if it is denied, with 2 if that
    /// cannot be told.
    #[arg(long, value_name = "OPERATION", value_parser = question::checked)]
    op: Option<String>,
    /// The directory of policy.toml and policy.d [default: /etc/weir, or
    /// WEIR_POLICY_DIR].
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Writes JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: PolicyCommand) -> Result<ExitCode> {
    match command {
        PolicyCommand::Check { dir } => check::run(dir),
        PolicyCommand::Explain(question) => match explain::run(question) {
            Ok(code) if !is_lost() => Ok(code),
            ended => {
                if let Err(error) = ended {
                    eprintln!("weir: {error:#}");
                }
                // As for a question that cannot be read.
                std::process::exit(2)
            }
        },
    }
}

/// The directory of the policy. One that is named has to exist: a mistyped one
/// would be taken for a node without a policy.
fn directory(named: Option<PathBuf>) -> Result<PathBuf> {
    match named {
        Some(directory) if !directory.is_dir() => {
            bail!("--dir {}: there is no such directory", directory.display())
        }
        Some(directory) => Ok(directory),
        None => Ok(crate::request::state_paths().policy().to_owned()),
    }
}
