//! Reads policy files. All of a file is read even if something is wrong with
//! it, so that everything can be put right at once.

mod reader;

use std::ops::Range;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;
use super::pattern::{self, Alphabet, Patterns};
use super::rule::{Body, Bound, Conditions, Effect, Key, Rule, Values};
use super::settings::{Bundled, Limits, Settings};
use super::{number::Numbers, port::Ports, prefix, value};

use reader::Reader;

/// The file whose `[audit]` and `[plugins]` count.
pub(crate) const MAIN_FILE: &str = "policy.toml";

/// The directory with its other parts.
pub(super) const PARTS: &str = "policy.d";

const TOP_KEYS: [&str; 5] = ["bundled", "audit", "plugins", "allow", "deny"];
const AUDIT_KEYS: [&str; 6] = ["enabled", "file", "max-size", "keep", "journald", "required"];
const PLUGINS_KEYS: [&str; 2] = ["signing-keys", "require-signature"];
const CONDITION_KEYS: [&str; 4] = ["network", "plugin", "digest", "tenant"];
const LIMIT_KEYS: [&str; 4] = ["time", "memory", "changes", "handles"];

/// What the files say, taken together.
#[derive(Debug, Default)]
pub(crate) struct Document {
    pub(crate) settings: Settings,
    pub(crate) files: Vec<PathBuf>,
    /// By file and line.
    pub(crate) rules: Vec<Rule>,
    pub(crate) problems: Vec<Problem>,
}

impl Document {
    pub(crate) fn parse(files: &[(PathBuf, String)]) -> Self {
        let mut document = Self::default();
        for (path, text) in files {
            document.add(path, text);
        }
        document
    }

    fn add(&mut self, path: &Path, text: &str) {
        // A lossless conversion: files of this number do not fit into memory.
        let file = self.files.len() as u32;
        self.files.push(path.to_owned());
        let mut reader = Reader::new(path, text);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in errors {
            reader.problem(&error.span().unwrap_or(0..0), format!("invalid TOML: {}", error.message()));
        }
        let table = table.get_ref();
        reader.expect_keys(table, &[&TOP_KEYS]);
        let mut rules = Vec::new();
        for (key, value) in table {
            match &**key.get_ref() {
                "bundled" => {
                    if let Some(bundled) = bundled(&mut reader, value) {
                        self.settings.bundled = self.settings.bundled.max(bundled);
                    }
                }
                section @ ("audit" | "plugins") => {
                    if !is_main(path) {
                        reader.problem(&key.span(), format!("[{section}] belongs into {MAIN_FILE}"));
                    } else if let Some(table) = reader.table(value, section) {
                        match section {
                            "audit" => audit(&mut reader, table, &mut self.settings),
                            _ => plugins(&mut reader, table, &mut self.settings),
                        }
                    }
                }
                "allow" => rules.extend(self::rules(&mut reader, value, Effect::Allow, file)),
                "deny" => rules.extend(self::rules(&mut reader, value, Effect::Deny, file)),
                _ => {}
            }
        }
        rules.sort_by_key(|rule| rule.body.line);
        self.rules.extend(rules);
        self.problems.extend(reader.finish());
    }
}

/// Whether it is the main file, and none of that name beside other parts.
fn is_main(path: &Path) -> bool {
    let directory = path.parent().and_then(Path::file_name);
    path.file_name().is_some_and(|name| name == MAIN_FILE) && directory.is_none_or(|name| name != PARTS)
}

fn bundled(reader: &mut Reader<'_>, value: &Spanned<DeValue<'_>>) -> Option<Bundled> {
    match reader.text(value, "bundled")? {
        "unrestricted" => Some(Bundled::Unrestricted),
        "by-rule" => Some(Bundled::ByRule),
        other => {
            let message = format!("bundled: expected \"unrestricted\" or \"by-rule\", found {other:?}");
            reader.problem(&value.span(), message);
            None
        }
    }
}

fn audit(reader: &mut Reader<'_>, table: &DeTable<'_>, settings: &mut Settings) {
    reader.expect_keys(table, &[&AUDIT_KEYS]);
    let audit = &mut settings.audit;
    for (key, value) in table {
        match &**key.get_ref() {
            "enabled" => audit.enabled = reader.flag(value, "enabled").unwrap_or_default(),
            "required" => audit.required = reader.flag(value, "required").unwrap_or_default(),
            "journald" => audit.journald = reader.flag(value, "journald").unwrap_or_default(),
            "keep" => audit.keep = reader.number(value, "keep", 0..=100).unwrap_or_default(),
            "max-size" => {
                if let Some(size) = reader.converted(value, "max-size", value::size) {
                    audit.max_size = size;
                }
            }
            "file" => {
                let absolute = |text: &str| match Path::new(text) {
                    path if path.is_absolute()
                        && path.file_name().is_some()
                        && !text.contains(char::is_control) =>
                    {
                        Ok(path.to_owned())
                    }
                    _ => Err(format!("{text:?} is no absolute path of a file")),
                };
                if let Some(file) = reader.converted(value, "file", absolute) {
                    audit.file = Some(file);
                }
            }
            _ => {}
        }
    }
}

fn plugins(reader: &mut Reader<'_>, table: &DeTable<'_>, settings: &mut Settings) {
    reader.expect_keys(table, &[&PLUGINS_KEYS]);
    let signing = &mut settings.signing;
    for (key, value) in table {
        match &**key.get_ref() {
            "require-signature" => {
                signing.require_signature = reader.flag(value, "require-signature").unwrap_or_default();
            }
            "signing-keys" => {
                let texts = reader.checked_texts(value, "signing-keys", value::check_signing_key);
                signing.keys = texts.into_iter().map(str::to_owned).collect();
            }
            _ => {}
        }
    }
}

