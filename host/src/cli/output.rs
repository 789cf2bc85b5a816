//! What commands write to standard output.

use std::fmt;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether nothing is written any more.
static IS_CLOSED: AtomicBool = AtomicBool::new(false);

/// Whether that was because of an error.
static IS_LOST: AtomicBool = AtomicBool::new(false);

/// Writes lines, as `println!` does. Nobody's reading is no reason to end: a
/// command goes on with what it does besides.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::cli::output::write(format_args!($($words)*))
    };
}

pub(super) use say;

/// Writes a text and ends its line.
#[expect(clippy::disallowed_methods, reason = "a command's output")]
pub(super) fn write(text: fmt::Arguments<'_>) {
    if IS_CLOSED.load(Ordering::Relaxed) {
        return;
    }
    let text = without_trailing_spaces(&text.to_string());
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    // Whoever reads may have seen enough, as in `weir plan | head`.
    if let Err(error) = written
        && !IS_CLOSED.swap(true, Ordering::Relaxed)
        && error.kind() != io::ErrorKind::BrokenPipe
    {
        eprintln!("weir: write to standard output: {error}");
        IS_LOST.store(true, Ordering::Relaxed);
    }
}

/// Whether something was lost that somebody wants to have.
pub(super) fn is_lost() -> bool {
    IS_LOST.load(Ordering::Relaxed)
}

/// Tables fill their last column up too.
fn without_trailing_spaces(text: &str) -> String {
    text.lines().flat_map(|line| [line.trim_end_matches(' '), "\n"]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_with_what_is_in_them() {
        assert_eq!(without_trailing_spaces("a  b  \n\nc"), "a  b\n\nc\n");
    }
}
