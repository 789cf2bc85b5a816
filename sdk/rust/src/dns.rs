//! `dns` of a configuration.

use serde::Deserialize;

use crate::types::Dns;

/// Name resolution as the operator wrote it.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct DnsConfig {
    /// Addresses of name servers.
    pub nameservers: Option<Vec<String>>,
    /// The local domain.
    pub domain: String,
    /// Domains to search.
    pub search: Option<Vec<String>>,
    /// Resolver options.
    pub options: Option<Vec<String>>,
}

impl DnsConfig {
    /// Whether it says anything; an empty list does.
    pub fn is_set(&self) -> bool {
        *self != Self::default()
    }
}

impl From<DnsConfig> for Dns {
    fn from(dns: DnsConfig) -> Self {
        let DnsConfig { nameservers, domain, search, options } = dns;
        Self {
            nameservers: nameservers.unwrap_or_default(),
            domain: Some(domain).filter(|domain| !domain.is_empty()),
            search: search.unwrap_or_default(),
            options: options.unwrap_or_default(),
        }
    }
}

impl Dns {
    /// Says nothing.
    pub fn none() -> Self {
        DnsConfig::default().into()
    }

    /// Reads the text of a resolver configuration, resolv.conf(5).
    pub fn from_resolv_conf(text: &str) -> Self {
        let mut dns = Self::none();
        for line in text.lines().map(str::trim) {
            if line.starts_with(['#', ';']) {
                continue;
            }
            let mut words = line.split_whitespace().map(str::to_owned);
            let (Some(keyword), Some(value)) = (words.next(), words.next()) else { continue };
            match keyword.as_str() {
                "nameserver" => dns.nameservers.push(value),
                "domain" => dns.domain = Some(value),
                "search" => dns.search.extend(std::iter::once(value).chain(words)),
                "options" => dns.options.extend(std::iter::once(value).chain(words)),
                _ => {}
            }
        }
        dns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolv_conf_is_read_as_resolvers_do() {
        let text = "# comment\n; comment\nnameserver 10.0.0.1\nnameserver fd00::1 trailing\ndomain a.b\n\
                    search c.d e.f\nsearch g.h\noptions ndots:5 edns0\nnameserver\nsortlist x\n";
        let dns = Dns::from_resolv_conf(text);
        assert_eq!(dns.nameservers, ["10.0.0.1", "fd00::1"]);
        assert_eq!(dns.domain.as_deref(), Some("a.b"));
        assert_eq!(dns.search, ["c.d", "e.f", "g.h"]);
        assert_eq!(dns.options, ["ndots:5", "edns0"]);
    }
}
