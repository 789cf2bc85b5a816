//! The binary: a CNI plugin when a runtime calls it, a command line otherwise.

use std::io::Read;
use std::path::Path;
use std::process::ExitCode;

use weir::request::{Command, Config, Environment, Request};
use weir::version::Version;
use weir::{Failure, cli, dispatch, reply};

fn main() -> ExitCode {
    let called_as = std::env::args_os()
        .next()
        .and_then(|path| Path::new(&path).file_name().map(|name| name.to_string_lossy().into_owned()))
        .unwrap_or_else(|| "weir".to_owned());
    match Environment::read(called_as.clone()) {
        Ok(None) if !dispatch::serves(&called_as) => cli::run(),
        Ok(None) => {
            eprintln!(
                "weir's CNI plugin {called_as}\nCNI protocol versions supported: {}",
                Version::ALL.map(Version::as_str).join(", ")
            );
            ExitCode::SUCCESS
        }
        Ok(Some(environment)) if environment.command == Command::Version => {
            reply::success(Some(&reply::versions()))
        }
        Ok(Some(environment)) => serve(environment),
        Err(failure) => reply::failure(&failure, Version::LATEST),
    }
}

fn serve(environment: Environment) -> ExitCode {
    let input = match read_input() {
        Ok(input) => input,
        Err(failure) => return reply::failure(&failure, Version::LATEST),
    };
    match Request::new(environment, &input).and_then(dispatch::serve) {
        Ok(result) => reply::success(result.as_ref()),
        // It speaks the configuration's version, if that much can be read.
        Err(failure) => reply::failure(&failure, Config::version_of(&input)),
    }
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
