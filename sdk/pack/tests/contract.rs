//! A package of the contract may grow within its version, and nothing more:
//! components that were built against it have to go on working.

#![allow(clippy::disallowed_methods, reason = "the test is told by the environment to write its record")]

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use wit_parser::{Function, Resolve, Type, TypeDefKind, TypeId};

const PACKAGES: [&str; 5] = ["host", "net", "firewall", "store", "plugin"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Every item of the contract, one a line: the interface with its version,
/// then the item with everything that a component sees of it.
fn items() -> BTreeSet<String> {
    let mut resolve = Resolve::default();
    for package in PACKAGES {
        resolve.push_path(root().join("wit").join(package)).unwrap();
    }
    let mut items = BTreeSet::new();
    for (id, interface) in resolve.interfaces.iter() {
        let name = resolve.id_of(id).unwrap();
        for (kind, ty) in &interface.types {
            items.insert(format!("{name} type {kind} = {}", definition(&resolve, *ty)));
        }
        for (function, signature) in &interface.functions {
            items.insert(format!("{name} func {function}{}", self::signature(&resolve, signature)));
        }
    }
    items
}

fn signature(resolve: &Resolve, function: &Function) -> String {
    let params: Vec<String> =
        function.params.iter().map(|param| format!("{}: {}", param.name, text(resolve, &param.ty))).collect();
    let result = function.result.as_ref().map(|ty| format!(" -> {}", text(resolve, ty))).unwrap_or_default();
    format!("({}){result}", params.join(", "))
}

fn text(resolve: &Resolve, ty: &Type) -> String {
    match ty {
        Type::Id(id) => match &resolve.types[*id].name {
            Some(name) => name.clone(),
            None => definition(resolve, *id),
        },
        primitive => format!("{primitive:?}").to_lowercase(),
    }
}

fn definition(resolve: &Resolve, id: TypeId) -> String {
    let list = |types: Vec<String>| types.join(", ");
    match &resolve.types[id].kind {
        TypeDefKind::Record(record) => {
            let fields =
                record.fields.iter().map(|field| format!("{}: {}", field.name, text(resolve, &field.ty)));
            format!("record {{{}}}", list(fields.collect()))
        }
        TypeDefKind::Variant(variant) => {
            let cases = variant.cases.iter().map(|case| match &case.ty {
                Some(ty) => format!("{}({})", case.name, text(resolve, ty)),
                None => case.name.clone(),
            });
            format!("variant {{{}}}", list(cases.collect()))
        }
        TypeDefKind::Enum(kinds) => {
            format!("enum {{{}}}", list(kinds.cases.iter().map(|case| case.name.clone()).collect()))
        }
        TypeDefKind::Tuple(tuple) => {
            format!("tuple<{}>", list(tuple.types.iter().map(|ty| text(resolve, ty)).collect()))
        }
        TypeDefKind::List(ty) => format!("list<{}>", text(resolve, ty)),
        TypeDefKind::Option(ty) => format!("option<{}>", text(resolve, ty)),
        TypeDefKind::Result(result) => {
            let side = |ty: &Option<Type>| ty.as_ref().map_or_else(|| "_".to_owned(), |ty| text(resolve, ty));
            format!("result<{}, {}>", side(&result.ok), side(&result.err))
        }
        TypeDefKind::Handle(wit_parser::Handle::Borrow(id)) => {
            format!("borrow<{}>", text(resolve, &Type::Id(*id)))
        }
        TypeDefKind::Handle(wit_parser::Handle::Own(id)) => text(resolve, &Type::Id(*id)),
        TypeDefKind::Type(ty) => format!("use {}", text(resolve, ty)),
        TypeDefKind::Resource => "resource".to_owned(),
        other => panic!("the contract uses {other:?}; teach this test to compare it"),
    }
}

/// What is in the record and not in the contract any more was changed or
/// removed under the same version.
fn broken(record: &str, items: &BTreeSet<String>) -> Vec<String> {
    record.lines().filter(|line| !line.is_empty() && !items.contains(*line)).map(str::to_owned).collect()
}

#[test]
fn packages_change_compatibly_or_get_a_new_version() {
    let path = root().join("tests/contract/items.txt");
    let items = items();
    let text: String = items.iter().map(|item| format!("{item}\n")).collect();
    let record = fs::read_to_string(&path).unwrap_or_default();
    // A package whose version was raised starts a record of its own.
    let versions: BTreeSet<&str> = items.iter().filter_map(|item| item.split(' ').next()).collect();
    let still_there: String = record
        .lines()
        .filter(|line| versions.contains(line.split(' ').next().unwrap()))
        .map(|line| format!("{line}\n"))
        .collect();
    let broken = broken(&still_there, &items);
    assert!(
        broken.is_empty(),
        "these items of the contract were changed or removed, but their packages' versions were not raised:\n{}",
        broken.join("\n")
    );
    if env::var_os("WEIR_RECORD_CONTRACT").is_some() {
        fs::write(&path, &text).unwrap();
    } else {
        assert!(
            record == text,
            "the contract has grown: run this test with WEIR_RECORD_CONTRACT=1 and commit {}",
            path.display()
        );
    }
}

#[test]
fn changes_are_seen() {
    let items = items();
    let function = items.iter().find(|item| item.contains("weir:host/random@0.1.0 func bytes")).unwrap();
    assert_eq!(function, "weir:host/random@0.1.0 func bytes(length: u32) -> list<u8>");
    let changed = items.iter().map(|item| item.replace("length: u32", "length: u64")).collect();
    assert_eq!(broken(&format!("{function}\n"), &changed), std::slice::from_ref(function));
    assert!(broken(&format!("{function}\n"), &items).is_empty());
}
