//! Network configurations: reading one never panics, and what could be read
//! is what the rest of the host relies on.

#![no_main]

use libfuzzer_sys::fuzz_target;
use weir::Failure;
use weir::request::Config;
use weir::result::CniResult;
use weir::version::Version;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let answered_in = Config::version_of(text);
    match Config::parse(text) {
        Ok(config) => {
            assert_eq!(config.text, text);
            let is_unstated = config.version == Version::UNSTATED && answered_in == Version::LATEST;
            assert!(answered_in == config.version || is_unstated, "{answered_in} answers {}", config.version);
            check(&config);
            survives(&config);
        }
        Err(failure) => check_failure(&failure),
    }
});

/// What the host does with a configuration without looking again.
fn check(config: &Config) {
    assert!(config.value.is_object());
    // A directory of leases, and part of the name of the journal's files.
    let mut name = config.name.bytes();
    assert!(name.next().is_some_and(|first| first.is_ascii_alphanumeric()), "{:?}", config.name);
    assert!(name.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)), "{:?}", config.name);
    // Files of CNI_PATH.
    for kind in [&config.kind, &config.ipam_kind].into_iter().flatten() {
        assert!(!kind.is_empty() && kind != "." && kind != "..", "{kind:?}");
        assert!(!kind.contains(['/', '\\', '\0']), "{kind:?}");
    }
    if let Some(result) = &config.prev_result {
        check_result(result);
    }
}

/// A result passes through weir: to a native plugin, and back to the runtime.
fn check_result(result: &CniResult) {
    for version in Version::ALL {
        let written = match result.write(version) {
            Ok(written) => written,
            Err(reason) => {
                assert!(version < Version::V0_3_0 && result.ips.is_empty(), "{version}: {reason}");
                continue;
            }
        };
        let read = CniResult::read(&written, version).expect("what was written can be read");
        assert_eq!(read.write(version), Ok(written), "{version}");
        if version >= Version::V0_3_0 {
            assert_eq!(read.ips, result.ips, "{version}");
        }
        if version == Version::LATEST {
            assert_eq!(read, *result);
        }
    }
}

/// A configuration means what its value means, in whatever way it is written.
/// (The value itself may differ: in the last digit of a fraction.)
fn survives(config: &Config) {
    let again = Config::parse(&config.value.to_string()).expect("what was read can be written and read");
    assert_eq!(again.version, config.version);
    assert_eq!(again.name, config.name);
    assert_eq!(again.kind, config.kind);
    assert_eq!(again.ipam_kind, config.ipam_kind);
    assert_eq!(again.prev_result, config.prev_result);
    assert_eq!(again.valid_attachments, config.valid_attachments);
}

/// A runtime shows the message, and takes code 0 for success.
fn check_failure(failure: &Failure) {
    assert_ne!(failure.code, 0);
    assert!(!failure.message.is_empty());
}
