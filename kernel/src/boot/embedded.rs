//! Options built into the image: `skiff image --cmdline` writes them into a section of the finished file.

use alloc::string::String;

/// Room for them, in bytes.
const LIMIT: usize = 1024;

/// Zero as compiled; the text ends at the first zero.
#[used]
#[unsafe(link_section = ".skiff.command_line")]
static COMMAND_LINE: [u8; LIMIT] = [0; LIMIT];

/// The options, empty when none were written.
pub fn command_line() -> String {
    // The compiler knows only the zeros, and must not read them in advance.
    let bytes = core::hint::black_box(&COMMAND_LINE);
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}
