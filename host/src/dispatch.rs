//! The path of a call: find the component, run it, keep or undo what it did.

use std::rc::Rc;
use std::time::{Duration, Instant};

use serde_json::Value;
use wasmtime::Engine;

use crate::audit::{Audit, Who};
use crate::call::{Call, LOCK_WAIT};
use crate::capability;
use crate::catalog::{self, Plugin};
use crate::confine;
use crate::engine::{self, Deadline};
use crate::failure::{Failure, code};
use crate::gc;
use crate::journal::{Header, Journal, Key};
use crate::netns::{NetnsError, NetnsFile};
use crate::node::Node;
use crate::paths::Paths;
use crate::policy::Policy;
use crate::printable::printable;
use crate::request::{Command, Request, state_paths};
use crate::result::CniResult;
use crate::role::{InterfacePlugin, IpamPlugin, Role};

mod panics;

/// Time that cleaning up has of its own, when the call's has run out.
const CLEAN_UP_TIME: Duration = Duration::from_secs(15);

/// Whether there is a component for a plugin type, be it a broken one.
pub fn serves(kind: &str) -> bool {
    is_served(&state_paths(), kind)
}

fn is_served(paths: &Paths, kind: &str) -> bool {
    !matches!(catalog::find(paths, kind), Ok(None))
}

