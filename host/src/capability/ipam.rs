//! `weir:plugin/ipam` as an import: an interface plugin asks the plugin that
//! `ipam.type` names, which runs in a sandbox of its own or, if no component
//! has that type, as a native program.

use std::fmt;
use std::rc::Rc;
use std::time::Instant;

use wasmtime::component::Resource;

use super::request::{AttachmentHandle, NetworkHandle};
use super::values;
use crate::call::{Certainty, Fate, Served, Stop};
use crate::delegate::Delegate;
use crate::failure::{Failure, code};
use crate::journal::Inverse;
use crate::policy::Operation;
use crate::request::Command;
use crate::role::{IpamPlugin, Role};
use crate::session::Session;
use crate::version::Version;
use crate::wit::weir::plugin::ipam;
use crate::wit::weir::plugin::types::{CniError, IpamResult};
use crate::wit::{IpAddress, IpPrefix};

/// How often an interface plugin may ask in one call.
const ASK_LIMIT: u32 = 64;

impl ipam::Host for Session {
    fn add(&mut self, _: Resource<AttachmentHandle>) -> Served<Result<IpamResult, CniError>> {
        let result = self.ask(Command::Add)?;
        Ok(result.and_then(|result| {
            result.ok_or_else(|| {
                values::cni_error(Failure::new(code::INTERNAL, "the IPAM plugin returned no result"))
            })
        }))
    }

    fn del(&mut self, _: Resource<AttachmentHandle>) -> Served<Result<(), CniError>> {
        Ok(self.ask(Command::Del)?.map(drop))
    }

    fn check(&mut self, _: Resource<AttachmentHandle>) -> Served<Result<(), CniError>> {
        Ok(self.ask(Command::Check)?.map(drop))
    }

    fn gc(&mut self, _: Resource<NetworkHandle>) -> Served<Result<(), CniError>> {
        Ok(self.ask(Command::Gc)?.map(drop))
    }

    fn status(&mut self, _: Resource<NetworkHandle>) -> Served<Result<(), CniError>> {
        Ok(self.ask(Command::Status)?.map(drop))
    }
}

impl Session {
    fn ask(&mut self, command: Command) -> Served<Result<Option<IpamResult>, CniError>> {
        self.call.check_time()?;
        if self.role == Role::Ipam {
            let failure = Failure::new(
                code::DENIED,
                format!("plugin {} hands out addresses, so that it cannot ask for some", self.guest.name),
            );
            self.call.refuse(&self.guest, "ipam", command.as_str(), &failure.message)?;
            return Ok(Err(values::cni_error(failure)));
        }
        self.asked += 1;
        if self.asked > ASK_LIMIT {
            let message =
                format!("plugin {} asked its IPAM plugin more than {ASK_LIMIT} times", self.guest.name);
            return Err(Stop(Failure::new(code::LIMIT, message)).into());
        }
        let Some(kind) = self.call.request.config.ipam_kind.clone() else {
            let failure = Failure::config("network configuration: key \"ipam.type\" is required");
            return Ok(Err(values::cni_error(failure)));
        };
        let call = Rc::clone(&self.call);
        let plugin = match call.ipam_plugin() {
            Ok(Some(plugin)) => plugin,
            Ok(None) => return self.ask_program(&kind, command),
            Err(failure) => return Ok(Err(values::cni_error(failure))),
        };
        let answer = IpamPlugin::start(&self.engine, plugin, &call).and_then(|plugin| {
            if command == Command::Add {
                self.adviser = plugin.installed();
            }
            plugin.run(command)
        });
        match answer {
            Ok(result) => Ok(Ok(result.map(|result| as_answered(result, call.request.config.version)))),
            // What ends the whole call ends the asking plugin too.
            Err(failure) if matches!(failure.code, code::DEADLINE | code::LIMIT) => Err(Stop(failure).into()),
            Err(failure) => Ok(Err(values::cni_error(failure))),
        }
    }

