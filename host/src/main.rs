//! The binary: a CNI plugin when a runtime calls it, a command line otherwise.

#![no_main]

use std::convert::Infallible;
use std::ffi::{OsString, c_char, c_int};
use std::io::Read;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::process::ExitCode;

use weir::heap::Heap;
use weir::request::{Command, Config, Environment, Request};
use weir::version::Version;
use weir::{Failure, cli, dispatch, reply, start};

#[global_allocator]
static HEAP: Heap = Heap::new();

/// What the C library calls.
///
/// Rust's own `main` first looks up the bounds of the stack and installs a
/// handler that reports its overflow, which takes as long as a tenth of a call.
// SAFETY: nothing else in the program has this name, and the types are those
// of the C standard.
#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, arguments: *const *const c_char) -> c_int {
    start::ready();
    // SAFETY: this is what the C library called us with.
    let arguments = unsafe { start::arguments(count, arguments) };
    let code = panic::catch_unwind(|| run(arguments)).unwrap_or(ExitCode::FAILURE);
    c_int::from(code != ExitCode::SUCCESS)
}

fn run(arguments: Vec<OsString>) -> ExitCode {
    let called_as = arguments
        .first()
        .and_then(|path| Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "weir".to_owned());
    match Environment::read(called_as.clone()) {
        Ok(None) if !dispatch::serves(&called_as) => cli::run(arguments),
        Ok(None) => {
            eprintln!(
                "weir's CNI plugin {called_as}\nCNI protocol versions supported: {}",
                Version::ALL.map(Version::as_str).join(", ")
            );
            ExitCode::SUCCESS
        }
        Ok(Some(environment)) if environment.command == Command::Version => {
            reply::success(Some(&reply::versions()))
                .map_or_else(|failure| lost(&failure), |()| ExitCode::SUCCESS)
        }
        // Whoever calls waits for an error object, be it weir's own fault.
        Ok(Some(environment)) => panic::catch_unwind(AssertUnwindSafe(|| serve(environment)))
            .unwrap_or_else(|payload| reply::failure(&Failure::panicked(&*payload), Version::LATEST)),
        Err(failure) => reply::failure(&failure, Version::LATEST),
    }
}

fn serve(environment: Environment) -> ExitCode {
    let input = match read_input() {
        Ok(input) => input,
        Err(failure) => return reply::failure(&failure, Version::LATEST),
    };
    // An error speaks the configuration's version, if that much can be read.
    let refuse = |failure: &Failure| reply::failure(failure, Config::version_of(&input));
    match Request::new(environment, &input) {
        Ok(request) => {
            let Err(failure) = dispatch::serve(request, |answer| -> Result<Infallible, Failure> {
                let code = match answer {
                    Ok(result) => reply::success(result.as_ref()).map(|()| ExitCode::SUCCESS)?,
                    Err(failure) => refuse(&failure),
                };
                std::process::exit(c_int::from(code != ExitCode::SUCCESS))
            });
            lost(&failure)
        }
        Err(failure) => refuse(&failure),
    }
}

/// Tells of an answer that could not be written.
fn lost(failure: &Failure) -> ExitCode {
    eprintln!("weir: {failure}");
    ExitCode::FAILURE
}

fn read_input() -> Result<String, Failure> {
    // One byte more than allowed, so that the check of the size sees it.
    const LIMIT: u64 = (1 << 20) + 1;
    let mut bytes = Vec::new();
    std::io::stdin().lock().take(LIMIT).read_to_end(&mut bytes).map_err(|error| {
        Failure::input(format!("read the network configuration from standard input: {error}"))
    })?;
    String::from_utf8(bytes)
        .map_err(|_| Failure::undecodable("the network configuration on standard input is not UTF-8"))
}
