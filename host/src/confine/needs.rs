//! What a call still needs once its component starts.

use std::path::{Path, PathBuf};

use crate::call::Call;
use crate::catalog::{self, Origin, Plugin};
use crate::journal::Inverse;
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
    /// Paths that are opened. They need not exist.
    pub(super) paths: Vec<(PathBuf, Use)>,
}

impl Needs {
    pub(super) fn of(call: &Call, plugin: &Plugin) -> Self {
        let config = &call.request.config;
        let ipam = config.ipam_kind.as_deref();
        let found = ipam.map(|kind| catalog::find(call.node.paths(), kind));
        let is_granted = |prefix: &str| {
            let ipam = found.iter().flatten().flatten();
            // What the operator installed may use what the policy says.
            let mut any = ipam.chain([plugin]).map(|plugin| match plugin.origin {
                Origin::Bundled { grants } => grants.iter().any(|grant| grant.starts_with(prefix)),
                Origin::Installed => true,
            });
            any.any(|is_granted| is_granted)
        };
        let is_program = matches!(found, Some(Ok(None)));
        let mut needs = Self {
            network: is_granted("weir:net/") || is_granted("weir:firewall/"),
            container: is_granted("weir:net/"),
            leases: is_granted("weir:store/leases"),
            program: ipam.filter(|_| is_program).map(str::to_owned),
            paths: Vec::new(),
        };
        needs.add_state(call);
        if needs.leases {
            needs.add_leases(call);
        }
        if is_granted("weir:store/files") {
            let files = config.named("resolvConf").into_iter();
            needs.paths.extend(files.map(|path| (PathBuf::from(path), Use::Read)));
        }
        needs.add_journal(call);
        if needs.network {
            needs.paths.push((PathBuf::from("/proc/sys/net"), Use::Settings));
        }
        needs
    }

    fn add_state(&mut self, call: &Call) {
        let paths = call.node.paths();
        self.paths.push((paths.attachments(), Use::Write));
        // A component that the operator installed is opened when it is asked.
        if call.request.config.ipam_kind.as_deref().is_some_and(|kind| !catalog::is_bundled(kind)) {
            self.paths.push((paths.state().join("plugins"), Use::Read));
        }
        if let Some(directory) = call.audit.directory() {
            self.paths.push((directory.to_owned(), Use::Write));
        }
    }

    fn add_leases(&mut self, call: &Call) {
        let paths = call.node.paths();
        let is_add = call.request.environment.command == Command::Add;
        let index = paths.lease_indexes();
        if is_add {
            make(&index, 0o700);
        }
        self.paths.push((index, Use::Write));
        let named = call.request.config.named("dataDir").into_iter().map(Path::new);
        for data_dir in named.chain([paths.leases()]) {
            if is_add {
                make(data_dir, 0o755);
            }
            self.add_pool(data_dir, &call.key.network, is_add);
        }
    }

    fn add_pool(&mut self, data_dir: &Path, network: &str, may_make: bool) {
        let pool = data_dir.join(network);
        // The directory of a network is made by its first lease.
        let directory = if may_make && !pool.is_dir() { data_dir.to_owned() } else { pool };
        if !self.paths.iter().any(|(path, _)| *path == directory) {
            self.paths.push((directory, Use::Write));
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
                    self.add_pool(&data_dir, &journal.header.key.network, false);
                    let index = call.node.paths().lease_indexes();
                    if !self.paths.iter().any(|(path, _)| *path == index) {
                        self.paths.push((index, Use::Write));
                    }
                }
                Inverse::DelegateDel { plugin, .. } => self.program = Some(plugin),
                Inverse::RemoveMasquerade { .. } | Inverse::RemoveGuard { .. } => self.network = true,
                _ => (self.network, self.container) = (true, true),
            }
        }
    }
}

/// Makes a directory that the call would make anyway, while it may. If it
/// cannot be made, whoever needs it says so.
fn make(path: &Path, mode: u32) {
    use std::os::unix::fs::DirBuilderExt;
    if !path.is_dir() {
        let _ = std::fs::DirBuilder::new().recursive(true).mode(mode).create(path);
    }
}
