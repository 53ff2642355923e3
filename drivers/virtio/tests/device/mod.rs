//! A virtio device played by a test, at the level of its registers and rings. It knows nothing of the driver: it is
//! written from the virtio 1.2 text (2.7 rings, 4.1.4 registers).
#![allow(dead_code)] // each test binary uses a part

use std::cell::RefCell;
use std::rc::Rc;

use std::ptr::NonNull;

use hal::mmio::Mmio;
use netbuf::{PageBlock, PageSource, Zone};

/// Where the structures of the modern device lie in base address 4.
const COMMON: usize = 0;
const STATUS: usize = 0x1000;
const CONFIGURATION: usize = 0x2000;
const NOTIFICATION: usize = 0x3000;
const NOTIFY_MULTIPLIER: u32 = 4;

pub const VERSION_1: u64 = 1 << 32;
pub const ANY_LAYOUT: u64 = 1 << 27;
pub const NET_MAC: u64 = 1 << 5;
pub const NET_STATUS: u64 = 1 << 16;

const DESCRIPTOR_NEXT: u16 = 1;
const DESCRIPTOR_WRITE: u16 = 2;

#[derive(Clone, Copy, Default)]
pub struct Ring {
    size: u16,
    enabled: bool,
    vector: u16,
    descriptors: u64,
    available: u64,
    used: u64,
    seen: u16,
    returned: u16,
}

pub struct State {
    pub legacy: bool,
    pub message_signalled: bool,
    pub features: u64,
    pub accepted: u64,
    pub refuse_features: bool,
    pub status: u8,
    pub interrupt_status: u8,
    pub configuration: Vec<u8>,
    pub rings: Vec<Ring>,
    pub notified: Vec<u16>,
    /// The device is an entropy source that gives this byte.
    pub entropy: Option<u8>,
    select: u16,
    feature_select: u32,
    configuration_vector: u16,
}

/// The device; clones are the same device.
#[derive(Clone)]
pub struct Device(pub Rc<RefCell<State>>);

/// A chain that the driver made available: index of its head, and its pieces as (address, length, for the device to
/// write).
pub struct Chain {
    pub head: u16,
    pub pieces: Vec<(u64, u32, bool)>,
}

impl Device {
    pub fn new(legacy: bool, features: u64, configuration: Vec<u8>, queues: usize, size: u16) -> Self {
        Self(Rc::new(RefCell::new(State {
            legacy,
            message_signalled: false,
            features,
            accepted: 0,
            refuse_features: false,
            status: 0,
            interrupt_status: 0,
            configuration,
            rings: vec![Ring { size, vector: 0xffff, ..Ring::default() }; queues],
            notified: Vec::new(),
            entropy: None,
            select: 0,
            feature_select: 0,
            configuration_vector: 0xffff,
        })))
    }

    pub fn network(legacy: bool, extra_features: u64) -> Self {
        let mut configuration = vec![0x52, 0x54, 0, 0x12, 0x34, 0x56];
        configuration.extend(1u16.to_le_bytes());
        let version = if legacy { 0 } else { VERSION_1 };
        Self::new(legacy, version | NET_MAC | NET_STATUS | extra_features, configuration, 3, 256)
    }

    /// The function's configuration space: four capabilities, or none for a legacy device.
    pub fn read_configuration(&self, offset: u16) -> u32 {
        let mut bytes = [0u8; 256];
        if !self.0.borrow().legacy {
            bytes[6] = 0x10;
            bytes[0x34] = 0x40;
            let structures = [
                (1, COMMON, 0x1000),
                (3, STATUS, 0x1000),
                (4, CONFIGURATION, 0x1000),
                (2, NOTIFICATION, 0x1000),
            ];
            for (index, (kind, offset, length)) in structures.into_iter().enumerate() {
                let at = 0x40 + index * 0x14;
                let next = if index == 3 { 0 } else { at + 0x14 };
                bytes[at..at + 5].copy_from_slice(&[9, next as u8, 0x14, kind, 4]);
                bytes[at + 8..at + 12].copy_from_slice(&(offset as u32).to_le_bytes());
                bytes[at + 12..at + 16].copy_from_slice(&(length as u32).to_le_bytes());
                bytes[at + 16..at + 20].copy_from_slice(&NOTIFY_MULTIPLIER.to_le_bytes());
            }
        }
        let at = usize::from(offset);
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    }

