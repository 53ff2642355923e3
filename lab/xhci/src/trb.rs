//! TRBs as the controller reads and writes them (xHCI 6.4).

/// Sixteen bytes of a ring.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trb {
    pub parameter: u64,
    pub status: u32,
    pub control: u32,
}

pub(crate) const SIZE: u64 = 16;

impl Trb {
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self { parameter: u64::from(word(4)) << 32 | u64::from(word(0)), status: word(8), control: word(12) }
    }

    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.parameter.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.status.to_le_bytes());
        bytes[12..].copy_from_slice(&self.control.to_le_bytes());
        bytes
    }

    pub fn cycle(self) -> bool {
        self.control & 1 != 0
    }
    pub fn kind(self) -> u32 {
        self.control >> 10 & 0x3f
    }
    pub fn flag(self, bit: u32) -> bool {
        self.control >> bit & 1 != 0
    }
    /// TRB Transfer Length of a Normal, Data or Setup stage TRB.
    pub fn length(self) -> usize {
        (self.status & 0x1_ffff) as usize
    }
    pub fn td_size(self) -> u32 {
        self.status >> 17 & 0x1f
    }
    pub fn slot(self) -> usize {
        (self.control >> 24) as usize
    }
    pub fn endpoint(self) -> usize {
        (self.control >> 16 & 0x1f) as usize
    }
}

/// Bits of the control word.
pub(crate) mod flag {
    pub const TOGGLE_CYCLE: u32 = 1;
    pub const INTERRUPT_ON_SHORT: u32 = 2;
    pub const CHAIN: u32 = 4;
    pub const INTERRUPT_ON_COMPLETION: u32 = 5;
    pub const IMMEDIATE_DATA: u32 = 6;
    /// Address Device: do not send SET_ADDRESS. Configure Endpoint: deconfigure.
    pub const BLOCK_SET_ADDRESS: u32 = 9;
    pub const DIRECTION_IN: u32 = 16;
}

/// TRB types (table 6-91).
pub(crate) mod kind {
    pub const NORMAL: u32 = 1;
    pub const SETUP: u32 = 2;
    pub const DATA: u32 = 3;
    pub const STATUS: u32 = 4;
    pub const LINK: u32 = 6;
    pub const NO_OP: u32 = 8;
    pub const ENABLE_SLOT: u32 = 9;
    pub const DISABLE_SLOT: u32 = 10;
    pub const ADDRESS_DEVICE: u32 = 11;
    pub const CONFIGURE_ENDPOINT: u32 = 12;
    pub const EVALUATE_CONTEXT: u32 = 13;
    pub const RESET_ENDPOINT: u32 = 14;
    pub const STOP_ENDPOINT: u32 = 15;
    pub const SET_TR_DEQUEUE: u32 = 16;
    pub const RESET_DEVICE: u32 = 17;
    pub const NO_OP_COMMAND: u32 = 23;
    pub const TRANSFER_EVENT: u32 = 32;
    pub const COMMAND_COMPLETION: u32 = 33;
    pub const PORT_STATUS_CHANGE: u32 = 34;
    pub const HOST_CONTROLLER: u32 = 37;
}

/// Completion codes (table 6-90).
pub(crate) mod code {
    pub const SUCCESS: u8 = 1;
    pub const BABBLE: u8 = 3;
    pub const TRANSACTION: u8 = 4;
    pub const TRB_ERROR: u8 = 5;
    pub const STALL: u8 = 6;
    pub const NO_SLOTS: u8 = 9;
    pub const SLOT_NOT_ENABLED: u8 = 11;
    pub const ENDPOINT_NOT_ENABLED: u8 = 12;
    pub const SHORT_PACKET: u8 = 13;
    pub const PARAMETER: u8 = 17;
    pub const CONTEXT_STATE: u8 = 19;
    pub const EVENT_RING_FULL: u8 = 21;
    pub const MISSED_SERVICE: u8 = 23;
    pub const COMMAND_RING_STOPPED: u8 = 24;
    pub const COMMAND_ABORTED: u8 = 25;
    pub const STOPPED: u8 = 26;
    pub const SPLIT_TRANSACTION: u8 = 36;
}
