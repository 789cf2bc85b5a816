//! How much a component may hold.

use wasmtime::{ResourceLimiter, StoreLimits, StoreLimitsBuilder};

/// Elements that a table of a component may have.
pub(crate) const TABLE_LIMIT: usize = 64 << 10;

/// The limits of one component, kept while it runs.
pub(crate) struct Limits {
    each: StoreLimits,
    /// Bytes of all its memories together.
    memory: usize,
    memory_limit: usize,
}

impl Limits {
    pub(crate) fn new(memory_limit: usize) -> Self {
        let each = StoreLimitsBuilder::new()
            .memory_size(memory_limit)
            .table_elements(TABLE_LIMIT)
            .instances(8)
            .memories(2)
            .tables(8)
            .trap_on_grow_failure(true)
            .build();
        Self { each, memory: 0, memory_limit }
    }
}

impl ResourceLimiter for Limits {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        // Each may be as large as all of them together.
        let together = self.memory.saturating_add(desired.saturating_sub(current));
        let asked = if together > self.memory_limit { usize::MAX } else { desired };
        let may_grow = self.each.memory_growing(current, asked, maximum)?;
        if may_grow {
            self.memory = together;
        }
        Ok(may_grow)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.each.table_growing(current, desired, maximum)
    }

    fn instances(&self) -> usize {
        self.each.instances()
    }

    fn tables(&self) -> usize {
        self.each.tables()
    }

    fn memories(&self) -> usize {
        self.each.memories()
    }
}