    pub fn open_bar(&self, index: u8) -> Option<Window> {
        let legacy = self.0.borrow().legacy;
        (index == if legacy { 0 } else { 4 }).then(|| Window(self.clone()))
    }

    /// The next chain of a queue.
    pub fn next_chain(&self, queue: usize) -> Option<Chain> {
        let ring = &mut self.0.borrow_mut().rings[queue];
        if !ring.enabled || ring.seen == read_u16(ring.available + 2) {
            return None;
        }
        let head = read_u16(ring.available + 4 + 2 * u64::from(ring.seen % ring.size));
        ring.seen = ring.seen.wrapping_add(1);
        let mut pieces = Vec::new();
        let mut index = head;
        loop {
            assert!(index < ring.size, "descriptor index out of range");
            let at = ring.descriptors + 16 * u64::from(index);
            let flags = read_u16(at + 12);
            pieces.push((read_u64(at), read_u32(at + 8), flags & DESCRIPTOR_WRITE != 0));
            assert!(pieces.len() <= usize::from(ring.size), "circular chain");
            if flags & DESCRIPTOR_NEXT == 0 {
                break;
            }
            index = read_u16(at + 14);
        }
        Some(Chain { head, pieces })
    }

    /// Puts an entry into the used ring, whatever it says.
    pub fn return_buffer(&self, queue: usize, id: u32, length: u32) {
        let ring = &mut self.0.borrow_mut().rings[queue];
        let at = ring.used + 4 + 8 * u64::from(ring.returned % ring.size);
        write_u32(at, id);
        write_u32(at + 4, length);
        ring.returned = ring.returned.wrapping_add(1);
        write_u16(ring.used + 2, ring.returned);
    }

    /// Writes header and frame into the next receive buffer; false when there is none.
    pub fn deliver(&self, frame: &[u8]) -> bool {
        let Some(chain) = self.next_chain(0) else { return false };
        let header = if self.0.borrow().accepted & VERSION_1 != 0 { 12 } else { 10 };
        let mut bytes = vec![0xee; header];
        bytes.extend(frame);
        let mut rest = &bytes[..];
        for (address, length, writable) in &chain.pieces {
            assert!(*writable, "a receive buffer that may not be written");
            let (now, later) = rest.split_at(rest.len().min(*length as usize));
            write_bytes(*address, now);
            rest = later;
        }
        assert!(rest.is_empty(), "the receive buffer is too small for {} bytes", frame.len());
        self.return_buffer(0, u32::from(chain.head), bytes.len() as u32);
        true
    }

    /// Takes all frames that were sent, each with the number of its descriptors.
    pub fn sent(&self) -> Vec<(Vec<u8>, usize)> {
        let header = if self.0.borrow().accepted & VERSION_1 != 0 { 12 } else { 10 };
        let mut frames = Vec::new();
        while let Some(chain) = self.next_chain(1) {
            let mut bytes = Vec::new();
            for (address, length, writable) in &chain.pieces {
                assert!(!writable, "a transmit buffer that may be written");
                bytes.extend(read_bytes(*address, *length as usize));
            }
            assert_eq!(bytes[..header], vec![0; header], "no offload was negotiated, so the header is zero");
            frames.push((bytes.split_off(header), chain.pieces.len()));
            self.return_buffer(1, u32::from(chain.head), 0);
        }
        frames
    }

    /// Whether the driver asked not to be interrupted for a queue.
    pub fn interrupts_suppressed(&self, queue: usize) -> bool {
        read_u16(self.0.borrow().rings[queue].available) & 1 != 0
    }

    fn read(&self, offset: usize, size: usize) -> u64 {
        let state = &mut *self.0.borrow_mut();
        if state.legacy { state.read_port(offset, size) } else { state.read_modern(offset) }
    }

