//! The compiler of components: a program that weir carries, executed without
//! rights (see `host/compiler`). Nothing that a third party wrote is read by
//! weir itself.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::Signal;

use super::description::Description;
use super::{COMPILER, TARGET};

/// A processor that is shared with many gets this long for what the compiler's
/// own limit on its time allows.
const WAIT: Duration = Duration::from_secs(600);

/// A description is no longer than this.
const DESCRIPTION_LIMIT: usize = 1 << 20;

/// What the compiler may have to say.
const REASON_LIMIT: u64 = 4 << 10;

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompilerError {
    /// The component was refused.
    #[error("{0}")]
    Refused(String),
    /// The compiler ended in another way.
    #[error("the compiler {0}")]
    Ended(String),
    /// It could not be run.
    #[error("run the compiler: {0}")]
    Io(#[from] io::Error),
}

impl From<Errno> for CompilerError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

/// A component, and what it says of itself.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) component: Vec<u8>,
    pub(crate) description: Description,
}

/// Looks into a component. A core module that was built with weir's SDK is made
/// a component.
pub(crate) fn describe(bytes: &[u8]) -> Result<Described, CompilerError> {
    let mut output = run(&["describe"], bytes)?;
    let end = output.iter().take(DESCRIPTION_LIMIT).position(|byte| *byte == b'\n');
    let end = end.ok_or_else(|| CompilerError::Refused("it imports or exports too much".to_owned()))?;
    let mut description: Description = serde_json::from_slice(&output[..end])
        .map_err(|error| CompilerError::Ended(format!("wrote no description: {error}")))?;
    // It has seen to that, unless the component got the better of it.
    description.language = description.language.map(|language| plain(&language));
    description.tools.iter_mut().for_each(|tool| *tool = plain(tool));
    output.drain(..=end);
    Ok(Described { component: output, description })
}

/// Compiles a component for this weir.
pub(crate) fn compile(component: &[u8]) -> Result<Vec<u8>, CompilerError> {
    run(&["compile", TARGET], component)
}

#[expect(clippy::disallowed_methods, reason = "the program is part of weir")]
fn run(arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, CompilerError> {
    let program = program()?;
    let input = filled("component", input)?;
    let (output, reason) = (memory("result", MFdFlags::empty())?, memory("reason", MFdFlags::empty())?);
    // Executed before the descriptor is closed.
    let mut child = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .args(arguments)
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(input))
        .stdout(Stdio::from(output.try_clone()?))
        .stderr(Stdio::from(reason.try_clone()?))
        .spawn()?;
    let deadline = Instant::now() + WAIT;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            child.kill()?;
            child.wait()?;
            return Err(CompilerError::Ended(format!("did not finish within {WAIT:?}")));
        }
        thread::sleep(Duration::from_millis(2));
    };
    if !status.success() {
        return Err(failure(status, &String::from_utf8_lossy(&content(reason, REASON_LIMIT)?)));
    }
    Ok(content(output, u64::MAX)?)
}

/// The program in memory, where no file system can forbid to execute it.
fn program() -> io::Result<File> {
    // Older kernels do not know the flag, and need none.
    let executable = MFdFlags::from_bits_retain(nix::libc::MFD_EXEC);
    let file = match memory("weir-compiler", executable) {
        Err(error) if error.raw_os_error() == Some(nix::libc::EINVAL) => {
            memory("weir-compiler", MFdFlags::empty())?
        }
        file => file?,
    };
    // Whoever has a file open for writing keeps it from being executed.
    (&file).write_all(&COMPILER)?;
    File::open(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

fn filled(name: &str, bytes: &[u8]) -> io::Result<File> {
    let mut file = memory(name, MFdFlags::empty())?;
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

fn memory(name: &str, flags: MFdFlags) -> io::Result<File> {
    Ok(File::from(memfd_create(name, flags | MFdFlags::MFD_CLOEXEC)?))
}

fn content(mut file: File, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.rewind()?;
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn failure(status: ExitStatus, reason: &str) -> CompilerError {
    // What it says may quote the component.
    let reason = plain(reason);
    if status.code() == Some(1) {
        return CompilerError::Refused(reason);
    }
    let how = match status.signal().and_then(|signal| Signal::try_from(signal).ok()) {
        Some(Signal::SIGXCPU | Signal::SIGKILL) => "took too long, or too much memory".to_owned(),
        Some(Signal::SIGABRT) if reason.contains("memory allocation") => {
            "needs more memory than it may have".to_owned()
        }
        Some(Signal::SIGXFSZ) => "made more code than there may be".to_owned(),
        Some(signal) => format!("was ended by {signal}"),
        None => format!("failed: {reason}"),
    };
    CompilerError::Ended(how)
}

/// One line of nothing but what is printed as one narrow character.
fn plain(text: &str) -> String {
    let text: String = text.chars().map(|c| if matches!(c, ' '..='~') { c } else { ' ' }).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::tests::COMPONENT;

    #[test]
    fn looks_into_components() {
        let described = describe(COMPONENT).unwrap();
        assert!(described.component == COMPONENT);
        let Description { imports, exports, language, tools } = described.description;
        assert!(imports.iter().any(|import| import.starts_with("weir:plugin/request@")), "{imports:?}");
        assert_eq!(exports.len(), 1, "{exports:?}");
        assert_eq!(language.as_deref(), Some("Rust"));
        assert!(tools.iter().any(|tool| tool.starts_with("rustc")), "{tools:?}");
    }

    #[test]
    fn says_what_is_wrong_with_the_rest() {
        let module = b"\0asm\x01\0\0\0";
        let cases: [(&[u8], &str); 6] = [
            (b"", "not WebAssembly"),
            (b"\x7fELF", "not WebAssembly"),
            (b"\0asm", "not WebAssembly"),
            (b"\0asm\x07\0\x09\0", "not WebAssembly"),
            (module, "not built with weir's SDK"),
            (&COMPONENT[..COMPONENT.len() / 2], "not valid"),
        ];
        for (bytes, reason) in cases {
            let error = describe(bytes).unwrap_err();
            assert!(matches!(&error, CompilerError::Refused(text) if text.contains(reason)), "{error}");
        }
    }
}
