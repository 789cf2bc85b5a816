//! Native IPAM plugins that the configuration names: programs in `CNI_PATH`,
//! called as the specification says (section "Plugin Delegation"). The only
//! place that executes a program.

use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as Program, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use serde::{Deserialize, Serialize};

use crate::failure::{Failure, code};
use crate::journal::Header;
use crate::request::Command;
use crate::result::CniResult;
use crate::version::Version;

/// How long a delegate may take to clean up after a failed ADD.
const UNDO_TIME: Duration = Duration::from_secs(10);

/// How long a program may take to be gone once it was killed.
const END_TIME: Duration = Duration::from_secs(2);

/// More is no result.
const OUTPUT_LIMIT: u64 = 1 << 20;

/// What became of a program that was killed.
const LATE: &str = "it did not finish within the time that the call has left";

/// A program that serves an IPAM type.
#[derive(Clone)]
pub(crate) struct Delegate<'a> {
    /// The type.
    pub(crate) plugin: &'a str,
    /// Where to look for it.
    pub(crate) path: &'a [PathBuf],
    /// The whole configuration.
    pub(crate) config: &'a str,
    /// The configuration's version.
    pub(crate) version: Version,
    /// Variables that replace those of the environment.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// When it has to be done.
    pub(crate) deadline: Instant,
    /// Is told once it runs.
    pub(crate) started: Option<&'a dyn Fn(Process) -> Result<(), Failure>>,
}

/// A program that was started. Its number may be another's by now, its number
/// and its start cannot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Process {
    /// Its number, which is that of its group too.
    #[serde(rename = "running")]
    id: u32,
    /// When it was started, in ticks since the node was (proc_pid_stat(5)).
    since: u64,
}

