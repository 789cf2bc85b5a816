//! Policy files: reading one never panics, what is wrong has a position in
//! the file, and a rule that denies everything does so whatever else is there.

#![no_main]

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;
use weir::policy::{Numbers, Operation, Permit, Policy, PolicyError, Port, Protocol, Side, Subject};

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match read(&[("policy.toml", text)]) {
        Ok(policy) => {
            for subject in subjects() {
                check(&policy.permit(&subject));
            }
            let denied = read(&[("policy.toml", text), ("policy.d/a.toml", "[[deny]]")]).expect("both are good");
            for subject in subjects() {
                let permit = denied.permit(&subject);
                assert!(permit.is_allowed_at_all().is_err() && !permit.is_unrestricted());
                assert!(operations().iter().all(|operation| permit.check(operation).is_err()));
            }
        }
        Err(error) => check_error(&error, text),
    }
});

fn read(files: &[(&str, &str)]) -> Result<Policy, PolicyError> {
    let files: Vec<(PathBuf, String)> =
        files.iter().map(|(name, text)| (PathBuf::from(name), (*text).to_owned())).collect();
    Policy::parse(&files)
}

fn subjects() -> [Subject<'static>; 3] {
    let subject = Subject { network: "n", plugin: "bridge", digest: "", tenant: None, is_bundled: true };
    [subject, Subject { plugin: "acme", is_bundled: false, ..subject }, Subject { tenant: Some("t"), ..subject }]
}

fn operations() -> [Operation<'static>; 16] {
    let prefix = "::ffff:10.1.2.3/128".parse().expect("it is a prefix");
    [
        Operation::Import("weir:net/links@0.1.0"),
        Operation::Namespace(Side::Host),
        Operation::CreateLink { kind: "veth", name: "veth0" },
        Operation::CreateLink { kind: "bridge", name: "br-a" },
        Operation::Bridge("br-a"),
        Operation::Parent("eth1"),
        Operation::PutOn { kind: "macvlan", parent: None },
        Operation::Passthru("eth1"),
        Operation::Address(prefix),
        Operation::Route(prefix),
        Operation::Neighbor(prefix),
        Operation::Sysctl("accept_ra"),
        Operation::Delegate("dhcp"),
        Operation::Port(Port { address: None, number: 8080, protocol: Protocol::Tcp }),
        Operation::Vlans { bridge: Some("br-a"), vlans: Numbers::between(100, 199) },
        Operation::Vni { parent: None, vni: 7 },
    ]
}

/// Answers agree with each other, and refusals say something.
fn check(permit: &Permit) {
    let is_allowed = permit.is_allowed_at_all().is_ok();
    for operation in operations() {
        match permit.check(&operation) {
            Ok(()) => assert!(is_allowed, "{operation} is allowed where nothing is"),
            Err(refusal) => {
                assert!(!permit.is_unrestricted(), "{refusal}");
                assert!(!refusal.to_string().is_empty());
                let _ = refusal.hint();
            }
        }
    }
    if let Some(most) = permit.leases() {
        assert!(permit.check_leases(most).is_err());
    }
    let _ = permit.limits();
}

/// The operator has to find what is wrong.
fn check_error(error: &PolicyError, text: &str) {
    assert!(!error.problems().is_empty());
    for problem in error.problems() {
        assert!(!problem.message.is_empty());
        let (line, column) = problem.position.expect("it is about the text");
        assert!(line >= 1 && line as usize <= text.split('\n').count(), "{problem}");
        assert!(column >= 1, "{problem}");
    }
}
