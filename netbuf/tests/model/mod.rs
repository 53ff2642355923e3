//! Buffers beside a plain `Vec<u8>` each: operations run on both, and after each of them everything is compared.
#![allow(clippy::collapsible_match, reason = "a step is one arm: what it does, then what must hold")]

use std::sync::Arc;

use netbuf::host::HostPages;
use netbuf::{
    Block, BlockPool, Error, Memory, NetBuf, Queue, RECEIVE_HEADROOM, ReceivePattern, SharedBlock, Zone,
    checksum, fold,
};
use proptest::prelude::*;

/// One step. Numbers are reduced to what fits when the step runs, so that every sequence is a valid one.
#[derive(Clone, Debug)]
pub enum Step {
    Alloc(u16),
    ReceiveAlloc(u16),
    AllocFclone(u16),
    Receive { offset: u16, len: u16, head_len: u8, copybreak: u8 },
    Reserve(usize, u8),
    Put(usize, u8),
    Push(usize, u8),
    Pull(usize, u16),
    PullAnywhere(usize, u16),
    Trim(usize, u16),
    MayPull(usize, u16),
    Linearize(usize),
    ExpandHead(usize, u8, u8),
    Cow(usize, u8),
    Unshare(usize),
    Clone(usize),
    Copy(usize),
    CopyHead(usize),
    AddFrag { which: usize, offset: u16, len: u16 },
    Split(usize, u16),
    Coalesce(usize, usize),
    AppendToList(usize, usize),
    StoreBits(usize, u16, u8),
    WriteData(usize, u8),
    ShareAndBack(usize),
    ThroughQueue,
    FreshBlock,
    Free(usize),
    FreeInInterrupt(usize),
}

pub fn step() -> impl Strategy<Value = Step> {
    use Step::*;
    let which = 0..8_usize;
    prop_oneof![
        (0..3000_u16).prop_map(Alloc),
        (0..3000_u16).prop_map(ReceiveAlloc),
        (0..600_u16).prop_map(AllocFclone),
        (any::<u16>(), 0..2000_u16, any::<u8>(), any::<u8>())
            .prop_map(|(offset, len, head_len, copybreak)| Receive { offset, len, head_len, copybreak }),
        (which.clone(), any::<u8>()).prop_map(|(which, count)| Reserve(which, count)),
        (which.clone(), any::<u8>()).prop_map(|(which, count)| Put(which, count)),
        (which.clone(), any::<u8>()).prop_map(|(which, count)| Push(which, count)),
        (which.clone(), any::<u16>()).prop_map(|(which, count)| Pull(which, count)),
        (which.clone(), any::<u16>()).prop_map(|(which, count)| PullAnywhere(which, count)),
        (which.clone(), any::<u16>()).prop_map(|(which, count)| Trim(which, count)),
        (which.clone(), any::<u16>()).prop_map(|(which, count)| MayPull(which, count)),
        which.clone().prop_map(Linearize),
        (which.clone(), any::<u8>(), any::<u8>())
            .prop_map(|(which, front, back)| ExpandHead(which, front, back)),
        (which.clone(), any::<u8>()).prop_map(|(which, front)| Cow(which, front)),
        which.clone().prop_map(Unshare),
        which.clone().prop_map(Clone),
        which.clone().prop_map(Clone),
        which.clone().prop_map(Copy),
        which.clone().prop_map(CopyHead),
        (which.clone(), any::<u16>(), 0..1500_u16).prop_map(|(which, offset, len)| AddFrag {
            which,
            offset,
            len
        }),
        (which.clone(), any::<u16>()).prop_map(|(which, offset)| Split(which, offset)),
        (which.clone(), which.clone()).prop_map(|(which, next)| Coalesce(which, next)),
        (which.clone(), which.clone()).prop_map(|(which, next)| AppendToList(which, next)),
        (which.clone(), any::<u16>(), any::<u8>())
            .prop_map(|(which, offset, len)| StoreBits(which, offset, len)),
        (which.clone(), any::<u8>()).prop_map(|(which, value)| WriteData(which, value)),
        which.clone().prop_map(ShareAndBack),
        Just(ThroughQueue),
        Just(FreshBlock),
        which.clone().prop_map(Free),
        which.prop_map(FreeInInterrupt),
    ]
}

