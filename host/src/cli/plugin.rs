//! `weir plugin`: components of third parties.

mod add;
mod file;
mod grants;
mod inspect;
mod list;
mod rule;
mod trust;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::catalog::{Digest, Refreshed, Store, Writer};
use crate::cli::output::say;
use crate::failure::Failure;
use crate::request::state_paths;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Installs a component, or another version of one.
    ///
    /// It is compiled once, by a program without rights, and kept under its
    /// digest. What it may touch is up to the policy: without a rule, nothing.
    Add {
        /// The component, or a core module that was built with weir's SDK.
        file: PathBuf,
        /// The plugin type that it serves; by default the file's name without
        /// its extension.
        #[arg(long = "type", value_name = "NAME")]
        kind: Option<String>,
        /// Writes a rule that lets this very component use an interface, such
        /// as weir:net/links. May be given several times, or have several with
        /// commas between them.
        #[arg(long, value_name = "INTERFACE", value_delimiter = ',')]
        allow: Vec<String>,
        /// A signature of the file, made with minisign by one of the
        /// policy's signing keys.
        #[arg(long, value_name = "FILE")]
        signature: Option<PathBuf>,
    },
    /// Lists what is installed.
    List {
        /// Writes JSON, one object a line.
        #[arg(long)]
        json: bool,
    },
    /// Shows what a component is, and what it wants to touch.
    Inspect {
        /// A file, or a plugin type.
        #[arg(value_name = "FILE|NAME")]
        target: PathBuf,
        /// The network in which it would be used; by default one that no rule
        /// names.
        #[arg(long, value_name = "NAME")]
        network: Option<String>,
        /// Writes a JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Removes a plugin type, or one version of it.
    Remove {
        /// The plugin type.
        #[arg(value_name = "NAME")]
        kind: String,
        /// The version's digest, or its beginning; all versions by default.
        #[arg(long)]
        digest: Option<String>,
    },
    /// Lets another installed version serve a plugin type.
    Use {
        /// The plugin type.
        #[arg(value_name = "NAME")]
        kind: String,
        /// The version's digest, or its beginning.
        digest: String,
    },
    /// Compiles anew what is installed but not for this weir, and forgets what
    /// was for others. "weir install" does the first by itself.
    Refresh,
}

/// Runs a command.
pub(super) fn run(command: Command) -> Result<ExitCode> {
    match command {
        Command::Add { file, kind, allow, signature } => {
            add::run(&file, kind.as_deref(), &allow, signature.as_deref())?;
        }
        Command::List { json } => list::run(json)?,
        Command::Inspect { target, network, json } => inspect::run(&target, network.as_deref(), json)?,
        Command::Remove { kind, digest } => remove(&kind, digest.as_deref())?,
        Command::Use { kind, digest } => switch(&kind, &digest)?,
        Command::Refresh => refresh()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn remove(kind: &str, digest: Option<&str>) -> Result<()> {
    let paths = state_paths();
    let writer = Writer::open(&paths)?;
    let only = digest.map(|digest| version(writer.store(), kind, digest)).transpose()?;
    for digest in writer.remove(kind, only.as_ref())? {
        say!("removed {kind} ({digest})");
    }
    let rule = rule::path(paths.policy(), kind);
    if rule.exists() {
        say!("{} still has a rule for it, which does nothing now", rule.display());
    }
    Ok(())
}

fn switch(kind: &str, digest: &str) -> Result<()> {
    let writer = Writer::open(&state_paths())?;
    let digest = version(writer.store(), kind, digest)?;
    writer.switch(kind, &digest)?;
    say!("{kind} is served by {digest} now");
    Ok(())
}

/// Compiles what is not compiled for this weir.
pub(super) fn compile_installed(writer: &Writer) -> Result<Refreshed> {
    let progress = add::progress("compiling what is installed".to_owned());
    let refreshed = writer.refresh();
    progress.finish_and_clear();
    Ok(refreshed?)
}

fn refresh() -> Result<()> {
    let writer = Writer::open(&state_paths())?;
    let refreshed = compile_installed(&writer)?;
    writer.forget_other_engines().map_err(Failure::from)?;
    match refreshed.compiled {
        0 if !refreshed.failed.is_empty() => {}
        0 => say!("everything that is installed was compiled for this weir already"),
        1 => say!("compiled 1 component"),
        count => say!("compiled {count} components"),
    }
    Ok(Failure::all(refreshed.failed.into_iter().map(|outdated| outdated.failure).collect())?)
}

/// Finds the version of a type whose digest begins with `text`.
fn version(store: &Store, kind: &str, text: &str) -> Result<Digest> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    if digits.is_empty() {
        bail!("a digest, or its beginning, is needed to tell versions of {kind} apart");
    }
    let found: Vec<Digest> = store
        .records()?
        .into_iter()
        // One that cannot be read can be named nevertheless, to be removed.
        .filter(|(_, record)| {
            record.as_ref().map_or(true, |record| record.types.iter().any(|known| known == kind))
        })
        .map(|(digest, _)| digest)
        .filter(|digest| digest.hex().starts_with(digits))
        .collect();
    match found.as_slice() {
        [digest] => Ok(digest.clone()),
        [] => bail!("no version of plugin type {kind} has a digest that begins with {text:?}"),
        several => {
            let several: Vec<String> = several.iter().map(Digest::to_string).collect();
            bail!("several versions of {kind} begin with {text:?}: {}", several.join(", "))
        }
    }
}

/// A size for people.
fn size(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..1_048_576 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{:.1} MiB", bytes as f64 / 1_048_576.0),
    }
}

/// The store, if anything was ever installed.
fn store() -> Result<Option<Store>> {
    let paths = state_paths();
    Store::open(&paths).map_err(crate::Failure::from).context("open the store of plugins")
}
