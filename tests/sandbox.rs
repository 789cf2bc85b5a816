//! The sandbox against hostile components: whatever they contain, the node
//! stays as it is, the call ends in its time with the right code, and what was
//! refused is in the audit log.
//!
//! Damaged and unsafe stores, files that are no components and poisoned
//! compiled code are in `scenarios/plugin_command.rs`.

mod addresses;
mod bucket_changes;
mod buckets;
mod calls;
mod leases;
mod mutations;
mod neighbor_entries;
mod neighbors;
mod network;
mod publish;
mod raw;
mod resources;
mod results;
mod stage;
mod store;
mod successors;
mod upper;

pub(crate) use store::copy_to as copy_hostile_store;

use crate::Test;

/// All tests of this part.
pub(crate) fn tests() -> Vec<Test> {
    let parts = [
        resources::tests(),
        network::tests(),
        upper::tests(),
        addresses::tests(),
        neighbors::tests(),
        neighbor_entries::tests(),
        publish::tests(),
        leases::tests(),
        buckets::tests(),
        bucket_changes::tests(),
        results::tests(),
        calls::tests(),
        raw::tests(),
        mutations::tests(),
        successors::tests(),
    ];
    parts.into_iter().flatten().collect()
}