/// A buffer and what it must contain.
pub struct Pair {
    buffer: NetBuf,
    bytes: Vec<u8>,
}

pub struct Model {
    pub pages: Arc<HostPages>,
    memory: Memory,
    pool: BlockPool,
    block: SharedBlock,
    pairs: Vec<Pair>,
    next_value: u8,
}

const MOST: usize = 8;

impl Model {
    /// `None` when a fault hits the set-up.
    pub fn new(pages: Arc<HostPages>, owned: bool) -> Option<Self> {
        let memory =
            if owned { Memory::new(pages.clone()).ok()? } else { Memory::unowned(pages.clone()).ok()? };
        let pool = BlockPool::new(&memory, 2, Zone::Dma32, 3).ok()?;
        let block = fill(pool.take().ok()?, 0);
        Some(Self { pages, memory, pool, block, pairs: Vec::new(), next_value: 0 })
    }

    fn value(&mut self) -> u8 {
        self.next_value = self.next_value.wrapping_mul(5).wrapping_add(3);
        self.next_value
    }

    fn add(&mut self, buffer: NetBuf, bytes: Vec<u8>) {
        if self.pairs.len() == MOST {
            self.pairs.remove(0);
        }
        self.pairs.push(Pair { buffer, bytes });
    }

    /// The buffer meant by `which`, if there is any.
    fn pick(&mut self, which: usize) -> Option<&mut Pair> {
        let count = self.pairs.len();
        self.pairs.get_mut(which.checked_rem(count)?)
    }

    /// Runs one step on both sides. Whether it succeeds is up to the buffers; what it does then is not.
    pub fn run(&mut self, step: &Step) {
        match *step {
            Step::Alloc(size) => {
                if let Ok(buffer) = NetBuf::alloc(&self.memory, size.into()) {
                    assert_eq!((buffer.len(), buffer.headroom()), (0, 0));
                    assert_eq!(buffer.tailroom(), usize::from(size).next_multiple_of(64));
                    self.add(buffer, Vec::new());
                }
            }
            Step::ReceiveAlloc(size) => {
                if let Ok(buffer) = NetBuf::rx_alloc(&self.memory, size.into()) {
                    assert_eq!(buffer.headroom(), RECEIVE_HEADROOM);
                    assert!(buffer.tailroom() >= usize::from(size));
                    self.add(buffer, Vec::new());
                }
            }
            Step::AllocFclone(size) => {
                if let Ok(buffer) = NetBuf::alloc_fclone(&self.memory, size.into()) {
                    self.add(buffer, Vec::new());
                }
            }
            Step::Receive { offset, len, head_len, copybreak } => {
                let pattern =
                    ReceivePattern { head_len: head_len.into(), copybreak: copybreak.into(), truesize: None };
                let (offset, len) = (usize::from(offset), usize::from(len));
                match NetBuf::receive(&self.memory, &self.block, offset, len, &pattern) {
                    Ok(buffer) => {
                        let head = if len <= pattern.copybreak { len } else { len.min(pattern.head_len) };
                        assert_eq!(buffer.head_len(), head);
                        let bytes = self.block.bytes()[offset..offset + len].to_vec();
                        self.add(buffer, bytes);
                    }
                    Err(Error::OutsideBlock { .. }) => assert!(offset + len > self.block.len()),
                    Err(error) => assert!(matches!(error, Error::OutOfMemory(_)), "{error}"),
                }
            }
            Step::ThroughQueue => {
                let count = self.pairs.len();
                let mut queue = Queue::new();
                let mut contents = Vec::new();
                for pair in self.pairs.drain(..) {
                    queue.push_front(pair.buffer);
                    contents.push(pair.bytes);
                }
                assert_eq!(queue.len(), count);
                for bytes in contents {
                    let buffer = queue.pop_back().expect("as many as were pushed");
                    self.pairs.push(Pair { buffer, bytes });
                }
                assert!(queue.is_empty());
            }
            Step::FreshBlock => {
                let value = self.value();
                if let Ok(block) = self.pool.take() {
                    self.block = fill(block, value);
                }
            }
            Step::Free(which) => {
                if let Some(index) = which.checked_rem(self.pairs.len()) {
                    self.pairs.remove(index).buffer.free();
                }
            }
            Step::FreeInInterrupt(which) => {
                if let Some(index) = which.checked_rem(self.pairs.len()) {
                    let pair = self.pairs.remove(index);
                    let live = self.memory.statistics().live_descriptors;
                    {
                        let _interrupt = netbuf::context::enter_interrupt();
                        pair.buffer.free_any();
                    }
                    assert_eq!(self.memory.statistics().live_descriptors, live);
                    assert_eq!(self.memory.free_deferred(), 1);
                }
            }
            Step::Coalesce(which, next) | Step::AppendToList(which, next) => self.join(which, next, step),
            _ => self.run_on_one(step),
        }
        self.check();
    }

