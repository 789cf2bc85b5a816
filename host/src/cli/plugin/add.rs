//! `weir plugin add`.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use indicatif::ProgressBar;

use super::grants::{self, Candidate};
use super::trust::Trust;
use super::{file, inspect, rule, size};
use crate::catalog::{self, Change, Writer};
use crate::cli::output::say;
use crate::request::state_paths;

pub(super) fn run(path: &Path, kind: Option<&str>, allow: &[String], signature: Option<&Path>) -> Result<()> {
    let kind = match kind {
        Some(kind) => kind.to_owned(),
        None => stem(path)?,
    };
    check_type(&kind)?;
    let bytes = file::component(path)?;
    let paths = state_paths();
    let signed_by = Trust::on_this_node(paths.policy())?.check(path, &bytes, signature)?;
    let attempt = || format!("add {}", path.display());
    let described = catalog::describe(&bytes).with_context(attempt)?;
    drop(bytes);
    let description = &described.description;
    catalog::check(description).map_err(anyhow::Error::msg).with_context(attempt)?;
    let interfaces = rule::chosen(description, allow)?;

    let writer = Writer::open(&paths)?;
    let length = size(described.component.len() as u64);
    let progress = progress(format!("compiling {kind} ({length})"));
    let added = writer.add(&kind, &described.component, description, signed_by.as_deref());
    progress.finish_and_clear();
    let (digest, change) = added.with_context(attempt)?;
    match &change {
        Change::None => say!("{kind} is installed already, from the same component ({digest})"),
        Change::Added => say!("installed {kind} ({digest}, {length})"),
        Change::Restored => say!("installed {kind} again ({digest}, {length})"),
        Change::Replaced(before) => {
            say!(
                "installed {kind} ({digest}, {length})\nit replaces {before}, which \"weir plugin use\" brings back"
            );
        }
    }

    if !allow.is_empty() {
        let is_new = rule::write(paths.policy(), &kind, &digest, &interfaces)
            .with_context(|| format!("{kind} is installed, but no rule could be written for it"))?;
        let verb = if is_new { "now allows" } else { "already allows" };
        say!("{} {verb} it {}", rule::path(paths.policy(), &kind).display(), interfaces.join(", "));
        if let Some(remark) = rule::remark(&interfaces) {
            say!("{remark}");
        }
        return Ok(());
    }
    drop(writer);
    let candidate = Candidate { kind: &kind, digest: &digest.to_string(), is_bundled: false };
    let grants = grants::of(paths.policy(), &candidate, None, description);
    say!("{}", inspect::imports(description, &grants));
    if !grants.allow_everything() {
        say!(
            "\nIt may do nothing that no rule allows. This one, in {}, allows all interfaces that it uses:\n\n{}",
            rule::path(paths.policy(), &kind).display(),
            rule::text(&kind, &digest, &rule::wishes(description))
        );
        if let Some(remark) = rule::remark(&rule::wishes(description)) {
            say!("{remark}");
        }
    }
    Ok(())
}

/// A display of work in progress; nothing where nobody watches.
pub(super) fn progress(message: String) -> ProgressBar {
    let progress = ProgressBar::new_spinner().with_message(message);
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}

/// The plugin type that a file is named after.
pub(super) fn stem(path: &Path) -> Result<String> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = name.strip_suffix(".wasm").unwrap_or(name);
    // As weir-pack calls what it makes.
    let name = name.strip_suffix(".component").unwrap_or(name);
    if catalog::is_type(name) {
        return Ok(name.to_owned());
    }
    bail!("add {}: the file's name is no name for a plugin type; give it one with --type", path.display())
}

fn check_type(kind: &str) -> Result<()> {
    if kind == "weir" || catalog::bundled_names().any(|name| name == kind) {
        bail!("plugin type {kind:?}: it is weir's own; choose another name with --type");
    }
    if !catalog::is_type(kind) {
        bail!(
            "plugin type {kind:?}: it must start with a letter or digit, followed by letters, digits, '_', '.' or '-', at most 64 in all"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_named_after_files() {
        let named = |path: &str| stem(Path::new(path)).ok();
        assert_eq!(named("/x/acme.wasm").as_deref(), Some("acme"));
        assert_eq!(named("acme.component.wasm").as_deref(), Some("acme"));
        assert_eq!(named("acme").as_deref(), Some("acme"));
        for bad in ["/", ".wasm", "x/..", "a b.wasm", "-a.wasm"] {
            assert_eq!(named(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_of_weir_and_names_that_are_paths_are_refused() {
        assert!(check_type("acme-2.ipam_x").is_ok());
        for bad in ["", "bridge", "host-local", "weir", "../x", "a/b", ".x", "a\n", &"a".repeat(65)] {
            assert!(check_type(bad).is_err(), "{bad}");
        }
    }
}
