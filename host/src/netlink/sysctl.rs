//! Settings of links below `/proc/sys/net`, of the namespace, from any thread.
//!
//! The directories were opened inside the namespace; what is looked up below
//! them stays in it.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::sys::stat::Mode;

use super::{NetlinkError, Netns};

/// No setting is longer; the kernel gives it whole to the first read.
const VALUE_LIMIT: usize = 4096;

impl Netns {
    /// Reads a setting, as `conf/eth0/arp_notify` of IPv4. Those for all links
    /// are there, too: `conf/all/forwarding` is `ip_forward`.
    pub(crate) fn sysctl(&self, is_ipv4: bool, path: &str) -> Result<String, NetlinkError> {
        match &self.imagined {
            Some(imagined) => imagined.setting(is_ipv4, path, &|path| self.read_sysctl(is_ipv4, path)),
            None => self.read_sysctl(is_ipv4, path),
        }
    }

    fn read_sysctl(&self, is_ipv4: bool, path: &str) -> Result<String, NetlinkError> {
        let attempt = || format!("read sysctl {} in {}", full_name(is_ipv4, path), self.label);
        let mut file = self.open_sysctl(is_ipv4, path, OFlag::O_RDONLY, &attempt)?;
        let mut value = [0; VALUE_LIMIT];
        let length = file.read(&mut value).map_err(|error| kernel(attempt(), &error))?;
        Ok(String::from_utf8_lossy(&value[..length]).trim_end().to_owned())
    }

    /// Writes a setting.
    pub(crate) fn set_sysctl(&self, is_ipv4: bool, path: &str, value: &str) -> Result<(), NetlinkError> {
        if let Some(imagined) = &self.imagined {
            let read = |path: &str| self.read_sysctl(is_ipv4, path);
            return imagined.set_setting(is_ipv4, path, value, &read);
        }
        let attempt = || format!("set sysctl {} to {value:?} in {}", full_name(is_ipv4, path), self.label);
        let mut file = self.open_sysctl(is_ipv4, path, OFlag::O_WRONLY, &attempt)?;
        file.write_all(value.as_bytes()).map_err(|error| kernel(attempt(), &error))
    }

    fn open_sysctl(
        &self,
        is_ipv4: bool,
        path: &str,
        mode: OFlag,
        attempt: &impl Fn() -> String,
    ) -> Result<File, NetlinkError> {
        let settings = if is_ipv4 { Some(&self.ipv4) } else { self.ipv6.as_ref() };
        let (Some(settings), Some(path)) = (settings, path.strip_prefix("conf/")) else {
            return Err(NetlinkError::Absent { attempt: attempt() });
        };
        openat(settings, path, mode | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW, Mode::empty())
            .map(|fd: OwnedFd| File::from(fd))
            .map_err(|errno| kernel(attempt(), &errno.into()))
    }
}

fn full_name(is_ipv4: bool, path: &str) -> String {
    format!("net/{}/{path}", if is_ipv4 { "ipv4" } else { "ipv6" })
}

fn kernel(attempt: String, error: &std::io::Error) -> NetlinkError {
    let errno = error.raw_os_error().unwrap_or(nix::libc::EIO);
    NetlinkError::Kernel { attempt, errno, reason: Errno::from_raw(errno).desc().to_owned() }
}
