//! `weir install`, and weir's help.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::Test;
use crate::lab::{Lab, Plugins, line, require};

/// Every plugin type.
const TYPES: [&str; 5] = ["bridge", "host-local", "loopback", "ptp", "static"];

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("help: weir explains itself", help),
        Test::new("help: a plugin called without CNI_COMMAND says what it is", about),
        Test::new("install: weir and relative links to it are put into a directory", fresh),
        Test::new("install: only the named types are linked", some),
        Test::new("install: an unknown type is refused, and nothing is done", unknown),
        Test::new("install: programs of others are refused, and replaced with --replace", foreign),
        Test::new("install: a program that runs meanwhile is replaced by a rename", by_rename),
        Test::new("install: an installed directory can be moved", moved),
        Test::new("install: what an interrupted installation left is removed", interrupted),
        Test::new("start: the code is where large pages can be, and asks for them", large_pages),
    ]
}

struct Installed {
    lab: Lab,
    directory: PathBuf,
}

impl Installed {
    fn new() -> anyhow::Result<Self> {
        let lab = Lab::new(Plugins::Weir)?;
        let directory = lab.path("opt/cni/bin");
        Ok(Self { lab, directory })
    }

    /// Runs `weir install`; what it printed, and whether it succeeded.
    fn install(&self, arguments: &str) -> anyhow::Result<(bool, String)> {
        let weir = self.lab.bin.join("weir");
        let command =
            format!("{} install --bin-dir {} {arguments}", weir.display(), self.directory.display());
        let output = self.lab.node.enter(|| line(command.trim()).run())?;
        Ok((output.status.success(), format!("{}{}", output.stdout, output.stderr)))
    }

    fn succeed(&self, arguments: &str) -> anyhow::Result<()> {
        let (success, text) = self.install(arguments)?;
        ensure!(success, "install {arguments}: {text}");
        Ok(())
    }

    fn fail(&self, arguments: &str, word: &str) -> anyhow::Result<()> {
        let (success, text) = self.install(arguments)?;
        ensure!(!success && text.contains(word), "install {arguments}: it does not mention {word:?}: {text}");
        Ok(())
    }

    /// The directory's content, sorted.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// An installed plugin answers VERSION.
    fn answers(&self, directory: &Path, plugin: &str) -> anyhow::Result<()> {
        let reply = self.lab.run(&self.lab.call_binary(directory.join(plugin), "VERSION"))?.success()?;
        let versions = reply["supportedVersions"].as_array().map_or(0, Vec::len);
        ensure!(versions == 7, "{plugin} answers {reply}");
        Ok(())
    }
}

fn help() -> anyhow::Result<()> {
    let lab = Lab::new(Plugins::Weir)?;
    let weir = lab.bin.join("weir");
    let text = line(&format!("{} --help", weir.display())).succeed()?;
    for word in ["try", "install", "attachments", "CNI_COMMAND", "bridge"] {
        ensure!(text.contains(word), "the help does not mention {word:?}: {text}");
    }
    for command in ["try", "install", "attachments"] {
        let text = line(&format!("{} {command} --help", weir.display())).succeed()?;
        ensure!(text.contains("Usage:"), "the help of {command} is {text}");
    }
    let output = line(&format!("{} nonsense", weir.display())).run()?;
    ensure!(!output.status.success() && output.stderr.contains("nonsense"), "it says {}", output.stderr);
    Ok(())
}

fn about() -> anyhow::Result<()> {
    let lab = Lab::new(Plugins::Weir)?;
    for plugin in TYPES {
        let output = line(&lab.bin.join(plugin).display().to_string()).run()?;
        ensure!(
            output.status.success() && output.stdout.is_empty(),
            "{plugin}: {}, {}",
            output.status,
            output.stdout
        );
        ensure!(
            output.stderr.contains(plugin) && output.stderr.contains("1.1.0"),
            "{plugin} says {}",
            output.stderr
        );
    }
    Ok(())
}

fn fresh() -> anyhow::Result<()> {
    let installed = Installed::new()?;
    // Twice, as an update does.
    for _ in 0..2 {
        installed.succeed("")?;
        let mut expected = TYPES.to_vec();
        expected.push("weir");
        ensure!(installed.names() == expected, "installed are {:?}", installed.names());
        let program = fs::symlink_metadata(installed.directory.join("weir"))?;
        ensure!(program.is_file() && program.mode() & 0o7777 == 0o755, "weir is {program:?}");
        let [copy, own] =
            [&installed.directory, &installed.lab.bin].map(|place| fs::read(place.join("weir")));
        ensure!(copy? == own?, "the copy differs from the program");
        for plugin in TYPES {
            let target = fs::read_link(installed.directory.join(plugin))?;
            ensure!(target == Path::new("weir"), "{plugin} links to {}", target.display());
            installed.answers(&installed.directory, plugin)?;
        }
    }
    Ok(())
}

fn some() -> anyhow::Result<()> {
    let installed = Installed::new()?;
    installed.succeed("--types bridge,host-local")?;
    ensure!(installed.names() == ["bridge", "host-local", "weir"], "installed are {:?}", installed.names());
    Ok(())
}

fn unknown() -> anyhow::Result<()> {
    let installed = Installed::new()?;
    installed.fail("--types bridge,../absent", "../absent")?;
    ensure!(!installed.directory.exists(), "installed are {:?}", installed.names());
    Ok(())
}

