//! What a policy costs a call: `cargo test --release -p weir --lib -- --ignored
//! --nocapture policy_cost`.

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use super::files::Place;
use crate::policy::cache::load;
use crate::policy::{Operation, Policy, Subject};

fn rules(numbers: std::ops::Range<u32>) -> String {
    let mut text = String::new();
    for number in numbers {
        let effect = if number % 5 == 4 { "deny" } else { "allow" };
        write!(
            text,
            "[[{effect}]]\nname = \"tenant {number}\"\nnetwork = [\"tenant-{number}-*\", \"net-{number}\"]\nplugin = [\"bridge\", \"acme\"]\ntenant = \"team-{number}\"\nlinks = [\"veth*\"]\nbridges = [\"br-{number}\"]\naddresses = [\"10.{}.{}.0/24\", \"fd00:{number}::/64\"]\n",
            number / 256,
            number % 256
        )
        .unwrap();
    }
    text
}

fn median(mut work: impl FnMut()) -> Duration {
    let mut times: Vec<Duration> = (0..501)
        .map(|_| {
            let begun = Instant::now();
            work();
            begun.elapsed()
        })
        .collect();
    times.sort();
    times[times.len() / 2]
}

/// What an ADD does: the policy is read, two plugins get their permits, and
/// twenty operations are checked.
fn add(directory: &Path, cache: &Path) {
    let policy = load(directory, cache, Duration::ZERO).unwrap();
    for plugin in ["bridge", "host-local"] {
        let subject = Subject {
            network: "tenant-250-a",
            plugin,
            digest: "sha256:0",
            tenant: Some("team-250"),
            is_bundled: true,
        };
        let permit = policy.permit(&subject);
        for _ in 0..10 {
            black_box(permit.check(&Operation::Bridge("br-250"))).unwrap();
        }
    }
}

#[test]
#[ignore = "it measures"]
fn policy_cost() {
    let first = rules(0..100);
    let parts: Vec<(String, String)> =
        (1..5).map(|part| (format!("policy.d/{part}.toml"), rules(part * 100..(part + 1) * 100))).collect();
    let mut files = vec![("policy.toml", first.as_str())];
    files.extend(parts.iter().map(|(name, text)| (name.as_str(), text.as_str())));
    let place = Place::new(&files);
    let cache = place.path().join("cache");
    add(place.path(), &cache);
    let size = std::fs::metadata(&cache).unwrap().len();
    let cached = median(|| add(place.path(), &cache));
    let opened = median(|| drop(black_box(load(place.path(), &cache, Duration::ZERO))));
    let uncached = median(|| drop(black_box(load(place.path(), Path::new("/proc/weir/x"), Duration::ZERO))));
    let nothing = Place::new(&[]);
    let none = median(|| drop(black_box(Policy::load(nothing.path(), &cache))));
    println!(
        "500 rules in 5 files, cache of {size} bytes: cached {cached:?} an ADD, of which reading is {opened:?}; uncached {uncached:?}; no policy {none:?}"
    );
    assert!(cached < Duration::from_millis(5));
}