/// The rules of one effect.
fn rules(reader: &mut Reader<'_>, value: &Spanned<DeValue<'_>>, effect: Effect, file: u32) -> Vec<Rule> {
    let name = effect.as_str();
    let DeValue::Array(items) = value.get_ref() else {
        reader
            .problem(&value.span(), format!("{name}: expected a list of rules: write [[{name}]] above each"));
        return Vec::new();
    };
    let mut rules = Vec::new();
    for item in items.iter() {
        if let Some(table) = reader.table(item, name) {
            let (line, _) = reader.position(item.span().start);
            let body = Body { file, line, ..Body::default() };
            let mut rule = Rule { effect, conditions: Conditions::default(), body };
            fill(reader, table, &mut rule);
            rules.push(rule);
        }
    }
    rules
}

fn fill(reader: &mut Reader<'_>, table: &DeTable<'_>, rule: &mut Rule) {
    let what = Key::ALL.map(Key::as_str);
    let is_allow = rule.effect == Effect::Allow;
    let own: &[&str] = if is_allow { &["leases", "limits"] } else { &[] };
    reader.expect_keys(table, &[&["name"], &CONDITION_KEYS, &what, own]);
    for (key, value) in table {
        let key_span = key.span();
        match &**key.get_ref() {
            "name" => rule.body.name = reader.converted(value, "name", rule_name),
            "network" => rule.conditions.network = patterns(reader, value, "network", Alphabet::Identifier),
            "plugin" => rule.conditions.plugin = patterns(reader, value, "plugin", Alphabet::File),
            "tenant" => rule.conditions.tenant = patterns(reader, value, "tenant", Alphabet::Text),
            "digest" => {
                let texts = reader.checked_texts(value, "digest", value::check_digest);
                rule.conditions.digest = Patterns::new(some(reader, value, "digest", texts));
            }
            "leases" if is_allow => {
                let (line, _) = reader.position(key_span.start);
                rule.body.leases = reader.number(value, "leases", 0..=u32::MAX).map(|number| (number, line));
            }
            "limits" if is_allow => {
                if let Some(table) = reader.table(value, "limits") {
                    rule.body.limits = limits(reader, table);
                }
            }
            name => {
                if let Some(key) = Key::ALL.into_iter().find(|key| key.as_str() == name) {
                    rule.body.bounds.push(bound(reader, key, &key_span, value, is_allow));
                }
            }
        }
    }
    rule.body.bounds.sort_by_key(|bound| bound.key);
}

fn rule_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.len() > 200 || text.contains(char::is_control) {
        return Err("a rule's name is 1 to 200 bytes without control characters".to_owned());
    }
    Ok(text.to_owned())
}

fn bound(
    reader: &mut Reader<'_>,
    key: Key,
    key_span: &Range<usize>,
    value: &Spanned<DeValue<'_>>,
    is_allow: bool,
) -> Bound {
    let name = key.as_str();
    let (line, _) = reader.position(key_span.start);
    let values = match key {
        Key::Addresses | Key::Routes | Key::Neighbors => {
            Values::Prefixes(reader.converted_texts(value, name, prefix::parse))
        }
        Key::Ports => Values::Ports(reader.converted_texts(value, name, Ports::parse)),
        Key::Vlans | Key::Vnis => {
            Values::Numbers(reader.converted_texts(value, name, |text| Numbers::parse(key, text)))
        }
        _ => {
            let check = |text: &str| value::check_name(key, text);
            Values::Names(Patterns::new(reader.checked_texts(value, name, check)))
        }
    };
    // Nothing is a meaningful bound, but not a meaningful thing to forbid.
    if !is_allow && matches!(value.get_ref(), DeValue::Array(items) if items.is_empty()) {
        let message =
            format!("{name}: an empty list forbids nothing: name what is forbidden, or leave the rule out");
        reader.problem(&value.span(), message);
    }
    Bound { key, line, values }
}

/// The patterns of a condition.
fn patterns(
    reader: &mut Reader<'_>,
    value: &Spanned<DeValue<'_>>,
    name: &str,
    alphabet: Alphabet,
) -> Patterns {
    let texts = reader.checked_texts(value, name, |text| pattern::check(text, alphabet));
    Patterns::new(some(reader, value, name, texts))
}

/// Refuses an empty list, which would match everything instead of nothing.
fn some<'a>(
    reader: &mut Reader<'_>,
    value: &Spanned<DeValue<'_>>,
    name: &str,
    texts: Vec<&'a str>,
) -> Vec<&'a str> {
    if matches!(value.get_ref(), DeValue::Array(items) if items.is_empty()) {
        let message = format!("{name}: an empty list matches nothing: leave the key out to match everything");
        reader.problem(&value.span(), message);
    }
    texts
}

fn limits(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Limits {
    reader.expect_keys(table, &[&LIMIT_KEYS]);
    let mut limits = Limits::default();
    for (key, value) in table {
        match &**key.get_ref() {
            "time" => limits.time = reader.converted(value, "time", value::duration),
            "memory" => limits.memory = reader.converted(value, "memory", value::size),
            "changes" => limits.changes = reader.number(value, "changes", 0..=u32::MAX),
            "handles" => limits.handles = reader.number(value, "handles", 0..=u32::MAX),
            _ => {}
        }
    }
    limits
}
