//! The two kinds of components, and the calls that each answers.

use std::rc::Rc;

use wasmtime::Engine;
use wasmtime::component::Resource;

use crate::call::Call;
use crate::capability::{AttachmentHandle, NetworkHandle, cni_result, failure};
use crate::catalog::Plugin;
use crate::failure::{Failure, code};
use crate::guest::Guest;
use crate::request::Command;
use crate::result::CniResult;
use crate::session::{self, Sandbox};
use crate::wit;
use crate::wit::exports::weir::plugin::{ipam, plugin};
use crate::wit::weir::plugin::types::IpamResult;

/// In which role a component is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It makes interfaces.
    Interface,
    /// It hands out addresses.
    Ipam,
}

/// A component that makes interfaces, ready to be called.
pub(crate) struct InterfacePlugin {
    sandbox: Sandbox,
    guest: plugin::Guest,
}

/// A component that hands out addresses, ready to be called.
pub(crate) struct IpamPlugin {
    sandbox: Sandbox,
    guest: ipam::Guest,
}

fn broken(plugin: &Plugin, error: &wasmtime::Error) -> Failure {
    Failure::new(
        code::COMPONENT,
        format!("the component of plugin type {} lacks an export: {error:#}", plugin.name),
    )
}

/// Checks that a component fits this weir, without running anything of it.
pub(crate) fn check(engine: &Engine, plugin: &Plugin) -> Result<(), Failure> {
    let instance = session::prepare(engine, plugin)?;
    if plugin.is_interface_plugin {
        plugin::GuestIndices::new(&instance).map_err(|error| broken(plugin, &error))?;
    }
    if plugin.is_ipam_plugin {
        ipam::GuestIndices::new(&instance).map_err(|error| broken(plugin, &error))?;
    }
    Ok(())
}

/// Calls one export, whose handle is that of the attachment or the network.
macro_rules! ask {
    ($self:ident, $function:ident, $handle:expr) => {{
        let handle = $self.handle($handle)?;
        let answer = $self.guest.$function(&mut $self.sandbox.store, handle);
        answer.map_err(|error| $self.sandbox.failure(&error))?.map_err(failure)?
    }};
}

impl InterfacePlugin {
    /// Instantiates the component.
    pub(crate) fn start(engine: &Engine, plugin: &Plugin, call: &Rc<Call>) -> Result<Self, Failure> {
        let mut sandbox = Sandbox::start(engine, plugin, Role::Interface, call)?;
        let guest = plugin::GuestIndices::new(&sandbox.instance.instance_pre(&sandbox.store))
            .and_then(|indices| indices.load(&mut sandbox.store, &sandbox.instance))
            .map_err(|error| broken(plugin, &error))?;
        Ok(Self { sandbox, guest })
    }

    /// Runs a command; there is a result for ADD only.
    pub(crate) fn run(mut self, command: Command) -> Result<Option<CniResult>, Failure> {
        let result = self.call(command);
        self.sandbox.end();
        result
    }

    fn call(&mut self, command: Command) -> Result<Option<CniResult>, Failure> {
        match command {
            Command::Add => {
                let result = ask!(self, call_add, AttachmentHandle);
                let request = &self.sandbox.store.data().call.request;
                let result = cni_result(result, request);
                let result = result.map_err(|reason| self.bad_result(&reason))?;
                self.sandbox.permit_addresses(result.ips.iter().map(|ip| ip.address.address))?;
                return Ok(Some(result));
            }
            Command::Del => ask!(self, call_del, AttachmentHandle),
            Command::Check => ask!(self, call_check, AttachmentHandle),
            Command::Gc => ask!(self, call_gc, NetworkHandle),
            Command::Status => ask!(self, call_status, NetworkHandle),
            Command::Version => {}
        }
        Ok(None)
    }

    fn handle<T: Send + 'static>(&mut self, value: T) -> Result<Resource<T>, Failure> {
        push(&mut self.sandbox, value)
    }

    fn bad_result(&self, reason: &str) -> Failure {
        Failure::new(
            code::TRAPPED,
            format!("plugin {} returned an unusable result: {reason}", self.sandbox.store.data().guest.name),
        )
    }
}

impl IpamPlugin {
    /// Instantiates the component.
    pub(crate) fn start(engine: &Engine, plugin: &Plugin, call: &Rc<Call>) -> Result<Self, Failure> {
        if !plugin.is_ipam_plugin {
            return Err(Failure::config(format!(
                "key \"ipam.type\": plugin {:?} makes interfaces, it does not hand out addresses",
                plugin.name
            )));
        }
        let mut sandbox = Sandbox::start(engine, plugin, Role::Ipam, call)?;
        let guest = ipam::GuestIndices::new(&sandbox.instance.instance_pre(&sandbox.store))
            .and_then(|indices| indices.load(&mut sandbox.store, &sandbox.instance))
            .map_err(|error| broken(plugin, &error))?;
        Ok(Self { sandbox, guest })
    }

    /// The plugin, if it did not come with weir.
    pub(crate) fn installed(&self) -> Option<Rc<Guest>> {
        let guest = &self.sandbox.store.data().guest;
        guest.grants.is_none().then(|| Rc::clone(guest))
    }

    /// Runs a command; there is a result for ADD only.
    pub(crate) fn run(mut self, command: Command) -> Result<Option<IpamResult>, Failure> {
        let result = self.call(command);
        self.sandbox.end();
        result
    }

    fn call(&mut self, command: Command) -> Result<Option<IpamResult>, Failure> {
        match command {
            Command::Add => {
                let result: IpamResult = ask!(self, call_add, AttachmentHandle);
                self.sandbox.permit_addresses(result.ips.iter().map(|ip| wit::ip(ip.address.address)))?;
                return Ok(Some(result));
            }
            Command::Del => ask!(self, call_del, AttachmentHandle),
            Command::Check => ask!(self, call_check, AttachmentHandle),
            Command::Gc => ask!(self, call_gc, NetworkHandle),
            Command::Status => ask!(self, call_status, NetworkHandle),
            Command::Version => {}
        }
        Ok(None)
    }

    fn handle<T: Send + 'static>(&mut self, value: T) -> Result<Resource<T>, Failure> {
        push(&mut self.sandbox, value)
    }
}

fn push<T: Send + 'static>(sandbox: &mut Sandbox, value: T) -> Result<Resource<T>, Failure> {
    sandbox
        .store
        .data_mut()
        .table
        .push(value)
        .map_err(|error| Failure::new(code::LIMIT, format!("make a handle for the plugin: {error}")))
}
