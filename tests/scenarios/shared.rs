//! What the attachments of a node share. It is made by the first one and
//! stays, so it is nothing that one of them left behind. The only list of it.

/// The bridges of the networks.
const BRIDGES: [&str; 2] = ["cni0", "br7"];

/// Whether a change, as one of [`crate::lab::changes`], is to something that
/// attachments share. The packet filter's tables and chains are not looked at.
pub(super) fn is_shared(change: &str) -> bool {
    let (key, _) = change.split_once(" = ").unwrap_or((change, ""));
    is_of_a_bridge(key) || is_forwarding(key) || is_mark(key)
}

/// Whether a change is one that even a container beside others makes: marks of
/// the pool in which addresses are handed out.
pub(super) fn is_mark(change: &str) -> bool {
    let (key, _) = change.split_once(" = ").unwrap_or((change, ""));
    key.contains(" leases/") && (key.ends_with("/lock") || key.contains("/last_reserved_ip."))
}

fn is_of_a_bridge(key: &str) -> bool {
    BRIDGES.iter().any(|bridge| {
        let own = [format!("/link/{bridge}/"), format!("/ipv4/{bridge}/"), format!("/ipv6/{bridge}/")];
        let is_route = key.contains("/route/") && key.contains(&format!(" dev {bridge} "));
        is_route || own.iter().any(|own| key.contains(own.as_str()))
    })
}

/// Forwarding on a node. The kernel changes what follows from it for all links.
fn is_forwarding(key: &str) -> bool {
    key.contains(" node/sysctl/") && (key.ends_with("/forwarding") || key.ends_with("/accept_redirects"))
}
