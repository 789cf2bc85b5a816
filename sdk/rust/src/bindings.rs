//! Bindings of the contract in `wit/`, made anew by every build.

/// What every plugin may import.
pub mod platform {
    wit_bindgen::generate!({
        path: ["../../wit/host", "../../wit/net", "../../wit/firewall", "../../wit/store", "../../wit/plugin"],
        world: "weir:plugin/platform",
        additional_derives: [Clone, PartialEq],
        generate_all,
    });
}

/// The exports of a component that makes interfaces, and its one further
/// import.
pub mod interface {
    wit_bindgen::generate!({
        path: ["../../wit/host", "../../wit/net", "../../wit/firewall", "../../wit/store", "../../wit/plugin"],
        world: "weir:plugin/interface-plugin",
        with: {
            "weir:host/log@0.1.0": crate::bindings::platform::weir::host::log,
            "weir:host/clock@0.1.0": crate::bindings::platform::weir::host::clock,
            "weir:host/random@0.1.0": crate::bindings::platform::weir::host::random,
            "weir:net/types@0.1.0": crate::bindings::platform::weir::net::types,
            "weir:net/links@0.1.0": crate::bindings::platform::weir::net::links,
            "weir:net/addresses@0.1.0": crate::bindings::platform::weir::net::addresses,
            "weir:net/routes@0.1.0": crate::bindings::platform::weir::net::routes,
            "weir:net/neighbors@0.1.0": crate::bindings::platform::weir::net::neighbors,
            "weir:net/sysctls@0.1.0": crate::bindings::platform::weir::net::sysctls,
            "weir:firewall/masquerade@0.1.0": crate::bindings::platform::weir::firewall::masquerade,
            "weir:firewall/guards@0.1.0": crate::bindings::platform::weir::firewall::guards,
            "weir:firewall/publish@0.1.0": crate::bindings::platform::weir::firewall::publish,
            "weir:store/leases@0.1.0": crate::bindings::platform::weir::store::leases,
            "weir:store/bucket@0.1.0": crate::bindings::platform::weir::store::bucket,
            "weir:store/files@0.1.0": crate::bindings::platform::weir::store::files,
            "weir:plugin/types@0.1.0": crate::bindings::platform::weir::plugin::types,
            "weir:plugin/request@0.1.0": crate::bindings::platform::weir::plugin::request,
            "weir:plugin/ipam@0.1.0": generate,
            "weir:plugin/plugin@0.1.0": generate,
        },
        pub_export_macro: true,
        export_macro_name: "export_interface_bindings",
        default_bindings_module: "weir_sdk::bindings::interface",
    });
}

/// The exports of a component that hands out addresses.
pub mod ipam {
    wit_bindgen::generate!({
        path: ["../../wit/host", "../../wit/net", "../../wit/firewall", "../../wit/store", "../../wit/plugin"],
        world: "weir:plugin/ipam-plugin",
        with: {
            "weir:host/log@0.1.0": crate::bindings::platform::weir::host::log,
            "weir:host/clock@0.1.0": crate::bindings::platform::weir::host::clock,
            "weir:host/random@0.1.0": crate::bindings::platform::weir::host::random,
            "weir:net/types@0.1.0": crate::bindings::platform::weir::net::types,
            "weir:net/links@0.1.0": crate::bindings::platform::weir::net::links,
            "weir:net/addresses@0.1.0": crate::bindings::platform::weir::net::addresses,
            "weir:net/routes@0.1.0": crate::bindings::platform::weir::net::routes,
            "weir:net/neighbors@0.1.0": crate::bindings::platform::weir::net::neighbors,
            "weir:net/sysctls@0.1.0": crate::bindings::platform::weir::net::sysctls,
            "weir:firewall/masquerade@0.1.0": crate::bindings::platform::weir::firewall::masquerade,
            "weir:firewall/guards@0.1.0": crate::bindings::platform::weir::firewall::guards,
            "weir:firewall/publish@0.1.0": crate::bindings::platform::weir::firewall::publish,
            "weir:store/leases@0.1.0": crate::bindings::platform::weir::store::leases,
            "weir:store/bucket@0.1.0": crate::bindings::platform::weir::store::bucket,
            "weir:store/files@0.1.0": crate::bindings::platform::weir::store::files,
            "weir:plugin/types@0.1.0": crate::bindings::platform::weir::plugin::types,
            "weir:plugin/request@0.1.0": crate::bindings::platform::weir::plugin::request,
            "weir:plugin/ipam@0.1.0": generate,
        },
        pub_export_macro: true,
        export_macro_name: "export_ipam_bindings",
        default_bindings_module: "weir_sdk::bindings::ipam",
    });
}