    fn write(&self, offset: usize, value: u32) {
        let mut state = self.0.borrow_mut();
        if state.legacy {
            state.write_port(offset, value)
        } else {
            state.write_modern(offset, value)
        }
        // An entropy source answers as soon as it is told of a request.
        if !state.notified.is_empty()
            && let Some(value) = state.entropy
        {
            state.notified.clear();
            drop(state);
            self.answer_entropy(value);
        }
    }

    fn answer_entropy(&self, value: u8) {
        let Some(chain) = self.next_chain(0) else { return };
        let (address, length, writable) = chain.pieces[0];
        assert!(writable);
        write_bytes(address, &vec![value; length as usize]);
        self.return_buffer(0, chain.head.into(), length);
    }
}

impl State {
    fn set_status(&mut self, value: u8) {
        self.status = value;
        if value == 0 {
            let size = self.rings[0].size;
            self.rings.fill(Ring { size, vector: 0xffff, ..Ring::default() });
            self.accepted = 0;
        }
        if self.refuse_features {
            self.status &= !8;
        }
    }

    fn read_modern(&mut self, offset: usize) -> u64 {
        let ring = self.rings.get(usize::from(self.select)).copied().unwrap_or_default();
        match offset {
            0x04 => self.features >> (32 * self.feature_select) & 0xffff_ffff,
            0x10 => u64::from(self.configuration_vector),
            0x14 => u64::from(self.status),
            0x15 => 0,
            0x18 => u64::from(ring.size),
            0x1a => u64::from(ring.vector),
            0x1c => u64::from(ring.enabled),
            0x1e => u64::from(self.select),
            STATUS => u64::from(std::mem::take(&mut self.interrupt_status)),
            CONFIGURATION..NOTIFICATION => {
                u64::from(self.configuration.get(offset - CONFIGURATION).copied().unwrap_or(0))
            }
            _ => panic!("modern register {offset:#x} was read"),
        }
    }

    fn write_modern(&mut self, offset: usize, value: u32) {
        let select = usize::from(self.select);
        let low = |address: u64| address & !0xffff_ffff | u64::from(value);
        let high = |address: u64| address & 0xffff_ffff | u64::from(value) << 32;
        match offset {
            0x00 | 0x08 => self.feature_select = value,
            0x0c => {
                let shift = 32 * self.feature_select;
                self.accepted = self.accepted & !(0xffff_ffff << shift) | u64::from(value) << shift;
            }
            0x10 => self.configuration_vector = value as u16,
            0x14 => self.set_status(value as u8),
            0x16 => self.select = value as u16,
            0x18 => self.rings[select].size = value as u16,
            0x1a => self.rings[select].vector = value as u16,
            0x1c => self.rings[select].enabled = value == 1,
            0x20 => self.rings[select].descriptors = low(self.rings[select].descriptors),
            0x24 => self.rings[select].descriptors = high(self.rings[select].descriptors),
            0x28 => self.rings[select].available = low(self.rings[select].available),
            0x2c => self.rings[select].available = high(self.rings[select].available),
            0x30 => self.rings[select].used = low(self.rings[select].used),
            0x34 => self.rings[select].used = high(self.rings[select].used),
            NOTIFICATION.. => {
                assert_eq!(offset - NOTIFICATION, value as usize * NOTIFY_MULTIPLIER as usize);
                self.notified.push(value as u16);
            }
            _ => panic!("modern register {offset:#x} was written"),
        }
    }

    fn read_port(&mut self, offset: usize, size: usize) -> u64 {
        let configuration = if self.message_signalled { 24 } else { 20 };
        let ring = self.rings.get(usize::from(self.select)).copied().unwrap_or_default();
        match (offset, size) {
            (0, 4) => self.features & 0xffff_ffff,
            (8, 4) => ring.descriptors >> 12,
            (12, 2) => u64::from(ring.size),
            (18, 1) => u64::from(self.status),
            (19, 1) => u64::from(std::mem::take(&mut self.interrupt_status)),
            (20, 2) if self.message_signalled => u64::from(self.configuration_vector),
            (22, 2) if self.message_signalled => u64::from(ring.vector),
            _ if offset >= configuration => {
                u64::from(self.configuration.get(offset - configuration).copied().unwrap_or(0))
            }
            _ => panic!("port {offset} was read with {size} bytes"),
        }
    }