    fn join(&mut self, which: usize, next: usize, step: &Step) {
        if self.pairs.len() < 2 {
            return;
        }
        let next = self.pairs.remove(next % self.pairs.len());
        let Some(pair) = self.pick(which) else { return };
        match step {
            Step::Coalesce(..) => match pair.buffer.try_coalesce(next.buffer) {
                Ok(()) => pair.bytes.extend(next.bytes),
                Err(buffer) => self.pairs.push(Pair { buffer, bytes: next.bytes }),
            },
            _ => {
                let nested = next.buffer.has_frag_list();
                match pair.buffer.append_to_frag_list(next.buffer) {
                    Ok(()) => pair.bytes.extend(next.bytes),
                    Err(Error::NestedFragList) => assert!(nested),
                    Err(error) => assert_eq!(error, Error::Shared),
                }
            }
        }
    }

    fn run_on_one(&mut self, step: &Step) {
        let value = self.value();
        let block = self.block.clone();
        let mut new = None;
        let (Step::Reserve(which, _)
        | Step::Put(which, _)
        | Step::Push(which, _)
        | Step::Pull(which, _)
        | Step::PullAnywhere(which, _)
        | Step::Trim(which, _)
        | Step::MayPull(which, _)
        | Step::Linearize(which)
        | Step::ExpandHead(which, ..)
        | Step::Cow(which, _)
        | Step::Unshare(which)
        | Step::Clone(which)
        | Step::Copy(which)
        | Step::CopyHead(which)
        | Step::AddFrag { which, .. }
        | Step::Split(which, _)
        | Step::StoreBits(which, ..)
        | Step::WriteData(which, _)
        | Step::ShareAndBack(which)) = *step
        else {
            return;
        };
        let Some(Pair { buffer, bytes }) = self.pick(which) else { return };
        let len = bytes.len();
        let (headroom, tailroom, cloned) = (buffer.headroom(), buffer.tailroom(), buffer.is_cloned());
        // At times one more than there is, to see it refused.
        let within = |count: u16| usize::from(count) % (len + 2);
        match *step {
            Step::Reserve(_, count) => {
                let count = usize::from(count);
                let result = buffer.reserve(count);
                assert_eq!(result.is_ok(), len == 0 && count <= tailroom, "{result:?}");
                if result.is_ok() {
                    assert_eq!(buffer.headroom(), headroom + count);
                }
            }
            Step::Put(_, count) => {
                let count = usize::from(count);
                let linear = !buffer.is_nonlinear();
                match buffer.put(count) {
                    Ok(room) => {
                        assert!(linear && !cloned && count <= tailroom);
                        room.fill(value);
                        bytes.resize(len + count, value);
                    }
                    Err(_) => assert!(!linear || cloned || count > tailroom),
                }
            }
            Step::Push(_, count) => {
                let count = usize::from(count);
                match buffer.push(count) {
                    Ok(room) => {
                        assert!(!cloned && count <= headroom);
                        room.fill(value);
                        bytes.splice(0..0, std::iter::repeat_n(value, count));
                    }
                    Err(_) => assert!(cloned || count > headroom),
                }
            }
            Step::Pull(_, count) => {
                let count = within(count);
                let head_len = buffer.head_len();
                let result = buffer.pull(count).map(drop);
                assert_eq!(result.is_ok(), count <= head_len, "{result:?}");
                if result.is_ok() {
                    bytes.drain(..count);
                    assert_eq!(buffer.headroom(), headroom + count);
                }
            }
            Step::PullAnywhere(_, count) => {
                let count = within(count);
                match buffer.pull_anywhere(count) {
                    Ok(_) => drop(bytes.drain(..count)),
                    Err(Error::PastEnd { .. }) => assert!(count > len),
                    Err(error) => assert!(matches!(error, Error::OutOfMemory(_)), "{error}"),
                }
            }
            Step::Trim(_, count) => {
                let count = within(count);
                match buffer.trim(count) {
                    Ok(()) => bytes.truncate(count),
                    Err(error) => assert!(matches!(error, Error::OutOfMemory(_)), "{error}"),
                }
            }
            Step::MayPull(_, count) => {
                let count = within(count);
                match buffer.may_pull(count) {
                    Ok(()) => assert!(buffer.head_len() >= count),
                    Err(Error::PastEnd { .. }) => assert!(count > len),
                    Err(error) => assert!(matches!(error, Error::OutOfMemory(_)), "{error}"),
                }
            }
            Step::Linearize(_) => {
                if buffer.linearize().is_ok() {
                    assert_eq!((buffer.head_len(), buffer.data_len(), buffer.frag_count()), (len, 0, 0));
                    assert!(!buffer.has_frag_list());
                }
            }
            Step::ExpandHead(_, front, back) => {
                let head_tailroom = tailroom;
                if buffer.expand_head(front.into(), back.into()).is_ok() {
                    assert!(!buffer.is_cloned());
                    assert_eq!(buffer.headroom(), headroom + usize::from(front));
                    assert!(buffer.is_nonlinear() || buffer.tailroom() >= head_tailroom + usize::from(back));
                }
            }
            Step::Cow(_, front) => {
                if buffer.cow(front.into()).is_ok() {
                    assert!(!buffer.is_cloned() && buffer.headroom() >= front.into());
                }
            }
            Step::Unshare(_) => {
                if buffer.unshare().is_ok() {
                    assert!(!buffer.is_cloned());
                }
            }
            Step::Clone(_) => {
                if let Ok(clone) = buffer.clone_buffer() {
                    assert!(buffer.is_cloned() && clone.is_cloned());
                    new = Some((clone, bytes.clone()));
                }
            }
            Step::Copy(_) => {
                if let Ok(copy) = buffer.copy() {
                    assert!(!copy.is_nonlinear() && !copy.is_cloned());
                    assert_eq!(copy.headroom(), headroom);
                    new = Some((copy, bytes.clone()));
                }
            }
            Step::CopyHead(_) => {
                if let Ok(copy) = buffer.copy_head() {
                    assert!(!copy.is_cloned());
                    assert_eq!((copy.headroom(), copy.head_len()), (headroom, buffer.head_len()));
                    new = Some((copy, bytes.clone()));
                }
            }
            Step::AddFrag { offset, len: frag_len, .. } => {
                let (offset, frag_len) = (usize::from(offset), usize::from(frag_len));
                let source = block.bytes().get(offset..offset + frag_len).map(<[u8]>::to_vec);
                let truesize = buffer.truesize();
                let result = buffer.add_rx_frag(block, offset, frag_len, 4096);
                match result {
                    Ok(()) if frag_len == 0 => {}
                    Ok(()) => {
                        bytes.extend(source.expect("inside the block"));
                        assert_eq!(buffer.truesize(), truesize + 4096);
                    }
                    Err(Error::OutsideBlock { .. }) => assert!(source.is_none()),
                    Err(Error::Shared) => assert!(cloned),
                    Err(Error::TooManyFrags { .. }) => assert_eq!(buffer.frag_count(), netbuf::MAX_FRAGS),
                    Err(error) => {
                        assert!(
                            matches!(error, Error::NonLinear { .. }) && buffer.has_frag_list(),
                            "{error}"
                        );
                    }
                }
            }
            Step::Split(_, offset) => {
                let offset = within(offset);
                match buffer.split(offset) {
                    Ok(second) => new = Some((second, bytes.split_off(offset))),
                    Err(Error::PastEnd { .. }) => assert!(offset > len),
                    Err(Error::NestedFragList) => assert!(buffer.has_frag_list()),
                    Err(error) => assert!(matches!(error, Error::OutOfMemory(_)), "{error}"),
                }
            }
            Step::StoreBits(_, offset, count) => {
                let (offset, count) = (within(offset), usize::from(count));
                match buffer.store_bits(offset, &vec![value; count]) {
                    Ok(()) => bytes[offset..offset + count].fill(value),
                    Err(Error::PastEnd { .. }) => assert!(offset + count > len),
                    Err(error) => assert_eq!(error, Error::Shared),
                }
            }
            Step::WriteData(_, value) => {
                let head_len = buffer.head_len();
                match buffer.data_mut() {
                    Ok(data) => {
                        data.fill(value);
                        bytes[..head_len].fill(value);
                    }
                    Err(netbuf::Shared) => assert!(cloned),
                }
            }
            Step::ShareAndBack(_) => {
                // The handle takes the buffer's place for a moment; a second handle makes it a clone.
                let index = which % self.pairs.len();
                let Pair { buffer, bytes } = self.pairs.remove(index);
                let shared = buffer.share();
                assert_eq!(shared.users(), 1);
                let second = shared.clone();
                assert_eq!(second.users(), 2);
                drop(second);
                if let Ok(buffer) = shared.share_check() {
                    self.pairs.push(Pair { buffer, bytes });
                }
            }
            _ => {}
        }
        if let Some((buffer, bytes)) = new {
            self.add(buffer, bytes);
        }
    }

