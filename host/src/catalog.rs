//! Which component serves a plugin type: one that came with weir, or one that
//! the operator installed.

mod compiler;
mod description;
mod digest;
mod directory;
mod interfaces;
mod record;
mod signature;
mod store;
mod writer;

use std::borrow::Cow;

use crate::aot::embed;
use crate::failure::Failure;
use crate::paths::Paths;

pub(crate) use compiler::describe;
pub(crate) use description::Description;
pub(crate) use digest::Digest;
pub(crate) use directory::Directory;
pub(crate) use interfaces::{check, meaning, role};
pub(crate) use record::Record;
pub(crate) use signature::verify;
pub(crate) use store::{Compiled, Store, is_type};
pub(crate) use writer::{Change, Outdated, Refreshed, Writer};

/// A component that serves a plugin type.
#[derive(Debug)]
pub(crate) struct Plugin {
    /// The plugin type.
    pub(crate) name: &'static str,
    /// The component's digest, as `sha256:…`.
    pub(crate) digest: Cow<'static, str>,
    /// Where it comes from.
    pub(crate) origin: Origin,
    /// Whether it makes interfaces.
    pub(crate) is_interface_plugin: bool,
    /// Whether it hands out addresses.
    pub(crate) is_ipam_plugin: bool,
    /// Its compiled code.
    pub(crate) code: Code,
    /// What it imports, if it was installed.
    imports: Vec<String>,
}

impl Plugin {
    /// Whether it imports an interface whose name begins like this, as
    /// `weir:store/leases`.
    pub(crate) fn imports(&self, prefix: &str) -> bool {
        match self.origin {
            // A test sees to it that they import all that they are granted.
            Origin::Bundled { grants } => grants.iter().any(|grant| grant.starts_with(prefix)),
            Origin::Installed => self.imports.iter().any(|import| import.starts_with(prefix)),
        }
    }
}

/// Where a component comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// It is part of weir.
    Bundled {
        /// The interfaces that it may import. They stand in the plugin's
        /// `Cargo.toml`, under `package.metadata.weir`.
        grants: &'static [&'static str],
    },
    /// The operator installed it.
    Installed,
}

/// Compiled code.
#[derive(Debug)]
pub(crate) enum Code {
    /// It is part of the executable.
    Embedded(&'static [u8]),
    /// It is in the store.
    Stored(Compiled),
}

/// A component that comes with weir: compiled ahead of time, embedded.
struct Bundled {
    name: &'static str,
    digest: &'static str,
    size: u64,
    description: &'static str,
    code: &'static [u8],
    is_interface_plugin: bool,
    is_ipam_plugin: bool,
    grants: &'static [&'static str],
}

include!(concat!(env!("OUT_DIR"), "/bundled.rs"));

impl Bundled {
    fn plugin(&self) -> Plugin {
        Plugin {
            name: self.name,
            digest: Cow::Borrowed(self.digest),
            origin: Origin::Bundled { grants: self.grants },
            is_interface_plugin: self.is_interface_plugin,
            is_ipam_plugin: self.is_ipam_plugin,
            code: Code::Embedded(self.code),
            imports: Vec::new(),
        }
    }
}

/// Finds the component of a plugin type. What comes with weir is found without
/// a look at the file system.
pub(crate) fn find(paths: &Paths, kind: &str) -> Result<Option<Plugin>, Failure> {
    if let Some(bundled) = bundled(kind) {
        return Ok(Some(bundled));
    }
    Ok(store::find(paths, kind)?)
}

/// The component of a type that comes with weir.
pub(crate) fn bundled(kind: &str) -> Option<Plugin> {
    BUNDLED.iter().find(|bundled| bundled.name == kind).map(Bundled::plugin)
}

/// Whether the component of a type comes with weir.
pub(crate) fn is_bundled(kind: &str) -> bool {
    BUNDLED.iter().any(|bundled| bundled.name == kind)
}

/// The types of the components that come with weir.
pub(crate) fn bundled_names() -> impl Iterator<Item = &'static str> {
    BUNDLED.iter().map(|bundled| bundled.name)
}

/// Whether it is code of a component that comes with weir.
pub(crate) fn is_embedded(code: *const u8) -> bool {
    BUNDLED.iter().any(|bundled| bundled.code.as_ptr_range().contains(&code))
}

/// What a component that comes with weir says of itself; its digest and size.
pub(crate) fn bundled_facts(name: &str) -> Option<(&'static str, u64, Description)> {
    let bundled = BUNDLED.iter().find(|bundled| bundled.name == name)?;
    let description = serde_json::from_str(bundled.description).ok()?;
    Some((bundled.digest, bundled.size, description))
}

/// All types that weir serves on this node.
pub(crate) fn names(paths: &Paths) -> Result<Vec<String>, Failure> {
    let mut names: Vec<String> = bundled_names().map(str::to_owned).collect();
    names.extend(store::types(paths)?);
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A component that imports nothing that has to be granted.
    pub(super) const COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/static.wasm"));

    #[test]
    fn bundled_components_run_from_where_they_are() {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let rights_at = |address: usize| {
            maps.lines().find_map(|line| {
                let (range, rest) = line.split_once(' ')?;
                let (start, end) = range.split_once('-')?;
                let place = |text| usize::from_str_radix(text, 16).unwrap();
                (place(start)..place(end)).contains(&address).then(|| &rest[..4])
            })
        };
        for bundled in BUNDLED {
            let code = bundled.code.as_ptr_range();
            assert!(code.start.addr().is_multiple_of(crate::aot::PAGE), "{}", bundled.name);
            for address in [code.start.addr(), code.end.addr() - 1] {
                assert_eq!(rights_at(address), Some("r-xp"), "{}", bundled.name);
            }
        }
    }

    #[test]
    fn every_bundled_component_loads_and_imports_only_what_it_is_granted() {
        let engine = crate::engine::engine().unwrap();
        for bundled in BUNDLED {
            let component = crate::aot::load(engine, &bundled.plugin()).unwrap();
            let imports: Vec<String> = crate::session::imports(engine, &component);
            for import in &imports {
                assert!(!import.starts_with("wasi:"), "{} imports {import}", bundled.name);
                assert!(
                    crate::session::is_granted(bundled.grants, import),
                    "{} imports {import}, which its grant does not name",
                    bundled.name
                );
            }
            for grant in bundled.grants {
                assert!(
                    imports.iter().any(|import| crate::session::is_granted(&[grant], import)),
                    "{} is granted {grant}, and does not use it",
                    bundled.name
                );
            }
        }
    }

    #[test]
    fn bundled_components_are_told_apart_by_their_digests() {
        let mut digests: Vec<&str> = BUNDLED.iter().map(|bundled| bundled.digest).collect();
        assert!(digests.iter().all(|digest| Digest::parse(digest).is_some()), "{digests:?}");
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), BUNDLED.len());
    }
}
