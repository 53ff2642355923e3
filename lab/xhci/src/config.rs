//! What kind of controller the model plays.

/// The protocol of a root port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// USB 2: low, full and high speed.
    Usb2,
    /// USB 3: SuperSpeed and up.
    Usb3,
}

/// The controller's make.
#[derive(Clone, Debug)]
pub struct Config {
    /// Root ports; those of one protocol stand together.
    pub ports: Vec<Protocol>,
    /// Device slots.
    pub slots: u8,
    /// Scratchpad pages that it wants.
    pub scratchpads: u16,
    /// Contexts of 64 bytes.
    pub wide_contexts: bool,
    /// Addresses of 64 bits.
    pub wide_addresses: bool,
    /// Port power can be switched, and is off at first.
    pub port_power: bool,
    /// A BIOS owns the controller, and gives it back after being asked this many times; `None` without a BIOS.
    pub bios: Option<u32>,
    /// The BIOS never gives it back.
    pub stubborn_bios: bool,
    /// Reports a transfer that ended short twice when its last TRB asks for an event too (xHCI 4.10.1.1).
    pub reports_short_twice: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ports: vec![Protocol::Usb2, Protocol::Usb2, Protocol::Usb3, Protocol::Usb3],
            slots: 16,
            scratchpads: 0,
            wide_contexts: false,
            wide_addresses: true,
            port_power: false,
            bios: None,
            stubborn_bios: false,
            reports_short_twice: false,
        }
    }
}

/// What goes wrong, and when. Transfers and commands are counted from the controller's reset, the first is 0; a fault
/// that has happened does not happen again, except a swallowed transfer.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The transfer with this number ends with this completion code instead of being carried out.
    pub transfer: Option<(usize, u8)>,
    /// The command with this number ends with this completion code instead of being carried out.
    pub command: Option<(usize, u8)>,
    /// The command with this number is never answered.
    pub swallowed_command: Option<usize>,
    /// The transfer with this number never ends.
    pub swallowed_transfer: Option<usize>,
    /// The controller has an internal error when this many events were sent.
    pub controller_error_after: Option<usize>,
    /// A root port's device is unplugged when this many events were sent: events, port.
    pub unplug_after: Option<(usize, usize)>,
    /// Port resets never end.
    pub endless_reset: bool,
    /// The contact bounces during a port reset: what is plugged in is noted as changed, and is there at the end.
    pub bouncing_reset: bool,
    /// The command ring does not stop when it is aborted.
    pub deaf_to_abort: bool,
    /// The controller does not come out of its reset.
    pub dead: bool,
    /// Interrupts are lost.
    pub mute: bool,
}
