//! One component at work: its store, its limits, what it may import, and what
//! becomes of its traps.

use std::rc::Rc;

use wasmtime::component::{Component, HasSelf, Instance, InstancePre, Linker, ResourceTable};
use wasmtime::{Engine, Store, StoreLimits, StoreLimitsBuilder, Trap};

use crate::call::{Call, Stop};
use crate::catalog::{Origin, Plugin};
use crate::engine::{HANDLE_LIMIT, MEMORY_LIMIT};
use crate::failure::{Failure, code};
use crate::{aot, wit};

/// What the host knows about the component that it is serving.
pub(crate) struct Session {
    pub(crate) call: Rc<Call>,
    pub(crate) engine: Engine,
    pub(crate) table: ResourceTable,
    pub(crate) plugin: &'static str,
    pub(crate) log_left: usize,
    limits: StoreLimits,
}

/// Bytes that a component may log in one call.
const LOG_LIMIT: usize = 64 << 10;

/// An instantiated component.
pub(crate) struct Sandbox {
    pub(crate) store: Store<Session>,
    pub(crate) instance: Instance,
    plugin: &'static str,
}

impl Sandbox {
    /// Loads and instantiates a component with exactly what it is granted.
    pub(crate) fn start(engine: &Engine, plugin: &Plugin, call: &Rc<Call>) -> Result<Self, Failure> {
        let component = aot::load(engine, plugin)?;
        let mut linker = Linker::new(engine);
        link(&mut linker, engine, &component, plugin)?;
        let mut table = ResourceTable::new();
        table.set_max_capacity(HANDLE_LIMIT);
        let session = Session {
            call: Rc::clone(call),
            engine: engine.clone(),
            table,
            plugin: plugin.name,
            log_left: LOG_LIMIT,
            limits: StoreLimitsBuilder::new()
                .memory_size(MEMORY_LIMIT)
                .table_elements(64 << 10)
                .instances(8)
                .memories(2)
                .tables(8)
                .trap_on_grow_failure(true)
                .build(),
        };
        let mut store = Store::new(engine, session);
        store.limiter(|session| &mut session.limits);
        // The deadline's watch moves the epoch once, when the time is up.
        store.set_epoch_deadline(1);
        let instance = linker
            .instantiate(&mut store, &component)
            .map_err(|error| failure_of(&error, plugin.name, call))?;
        Ok(Self { store, instance, plugin: plugin.name })
    }

    /// Maps the way in which the component ended to a failure.
    pub(crate) fn failure(&self, error: &wasmtime::Error) -> Failure {
        failure_of(error, self.plugin, &self.store.data().call)
    }
}

/// The names of the interfaces that a component imports.
pub(crate) fn imports(engine: &Engine, component: &Component) -> Vec<String> {
    component.component_type().imports(engine).map(|(name, _)| name.to_owned()).collect()
}

/// Links all that a component imports, granted or not, and runs nothing of it:
/// tells whether it fits what the host offers.
pub(crate) fn prepare(engine: &Engine, plugin: &Plugin) -> Result<InstancePre<Session>, Failure> {
    let component = aot::load(engine, plugin)?;
    let mut linker = Linker::new(engine);
    let unfit = |error: wasmtime::Error| {
        Failure::new(code::COMPONENT, format!("plugin {} does not fit this weir: {error:#}", plugin.name))
    };
    for import in imports(engine, &component) {
        let name = import.split_once('@').map_or(import.as_str(), |(name, _)| name);
        link_interface(&mut linker, name).map_err(unfit)?;
    }
    linker.instantiate_pre(&component).map_err(unfit)
}

/// Whether a grant, as `weir:net/links`, covers an import, as
/// `weir:net/links@0.1.0`.
pub(crate) fn is_granted(grants: &[&str], import: &str) -> bool {
    let name = import.split_once('@').map_or(import, |(name, _)| name);
    // Interfaces without functions, and those that every plugin may use.
    let is_free = matches!(
        name,
        "weir:net/types"
            | "weir:plugin/types"
            | "weir:plugin/request"
            | "weir:host/log"
            | "weir:host/clock"
            | "weir:host/random"
    );
    is_free || grants.contains(&name)
}

