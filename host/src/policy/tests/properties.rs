//! A narrower policy never allows what a wider one denies.
//!
//! Policies are made of few names and prefixes, so that rules meet, and each
//! is asked everything.

use std::fmt::Write as _;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::policy;
use crate::policy::port::Ports;
use crate::policy::rule::Key;
use crate::policy::{Limits, Numbers, Operation, Permit, Port, Protocol, Side, Subject};

const CONDITIONS: [(&str, &[&str]); 3] = [
    ("network", &["a", "b", "a*", "?", "*"]),
    ("plugin", &["bridge", "acme", "*"]),
    ("tenant", &["a", "a*", "*"]),
];

const NAMES: [&str; 7] = ["a", "b", "ab", "a*", "*b", "?", "*"];
const PREFIXES: [&str; 8] = [
    "10.1.2.3",
    "10.1.2.0/24",
    "10.1.0.0/16",
    "10.0.0.0/8",
    "0.0.0.0/0",
    "fd00::/8",
    "::/0",
    "::ffff:10.1.2.0/120",
];

const PORTS: [&str; 8] = [
    "80/tcp",
    "80-89/tcp",
    "1-65535/tcp",
    "80/udp",
    "127.0.0.1:80/tcp",
    "127.0.0.1:1-65535/tcp",
    "[::ffff:127.0.0.1]:80-89/tcp",
    "[fd00::1]:80/tcp",
];

const DIRECTORIES: [&str; 4] = ["/a", "/a/*", "/?", "*"];

const NUMBERS: [&str; 5] = ["1", "1-9", "5-5", "5-4094", "1-4094"];

const KEYS: [(&str, &[&str]); 15] = [
    ("interfaces", &["weir:net/links", "weir:net/*", "weir:host/log", "*"]),
    ("namespaces", &["container", "host"]),
    ("links", &NAMES),
    ("link-kinds", &["veth", "bridge", "macvlan"]),
    ("bridges", &NAMES),
    ("parents", &NAMES),
    ("addresses", &PREFIXES),
    ("routes", &PREFIXES),
    ("neighbors", &PREFIXES),
    ("sysctls", &NAMES),
    ("delegates", &NAMES),
    ("ports", &PORTS),
    ("data-dirs", &DIRECTORIES),
    ("vlans", &NUMBERS),
    ("vnis", &NUMBERS),
];

/// A rule, as a list of values for each key that it has.
#[derive(Debug, Clone)]
struct Rule {
    is_allow: bool,
    conditions: Vec<Option<Vec<&'static str>>>,
    keys: Vec<Option<Vec<&'static str>>>,
    leases: Option<u32>,
    time: Option<u32>,
}

#[derive(Debug, Clone)]
struct Rules {
    by_rule: bool,
    rules: Vec<Rule>,
}

impl Rules {
    fn text(&self) -> String {
        let bundled = if self.by_rule { "by-rule" } else { "unrestricted" };
        let mut text = format!("bundled = \"{bundled}\"\n");
        for rule in &self.rules {
            writeln!(text, "[[{}]]", if rule.is_allow { "allow" } else { "deny" }).unwrap();
            let conditions = CONDITIONS.iter().zip(&rule.conditions);
            for ((key, _), values) in conditions.chain(KEYS.iter().zip(&rule.keys)) {
                if let Some(values) = values {
                    writeln!(text, "{key} = {values:?}").unwrap();
                }
            }
            if rule.is_allow {
                rule.leases.iter().for_each(|number| writeln!(text, "leases = {number}").unwrap());
                rule.time.iter().for_each(|time| writeln!(text, "limits.time = \"{time}s\"").unwrap());
            }
        }
        text
    }

    fn positions(&self, is_allow: bool) -> Vec<usize> {
        (0..self.rules.len()).filter(|at| self.rules[*at].is_allow == is_allow).collect()
    }
}

fn values(known: &'static [&'static str], least: usize) -> impl Strategy<Value = Option<Vec<&'static str>>> {
    proptest::option::of(vec(select(known), least..3))
}

