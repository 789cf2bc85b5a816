//! One component at work: its store, its limits, what it may import, and what
//! becomes of its traps.

use std::net::IpAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use wasmtime::component::{
    Component, HasSelf, Instance, InstancePre, Linker, ResourceTable, ResourceTableError,
};
use wasmtime::{Engine, Store, Trap, UpdateDeadline};

use crate::call::{Call, Stop};
use crate::catalog::Plugin;
use crate::engine::{Deadline, HANDLE_LIMIT, MEMORY_LIMIT};
use crate::failure::{Failure, code};
use crate::guest::Guest;
use crate::limits::{Limits, TABLE_LIMIT};
use crate::policy::Operation;
use crate::printable::printable_lines;
use crate::role::Role;
use crate::{aot, policy, wit};

/// What the host knows about the component that it is serving.
pub(crate) struct Session {
    pub(crate) call: Rc<Call>,
    pub(crate) engine: Engine,
    pub(crate) table: ResourceTable,
    pub(crate) guest: Rc<Guest>,
    /// The plugin that told this one which addresses to give, if it did not
    /// come with weir: what it may not have, the node does not get for it.
    pub(crate) adviser: Option<Rc<Guest>>,
    /// In which role the component was started.
    pub(crate) role: Role,
    /// How often it asked its IPAM plugin.
    pub(crate) asked: u32,
    limits: Limits,
}

/// Bytes that a component may hand over in one call of a host function, or in
/// one result.
const VALUE_LIMIT: usize = 4 << 20;

/// Bytes of what is told about a trap, such as the functions that led to it.
const TRACE_LIMIT: usize = 8 << 10;

/// Sandboxes of a call that are left as they are at their end: those of an
/// interface plugin and of its IPAM plugin.
const SANDBOXES_LEFT: u32 = 2;

/// An instantiated component.
pub(crate) struct Sandbox {
    pub(crate) store: Store<Session>,
    pub(crate) instance: Instance,
    /// The time that the call had before the plugin got less.
    time_before: Option<(Instant, Option<Duration>)>,
    _deadline: Option<Deadline>,
}

impl Sandbox {
    /// Loads and instantiates a component with exactly what it is granted.
    pub(crate) fn start(
        engine: &Engine,
        plugin: &Plugin,
        role: Role,
        call: &Rc<Call>,
    ) -> Result<Self, Failure> {
        let guest = Rc::new(Guest::new(plugin, &call.policy, &call.request.config.name, call.tenant()));
        let component = aot::load(engine, plugin)?;
        let mut linker = Linker::new(engine);
        link(&mut linker, engine, &component, &guest, call)?;
        let limits = guest.permit.limits();
        let mut table = ResourceTable::new();
        table.set_max_capacity(handle_limit(&guest));
        let session = Session {
            call: Rc::clone(call),
            engine: engine.clone(),
            table,
            guest: Rc::clone(&guest),
            adviser: None,
            role,
            asked: 0,
            limits: Limits::new(memory_limit(&guest)),
        };
        let mut store = Store::new(engine, session);
        store.limiter(|session| &mut session.limits);
        store.set_hostcall_fuel(VALUE_LIMIT);
        // The epoch moves whenever some time is up, be it that of the call or
        // that of one of its plugins.
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(|context| {
            let is_over = context.data().call.remaining().is_zero();
            Ok(if is_over { UpdateDeadline::Interrupt } else { UpdateDeadline::Continue(1) })
        });
        let time_before = limits.time.and_then(|limit| call.limit_time(limit));
        // Begun afterwards, so that the time is up indeed when it says so.
        let deadline = time_before
            .map(|_| Deadline::after(call.remaining()))
            .transpose()
            .map_err(|error| Failure::io(format!("start the watch over the deadline: {error}")))?;
        match linker.instantiate(&mut store, &component) {
            Ok(instance) => Ok(Self { store, instance, time_before, _deadline: deadline }),
            Err(error) => {
                let failure = failure_of(&error, &guest, call);
                if let Some(before) = time_before {
                    call.give_back_time(before);
                }
                Err(failure)
            }
        }
    }