fn link(
    linker: &mut Linker<Session>,
    engine: &Engine,
    component: &Component,
    plugin: &Plugin,
) -> Result<(), Failure> {
    let grants = match plugin.origin {
        Origin::Bundled { grants } => grants,
        Origin::Installed => &[],
    };
    let imports = imports(engine, component);
    let denied: Vec<&str> =
        imports.iter().map(String::as_str).filter(|import| !is_granted(grants, import)).collect();
    if !denied.is_empty() {
        return Err(Failure::new(
            code::DENIED,
            format!("plugin {} wants to use {}, which it is not granted", plugin.name, denied.join(", ")),
        )
        .details(format!("its component is {}", plugin.digest)));
    }
    for import in &imports {
        let name = import.split_once('@').map_or(import.as_str(), |(name, _)| name);
        link_interface(linker, name).map_err(|error| {
            Failure::new(code::COMPONENT, format!("link {import} for plugin {}: {error:#}", plugin.name))
        })?;
    }
    Ok(())
}

fn link_interface(linker: &mut Linker<Session>, name: &str) -> wasmtime::Result<()> {
    use wit::weir::{firewall, host, net, plugin, store};
    type Own = HasSelf<Session>;
    match name {
        "weir:host/log" => host::log::add_to_linker::<_, Own>(linker, |session| session),
        "weir:host/clock" => host::clock::add_to_linker::<_, Own>(linker, |session| session),
        "weir:host/random" => host::random::add_to_linker::<_, Own>(linker, |session| session),
        "weir:net/types" => net::types::add_to_linker::<_, Own>(linker, |session| session),
        "weir:net/links" => net::links::add_to_linker::<_, Own>(linker, |session| session),
        "weir:net/addresses" => net::addresses::add_to_linker::<_, Own>(linker, |session| session),
        "weir:net/routes" => net::routes::add_to_linker::<_, Own>(linker, |session| session),
        "weir:net/sysctls" => net::sysctls::add_to_linker::<_, Own>(linker, |session| session),
        "weir:firewall/masquerade" => {
            firewall::masquerade::add_to_linker::<_, Own>(linker, |session| session)
        }
        "weir:firewall/guards" => firewall::guards::add_to_linker::<_, Own>(linker, |session| session),
        "weir:store/leases" => store::leases::add_to_linker::<_, Own>(linker, |session| session),
        "weir:store/files" => store::files::add_to_linker::<_, Own>(linker, |session| session),
        "weir:plugin/types" => plugin::types::add_to_linker::<_, Own>(linker, |session| session),
        "weir:plugin/request" => plugin::request::add_to_linker::<_, Own>(linker, |session| session),
        "weir:plugin/ipam" => plugin::ipam::add_to_linker::<_, Own>(linker, |session| session),
        // Left unlinked, so that instantiation says what is missing.
        _ => Ok(()),
    }
}

/// Tells why a component ended: by order of the host, by the deadline, by a
/// limit or by its own fault.
fn failure_of(error: &wasmtime::Error, plugin: &str, call: &Call) -> Failure {
    if let Some(Stop(failure)) = error.downcast_ref::<Stop>() {
        return failure.clone();
    }
    match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => call.out_of_time(),
        Some(Trap::StackOverflow | Trap::MemoryOutOfBounds) => {
            Failure::new(code::TRAPPED, format!("plugin {plugin} exhausted its stack or used a bad pointer"))
                .details(format!("{error:?}"))
        }
        Some(trap) => Failure::new(code::TRAPPED, format!("plugin {plugin} trapped: {trap}"))
            .details(format!("{error:?}")),
        None if format!("{error:#}").contains("forcing trap when growing") => Failure::new(
            code::LIMIT,
            format!("plugin {plugin} needs more than {} MiB of memory", MEMORY_LIMIT >> 20),
        ),
        None => Failure::new(code::TRAPPED, format!("plugin {plugin} failed: {error:#}")),
    }
}
