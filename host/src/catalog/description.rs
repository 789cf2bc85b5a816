//! What a component says of itself. The compiler shares this file.

use serde::{Deserialize, Serialize};

/// What a component says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Description {
    /// The interfaces that it imports, with their versions.
    pub(crate) imports: Vec<String>,
    /// The interfaces that it exports, with their versions.
    pub(crate) exports: Vec<String>,
    /// The language that it was written in, if it says so.
    pub(crate) language: Option<String>,
    /// The tools that made it, if it names them.
    pub(crate) tools: Vec<String>,
}
