//! Components of third parties: looking into one and compiling it never
//! panics, and what is said of it can be read.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use weir_compiler::{Engine, compile, describe, engine};

fuzz_target!(|data: &[u8]| {
    let Ok(described) = describe(data) else { return };
    let text = described.to_json().expect("a description can be written");
    assert!(!text.contains('\n'), "it ends before it is over");
    let description: Value = serde_json::from_str(&text).expect("a description can be read");
    assert!(description["imports"].is_array() && description["exports"].is_array());
    let again = describe(&described.component).expect("what was made of it is a component");
    assert_eq!(again.component, described.component);
    assert_eq!(again.to_json().expect("a description can be written"), text);
    // It may be refused for what it needs, not bring the compiler down.
    ENGINE.with(|engine| drop(compile(engine, &described.component)));
});

thread_local! {
    static ENGINE: Engine = engine("x86_64-unknown-linux-gnu").expect("there is an engine");
}
