//! Transfer request blocks (xHCI 1.2, 6.4): sixteen bytes that command, transfer and event rings are made of.

/// One TRB: two parameter words, a status word and a control word, in the processor's byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trb {
    /// Bytes 0 to 7.
    pub parameter: u64,
    /// Bytes 8 to 11.
    pub status: u32,
    /// Bytes 12 to 15; bit 0 is the cycle bit, bits 15:10 the type.
    pub control: u32,
}

/// Bytes in a TRB.
pub const TRB_SIZE: usize = 16;

/// The cycle bit of the control word.
pub const CYCLE: u32 = 1 << 0;
/// Link TRB: toggle cycle (6.4.4.1).
pub const TOGGLE_CYCLE: u32 = 1 << 1;
/// Interrupt on short packet.
pub const INTERRUPT_ON_SHORT: u32 = 1 << 2;
/// The next TRB belongs to the same transfer descriptor.
pub const CHAIN: u32 = 1 << 4;
/// Interrupt on completion.
pub const INTERRUPT_ON_COMPLETION: u32 = 1 << 5;
/// The parameter is the data itself.
pub const IMMEDIATE_DATA: u32 = 1 << 6;
/// Data and status stage: device to host.
const DIRECTION_IN: u32 = 1 << 16;
/// Setup stage: a data stage device to host follows (table 6-26: 2 is OUT, 3 is IN).
const TRANSFER_TYPE_SHIFT: u32 = 16;

/// TRB types (table 6-91).
pub mod kind {
    /// Normal: a piece of a bulk or interrupt transfer.
    pub const NORMAL: u32 = 1;
    /// Setup stage.
    pub const SETUP: u32 = 2;
    /// Data stage.
    pub const DATA: u32 = 3;
    /// Status stage.
    pub const STATUS: u32 = 4;
    /// Link to the next segment.
    pub const LINK: u32 = 6;
    /// Enable Slot command.
    pub const ENABLE_SLOT: u32 = 9;
    /// Disable Slot command.
    pub const DISABLE_SLOT: u32 = 10;
    /// Address Device command.
    pub const ADDRESS_DEVICE: u32 = 11;
    /// Configure Endpoint command.
    pub const CONFIGURE_ENDPOINT: u32 = 12;
    /// Evaluate Context command.
    pub const EVALUATE_CONTEXT: u32 = 13;
    /// Reset Endpoint command.
    pub const RESET_ENDPOINT: u32 = 14;
    /// Stop Endpoint command.
    pub const STOP_ENDPOINT: u32 = 15;
    /// Set TR Dequeue Pointer command.
    pub const SET_TR_DEQUEUE: u32 = 16;
    /// Reset Device command.
    pub const RESET_DEVICE: u32 = 17;
    /// Transfer event.
    pub const TRANSFER_EVENT: u32 = 32;
    /// Command completion event.
    pub const COMMAND_COMPLETION_EVENT: u32 = 33;
    /// Port status change event.
    pub const PORT_STATUS_EVENT: u32 = 34;
    /// Host controller event.
    pub const HOST_CONTROLLER_EVENT: u32 = 37;
}

/// Completion codes (table 6-90), those that somebody here looks at.
pub mod code {
    /// Success.
    pub const SUCCESS: u8 = 1;
    /// Babble detected.
    pub const BABBLE: u8 = 3;
    /// USB transaction error.
    pub const TRANSACTION: u8 = 4;
    /// TRB error: the endpoint is in the Error state.
    pub const TRB: u8 = 5;
    /// Stall.
    pub const STALL: u8 = 6;
    /// Resource error.
    pub const RESOURCE: u8 = 7;
    /// Bandwidth error.
    pub const BANDWIDTH: u8 = 8;
    /// No slots available.
    pub const NO_SLOTS: u8 = 9;
    /// Slot not enabled.
    pub const SLOT_NOT_ENABLED: u8 = 11;
    /// Short packet: fewer bytes came than were asked for.
    pub const SHORT_PACKET: u8 = 13;
    /// Ring underrun (isochronous).
    pub const RING_UNDERRUN: u8 = 14;
    /// Ring overrun (isochronous).
    pub const RING_OVERRUN: u8 = 15;
    /// Context state error.
    pub const CONTEXT_STATE: u8 = 19;
    /// Event ring full.
    pub const EVENT_RING_FULL: u8 = 21;
    /// Missed service: an interval passed without a transfer.
    pub const MISSED_SERVICE: u8 = 23;
    /// Command ring stopped.
    pub const COMMAND_RING_STOPPED: u8 = 24;
    /// Command aborted.
    pub const COMMAND_ABORTED: u8 = 25;
    /// Stopped by Stop Endpoint.
    pub const STOPPED: u8 = 26;
    /// Stopped, the length is not valid.
    pub const STOPPED_LENGTH_INVALID: u8 = 27;
    /// Stopped after a short packet.
    pub const STOPPED_SHORT_PACKET: u8 = 28;
    /// Secondary bandwidth error.
    pub const SECONDARY_BANDWIDTH: u8 = 35;
    /// Split transaction error: the hub's translator got no valid answer.
    pub const SPLIT_TRANSACTION: u8 = 36;
}

