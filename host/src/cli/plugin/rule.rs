//! The rule that lets a component use interfaces.

use std::fmt;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::Failure;
use crate::catalog::{Description, Digest, Directory};
use crate::policy::{Key, unversioned};
use crate::session::is_granted;

/// A file of rules is no larger.
const LIMIT: u64 = 1 << 20;

/// What a component imports and every plugin may not use, without versions.
pub(super) fn wishes(description: &Description) -> Vec<&str> {
    let imports = description.imports.iter().filter(|import| !is_granted(&[], import));
    imports.map(|import| unversioned(import)).collect()
}

/// Reads the operator's choice of interfaces; each has to be one that the
/// component imports.
pub(super) fn chosen<'a>(description: &'a Description, allow: &[String]) -> Result<Vec<&'a str>> {
    let imports: Vec<&str> = description.imports.iter().map(|import| unversioned(import)).collect();
    let mut chosen = Vec::new();
    for interface in allow {
        match imports.iter().find(|import| **import == unversioned(interface)) {
            Some(import) if chosen.contains(import) => {}
            Some(import) => chosen.push(*import),
            None => {
                bail!("--allow {interface}: the component does not use it; it uses {}", imports.join(", "))
            }
        }
    }
    Ok(chosen)
}

/// The text of a rule for one component.
pub(super) fn text(kind: &str, digest: &impl fmt::Display, interfaces: &[&str]) -> String {
    let interfaces: Vec<String> = interfaces.iter().map(|interface| format!("{interface:?}")).collect();
    format!(
        "[[allow]]\nname = \"{kind}\"\nplugin = \"{kind}\"\ndigest = \"{digest}\"\ninterfaces = [{}]\n",
        interfaces.join(", ")
    )
}

/// The keys that bound what a component does with interfaces. It may do nothing
/// of what they do not name.
fn bounds(interfaces: &[&str]) -> Vec<Key> {
    let of = |interface: &str| -> &[Key] {
        match interface {
            "weir:store/leases" => &[Key::Addresses, Key::DataDirs],
            "weir:net/links" => &[
                Key::Namespaces,
                Key::Links,
                Key::LinkKinds,
                Key::Bridges,
                Key::Parents,
                Key::Neighbors,
                Key::Vlans,
                Key::Vnis,
            ],
            "weir:net/addresses" | "weir:firewall/masquerade" => &[Key::Addresses],
            "weir:net/routes" => &[Key::Routes],
            "weir:net/neighbors" => &[Key::Neighbors],
            "weir:net/sysctls" => &[Key::Sysctls],
            "weir:firewall/publish" => &[Key::Addresses, Key::Ports],
            "weir:plugin/ipam" => &[Key::Delegates],
            _ => &[],
        }
    };
    let mut keys: Vec<Key> = interfaces.iter().flat_map(|interface| of(interface)).copied().collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// What to add to a rule that names interfaces alone; none if it is enough.
pub(super) fn remark(interfaces: &[&str]) -> Option<String> {
    let mut keys: Vec<&str> = bounds(interfaces).into_iter().map(Key::as_str).collect();
    if interfaces.contains(&"weir:store/leases") {
        keys.push("leases");
    }
    (!keys.is_empty()).then(|| {
        format!(
            "What it may do with them has to be named too, as far as it needs it, by the keys {}.",
            keys.join(", ")
        )
    })
}

/// Where the rules of a plugin type are.
pub(super) fn path(policy: &Path, kind: &str) -> PathBuf {
    policy.join("policy.d").join(format!("plugin-{kind}.toml"))
}

/// Adds a rule to the rules of a plugin type; false if it is there already.
pub(super) fn write(policy: &Path, kind: &str, digest: &Digest, interfaces: &[&str]) -> Result<bool> {
    if !policy.exists() {
        fs::create_dir_all(policy)
            .and_then(|()| fs::set_permissions(policy, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("create {}", policy.display()))?;
    }
    let directory = Directory::open(policy).map_err(Failure::from)?;
    let directory = directory.with_context(|| format!("{} is no directory", policy.display()))?;
    directory.check().map_err(Failure::from)?;
    let directory = directory.ensure("policy.d").map_err(Failure::from)?;
    let name = format!("plugin-{kind}.toml");
    let before = directory.read(&name, LIMIT).map_err(Failure::from)?.unwrap_or_default();
    let before = String::from_utf8(before)
        .with_context(|| format!("read {}: it is not text", path(policy, kind).display()))?;
    let rule = text(kind, digest, interfaces);
    if before.contains(&rule) {
        return Ok(false);
    }
    let separator = match before.as_str() {
        "" => "",
        text if text.ends_with('\n') => "\n",
        _ => "\n\n",
    };
    directory.write(&name, format!("{before}{separator}{rule}").as_bytes()).map_err(Failure::from)?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn description(imports: &[&str]) -> Description {
        Description {
            imports: imports.iter().map(|import| (*import).to_owned()).collect(),
            exports: Vec::new(),
            language: None,
            tools: Vec::new(),
        }
    }

    #[test]
    fn only_what_is_imported_can_be_allowed() {
        let description =
            description(&["weir:host/log@0.1.0", "weir:net/links@0.1.0", "weir:store/leases@0.1.0"]);
        assert_eq!(wishes(&description), ["weir:net/links", "weir:store/leases"]);
        let allow = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
            chosen(&description, &texts).map(|chosen| chosen.join(" "))
        };
        let twice = ["weir:net/links", "weir:net/links@0.1.0"];
        assert_eq!(allow(&twice).unwrap(), "weir:net/links");
        for bad in ["weir:net/routes", "weir:net/*", "", "weir:net/links\"]\n[[allow]]"] {
            assert!(allow(&[bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn rules_are_added_once_and_others_stay() {
        let directory = tempfile::tempdir().unwrap();
        let policy = directory.path().join("weir");
        let (one, two) = (Digest::of(b"1"), Digest::of(b"2"));
        assert!(write(&policy, "acme", &one, &["weir:net/links"]).unwrap());
        assert!(!write(&policy, "acme", &one, &["weir:net/links"]).unwrap());
        assert!(write(&policy, "acme", &two, &[]).unwrap());
        let text = fs::read_to_string(path(&policy, "acme")).unwrap();
        let expected = format!(
            "[[allow]]\nname = \"acme\"\nplugin = \"acme\"\ndigest = \"{one}\"\ninterfaces = [\"weir:net/links\"]\n\n[[allow]]\nname = \"acme\"\nplugin = \"acme\"\ndigest = \"{two}\"\ninterfaces = []\n"
        );
        assert_eq!(text, expected);
        let mode = fs::metadata(path(&policy, "acme")).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o644);
    }

    #[test]
    fn a_policy_that_others_may_write_is_not_added_to() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o777)).unwrap();
        let error = write(directory.path(), "acme", &Digest::of(b"1"), &[]).unwrap_err();
        assert!(error.to_string().contains("0777"), "{error}");
        assert!(!path(directory.path(), "acme").exists());
    }
}