    fn ask_program(&mut self, kind: &str, command: Command) -> Served<Result<Option<IpamResult>, CniError>> {
        let object = format!("{kind} {}", command.as_str());
        if let Some(reason) = self.refused("delegate", &object, &[Operation::Delegate(kind)])? {
            return Ok(Err(values::cni_error(Failure::new(code::DENIED, reason))));
        }
        let call = &self.call;
        // The others change nothing.
        let fate = match command {
            Command::Add => Some(Fate::Journaled),
            Command::Del => Some(Fate::Passing),
            Command::Gc => Some(Fate::Garbage),
            _ => None,
        };
        if let Some(fate) = fate {
            call.permit_change(&self.guest, "delegate", &object, fate)?;
        }
        let request = &call.request;
        let note = |process| call.record_process(process);
        let delegate = Delegate {
            plugin: kind,
            path: &request.environment.path,
            config: &request.config.text,
            version: request.config.version,
            variables: Vec::new(),
            deadline: Instant::now() + call.remaining(),
            started: (command == Command::Add).then_some(&note),
        };
        let is_of_kind =
            |inverse: &Inverse| matches!(inverse, Inverse::DelegateDel { plugin, .. } if plugin == kind);
        let earlier = call.journaled(|inverse| is_of_kind(inverse).then_some(())).map_err(Stop)?;
        // What an earlier ADD holds must survive the failure of a second one.
        let is_first = command == Command::Add && earlier.as_ref().is_none_or(Vec::is_empty);
        if command == Command::Del && earlier.is_none_or(|earlier| earlier.is_empty()) && !delegate.exists() {
            // Nothing of it is known, and the container must not stay.
            eprintln!("weir: DEL of IPAM plugin {kind}: it is not installed, and did nothing that is known");
            return Ok(Ok(None));
        }
        if let Some(imagination) = &request.environment.imagination {
            let found = imagination.find(&delegate, command);
            call.note(&self.guest, "delegate", object, &found, Instant::now());
            return match found {
                Ok(()) if command == Command::Add => {
                    let reason = format!("the plan ends here: what {kind} would answer is not known");
                    Err(Stop(imagination.end(reason)).into())
                }
                Ok(()) => {
                    if command == Command::Del {
                        call.settle(is_of_kind)?;
                    }
                    Ok(Ok(None))
                }
                Err(failure) => Ok(Err(values::cni_error(failure))),
            };
        }
        let inverse = is_first.then(|| Inverse::DelegateDel {
            plugin: kind.to_owned(),
            path: request.environment.path.clone(),
        });
        let started = Instant::now();
        let done = call.make(&self.guest, inverse, || {
            delegate.run(command).map_err(|failure| {
                // A program that fails may have done half of its work.
                let is_undone = !is_first || !delegate.exists() || delegate.undo_add().is_ok();
                DelegateFailure { failure, is_undone }
            })
        })?;
        call.note(&self.guest, "delegate", object, &done, started);
        if command == Command::Del && done.is_ok() {
            call.settle(is_of_kind)?;
        }
        match done {
            Ok(result) => Ok(Ok(result.as_ref().map(values::to_ipam_result))),
            Err(DelegateFailure { failure, .. }) if failure.code == code::DEADLINE => {
                Err(Stop(failure).into())
            }
            Err(DelegateFailure { failure, .. }) => Ok(Err(values::cni_error(failure))),
        }
    }
}

/// What of a result a program could have answered: before version 0.3.0, routes
/// are part of the address of their family.
fn as_answered(mut result: IpamResult, version: Version) -> IpamResult {
    if version < Version::V0_3_0 {
        let is_ipv4 = |prefix: &IpPrefix| matches!(prefix.address, IpAddress::Ipv4(_));
        let ips: Vec<bool> = result.ips.iter().map(|ip| is_ipv4(&ip.address)).collect();
        result.routes.retain(|route| ips.contains(&is_ipv4(&route.destination)));
    }
    result
}

/// A program that failed.
struct DelegateFailure {
    failure: Failure,
    /// Whether its own DEL has taken back what it may have done.
    is_undone: bool,
}

impl fmt::Display for DelegateFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failure.fmt(f)
    }
}

impl Certainty for DelegateFailure {
    fn nothing_changed(&self) -> bool {
        self.is_undone
    }
}
