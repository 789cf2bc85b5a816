use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::thread;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::*;

const WAIT: Duration = Duration::from_secs(5);

/// A directory of weir's state.
struct State(tempfile::TempDir);

impl State {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn location(&self, network: &str, plugin: &str) -> Location {
        let [network, plugin] = [network, plugin].map(str::to_owned);
        Location { state: self.0.path().to_owned(), network, plugin }
    }

    fn open(&self) -> Bucket {
        Bucket::open(&self.location("n", "p"), WAIT).unwrap()
    }

    /// The file for a key.
    fn file(&self, key: &str) -> PathBuf {
        self.location("n", "p").directory().join(key::file_name(key).unwrap())
    }
}

fn value(bytes: &[u8]) -> Value {
    Value::new(bytes.to_vec()).unwrap()
}

fn bytes(bucket: &Bucket, key: &str) -> Option<Vec<u8>> {
    bucket.get(key).unwrap().map(Value::into_bytes)
}

#[test]
fn values_stay_until_they_are_removed() {
    let state = State::new();
    let bucket = state.open();
    assert_eq!(bytes(&bucket, "a"), None);
    for text in [&b""[..], b"one", &[0xff; VALUE_LIMIT]] {
        bucket.set("a", &value(text)).unwrap();
        assert_eq!(bytes(&bucket, "a").as_deref(), Some(text));
    }
    drop(bucket);
    let bucket = state.open();
    assert_eq!(bytes(&bucket, "a"), Some(vec![0xff; VALUE_LIMIT]));
    bucket.remove("a").unwrap();
    bucket.remove("a").unwrap();
    assert_eq!((bytes(&bucket, "a"), bucket.keys().unwrap()), (None, Vec::new()));
}

#[test]
fn every_key_is_a_key_of_its_own() {
    let state = State::new();
    let bucket = state.open();
    let long = "\u{10ffff}".repeat(32);
    // The last two are the same letter in two spellings.
    let keys = [
        "../x",
        "/etc/passwd",
        "\0",
        ".",
        "..",
        "a",
        "A",
        "a ",
        " a",
        "a\n",
        "lock",
        ".unfinished",
        "k/",
        "k",
        &long,
        "\u{e9}",
        "e\u{301}",
    ];
    for key in keys {
        bucket.set(key, &value(key.as_bytes())).unwrap();
    }
    for key in keys {
        assert_eq!(bytes(&bucket, key).as_deref(), Some(key.as_bytes()), "{key:?}");
    }
    let mut sorted = keys.map(str::to_owned);
    sorted.sort();
    assert_eq!(bucket.keys().unwrap(), sorted);
    // All of them are files of the bucket, and nothing else is.
    assert_eq!(fs::read_dir(state.location("n", "p").directory()).unwrap().count(), keys.len());
    assert_eq!(fs::read_dir(state.0.path()).unwrap().count(), 1);
    for key in ["", &"k".repeat(129), &format!("{long}k")] {
        assert!(matches!(bucket.get(key), Err(BucketError::Invalid(_))), "{key:?}");
        assert!(matches!(bucket.set(key, &value(b"")), Err(BucketError::Invalid(_))), "{key:?}");
        assert!(matches!(bucket.remove(key), Err(BucketError::Invalid(_))), "{key:?}");
    }
}

#[test]
fn networks_and_plugins_are_apart() {
    let state = State::new();
    state.open().set("a", &value(b"1")).unwrap();
    for (network, plugin) in [("n", "q"), ("m", "p")] {
        let other = Bucket::open(&state.location(network, plugin), WAIT).unwrap();
        assert_eq!(other.keys().unwrap(), Vec::<String>::new());
        other.set("a", &value(b"2")).unwrap();
    }
    assert_eq!(bytes(&state.open(), "a").as_deref(), Some(&b"1"[..]));
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let state = State::new();
    for (network, plugin) in
        [("..", "p"), ("n", ".."), (".", "p"), ("n", "."), ("", "p"), ("n", "a/b"), ("n", "\0")]
    {
        let location = state.location(network, plugin);
        assert!(!location.prepare(true), "{location:?}");
        assert!(matches!(Bucket::open(&location, WAIT), Err(BucketError::Invalid(_))), "{location:?}");
        assert!(
            matches!(Bucket::open_existing(&location, WAIT), Err(BucketError::Invalid(_))),
            "{location:?}"
        );
    }
    assert_eq!(fs::read_dir(state.0.path()).unwrap().count(), 0);
}

