//! `weir:plugin/request`: what the runtime asks for.

use std::rc::Rc;

use serde_json::Value;

use super::state;
pub use crate::bindings::platform::weir::plugin::request::AttachmentId;
pub use crate::types::CniResult;

/// The network of configurations that name none.
pub(super) const DEFAULT_NETWORK: &str = "net";
/// What the specification takes a configuration for that names no version.
const UNSTATED_VERSION: &str = "0.1.0";

/// Whose something is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Owner {
    pub(super) network: String,
    pub(super) id: AttachmentId,
}

/// Everything that a request says.
#[derive(Debug, Clone)]
pub(super) struct Call {
    id: AttachmentId,
    text: String,
    /// The same, parsed; null if it is no JSON.
    config: Value,
    arguments: Vec<(String, String)>,
    prev_result: Option<CniResult>,
    is_ipam_native: bool,
    is_made_here: bool,
    /// Without a list nothing is known to be stale.
    pub(super) valid: Option<Vec<AttachmentId>>,
}

impl Default for Call {
    fn default() -> Self {
        Self::new("{}")
    }
}

impl Call {
    fn new(text: &str) -> Self {
        Self {
            id: AttachmentId { container_id: "container".to_owned(), ifname: "eth0".to_owned() },
            text: text.to_owned(),
            config: serde_json::from_str(text).unwrap_or_default(),
            arguments: Vec::new(),
            prev_result: None,
            is_ipam_native: false,
            is_made_here: true,
            valid: None,
        }
    }

    pub(super) fn owner(&self) -> Owner {
        Owner { network: self.network(), id: self.id.clone() }
    }

    pub(super) fn network(&self) -> String {
        self.string("name").unwrap_or(DEFAULT_NETWORK).to_owned()
    }

    fn string(&self, key: &str) -> Option<&str> {
        weir_config::get(&self.config, key)?.as_str()
    }

    /// Whether the configuration names an IPAM plugin.
    pub(super) fn has_ipam(&self) -> bool {
        weir_config::get(&self.config, "ipam").and_then(|ipam| weir_config::get(ipam, "type")).is_some()
    }

    /// Whether `value` stands anywhere in the configuration under `key`: the
    /// operator's word that a plugin may use it.
    pub(super) fn names(&self, key: &str, value: &str) -> bool {
        fn search(node: &Value, key: &str, value: &str) -> bool {
            match node {
                Value::Object(object) => object.iter().any(|(name, inner)| {
                    (name.eq_ignore_ascii_case(key) && inner.as_str() == Some(value))
                        || search(inner, key, value)
                }),
                Value::Array(items) => items.iter().any(|inner| search(inner, key, value)),
                _ => false,
            }
        }
        search(&self.config, key, value)
    }
}

/// The attachment that a call is about: interface `eth0` of the container
/// `container`, if nothing else is said.
#[derive(Debug, Clone)]
pub struct Attachment(Rc<Call>);

impl Attachment {
    /// An attachment to the network of this configuration (JSON).
    ///
    /// Without a `name` the network is `net`; without a `cniVersion` the
    /// version is 0.1.0, as the specification has it.
    pub fn new(config: &str) -> Self {
        Self(Rc::new(Call::new(config)))
    }

    fn edit(mut self, change: impl FnOnce(&mut Call)) -> Self {
        change(Rc::make_mut(&mut self.0));
        self
    }

    /// Of another container (`CNI_CONTAINERID`).
    #[must_use]
    pub fn with_container(self, id: &str) -> Self {
        self.edit(|call| call.id.container_id = id.to_owned())
    }

    /// Of another interface (`CNI_IFNAME`).
    #[must_use]
    pub fn with_ifname(self, ifname: &str) -> Self {
        self.edit(|call| call.id.ifname = ifname.to_owned())
    }

    /// With arguments (`CNI_ARGS`).
    #[must_use]
    pub fn with_arguments<const N: usize>(self, arguments: [(&str, &str); N]) -> Self {
        let arguments = arguments.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        self.edit(|call| call.arguments = arguments)
    }

    /// With the result of an earlier plugin or call (`prevResult`).
    #[must_use]
    pub fn with_prev_result(self, result: CniResult) -> Self {
        self.edit(|call| call.prev_result = Some(result))
    }

    /// With an IPAM plugin that is a native program.
    #[must_use]
    pub fn with_native_ipam(self) -> Self {
        self.edit(|call| call.is_ipam_native = true)
    }

    /// Made by a native plugin.
    #[must_use]
    pub fn made_elsewhere(self) -> Self {
        self.edit(|call| call.is_made_here = false)
    }

    /// Makes this the one that is served.
    fn serve(&self) -> &Call {
        state::current().borrow_mut().call = Rc::clone(&self.0);
        &self.0
    }

    /// The container and interface.
    pub fn id(&self) -> AttachmentId {
        self.serve().id.clone()
    }

    /// The name of the network.
    pub fn network(&self) -> String {
        self.serve().network()
    }

    /// The version of the specification that the configuration names.
    pub fn cni_version(&self) -> String {
        self.serve().string("cniVersion").unwrap_or(UNSTATED_VERSION).to_owned()
    }

    /// The whole configuration, JSON.
    pub fn config(&self) -> String {
        self.serve().text.clone()
    }

    /// `CNI_ARGS`, split.
    pub fn arguments(&self) -> Vec<(String, String)> {
        self.serve().arguments.clone()
    }

    /// The result of the plugin before this one, or of ADD.
    pub fn prev_result(&self) -> Option<CniResult> {
        self.serve().prev_result.clone()
    }

    /// Whether the plugin that `ipam.type` names is a native program.
    pub fn has_native_ipam(&self) -> bool {
        let call = self.serve();
        call.has_ipam() && call.is_ipam_native
    }

    /// Whether this host made the attachment.
    pub fn is_made_here(&self) -> bool {
        self.serve().is_made_here
    }
}

/// The network that a call is about.
#[derive(Debug, Clone)]
pub struct Network(Rc<Call>);

impl Network {
    /// The network of this configuration (JSON); `net` if it has no `name`.
    pub fn new(config: &str) -> Self {
        let mut call = Call::new(config);
        // Nothing belongs to the network as such.
        call.id = AttachmentId { container_id: String::new(), ifname: String::new() };
        Self(Rc::new(call))
    }

    /// During GC: the containers and interfaces that are still in use.
    #[must_use]
    pub fn with_valid_attachments<const N: usize>(mut self, valid: [(&str, &str); N]) -> Self {
        let valid =
            valid.map(|(id, ifname)| AttachmentId { container_id: id.to_owned(), ifname: ifname.to_owned() });
        Rc::make_mut(&mut self.0).valid = Some(valid.to_vec());
        self
    }

    /// Makes this the one that is served.
    fn serve(&self) -> &Call {
        state::current().borrow_mut().call = Rc::clone(&self.0);
        &self.0
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.serve().network()
    }

    /// The whole configuration, JSON.
    pub fn config(&self) -> String {
        self.serve().text.clone()
    }

    /// During GC: the attachments that are still in use. Empty otherwise.
    pub fn valid_attachments(&self) -> Vec<AttachmentId> {
        self.serve().valid.clone().unwrap_or_default()
    }
}