fn rule(is_allow: bool) -> impl Strategy<Value = Rule> {
    let conditions: Vec<_> = CONDITIONS.iter().map(|(_, known)| values(known, 1)).collect();
    let keys: Vec<_> = KEYS.iter().map(|(_, known)| values(known, usize::from(!is_allow))).collect();
    let numbers = (proptest::option::of(0..4_u32), proptest::option::of(1..4_u32));
    (conditions, keys, numbers).prop_map(move |(conditions, keys, (leases, time))| Rule {
        is_allow,
        conditions,
        keys,
        leases,
        time,
    })
}

fn rules() -> impl Strategy<Value = Rules> {
    let rule = prop_oneof![3 => rule(true), 1 => rule(false)];
    (any::<bool>(), vec(rule, 1..5)).prop_map(|(by_rule, rules)| Rules { by_rule, rules })
}

fn subjects() -> Vec<Subject<'static>> {
    let mut subjects = Vec::new();
    for network in ["a", "ab", "b"] {
        for (plugin, is_bundled) in [("bridge", true), ("acme", false)] {
            for tenant in [None, Some("a"), Some("b")] {
                subjects.push(Subject { network, plugin, digest: "", tenant, is_bundled });
            }
        }
    }
    subjects
}

fn operations() -> Vec<Operation<'static>> {
    let mut operations = vec![Operation::Namespace(Side::Host), Operation::Namespace(Side::Container)];
    operations.extend(
        ["weir:net/links", "weir:net/routes", "weir:host/log", "weir:store/files"].map(Operation::Import),
    );
    for name in ["a", "b", "ab", "c", "*", "?"] {
        operations.extend([Operation::Bridge(name), Operation::Sysctl(name), Operation::Delegate(name)]);
        operations.extend([Operation::Parent(name), Operation::Passthru(name)]);
        operations.extend(["macvlan", "vxlan"].map(|kind| Operation::PutOn { kind, parent: Some(name) }));
        operations.extend(["veth", "bridge", "vxlan"].map(|kind| Operation::CreateLink { kind, name }));
    }
    operations.push(Operation::PutOn { kind: "macvlan", parent: None });
    for (path, pool) in [("/a", "/a/b"), ("/b", "/b/c"), ("/a/b", "/a/b/c")] {
        operations.push(Operation::DataDir { path, pool });
    }
    for prefix in [
        "10.1.2.3/32",
        "10.1.2.3/24",
        "10.1.0.0/16",
        "10.1.0.0/15",
        "192.168.0.1/32",
        "0.0.0.0/0",
        "::ffff:10.1.2.3/128",
        "::ffff:0:0/90",
        "fd00::1/128",
        "::/0",
    ] {
        let prefix = prefix.parse().unwrap();
        operations.extend([Operation::Address, Operation::Route, Operation::Neighbor].map(|of| of(prefix)));
    }
    for port in
        ["80/tcp", "81/tcp", "80/udp", "90/tcp", "127.0.0.1:80/tcp", "127.0.0.2:80/tcp", "[fd00::1]:80/tcp"]
    {
        operations.push(Operation::Port(Port::parse(port).unwrap()));
    }
    for (first, last) in [(1, 1), (4, 6), (5, 4094), (1, 4094), (9, 10)] {
        for name in [Some("a"), Some("b"), None] {
            let vlans = Numbers::between(first, last);
            operations.push(Operation::Vlans { bridge: name, vlans });
            operations.push(Operation::Vni { parent: name, vni: first });
        }
    }
    operations
}

/// No limit counts as the highest one.
fn limit<T: Copy>(limit: Option<T>, highest: T) -> T {
    limit.unwrap_or(highest)
}

fn is_no_wider(narrow: &Permit, wide: &Permit, counts_limits: bool) -> Result<(), String> {
    for operation in operations() {
        if let (Ok(()), Err(refusal)) = (narrow.check(&operation), wide.check(&operation)) {
            return Err(format!("the narrow one allows it, but {refusal}"));
        }
    }
    if narrow.is_allowed_at_all().is_ok() && wide.is_allowed_at_all().is_err() {
        return Err("the narrow one allows something at all".to_owned());
    }
    if limit(narrow.leases(), u32::MAX) > limit(wide.leases(), u32::MAX) {
        return Err(format!("leases: {:?} and {:?}", narrow.leases(), wide.leases()));
    }
    let time = |limits: Limits| limit(limits.time.map(|time| time.as_secs()), u64::MAX);
    if counts_limits && time(narrow.limits()) > time(wide.limits()) {
        return Err(format!("limits: {:?} and {:?}", narrow.limits(), wide.limits()));
    }
    Ok(())
}

