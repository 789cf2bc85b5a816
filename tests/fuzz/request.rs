//! Whole calls: the first line is the name by which weir is called, those
//! after it are variables, and behind an empty line the configuration follows,
//! as in
//!
//! ```text
//! bridge
//! CNI_COMMAND=DEL
//! CNI_CONTAINERID=c1
//! CNI_IFNAME=eth0
//!
//! {"cniVersion": "1.0.0", "name": "net", "type": "bridge"}
//! ```

#![no_main]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use weir::Failure;
use weir::request::{Command, Environment, Request};
use weir::version::Version;

fuzz_target!(|data: &[u8]| {
    let (head, input) = halves(data);
    let mut lines = head.split(|byte| *byte == b'\n');
    let called_as = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let variables: Vec<(&[u8], &[u8])> = lines.filter_map(|line| halves_at(line, b"=")).collect();
    // As getenv(3): the first one counts.
    let variable = |name: &str| -> Option<OsString> {
        let (_, value) = variables.iter().find(|(known, _)| *known == name.as_bytes())?;
        Some(OsStr::from_bytes(value).to_owned())
    };
    let has_command = variable("CNI_COMMAND").is_some_and(|command| !command.is_empty());
    let environment = match Environment::of(&variable, called_as.clone()) {
        Ok(Some(environment)) => environment,
        Ok(None) => return assert!(!has_command, "the call is not answered"),
        Err(failure) => return check_failure(&failure),
    };
    assert!(has_command, "without a command weir is a tool of the operator");
    assert_eq!(environment.called_as, called_as);
    check(&environment);
    let Ok(input) = std::str::from_utf8(input) else { return };
    match Request::new(environment, input) {
        Ok(request) => check_request(&request),
        Err(failure) => check_failure(&failure),
    }
});

/// What the host does with an environment without looking again.
fn check(environment: &Environment) {
    let Environment { command, container_id, ifname, netns, args, budget, .. } = environment;
    assert!(Duration::ZERO < *budget && *budget <= Duration::from_secs(3600), "{budget:?}");
    assert!(netns.as_ref().is_none_or(|path| !path.as_os_str().is_empty()));
    for (key, value) in args {
        assert!(!key.is_empty() && !key.contains([';', '=']) && !value.contains(';'), "{key:?}={value:?}");
    }
    if !matches!(command, Command::Add | Command::Del | Command::Check) {
        assert!(args.is_empty());
        return;
    }
    assert!(netns.is_some() || *command == Command::Del);
    // Part of the name of the journal's files, and a line of a lease.
    let mut id = container_id.bytes();
    assert!(id.next().is_some_and(|first| first.is_ascii_alphanumeric()), "{container_id:?}");
    assert!(id.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)), "{container_id:?}");
    // A link's name, and a line of a lease too.
    assert!((1..=15).contains(&ifname.len()) && ifname != "." && ifname != "..", "{ifname:?}");
    let is_bad = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    assert!(!ifname.contains(is_bad), "{ifname:?}");
}

/// A command that the configuration's version does not know is not served.
fn check_request(request: &Request) {
    match request.environment.command {
        Command::Check => {
            assert!(request.config.version >= Version::V0_4_0);
            assert!(request.config.prev_result.is_some());
        }
        Command::Gc | Command::Status => assert!(request.config.version >= Version::V1_1_0),
        Command::Add | Command::Del | Command::Version => {}
    }
}

/// A runtime shows the message, and takes code 0 for success.
fn check_failure(failure: &Failure) {
    assert_ne!(failure.code, 0);
    assert!(!failure.message.is_empty());
}

/// The variables and the configuration.
fn halves(data: &[u8]) -> (&[u8], &[u8]) {
    halves_at(data, b"\n\n").unwrap_or((data, b""))
}

fn halves_at<'a>(data: &'a [u8], separator: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let position = data.windows(separator.len()).position(|window| window == separator)?;
    Some((&data[..position], &data[position + separator.len()..]))
}
