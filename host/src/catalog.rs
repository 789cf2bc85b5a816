//! Which component serves a plugin type.

use crate::aot::PageAligned;

/// A component that comes with weir: compiled ahead of time, embedded.
pub(crate) struct Bundled {
    /// The plugin type.
    pub(crate) name: &'static str,
    /// Compiled code, made by this build.
    pub(crate) code: &'static [u8],
    /// Whether it makes interfaces.
    pub(crate) is_interface_plugin: bool,
    /// Whether it hands out addresses.
    pub(crate) is_ipam_plugin: bool,
    /// The interfaces that it may import. They stand in the plugin's
    /// `Cargo.toml`, under `package.metadata.weir`.
    pub(crate) grants: &'static [&'static str],
}

include!(concat!(env!("OUT_DIR"), "/bundled.rs"));

/// Finds the component of a plugin type.
pub(crate) fn find(name: &str) -> Option<&'static Bundled> {
    BUNDLED.iter().find(|bundled| bundled.name == name)
}

/// All types that weir serves.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    BUNDLED.iter().map(|bundled| bundled.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bundled_component_loads_and_imports_only_what_it_is_granted() {
        let engine = crate::engine::engine().unwrap();
        for bundled in BUNDLED {
            let component = crate::aot::load(engine, bundled).unwrap();
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
}