    /// Gives back what the component holds, such as the lock of a pool.
    ///
    /// Its memory and code are left to the end of the process, which comes
    /// soon and puts them away faster, unless a component makes the host start
    /// one after the other.
    pub(crate) fn end(self) {
        let Self { mut store, time_before, .. } = self;
        drop(std::mem::take(&mut store.data_mut().table));
        let call = Rc::clone(&store.data().call);
        if let Some(before) = time_before {
            call.give_back_time(before);
        }
        if call.count_sandbox() <= SANDBOXES_LEFT {
            std::mem::forget(store);
        }
    }

    /// Refuses a result with addresses that the policy does not let the plugin
    /// hand out.
    pub(crate) fn permit_addresses(&self, addresses: impl Iterator<Item = IpAddr>) -> Result<(), Failure> {
        let Session { call, guest, .. } = self.store.data();
        for address in addresses {
            let Err(refusal) = guest.check(&Operation::Address(IpNet::from(address))) else { continue };
            let failure = Failure::new(
                code::DENIED,
                format!("plugin {} returned address {address}: {refusal}", guest.name),
            )
            .details(refusal.hint());
            // The failure says it to the runtime; one refusal reaches no limit.
            let _ = call.refuse(guest, "result", &address.to_string(), &failure.to_string());
            return Err(failure);
        }
        Ok(())
    }

    /// Maps the way in which the component ended to a failure.
    pub(crate) fn failure(&self, error: &wasmtime::Error) -> Failure {
        let session = self.store.data();
        failure_of(error, &session.guest, &session.call)
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
        link_interface(&mut linker, policy::unversioned(&import)).map_err(unfit)?;
    }
    linker.instantiate_pre(&component).map_err(unfit)
}

/// Whether a grant, as `weir:net/links`, covers an import, as
/// `weir:net/links@0.1.0`.
pub(crate) fn is_granted(grants: &[&str], import: &str) -> bool {
    let name = policy::unversioned(import);
    policy::is_free(name) || grants.contains(&name)
}

/// Links what the component imports, if it may import all of that.
fn link(
    linker: &mut Linker<Session>,
    engine: &Engine,
    component: &Component,
    guest: &Guest,
    call: &Call,
) -> Result<(), Failure> {
    let imports = imports(engine, component);
    let imports: Vec<&str> = imports.iter().map(String::as_str).collect();
    permit_imports(&imports, guest).inspect_err(|failure| {
        // The failure says it to the runtime; the limit of changes is not
        // reached by one.
        let _ = call.refuse(guest, "import", &imports.join(" "), &failure.to_string());
    })?;
    for import in imports {
        link_interface(linker, policy::unversioned(import)).map_err(|error| {
            Failure::new(code::COMPONENT, format!("link {import} for plugin {}: {error:#}", guest.name))
        })?;
    }
    Ok(())
}

