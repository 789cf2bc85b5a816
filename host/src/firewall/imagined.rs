//! Ports that are published in a plan only.

use super::comment;
use super::publication::Publication;

/// What a plan has changed.
#[derive(Debug, Default)]
pub(crate) struct Imagined {
    added: Vec<(String, Publication)>,
    /// Of those that the kernel holds.
    removed: Vec<(String, Publication)>,
}

impl Imagined {
    pub(super) fn add(&mut self, owner: &str, port: Publication) {
        self.added.retain(|(_, other)| !other.is_at_place_of(&port));
        self.added.push((owner.to_owned(), port));
    }

    pub(super) fn remove(&mut self, owner: &str, port: &Publication) {
        self.added.retain(|(named, other)| named != owner || !other.is_at_place_of(port));
        self.removed.push((owner.to_owned(), *port));
    }

    /// What is seen of a port; none if the kernel knows.
    pub(super) fn look_up(&self, owner: &str, port: &Publication) -> Option<Option<Publication>> {
        if let Some((named, found)) = self.added.iter().find(|(_, other)| other.is_at_place_of(port)) {
            return Some((named == owner).then_some(*found));
        }
        self.is_removed(owner, port).then_some(None)
    }

    /// What is seen where the kernel holds `real`.
    pub(super) fn laid_over(&self, real: Vec<(String, Publication)>) -> Vec<(String, Publication)> {
        let is_left = |(named, port): &(String, Publication)| {
            !self.is_removed(named, port) && !self.added.iter().any(|(_, other)| other.is_at_place_of(port))
        };
        real.into_iter().filter(is_left).chain(self.added.iter().cloned()).collect()
    }

    fn is_removed(&self, named: &str, port: &Publication) -> bool {
        self.removed.iter().any(|(owner, other)| comment::names(named, owner) && other.is_at_place_of(port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Protocol;

    fn port(number: u16) -> Publication {
        Publication {
            protocol: Protocol::Tcp,
            host: None,
            host_port: number,
            container: "10.1.0.5/24".parse().unwrap(),
            container_port: 80,
        }
    }

    #[test]
    fn later_questions_see_what_was_changed() {
        let real = || vec![("a".to_owned(), port(1)), ("b".to_owned(), port(2))];
        let mut imagined = Imagined::default();
        assert_eq!(imagined.laid_over(real()), real());
        assert_eq!(imagined.look_up("a", &port(1)), None);
        imagined.remove("a", &port(1));
        assert_eq!(imagined.look_up("a", &port(1)), Some(None));
        assert_eq!(imagined.laid_over(real()), [("b".to_owned(), port(2))]);
        imagined.add("c", port(1));
        assert_eq!(imagined.look_up("c", &port(1)), Some(Some(port(1))));
        assert_eq!(imagined.look_up("a", &port(1)), Some(None));
        assert_eq!(imagined.laid_over(real()), [("b".to_owned(), port(2)), ("c".to_owned(), port(1))]);
        imagined.remove("c", &port(1));
        imagined.remove("a", &port(2));
        assert_eq!(imagined.laid_over(real()), [("b".to_owned(), port(2))]);
    }
}
