//! Rings (xHCI 1.2, 4.9): the driver writes command and transfer rings, the controller writes the event ring.
//!
//! A cycle bit in each TRB tells whose it is: the producer writes its current cycle state, which flips at each wrap,
//! and the consumer stops at the first TRB whose cycle bit is not the state it expects.

use hal::dma::{DmaRegion, OutOfDmaMemory, Pages, read_barrier, write_barrier};
use netbuf::Zone;

use crate::trb::{CYCLE, TOGGLE_CYCLE, TRB_SIZE, Trb, kind};

fn load(region: &DmaRegion, index: usize) -> Trb {
    let at = index * TRB_SIZE;
    // The control word with the cycle bit first: the rest is only valid when the cycle bit is right.
    let control = region.read_u32(at + 12);
    read_barrier();
    Trb { parameter: region.read_u64(at), status: region.read_u32(at + 8), control }
}

fn store(region: &DmaRegion, index: usize, trb: Trb) {
    let at = index * TRB_SIZE;
    region.write_u64(at, trb.parameter);
    region.write_u32(at + 8, trb.status);
    // The cycle bit hands the TRB over, so it goes last.
    write_barrier();
    region.write_u32(at + 12, trb.control);
}

/// A ring that the driver fills: one page, its last TRB a link back to the first.
///
/// A descriptor of several TRBs never straddles the wrap: when it does not fit in front of the link, the link is put
/// where it would start. So no link ever stands inside a descriptor, where its alignment would matter (4.11.7.1).
#[derive(Debug)]
pub struct ProducerRing {
    region: DmaRegion,
    length: usize,
    enqueue: usize,
    cycle: u32,
    used: usize,
}

/// Where a descriptor lies in its ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Index of its first TRB.
    pub first: usize,
    /// Index of its last TRB, not before the first.
    pub last: usize,
    /// TRBs that come free with it: its own, and those skipped in front of it.
    used: usize,
}

impl Span {
    /// Whether the TRB at `index` belongs to the descriptor.
    #[must_use]
    pub fn contains(&self, index: usize) -> bool {
        (self.first..=self.last).contains(&index)
    }
}

impl ProducerRing {
    /// An empty ring of one page.
    pub fn new(pages: &Pages, zone: Zone) -> Result<Self, OutOfDmaMemory> {
        let region = DmaRegion::new(pages, netbuf::PAGE_SIZE, zone)?;
        let length = region.len() / TRB_SIZE;
        Ok(Self { region, length, enqueue: 0, cycle: CYCLE, used: 0 })
    }

