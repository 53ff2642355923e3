//! What this tool says: results on standard output, everything else on standard error.
//!
//! Either may have lost its reader (`skiff run --tap tap0 | head -1`). That is no reason to die: what nobody reads is lost.

use std::fmt::Display;
use std::io::{self, Write};

/// A line of what was asked for.
pub fn line(text: impl Display) {
    let _ = writeln!(io::stdout().lock(), "{text}");
}

/// A line about what happens meanwhile, or about what went wrong.
pub fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "skiff: {text}");
}