    /// Compares everything.
    fn check(&self) {
        for Pair { buffer, bytes } in &self.pairs {
            assert_eq!(buffer.len(), bytes.len());
            assert_eq!(buffer.head_len() + buffer.data_len(), bytes.len());
            assert_eq!(buffer.is_nonlinear(), buffer.data_len() != 0);
            assert_eq!(buffer.data(), &bytes[..buffer.head_len()]);
            let mut read = vec![0; bytes.len()];
            buffer.copy_bits(0, &mut read).expect("all of it");
            assert_eq!(&read, bytes);
            assert_eq!(buffer.pieces().flatten().copied().collect::<Vec<_>>(), *bytes);
            let middle = bytes.len() / 3..bytes.len() - bytes.len() / 4;
            let sum = buffer.checksum(middle.clone()).expect("within");
            assert_eq!(fold(sum), fold(checksum(&bytes[middle], 0)));
            // What a device would read at the bus addresses.
            for segment in buffer.scatter_list() {
                let mut read = vec![0; segment.bytes.len()];
                self.pages.read(segment.bus_address, &mut read).expect("live memory");
                assert_eq!(read, segment.bytes);
            }
        }
    }

    /// Drops everything and checks that nothing is left.
    pub fn finish(self) {
        let Self { pages, memory, pool, block, pairs, .. } = self;
        drop(pairs);
        drop(block);
        assert_eq!(memory.statistics().live_descriptors, 0);
        assert_eq!(pool.out(), 0);
        drop(pool);
        let statistics = memory.statistics();
        assert_eq!((statistics.live_slab_objects, statistics.live_blocks), (0, 0));
        drop(memory);
        assert_eq!(pages.live_blocks(), 0);
    }
}

fn fill(mut block: Block, value: u8) -> SharedBlock {
    for (index, byte) in block.bytes_mut().iter_mut().enumerate() {
        *byte = (index as u8).wrapping_mul(7).wrapping_add(value);
    }
    block.share()
}
