//! The pair of 8259 interrupt controllers: moved out of the way of the exceptions, and silenced.

use x86_64::instructions::port::Port;

const FIRST_COMMAND: u16 = 0x20;
const FIRST_DATA: u16 = 0x21;
const SECOND_COMMAND: u16 = 0xa0;
const SECOND_DATA: u16 = 0xa1;

/// A spurious interrupt may still arrive here, or eight further.
pub const FIRST_VECTOR: u8 = 0x20;
/// Vectors of both controllers.
pub const VECTORS: u8 = 16;

/// Initialises both controllers and masks every input.
pub fn silence() {
    let writes = [
        // Initialise, edge-triggered, cascaded, with a fourth command word.
        (FIRST_COMMAND, 0x11),
        (SECOND_COMMAND, 0x11),
        (FIRST_DATA, FIRST_VECTOR),
        (SECOND_DATA, FIRST_VECTOR + 8),
        // The second controller hangs on input 2 of the first.
        (FIRST_DATA, 4),
        (SECOND_DATA, 2),
        // 8086 mode.
        (FIRST_DATA, 1),
        (SECOND_DATA, 1),
        (FIRST_DATA, 0xff),
        (SECOND_DATA, 0xff),
    ];
    for (port, value) in writes {
        // SAFETY: these ports belong to the controllers, which the firmware described, and nobody else uses them.
        unsafe { Port::<u8>::new(port).write(value) };
    }
}