/// The direction and size of a data stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataStage {
    /// Device to host.
    pub inward: bool,
    /// Where the bytes are or go.
    pub address: u64,
    /// How many, at most 65535.
    pub length: u32,
}

impl Trb {
    /// A TRB of this type with these flags.
    #[must_use]
    pub const fn new(kind: u32, parameter: u64, status: u32, flags: u32) -> Self {
        Self { parameter, status, control: kind << 10 | flags }
    }

    /// The type.
    #[must_use]
    pub const fn kind(&self) -> u32 {
        self.control >> 10 & 0x3f
    }

    /// A Normal TRB (6.4.1.1) of `length` bytes (at most 65536); `td_size` is the number of packets that remain after it, at most 31.
    #[must_use]
    pub const fn normal(address: u64, length: u32, td_size: u32, flags: u32) -> Self {
        Self::new(kind::NORMAL, address, length & 0x1_ffff | td_size << 17, flags)
    }

    /// A Setup Stage TRB (6.4.1.2.1): the eight bytes of the request are in it.
    #[must_use]
    pub fn setup(request: [u8; 8], data: Option<DataStage>) -> Self {
        let transfer_type = data.map_or(0, |data| if data.inward { 3 } else { 2 });
        let flags = IMMEDIATE_DATA | transfer_type << TRANSFER_TYPE_SHIFT;
        Self::new(kind::SETUP, u64::from_le_bytes(request), 8, flags)
    }

    /// A Data Stage TRB (6.4.1.2.2). A short packet is reported, because only here the length is known.
    #[must_use]
    pub const fn data(stage: DataStage) -> Self {
        let flags = if stage.inward { DIRECTION_IN | INTERRUPT_ON_SHORT } else { 0 };
        Self::new(kind::DATA, stage.address, stage.length, flags)
    }

    /// A Status Stage TRB (6.4.1.2.3): against the direction of the data stage, IN when there was none.
    #[must_use]
    pub fn status(data: Option<DataStage>) -> Self {
        let inward = !data.is_some_and(|data| data.inward);
        let flags = INTERRUPT_ON_COMPLETION | if inward { DIRECTION_IN } else { 0 };
        Self::new(kind::STATUS, 0, 0, flags)
    }

    /// A command for a slot and, where it matters, an endpoint.
    #[must_use]
    pub const fn command(kind: u32, parameter: u64, slot: u8, endpoint: u8) -> Self {
        Self::new(kind, parameter, 0, (slot as u32) << 24 | (endpoint as u32) << 16)
    }

    /// Events: the completion code.
    #[must_use]
    pub const fn completion_code(&self) -> u8 {
        (self.status >> 24) as u8
    }

    /// Transfer events: bytes that were *not* moved (6.4.2.1).
    #[must_use]
    pub const fn residue(&self) -> u32 {
        self.status & 0xff_ffff
    }

    /// Events and commands: the slot.
    #[must_use]
    pub const fn slot(&self) -> u8 {
        (self.control >> 24) as u8
    }

    /// Events and commands: the endpoint's device context index.
    #[must_use]
    pub const fn endpoint(&self) -> u8 {
        (self.control >> 16 & 0x1f) as u8
    }

    /// Port status change events: the port (6.4.2.3).
    #[must_use]
    pub const fn port(&self) -> u8 {
        (self.parameter >> 24) as u8
    }
}

/// The name of a command, for messages.
#[must_use]
pub const fn command_name(kind: u32) -> &'static str {
    match kind {
        kind::ENABLE_SLOT => "Enable Slot",
        kind::DISABLE_SLOT => "Disable Slot",
        kind::ADDRESS_DEVICE => "Address Device",
        kind::CONFIGURE_ENDPOINT => "Configure Endpoint",
        kind::EVALUATE_CONTEXT => "Evaluate Context",
        kind::RESET_ENDPOINT => "Reset Endpoint",
        kind::STOP_ENDPOINT => "Stop Endpoint",
        kind::SET_TR_DEQUEUE => "Set TR Dequeue Pointer",
        kind::RESET_DEVICE => "Reset Device",
        _ => "command",
    }
}
