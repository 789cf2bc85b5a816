//! The container runtime interface, spoken by `cri.py`.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use serde_json::{Value, json};

use crate::lab::{line, require};

/// Debian's own, which finds the packages of Debian.
pub(super) const PYTHON: &str = "/usr/bin/python3";

const CLIENT: &str = include_str!("cri.py");

/// A connection to a runtime.
#[derive(Debug)]
pub(super) struct Cri {
    client: Client,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
    complaints: ChildStderr,
}

/// A method, and its request.
pub(super) type Request = (&'static str, Value);

/// A response, or what the runtime says instead.
pub(super) type Response = Result<Value, String>;

impl Cri {
    /// Ends the test as not runnable if there is no client.
    pub(super) fn require() -> anyhow::Result<()> {
        let found = Path::new(PYTHON).is_file()
            && line(PYTHON).arguments(["-c", "import grpc"]).run()?.status.success();
        require(found, "Python has no gRPC to call a container runtime with: install python3-grpcio")
    }

    /// A client of a socket, which it opens for the first call. It ends after
    /// `limit`, whatever happens.
    pub(super) fn new(socket: &Path, limit: Duration) -> anyhow::Result<Self> {
        let socket = socket.to_str().context("a path in UTF-8")?;
        let mut client =
            line(PYTHON).arguments(["-c", CLIENT, socket, &limit.as_secs().to_string()]).input("").start()?;
        Ok(Self {
            requests: client.stdin.take().context("standard input")?,
            answers: BufReader::new(client.stdout.take().context("standard output")?),
            complaints: client.stderr.take().context("standard error")?,
            client: Client(client),
        })
    }

    /// Makes a call; an error of the runtime is one here.
    pub(super) fn call(&mut self, method: &'static str, request: Value) -> anyhow::Result<Value> {
        self.try_call(method, request)?.map_err(|error| anyhow!(error))
    }

    /// Makes a call that may be refused.
    pub(super) fn try_call(&mut self, method: &'static str, request: Value) -> anyhow::Result<Response> {
        self.call_at_once(vec![(method, request)])?.pop().context("an answer")
    }

    /// Makes calls at the same time.
    pub(super) fn call_at_once(&mut self, requests: Vec<Request>) -> anyhow::Result<Vec<Response>> {
        writeln!(self.requests, "{}", json!(requests)).context("write to cri.py")?;
        let mut line = String::new();
        self.answers.read_line(&mut line).context("read from cri.py")?;
        if line.is_empty() {
            let _ = self.client.0.kill();
            self.complaints.read_to_string(&mut line)?;
            return Err(anyhow!("cri.py ended in the middle of {requests:?}: {line}"));
        }
        let answers: Vec<Value> = serde_json::from_str(&line).with_context(|| format!("read {line:?}"))?;
        ensure!(answers.len() == requests.len(), "{requests:?} were answered by {answers:?}");
        Ok(answers.iter().map(response).collect())
    }
}

fn response(answer: &Value) -> Response {
    match &answer["error"] {
        Value::String(error) => Err(error.clone()),
        _ => Ok(answer["ok"].clone()),
    }
}

/// A text in a response.
pub(super) fn text(response: &Value, pointer: &str) -> anyhow::Result<String> {
    let text = response.pointer(pointer).and_then(Value::as_str);
    Ok(text.with_context(|| format!("there is no {pointer} in {response}"))?.to_owned())
}

/// The process of `cri.py`.
#[derive(Debug)]
struct Client(Child);

impl Drop for Client {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
