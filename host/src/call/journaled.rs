//! What a call tells the journal, and asks it.

use super::{Call, Served, Stop};
use crate::delegate::Process;
use crate::failure::Failure;
use crate::journal::{Inverse, Journal};
use crate::request::Command;

impl Call {
    /// Writes the way back of a change into the journal.
    pub(crate) fn record(&self, inverse: Option<Inverse>) -> Served<Option<usize>> {
        match (inverse, self.journal.borrow_mut().as_mut()) {
            (Some(inverse), Some(journal)) => Ok(Some(journal.record(inverse).map_err(Stop)?)),
            _ => Ok(None),
        }
    }

    /// Writes down the program that ADD waits for.
    pub(crate) fn record_process(&self, process: Process) -> Result<(), Failure> {
        self.journal.borrow_mut().as_mut().map_or(Ok(()), |journal| journal.record_process(process))
    }

    /// Picks out of the attachment's journal what earlier calls and this one
    /// did; none if there is no journal.
    pub(crate) fn journaled<T>(
        &self,
        pick: impl Fn(&Inverse) -> Option<T>,
    ) -> Result<Option<Vec<T>>, Failure> {
        if self.journal.borrow().is_some() {
            return Ok(Some(self.recorded(pick)));
        }
        // CHECK changes nothing, so it has none open.
        let directory = self.node.paths().attachments();
        let journal = Journal::open(&directory, &self.key.name(), self.lock_wait())?;
        Ok(journal.map(|journal| picked(&journal, pick)))
    }

    /// The same, but of the journal that is open for this call: nothing
    /// without one.
    pub(crate) fn recorded<T>(&self, pick: impl Fn(&Inverse) -> Option<T>) -> Vec<T> {
        self.journal.borrow().as_ref().map(|journal| picked(journal, pick)).unwrap_or_default()
    }

    /// Whether there is a journal of the attachment: weir made it.
    pub(crate) fn is_journaled(&self) -> Result<bool, Failure> {
        Ok(self.journaled(|_| None::<()>)?.is_some())
    }

    /// Tells the journal that changes are undone. The next call has to know it
    /// too, unless this is DEL, after which there is no journal.
    pub(crate) fn settle(&self, is_undone: impl Fn(&Inverse) -> bool) -> Served<()> {
        let mut journal = self.journal.borrow_mut();
        match (journal.as_mut(), self.request.environment.command) {
            (Some(journal), Command::Del) => journal.settle(is_undone),
            (Some(journal), _) => journal.cancel_all(is_undone).map_err(Stop)?,
            (None, _) => {}
        }
        Ok(())
    }
}

fn picked<T>(journal: &Journal, pick: impl Fn(&Inverse) -> Option<T>) -> Vec<T> {
    journal.pending(false).iter().filter_map(|(_, inverse)| pick(inverse)).collect()
}