/// Compares two policies about all subjects that `concerns` picks.
fn compare(
    narrow: &Rules,
    wide: &Rules,
    counts_limits: bool,
    concerns: impl Fn(&Subject<'_>) -> bool,
) -> Result<(), TestCaseError> {
    let (narrow_text, wide_text) = (narrow.text(), wide.text());
    let (narrow, wide) = (policy(&narrow_text), policy(&wide_text));
    for subject in subjects().iter().filter(|subject| concerns(subject)) {
        if let Err(reason) = is_no_wider(&narrow.permit(subject), &wide.permit(subject), counts_limits) {
            return Err(TestCaseError::fail(format!("{subject:?}: {reason}\n{narrow_text}\n{wide_text}")));
        }
    }
    Ok(())
}

/// A value that is in `value`, or it itself.
fn within(value: &'static str, known: &'static [&'static str], pick: &Index) -> &'static str {
    let is_prefix = known.contains(&"::/0");
    let is_port = known.contains(&"80/tcp");
    let is_number = known.contains(&"1-9");
    let narrower: Vec<&'static str> = known
        .iter()
        .copied()
        .filter(|other| match is_prefix {
            true => {
                let (wide, narrow) = (
                    crate::policy::prefix::parse(value).unwrap(),
                    crate::policy::prefix::parse(other).unwrap(),
                );
                crate::policy::prefix::covers(&wide, &narrow)
            }
            false if is_port => Ports::parse(value).unwrap().covers(&Ports::parse(other).unwrap()),
            false if is_number => {
                let [value, other] = [value, *other].map(|text| Numbers::parse(Key::Vlans, text).unwrap());
                value.covers(&other)
            }
            false => crate::policy::pattern::covers(value, other),
        })
        .collect();
    narrower[pick.index(narrower.len())]
}

/// Makes a list of values smaller.
fn narrow_values(
    values: &mut Vec<&'static str>,
    known: &'static [&'static str],
    pick: &Index,
    how: &Index,
    may_be_empty: bool,
) {
    if values.is_empty() {
        return;
    }
    let at = pick.index(values.len());
    if how.index(2) == 0 && (may_be_empty || values.len() > 1) {
        values.remove(at);
    } else {
        values[at] = within(values[at], known, how);
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_deny_rule_more_never_allows_more(wide in rules(), deny in rule(false), at in any::<Index>()) {
        let mut narrow = wide.clone();
        narrow.rules.insert(at.index(narrow.rules.len() + 1), deny);
        compare(&narrow, &wide, true, |_| true)?;
    }

    #[test]
    fn a_value_more_in_a_deny_rule_never_allows_more(wide in rules(), deny in rule(false), key in 0..KEYS.len(), pick in any::<Index>()) {
        let mut wide = wide;
        // A rule without keys denies everything already.
        prop_assume!(deny.keys.iter().any(Option::is_some));
        wide.rules.push(deny);
        let mut narrow = wide.clone();
        let (_, known) = KEYS[key];
        let rule = narrow.rules.last_mut().unwrap();
        rule.keys[key].get_or_insert_default().push(known[pick.index(known.len())]);
        compare(&narrow, &wide, true, |_| true)?;
    }

    #[test]
    fn a_narrower_bound_never_allows_more(wide in rules(), rule in any::<Index>(), key in 0..KEYS.len(), pick in any::<Index>(), how in any::<Index>()) {
        let allow = wide.positions(true);
        prop_assume!(!allow.is_empty());
        let mut narrow = wide.clone();
        let rule = &mut narrow.rules[allow[rule.index(allow.len())]];
        let Some(values) = &mut rule.keys[key] else {
            // What was not bounded is, which is more for other plugins.
            rule.keys[key] = Some(vec![KEYS[key].1[pick.index(KEYS[key].1.len())]]);
            return compare(&narrow, &wide, true, |subject| subject.is_bundled);
        };
        narrow_values(values, KEYS[key].1, &pick, &how, true);
        compare(&narrow, &wide, true, |_| true)?;
    }

    #[test]
    fn lower_numbers_never_allow_more(wide in rules(), rule in any::<Index>(), number in 0..4_u32) {
        let allow = wide.positions(true);
        prop_assume!(!allow.is_empty());
        let mut narrow = wide.clone();
        let rule = &mut narrow.rules[allow[rule.index(allow.len())]];
        let was_bounded = rule.leases.is_some();
        rule.leases = Some(rule.leases.map_or(number, |leases| leases.min(number)));
        rule.time = Some(rule.time.map_or(number.max(1), |time| time.min(number.max(1))));
        compare(&narrow, &wide, true, |subject| subject.is_bundled || was_bounded)?;
    }

    #[test]
    fn a_narrower_match_never_allows_more(wide in rules(), rule in any::<Index>(), condition in 0..3_usize, pick in any::<Index>(), how in any::<Index>()) {
        let allow = wide.positions(true);
        prop_assume!(!allow.is_empty());
        let mut narrow = wide.clone();
        let (_, known) = CONDITIONS[condition];
        match &mut narrow.rules[allow[rule.index(allow.len())]].conditions[condition] {
            Some(values) => narrow_values(values, known, &pick, &how, false),
            none => *none = Some(vec![known[pick.index(known.len())]]),
        }
        // A bundled plugin that no rule matches any more may be unrestricted,
        // and a rule that does not match sets no limits.
        compare(&narrow, &wide, false, |subject| wide.by_rule || !subject.is_bundled)?;
    }

    #[test]
    fn an_allow_rule_less_never_allows_more(wide in rules(), rule in any::<Index>()) {
        let allow = wide.positions(true);
        prop_assume!(!allow.is_empty());
        let mut narrow = wide.clone();
        narrow.rules.remove(allow[rule.index(allow.len())]);
        compare(&narrow, &wide, false, |subject| wide.by_rule || !subject.is_bundled)?;
    }

    #[test]
    fn by_rule_never_allows_more(rules in rules()) {
        let (narrow, wide) = (Rules { by_rule: true, ..rules.clone() }, Rules { by_rule: false, ..rules });
        compare(&narrow, &wide, true, |_| true)?;
    }

    #[test]
    fn no_spelling_of_an_address_dodges(rules in rules(), address in any::<u32>(), length in 0..=32_u8, near in any::<bool>()) {
        let policy = policy(&rules.text());
        // Mostly where the rules are.
        let address = if near { 0x0a01_0200 | address & 0xff } else { address };
        let plain = ipnet::Ipv4Net::new(address.into(), length).unwrap();
        let mapped = ipnet::Ipv6Net::new(plain.addr().to_ipv6_mapped(), length + 96).unwrap();
        for subject in subjects() {
            let permit = policy.permit(&subject);
            for operation in [Operation::Address, Operation::Route, Operation::Neighbor] {
                let answer = permit.check(&operation(plain.into())).is_ok();
                prop_assert_eq!(permit.check(&operation(plain.trunc().into())).is_ok(), answer);
                prop_assert_eq!(permit.check(&operation(mapped.into())).is_ok(), answer);
                prop_assert_eq!(permit.check(&operation(mapped.trunc().into())).is_ok(), answer);
                // What is allowed as a whole is allowed in its parts.
                let part = ipnet::Ipv4Net::new(plain.addr(), 32).unwrap();
                prop_assert!(!answer || permit.check(&operation(part.into())).is_ok());
            }
            let port = |address| permit.check(&Operation::Port(Port { address, number: 80, protocol: Protocol::Tcp })).is_ok();
            let at_one = port(Some(plain.addr().into()));
            prop_assert_eq!(port(Some(mapped.addr().into())), at_one);
            // What is allowed at every address is allowed at each.
            prop_assert!(!port(None) || at_one);
        }
    }

    #[test]
    fn any_text_is_read_or_refused_with_a_position(text in "(\\[\\[?|\\]\\]?|allow|deny|audit|plugins|limits|bridges|links|\"a\\*\"|'x'|=|\\.|,|\n|#|\\{|\\}|[0-9]|\\PC){0,40}") {
        if let Err(error) = crate::policy::Policy::parse(&[("/p/policy.toml".into(), text.clone())]) {
            prop_assert!(!error.problems().is_empty());
            for problem in error.problems() {
                let (line, column) = problem.position.unwrap();
                prop_assert!(line >= 1 && column >= 1 && line as usize <= text.split('\n').count());
            }
        }
    }
}