#[test]
fn reading_makes_nothing() {
    let state = State::new();
    assert!(Bucket::open_existing(&state.location("n", "p"), WAIT).unwrap().is_none());
    assert!(!state.location("n", "p").prepare(false));
    assert_eq!(fs::read_dir(state.0.path()).unwrap().count(), 0);
    assert!(state.location("n", "p").prepare(true) && state.location("n", "p").prepare(false));
}

#[test]
fn only_the_owner_has_access() {
    let state = State::new();
    state.open().set("a", &value(b"1")).unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let root = state.0.path();
    for directory in ["buckets", "buckets/n", "buckets/n/p"] {
        assert_eq!(mode(root.join(directory)), 0o700, "{directory}");
    }
    assert_eq!(mode(state.file("a")), 0o600);
}

#[test]
fn a_bucket_is_open_once() {
    let state = State::new();
    let location = state.location("n", "p");
    let held = state.open();
    for opened in [
        Bucket::open(&location, Duration::from_millis(20)).map(drop),
        Bucket::open_existing(&location, Duration::ZERO).map(drop),
    ] {
        assert!(matches!(opened, Err(BucketError::Busy { .. })), "{opened:?}");
    }
    let waiter = thread::spawn(move || Bucket::open(&location, WAIT).unwrap().keys().unwrap());
    thread::sleep(Duration::from_millis(20));
    held.set("a", &value(b"1")).unwrap();
    drop(held);
    assert_eq!(waiter.join().unwrap(), ["a"]);
}

#[test]
fn there_is_room_for_so_many_keys() {
    let state = State::new();
    let bucket = state.open();
    for number in 0..KEYS_LIMIT {
        bucket.check_room().unwrap();
        bucket.set(&number.to_string(), &value(b"")).unwrap();
    }
    assert!(matches!(bucket.check_room(), Err(BucketError::Limit(_))));
    bucket.remove("7").unwrap();
    bucket.check_room().unwrap();
}

