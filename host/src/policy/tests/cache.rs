//! The cache never changes a decision.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::time::Duration;

use nix::unistd::geteuid;

use super::files::Place;
use super::{BUNDLED, FOREIGN};
use crate::policy::cache::{SETTLED, load, open};
use crate::policy::{Operation, Policy};

const STRICT: &str = "bundled = \"by-rule\"\n[[allow]]\nname = \"n\"\nplugin = \"acme\"\nnetwork = \"net-*\"\nbridges = [\"br-a\", \"br-b\"]\naddresses = \"10.1.0.0/16\"\nleases = 4\nlimits.time = \"5s\"\n[[deny]]\nbridges = \"br-b\"\n";
const LENIENT: &str = "[[allow]]\nbridges = \"*\"\n";

/// A policy's directory, and where its cache is.
struct Node {
    place: Place,
    cache: PathBuf,
    _state: tempfile::TempDir,
}

impl Node {
    fn new(text: &str) -> Self {
        let state = tempfile::tempdir().unwrap();
        // The directory is made when it is needed.
        let cache = state.path().join("weir/policy.cache");
        let place = Place::new(&[("policy.toml", text), ("policy.d/a.toml", "")]);
        Self { place, cache, _state: state }
    }

    /// Files that are old enough at once.
    fn load(&self) -> Policy {
        load(self.place.path(), &self.cache, Duration::ZERO).unwrap()
    }

    fn is_cached(&self) -> bool {
        open(self.place.path(), &self.cache).is_some()
    }
}

/// What a policy says about a few questions.
fn decisions(policy: &Policy) -> Vec<String> {
    let mut said = Vec::new();
    for subject in [&BUNDLED, &FOREIGN] {
        let permit = policy.permit(subject);
        for bridge in ["br-a", "br-b", "br-c"] {
            said.push(format!("{:?}", permit.check(&Operation::Bridge(bridge))));
        }
        said.push(format!("{:?}", permit.check(&Operation::Address("10.1.2.3/32".parse().unwrap()))));
        said.push(format!("{:?} {:?} {:?}", permit.limits(), permit.leases(), permit.is_unrestricted()));
    }
    said.push(format!("{:?} {:?}", policy.audit(), policy.signing()));
    said
}

#[test]
fn a_cached_policy_says_the_same() {
    let node = Node::new(STRICT);
    let read = node.load();
    assert!(node.is_cached());
    let cached = open(node.place.path(), &node.cache).unwrap();
    assert_eq!(decisions(&cached), decisions(&read));
    assert!(decisions(&read)[6].contains("forbids it"), "{:?}", decisions(&read));
    assert_eq!(fs::metadata(&node.cache).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(decisions(&node.load()), decisions(&read));
}

#[test]
fn every_damage_is_noticed() {
    let node = Node::new(STRICT);
    let right = decisions(&node.load());
    let good = fs::read(&node.cache).unwrap();
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        fs::write(&node.cache, &bad).unwrap();
        assert!(!node.is_cached(), "bit {bit}");
    }
    for length in 0..good.len() {
        fs::write(&node.cache, &good[..length]).unwrap();
        assert!(!node.is_cached(), "length {length}");
    }
    fs::write(&node.cache, [good.as_slice(), b"x"].concat()).unwrap();
    assert!(!node.is_cached());
    // And it is put right.
    assert_eq!(decisions(&node.load()), right);
    assert!(node.is_cached());
    assert_eq!(fs::read(&node.cache).unwrap(), good);
}

