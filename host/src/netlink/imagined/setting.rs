//! Settings below `/proc/sys/net`.

use super::link_message::name;
use super::{FIRST_INDEX, Imagined, NetlinkError};

/// Reads a real setting.
type Read<'a> = dyn Fn(&str) -> Result<String, NetlinkError> + 'a;

impl Imagined {
    /// The value of a setting.
    pub(in super::super) fn setting(
        &self,
        is_ipv4: bool,
        path: &str,
        read: &Read<'_>,
    ) -> Result<String, NetlinkError> {
        let known = {
            let state = self.world.lock();
            let space = state.spaces.get(&self.namespace);
            space.and_then(|space| space.settings.get(&(is_ipv4, path.to_owned())).cloned())
        };
        known.map_or_else(|| read(&self.real_path(path)), Ok)
    }

    /// Remembers the value of a setting, which has to exist.
    pub(in super::super) fn set_setting(
        &self,
        is_ipv4: bool,
        path: &str,
        value: &str,
        read: &Read<'_>,
    ) -> Result<(), NetlinkError> {
        read(&self.real_path(path))?;
        let mut state = self.world.lock();
        let space = state.spaces.entry(self.namespace).or_default();
        space.settings.insert((is_ipv4, path.to_owned()), value.to_owned());
        Ok(())
    }

    /// Where the kernel has a setting: a new link begins with those of
    /// `default`.
    fn real_path(&self, path: &str) -> String {
        let state = self.world.lock();
        let made =
            state.spaces.get(&self.namespace).into_iter().flat_map(|space| space.links.range(FIRST_INDEX..));
        let mut keys = made
            .filter_map(|(_, link)| path.strip_prefix("conf/")?.strip_prefix(name(link))?.strip_prefix('/'));
        keys.next_back().map_or_else(|| path.to_owned(), |key| format!("conf/default/{key}"))
    }
}
