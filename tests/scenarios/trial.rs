//! `weir try`.

use std::fs;
use std::path::Path;

use anyhow::{Context, ensure};

use crate::Test;
use crate::lab::{Lab, Plugins, changes, line, require};

pub(super) fn tests() -> Vec<Test> {
    let good = [
        (
            "a bridge of both families",
            r#"{"cniVersion":"1.1.0","name":"t","type":"bridge","isDefaultGateway":true,
            "ipMasq":true,"macspoofchk":true,"ipam":{"type":"host-local",
            "ranges":[[{"subnet":"10.1.0.0/24"}],[{"subnet":"fd00:1::/64"}]]}}"#,
        ),
        (
            "a point-to-point link",
            r#"{"cniVersion":"1.0.0","name":"t","type":"ptp","ipMasq":true,"ipam":{"type":"host-local",
            "subnet":"10.1.0.0/24","routes":[{"dst":"0.0.0.0/0"}]}}"#,
        ),
        (
            "a list of plugins",
            r#"{"cniVersion":"0.4.0","name":"t","plugins":[{"type":"bridge","isGateway":true,
            "ipam":{"type":"host-local","subnet":"10.1.0.0/24"}},{"type":"loopback"}]}"#,
        ),
        (
            "a bridge whose ports are isolated",
            r#"{"cniVersion":"1.1.0","name":"t","type":"bridge","isGateway":true,"portIsolation":true,
            "ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#,
        ),
        (
            "a bridge in a network for documentation",
            r#"{"cniVersion":"1.1.0","name":"t","type":"bridge","isDefaultGateway":true,"ipMasq":true,
            "ipam":{"type":"host-local","ranges":[[{"subnet":"192.0.2.0/24"}],[{"subnet":"2001:db8::/64"}]]}}"#,
        ),
        ("a network without addresses", r#"{"cniVersion":"1.0.0","name":"t","type":"bridge"}"#),
        (
            "the lowest version",
            r#"{"cniVersion":"0.1.0","name":"t","type":"bridge","isGateway":true,
            "ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#,
        ),
    ];
    let bad = [
        ("an unknown plugin", r#"{"cniVersion":"1.0.0","name":"t","type":"absent"}"#, "absent"),
        (
            "a list with other plugins",
            r#"{"cniVersion":"1.0.0","name":"t","plugins":[{"type":"loopback"},{"type":"portmap"}]}"#,
            "portmap do not come with weir",
        ),
        (
            "a bad subnet",
            r#"{"cniVersion":"1.0.0","name":"t","type":"bridge","ipam":{"type":"host-local","subnet":"10.1.0.0/33"}}"#,
            "10.1.0.0/33",
        ),
        (
            "a pool for one",
            r#"{"cniVersion":"1.0.0","name":"t","type":"bridge","ipam":{"type":"host-local",
            "subnet":"10.1.0.0/24","rangeEnd":"10.1.0.2"}}"#,
            "no IP addresses available",
        ),
        ("no JSON", "{", "JSON"),
    ];
    let mut tests = vec![
        Test::new("try: the example works", || works(None)),
        Test::new("try: the example works without root", unprivileged),
        Test::new("try: a file that does not exist is named", no_file),
    ];
    tests.extend(good.map(|(name, config)| Test::new(format!("try: {name} works"), || works(Some(config)))));
    tests.extend(bad.map(|(name, config, word)| {
        Test::new(format!("try: {name} is reported, and leaves nothing"), || fails(config, word))
    }));
    tests
}

/// What `weir try` printed, and whether it succeeded. The node must not notice.
fn attempt(lab: &Lab, prefix: &str, arguments: &str) -> anyhow::Result<(bool, String)> {
    let temporary = lab.path("tmp");
    if !temporary.exists() {
        fs::create_dir(&temporary)?;
        line(&format!("chmod 1777 {}", temporary.display())).succeed()?;
    }
    let before = lab.digest()?;
    let command = format!("{prefix}{} try {arguments}", lab.bin.join("weir").display());
    let program = line(command.trim()).variable("TMPDIR", &temporary);
    let output = lab.node.enter(|| program.run())?;
    let changes = changes(&before, &lab.digest()?);
    ensure!(changes.is_empty(), "the node was changed: {changes:?}");
    let left: Vec<_> = fs::read_dir(&temporary)?.flatten().map(|entry| entry.path()).collect();
    ensure!(left.is_empty(), "files are left: {left:?}");
    Ok((output.status.success(), format!("{}{}", output.stdout, output.stderr)))
}

fn write(lab: &Lab, config: &str) -> anyhow::Result<String> {
    let path = lab.path("trial.conflist");
    fs::write(&path, config)?;
    Ok(path.display().to_string())
}

fn works(config: Option<&str>) -> anyhow::Result<()> {
    let lab = Lab::new(Plugins::Weir)?;
    let file = config.map(|config| write(&lab, config)).transpose()?.unwrap_or_default();
    let (success, text) = attempt(&lab, "", &file)?;
    ensure!(success && !text.contains("FAIL"), "it failed: {text}");
    ensure!(text.contains("Everything worked."), "it does not say so: {text}");
    if config.is_none() {
        for fact in
            ["one pings two (10.244.0.3)", "gateway (10.244.0.1)", "which sees the node's address", "stays"]
        {
            ensure!(text.contains(fact), "it does not say {fact:?}: {text}");
        }
    }
    Ok(())
}

fn unprivileged() -> anyhow::Result<()> {
    const NOBODY: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups ";
    let lab = Lab::new(Plugins::Weir)?;
    // The lab is for its owner only.
    line(&format!("chmod 0755 {}", lab.path("").display())).succeed()?;
    let allowed = line(&format!("{NOBODY}unshare --user --map-root-user --net --mount true")).run();
    require(
        allowed.is_ok_and(|output| output.status.success()),
        "this machine has no unprivileged user namespaces, or the tests run without root",
    )?;
    let readable = line(&format!("{NOBODY}test -x {}", lab.bin.join("weir").display())).run()?;
    require(readable.status.success(), "weir is in a directory that others cannot enter")?;
    let (success, text) = attempt(&lab, NOBODY, "")?;
    ensure!(success && text.contains("Everything worked."), "it failed: {text}");
    Ok(())
}

fn fails(config: &str, word: &str) -> anyhow::Result<()> {
    let lab = Lab::new(Plugins::Weir)?;
    let file = write(&lab, config)?;
    let (success, text) = attempt(&lab, "", &file)?;
    ensure!(!success, "it succeeded: {text}");
    ensure!(text.contains(word), "it does not mention {word:?}: {text}");
    ensure!(!text.contains("left behind"), "something is left: {text}");
    Ok(())
}

fn no_file() -> anyhow::Result<()> {
    let lab = Lab::new(Plugins::Weir)?;
    let (success, text) = attempt(&lab, "", Path::new("/absent/conflist").to_str().context("a path")?)?;
    ensure!(!success && text.contains("/absent/conflist"), "it says: {text}");
    Ok(())
}
