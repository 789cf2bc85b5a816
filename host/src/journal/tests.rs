//! What a journal says after its writer was killed, and values of buckets in
//! it, which are taken back until an ADD has succeeded, and stay afterwards.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::*;
use crate::buckets::{Bucket, Value};
use crate::node::Node;
use crate::paths::Paths;

const WAIT: Duration = Duration::from_secs(1);

/// A node whose state is in a directory of its own.
struct Scene {
    _directory: tempfile::TempDir,
    node: Node,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let node = Node::new(None, Paths::below(directory.path()), Instant::now() + WAIT);
        Self { _directory: directory, node }
    }

    fn journals(&self) -> std::path::PathBuf {
        self.node.paths().attachments()
    }

    fn begin(&self) -> Journal {
        let [network, container_id, ifname, plugin] = ["n", "c", "eth0", "bridge"].map(str::to_owned);
        let header = Header::new(Key { network, container_id, ifname, plugin }, None, None, String::new());
        Journal::begin(&self.journals(), header, WAIT).unwrap()
    }

    /// What a writer leaves that is killed in the middle of a line.
    fn tear(&self, rest: &[u8]) {
        let path = self.journals().join("n:c:eth0:bridge");
        File::options().append(true).open(path).unwrap().write_all(rest).unwrap();
    }

    fn bucket(&self) -> Bucket {
        Bucket::open(&self.node.bucket("n", "acme").unwrap(), WAIT).unwrap()
    }

    /// Sets a value as an ADD does, or removes it.
    fn change(&self, journal: &mut Journal, text: Option<&str>) {
        let bucket = self.bucket();
        let value = text.map(|text| Value::new(text.as_bytes().to_vec()).unwrap());
        let inverse = Inverse::RestoreValue {
            plugin: "acme".to_owned(),
            key: "k".to_owned(),
            earlier: bucket.get("k").unwrap(),
            written: value.as_ref().map(Value::tag),
        };
        journal.record(inverse).unwrap();
        match value {
            Some(value) => bucket.set("k", &value).unwrap(),
            None => bucket.remove("k").unwrap(),
        }
    }

    fn value(&self) -> Option<String> {
        let value = self.bucket().get("k").unwrap()?;
        Some(String::from_utf8(value.into_bytes()).unwrap())
    }

    fn roll_back(&self, journal: &mut Journal) {
        let undone = roll_back(journal, &self.node, &|_| false, false, &mut |_, _| {});
        assert!(undone.failures.is_empty(), "{:?}", undone.failures);
    }
}

/// A change that DEL takes back, and that touches nothing here.
fn other() -> Inverse {
    Inverse::ReleaseLease { data_dir: "/nonexistent".into(), address: [10, 0, 0, 1].into() }
}

fn is_empty(directory: &Path) -> bool {
    std::fs::read_dir(directory).unwrap().next().is_none()
}

#[test]
fn what_a_killed_add_set_is_put_back() {
    let scene = Scene::new();
    scene.change(&mut scene.begin(), Some("before"));
    std::fs::remove_dir_all(scene.journals()).unwrap();
    for changes in
        [&[Some("one")][..], &[Some("one"), Some("two")], &[None], &[None, Some("two")], &[Some("one"), None]]
    {
        let mut journal = scene.begin();
        for change in changes {
            scene.change(&mut journal, *change);
        }
        drop(journal);
        let mut journal = scene.begin();
        assert!(journal.is_interrupted());
        scene.roll_back(&mut journal);
        assert_eq!(scene.value().as_deref(), Some("before"), "{changes:?}");
        journal.remove().unwrap();
    }
}

#[test]
fn what_a_successful_add_set_stays() {
    let scene = Scene::new();
    let mut journal = scene.begin();
    journal.record(other()).unwrap();
    scene.change(&mut journal, Some("one"));
    journal.commit(Vec::new()).unwrap();
    drop(journal);
    let mut journal = scene.begin();
    assert_eq!(journal.pending(false), [(0, other())]);
    scene.roll_back(&mut journal);
    assert_eq!(scene.value().as_deref(), Some("one"));
}

#[test]
fn values_alone_leave_no_journal() {
    let scene = Scene::new();
    let mut journal = scene.begin();
    scene.change(&mut journal, Some("one"));
    assert!(!is_empty(&scene.journals()));
    journal.commit(Vec::new()).unwrap();
    assert!(is_empty(&scene.journals()));
}

