//! `weir plugin inspect`.

use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::json;

use super::add::stem;
use super::grants::{self, Candidate, Grants};
use super::{file, rule, size};
use crate::catalog::{self, Description, Digest};
use crate::cli::output::say;
use crate::failure::Failure;
use crate::request::state_paths;

/// What there is to say about a component.
struct Facts {
    title: String,
    digest: String,
    size: u64,
    description: Description,
    /// Why this weir cannot run it.
    misfit: Option<String>,
    is_bundled: bool,
    /// The types that it is installed for, and whether it serves them.
    installed: Vec<(String, bool)>,
    signed_by: Option<String>,
}

pub(super) fn run(target: &Path, network: Option<&str>, as_json: bool) -> Result<()> {
    let facts = match target.to_str().filter(|name| catalog::is_type(name) && !target.exists()) {
        Some(name) if !name.ends_with(".wasm") => of_type(name)?,
        _ => of_file(target)?,
    };
    let paths = state_paths();
    let kind = facts.kind(target);
    let candidate = Candidate { kind: &kind, digest: &facts.digest, is_bundled: facts.is_bundled };
    let grants = grants::of(paths.policy(), &candidate, network, &facts.description);
    if as_json {
        print_json(&facts, &grants);
        return Ok(());
    }
    print(&facts, &grants)?;
    if grants.lack_a_rule() && facts.misfit.is_none() {
        say!(
            "\nNo rule is about it. This one, in {}, allows all that it uses:\n\n{}",
            rule::path(paths.policy(), &kind).display(),
            rule::text(&kind, &facts.digest, &rule::wishes(&facts.description))
        );
    }
    Ok(())
}

fn of_type(name: &str) -> Result<Facts> {
    if let Some((digest, size, description)) = catalog::bundled_facts(name) {
        return Ok(Facts {
            title: name.to_owned(),
            digest: digest.to_owned(),
            size,
            description,
            misfit: None,
            is_bundled: true,
            installed: Vec::new(),
            signed_by: None,
        });
    }
    let store = super::store()?;
    let current = match &store {
        Some(store) => store.current(name).map_err(Failure::from)?,
        None => None,
    };
    let (Some(store), Some(digest)) = (store, current) else {
        bail!("inspect {name}: there is neither such a file nor such a plugin type")
    };
    let record = store.record(&digest).map_err(Failure::from)?;
    let record = record.with_context(|| format!("inspect {name}: {digest} is not in the store"))?;
    Facts::new(name.to_owned(), &digest, record.size, record.description)
}

fn of_file(path: &Path) -> Result<Facts> {
    let bytes = file::component(path)?;
    let described = catalog::describe(&bytes).with_context(|| format!("inspect {}", path.display()))?;
    let digest = Digest::of(&described.component);
    Facts::new(path.display().to_string(), &digest, described.component.len() as u64, described.description)
}

impl Facts {
    /// What there is to say about a component that is not part of weir.
    fn new(title: String, digest: &Digest, size: u64, description: Description) -> Result<Self> {
        let mut facts = Self {
            title,
            digest: digest.to_string(),
            size,
            misfit: catalog::check(&description).err(),
            description,
            is_bundled: false,
            installed: Vec::new(),
            signed_by: None,
        };
        let Some(store) = super::store()? else { return Ok(facts) };
        let Some(record) = store.record(digest).map_err(Failure::from)? else { return Ok(facts) };
        for kind in record.types {
            let current = store.current(&kind).map_err(Failure::from)?;
            facts.installed.push((kind, current.as_ref() == Some(digest)));
        }
        facts.signed_by = record.signed_by;
        Ok(facts)
    }

    /// The type by which rules know it: the one that it serves, or would serve
    /// if it were installed under the name of its file.
    fn kind(&self, target: &Path) -> String {
        let in_use = self.installed.iter().max_by_key(|(_, is_in_use)| *is_in_use);
        let named = || target.to_str().filter(|_| self.is_bundled).map(str::to_owned);
        let served = in_use.map(|(kind, _)| kind.clone()).or_else(named);
        served.or_else(|| stem(target).ok()).unwrap_or_default()
    }
}

fn print(facts: &Facts, grants: &Grants) -> Result<()> {
    let Facts { title, digest, description, .. } = facts;
    say!("{title}");
    say!("  digest     {digest}");
    say!("  size       {}", size(facts.size));
    if let Some(language) = &description.language {
        say!("  language   {language}");
    }
    if !description.tools.is_empty() {
        say!("  made with  {}", description.tools.join(", "));
    }
    if facts.is_bundled {
        say!("  installed  it is part of weir");
    } else if facts.installed.is_empty() {
        say!("  installed  no");
    }
    for (kind, is_in_use) in &facts.installed {
        say!("  installed  as {kind}{}", if *is_in_use { "" } else { ", where another version is in use" });
    }
    if let Some(key) = &facts.signed_by {
        say!("  signed by  {key}");
    }
    say!("{}", exports(description));
    say!("{}", imports(description, grants));
    if let Some(misfit) = &facts.misfit {
        say!("This weir cannot run it: {misfit}");
    }
    Ok(())
}

fn print_json(facts: &Facts, grants: &Grants) {
    let Description { imports, exports, language, tools } = &facts.description;
    let imports: Vec<_> = imports
        .iter()
        .zip(&grants.imports)
        .map(|(import, grant)| {
            json!({
                "interface": import,
                "meaning": catalog::meaning(import),
                "allowed": grant.is_ok(),
                "rule": grant.as_ref().ok().and_then(Option::as_ref),
                "reason": grant.as_ref().err().map(|denial| &denial.reason),
                "hint": grant.as_ref().err().map(|denial| &denial.hint),
            })
        })
        .collect();
    let installed: Vec<_> =
        facts.installed.iter().map(|(kind, is_in_use)| json!({ "type": kind, "inUse": is_in_use })).collect();
    let value = json!({
        "digest": facts.digest,
        "size": facts.size,
        "imports": imports,
        "exports": exports,
        "language": language,
        "tools": tools,
        "bundled": facts.is_bundled,
        "installed": installed,
        "signedBy": facts.signed_by,
        "misfit": facts.misfit,
        "policyError": grants.error,
    });
    say!("{value}");
}

fn exports(description: &Description) -> String {
    let lines = description.exports.iter().map(|export| (shown(export), catalog::role(export)));
    section("Provides", lines.collect())
}

/// What a component uses, in plain words, and whether it may.
pub(super) fn imports(description: &Description, grants: &Grants) -> String {
    let mut text = String::new();
    if let Some(error) = &grants.error {
        text = format!("The policy cannot be used, so that nothing is allowed: {error}\n");
    }
    let lines = description.imports.iter().map(|import| (shown(import), catalog::meaning(import)));
    let section = section("Uses", lines.collect());
    let mut rows = section.lines();
    text += rows.next().unwrap_or_default();
    for (row, grant) in rows.zip(&grants.imports) {
        text += &format!("\n{row}\n    {}", grants::words(grant));
    }
    text
}

/// The names stand in the component, which nobody has vouched for.
fn shown(name: &str) -> String {
    name.escape_debug().to_string()
}

fn section(title: &str, lines: Vec<(String, &str)>) -> String {
    if lines.is_empty() {
        return format!("{title} nothing");
    }
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let lines = lines.iter().map(|(name, meaning)| format!("  {name:width$}  {meaning}"));
    format!("{title}\n{}", lines.collect::<Vec<_>>().join("\n"))
}
