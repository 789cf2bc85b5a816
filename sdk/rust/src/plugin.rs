//! What a plugin implements, and how it becomes a component.

use crate::request::{Attachment, Network};
use crate::{CniError, CniResult, IpamResult};

/// A plugin that makes or changes interfaces; see `weir:plugin/plugin`.
pub trait InterfacePlugin {
    /// Connects the container and says what was made.
    fn add(attachment: &Attachment) -> Result<CniResult, CniError>;

    /// Disconnects it. Missing pieces are no error: the call may come twice,
    /// or after the namespace has gone.
    fn del(attachment: &Attachment) -> Result<(), CniError>;

    /// Compares what exists with the result of ADD.
    fn check(attachment: &Attachment) -> Result<(), CniError>;

    /// Frees what belongs to attachments that are no longer valid. What the
    /// host made for them it cleans up by itself.
    fn gc(network: &Network) -> Result<(), CniError>;

    /// Answers whether ADD could succeed now.
    fn status(network: &Network) -> Result<(), CniError>;
}

/// A plugin that hands out addresses; see `weir:plugin/ipam`.
pub trait IpamPlugin {
    /// Leases addresses for the attachment.
    fn add(attachment: &Attachment) -> Result<IpamResult, CniError>;

    /// Releases them. Nothing to release is no error.
    fn del(attachment: &Attachment) -> Result<(), CniError>;

    /// Fails if the attachment does not hold what ADD gave it.
    fn check(attachment: &Attachment) -> Result<(), CniError>;

    /// Releases what belongs to attachments that are no longer valid.
    fn gc(network: &Network) -> Result<(), CniError>;

    /// Answers whether ADD could succeed now.
    fn status(network: &Network) -> Result<(), CniError>;
}

/// Sends the text of a panic to the log, which would otherwise be lost: a
/// component that panics just traps.
pub fn install_panic_hook() {
    use crate::host::log::{Level, emit};
    std::panic::set_hook(Box::new(|panic| emit(Level::Error, &panic.to_string())));
}

/// Makes a component of a type that implements [`InterfacePlugin`].
#[macro_export]
macro_rules! export_interface_plugin {
    ($plugin:ty) => {
        // Elsewhere the plugin is only tested.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = || {
            fn is_plugin<P: $crate::InterfacePlugin>() {}
            is_plugin::<$plugin>();
        };

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::request::{Attachment, Network};
            use $crate::{CniError, CniResult, InterfacePlugin, install_panic_hook};

            struct Component;

            impl $crate::bindings::interface::exports::weir::plugin::plugin::Guest for Component {
                fn add(attachment: &Attachment) -> Result<CniResult, CniError> {
                    install_panic_hook();
                    <$plugin as InterfacePlugin>::add(attachment)
                }
                fn del(attachment: &Attachment) -> Result<(), CniError> {
                    install_panic_hook();
                    <$plugin as InterfacePlugin>::del(attachment)
                }
                fn check(attachment: &Attachment) -> Result<(), CniError> {
                    install_panic_hook();
                    <$plugin as InterfacePlugin>::check(attachment)
                }
                fn gc(network: &Network) -> Result<(), CniError> {
                    install_panic_hook();
                    <$plugin as InterfacePlugin>::gc(network)
                }
                fn status(network: &Network) -> Result<(), CniError> {
                    install_panic_hook();
                    <$plugin as InterfacePlugin>::status(network)
                }
            }

            $crate::bindings::interface::export_interface_bindings!(Component with_types_in $crate::bindings::interface);
        };
    };
}

/// Makes a component of a type that implements [`IpamPlugin`].
#[macro_export]
macro_rules! export_ipam_plugin {
    ($plugin:ty) => {
        // Elsewhere the plugin is only tested.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn() = || {
            fn is_plugin<P: $crate::IpamPlugin>() {}
            is_plugin::<$plugin>();
        };

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::request::{Attachment, Network};
            use $crate::{CniError, IpamPlugin, IpamResult, install_panic_hook};

            struct Component;

            impl $crate::bindings::ipam::exports::weir::plugin::ipam::Guest for Component {
                fn add(attachment: &Attachment) -> Result<IpamResult, CniError> {
                    install_panic_hook();
                    <$plugin as IpamPlugin>::add(attachment)
                }
                fn del(attachment: &Attachment) -> Result<(), CniError> {
                    install_panic_hook();
                    <$plugin as IpamPlugin>::del(attachment)
                }
                fn check(attachment: &Attachment) -> Result<(), CniError> {
                    install_panic_hook();
                    <$plugin as IpamPlugin>::check(attachment)
                }
                fn gc(network: &Network) -> Result<(), CniError> {
                    install_panic_hook();
                    <$plugin as IpamPlugin>::gc(network)
                }
                fn status(network: &Network) -> Result<(), CniError> {
                    install_panic_hook();
                    <$plugin as IpamPlugin>::status(network)
                }
            }

    $crate::bindings::ipam::export_ipam_bindings!(Component with_types_in $crate::bindings::ipam);
        };
    };
}
