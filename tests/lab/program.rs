//! Running programs: with a clean environment, input and a time limit.

use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::waiting;

/// Where programs are looked for.
pub(crate) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A program to run.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: OsString,
    arguments: Vec<OsString>,
    variables: Vec<(String, OsString)>,
    input: Option<Vec<u8>>,
    limit: Duration,
}

/// What a program did.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Program {
    /// A program with no input, whose environment is `PATH` alone.
    pub(crate) fn new(path: impl AsRef<OsStr>) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            arguments: Vec::new(),
            variables: vec![("PATH".to_owned(), SEARCH_PATH.into())],
            input: None,
            limit: Duration::from_secs(60),
        }
    }

    /// Adds arguments.
    pub(crate) fn arguments<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.as_ref().to_owned()));
        self
    }

    /// Sets an environment variable.
    pub(crate) fn variable(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    /// Removes an environment variable.
    pub(crate) fn without_variable(mut self, name: &str) -> Self {
        self.variables.retain(|(known, _)| known != name);
        self
    }

    /// The same, executed by another program, which gets these arguments first.
    pub(crate) fn executed_by<S: AsRef<OsStr>>(
        mut self,
        program: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Self {
        let own = std::mem::replace(&mut self.path, program.into());
        let before = arguments.into_iter().map(|argument| argument.as_ref().to_owned());
        self.arguments = before.chain([own]).chain(self.arguments).collect();
        self
    }

    /// Sets standard input.
    pub(crate) fn input(mut self, input: impl Into<Vec<u8>>) -> Self {
        self.input = Some(input.into());
        self
    }

    /// Standard input.
    pub(crate) fn input_bytes(&self) -> &[u8] {
        self.input.as_deref().unwrap_or_default()
    }

    /// Sets the time after which it is killed.
    pub(crate) fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// Starts it in the calling thread's namespaces.
    pub(crate) fn start(&self) -> anyhow::Result<Child> {
        Command::new(&self.path)
            .args(&self.arguments)
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(if self.input.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("execute {}", Path::new(&self.path).display()))
    }

    /// The same, and hands over all of its input.
    pub(crate) fn start_with_input(&self) -> anyhow::Result<Child> {
        let mut child = self.start()?;
        if let Some(mut pipe) = child.stdin.take() {
            pipe.write_all(self.input_bytes())?;
        }
        Ok(child)
    }

    /// Runs it to its end in the calling thread's namespaces.
    pub(crate) fn run(&self) -> anyhow::Result<Output> {
        let mut child = self.start()?;
        let (input, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        thread::scope(|scope| {
            if let (Some(mut pipe), Some(bytes)) = (input, self.input.as_deref()) {
                // A program may end without having read everything.
                scope.spawn(move || pipe.write_all(bytes).ok());
            }
            let stdout = scope.spawn(|| read_all(stdout));
            let stderr = scope.spawn(|| read_all(stderr));
            let status = self.wait(&mut child)?;
            let text =
                |bytes: Option<Vec<u8>>| String::from_utf8_lossy(&bytes.unwrap_or_default()).into_owned();
            Ok(Output { status, stdout: text(stdout.join().ok()), stderr: text(stderr.join().ok()) })
        })
    }

    /// Runs it; an exit code other than 0 is an error.
    pub(crate) fn succeed(&self) -> anyhow::Result<String> {
        let output = self.run()?;
        ensure!(
            output.status.success(),
            "{:?} {:?}: {}: {}",
            self.path,
            self.arguments,
            output.status,
            output.stderr.trim()
        );
        Ok(output.stdout)
    }

    fn wait(&self, child: &mut Child) -> anyhow::Result<ExitStatus> {
        let deadline = Instant::now() + self.limit;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                let waiting = waiting::describe(child.id());
                child.kill()?;
                child.wait()?;
                let program = Path::new(&self.path).display();
                bail!("{program} {:?} did not end within {:?}:\n{waiting}", self.arguments, self.limit);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whether a program can be found.
pub(crate) fn is_installed(name: &str) -> bool {
    SEARCH_PATH.split(':').any(|directory| Path::new(directory).join(name).is_file())
}

/// A shell-like line without quoting, as `ip link add br0 type bridge`.
pub(crate) fn line(text: &str) -> Program {
    let mut words = text.split_whitespace();
    Program::new(words.next().unwrap_or_default()).arguments(words)
}

fn read_all(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What was read before an error is still worth showing.
        let _ = pipe.read_to_end(&mut bytes);
    }
    bytes
}
