//! Rules and signatures.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context, ensure};
use serde_json::Value;

use super::shop::{POLICY, Shop, digest};
use crate::lab::{SigningKey, guest};

pub(super) fn allow() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    let path = guest::component("fixed")?.display().to_string();
    shop.policy("")?;
    let text = shop.succeed(&format!("add {path} --type fixed"))?;
    let rule = shop.lab.path("policy").join("policy.d/plugin-fixed.toml");
    let shown = rule.display().to_string();
    ensure!(text.contains("[[allow]]") && text.contains(&shown), "it proposes {text}");
    ensure!(!rule.exists(), "a rule was written unasked");
    for _ in 0..2 {
        shop.succeed(&format!("add {path} --type fixed --allow weir:plugin/request"))?;
    }
    let digest = digest(&text).context("no digest")?;
    let expected = format!(
        "[[allow]]\nname = \"fixed\"\nplugin = \"fixed\"\ndigest = \"{digest}\"\ninterfaces = [\"weir:plugin/request\"]\n"
    );
    let written = fs::read_to_string(&rule)?;
    ensure!(written == expected, "the rule is {written}");
    ensure!(fs::metadata(&rule)?.permissions().mode() & 0o7777 == 0o644, "its mode is wrong");
    let text = shop.succeed("remove fixed")?;
    ensure!(text.contains(&shown), "removing it says {text}");
    Ok(())
}

pub(super) fn signature() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    let path = shop.lab.path("signature");
    fs::write(
        &path,
        "untrusted comment: signature from minisign secret key\nRUQf6LRCGA9i559r3g7V1qNyJDApGip8MfqcadIgT9CuhV3EMhHoN1mGTkUidF/z7SrlQgXdy8ofjb7bNJJylDOocrCo8KLzZwo=\ntrusted comment: timestamp:1633700835\tfile:test\tprehashed\nwLMDjy9FLAuxZ3q4NlEvkgtyhrr0gtTu6KC4KBJdITbbOeAi1zBIYo0v4iTgt8jJpIidRJnp94ABQkJAgAooBQ==\n",
    )?;
    let good = guest::component("fixed")?;
    let add = format!("add {} --type fixed --signature", good.display());
    shop.fail(&format!("{add} {}", path.display()), "none of the 0 known signing keys")?;
    fs::write(&path, "nothing")?;
    shop.fail(&format!("{add} {}", path.display()), "cannot be read")?;
    shop.fail(&format!("{add} {}", shop.lab.path("absent").display()), "No such file")?;
    ensure!(shop.everything().is_empty(), "left are {:?}", shop.everything());
    Ok(())
}

pub(super) fn signed() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    let path = guest::component("fixed")?;
    let bytes = fs::read(&path)?;
    let (key, other) = (SigningKey::new(1), SigningKey::new(2));
    let sign = |name: &str, key: &SigningKey, bytes: &[u8]| -> anyhow::Result<String> {
        let path = shop.lab.path(name);
        fs::write(&path, key.sign(bytes))?;
        Ok(path.display().to_string())
    };
    let good = sign("good", &key, &bytes)?;
    let stranger = sign("stranger", &other, &bytes)?;
    let wrong = sign("wrong", &key, b"something else")?;
    let add = format!("add {} --type fixed", path.display());
    let known = key.public();
    let policy = |is_required: bool| {
        let text =
            format!("[plugins]\nsigning-keys = [\"{known}\"]\nrequire-signature = {is_required}\n{POLICY}");
        shop.policy(&text)
    };
    policy(true)?;
    shop.fail(&add, "requires a signature")?;
    shop.fail(&format!("{add} --signature {stranger}"), "none of the 1 known signing keys")?;
    shop.fail(&format!("{add} --signature {wrong}"), "not one of this file")?;
    shop.policy("[plugins]\nsigning-key = []\n")?;
    shop.fail(&format!("{add} --signature {good}"), "policy.toml:2:1: unknown key")?;
    ensure!(shop.everything().is_empty(), "left are {:?}", shop.everything());
    policy(true)?;
    shop.succeed(&format!("{add} --signature {good}"))?;
    ensure!(shop.list()?[0]["signedBy"] == known.as_str(), "listed is {:?}", shop.list()?);
    let text = shop.succeed("inspect fixed")?;
    ensure!(text.contains(&known), "inspect says {text}");
    shop.address()?;
    shop.succeed("remove fixed")?;
    // A signature that is not needed has to be right all the same.
    policy(false)?;
    shop.fail(&format!("{add} --signature {wrong}"), "not one of this file")?;
    shop.succeed(&add)?;
    ensure!(shop.list()?[0]["signedBy"].is_null(), "listed is {:?}", shop.list()?);
    Ok(())
}

pub(super) fn grants() -> anyhow::Result<()> {
    let shop = Shop::new()?;
    let path = guest::component("fixed")?;
    shop.policy("")?;
    let has = |text: &str, word: &str| -> anyhow::Result<()> {
        ensure!(text.contains(word), "it does not mention {word:?}: {text}");
        Ok(())
    };
    let of = |value: &Value, interface: &str| -> anyhow::Result<Value> {
        let imports = value["imports"].as_array().context("it lists imports")?;
        let name = |import: &Value| import["interface"].as_str().map(str::to_owned).unwrap_or_default();
        let found = imports.iter().find(|import| name(import).starts_with(interface));
        found.cloned().with_context(|| format!("{interface} is not in {value}"))
    };
    let inspect = format!("inspect {}", path.display());
    for arguments in [&inspect, &format!("add {} --type fixed", path.display())] {
        let text = shop.succeed(arguments)?;
        has(&text, "denied: no allow rule matches it")?;
        has(&text, "[[allow]]\nname = \"fixed\"\nplugin = \"fixed\"\ndigest = \"sha256:")?;
    }
    shop.policy("[[allow]]\nname = \"f\"\nplugin = \"fixed\"\ninterfaces = []\n[[deny]]\ninterfaces = \"weir:host/log\"\n")?;
    let place = shop.lab.path("policy").join("policy.toml").display().to_string();
    for target in [inspect.as_str(), "inspect fixed"] {
        let text = shop.succeed(target)?;
        has(&text, &format!("denied: {place}:6 forbids it"))?;
        has(&text, &format!("allowed by {place}:4 (rule \"f\")"))?;
        let value: Value = serde_json::from_str(&shop.succeed(&format!("{target} --json"))?)?;
        let (log, request) = (of(&value, "weir:host/log")?, of(&value, "weir:plugin/request")?);
        ensure!(log["allowed"] == false && log["rule"].is_null(), "it says {log}");
        has(log["reason"].as_str().unwrap_or_default(), ":6 forbids it")?;
        ensure!(request["allowed"] == true && request["reason"].is_null(), "it says {request}");
        has(request["rule"].as_str().unwrap_or_default(), &format!("{place}:4"))?;
    }
    shop.policy("[[allow]]\nplugin = \"bridge\"\nnetwork = \"n\"\ninterfaces = \"weir:net/links\"\n")?;
    let text = shop.succeed("inspect bridge --network n")?;
    has(&text, &format!("allowed by {place}:4"))?;
    has(&text, &format!("change {place}:4: interfaces = [\"weir:net/links\", \"weir:net/routes\"]"))?;
    has(&shop.succeed("inspect bridge")?, "as no rule restricts it")?;
    shop.policy("[[allow]]\nplugins = \"bridge\"\n")?;
    has(&shop.succeed("inspect bridge")?, &format!("nothing is allowed: {place}:2:1: unknown key"))
}
