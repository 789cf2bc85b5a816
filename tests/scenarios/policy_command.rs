//! `weir policy`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Test;
use crate::lab::{Plugins, line};

pub(super) fn tests() -> Vec<Test> {
    vec![
        Test::new("policy check: a node without a policy is told what that means", none),
        Test::new("policy check: a good policy passes, and is not changed or cached", good),
        Test::new("policy check: every error is shown with its position", errors),
        Test::new("policy check: rules without effect are warned of", warnings),
        Test::new("policy check: files that others can write to are refused", modes),
        Test::new("policy check: rules about plugins that are not there are noted", strangers),
        Test::new("policy explain: no rule gives a bundled plugin more than it is built for", built_in),
        Test::new("policy explain: each key is told with its line", explain),
        Test::new("policy explain: an operation is allowed or denied, with the line", operations),
        Test::new("policy explain: JSON says the same", as_json),
        Test::new("policy explain: what would allow a plugin can be pasted", pasted),
        Test::new("policy explain: a policy with an error allows nothing", broken),
    ]
}

const POLICY: &str = r#"bundled = "unrestricted"

[[allow]]
name = "tenant a"
network = "tenant-a-*"
plugin = ["bridge", "acme"]
interfaces = ["weir:net/links", "weir:store/*"]
namespaces = ["container", "host"]
bridges = ["br-a"]
addresses = ["10.1.0.0/16"]
leases = 100
[allow.limits]
time = "5s"
"#;

const UPLINK: &str = "[[deny]]\nname = \"nobody touches the uplink\"\nbridges = [\"br-uplink\"]\n";

/// A policy's directory.
struct Policy {
    bin: PathBuf,
    directory: TempDir,
    _bin: TempDir,
}

/// What the command said.
struct Said {
    code: Option<i32>,
    text: String,
}

impl Policy {
    fn new(files: &[(&str, &str)]) -> anyhow::Result<Self> {
        let (directory, bin) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let policy = Self { bin: Plugins::Weir.install(bin.path())?, directory, _bin: bin };
        fs::create_dir(policy.path("policy.d"))?;
        fs::set_permissions(policy.path("policy.d"), Permissions::from_mode(0o755))?;
        for (name, text) in files {
            policy.write(name, text)?;
        }
        Ok(policy)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        fs::write(self.path(name), text)?;
        fs::set_permissions(self.path(name), Permissions::from_mode(0o644))?;
        Ok(())
    }

    fn run(&self, arguments: &str) -> anyhow::Result<Said> {
        let command = format!("{} policy {arguments}", self.bin.join("weir").display());
        let output = line(&command)
            .variable("WEIR_POLICY_DIR", self.directory.path())
            .variable("WEIR_STATE_DIR", self.path("state"))
            .run()?;
        let code = output.status.code();
        ensure!(matches!(code, Some(0..=2)), "{arguments}: {}: {}", output.status, output.stderr);
        ensure!(!output.stderr.contains("unexpected argument"), "{arguments}: {}", output.stderr);
        Ok(Said { code, text: output.stdout + &output.stderr })
    }

    fn succeed(&self, arguments: &str) -> anyhow::Result<String> {
        let said = self.run(arguments)?;
        ensure!(said.code == Some(0), "{arguments} failed: {}", said.text);
        Ok(said.text)
    }

    fn fail(&self, arguments: &str) -> anyhow::Result<String> {
        let said = self.run(arguments)?;
        ensure!(said.code == Some(1), "{arguments} ended with {:?}: {}", said.code, said.text);
        Ok(said.text)
    }

    /// A question that cannot be answered.
    fn puzzle(&self, arguments: &str) -> anyhow::Result<String> {
        let said = self.run(arguments)?;
        ensure!(said.code == Some(2), "{arguments} ended with {:?}: {}", said.code, said.text);
        Ok(said.text)
    }
}

fn has(text: &str, expected: impl AsRef<str>) -> anyhow::Result<()> {
    let expected = expected.as_ref();
    ensure!(text.contains(expected), "{expected:?} is not in {text}");
    Ok(())
}

fn at(path: &Path, rest: &str) -> String {
    format!("{}:{rest}", path.display())
}

fn none() -> anyhow::Result<()> {
    let policy = Policy::new(&[])?;
    fs::remove_dir(policy.path("policy.d"))?;
    has(&policy.succeed("check")?, "no policy in")?;
    has(&policy.succeed("explain --network n --plugin bridge")?, "no rule restricts it")?;
    let said = policy.succeed("explain --network n --plugin acme")?;
    has(&said, "plugin acme in network n may not do anything")?;
    has(&said, "[[allow]]\nnetwork = \"n\"\nplugin = \"acme\"")
}