fn foreign() -> anyhow::Result<()> {
    let installed = Installed::new()?;
    fs::create_dir_all(&installed.directory)?;
    let bridge = installed.directory.join("bridge");
    fs::write(&bridge, "native")?;
    fs::write(installed.directory.join("portmap"), "native")?;
    symlink("/bin/true", installed.directory.join("ptp"))?;
    installed.fail("", "--replace")?;
    ensure!(installed.names() == ["bridge", "portmap", "ptp"], "it has begun: {:?}", installed.names());
    ensure!(fs::read_to_string(&bridge)? == "native", "it has replaced bridge");
    installed.succeed("--types host-local,static")?;
    ensure!(fs::read_to_string(&bridge)? == "native", "it has replaced bridge");
    installed.succeed("--replace")?;
    installed.answers(&installed.directory, "bridge")?;
    ensure!(fs::read_link(installed.directory.join("ptp"))? == Path::new("weir"), "ptp is not weir's");
    ensure!(
        fs::read_to_string(installed.directory.join("portmap"))? == "native",
        "portmap was none of its business"
    );
    Ok(())
}

fn by_rename() -> anyhow::Result<()> {
    let installed = Installed::new()?;
    fs::create_dir_all(&installed.directory)?;
    // An older weir, which is running.
    let weir = installed.directory.join("weir");
    line(&format!("install -m 0755 /bin/sleep {}", weir.display())).succeed()?;
    let inode = fs::metadata(&weir)?.ino();
    let mut running = line(&format!("{} 30", weir.display())).start()?;
    let done = installed.succeed("--types bridge");
    running.kill()?;
    running.wait()?;
    done?;
    ensure!(fs::metadata(&weir)?.ino() != inode, "the running program was written over");
    installed.answers(&installed.directory, "bridge")
}

/// What is not weir's stays.
fn interrupted() -> anyhow::Result<()> {
    let installed = Installed::new()?;
    fs::create_dir_all(&installed.directory)?;
    fs::write(installed.directory.join(".weir.1"), "half")?;
    symlink("weir", installed.directory.join(".ptp.22"))?;
    for name in [".weir.bak", ".weirdo.1", ".weir"] {
        fs::write(installed.directory.join(name), "of others")?;
    }
    fs::create_dir(installed.directory.join(".weir.2"))?;
    installed.succeed("--types bridge")?;
    let names = installed.names();
    let expected = [".weir", ".weir.2", ".weir.bak", ".weirdo.1", "bridge", "weir"];
    ensure!(names == expected, "installed are {names:?}");
    Ok(())
}

fn moved() -> anyhow::Result<()> {
    let installed = Installed::new()?;
    installed.succeed("")?;
    let elsewhere = installed.lab.path("elsewhere");
    fs::rename(&installed.directory, &elsewhere)?;
    installed.answers(&elsewhere, "bridge")?;
    let config: Value = serde_json::from_str(r#"{"cniVersion":"1.1.0","name":"n","type":"bridge"}"#)?;
    let call = installed.lab.call_binary(elsewhere.join("bridge"), "STATUS").config(&config);
    installed.lab.run(&call)?.silence()
}

/// Whether the kernel keeps the file in such pages depends on the file system,
/// and is not looked at.
fn large_pages() -> anyhow::Result<()> {
    const LARGE_PAGE: u64 = 2 << 20;
    require(cfg!(all(target_env = "musl", target_arch = "x86_64")), "only weir for musl on x86-64 asks")?;
    let is_known = Path::new("/sys/kernel/mm/transparent_hugepage").exists();
    require(is_known, "the kernel has no large pages (CONFIG_TRANSPARENT_HUGEPAGE)")?;
    let lab = Lab::new(Plugins::Weir)?;
    let config: Value = serde_json::from_str(r#"{"cniVersion":"1.1.0","name":"n","type":"bridge"}"#)?;
    // It waits for its configuration.
    let mut child = lab.call_binary(lab.bin.join("bridge"), "STATUS").config(&config).program().start()?;
    let deadline = Instant::now() + Duration::from_secs(10);
    let mapping = loop {
        let mappings = fs::read_to_string(format!("/proc/{}/smaps", child.id()))?;
        let mapping = code_in_large_pages(&mappings);
        if mapping.is_some() || Instant::now() > deadline {
            break mapping;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    child.kill()?;
    child.wait()?;
    let mapping = mapping.context("it has not asked for large pages")?;
    let words: Vec<&str> = mapping.split_whitespace().collect();
    let start = words[0].split('-').next().unwrap_or_default();
    for number in [start, words[2]] {
        let number = u64::from_str_radix(number, 16)?;
        ensure!(number.is_multiple_of(LARGE_PAGE), "{mapping}");
    }
    Ok(())
}

/// The first line about code for which large pages were asked, proc_pid_smaps(5).
fn code_in_large_pages(mappings: &str) -> Option<String> {
    let mut code = None;
    for line in mappings.lines() {
        if line.contains(" r-xp ") && line.ends_with("/weir") {
            code = Some(line);
        } else if let Some(flags) = line.strip_prefix("VmFlags:")
            && let Some(line) = code.take()
            && flags.split(' ').any(|flag| flag == "hg")
        {
            return Some(line.to_owned());
        }
    }
    None
}
