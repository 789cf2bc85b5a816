//! `weir:store`: what a plugin keeps between calls.

pub mod bucket;
pub mod files;
pub mod leases;
