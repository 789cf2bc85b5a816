//! Bad network configurations.

use serde_json::{Value, json};

use super::{Bad, GOOD, add};

/// GOOD with the value at a place, as `/ipam/subnet`, replaced.
fn with(place: &str, value: Value) -> String {
    let mut config: Value = serde_json::from_str(GOOD).unwrap_or_default();
    let (parent, key) = place.rsplit_once('/').unwrap_or(("", place));
    if let Some(Value::Object(parent)) = config.pointer_mut(parent) {
        parent.insert(key.to_owned(), value);
    }
    config.to_string()
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}

pub(super) fn rows() -> Vec<Bad> {
    let mut rows = texts();
    rows.extend(types());
    rows.extend(names());
    rows.extend(addresses());
    rows
}

fn texts() -> Vec<Bad> {
    let without_name = r#"{"cniVersion":"1.0.0","type":"bridge"}"#;
    vec![
        Bad::input("no configuration at all", &[6], &[], ""),
        Bad::input("white space", &[6], &[], " \n"),
        Bad::input("no JSON", &[6], &["line 1"], "hello"),
        Bad::input("half a configuration", &[6], &["EOF"], &GOOD[..60]),
        Bad::input("a configuration and more", &[6], &["trailing"], format!("{GOOD} x")),
        Bad::input("text that is not UTF-8", &[6], &["UTF-8"], b"{\"name\":\"\xff\"}".as_slice()),
        Bad::input("a list", &[6, 7], &["object"], "[]"),
        Bad::input("null", &[6, 7], &["object"], "null"),
        Bad::input("100,000 open brackets", &[6], &[], "[".repeat(100_000)),
        Bad::input("100,000 nested lists", &[6], &[], nested(100_000)),
        Bad::input("100,000 nested objects", &[6], &[], r#"{"a":"#.repeat(100_000)),
        Bad::input(
            "deep nesting in a key that nobody reads",
            &[6],
            &[],
            GOOD.replacen('{', &format!(r#"{{"x":{},"#, nested(50_000)), 1),
        ),
        Bad::input(
            "more than 1 MiB",
            &[6, 7],
            &["bytes"],
            GOOD.replacen('{', &format!(r#"{{"x":"{}","#, "a".repeat(1 << 20)), 1),
        ),
        Bad::input("no name", &[7], &["name"], without_name),
        Bad::new("CHECK without prevResult", &[7], &["prevResult"], |lab| {
            Ok(add(lab).variable("CNI_COMMAND", "CHECK").input(GOOD))
        }),
        Bad::new("CHECK in version 0.3.1", &[1], &["0.3.1", "CHECK", "0.4.0"], |lab| {
            Ok(add(lab).variable("CNI_COMMAND", "CHECK").input(with("/cniVersion", json!("0.3.1"))))
        }),
        Bad::new("GC in version 1.0.0", &[1], &["1.0.0", "GC", "1.1.0"], |lab| {
            Ok(lab.call("bridge", "GC").input(GOOD))
        }),
        Bad::new("STATUS in version 1.0.0", &[1], &["1.0.0", "STATUS", "1.1.0"], |lab| {
            Ok(lab.call("bridge", "STATUS").input(GOOD))
        }),
        Bad::new("GC with a list of other things", &[7], &["cni.dev/valid-attachments"], |lab| {
            let config = with("/cniVersion", json!("1.1.0"));
            let config = config.replacen('{', r#"{"cni.dev/valid-attachments":[1],"#, 1);
            Ok(lab.call("bridge", "GC").input(config))
        }),
    ]
}

fn types() -> Vec<Bad> {
    vec![
        Bad::input("a name that is a number", &[6, 7], &["name", "7"], with("/name", json!(7))),
        Bad::input(
            "a version that is a number",
            &[6, 7],
            &["cniVersion", "1.1"],
            with("/cniVersion", json!(1.1)),
        ),
        Bad::input("a type that is a list", &[6, 7], &["type"], with("/type", json!(["bridge"]))),
        Bad::input(
            "ipam that is a text",
            &[6, 7],
            &["ipam", "host-local"],
            with("/ipam", json!("host-local")),
        ),
        Bad::input("ipam.type that is a number", &[6, 7], &["ipam.type", "5"], with("/ipam/type", json!(5))),
        Bad::input(
            "isGateway that is a text",
            &[6, 7],
            &["isGateway", "yes"],
            with("/isGateway", json!("yes")),
        ),
        Bad::input("mtu that is a text", &[6, 7], &["mtu", "big"], with("/mtu", json!("big"))),
        Bad::input("mtu below zero", &[6, 7], &["mtu", "-5"], with("/mtu", json!(-5))),
        Bad::input("mtu that is too small", &[7, 105], &["7"], with("/mtu", json!(7))),
        Bad::input("a bridge that is a number", &[6, 7], &["bridge", "7"], with("/bridge", json!(7))),
        Bad::input("a bridge that is a path", &[7, 105], &["../x"], with("/bridge", json!("../x"))),
        Bad::input(
            "a bridge with a long name",
            &[7, 105],
            &["sixteen-bytes-xx"],
            with("/bridge", json!("sixteen-bytes-xx")),
        ),
        Bad::input("a subnet that is a number", &[6, 7], &["subnet", "10"], with("/ipam/subnet", json!(10))),
        Bad::input(
            "routes that are no list",
            &[6, 7],
            &["routes"],
            with("/ipam/routes", json!({"dst":"0.0.0.0/0"})),
        ),
        Bad::input(
            "ranges that are a flat list",
            &[6, 7],
            &["ranges"],
            with("/ipam/ranges", json!([{"subnet":"10.2.0.0/24"}])),
        ),
        Bad::input("dns that is a list", &[6, 7], &["dns"], with("/dns", json!(["192.0.2.53"]))),
        Bad::input(
            "runtimeConfig that is a text",
            &[6, 7],
            &["runtimeConfig"],
            with("/runtimeConfig", json!("x")),
        ),
        Bad::input("a prevResult that is a text", &[6, 7], &["prevResult"], with("/prevResult", json!("x"))),
        Bad::input(
            "a prevResult with a bad address",
            &[6, 7],
            &["prevResult", "10.1.0.300"],
            with("/prevResult", json!({"cniVersion":"1.0.0","ips":[{"address":"10.1.0.300/24"}]})),
        ),
    ]
}

fn names() -> Vec<Bad> {
    let name = |title, name: &'static str| Bad::input(title, &[7], &["name"], with("/name", json!(name)));
    vec![
        name("an empty name", ""),
        name("a name that is a path", "../../etc/x"),
        name("a name with a slash", "a/b"),
        name("a name that is a dot", "."),
        name("a name that is two dots", ".."),
        name("a name with a blank", "a b"),
        name("a name with a zero byte", "a\0b"),
        Bad::input("an unknown version", &[1], &["9.9.9", "1.1.0"], with("/cniVersion", json!("9.9.9"))),
        Bad::input("a version that is a word", &[1], &["latest"], with("/cniVersion", json!("latest"))),
        Bad::input(
            "a type of another plugin",
            &[7],
            &["bridge", "loopback"],
            with("/type", json!("loopback")),
        ),
        Bad::input("a type that is a path", &[7], &["type", "../bridge"], with("/type", json!("../bridge"))),
        Bad::new("an unknown type", &[7], &["type", "x-test"], |lab| {
            let call = lab.call_for("weir", "ADD", &lab.containers[0], "eth0");
            Ok(call.input(with("/type", json!("x-test"))))
        }),
        Bad::new("no type", &[7], &["type"], |lab| {
            let call = lab.call_for("weir", "ADD", &lab.containers[0], "eth0");
            Ok(call.input(with("/type", json!(""))))
        }),
        Bad::input(
            "an unknown IPAM type",
            &[7],
            &["ipam.type", "x-test"],
            with("/ipam/type", json!("x-test")),
        ),
        Bad::input(
            "an IPAM type that is a path",
            &[7],
            &["ipam.type", "../sh"],
            with("/ipam/type", json!("../sh")),
        ),
        Bad::input(
            "an IPAM type that is an absolute path",
            &[7],
            &["ipam.type", "/bin/sh"],
            with("/ipam/type", json!("/bin/sh")),
        ),
        Bad::input(
            "an IPAM type that is two dots",
            &[7],
            &["ipam.type", ".."],
            with("/ipam/type", json!("..")),
        ),
        Bad::input(
            "an IPAM type that makes interfaces",
            &[7],
            &["ipam.type", "bridge"],
            with("/ipam/type", json!("bridge")),
        ),
    ]
}

fn addresses() -> Vec<Bad> {
    vec![
        Bad::input(
            "a subnet that is none",
            &[7],
            &["subnet", "10.1.0.0"],
            with("/ipam/subnet", json!("10.1.0.0")),
        ),
        Bad::input(
            "a subnet with host bits",
            &[7],
            &["10.1.0.0", "24"],
            with("/ipam/subnet", json!("10.1.0.9/24")),
        ),
        Bad::input(
            "a subnet that is too small",
            &[7],
            &["10.1.0.0/31"],
            with("/ipam/subnet", json!("10.1.0.0/31")),
        ),
        Bad::input(
            "a range that begins outside",
            &[7],
            &["10.2.0.1", "10.1.0.0/24"],
            with("/ipam/rangeStart", json!("10.2.0.1")),
        ),
        Bad::input(
            "a range's end that is none",
            &[7],
            &["rangeEnd", "end"],
            with("/ipam/rangeEnd", json!("end")),
        ),
        Bad::input("a gateway that is none", &[7], &["gateway", "gw"], with("/ipam/gateway", json!("gw"))),
        Bad::input(
            "a route that is none",
            &[7],
            &["dst", "there"],
            with("/ipam/routes", json!([{"dst":"there"}])),
        ),
        Bad::input(
            "a route's gateway that is none",
            &[7],
            &["gw", "gate"],
            with("/ipam/routes", json!([{"dst":"0.0.0.0/0","gw":"gate"}])),
        ),
        Bad::new("a pool that is exhausted", &[11, 106], &["10.1.0.1-10.1.0.2"], |lab| {
            let config = with("/ipam/subnet", json!("10.1.0.0/30"));
            lab.run(
                &add(lab)
                    .variable("CNI_CONTAINERID", "other")
                    .variable("CNI_IFNAME", "eth9")
                    .input(config.as_str()),
            )?
            .success()?;
            Ok(add(lab).input(config))
        }),
    ]
}
