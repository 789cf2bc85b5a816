//! What goes back to the runtime. The only writer of standard output on the
//! CNI path.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::failure::Failure;
use crate::version::Version;

/// Writes a result, if there is one.
pub fn success(result: Option<&Value>) -> Result<(), Failure> {
    let Some(result) = result else { return Ok(()) };
    write(result).map_err(|error| Failure::io(format!("write the result to standard output: {error}")))
}

/// Writes an error.
pub fn failure(failure: &Failure, version: Version) -> ExitCode {
    let mut error = json!({
        "cniVersion": version.as_str(),
        "code": failure.code,
        "msg": failure.message,
    });
    if !failure.details.is_empty() {
        error["details"] = failure.details.as_str().into();
    }
    if let Err(error) = write(&error) {
        eprintln!("weir: write the error: {error}");
    }
    ExitCode::FAILURE
}

/// The answer to VERSION.
pub fn versions() -> Value {
    json!({
        "cniVersion": Version::LATEST.as_str(),
        "supportedVersions": Version::ALL.map(Version::as_str),
    })
}

#[expect(clippy::disallowed_methods, reason = "the one place that writes to standard output")]
fn write(value: &Value) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    let mut out = io::stdout().lock();
    out.write_all(&text)?;
    out.flush()
}