/// Serves a call. There is a result for ADD only.
///
/// `answer` gets it while everything is still open: a process that ends there
/// leaves it to the kernel to put things away, which is faster. If it fails, the
/// runtime does not know that an ADD succeeded, which is undone then.
pub fn serve<T>(
    request: Request,
    answer: impl FnOnce(Result<Option<Value>, Failure>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    match prepare(request) {
        Ok(Prepared { call, netns_inode, selected }) => {
            let result = carry_out(&call, netns_inode, selected);
            call.audit.flush();
            let answered = answer(result).map_err(|failure| match call.request.environment.command {
                Command::Add => undo_add(&call, failure),
                _ => failure,
            });
            // Sandboxes may have been left as they are, and the call with them.
            drop(call.journal.borrow_mut().take());
            answered
        }
        Err(failure) => answer(Err(failure)),
    }
}

/// A call of which all is known that need not be changed for.
struct Prepared {
    call: Rc<Call>,
    netns_inode: Option<u64>,
    selected: Selected,
}

fn prepare(request: Request) -> Result<Prepared, Failure> {
    let deadline = Instant::now() + request.environment.budget;
    let command = request.environment.command;
    let container = container_netns(&request)?;
    let paths = &request.environment.paths;
    let (policy, selected) = match Policy::load(paths.policy(), &paths.policy_cache()) {
        Ok(policy) => (policy, select(&request)),
        Err(error) => (Policy::default(), Err(error.into())),
    };
    let plugin = match &selected {
        Ok((plugin, _)) => plugin.name.to_owned(),
        // DEL and GC work from the journal when the component is missing, or
        // the policy is broken.
        Err(failure) if !matches!(command, Command::Del | Command::Gc) => return Err(failure.clone()),
        Err(_) => request.config.kind.clone().unwrap_or_else(|| request.environment.called_as.clone()),
    };
    let key = Key {
        network: request.config.name.clone(),
        container_id: request.environment.container_id.clone(),
        ifname: request.environment.ifname.clone(),
        plugin,
    };
    let netns_inode = container.as_ref().and_then(NetnsFile::inode);
    let imagination = request.environment.imagination.clone();
    let node = Node::new(container, request.environment.paths.clone(), deadline).imagining(imagination);
    refuse_own_netns(&request, &node)?;
    let audit = match &request.environment.imagination {
        Some(_) => Audit::nowhere(policy.audit(), who(&request)),
        None => Audit::open(policy.audit(), &request.environment.paths, who(&request))?,
    };
    Ok(Prepared { call: Call::new(request, node, key, (policy, audit), deadline), netns_inode, selected })
}

fn carry_out(
    call: &Rc<Call>,
    netns_inode: Option<u64>,
    selected: Selected,
) -> Result<Option<Value>, Failure> {
    match call.request.environment.command {
        Command::Add => add(call, netns_inode, selected),
        Command::Del => del(call, selected).map(|()| None),
        Command::Gc => gc::collect(call, || run(call, selected).map(drop)).map(|()| None),
        Command::Check | Command::Status => run(call, selected).map(|_| None),
        Command::Version => Ok(Some(crate::reply::versions())),
    }
}

/// Whom the records of the audit log concern.
fn who(request: &Request) -> Who {
    let environment = &request.environment;
    Who {
        command: environment.command.as_str(),
        network: request.config.name.clone(),
        container_id: environment.container_id.clone(),
        ifname: environment.ifname.clone(),
        tenant: environment.tenant().map(str::to_owned),
    }
}

/// Opens the container's namespace. It may be missing for DEL.
fn container_netns(request: &Request) -> Result<Option<NetnsFile>, Failure> {
    let environment = &request.environment;
    let command = environment.command;
    if !matches!(command, Command::Add | Command::Del | Command::Check) {
        return Ok(None);
    }
    let Some(path) = &environment.netns else { return Ok(None) };
    match NetnsFile::open(path) {
        Ok(netns) => Ok(Some(netns)),
        // What is left of a namespace after it was unmounted is a plain file.
        Err(NetnsError::Absent { .. } | NetnsError::Unusable { .. }) if command == Command::Del => Ok(None),
        Err(error) => Err(Failure::environment(format!("CNI_NETNS: {error}"))
            .details("the container runtime has to pass the path of the container's network namespace")),
    }
}

/// The container's namespace must not be the node's own.
fn refuse_own_netns(request: &Request, node: &Node) -> Result<(), Failure> {
    let environment = &request.environment;
    let Some(path) = &environment.netns else { return Ok(()) };
    if !node.is_shared()? || environment.netns_override {
        return Ok(());
    }
    Err(Failure::new(
        code::HOST_NETNS,
        format!(
            "CNI_NETNS {}: plugin's netns and netns from CNI_NETNS should not be the same",
            path.display()
        ),
    )
    .details("set CNI_NETNS_OVERRIDE=1 if that is wanted"))
}

/// Finds the component by the name that weir was called by and the types in
/// the configuration.
fn select(request: &Request) -> Result<(Plugin, Role), Failure> {
    let called_as = request.environment.called_as.as_str();
    let config = &request.config;
    let is_weir = called_as == "weir";
    let name = match &config.kind {
        Some(kind) if is_weir => kind,
        None if is_weir => {
            return Err(Failure::config(
                "network configuration: key \"type\" is required when the plugin is called as weir",
            ));
        }
        _ => called_as,
    };
    let is_kind = config.kind.as_deref().is_none_or(|kind| kind == name);
    let is_ipam_kind = config.ipam_kind.as_deref() == Some(name);
    if !is_kind && !is_ipam_kind {
        return Err(Failure::config(format!(
            "called as {called_as:?}, but the network configuration's \"type\" is {:?} and its \"ipam.type\" is {:?}",
            config.kind.as_deref().unwrap_or_default(),
            config.ipam_kind.as_deref().unwrap_or_default()
        )));
    }
    let paths = &request.environment.paths;
    let Some(plugin) = catalog::find(paths, name)? else {
        let known = catalog::names(paths)?;
        return Err(Failure::config(format!("key \"type\": no component for plugin type {name:?}"))
            .details(format!("this weir serves {}", known.join(", "))));
    };
    let role = if plugin.is_interface_plugin && is_kind { Role::Interface } else { Role::Ipam };
    Ok((plugin, role))
}

type Selected = Result<(Plugin, Role), Failure>;

/// Runs the component for the call's command.
fn run(call: &Rc<Call>, selected: Selected) -> Result<Option<CniResult>, Failure> {
    panics::caught(call, || run_plugin(call, selected))
}

fn run_plugin(call: &Rc<Call>, selected: Selected) -> Result<Option<CniResult>, Failure> {
    let (plugin, role) = selected?;
    let command = call.request.environment.command;
    let (engine, _deadline) = start_engine(call)?;
    if call.request.environment.is_alone {
        confine::confine(call, &plugin)?;
    }
    match role {
        Role::Interface => InterfacePlugin::start(engine, &plugin, call)?.run(command),
        Role::Ipam => {
            let result = IpamPlugin::start(engine, &plugin, call)?.run(command)?;
            let read = |result| {
                capability::ipam_result(result).map_err(|reason| {
                    Failure::new(
                        code::TRAPPED,
                        format!("plugin {} returned an unusable result: {reason}", plugin.name),
                    )
                })
            };
            result.map(read).transpose()
        }
    }
}

fn start_engine(call: &Call) -> Result<(&'static Engine, Deadline), Failure> {
    let engine = engine::engine()
        .map_err(|error| Failure::new(code::COMPONENT, format!("start the sandbox: {error:#}")))?;
    let deadline = Deadline::after(call.remaining())
        .map_err(|error| Failure::io(format!("start the watch over the deadline: {error}")))?;
    Ok((engine, deadline))
}

fn add(call: &Rc<Call>, netns_inode: Option<u64>, selected: Selected) -> Result<Option<Value>, Failure> {
    let request = &call.request;
    let header = || {
        let netns = request.environment.netns.clone();
        Header::new(call.key.clone(), netns, netns_inode, request.config.text.clone())
            .of_tenant(call.tenant())
    };
    let mut journal = Journal::begin(&request.environment.paths.attachments(), header(), call.lock_wait())?;
    end_process(call, &journal);
    if journal.is_interrupted() {
        // The ADD before was killed, and no DEL followed.
        let undone = call.roll_back(&mut journal, &call.node, false);
        if let Some(failure) = undone.failures.into_iter().next() {
            return Err(failure);
        }
        journal.restart(header())?;
    }
    *call.journal.borrow_mut() = Some(journal);
    let added = run(call, selected).and_then(|result| finish(call, result));
    added.map_err(|failure| undo_add(call, failure))
}

/// Turns what the component made into the reply, and keeps it.
fn finish(call: &Call, result: Option<CniResult>) -> Result<Option<Value>, Failure> {
    let result = result.ok_or_else(|| Failure::new(code::INTERNAL, "the plugin returned no result"))?;
    let value = result
        .write(call.request.config.version)
        .map_err(|reason| Failure::config(format!("network configuration: key \"cniVersion\": {reason}")))?;
    let addresses = result.ips.iter().map(|ip| ip.address.to_string()).collect();
    call.audit.secure()?;
    if let Some(journal) = call.journal.borrow_mut().as_mut() {
        journal.commit(addresses)?;
    }
    Ok(Some(value))
}

/// Takes back what a failed ADD did, before its error is reported.
fn undo_add(call: &Call, mut failure: Failure) -> Failure {
    call.node.extend(Instant::now() + CLEAN_UP_TIME);
    let Some(mut journal) = take_journal(call) else { return failure };
    let undone = call.roll_back(&mut journal, &call.node, true);
    let cleaned = if undone.failures.is_empty() {
        journal.reset()
    } else {
        // What is left stays in the journal for DEL and GC.
        Err(Failure::io(undone.failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))
    };
    if let Err(left) = cleaned {
        let separator = if failure.details.is_empty() { "" } else { "; " };
        failure.details = format!("{}{separator}not everything could be undone: {left}", failure.details);
    }
    failure
}

fn del(call: &Rc<Call>, selected: Selected) -> Result<(), Failure> {
    let directory = call.request.environment.paths.attachments();
    let journal = Journal::open(&directory, &call.key.name(), call.lock_wait())?;
    let has_journal = journal.is_some();
    journal.iter().for_each(|journal| end_process(call, journal));
    // A runtime that has forgotten the namespace may call while it lives on,
    // with a link that holds something of the node's. It is entered while the
    // process still may.
    if let Some(journal) = &journal
        && call.request.environment.netns.is_none()
        && let Some(container) = container_of(journal)
        && let Some(node) = call.node.with_container(container)
    {
        let _ = call.remembered.set(node);
    }
    *call.journal.borrow_mut() = journal;
    let ran = run(call, selected);
    let Some(journal) = take_journal(call) else {
        return match ran {
            // Nothing of it is left that the component could take away; or a rule is
            // against that, as it was against ADD. A container that a runtime may
            // not connect must not be one that it cannot get rid of.
            Err(failure)
                if (call.is_refused.get() && failure.code == code::DENIED)
                    || (call.request.config.kind.is_some()
                        && !is_served(call.node.paths(), &call.key.plugin)) =>
            {
                eprintln!(
                    "weir: {}; nothing is known of this attachment, so there is nothing to undo",
                    printable(&failure.to_string())
                );
                Ok(())
            }
            ran => ran.map(drop),
        };
    };
    undo_all(call, journal, call.remembered.get().unwrap_or(&call.node))?;
    match ran {
        Err(failure) if has_journal => {
            tell_of_plugin(call, &failure);
            Ok(())
        }
        ran => ran.map(drop),
    }
}

/// What is known of the attachment, unless it is just being written.
fn take_journal(call: &Call) -> Option<Journal> {
    call.journal.try_borrow_mut().ok()?.take()
}

/// Takes back all that was done for an attachment, which is no more then.
fn undo_all(call: &Call, mut journal: Journal, node: &Node) -> Result<(), Failure> {
    node.extend(Instant::now() + CLEAN_UP_TIME);
    let undone = call.roll_back(&mut journal, node, false);
    match undone.failures.into_iter().next() {
        Some(failure) => Err(failure),
        None => journal.remove(),
    }
}

/// Tells why the plugin did not do a DEL that succeeded.
fn tell_of_plugin(call: &Call, failure: &Failure) {
    eprintln!(
        "weir: plugin {} failed, DEL was done from the journal: {}",
        call.key.plugin,
        printable(&failure.to_string())
    );
}

/// Ends what an ADD that was killed has left running. In a plan, the call may
/// still be at work.
fn end_process(call: &Call, journal: &Journal) {
    if !call.node.is_imagined() {
        journal.end_process();
    }
}

/// The container's namespace as ADD found it, if it still exists.
fn container_of(journal: &Journal) -> Option<NetnsFile> {
    let container = NetnsFile::open(journal.header.netns.as_deref()?).ok()?;
    // By now another container may have the path.
    (container.inode() == journal.header.netns_inode).then_some(container)
}

/// Finishes what interrupted or forgotten attachments left, for GC.
pub(crate) fn clean(directory: &std::path::Path, name: &str, call: &Call) -> Result<(), Failure> {
    let Some(journal) = Journal::open(directory, name, LOCK_WAIT)? else { return Ok(()) };
    end_process(call, &journal);
    let node = Node::new(container_of(&journal), call.node.paths().clone(), Instant::now());
    undo_all(call, journal, &node)
}
