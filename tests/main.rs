//! End-to-end tests: the binary in namespaces of its own.
//!
//! `cargo test -p weir --test end-to-end [FILTER]`. They run as root or, where
//! unprivileged user namespaces work, as anybody. A test that needs something
//! the machine lacks is reported as ignored, with the reason.

#![allow(clippy::disallowed_methods, reason = "tests make namespaces, run programs and read the environment")]

mod conformance;
mod lab;
mod sandbox;
mod scenarios;

use std::process::ExitCode;
use std::thread;

use libtest_mimic::{Arguments, Completion, Failed, Trial};

use crate::lab::{Missing, isolation};

/// One test: a sentence, and what shows that it is true.
pub(crate) struct Test {
    name: String,
    run: Box<dyn FnOnce() -> anyhow::Result<()> + Send>,
}

impl Test {
    /// A test that fails with an error, and is ignored with [`Missing`].
    pub(crate) fn new(
        name: impl Into<String>,
        run: impl FnOnce() -> anyhow::Result<()> + Send + 'static,
    ) -> Self {
        Self { name: name.into(), run: Box::new(run) }
    }

    fn trial(self, obstacle: Option<String>) -> Trial {
        Trial::ignorable_test(self.name, move || {
            if let Some(reason) = obstacle {
                return Ok(Completion::ignored_with(reason));
            }
            match (self.run)() {
                Ok(()) => Ok(Completion::Completed),
                Err(error) => match error.downcast_ref::<Missing>() {
                    Some(missing) => Ok(Completion::ignored_with(missing)),
                    None => Err(Failed::from(format!("{error:#}"))),
                },
            }
        })
    }
}

fn main() -> ExitCode {
    // Before there is a second thread.
    let obstacle = isolation::enter().err().map(|error| format!("{error:#}"));
    let mut arguments = Arguments::from_args();
    // Tests wait for the kernel most of the time.
    let cores = thread::available_parallelism().map_or(1, usize::from);
    arguments.test_threads.get_or_insert(2 * cores);
    let tests = conformance::tests().into_iter().chain(scenarios::tests()).chain(sandbox::tests());
    let trials = tests.map(|test| test.trial(obstacle.clone())).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
