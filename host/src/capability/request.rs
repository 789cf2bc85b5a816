//! `weir:plugin/request`: what the runtime asked for.

use wasmtime::component::Resource;

use super::values;
use crate::call::{Served, Stop};
use crate::delegate;
use crate::session::Session;
use crate::wit::weir::plugin::request::{self, AttachmentId};
use crate::wit::weir::plugin::types;

/// The attachment of the call. There is only one, so the handle is empty.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct AttachmentHandle;

/// The network of the call.
#[derive(Debug)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it")]
pub struct NetworkHandle;

impl types::Host for Session {}
impl request::Host for Session {}

impl request::HostAttachment for Session {
    fn id(&mut self, _: Resource<AttachmentHandle>) -> Served<AttachmentId> {
        let environment = &self.call.request.environment;
        Ok(AttachmentId {
            container_id: environment.container_id.clone(),
            ifname: environment.ifname.clone(),
        })
    }

    fn network(&mut self, _: Resource<AttachmentHandle>) -> Served<String> {
        Ok(self.call.request.config.name.clone())
    }

    fn cni_version(&mut self, _: Resource<AttachmentHandle>) -> Served<String> {
        Ok(self.call.request.config.version.as_str().to_owned())
    }

    fn config(&mut self, _: Resource<AttachmentHandle>) -> Served<String> {
        Ok(self.call.request.config.text.clone())
    }

    fn arguments(&mut self, _: Resource<AttachmentHandle>) -> Served<Vec<(String, String)>> {
        Ok(self.call.request.environment.args.clone())
    }

    fn prev_result(&mut self, _: Resource<AttachmentHandle>) -> Served<Option<types::CniResult>> {
        let request = &self.call.request;
        let netns = request.environment.netns.as_deref();
        Ok(request.config.prev_result.as_ref().map(|result| values::to_cni_result(result, netns)))
    }

    fn has_native_ipam(&mut self, _: Resource<AttachmentHandle>) -> Served<bool> {
        let request = &self.call.request;
        let Some(kind) = &request.config.ipam_kind else { return Ok(false) };
        // Of a broken component the plugin hears when it asks.
        Ok(matches!(self.call.ipam_plugin(), Ok(None))
            && delegate::find(kind, &request.environment.path).is_ok())
    }

    fn is_made_here(&mut self, _: Resource<AttachmentHandle>) -> Served<bool> {
        self.call.check_time()?;
        Ok(self.call.is_journaled().map_err(Stop)?)
    }

    fn drop(&mut self, handle: Resource<AttachmentHandle>) -> Served<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}

impl request::HostNetwork for Session {
    fn name(&mut self, _: Resource<NetworkHandle>) -> Served<String> {
        Ok(self.call.request.config.name.clone())
    }

    fn config(&mut self, _: Resource<NetworkHandle>) -> Served<String> {
        Ok(self.call.request.config.text.clone())
    }

    fn valid_attachments(&mut self, _: Resource<NetworkHandle>) -> Served<Vec<AttachmentId>> {
        let valid = self.call.request.config.valid_attachments.iter().flatten();
        Ok(valid
            .map(|id| AttachmentId { container_id: id.container_id.clone(), ifname: id.ifname.clone() })
            .collect())
    }

    fn drop(&mut self, handle: Resource<NetworkHandle>) -> Served<()> {
        self.table.delete(handle)?;
        Ok(())
    }
}
