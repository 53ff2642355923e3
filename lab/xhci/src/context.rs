//! Slots and endpoints as the controller keeps them, and the contexts in memory that mirror them (xHCI 6.2).

/// Slot State (table 6-7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SlotState {
    #[default]
    Disabled,
    Default,
    Addressed,
    Configured,
}

impl SlotState {
    /// The field's value: Disabled and Enabled share 0.
    pub fn field(self) -> u32 {
        match self {
            Self::Disabled => 0,
            Self::Default => 1,
            Self::Addressed => 2,
            Self::Configured => 3,
        }
    }
}

/// EP State (table 6-8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum EndpointState {
    #[default]
    Disabled,
    Running,
    Halted,
    Stopped,
    Error,
}

impl EndpointState {
    pub fn field(self) -> u32 {
        self as u32
    }
}

/// An endpoint context, unpacked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Endpoint {
    pub state: EndpointState,
    /// The five words as the driver gave them, without the state.
    pub words: [u32; 5],
    pub dequeue: u64,
    pub cycle: bool,
    /// The doorbell was rung, and the ring not yet found empty.
    pub active: bool,
    /// The transfer at the dequeue pointer has begun: its number.
    pub begun: Option<usize>,
    /// Something was moved since its data toggle, or sequence number, began anew.
    pub moved: bool,
    /// A control transfer under way: setup bytes, then what the data stage brought or waits to bring.
    pub setup: Option<[u8; 8]>,
    pub control_answer: Option<Vec<u8>>,
}

impl Endpoint {
    /// EP Type.
    pub fn kind(&self) -> u32 {
        self.words[1] >> 3 & 7
    }
    pub fn is_in(&self) -> bool {
        self.kind() > 4
    }
    pub fn packet_size(&self) -> usize {
        (self.words[1] >> 16) as usize
    }
}

/// A device slot.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    pub enabled: bool,
    pub state: SlotState,
    /// The slot context's first three words.
    pub words: [u32; 3],
    pub endpoints: [Endpoint; 32],
}

impl Slot {
    pub fn route(&self) -> u32 {
        self.words[0] & 0xf_ffff
    }
    pub fn speed_id(&self) -> u32 {
        self.words[0] >> 20 & 0xf
    }
    pub fn is_hub(&self) -> bool {
        self.words[0] >> 26 & 1 != 0
    }
    pub fn entries(&self) -> u32 {
        self.words[0] >> 27
    }
    pub fn root_port(&self) -> usize {
        (self.words[1] >> 16 & 0xff) as usize
    }
    pub fn hub_ports(&self) -> u32 {
        self.words[1] >> 24
    }
    pub fn translator(&self) -> (usize, u32) {
        ((self.words[2] & 0xff) as usize, self.words[2] >> 8 & 0xff)
    }
}