#[test]
fn what_weir_did_not_write_is_no_value() {
    let state = State::new();
    let bucket = state.open();
    bucket.set("good", &value(b"1")).unwrap();
    let good = fs::read(state.file("good")).unwrap();
    let elsewhere = state.0.path().join("elsewhere");
    fs::write(&elsewhere, &good).unwrap();
    fs::write(state.file("empty"), "").unwrap();
    fs::write(state.file("torn"), &good[..good.len() - 1]).unwrap();
    fs::write(state.file("copied"), &good).unwrap();
    fs::write(state.file("long"), vec![0; 1 << 20]).unwrap();
    symlink(&elsewhere, state.file("link")).unwrap();
    symlink("nowhere", state.file("dangling")).unwrap();
    mkfifo(&state.file("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
    bucket.set("writable", &value(b"1")).unwrap();
    fs::set_permissions(state.file("writable"), Permissions::from_mode(0o666)).unwrap();
    let keys = ["copied", "dangling", "empty", "fifo", "link", "long", "torn", "writable"];
    for key in keys {
        let error = bucket.get(key).unwrap_err();
        assert!(matches!(error, BucketError::Damaged { .. }), "{key}: {error}");
        assert!(error.to_string().contains(&state.file(key).display().to_string()), "{key}: {error}");
        // To take something back does not make it worse.
        bucket.restore(key, None, Some(1)).unwrap();
        bucket.restore(key, None, None).unwrap();
        assert!(bucket.keys().unwrap().iter().any(|known| known == key), "{key}");
    }
    for (number, key) in keys.into_iter().enumerate() {
        if number % 2 == 0 {
            bucket.remove(key).unwrap();
            assert_eq!(bytes(&bucket, key), None, "{key}");
        } else {
            bucket.set(key, &value(b"2")).unwrap();
            assert_eq!(bytes(&bucket, key).as_deref(), Some(&b"2"[..]), "{key}");
        }
    }
    assert_eq!(fs::read(&elsewhere).unwrap(), good, "a link was followed");
    for name in ["lock", "UPPER", "notes.txt", ".hidden"] {
        fs::write(state.location("n", "p").directory().join(name), &good).unwrap();
    }
    assert_eq!(bucket.keys().unwrap().len(), 1 + keys.len() / 2);
}

#[test]
fn a_killed_writer_leaves_the_value_before() {
    let state = State::new();
    let bucket = state.open();
    bucket.set("a", &value(b"1")).unwrap();
    let unfinished = state.location("n", "p").directory().join(".unfinished");
    // Of whatever kind what it left is.
    fs::write(&unfinished, "WB").unwrap();
    assert_eq!(bytes(&bucket, "a").as_deref(), Some(&b"1"[..]));
    assert_eq!(bucket.keys().unwrap(), ["a"]);
    bucket.set("a", &value(b"2")).unwrap();
    symlink("/dev/null", &unfinished).unwrap();
    bucket.set("b", &value(b"3")).unwrap();
    assert!(!unfinished.exists());
    assert_eq!(bytes(&bucket, "b").as_deref(), Some(&b"3"[..]));
}

#[test]
fn a_place_that_others_may_change_is_not_trusted() {
    for name in ["buckets", "buckets/n", "buckets/n/p"] {
        let state = State::new();
        let location = state.location("n", "p");
        state.open().set("a", &value(b"1")).unwrap();
        let path = state.0.path().join(name);
        let expect = |reason: &str| {
            assert!(!location.prepare(true), "{name}");
            for opened in
                [Bucket::open(&location, WAIT).map(drop), Bucket::open_existing(&location, WAIT).map(drop)]
            {
                let error = opened.unwrap_err();
                assert!(matches!(error, BucketError::Untrusted { .. }), "{name}: {error}");
                assert!(error.to_string().contains(reason), "{name}: {error}");
            }
        };
        fs::set_permissions(&path, Permissions::from_mode(0o770)).unwrap();
        expect("others may write");
        fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
        Bucket::open(&location, WAIT).unwrap();
        let moved = state.0.path().join("moved");
        fs::rename(&path, &moved).unwrap();
        symlink(&moved, &path).unwrap();
        expect("symbolic link");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        expect("no directory");
    }
}

#[test]
fn a_change_is_taken_back_unless_it_was_changed_again() {
    let state = State::new();
    let bucket = state.open();
    let (one, two, three) = (value(b"1"), value(b"2"), value(b"3"));
    // It was set where there was nothing, and set once more.
    bucket.set("a", &two).unwrap();
    bucket.restore("a", Some(&one), Some(two.tag())).unwrap();
    assert_eq!(bucket.get("a").unwrap(), Some(one.clone()));
    // The earlier one has its tag again, so that the change before it goes too.
    bucket.restore("a", None, Some(one.tag())).unwrap();
    assert_eq!(bucket.get("a").unwrap(), None);
    // Once more does no harm.
    bucket.restore("a", Some(&one), Some(two.tag())).unwrap();
    assert_eq!(bucket.get("a").unwrap(), None);
    // It was removed.
    bucket.restore("a", Some(&one), None).unwrap();
    assert_eq!(bucket.get("a").unwrap(), Some(one.clone()));
    // Somebody else has set it since, be it to the same.
    bucket.set("a", &three).unwrap();
    for written in [None, Some(one.tag()), Some(value(b"3").tag())] {
        bucket.restore("a", Some(&two), written).unwrap();
        assert_eq!(bucket.get("a").unwrap().as_ref(), Some(&three));
    }
    // It was to be set, and the call was killed before.
    bucket.restore("a", Some(&three), Some(two.tag())).unwrap();
    assert_eq!(bucket.get("a").unwrap(), Some(three));
}
