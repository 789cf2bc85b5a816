//! Whether weir behaves as the CNI specification and the native plugins do.

mod bad_input;
mod cases;
mod differences;
mod normalise;
mod parity;
mod versions;

use crate::Test;

/// All tests of this part.
pub(crate) fn tests() -> Vec<Test> {
    let mut tests = parity::tests();
    tests.extend(bad_input::tests());
    tests.extend(versions::tests());
    tests
}