fn good() -> anyhow::Result<()> {
    let policy = Policy::new(&[("policy.toml", POLICY), ("policy.d/uplink.toml", UPLINK)])?;
    has(&policy.succeed("check")?, "2 rules in 2 files: no errors, 0 warnings")?;
    let elsewhere = Policy::new(&[("policy.toml", UPLINK)])?;
    let said = policy.succeed(&format!("check --dir {}", elsewhere.directory.path().display()))?;
    has(&said, "1 rule in 1 file: no errors, 0 warnings")?;
    ensure!(!policy.path("state").exists(), "looking at the policy has written something");
    Ok(())
}

fn errors() -> anyhow::Result<()> {
    let policy = Policy::new(&[
        (
            "policy.toml",
            "bundled = \"maybe\"\n[[allow]]\nbridge = \"br\"\nlinks = [\"veth*\", \"eth[0-9]\"]\n",
        ),
        ("policy.d/a.toml", "[[deny]]\naddresses = \"10.1.2.3/16\"\n"),
        ("policy.d/b.toml", "[[deny]\n"),
    ])?;
    let said = policy.fail("check")?;
    for (file, expected) in [
        ("policy.toml", "1:11: error: bundled: expected \"unrestricted\" or \"by-rule\""),
        ("policy.toml", "3:1: error: unknown key \"bridge\": expected one of name, network"),
        ("policy.toml", "4:19: error: links: \"eth[0-9]\" contains '['"),
        (
            "policy.d/a.toml",
            "2:13: error: addresses: \"10.1.2.3/16\" has bits behind the prefix: write \"10.1.0.0/16\"",
        ),
        ("policy.d/b.toml", "1:"),
    ] {
        has(&said, at(&policy.path(file), expected))?;
    }
    has(&said, "nothing is allowed")
}

fn warnings() -> anyhow::Result<()> {
    let policy = Policy::new(&[
        ("policy.toml", &format!("{POLICY}\n[[deny]]\nplugin = \"evil\"\n[[allow]]\nplugin = \"evil\"\n")),
        ("policy.d/a.toml", "[[deny]]\naddresses = \"10.1.9.0/24\"\n"),
        ("policy.d/a.toml~", "not read"),
    ])?;
    let said = policy.succeed("check")?;
    for (file, expected) in [
        ("policy.toml", "17: warning: the rule has no effect: "),
        ("policy.toml", "10: warning: addresses: not all of 10.1.0.0/16 is allowed"),
        ("policy.d/a.toml~", " warning: it is not read"),
    ] {
        has(&said, at(&policy.path(file), expected))?;
    }
    has(&said, "no errors, 3 warnings")
}

fn strangers() -> anyhow::Result<()> {
    let text = "[[allow]]\nplugin = [\"bridge\", \"host*\"]\n\n[[allow]]\nplugin = [\"ptp\", \"acme\", \"x-*\"]\nlinks = \"a\"\n";
    let policy = Policy::new(&[("policy.toml", text)])?;
    let said = policy.succeed("check")?;
    for named in ["acme", "x-*"] {
        let expected = format!("4: note: plugin: {named:?}: no such plugin");
        has(&said, at(&policy.path("policy.toml"), &expected))?;
    }
    for named in ["bridge", "host*", "ptp"] {
        ensure!(!said.contains(&format!("note: plugin: {named:?}")), "it says {said}");
    }
    has(&said, "no errors, 0 warnings")
}

fn built_in() -> anyhow::Result<()> {
    let text = "[[allow]]\nplugin = \"loopback\"\ninterfaces = [\"weir:*\"]\n";
    let policy = Policy::new(&[("policy.toml", text)])?;
    let ask = |import: &str| format!("explain --network n --plugin loopback --op import:{import}");
    for import in ["weir:net/links", "weir:net/links@0.1.0", "weir:host/log"] {
        has(&policy.succeed(&ask(import))?, "allowed by")?;
    }
    for import in ["weir:store/leases", "weir:firewall/masquerade@0.1.0", "wasi:cli/environment"] {
        let said = policy.fail(&ask(import))?;
        has(&said, "plugin loopback may not import")?;
        has(&said, "it comes with weir, and is not built to use that")?;
        ensure!(!said.contains("To allow it"), "it says {said}");
    }
    let said: Value = serde_json::from_str(&policy.fail(&format!("{} --json", ask("weir:store/leases")))?)?;
    ensure!(said["allowed"] == false && said["rule"].is_null() && said["hint"] == "", "it says {said}");
    Ok(())
}

