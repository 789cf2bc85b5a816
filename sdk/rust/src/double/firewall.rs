//! `weir:firewall`: packet filtering and translation.

pub mod guards;
pub mod masquerade;
pub mod publish;