impl Process {
    fn of(id: u32) -> Option<Self> {
        // The name of the program, in parentheses, can have any characters.
        let text = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let since = fields.nth(18)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Self { id, since })
    }

    /// Ends what the ADD of a call that was killed has left running: it would
    /// go on allocating while DEL releases.
    pub(crate) fn end(self) {
        let deadline = Instant::now() + END_TIME;
        while Self::of(self.id) == Some(self) && Instant::now() < deadline {
            kill_group(self.id);
            thread::sleep(Duration::from_micros(200));
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PluginError {
    code: Option<u32>,
    msg: String,
    details: String,
}

impl Delegate<'_> {
    /// Runs the plugin; the result is there for ADD only.
    pub(crate) fn run(&self, command: Command) -> Result<Option<CniResult>, Failure> {
        let program = self.find()?;
        let what = || format!("IPAM plugin {} ({})", self.plugin, program.display());
        let mut child = self.start(&program, command)?;
        if let (Some(started), Some(process)) = (self.started, Process::of(child.id()))
            && let Err(failure) = started(process)
        {
            kill(&mut child);
            return Err(failure);
        }
        let (success, output) = self.converse(&mut child).map_err(|reason| {
            let code = if reason == LATE { code::DEADLINE } else { code::INTERNAL };
            Failure::new(code, format!("{} {}: {reason}", what(), command.as_str()))
        })?;
        let text = String::from_utf8_lossy(&output);
        if success {
            if command != Command::Add {
                return Ok(None);
            }
            let refuse = |reason: String| {
                Failure::new(code::DECODE, format!("{} returned no CNI result: {reason}", what()))
            };
            let value = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
            return CniResult::read(&value, self.version).map(Some).map_err(refuse);
        }
        match weir_config::from_str::<PluginError>(&text) {
            Ok(error) if !error.msg.is_empty() => Err(Failure {
                code: error.code.filter(|&code| code != 0).unwrap_or(code::INTERNAL),
                message: error.msg,
                details: error.details,
            }),
            _ => Err(Failure::new(
                code::INTERNAL,
                format!("{} {} failed without saying why", what(), command.as_str()),
            )),
        }
    }

    /// Whether there is such a program.
    pub(crate) fn exists(&self) -> bool {
        self.find().is_ok()
    }

    /// Finds the program.
    pub(crate) fn find(&self) -> Result<PathBuf, Failure> {
        find(self.plugin, self.path)
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that executes a program")]
    fn start(&self, program: &Path, command: Command) -> Result<Child, Failure> {
        Program::new(program)
            .arg0(program)
            .env("CNI_COMMAND", command.as_str())
            .envs(self.variables.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .process_group(0)
            .spawn()
            .map_err(|error| Failure::io(format!("execute {}: {error}", program.display())))
    }

    /// Takes back what a failed ADD may have done, in a time of its own.
    pub(crate) fn undo_add(&self) -> Result<(), Failure> {
        Self { deadline: Instant::now() + UNDO_TIME, started: None, ..self.clone() }
            .run(Command::Del)
            .map(drop)
    }

    /// Hands over the configuration and collects the answer, within the time.
    fn converse(&self, child: &mut Child) -> Result<(bool, Vec<u8>), String> {
        let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("it has no standard input or output".to_owned());
        };
        let config = self.config.to_owned();
        // Threads of their own: what the program started may keep its pipes
        // open, and then they end only with this process.
        let writing = beside(move || {
            // A plugin may end without reading its input.
            let _ = input.write_all(config.as_bytes());
        });
        let (sender, receiver) = mpsc::channel();
        let reading = beside(move || {
            let mut text = Vec::new();
            let read = output.take(OUTPUT_LIMIT).read_to_end(&mut text).map(|_| text);
            let _ = sender.send(read);
        });
        writing.and(reading).inspect_err(|_| kill(child))?;
        let status = loop {
            match child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break status,
                None if Instant::now() >= self.deadline => {
                    kill(child);
                    return Err(LATE.to_owned());
                }
                None => thread::sleep(Duration::from_micros(200)),
            }
        };
        match receiver.recv_timeout(self.deadline.saturating_duration_since(Instant::now())) {
            Ok(text) => Ok((status.success(), text.map_err(|error| error.to_string())?)),
            Err(_) => {
                kill(child);
                Err(LATE.to_owned())
            }
        }
    }
}

/// Finds the program of a type: a regular file, symbolic links followed, and
/// not weir itself under a type that it does not know.
pub(crate) fn find(plugin: &str, path: &[PathBuf]) -> Result<PathBuf, Failure> {
    let found = path.iter().map(|directory| directory.join(plugin)).find(|path| path.is_file());
    let own = std::fs::canonicalize("/proc/self/exe").ok();
    match found {
        Some(path) if own.is_some() && std::fs::canonicalize(&path).ok() == own => {
            Err(Failure::config(format!(
                "IPAM plugin {plugin:?}: {} is weir, which has no component of that type",
                path.display()
            )))
        }
        Some(path) => Ok(path),
        None => Err(Failure::config(format!(
            "key \"ipam.type\": no component and no program {plugin:?} in CNI_PATH {path:?}"
        ))
        .details("install the plugin, or correct the network configuration")),
    }
}

/// Does something on a thread of its own.
fn beside(work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let started = thread::Builder::new().spawn(work);
    started.map(drop).map_err(|error| format!("start a thread for its input and output: {error}"))
}

/// Kills a program with all that it has started.
fn kill(child: &mut Child) {
    kill_group(child.id());
    let _ = child.wait();
}

fn kill_group(id: u32) {
    if let Ok(group) = i32::try_from(id) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
}

/// Takes back a delegate's ADD with the attachment's own configuration.
pub(crate) fn undo(plugin: &str, path: &[PathBuf], header: &Header) -> Result<(), Failure> {
    let delegate = Delegate {
        plugin,
        path,
        config: &header.config,
        version: Version::LATEST,
        variables: vec![
            ("CNI_CONTAINERID", header.key.container_id.clone()),
            ("CNI_IFNAME", header.key.ifname.clone()),
            ("CNI_NETNS", header.netns.as_ref().map(|netns| netns.display().to_string()).unwrap_or_default()),
        ],
        deadline: Instant::now() + UNDO_TIME,
        started: None,
    };
    delegate.run(Command::Del).map(drop)
}
