//! What the operations of a call did, for those who want to see it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// What one operation of a plugin did.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    /// The plugin's type.
    pub(crate) plugin: String,
    /// The operation's name in the contract.
    pub(crate) operation: String,
    /// What it was done to.
    pub(crate) object: String,
    /// Why it was not done.
    pub(crate) refusal: Option<String>,
    /// How long it took.
    pub(crate) time: Duration,
}

/// A list of operations that a call adds to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace(Rc<RefCell<Vec<Operation>>>);

impl Trace {
    pub(crate) fn add(&self, operation: Operation) {
        self.0.borrow_mut().push(operation);
    }

    /// Takes out what was added so far.
    pub(crate) fn take(&self) -> Vec<Operation> {
        self.0.take()
    }
}
