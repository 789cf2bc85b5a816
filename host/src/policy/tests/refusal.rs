//! What refusals say, and the rules that they propose.

use super::{DIGEST, FOREIGN, each, policy};
use crate::policy::{Operation, Policy, Subject};

#[test]
fn refusals_name_the_line_and_say_what_to_write() {
    let permit = policy(
        "[[allow]]\nname = \"tenant a\"\nbridges = [\"br-a\"]\n\n[[deny]]\nname = \"uplink\"\nlinks = [\n\"eth*\" ]",
    )
    .permit(&FOREIGN);
    let refusal = permit.check(&Operation::Bridge("br-b")).unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "plugin acme in network net-a of tenant \"team-a\" may not use the bridge \"br-b\": /p/policy.toml:1 (rule \"tenant a\") does not allow it"
    );
    assert_eq!(refusal.hint(), "change /p/policy.toml:3 (rule \"tenant a\"): bridges = [\"br-a\", \"br-b\"]");
    let refusal = permit.check(&Operation::CreateLink { kind: "veth", name: "eth1" }).unwrap_err();
    assert!(refusal.to_string().ends_with("/p/policy.toml:7 (rule \"uplink\") forbids it"), "{refusal}");
    let refusal = permit.check(&Operation::CreateLink { kind: "veth", name: "v1" }).unwrap_err();
    assert_eq!(
        refusal.hint(),
        "add to /p/policy.toml:1 (rule \"tenant a\"): links = [\"v1\"]; add to /p/policy.toml:1 (rule \"tenant a\"): link-kinds = [\"veth\"]"
    );
    // What a guest calls itself does not become a pattern.
    let hint = permit.check(&Operation::Bridge("*")).unwrap_err().hint();
    assert!(!hint.contains("bridges ="), "{hint}");
    let hint = Policy::default().permit(&FOREIGN).check(&Operation::Bridge("*")).unwrap_err().hint();
    assert!(hint.contains(DIGEST) && !hint.contains("bridges"), "{hint}");
}

#[test]
fn the_hint_is_a_policy_that_allows_it() {
    for (operation, _) in each() {
        let refusal = Policy::default().permit(&FOREIGN).check(&operation).unwrap_err();
        let (_, rule) =
            refusal.hint().split_once('\n').map(|(one, two)| (one.to_owned(), two.to_owned())).unwrap();
        assert_eq!(policy(&rule).permit(&FOREIGN).check(&operation), Ok(()), "{rule}");
        assert!(policy(&rule).permit(&Subject { plugin: "other", ..FOREIGN }).is_allowed_at_all().is_err());
    }
}

#[test]
fn imports_are_refused_together() {
    let imports =
        ["weir:net/links@0.1.0", "weir:host/log@0.1.0", "weir:store/files@0.1.0", "weir:net/routes@0.1.0"];
    let permit = policy("[[allow]]\ninterfaces = \"weir:net/l*\"").permit(&FOREIGN);
    let refusal = permit.check_imports(&imports).unwrap_err();
    assert!(
        refusal.to_string().contains("import \"weir:store/files@0.1.0\", \"weir:net/routes@0.1.0\": "),
        "{refusal}"
    );
    assert_eq!(
        refusal.hint(),
        "change /p/policy.toml:2: interfaces = [\"weir:net/l*\", \"weir:store/files\", \"weir:net/routes\"]"
    );
    assert_eq!(permit.check_imports(&imports[..2]), Ok(()));
    let refusal = Policy::default().permit(&FOREIGN).check_imports(&imports).unwrap_err();
    assert!(refusal.hint().contains("interfaces = [\"weir:net/links\", "), "{}", refusal.hint());
    let denying =
        policy("[[allow]]\ninterfaces = \"*\"\n[[deny]]\ninterfaces = \"weir:store/*\"").permit(&FOREIGN);
    let refusal = denying.check_imports(&imports).unwrap_err();
    assert!(refusal.to_string().contains(":4 forbids it"), "{refusal}");
}