fn permit_imports(imports: &[&str], guest: &Guest) -> Result<(), Failure> {
    if let Some(grants) = guest.grants {
        let denied: Vec<&str> =
            imports.iter().copied().filter(|import| !is_granted(grants, import)).collect();
        if !denied.is_empty() {
            return Err(Failure::new(
                code::DENIED,
                format!("plugin {} wants to use {}, which it is not granted", guest.name, denied.join(", ")),
            ));
        }
    }
    if guest.is_unrestricted() {
        return Ok(());
    }
    let permitted = guest.permit.is_allowed_at_all().and_then(|()| guest.permit.check_imports(imports));
    permitted.map_err(|refusal| Failure::new(code::DENIED, refusal.to_string()).details(refusal.hint()))
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
        "weir:net/neighbors" => net::neighbors::add_to_linker::<_, Own>(linker, |session| session),
        "weir:net/sysctls" => net::sysctls::add_to_linker::<_, Own>(linker, |session| session),
        "weir:firewall/masquerade" => {
            firewall::masquerade::add_to_linker::<_, Own>(linker, |session| session)
        }
        "weir:firewall/guards" => firewall::guards::add_to_linker::<_, Own>(linker, |session| session),
        "weir:firewall/publish" => firewall::publish::add_to_linker::<_, Own>(linker, |session| session),
        "weir:store/leases" => store::leases::add_to_linker::<_, Own>(linker, |session| session),
        "weir:store/bucket" => store::bucket::add_to_linker::<_, Own>(linker, |session| session),
        "weir:store/files" => store::files::add_to_linker::<_, Own>(linker, |session| session),
        "weir:plugin/types" => plugin::types::add_to_linker::<_, Own>(linker, |session| session),
        "weir:plugin/request" => plugin::request::add_to_linker::<_, Own>(linker, |session| session),
        "weir:plugin/ipam" => plugin::ipam::add_to_linker::<_, Own>(linker, |session| session),
        // Left unlinked, so that instantiation says what is missing.
        _ => Ok(()),
    }
}

/// How large the linear memory of a component may become.
fn memory_limit(guest: &Guest) -> usize {
    let limit = guest.permit.limits().memory.and_then(|bytes| usize::try_from(bytes).ok());
    limit.map_or(MEMORY_LIMIT, |bytes| bytes.min(MEMORY_LIMIT))
}

/// How many handles a component may hold.
fn handle_limit(guest: &Guest) -> usize {
    guest.permit.limits().handles.map_or(HANDLE_LIMIT, |handles| HANDLE_LIMIT.min(handles as usize))
}

/// Tells why a component ended: by order of the host, by the deadline, by a
/// limit or by its own fault.
fn failure_of(error: &wasmtime::Error, guest: &Guest, call: &Call) -> Failure {
    if let Some(Stop(failure)) = error.downcast_ref::<Stop>() {
        return failure.clone();
    }
    let plugin = &guest.name;
    // The names of functions are the component's.
    let trace = printable_lines(&format!("{error:?}"), TRACE_LIMIT);
    let message = match error.downcast_ref::<Trap>() {
        Some(Trap::Interrupt) => return call.out_of_time(),
        Some(Trap::StackOverflow | Trap::MemoryOutOfBounds) => {
            format!("plugin {plugin} exhausted its stack or used a bad pointer")
        }
        Some(trap) => format!("plugin {plugin} trapped: {trap}"),
        None => {
            if let Some(limit) = exceeded(error, guest) {
                return Failure::new(code::LIMIT, format!("plugin {plugin} {limit}"));
            }
            let cause = printable_lines(&error.root_cause().to_string(), TRACE_LIMIT);
            format!("plugin {plugin} failed: {cause}")
        }
    };
    Failure::new(code::TRAPPED, message).details(trace)
}

/// The limit that an error is about, if it is about one. Only the cause is
/// looked at: what surrounds it are words of the component. Most of these
/// errors have no type.
fn exceeded(error: &wasmtime::Error, guest: &Guest) -> Option<String> {
    if let Some(ResourceTableError::Full) = error.downcast_ref::<ResourceTableError>() {
        return Some(format!("holds more than {} handles", handle_limit(guest)));
    }
    let cause = error.root_cause().to_string();
    let is = |text: &str| cause.starts_with(text);
    if is("forcing trap when growing memory") || is("memory minimum size") {
        Some(format!("needs more than {} bytes of memory", memory_limit(guest)))
    } else if is("forcing trap when growing table") || is("table minimum size") {
        Some(format!("needs a table of more than {TABLE_LIMIT} elements"))
    } else if is("resource limit exceeded") {
        Some(format!("consists of too many parts: {cause}"))
    } else if cause.contains("fuel allocated for hostcalls") {
        Some(format!("hands over more than {VALUE_LIMIT} bytes at once"))
    } else {
        None
    }
}
