use std::fs::TryLockError;
use std::thread;

use super::*;
use crate::catalog::tests::COMPONENT;
use crate::catalog::{self, Origin};
use crate::engine::engine;

fn add(paths: &Paths, kind: &str, bytes: &[u8]) -> Result<(Digest, Change), Failure> {
    let described =
        compiler::describe(bytes).map_err(|error| Failure::new(code::COMPONENT, error.to_string()))?;
    Writer::open(paths)?.add(kind, &described.component, &described.description, None)
}

/// The component with a section at its end that means nothing.
fn version(number: u8) -> Vec<u8> {
    [COMPONENT, &[0, 2, 1, number]].concat()
}

fn everything(paths: &Paths) -> Vec<String> {
    let root = paths.state().join("plugins");
    let names = ["components", "compiled", "records", "types"];
    let mut found: Vec<String> = names
        .iter()
        .flat_map(|name| fs::read_dir(root.join(name)).into_iter().flatten().flatten())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    found
}

#[test]
fn versions_replace_each_other_and_stay() {
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths::below(directory.path());
    assert!(catalog::find(&paths, "acme").unwrap().is_none());
    let (one, change) = add(&paths, "acme", COMPONENT).unwrap();
    assert_eq!((one.clone(), change), (Digest::of(COMPONENT), Change::Added));
    assert_eq!(add(&paths, "acme", COMPONENT).unwrap().1, Change::None);
    let held = catalog::find(&paths, "acme").unwrap().unwrap();
    assert_eq!((held.name, held.origin), ("acme", Origin::Installed));
    assert!(held.is_ipam_plugin && !held.is_interface_plugin && held.digest == one.to_string());
    let (two, change) = add(&paths, "acme", &version(2)).unwrap();
    assert_eq!(change, Change::Replaced(one.clone()));
    assert_eq!(catalog::find(&paths, "acme").unwrap().unwrap().digest, two.to_string());
    let writer = Writer::open(&paths).unwrap();
    assert!(writer.remove("acme", Some(&two)).unwrap_err().message.contains("in use"));
    writer.switch("acme", &one).unwrap();
    writer.remove("acme", Some(&two)).unwrap();
    assert!(writer.switch("acme", &two).is_err());
    assert_eq!(writer.remove("acme", None).unwrap(), [one]);
    assert_eq!(everything(&paths), Vec::<String>::new());
    assert!(catalog::find(&paths, "acme").unwrap().is_none());
    // A call that was under way still has what it needs.
    crate::aot::load(engine().unwrap(), &held).unwrap();
}

#[test]
fn a_component_may_serve_two_types() {
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths::below(directory.path());
    let (digest, _) = add(&paths, "one", COMPONENT).unwrap();
    assert_eq!(add(&paths, "two", COMPONENT).unwrap(), (digest.clone(), Change::Restored));
    assert_eq!(catalog::names(&paths).unwrap()[catalog::bundled_names().count()..], ["one", "two"]);
    let writer = Writer::open(&paths).unwrap();
    writer.remove("one", None).unwrap();
    assert!(catalog::find(&paths, "one").unwrap().is_none());
    assert_eq!(writer.store().record(&digest).unwrap().unwrap().types, ["two"]);
    crate::aot::load(engine().unwrap(), &catalog::find(&paths, "two").unwrap().unwrap()).unwrap();
}

#[test]
fn code_for_another_weir_stays_until_it_is_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths::below(directory.path());
    let (digest, _) = add(&paths, "acme", COMPONENT).unwrap();
    let after = everything(&paths);
    let writer = Writer::open(&paths).unwrap();
    let mut record = writer.store().record(&digest).unwrap().unwrap();
    let code = record.compiled.remove(COMPILED_FOR).unwrap();
    record.compiled.insert("other".to_owned(), code);
    writer.write_record(&record).unwrap();
    let [own, other] = [COMPILED_FOR, "other"]
        .map(|engine| paths.state().join("plugins/compiled").join(compiled_name(&digest, engine)));
    fs::rename(own, other).unwrap();
    let before = everything(&paths);
    writer.forget_other_engines().unwrap();
    assert_eq!(everything(&paths), before, "there is nothing else yet");
    assert!(writer.store().is_outdated().unwrap());
    assert_eq!(writer.refresh().unwrap().compiled, 1);
    assert!(!writer.store().is_outdated().unwrap());
    let engines = writer.store().record(&digest).unwrap().unwrap().compiled;
    assert_eq!((engines.len(), everything(&paths).len()), (2, before.len() + 1));
    writer.forget_other_engines().unwrap();
    assert_eq!(everything(&paths), after);
    crate::aot::load(engine().unwrap(), &catalog::find(&paths, "acme").unwrap().unwrap()).unwrap();
}

