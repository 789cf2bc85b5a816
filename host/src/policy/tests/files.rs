//! Which files are read, and which are not trusted.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;

use nix::sys::stat::Mode;
use nix::unistd::{geteuid, mkfifo};

use crate::policy::files;
use crate::policy::{Document, Policy, Problem};

/// A policy's directory.
pub(super) struct Place(tempfile::TempDir);

impl Place {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            place.write(name, text);
        }
        place
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, whatever the umask is.
    pub(super) fn write(&self, name: &str, text: &str) {
        let path = self.path().join(name);
        let parent = path.parent().unwrap();
        if !parent.is_dir() {
            fs::create_dir(parent).unwrap();
            fs::set_permissions(parent, Permissions::from_mode(0o755)).unwrap();
        }
        fs::write(&path, text).unwrap();
        self.set_mode(name, 0o644);
    }

    pub(super) fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path().join(name), Permissions::from_mode(mode)).unwrap();
    }

    fn read(&self) -> Document {
        files::read(self.path()).0
    }

    /// What is wrong; there has to be something, and it has to stop a call.
    fn problems(&self) -> String {
        let problems: Vec<String> = self.read().problems.iter().map(Problem::to_string).collect();
        assert!(!problems.is_empty());
        assert!(Policy::load(self.path(), &self.path().join("cache")).is_err());
        assert!(!self.path().join("cache").exists());
        problems.join("\n")
    }
}

const RULE: &str = "[[allow]]\nplugin = \"acme\"\n";

#[test]
fn files_count_in_the_order_of_their_names() {
    let place = Place::new(&[
        ("policy.d/b.toml", RULE),
        ("policy.d/a.toml", RULE),
        ("policy.toml", RULE),
        ("policy.d/.hidden.toml", "?"),
        ("policy.d/a.toml~", "?"),
    ]);
    let (document, ignored) = files::read(place.path());
    assert_eq!(document.problems, []);
    let names = ["policy.toml", "policy.d/a.toml", "policy.d/b.toml"];
    assert_eq!(document.files, names.map(|name| place.path().join(name)));
    assert_eq!(document.rules.iter().map(|rule| rule.body.file).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(ignored, [".hidden.toml", "a.toml~"].map(|name| place.path().join("policy.d").join(name)));
}

#[test]
fn either_of_the_two_is_enough() {
    assert!(!files::exist(Place::new(&[]).path()).unwrap());
    assert!(!files::exist(Path::new("/nonexistent/weir")).unwrap());
    for name in ["policy.toml", "policy.d/a.toml"] {
        let place = Place::new(&[(name, RULE)]);
        assert!(files::exist(place.path()).unwrap());
        assert_eq!(place.read().rules.len(), 1);
    }
    let empty = Place::new(&[("policy.d/x", "")]);
    assert!(empty.read().problems.is_empty() && empty.read().files.is_empty());
}

#[test]
fn what_others_can_change_is_not_trusted() {
    for (name, mode) in [
        ("policy.toml", 0o664),
        ("policy.toml", 0o602),
        ("policy.d/a.toml", 0o666),
        ("policy.d", 0o775),
        ("policy.d", 0o1777),
        ("", 0o777),
    ] {
        let place = Place::new(&[("policy.toml", RULE), ("policy.d/a.toml", RULE)]);
        place.set_mode(name, mode);
        let problems = place.problems();
        assert!(problems.contains("chmod go-w") && problems.contains(name), "{problems}");
    }
    if geteuid().is_root() {
        for name in ["policy.toml", "policy.d/a.toml", "policy.d", ""] {
            let place = Place::new(&[("policy.toml", RULE), ("policy.d/a.toml", RULE)]);
            // In a user namespace there may be nobody to give it to.
            if chown(place.path().join(name), Some(1), None).is_ok() {
                assert!(place.problems().contains("chown root"), "{name}");
            }
        }
    }
}

#[test]
fn symbolic_links_are_not_followed() {
    for name in ["policy.toml", "policy.d/a.toml"] {
        let place = Place::new(&[("policy.d/z.toml", RULE), ("elsewhere", RULE)]);
        symlink(place.path().join("elsewhere"), place.path().join(name)).unwrap();
        assert!(place.problems().contains("symbolic link"), "{name}");
        // Nor is one to nothing taken for no policy.
        fs::remove_file(place.path().join("elsewhere")).unwrap();
        assert!(place.problems().contains("symbolic link"), "{name}");
    }
    let place = Place::new(&[("elsewhere/a.toml", RULE)]);
    symlink(place.path().join("elsewhere"), place.path().join("policy.d")).unwrap();
    assert!(place.problems().contains("symbolic link"));
}

#[test]
fn what_is_no_text_file_is_refused_and_not_waited_for() {
    let place = Place::new(&[]);
    mkfifo(&place.path().join("policy.toml"), Mode::S_IRWXU).unwrap();
    assert!(place.problems().contains("no regular file"));
    let place = Place::new(&[("policy.d/x", "")]);
    fs::create_dir(place.path().join("policy.d/a.toml")).unwrap();
    assert!(place.problems().contains("no regular file"));
    let place = Place::new(&[("policy.toml", "")]);
    fs::write(place.path().join("policy.toml"), b"# \xff").unwrap();
    assert!(place.problems().contains("UTF-8"));
    place.write("policy.toml", &"#".repeat(2 << 20));
    assert!(place.problems().contains("longer than"));
    let place = Place::new(&[("policy.d", "")]);
    assert!(place.problems().contains("no directory"));
}

#[test]
fn all_files_are_looked_at_even_if_one_is_wrong() {
    let place = Place::new(&[
        ("policy.toml", "x = 1"),
        ("policy.d/a.toml", "[[allow]]\nbridge = 1"),
        ("policy.d/b.toml", RULE),
        ("policy.d/c.toml", "[["),
    ]);
    place.set_mode("policy.d/b.toml", 0o666);
    let problems = place.problems();
    for name in ["policy.toml:1:1", "a.toml:2:1", "b.toml", "c.toml:1:"] {
        assert!(problems.contains(name), "{name}: {problems}");
    }
}
