//! The interfaces that components may import, by name and without version.

/// All of them, as in `wit/`.
pub(super) const KNOWN: [&str; 18] = [
    "weir:firewall/guards",
    "weir:firewall/masquerade",
    "weir:firewall/publish",
    "weir:host/clock",
    "weir:host/log",
    "weir:host/random",
    "weir:net/addresses",
    "weir:net/links",
    "weir:net/neighbors",
    "weir:net/routes",
    "weir:net/sysctls",
    "weir:net/types",
    "weir:plugin/ipam",
    "weir:plugin/request",
    "weir:plugin/types",
    "weir:store/bucket",
    "weir:store/files",
    "weir:store/leases",
];

/// Whether every plugin may import it unless a rule forbids it: it has no
/// functions, or none that touches the node.
pub(crate) fn is_free(name: &str) -> bool {
    matches!(
        name,
        "weir:net/types"
            | "weir:plugin/types"
            | "weir:plugin/request"
            | "weir:host/log"
            | "weir:host/clock"
            | "weir:host/random"
    )
}

/// The name of an import without its version.
pub(crate) fn unversioned(import: &str) -> &str {
    import.split_once('@').map_or(import, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_interface_of_the_contract_is_known() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../wit");
        let mut found = Vec::new();
        for package in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
            for file in std::fs::read_dir(package.path()).unwrap().map(Result::unwrap) {
                let package = package.file_name().into_string().unwrap();
                let text = std::fs::read_to_string(file.path()).unwrap();
                let names = text.lines().filter_map(|line| line.strip_prefix("interface "));
                found.extend(
                    names.map(|name| format!("weir:{package}/{}", name.trim_end_matches([' ', '{']))),
                );
            }
        }
        found.sort();
        // Only exported.
        found.retain(|name| name != "weir:plugin/plugin");
        assert_eq!(found, KNOWN);
    }

    #[test]
    fn versions_are_left_out() {
        assert_eq!(unversioned("weir:net/links@0.1.0"), "weir:net/links");
        assert_eq!(unversioned("weir:net/links"), "weir:net/links");
    }
}
