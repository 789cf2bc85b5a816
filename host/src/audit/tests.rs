//! The log of a call as a whole.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::time::Instant;

use super::*;

fn who() -> Who {
    Who {
        command: "ADD",
        network: "n".to_owned(),
        container_id: "c1".to_owned(),
        ifname: "eth0".to_owned(),
        tenant: Some("team\u{1b}-a".to_owned()),
    }
}

fn record<'a>(object: &'a str, outcome: Outcome<'a>) -> Record<'a> {
    Record {
        plugin: "bridge",
        digest: "sha256:5f0c2a8d11e0a4f6d6c0b51f3a3f1f0c8a7cc6d4f7f2f63f0f9ba1f1f8f7a6b5",
        operation: "create-veth",
        object,
        outcome,
        duration: Duration::from_micros(123),
    }
}

fn audit(directory: &Path, settings: &AuditSettings) -> Result<Audit, Failure> {
    Audit::open(settings, &Paths::below(directory), who())
}

fn lines(directory: &Path) -> Vec<String> {
    let path = Paths::below(directory).audit(None);
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn records_are_written_when_the_call_ends() {
    let directory = tempfile::tempdir().unwrap();
    let audit = audit(directory.path(), &AuditSettings::default()).unwrap();
    audit.add(record("a\u{1b}[2J", Outcome::Done));
    audit.add(record("b", Outcome::Failed("no \u{202e}")));
    audit.add_of(("c2", "eth1"), record("c", Outcome::Denied("no")));
    assert_eq!(lines(directory.path()).len(), 0);
    drop(audit);
    let lines = lines(directory.path());
    let entries: Vec<Entry<'_>> = lines.iter().map(|line| Entry::read(line).unwrap()).collect();
    assert_eq!(entries.len(), 3);
    assert_eq!(entries[0].object, "a\u{fffd}[2J");
    assert_eq!(entries[0].tenant, "team\u{fffd}-a");
    assert_eq!((entries[0].container.as_ref(), entries[0].duration_us), ("c1", 123));
    assert_eq!((entries[1].outcome, entries[1].reason.as_ref()), (Verdict::Failed, "no \u{fffd}"));
    assert_eq!((entries[2].container.as_ref(), entries[2].ifname.as_ref()), ("c2", "eth1"));
    assert_eq!(entries[2].outcome, Verdict::Denied);
    assert!(entries[0].time.ends_with('Z') && entries[0].time.len() == 27, "{}", entries[0].time);
}

#[test]
fn a_panic_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let audit = audit(directory.path(), &AuditSettings::default()).unwrap();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        audit.add(record("a", Outcome::Done));
        panic!("in the middle of a call");
    }));
    assert!(ended.is_err());
    assert_eq!(lines(directory.path()).len(), 1);
}

#[test]
fn refusals_do_not_push_out_what_was_done() {
    let directory = tempfile::tempdir().unwrap();
    let audit = audit(directory.path(), &AuditSettings::default()).unwrap();
    let long = "x".repeat(5000);
    for _ in 0..REFUSALS + 7 {
        audit.add(record(&long, Outcome::Denied(&long)));
    }
    audit.add(record("the deed", Outcome::Done));
    drop(audit);
    let lines = lines(directory.path());
    assert_eq!(lines.len(), REFUSALS as usize + 2);
    let [.., deed, rest] = lines.as_slice() else { panic!("{lines:?}") };
    assert_eq!(Entry::read(deed).unwrap().object, "the deed");
    assert_eq!(Entry::read(rest).unwrap().reason, "7 more operations were refused or failed");
}

#[test]
fn much_is_written_before_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let audit = audit(directory.path(), &AuditSettings::default()).unwrap();
    let long = "x".repeat(1000);
    for _ in 0..3000 {
        audit.add(record(&long, Outcome::Done));
        assert!(audit.state.borrow().lines.len() <= COLLECTED);
    }
    assert!(lines(directory.path()).len() > 1000);
    drop(audit);
    assert_eq!(lines(directory.path()).len(), 3000);
}

#[test]
fn a_log_that_cannot_be_opened_fails_the_call_only_if_it_is_required() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(Paths::below(directory.path()).audit(None)).unwrap();
    let settings = AuditSettings::default();
    audit(directory.path(), &settings).unwrap().add(record("a", Outcome::Done));
    let failure = audit(directory.path(), &AuditSettings { required: true, ..settings }).err().unwrap();
    assert!(
        failure.to_string().contains("audit.jsonl") && failure.to_string().contains("required"),
        "{failure}"
    );
}

#[test]
fn no_log_leaves_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let settings = AuditSettings { enabled: false, required: true, ..AuditSettings::default() };
    audit(directory.path(), &settings).unwrap().add(record("a", Outcome::Done));
    assert!(!Paths::below(directory.path()).audit(None).exists());
}

#[test]
fn a_journal_that_is_missing_or_goes_away_is_replaced_by_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, path) = (directory.path().join("socket"), directory.path().join("audit.jsonl"));
    let settings = AuditSettings { journald: true, ..AuditSettings::default() };
    assert!(matches!(open(&settings, &path, &socket), Ok(Sink::File(_))));
    let journal = UnixDatagram::bind(&socket).unwrap();
    let sink = open(&settings, &path, &socket).unwrap();
    assert!(matches!(sink, Sink::Journald(_)));
    let state = RefCell::new(State::new(sink));
    let audit = Audit { who: who(), path: path.clone(), settings, state };
    audit.add(record("to the journal", Outcome::Done));
    assert!(audit.directory().is_some());
    drop(journal);
    audit.add(record("to the file", Outcome::Done));
    drop(audit);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("to the file") && !text.contains("to the journal"), "{text}");
}

/// Prints what a call with 20 records pays.
#[test]
#[ignore = "a measurement: cargo test -p weir --lib -- --ignored --nocapture cost_of_a_call"]
fn cost_of_a_call() {
    const CALLS: u32 = 20_000;
    let directory = tempfile::tempdir().unwrap();
    let settings = AuditSettings::default();
    let started = Instant::now();
    for _ in 0..CALLS {
        let audit = audit(directory.path(), &settings).unwrap();
        for _ in 0..20 {
            audit.add(record("veth1a2b3c4d and eth0 in the container namespace", Outcome::Done));
        }
    }
    println!("{:?} for a call of 20 records", started.elapsed() / CALLS);
}
