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
    /// Whether it was not even tried, as the plugin may not do it.
    pub(crate) is_denied: bool,
    /// The rules that allow it, where somebody asked for them.
    pub(crate) rules: Vec<String>,
    /// How long it took.
    pub(crate) time: Duration,
}

/// A list of operations that a call adds to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trace(Rc<RefCell<List>>);

#[derive(Debug, Default)]
struct List {
    operations: Vec<Operation>,
    is_over: bool,
}

impl Trace {
    pub(crate) fn add(&self, operation: Operation) {
        let mut list = self.0.borrow_mut();
        if !list.is_over {
            list.operations.push(operation);
        }
    }

    /// Leaves out what comes from now on.
    pub(crate) fn end(&self) {
        self.0.borrow_mut().is_over = true;
    }

    /// Takes out what was added so far.
    pub(crate) fn take(&self) -> Vec<Operation> {
        std::mem::take(&mut self.0.borrow_mut().operations)
    }
}
