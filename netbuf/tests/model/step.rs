//! The steps of a sequence, decoded from plain numbers, so that a fuzzer and a property test draw them alike.

use std::fmt;

use super::place::Place;

/// What is done, and where. Numbers are reduced to what fits when the step runs: every sequence is a valid one.
#[derive(Clone, Copy)]
pub struct Step {
    pub place: Place,
    pub action: Action,
}

impl fmt::Debug for Step {
    /// On one line, for there are many.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} {:?}", self.place, self.action)
    }
}

/// The buffer meant: reduced to one that is there.
pub type Which = u16;

/// A number to be brought near a limit, or not: see [`Near::to`].
#[derive(Clone, Copy, Debug)]
pub struct Near(u16, u16);

impl Near {
    /// Half of the time one of `limits`, one less or one more; otherwise anything up to `most`.
    pub fn to(self, limits: &[usize], most: usize) -> usize {
        let Self(first, second) = self;
        let limit = limits[usize::from(first / 8) % limits.len()];
        match first % 8 {
            0 | 1 => limit,
            2 => limit + 1,
            3 => limit.saturating_sub(1),
            _ => usize::from(second) % (most + 1),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Action {
    // New buffers.
    Alloc(u16),
    AllocLarge(u16),
    ReceiveAlloc(u16),
    AllocFclone(u16),
    Receive { offset: Near, len: u16, head_len: u16 },
    Clone(Which),
    Copy(Which),
    CopyHead(Which),
    Split(Which, Near),
    // Room.
    Reserve(Which, Near),
    Put(Which, Near),
    Push(Which, Near),
    Pull(Which, Near),
    PullAnywhere(Which, Near),
    PullChecksummed(Which, Near),
    PushChecksummed(Which, Near),
    TrimChecksummed(Which, Near),
    Trim(Which, Near),
    MayPull(Which, Near),
    Linearize(Which),
    MakeWritable(Which, Near),
    ReceiveInto(Which, Near),
    // Heads.
    ExpandHead(Which, u16, u16),
    Cow(Which, Near),
    Unshare(Which),
    Share(Which),
    // Frags.
    AddFrag { which: Which, offset: Near, len: u16 },
    AddManyFrags(Which, u16),
    ContinueLastFrag(Which, u16),
    Coalesce(Which, Which),
    AppendToList(Which, Which),
    // Contents.
    StoreBits(Which, Near, u16),
    WriteData(Which),
    CopyBits(Which, Near),
    Checksum(Which, Near),
    CompleteChecksum(Which, u16, u16),
    // What is known about the packet.
    SetHeaders(Which, u16),
    SetMetadata(Which, u16),
    SetSharedFields(Which, u16),
    SetOwner(Which),
    Orphan(Which),
    // The queue.
    PushBack(Which),
    PushFront(Which),
    PopFront,
    PopBack,
    Splice { which: Which, count: u16, in_front: bool },
    TakeQueue,
    InsertAt { which: Which, position: u16, before: bool },
    RemoveAt(u16),
    ClearQueue,
    // Ends.
    Free(Which),
    FreeIrq(Which),
    FreeAny(Which),
    // Memory.
    FreshBlock,
    OwnBlock(u16),
    UnshareBlock,
    FillPool(u16),
    FreeDeferred,
    Shrink,
    DropHandles(u16),
}

impl From<[u16; 4]> for Step {
    fn from([kind, a, b, c]: [u16; 4]) -> Self {
        use Action::*;
        let near = Near(b, c);
        let actions = [
            Alloc(a),
            Alloc(a),
            ReceiveAlloc(a),
            AllocFclone(a),
            AllocFclone(a),
            Receive { offset: near, len: a, head_len: c },
            Receive { offset: near, len: a, head_len: c },
            Clone(a),
            Clone(a),
            Clone(a),
            Copy(a),
            CopyHead(a),
            Split(a, near),
            Reserve(a, near),
            Put(a, near),
            Put(a, near),
            Push(a, near),
            Pull(a, near),
            PullAnywhere(a, near),
            PullChecksummed(a, near),
            PushChecksummed(a, near),
            TrimChecksummed(a, near),
            Trim(a, near),
            MayPull(a, near),
            Linearize(a),
            MakeWritable(a, near),
            ReceiveInto(a, near),
            ExpandHead(a, b, c),
            Cow(a, near),
            Unshare(a),
            Share(a),
            AddFrag { which: a, offset: near, len: c },
            AddFrag { which: a, offset: near, len: c },
            AddManyFrags(a, b),
            ContinueLastFrag(a, b),
            Coalesce(a, b),
            Coalesce(a, b),
            AppendToList(a, b),
            AppendToList(a, b),
            StoreBits(a, near, c),
            WriteData(a),
            CopyBits(a, near),
            Checksum(a, near),
            CompleteChecksum(a, b, c),
            SetHeaders(a, b),
            SetMetadata(a, b),
            SetSharedFields(a, b),
            SetOwner(a),
            Orphan(a),
            PushBack(a),
            PushFront(a),
            PopFront,
            PopBack,
            Splice { which: a, count: b, in_front: c % 2 == 0 },
            TakeQueue,
            InsertAt { which: a, position: b, before: c % 2 == 0 },
            RemoveAt(a),
            ClearQueue,
            Free(a),
            FreeIrq(a),
            FreeAny(a),
            FreshBlock,
            OwnBlock(a),
            UnshareBlock,
            FillPool(a),
            FreeDeferred,
            FreeDeferred,
            Shrink,
        ];
        let kind = usize::from(kind);
        let action = match kind {
            // Rare: what comes after it can allocate no more.
            kind if kind % 509 == 508 => DropHandles(a),
            kind if kind % 127 == 126 => AllocLarge(a),
            kind => actions[kind % actions.len()],
        };
        let place = match kind / 1024 % 8 {
            0 => Place::InterruptHere,
            1 => Place::There,
            2 => Place::InterruptThere,
            _ => Place::Here,
        };
        Self { place, action }
    }
}