fn modes() -> anyhow::Result<()> {
    let policy = Policy::new(&[("policy.toml", POLICY)])?;
    fs::set_permissions(policy.path("policy.toml"), Permissions::from_mode(0o666))?;
    let said = policy.fail("check")?;
    has(&said, at(&policy.path("policy.toml"), " error: others than its owner may write to it (mode 0666)"))?;
    has(&policy.puzzle("explain --network n --plugin bridge")?, "chmod go-w")
}

fn explain() -> anyhow::Result<()> {
    let policy = Policy::new(&[("policy.toml", POLICY), ("policy.d/uplink.toml", UPLINK)])?;
    let said = policy.succeed("explain --network tenant-a-1 --plugin acme")?;
    let main = policy.path("policy.toml");
    for (key, effect, values, place) in [
        ("interfaces", "allow", "weir:net/links weir:store/*", at(&main, "7 (rule \"tenant a\")")),
        ("namespaces", "allow", "container host", at(&main, "8 (rule \"tenant a\")")),
        ("links", "allow", "nothing", "(no rule)".to_owned()),
        ("bridges", "allow", "br-a", at(&main, "9 (rule \"tenant a\")")),
        ("bridges", "deny", "br-uplink", at(&policy.path("policy.d/uplink.toml"), "3 (rule")),
        ("addresses", "allow", "10.1.0.0/16", at(&main, "10 (rule \"tenant a\")")),
        ("leases", "at most", "100", at(&main, "11 (rule \"tenant a\")")),
        ("limits.time", "at most", "5s", at(&main, "3 (rule \"tenant a\")")),
    ] {
        let found = said.lines().any(|line| {
            line.trim_start().starts_with(key)
                && [effect, values, &place].iter().all(|part| line.contains(*part))
        });
        ensure!(found, "{key} {effect} {values} {place} is not in {said}");
    }
    // The same rule bounds a bundled plugin only where it has the key.
    let said = policy.succeed("explain --network tenant-a-1 --plugin bridge")?;
    ensure!(
        said.lines().any(|line| line.trim_start().starts_with("links") && line.contains("everything")),
        "it says {said}"
    );
    // In other networks it does not match.
    has(&policy.succeed("explain --network other --plugin acme")?, "no allow rule matches it")
}