#[test]
fn damaged_records_keep_nobody_from_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths::below(directory.path());
    let (one, _) = add(&paths, "acme", COMPONENT).unwrap();
    let (two, _) = add(&paths, "acme", &version(2)).unwrap();
    let (three, _) = add(&paths, "other", &version(3)).unwrap();
    for digest in [&one, &two] {
        fs::write(paths.state().join(format!("plugins/records/{}.json", digest.hex())), "{").unwrap();
    }
    let writer = Writer::open(&paths).unwrap();
    let readable: Vec<Digest> = writer
        .store()
        .records()
        .unwrap()
        .into_iter()
        .filter_map(|(digest, record)| record.is_ok().then_some(digest))
        .collect();
    assert_eq!(readable, [three]);
    let failed = writer.refresh().unwrap().failed;
    let in_use: Vec<Option<&str>> = failed.iter().map(|outdated| outdated.in_use_by.as_deref()).collect();
    assert!(in_use.contains(&None) && in_use.contains(&Some("acme")), "{failed:?}");
    // Nobody knows what the first was for, unless it is named.
    assert_eq!(writer.remove("acme", None).unwrap(), [two]);
    assert_eq!(writer.remove("acme", Some(&one)).unwrap(), [one]);
    writer.remove("other", None).unwrap();
    assert_eq!(everything(&paths), Vec::<String>::new());
}

#[test]
fn what_an_interrupted_process_left_is_swept_away() {
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths::below(directory.path());
    add(&paths, "acme", COMPONENT).unwrap();
    let before = everything(&paths);
    let other = Digest::of(b"other");
    for name in [
        format!("components/{}.wasm", other.hex()),
        format!("components/.{}.wasm", other.hex()),
        format!("compiled/{}-0123.cwasm", other.hex()),
        format!("compiled/{}-0123.cwasm", Digest::of(COMPONENT).hex()),
        "types/.acme".to_owned(),
    ] {
        fs::write(paths.state().join("plugins").join(name), b"half").unwrap();
    }
    drop(Writer::open(&paths).unwrap());
    assert_eq!(everything(&paths), before);
}

#[test]
fn one_writer_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let paths = Paths::below(directory.path());
    let first = Writer::open(&paths).unwrap();
    let lock = first.store.root.lock_file("lock").unwrap();
    assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)));
    drop(first);
    // A program that another test is about to execute may still have it.
    lock.lock().unwrap();
}

/// A generator of numbers that is the same in each run (xorshift).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % limit as u64).unwrap_or_default()
    }
}

fn mutation(numbers: &mut Numbers) -> Vec<u8> {
    let mut bytes = COMPONENT.to_vec();
    for _ in 0..=numbers.below(3) {
        let place = numbers.below(bytes.len());
        match numbers.below(4) {
            0 => bytes[place] ^= 1 << numbers.below(8),
            1 => bytes[place] = u8::try_from(numbers.below(256)).unwrap_or_default(),
            2 => bytes.truncate(place.max(1)),
            _ => {
                let end = (place + numbers.below(64)).min(bytes.len());
                bytes.drain(place..end);
            }
        }
    }
    bytes
}

/// Installs mutations; returns how many could be installed.
fn install_mutations(count: usize, seed: u64) -> usize {
    let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    let paths = Paths::below(directory.path());
    let mut numbers = Numbers(seed);
    let mut installed = 0;
    for number in 0..count {
        match add(&paths, "acme", &mutation(&mut numbers)) {
            Ok((digest, _)) => {
                installed += 1;
                let plugin = catalog::find(&paths, "acme").unwrap().unwrap();
                assert_eq!(plugin.digest, digest.to_string());
                crate::role::check(engine().unwrap(), &plugin).unwrap();
                Writer::open(&paths).unwrap().remove("acme", None).unwrap();
            }
            Err(failure) => {
                assert_eq!(failure.code, code::COMPONENT, "{seed} {number}: {failure}");
                assert!(!failure.message.contains("the compiler "), "{seed} {number}: {failure}");
            }
        }
        assert_eq!(everything(&paths), Vec::<String>::new(), "{seed} {number}");
    }
    installed
}

#[test]
fn a_thousand_mutations_are_installed_whole_or_not_at_all() {
    let installed: usize = thread::scope(|scope| {
        let workers: Vec<_> = (1..=4).map(|seed| scope.spawn(move || install_mutations(250, seed))).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).sum()
    });
    // Otherwise nothing was tested beyond the first look.
    assert!((10..990).contains(&installed), "{installed} could be installed");
}
