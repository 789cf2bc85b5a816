//! `weir:store`: what a plugin keeps between calls.

pub mod files;
pub mod leases;