    /// The bus address of the ring's first TRB.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.region.bus_address()
    }

    /// Where the next TRB goes, with the cycle state in bit 0: what CRCR, an endpoint context and Set TR Dequeue
    /// Pointer take.
    #[must_use]
    pub fn enqueue_pointer(&self) -> u64 {
        (self.region.bus_address() + (self.enqueue * TRB_SIZE) as u64) | u64::from(self.cycle)
    }

    /// The index of the TRB at a bus address, when it is one of this ring.
    #[must_use]
    pub fn index_of(&self, address: u64) -> Option<usize> {
        let offset = usize::try_from(address.checked_sub(self.region.bus_address())?).ok()?;
        (offset.is_multiple_of(TRB_SIZE) && offset / TRB_SIZE < self.length).then_some(offset / TRB_SIZE)
    }

    /// TRBs that a descriptor may have at most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        // Half: so that two always fit, and one always fits an empty ring wherever it starts.
        self.length / 2 - 1
    }

    /// The TRB at `index`, as it was put.
    #[must_use]
    pub fn trb(&self, index: usize) -> Trb {
        load(&self.region, index)
    }

    /// Puts a descriptor of `count` TRBs, produced in order by `next`. `None` when it does not fit now.
    ///
    /// The first TRB is handed over last, so that the controller never sees half a descriptor.
    pub fn put(&mut self, count: usize, mut next: impl FnMut(usize) -> Trb) -> Option<Span> {
        let last_usable = self.length - 1;
        let skipped = if self.enqueue + count > last_usable { last_usable - self.enqueue } else { 0 };
        // One slot always stays free: a full ring would look like an empty one to nobody, but its enqueue pointer
        // would stand on a TRB that the controller may still execute.
        if count == 0 || count > self.capacity() || self.used + skipped + count >= last_usable {
            return None;
        }
        if self.enqueue + count > last_usable {
            self.wrap();
        }
        let first = self.enqueue;
        let last = first + count - 1;
        let mut opening = Trb::default();
        for offset in 0..count {
            let mut trb = next(offset);
            trb.control |= self.cycle;
            if offset == 0 {
                opening = trb;
            } else {
                store(&self.region, first + offset, trb);
            }
        }
        store(&self.region, first, opening);
        self.enqueue = last + 1;
        self.used += skipped + count;
        Some(Span { first, last, used: skipped + count })
    }

    /// Puts a link to the start at the enqueue index. TRBs behind it get the current cycle bit too, or they would
    /// seem handed over when the ring passes them on the next lap.
    fn wrap(&mut self) {
        for index in self.enqueue + 1..self.length {
            store(&self.region, index, Trb { control: self.cycle, ..Trb::default() });
        }
        let link = Trb::new(kind::LINK, self.region.bus_address(), 0, TOGGLE_CYCLE | self.cycle);
        store(&self.region, self.enqueue, link);
        self.enqueue = 0;
        self.cycle ^= CYCLE;
    }

    /// The descriptor is finished: its TRBs may be used again.
    pub fn release(&mut self, span: Span) {
        self.used = self.used.saturating_sub(span.used);
    }
}

/// The ring that the controller fills: one segment of one page, and the table that names it (6.5).
#[derive(Debug)]
pub struct EventRing {
    segment: DmaRegion,
    table: DmaRegion,
    length: usize,
    dequeue: usize,
    cycle: u32,
    /// Events taken since the controller was last told how far the ring was read.
    untold: usize,
}

impl EventRing {
    /// An empty event ring.
    pub fn new(pages: &Pages, zone: Zone) -> Result<Self, OutOfDmaMemory> {
        let segment = DmaRegion::new(pages, netbuf::PAGE_SIZE, zone)?;
        let table = DmaRegion::new(pages, netbuf::PAGE_SIZE, zone)?;
        let length = segment.len() / TRB_SIZE;
        table.write_u64(0, segment.bus_address());
        table.write_u32(8, length as u32);
        Ok(Self { segment, table, length, dequeue: 0, cycle: CYCLE, untold: 0 })
    }

    /// The bus address of the segment table.
    #[must_use]
    pub fn table(&self) -> u64 {
        self.table.bus_address()
    }

    /// The bus address of the next event.
    #[must_use]
    pub fn dequeue_pointer(&self) -> u64 {
        self.segment.bus_address() + (self.dequeue * TRB_SIZE) as u64
    }

    /// How many events were taken since the last [`EventRing::tell`].
    #[must_use]
    pub fn untold(&self) -> usize {
        self.untold
    }

    /// What the controller is to be told now: the bus address of the next event.
    #[must_use]
    pub fn tell(&mut self) -> u64 {
        self.untold = 0;
        self.dequeue_pointer()
    }

    /// Events in the ring at most.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.length
    }

    /// Whether an event waits.
    #[must_use]
    pub fn has_event(&self) -> bool {
        self.segment.read_u32(self.dequeue * TRB_SIZE + 12) & CYCLE == self.cycle
    }

    /// Takes the next event.
    pub fn take(&mut self) -> Option<Trb> {
        if !self.has_event() {
            return None;
        }
        let event = load(&self.segment, self.dequeue);
        self.untold += 1;
        self.dequeue += 1;
        if self.dequeue == self.length {
            self.dequeue = 0;
            self.cycle ^= CYCLE;
        }
        Some(event)
    }
}
