//! What every version of the specification answers, and input that looks odd
//! but is what runtimes really send.

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::Test;
use crate::lab::{Call, Facts, Handle, Lab, Plugins, Reply, changes};

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// All tests.
pub(super) fn tests() -> Vec<Test> {
    let mut tests = vec![
        test("VERSION answers a runtime that sets dummy values", |lab| {
            let call = lab.call("bridge", "VERSION").variable("CNI_CONTAINERID", "");
            let call = ["CNI_IFNAME", "CNI_NETNS", "CNI_PATH"]
                .iter()
                .fold(call, |call, name| call.variable(name, "dummy"));
            lists_versions(lab.run(&call.input(r#"{"cniVersion":"1.0.0"}"#))?)
        }),
        test("VERSION needs no configuration", |lab| {
            lists_versions(lab.run(&lab.call("bridge", "VERSION"))?)
        }),
        test("STATUS answers a runtime that sets empty variables", |lab| {
            let call = ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS", "CNI_ARGS"]
                .iter()
                .fold(lab.call("bridge", "STATUS"), |call, name| call.variable(name, ""));
            lab.run(&call.config(&config("1.1.0")))?.silence()
        }),
        test("STATUS tells that the pool is exhausted", |lab| {
            let mut config = config("1.1.0");
            config["ipam"]["subnet"] = json!("10.1.0.0/30");
            lab.run(&about("ADD", lab).config(&config))?.success()?;
            let error = lab.run(&lab.call("bridge", "STATUS").config(&config))?.failure()?;
            ensure!(error.code == 50, "code {}: {}", error.code, error.text);
            ensure!(error.text.contains("10.1.0.1-10.1.0.2"), "{}", error.text);
            Ok(())
        }),
        test("DEL does without a prevResult and arguments that nobody can read", |lab| {
            let before = left(lab)?;
            for result in [
                json!({"ips":[{"address":"10.1.0.2"}]}),
                json!({"dns":{"nameservers":[null]}}),
                json!({"cniVersion":"9.9.9"}),
                json!({"interfaces":[{"mac":5}]}),
            ] {
                lab.run(&about("ADD", lab).config(&config("1.0.0")))?.success()?;
                let mut config = config("1.0.0");
                config["prevResult"] = result;
                lab.run(&about("ADD", lab).config(&config))?.failure()?;
                lab.run(&about("DEL", lab).config(&config).variable("CNI_ARGS", "COLOR"))?.silence()?;
                unchanged(&before, &left(lab)?)?;
            }
            Ok(())
        }),
        test("GC with null lists removes what is left of everything", |lab| {
            let before = left(lab)?;
            lab.run(&about("ADD", lab).config(&config("1.1.0")))?.success()?;
            let mut config = config("1.1.0");
            for key in ["cni.dev/attachments", "cni.dev/valid-attachments"] {
                config[key] = Value::Null;
            }
            lab.run(&lab.call("bridge", "GC").config(&config))?.silence()?;
            unchanged(&before, &left(lab)?)
        }),
        test("GC keeps what is in either list", |lab| {
            lab.run(&about("ADD", lab).config(&config("1.1.0")))?.success()?;
            let before = lab.digest()?;
            let mut config = config("1.1.0");
            config["cni.dev/attachments"] = json!([{"containerID":"c1","ifname":"eth0"}]);
            config["cni.dev/valid-attachments"] = Value::Null;
            lab.run(&lab.call("bridge", "GC").config(&config))?.silence()?;
            unchanged(&before, &lab.digest()?)
        }),
        test("GC without lists removes nothing", |lab| {
            lab.run(&about("ADD", lab).config(&config("1.1.0")))?.success()?;
            let before = lab.digest()?;
            lab.run(&lab.call("bridge", "GC").config(&config("1.1.0")))?.silence()?;
            unchanged(&before, &lab.digest()?)
        }),
        test("DEL of what never was succeeds and changes nothing", |lab| {
            let before = lab.digest()?;
            lab.run(&about("DEL", lab).config(&config("1.0.0")))?.silence()?;
            unchanged(&before, &left(lab)?)
        }),
        test("DEL may come again without prevResult and with an empty namespace", |lab| {
            let before = left(lab)?;
            let mut config = config("1.0.0");
            let result = lab.run(&about("ADD", lab).config(&config))?.success()?;
            let without = config.clone();
            config["prevResult"] = result;
            lab.run(&about("DEL", lab).config(&config))?.silence()?;
            unchanged(&before, &left(lab)?)?;
            for _ in 0..2 {
                lab.run(&about("DEL", lab).variable("CNI_NETNS", "").config(&without))?.silence()?;
            }
            unchanged(&before, &left(lab)?)
        }),
        test("ADD and DEL work in the node's own namespace when the runtime insists", |lab| {
            let before = left(lab)?;
            let here = |command| {
                let call = about(command, lab).variable("CNI_NETNS", "/proc/self/ns/net");
                call.variable("CNI_NETNS_OVERRIDE", "1").config(&config("1.0.0"))
            };
            lab.run(&here("ADD"))?.success()?;
            lab.run(&here("DEL"))?.silence()?;
            unchanged(&before, &left(lab)?)
        }),
        test("unknown arguments are ignored when the runtime says so", |lab| {
            for arguments in ["IgnoreUnknown=1;COLOR=red", "K8S_POD_NAME=p;COLOR=red;IgnoreUnknown=true"] {
                let call =
                    |command| about(command, lab).variable("CNI_ARGS", arguments).config(&config("1.0.0"));
                lab.run(&call("ADD"))?.success()?;
                lab.run(&call("DEL"))?.silence()?;
            }
            Ok(())
        }),
        test("a configuration of nearly 1 MiB is read", |lab| {
            let mut config = config("1.0.0");
            config["x-test"] = json!("a".repeat(1_000_000));
            lab.run(&about("ADD", lab).config(&config))?.success().map(drop)
        }),
        test("a configuration of nearly 1 MiB in small parts is read", |lab| {
            let mut config = config("1.0.0");
            config["x-test"] = json!(["0123456789"; 75_000].to_vec());
            lab.run(&about("ADD", lab).config(&config))?.success()?;
            lab.run(&about("DEL", lab).config(&config))?.silence()
        }),
        test("keys match without regard to case", |lab| {
            let config = json!({"CNIVersion":"1.0.0","Name":"mynet","TYPE":"bridge","IsGateway":true,
                "Ipam":{"Type":"host-local","SUBNET":"10.1.0.0/24"}});
            let result = lab.run(&about("ADD", lab).config(&config))?.success()?;
            ensure!(result["ips"][0]["gateway"] == "10.1.0.1", "{result}");
            Ok(())
        }),
        test("errors speak the configuration's version", |lab| {
            for version in VERSIONS {
                let mut config = config(version);
                config["ipam"]["subnet"] = json!("10.1.0.0/31");
                let output = lab.node.enter(|| about("ADD", lab).config(&config).program().run())?;
                let error: Value = serde_json::from_str(&output.stdout)?;
                ensure!(error["cniVersion"] == version, "{error}");
                ensure!(output.status.code() == Some(1), "{:?}", output.status);
            }
            Ok(())
        }),
        test("without a command the plugin tells what it is", |lab| {
            let call = lab.call("bridge", "VERSION").without_variable("CNI_COMMAND");
            let output = lab.node.enter(|| call.program().run())?;
            ensure!(output.status.success() && output.stdout.is_empty(), "{output:?}");
            ensure!(VERSIONS.iter().all(|version| output.stderr.contains(version)), "{}", output.stderr);
            Ok(())
        }),
    ];
    tests.extend(["plain", "fifo", "nowhere"].map(|kind| {
        test(&format!("DEL releases everything when the namespace's path is {kind}"), move |lab| {
            let before = left(lab)?;
            lab.run(&about("ADD", lab).config(&config("1.0.0")))?.success()?;
            let path = lab.path(kind);
            match kind {
                "plain" => std::fs::write(&path, "")?,
                "fifo" => nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU)?,
                _ => {}
            }
            lab.run(&about("DEL", lab).variable("CNI_NETNS", &path).config(&config("1.0.0")))?.silence()?;
            unchanged(&before, &left(lab)?)
        })
    }));
    tests
}

fn test(name: &str, run: impl Fn(&Lab) -> anyhow::Result<()> + Send + 'static) -> Test {
    Test::new(name, move || {
        let mut lab = Lab::new(Plugins::Weir)?;
        lab.add_container_as("c1", Handle::BindMount)?;
        run(&lab)
    })
}

fn config(version: &str) -> Value {
    json!({"cniVersion": version, "name": "mynet", "type": "bridge", "isGateway": true,
        "ipam": {"type": "host-local", "subnet": "10.1.0.0/24"}})
}

fn about(command: &str, lab: &Lab) -> Call {
    lab.call_for("bridge", command, &lab.containers[0], "eth0")
}

fn lists_versions(reply: Reply) -> anyhow::Result<()> {
    let reply = reply.success()?;
    ensure!(reply["cniVersion"] == "1.1.0", "{reply}");
    let supported = reply["supportedVersions"].as_array().context("no list of versions")?;
    ensure!(VERSIONS.iter().all(|version| supported.iter().any(|known| known == version)), "{reply}");
    Ok(())
}

/// What exists but for what containers share: the bridge, forwarding, and
/// the bookkeeping of a lease directory.
fn left(lab: &Lab) -> anyhow::Result<Facts> {
    let is_shared = |key: &str| {
        key.contains("cni0")
            || key.contains("/sysctl/")
            || key.ends_with("/lock")
            || key.contains("/last_reserved_ip.")
    };
    Ok(lab.digest()?.into_iter().filter(|(key, _)| !is_shared(key)).collect())
}

fn unchanged(before: &Facts, after: &Facts) -> anyhow::Result<()> {
    let changes = changes(before, after);
    let changes: Vec<&String> = changes.iter().filter(|change| !change.contains("/sysctl/")).collect();
    ensure!(changes.is_empty(), "something is left or changed:\n{changes:#?}");
    Ok(())
}
