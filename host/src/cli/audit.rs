//! `weir audit`: what the audit log knows.

mod follow;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context, Result, anyhow, bail};

use crate::audit::{Entry, Verdict, files};
use crate::policy::{self, Policy};
use crate::request::state_paths;
use follow::Lines;

/// What to look for. All that is given has to fit.
#[derive(Debug, clap::Args)]
pub(super) struct Options {
    /// Shows records of this network only.
    #[arg(long, value_name = "NAME")]
    network: Option<String>,
    /// Shows records of containers whose id begins like this.
    #[arg(long, visible_alias = "container-id", value_name = "ID")]
    container: Option<String>,
    /// Shows records of this tenant (Kubernetes: the pod's namespace).
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,
    /// Shows what this plugin type did.
    #[arg(long, value_name = "TYPE")]
    plugin: Option<String>,
    /// Shows operations whose name has this in it, as `create` or `undo`.
    #[arg(long, value_name = "NAME")]
    operation: Option<String>,
    /// Shows operations that ended like this.
    #[arg(long)]
    outcome: Option<Verdict>,
    /// Shows what happened since then: a time as 2026-01-31T12:00:00Z, or how
    /// long ago, as 10m or 2h.
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Option<Since>,
    /// Writes records as they are stored: JSON, one object a line.
    #[arg(long)]
    json: bool,
    /// Goes on with what is added.
    #[arg(short, long)]
    follow: bool,
    /// The audit log [default: WEIR_AUDIT_FILE, or the file that the policy
    /// names, or /var/log/weir/audit.jsonl].
    file: Option<PathBuf>,
}

/// The text of a time, as records have it.
#[derive(Debug, Clone)]
struct Since(String);

/// Reads a point in time or how long ago it is.
fn since(text: &str) -> Result<Since> {
    let time = match humantime::parse_duration(text) {
        Ok(ago) => SystemTime::now().checked_sub(ago).context("that is before time began")?,
        Err(_) => humantime::parse_rfc3339_weak(text).map_err(|_| {
            anyhow!("expected a time of UTC as 2026-01-31T12:00:00Z or how long ago, as 10m or 2h")
        })?,
    };
    if time < SystemTime::UNIX_EPOCH {
        bail!("that is before 1970");
    }
    Ok(Since(humantime::format_rfc3339_micros(time).to_string()))
}

pub(super) fn run(options: &Options) -> Result<ExitCode> {
    let path = options.file.clone().unwrap_or_else(log);
    if files(&path).is_empty() && !options.follow {
        if options.file.is_some() {
            bail!("show the audit log: there is no file {}", path.display());
        }
        eprintln!("weir: no records in {}", path.display());
        return Ok(ExitCode::SUCCESS);
    }
    let shown = match show(options, Lines::of(path.clone())) {
        // Whoever reads has seen enough, as in `weir audit | head`.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
        shown => shown.context("show the audit log")?,
    };
    if shown.damaged > 0 {
        eprintln!("weir: lines of {} that are no records: {}", path.display(), shown.damaged);
    }
    if shown.records == 0 {
        eprintln!("weir: no record in {} is like that", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Where calls on this node leave their records.
fn log() -> PathBuf {
    let paths = state_paths();
    let (document, _) = policy::read(paths.policy());
    let policy = Policy::of(document).unwrap_or_else(|error| {
        eprintln!("weir: the policy may name another file: {error}");
        Policy::default()
    });
    paths.audit(policy.audit().file.as_deref())
}

/// How many lines were what.
#[derive(Debug, Default)]
struct Shown {
    records: usize,
    damaged: usize,
}

#[expect(clippy::disallowed_methods, reason = "a command's output")]
fn show(options: &Options, mut lines: Lines) -> io::Result<Shown> {
    let mut shown = Shown::default();
    let mut out = io::BufWriter::new(io::stdout().lock());
    loop {
        while let Some(line) = lines.next()? {
            let line = String::from_utf8_lossy(&line);
            let Some(entry) = Entry::read(&line) else {
                shown.damaged += 1;
                continue;
            };
            if !options.fits(&entry) {
                continue;
            }
            shown.records += 1;
            let entry = entry.harmless();
            if options.json {
                serde_json::to_writer(&mut out, &entry)?;
                writeln!(out)?;
            } else {
                writeln!(out, "{}", row(&entry))?;
            }
        }
        out.flush()?;
        if !options.follow {
            return Ok(shown);
        }
        lines.wait();
    }
}

impl Options {
    fn fits(&self, entry: &Entry<'_>) -> bool {
        let is = |wanted: &Option<String>, there: &str| wanted.as_ref().is_none_or(|wanted| wanted == there);
        is(&self.network, &entry.network)
            && is(&self.tenant, &entry.tenant)
            && is(&self.plugin, &entry.plugin)
            && self.container.as_ref().is_none_or(|wanted| entry.container.starts_with(wanted.as_str()))
            && self
                .operation
                .as_ref()
                .is_none_or(|wanted| spelled(&entry.operation).contains(&spelled(wanted)))
            && self.outcome.is_none_or(|wanted| wanted == entry.outcome)
            && self.since.as_ref().is_none_or(|Since(wanted)| entry.time.as_ref() >= wanted.as_str())
    }
}

/// An operation's name as a plan and a trial show it too.
fn spelled(operation: &str) -> String {
    operation.replace('-', " ")
}

/// A record for people. Columns have a width for what is usual, as the widest
/// text is known only at the end.
fn row(entry: &Entry<'_>) -> String {
    let tenant = if entry.tenant.is_empty() { String::new() } else { format!(" ({})", entry.tenant) };
    let mut row = format!(
        "{:27} {:6} {:6} {:20} {:24} {:11} {:22} {}",
        entry.time,
        entry.outcome,
        entry.command,
        format!("{}{tenant}", entry.network),
        format!("{}/{}", short(&entry.container), entry.ifname),
        entry.plugin,
        entry.operation,
        entry.object,
    );
    if !entry.reason.is_empty() {
        row += &format!(": {}", entry.reason);
    }
    row + &format!(" [{} µs]", entry.duration_us)
}

/// Enough of an id to tell containers apart.
fn short(id: &str) -> &str {
    const ENOUGH: usize = 12;
    id.char_indices().nth(ENOUGH).map_or(id, |(end, _)| &id[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_points_or_spans() {
        assert_eq!(since("2026-01-31T12:00:00Z").unwrap().0, "2026-01-31T12:00:00.000000Z");
        assert_eq!(since("2026-01-31 12:00:00.5").unwrap().0, "2026-01-31T12:00:00.500000Z");
        assert!(since("10m").unwrap().0 < since("1s").unwrap().0);
        for bad in ["", "yesterday", "2026-13-01T00:00:00Z", "90000years", "-1s"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ids_are_shortened_between_characters() {
        assert_eq!(short("0123456789abcdef"), "0123456789ab");
        assert_eq!(short("c1"), "c1");
        assert_eq!(short("ääääääääääääää"), "ääääääääääää");
    }
}