#[test]
fn a_second_add_that_is_killed_is_taken_back_alone() {
    let scene = Scene::new();
    let mut journal = scene.begin();
    journal.record(other()).unwrap();
    scene.change(&mut journal, Some("one"));
    journal.commit(Vec::new()).unwrap();
    drop(journal);
    scene.change(&mut scene.begin(), Some("two"));
    let mut journal = scene.begin();
    assert_eq!(journal.pending(false).len(), 2);
    scene.roll_back(&mut journal);
    assert_eq!(scene.value().as_deref(), Some("one"));
}

#[test]
fn a_bucket_that_others_hold_is_not_waited_for_again_and_again() {
    let scene = Scene::new();
    let mut journal = scene.begin();
    for number in 0..20 {
        scene.change(&mut journal, Some(&number.to_string()));
    }
    let _held = scene.bucket();
    let started = Instant::now();
    let undone = roll_back(&mut journal, &scene.node, &|_| false, false, &mut |_, _| {});
    assert_eq!((undone.count, undone.failures.len()), (0, 20));
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
}

#[test]
fn a_line_that_was_cut_off_does_not_swallow_the_next_one() {
    for rest in ["{\"undo\":\"release-lease\",\"data-d".as_bytes(), &"ö".as_bytes()[..1]] {
        let scene = Scene::new();
        let mut journal = scene.begin();
        journal.record(other()).unwrap();
        journal.commit(Vec::new()).unwrap();
        drop(journal);
        scene.tear(rest);
        let mut journal = scene.begin();
        assert_eq!(journal.pending(false), [(0, other())]);
        let second = journal.record(other()).unwrap();
        drop(journal);
        let mut journal = scene.begin();
        assert_eq!(journal.pending(false), [(1, other()), (0, other())]);
        journal.cancel(second).unwrap();
        drop(journal);
        assert_eq!(scene.begin().pending(false), [(0, other())]);
    }
}

#[test]
fn a_header_that_was_cut_off_is_as_good_as_none() {
    let scene = Scene::new();
    drop(scene.begin());
    scene.tear(br#"{"weir":1,"config":""#);
    scene.tear(&"ö".as_bytes()[..1]);
    let name = "n:c:eth0:bridge";
    assert_eq!(census::leases(&scene.journals(), "n", None).unwrap(), 0);
    assert!(look(&scene.journals(), name).unwrap().is_none());
    let mut journal = Journal::open(&scene.journals(), name, WAIT).unwrap().unwrap();
    assert!(!journal.is_interrupted());
    journal.record(other()).unwrap();
    drop(journal);
    assert_eq!(scene.begin().pending(false), [(0, other())]);
}

#[test]
fn journals_of_a_network_are_known_by_their_names() {
    let key = |network: &str| Key {
        network: network.to_owned(),
        container_id: "c".repeat(60),
        ifname: "eth0".to_owned(),
        plugin: "bridge".to_owned(),
    };
    for network in ["n".to_owned(), "n".repeat(45), "n".repeat(151), "ö".repeat(120)] {
        assert!(Key::may_be_of(&key(&network).name(), &network), "{network}");
        assert!(!Key::may_be_of(&key("other").name(), &network), "{network}");
    }
}

#[test]
fn what_nobody_knows_of_the_boot_is_of_this_one() {
    let scene = Scene::new();
    let mut journal = scene.begin();
    for (boot, is_ours) in [("", true), (crate::boot::id(), true), ("another", false)] {
        journal.header.boot = boot.to_owned();
        assert_eq!(journal.is_of_this_boot(), is_ours, "{boot:?}");
    }
}

#[test]
fn what_is_no_file_is_no_journal() {
    let scene = Scene::new();
    scene.begin().record(other()).unwrap();
    std::fs::create_dir(scene.journals().join("directory")).unwrap();
    nix::unistd::mkfifo(&scene.journals().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert_eq!(list(&scene.journals()).unwrap(), ["n:c:eth0:bridge"]);
    assert_eq!(census::leases(&scene.journals(), "n", None).unwrap(), 1);
    assert!(Journal::open(&scene.journals(), "fifo", WAIT).is_err());
}
