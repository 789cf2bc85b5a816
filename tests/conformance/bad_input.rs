//! Input that weir has to refuse: with the specification's code, a message
//! that names key and value, exit code 1, and nothing changed.

mod configuration;
mod environment;

use anyhow::ensure;

use crate::Test;
use crate::lab::{Call, Lab, Plugins, changes};

/// What is changed about [`GOOD`] to make one bad call.
const GOOD: &str = r#"{"cniVersion":"1.0.0","name":"mynet","type":"bridge","isGateway":true,
    "ipam":{"type":"host-local","subnet":"10.1.0.0/24"}}"#;

/// Makes the call in a lab that has one container.
type Arrange = Box<dyn Fn(&Lab) -> anyhow::Result<Call> + Send>;

/// A bad call.
pub(super) struct Bad {
    name: &'static str,
    /// The specification's code, or several where it leaves the choice.
    codes: &'static [u64],
    /// What the message has to mention.
    says: &'static [&'static str],
    arrange: Arrange,
}

impl Bad {
    fn new(
        name: &'static str,
        codes: &'static [u64],
        says: &'static [&'static str],
        arrange: impl Fn(&Lab) -> anyhow::Result<Call> + Send + 'static,
    ) -> Self {
        Self { name, codes, says, arrange: Box::new(arrange) }
    }

    /// ADD with this on standard input.
    fn input(
        name: &'static str,
        codes: &'static [u64],
        says: &'static [&'static str],
        input: impl Into<Vec<u8>>,
    ) -> Self {
        let input = input.into();
        Self::new(name, codes, says, move |lab| Ok(add(lab).input(input.clone())))
    }

    fn test(self) -> Test {
        Test::new(format!("bad input: {}", self.name), move || {
            let mut lab = Lab::new(Plugins::Weir)?;
            lab.add_container()?;
            let call = (self.arrange)(&lab)?;
            let before = lab.digest()?;
            let error = lab.run(&call)?.failure()?;
            ensure!(
                self.codes.contains(&error.code),
                "expected code {:?}, got {}: {}",
                self.codes,
                error.code,
                error.text
            );
            for text in self.says {
                ensure!(error.text.contains(text), "the error does not mention {text:?}: {}", error.text);
            }
            // A call that failed late did lease an address for a moment.
            let is_bookkeeping =
                |change: &String| change.contains("/lock = ") || change.contains("/last_reserved_ip.");
            let mut changes = changes(&before, &lab.digest()?);
            changes.retain(|change| !is_bookkeeping(change));
            ensure!(changes.is_empty(), "it was refused and changed something:\n{}", changes.join("\n"));
            Ok(())
        })
    }
}

/// A good ADD, without configuration.
fn add(lab: &Lab) -> Call {
    lab.call_for("bridge", "ADD", &lab.containers[0], "eth0")
}

/// The whole table.
pub(super) fn tests() -> Vec<Test> {
    configuration::rows().into_iter().chain(environment::rows()).map(Bad::test).collect()
}
