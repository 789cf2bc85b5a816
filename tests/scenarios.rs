//! What goes wrong on nodes: plugins that trap, calls that are killed,
//! crowds, and other plugins on the same node. And weir's own commands.

mod audit;
mod buckets;
mod changed_policy;
mod confinement;
mod containerd;
mod crowd;
mod delegation;
mod dhcp;
mod garbage;
mod install;
mod isolation;
mod kills;
mod listing;
mod machine;
mod macvlan;
mod mixed_fleet;
mod network;
mod plan;
mod plugin_command;
mod podman;
mod policy_command;
mod publish;
mod removal;
mod rollback;
mod scene;
mod script;
mod settings;
mod shared;
mod status;
mod storm;
mod surroundings;
mod system_calls;
mod tenants;
mod trial;
mod veth;
mod vxlan;

use crate::Test;

/// All tests of this part.
pub(crate) fn tests() -> Vec<Test> {
    let parts = [
        rollback::tests(),
        kills::tests(),
        storm::tests(),
        surroundings::tests(),
        system_calls::tests(),
        removal::tests(),
        crowd::tests(),
        mixed_fleet::tests(),
        delegation::tests(),
        dhcp::tests(),
        isolation::tests(),
        garbage::tests(),
        status::tests(),
        settings::tests(),
        trial::tests(),
        install::tests(),
        listing::tests(),
        policy_command::tests(),
        publish::tests(),
        audit::tests(),
        changed_policy::tests(),
        confinement::tests(),
        plan::tests(),
        plugin_command::tests(),
        tenants::tests(),
        macvlan::tests(),
        buckets::tests(),
        veth::tests(),
        vxlan::tests(),
        containerd::tests(),
        podman::tests(),
    ];
    parts.into_iter().flatten().collect()
}
