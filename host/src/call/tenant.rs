//! For whom the container of a call runs, and how many leases he holds.

use super::Call;
use crate::failure::Failure;
use crate::journal::census;

impl Call {
    /// For whom the container runs, if the runtime says so.
    pub(crate) fn tenant(&self) -> Option<&str> {
        self.request.environment.tenant()
    }

    /// Counts the leases of the container's tenant. No other call counts any
    /// until [`Self::end_census`].
    pub(crate) fn leases_of_tenant(&self) -> Result<u32, Failure> {
        let directory = self.node.paths().attachments();
        let mut census = self.census.borrow_mut();
        if census.is_none() {
            *census = Some(census::begin(&directory, self.lock_wait())?);
        }
        census::leases(&directory, &self.key.network, self.tenant())
    }

    /// Lets other calls count: the lease is in the journal, or not taken.
    pub(crate) fn end_census(&self) {
        self.census.replace(None);
    }
}