#[test]
fn a_cache_of_others_is_not_used() {
    let node = Node::new(STRICT);
    let right = decisions(&node.load());
    for mode in [0o644, 0o620, 0o602, 0o4600, 0o700] {
        fs::set_permissions(&node.cache, Permissions::from_mode(mode)).unwrap();
        assert!(!node.is_cached(), "{mode:o}");
        assert_eq!(decisions(&node.load()), right);
        assert!(node.is_cached(), "{mode:o}");
    }
    let elsewhere = node.cache.with_file_name("elsewhere");
    fs::rename(&node.cache, &elsewhere).unwrap();
    symlink(&elsewhere, &node.cache).unwrap();
    assert!(!node.is_cached());
    assert_eq!(decisions(&node.load()), right);
    assert!(node.is_cached());
    if geteuid().is_root() && chown(&node.cache, Some(1), None).is_ok() {
        assert!(!node.is_cached());
        assert_eq!(decisions(&node.load()), right);
    }
    // What somebody prepared for it to be written into is not used either.
    fs::remove_file(&node.cache).unwrap();
    let unfinished = node.cache.with_extension("cache.new");
    fs::write(&unfinished, "x").unwrap();
    fs::set_permissions(&unfinished, Permissions::from_mode(0o666)).unwrap();
    assert_eq!(decisions(&node.load()), right);
    assert!(!node.is_cached());
    node.load();
    assert!(node.is_cached());
    // Nor is it a reason to fail.
    fs::remove_file(&node.cache).unwrap();
    fs::create_dir(&node.cache).unwrap();
    assert_eq!(decisions(&node.load()), right);
}

#[test]
fn whatever_happens_to_the_files_makes_it_worthless() {
    type Change = fn(&Place);
    let changes: [Change; 8] = [
        |place| place.write("policy.toml", LENIENT),
        |place| place.write("policy.toml", STRICT),
        |place| place.write("policy.d/a.toml", LENIENT),
        |place| place.write("policy.d/b.toml", LENIENT),
        |place| fs::remove_file(place.path().join("policy.toml")).unwrap(),
        |place| fs::remove_dir_all(place.path().join("policy.d")).unwrap(),
        |place| {
            // The same size and time.
            let path = place.path().join("policy.toml");
            let modified = fs::metadata(&path).unwrap().modified().unwrap();
            let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, STRICT.replace("br-a", "br-z").as_bytes(), 0)
                .unwrap();
            file.set_modified(modified).unwrap();
        },
        |place| {
            // Another file of the same content.
            fs::rename(place.path().join("policy.toml"), place.path().join("old")).unwrap();
            place.write("policy.toml", STRICT);
        },
    ];
    for (number, change) in changes.iter().enumerate() {
        let node = Node::new(STRICT);
        node.load();
        assert!(node.is_cached());
        // Further apart than ticks of the kernel's clock.
        std::thread::sleep(Duration::from_millis(20));
        change(&node.place);
        assert!(!node.is_cached(), "change {number}");
        let uncached = Policy::of(crate::policy::read(node.place.path()).0).unwrap();
        assert_eq!(decisions(&node.load()), decisions(&uncached), "change {number}");
    }
    let node = Node::new(STRICT);
    node.load();
    node.place.set_mode("policy.toml", 0o666);
    assert!(!node.is_cached() && load(node.place.path(), &node.cache, Duration::ZERO).is_err());
}

#[test]
fn the_cache_of_another_policy_is_not_used() {
    let (strict, lenient) = (Node::new(STRICT), Node::new(LENIENT));
    let right = decisions(&strict.load());
    assert_ne!(decisions(&lenient.load()), right);
    fs::copy(&lenient.cache, &strict.cache).unwrap();
    assert!(!strict.is_cached());
    assert_eq!(decisions(&strict.load()), right);
    // An older one of its own.
    let old = fs::read(&strict.cache).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    strict.place.write("policy.toml", "bundled = \"by-rule\"");
    let narrower = decisions(&strict.load());
    fs::write(&strict.cache, old).unwrap();
    assert_eq!(decisions(&strict.load()), narrower);
}

#[test]
fn files_that_were_just_changed_are_not_cached() {
    let node = Node::new(STRICT);
    load(node.place.path(), &node.cache, SETTLED).unwrap();
    assert!(!node.cache.exists());
}

#[test]
fn a_directory_that_cannot_be_written_does_not_matter() {
    let node = Node::new(STRICT);
    let policy =
        load(node.place.path(), std::path::Path::new("/proc/weir/policy.cache"), Duration::ZERO).unwrap();
    assert_eq!(decisions(&policy), decisions(&node.load()));
}