    fn write_port(&mut self, offset: usize, value: u32) {
        let select = usize::from(self.select);
        match offset {
            4 => self.accepted = u64::from(value),
            8 => {
                let ring = &mut self.rings[select];
                ring.descriptors = u64::from(value) << 12;
                ring.available = ring.descriptors + 16 * u64::from(ring.size);
                // The used ring starts on the page after the available ring (2.7.2).
                ring.used = (ring.available + 6 + 2 * u64::from(ring.size)).next_multiple_of(4096);
                ring.enabled = value != 0;
            }
            14 => self.select = value as u16,
            16 => self.notified.push(value as u16),
            18 => self.set_status(value as u8),
            20 if self.message_signalled => self.configuration_vector = value as u16,
            22 if self.message_signalled => self.rings[select].vector = value as u16,
            _ => panic!("port {offset} was written"),
        }
    }
}

/// The device's one base address.
#[derive(Clone)]
pub struct Window(Device);

impl Mmio for Window {
    fn len(&self) -> usize {
        if self.0.0.borrow().legacy { 64 } else { 0x4000 }
    }
    fn read_u8(&self, offset: usize) -> u8 {
        self.0.read(offset, 1) as u8
    }
    fn read_u16(&self, offset: usize) -> u16 {
        self.0.read(offset, 2) as u16
    }
    fn read_u32(&self, offset: usize) -> u32 {
        self.0.read(offset, 4) as u32
    }
    fn write_u8(&self, offset: usize, value: u8) {
        self.0.write(offset, value.into());
    }
    fn write_u16(&self, offset: usize, value: u16) {
        self.0.write(offset, value.into());
    }
    fn write_u32(&self, offset: usize, value: u32) {
        self.0.write(offset, value);
    }
}

// The device reaches the driver's memory by bus address, which is the host's own address in these tests.

macro_rules! accessors {
    ($($read:ident $write:ident $type:ty),*) => {$(
        fn $read(address: u64) -> $type {
            // SAFETY: the driver gave the device this address; the rings and buffers behind it live until a reset.
            unsafe { (address as *const $type).read_volatile() }
        }
        fn $write(address: u64, value: $type) {
            // SAFETY: as above, and the driver said that the device may write there.
            unsafe { (address as *mut $type).write_volatile(value) }
        }
    )*};
}
accessors!(read_u16 write_u16 u16, read_u32 write_u32 u32, read_u64 write_u64 u64);

fn read_bytes(address: u64, length: usize) -> Vec<u8> {
    // SAFETY: as above.
    unsafe { std::slice::from_raw_parts(address as *const u8, length) }.to_vec()
}

fn write_bytes(address: u64, bytes: &[u8]) {
    // SAFETY: as above; source and target are different memory.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) }
}

/// Pages whose bus address is their pointer, as in the image's identity map, and below 2 GiB: a legacy device cannot
/// be told of more.
pub struct IdentityPages;

// SAFETY: every block is a private mapping of its own, zeroed, aligned to its length by cutting a larger one.
unsafe impl PageSource for IdentityPages {
    fn allocate(&self, order: u8, zone: Zone) -> Option<PageBlock> {
        let length = 4096 << order;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
        // SAFETY: a new private mapping, cut down to an aligned part of itself.
        unsafe {
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            let start = libc::mmap(std::ptr::null_mut(), 2 * length, rights, flags, -1, 0);
            if start == libc::MAP_FAILED {
                return None;
            }
            let before = start.align_offset(length);
            let pointer = start.byte_add(before);
            if before > 0 {
                libc::munmap(start, before);
            }
            libc::munmap(pointer.byte_add(length), length - before);
            let pointer = NonNull::new(pointer.cast())?;
            Some(PageBlock { pointer, bus_address: pointer.as_ptr() as u64, order, zone })
        }
    }

    unsafe fn release(&self, block: PageBlock) {
        // SAFETY: by contract, the block came from `allocate` and nobody uses it any more.
        unsafe { libc::munmap(block.pointer.as_ptr().cast(), block.len()) };
    }
}
