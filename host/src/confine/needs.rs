//! What a call still needs once its component starts.

use std::path::PathBuf;

use crate::call::Call;
use crate::catalog::Plugin;
use crate::delegate;
use crate::guest::Guest;
use crate::journal::Inverse;
use crate::policy::Operation;
use crate::request::Command;

/// What is needed of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// A file, or a directory with all that is in it, is read.
    Read,
    /// Files in a directory are made, written, renamed and removed.
    Write,
    /// Settings in a directory of the kernel's are read and set.
    Settings,
}

/// What happens if a path does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// Then it is not needed.
    Skip,
    /// It is a directory that the call would make anyway, with this mode, and
    /// is made while the process may.
    Make(u32),
    /// The call may make it, and needs the directory above, which is made if
    /// that is missing as well.
    MakeAbove(u32),
    /// Another call may make it meanwhile: the directory above is needed.
    Above,
}

/// A path that a call opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) wanted: Use,
    pub(super) missing: Missing,
    /// Whether no link may be on the way, as others may have put one there
    /// since it was looked at.
    pub(super) is_real: bool,
}

/// What a call needs.
#[derive(Debug, Default)]
pub(super) struct Needs {
    /// Whether networks are changed or looked at.
    pub(super) network: bool,
    /// Whether the container's namespace is entered.
    pub(super) container: bool,
    /// Whether leases are made, read or released.
    pub(super) leases: bool,
    /// A native program that may have to be executed.
    pub(super) program: Option<String>,
    /// Paths that are opened.
    pub(super) places: Vec<Place>,
}

impl Needs {
    pub(super) fn of(call: &Call, plugin: &Plugin) -> Self {
        let config = &call.request.config;
        let ipam = config.ipam_kind.as_deref();
        // An installed component is opened here, while that is possible.
        let found = call.ipam_plugin();
        let plugins = [Some(plugin), found.as_ref().ok().copied().flatten()];
        let is_granted = |prefix: &str| plugins.into_iter().flatten().any(|plugin| plugin.imports(prefix));
        let lessees: Vec<&Plugin> =
            plugins.into_iter().flatten().filter(|plugin| plugin.imports("weir:store/leases")).collect();
        let mut needs = Self {
            network: is_granted("weir:net/") || is_granted("weir:firewall/"),
            // Whose ports are published has to have their addresses.
            container: is_granted("weir:net/") || is_granted("weir:firewall/publish"),
            leases: !lessees.is_empty(),
            program: ipam
                .filter(|kind| matches!(found, Ok(None)) && may_execute(call, plugin, kind))
                .map(str::to_owned),
            places: Vec::new(),
        };
        needs.add_state(call);
        if needs.leases {
            needs.add_leases(call, &lessees);
        }
        for plugin in plugins.into_iter().flatten().filter(|plugin| plugin.imports("weir:store/bucket")) {
            needs.add_bucket(call, plugin.name);
        }
        if is_granted("weir:store/files") {
            for path in config.named("resolvConf") {
                needs.add(path, Use::Read, Missing::Skip);
            }
        }
        needs.add_journal(call);
        if needs.network {
            // All namespaces have it in common (`net_sysctl_init` in
            // net/sysctl_net.c), so that it stands for the container's, too.
            needs.add("/proc/sys/net", Use::Settings, Missing::Skip);
        }
        needs
    }

    fn add(&mut self, path: impl Into<PathBuf>, wanted: Use, missing: Missing) {
        let path = path.into();
        if !self.places.iter().any(|place| place.path == path) {
            self.places.push(Place { path, wanted, missing, is_real: false });
        }
    }

    fn add_state(&mut self, call: &Call) {
        self.add(call.node.paths().attachments(), Use::Write, Missing::Skip);
        if let Some(directory) = call.audit.directory() {
            self.add(directory, Use::Write, Missing::Skip);
        }
    }

    fn add_leases(&mut self, call: &Call, lessees: &[&Plugin]) {
        let paths = call.node.paths();
        let (of_index, of_pool) = match call.request.environment.command {
            Command::Add => (Missing::Make(0o700), Missing::MakeAbove(0o755)),
            _ => (Missing::Skip, Missing::Above),
        };
        self.add(paths.lease_indexes(), Use::Write, of_index);
        // A plugin that may not use it has nothing made on its behalf.
        for named in call.request.config.named("dataDir") {
            let mut allowed = lessees.iter().filter_map(|plugin| lease_directory(call, plugin, named));
            if let Some(data_dir) = allowed.next() {
                let path = data_dir.join(&call.key.network);
                self.places.push(Place { path, wanted: Use::Write, missing: of_pool, is_real: true });
            }
        }
        self.add(paths.leases().join(&call.key.network), Use::Write, of_pool);
    }

    fn add_bucket(&mut self, call: &Call, plugin: &str) {
        // Of a place that cannot be trusted the call says so when it opens it.
        if let Ok(location) = call.node.bucket(&call.key.network, plugin)
            && location.prepare(call.may_keep())
        {
            self.add(location.directory(), Use::Write, Missing::Skip);
        }
    }

    /// What taking back the journal needs, which the plugin, or another
    /// version of it, wrote at another time.
    fn add_journal(&mut self, call: &Call) {
        let journal = call.journal.borrow();
        let Some(journal) = journal.as_ref() else { return };
        for (_, inverse) in journal.pending(false) {
            match inverse {
                Inverse::ReleaseLease { data_dir, .. } => {
                    self.leases = true;
                    self.add(data_dir.join(&journal.header.key.network), Use::Write, Missing::Skip);
                    self.add(call.node.paths().lease_indexes(), Use::Write, Missing::Skip);
                }
                Inverse::RestoreValue { plugin, .. } => self.add_bucket(call, &plugin),
                Inverse::DelegateDel { plugin, .. } => self.program = Some(plugin),
                Inverse::RemoveMasquerade { .. }
                | Inverse::RemoveGuard { .. }
                | Inverse::RemovePorts { .. } => self.network = true,
                _ => (self.network, self.container) = (true, true),
            }
        }
    }
}

/// Whether the plugin could have the program of an IPAM type executed: nobody
/// is to be less confined by naming one.
fn may_execute(call: &Call, plugin: &Plugin, kind: &str) -> bool {
    let guest = Guest::new(plugin, &call.policy, &call.key.network, call.tenant());
    plugin.imports("weir:plugin/ipam")
        && guest.check(&Operation::Delegate(kind)).is_ok()
        && delegate::find(kind, &call.request.environment.path).is_ok()
}

/// Where a directory that the configuration names really is, if a plugin may
/// keep leases there.
fn lease_directory(call: &Call, plugin: &Plugin, named: &str) -> Option<PathBuf> {
    let data_dir = Some(named).filter(|named| named.starts_with('/'))?;
    let data_dir = call.data_dir(data_dir).ok()?;
    let guest = Guest::new(plugin, &call.policy, &call.key.network, call.tenant());
    let is_allowed = !call.is_ruled(&guest, &data_dir) || guest.check(&data_dir.operation()).is_ok();
    is_allowed.then_some(data_dir.path)
}