fn operations() -> anyhow::Result<()> {
    let policy = Policy::new(&[("policy.toml", POLICY), ("policy.d/uplink.toml", UPLINK)])?;
    let main = policy.path("policy.toml");
    let ask = |op: &str| format!("explain --network tenant-a-1 --plugin acme --op {op}");
    for (op, place) in [
        ("import:weir:net/links", "7 (rule \"tenant a\")"),
        ("import:weir:store/leases@0.1.0", "7 (rule"),
        ("namespace:host", "8 (rule"),
        ("bridge:br-a", "9 (rule"),
        ("address:10.1.2.3", "10 (rule"),
        ("address:::ffff:10.1.2.3", "10 (rule"),
    ] {
        has(&policy.succeed(&ask(op))?, format!("allowed by {}", at(&main, place)))?;
    }
    for (op, reason) in [
        ("import:weir:net/routes", at(&main, "3 (rule \"tenant a\") does not allow it")),
        ("bridge:br-b", "bridges = [\"br-a\", \"br-b\"]".to_owned()),
        (
            "bridge:br-uplink",
            at(&policy.path("policy.d/uplink.toml"), "3 (rule \"nobody touches the uplink\") forbids it"),
        ),
        ("address:10.2.0.1", "denied: ".to_owned()),
        ("address:10.1.2.3/8", "denied: ".to_owned()),
        ("route:0.0.0.0/0", "add to".to_owned()),
        ("sysctl:accept_ra", "sysctls = [\"accept_ra\"]".to_owned()),
        ("create-link:veth:veth0", "link-kinds = [\"veth\"]".to_owned()),
        ("parent:eth1", "parents = [\"eth1\"]".to_owned()),
        ("parent:macvlan:eth1", "link-kinds = [\"macvlan\"]".to_owned()),
        ("parent:passthru:eth1", "links = [\"eth1\"]".to_owned()),
        // It may turn out to be the uplink.
        ("parent:vxlan:*", "uplink.toml:3 (rule \"nobody touches the uplink\") forbids it".to_owned()),
        (
            "parent:br-uplink",
            at(&policy.path("policy.d/uplink.toml"), "3 (rule \"nobody touches the uplink\") forbids it"),
        ),
        ("delegate:dhcp", "delegates = [\"dhcp\"]".to_owned()),
        ("port:8080/tcp", "ports = [\"8080/tcp\"]".to_owned()),
        ("port:[fd00::1]:53/udp", "ports = [\"[fd00::1]:53/udp\"]".to_owned()),
        ("vlan:br-a:100-199", "vlans = [\"100-199\"]".to_owned()),
        ("vni:eth1:7", "vnis = [\"7\"]".to_owned()),
        ("data-dir:/srv/leases", "data-dirs = [\"/srv/leases\"]".to_owned()),
    ] {
        has(&policy.fail(&ask(op))?, reason)?;
    }
    for (op, reason) in [
        ("reboot:now", "expected one of import, namespace"),
        ("port:80", "\"80\" names no ports"),
        ("data-dir:/srv/../etc", "write it without"),
        ("create-link:tap:x", "is no kind of links"),
    ] {
        has(&policy.puzzle(&ask(op))?, reason)?;
    }
    has(&policy.puzzle(&format!("{} --digest 0123", ask("bridge:br-b")))?, "is no digest")?;
    has(&policy.puzzle(&format!("{} --dir /absent", ask("bridge:br-b")))?, "there is no such directory")?;
    has(&policy.succeed("explain --network n --plugin bridge --op route:0.0.0.0/0")?, "no rule restricts")?;
    has(&policy.fail("explain --network n --plugin bridge --op bridge:br-uplink")?, "forbids it")?;
    Ok(())
}

fn as_json() -> anyhow::Result<()> {
    let policy = Policy::new(&[("policy.toml", POLICY), ("policy.d/uplink.toml", UPLINK)])?;
    let read = |text: String| serde_json::from_str::<Value>(&text).with_context(|| format!("read {text}"));
    let said = read(policy.succeed("explain --json --network tenant-a-1 --plugin acme --tenant t")?)?;
    ensure!(said["allowed"] == true && said["bundled"] == false && said["tenant"] == "t", "it says {said}");
    let keys = said["keys"].as_array().context("it has keys")?;
    let rule = at(&policy.path("policy.toml"), "9 (rule \"tenant a\")");
    let bridges = json!({ "key": "bridges", "effect": "allow", "values": ["br-a"], "rule": rule });
    ensure!(keys.contains(&bridges), "it says {said}");
    let said = read(policy.fail("explain --json --network tenant-a-1 --plugin acme --op bridge:br-b")?)?;
    ensure!(said["allowed"] == false && said["rule"].is_null(), "it says {said}");
    has(said["hint"].as_str().unwrap_or_default(), "bridges = [\"br-a\", \"br-b\"]")?;
    let said = read(policy.succeed("explain --json --network tenant-a-1 --plugin acme --op bridge:br-a")?)?;
    ensure!(said["allowed"] == true && said["rule"] == rule.as_str(), "it says {said}");
    Ok(())
}

fn pasted() -> anyhow::Result<()> {
    let policy = Policy::new(&[("policy.toml", POLICY)])?;
    let digest = format!("sha256:{}", "0123456789abcdef".repeat(4));
    let ask = format!("explain --network n --plugin other --tenant t --digest {digest} --op bridge:br-o");
    let said = policy.fail(&ask)?;
    let rule = said.find("[[allow]]").and_then(|begin| said.get(begin..)).context("it shows a rule")?;
    policy.write("policy.d/other.toml", rule)?;
    has(&policy.succeed(&ask)?, "allowed by")?;
    policy.fail(&ask.replace("0123", "1123"))?;
    policy.fail(&ask.replace("--tenant t ", ""))?;
    has(&policy.succeed("explain --network n --plugin other --tenant t")?, "name it with --digest")
}

fn broken() -> anyhow::Result<()> {
    let policy = Policy::new(&[("policy.toml", "[[allow]]\nplugins = \"bridge\"\n")])?;
    let said = policy.puzzle("explain --network n --plugin bridge")?;
    has(&said, at(&policy.path("policy.toml"), "2:1: unknown key \"plugins\""))
}
