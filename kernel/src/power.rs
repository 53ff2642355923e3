//! Ending: power-off, reset, QEMU's exit device; and the power button.

use core::fmt;
use core::sync::atomic::{AtomicU8, Ordering};

use hal::interrupt::Interrupt as _;
use hal::interrupt::fired;
use spin::Once;
use x86_64::instructions::interrupts;
use x86_64::instructions::port::Port;

use crate::command_line::PanicAction;
use crate::console;
use crate::firmware::tables::PowerManagement;
use crate::interrupt::dispatch::{DeviceInterrupt, RouteError};

/// Why the image ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Somebody pressed the power button.
    PowerButton,
    /// The image panicked.
    Panic,
    /// The processor raised an exception.
    Exception,
    /// The application ended.
    Application,
}

impl Reason {
    const fn name(self) -> &'static str {
        match self {
            Self::PowerButton => "power-button",
            Self::Panic => "panic",
            Self::Exception => "exception",
            Self::Application => "application",
        }
    }
}

/// Where QEMU's `isa-debug-exit` sits; a write ends QEMU with status `value * 2 + 1`.
const DEBUG_EXIT_PORT: u16 = 0x501;
/// The exit code of a panic or an exception.
const FAILURE: u8 = 1;

/// The PC's reset control register: full reset.
const RESET_CONTROL_PORT: u16 = 0xcf9;
const FULL_RESET: u8 = 0x06;
/// The keyboard controller's command to pulse the reset line.
const KEYBOARD_CONTROLLER_PORT: u16 = 0x64;
const PULSE_RESET: u8 = 0xfe;

// PM1 control register (ACPI 6.5, 4.8.3.2).
const SCI_ENABLE: u16 = 1;
const SLEEP_TYPE_SHIFT: u32 = 10;
const SLEEP_ENABLE: u16 = 1 << 13;
// PM1 status and enable registers (ACPI 6.5, 4.8.3.1).
const POWER_BUTTON: u16 = 1 << 8;
/// Readings of the control register that the firmware gets to hand it over.
const HAND_OVER_READINGS: usize = 1_000_000;

/// Turns of an empty loop that a machine gets to go down, some tenths of a second.
const POWER_OFF_PATIENCE: u32 = 100_000_000;

static REGISTERS: Once<PowerManagement> = Once::new();
static PANIC_ACTION: AtomicU8 = AtomicU8::new(PanicAction::Reboot as u8);

fn read(port: u16) -> u16 {
    // SAFETY: the firmware described the port as a power management register.
    unsafe { Port::new(port).read() }
}

fn write(port: u16, value: u16) {
    // SAFETY: as in `read`.
    unsafe { Port::new(port).write(value) }
}

/// Says what a panic is to end in.
pub fn set_panic_action(action: PanicAction) {
    PANIC_ACTION.store(action as u8, Ordering::Relaxed);
}

/// Takes note of the power management registers, and takes them over from the firmware.
pub fn initialise(registers: PowerManagement) {
    REGISTERS.call_once(|| registers);
    if let (Some(control), Some((port, value))) = (registers.control_a, registers.enable)
        && read(control) & SCI_ENABLE == 0
    {
        // SAFETY: the firmware described the port and the value as its hand-over command.
        unsafe { Port::new(port).write(value) };
        if (0..HAND_OVER_READINGS).all(|_| read(control) & SCI_ENABLE == 0) {
            log::warn!("ACPI: the firmware keeps the power management registers: no power button");
        }
    }
}

/// There is no power button to wait for.
#[derive(Clone, Copy, Debug)]
pub enum NoPowerButton {
    /// The firmware described none.
    NotDescribed,
    /// Its interrupt could not be had.
    Interrupt(RouteError),
}

impl fmt::Display for NoPowerButton {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotDescribed => formatter.write_str("the firmware describes no power button"),
            Self::Interrupt(error) => write!(formatter, "no interrupt for the power button: {error}"),
        }
    }
}

impl core::error::Error for NoPowerButton {}

/// Waits until somebody presses the power button. `listen` gives the interrupt of an ISA number.
///
/// # Errors
///
/// [`NoPowerButton`].
pub async fn power_button(
    listen: impl FnOnce(u8) -> Result<DeviceInterrupt, RouteError>,
) -> Result<(), NoPowerButton> {
    let registers = REGISTERS.get().ok_or(NoPowerButton::NotDescribed)?;
    let (status, enable) = registers.event.ok_or(NoPowerButton::NotDescribed)?;
    let interrupt = listen(registers.interrupt).map_err(NoPowerButton::Interrupt)?;
    write(status, POWER_BUTTON);
    write(enable, POWER_BUTTON);
    loop {
        fired(&interrupt).await;
        let events = read(status);
        // Writing ones clears them, and releases the line.
        write(status, events);
        interrupt.rearm();
        if events & POWER_BUTTON != 0 {
            return Ok(());
        }
    }
}

/// Says why, and ends the machine: by QEMU's exit device when the code says failure, else by switching it off.
pub fn exit(reason: Reason, code: u8) -> ! {
    console::line(format_args!("exit reason={} code={code}", reason.name()));
    if code != 0 {
        debug_exit(code);
    }
    power_off();
    debug_exit(code);
    halt()
}

/// After a panic or an exception was reported: ends the machine as the option `panic=` says.
pub fn give_up(reason: Reason) -> ! {
    let action = PANIC_ACTION.load(Ordering::Relaxed);
    console::line(format_args!("exit reason={} code={FAILURE}", reason.name()));
    if action == PanicAction::Exit as u8 {
        debug_exit(FAILURE);
        power_off();
    } else if action == PanicAction::Reboot as u8 {
        reset();
    }
    halt()
}

fn debug_exit(code: u8) {
    // SAFETY: the port belongs to QEMU's exit device or to nobody.
    unsafe { Port::new(DEBUG_EXIT_PORT).write(code) };
}

/// Enters state S5; comes back only when the machine cannot. It goes down a moment after the write: QEMU finishes what the
/// processor is at first.
fn power_off() {
    let Some(registers) = REGISTERS.get() else { return };
    let Some(sleep) = registers.soft_off else { return };
    let enter = |port: Option<u16>, sleep_type: u8| {
        if let Some(port) = port {
            write(port, u16::from(sleep_type) << SLEEP_TYPE_SHIFT | SLEEP_ENABLE);
        }
    };
    enter(registers.control_a, sleep.a);
    enter(registers.control_b, sleep.b);
    for _ in 0..POWER_OFF_PATIENCE {
        core::hint::spin_loop();
    }
}

/// Restarts the machine, trying one way after the other.
fn reset() {
    let described = REGISTERS.get().and_then(|registers| registers.reset);
    let ways =
        [described, Some((RESET_CONTROL_PORT, FULL_RESET)), Some((KEYBOARD_CONTROLLER_PORT, PULSE_RESET))];
    for (port, value) in ways.into_iter().flatten() {
        // SAFETY: each is a reset register of a PC or described as one by the firmware; the image ends here anyway.
        unsafe { Port::<u8>::new(port).write(value) };
    }
}

/// Stops the processor for good.
pub fn halt() -> ! {
    loop {
        interrupts::disable();
        x86_64::instructions::hlt();
    }
}
