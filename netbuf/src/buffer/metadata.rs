//! What layers tell each other about a packet: protocol, receiver, checksum state, and private state.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::NetBuf;

/// Whom a packet is for, as the link layer saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum PacketType {
    /// For this station.
    #[default]
    Host,
    /// For all stations.
    Broadcast,
    /// For a group.
    Multicast,
    /// For another station, seen in promiscuous mode.
    OtherHost,
    /// From this station.
    Outgoing,
}

/// What is known of the transport checksum: on receive what the hardware verified, on transmit what it must still do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ChecksumStatus {
    /// Receive: nothing is known, software must check. Transmit: the checksum is in the packet.
    #[default]
    None,
    /// Receive: the hardware checked it, it is right.
    Unnecessary,
    /// Receive: the hardware summed all bytes from `data` to the end, and this is the sum, not folded, as
    /// [`checksum`](crate::checksum) would return it.
    Complete(u32),
    /// Transmit: the device must sum the bytes from `start` to the end of the packet and store the checksum at
    /// `start + offset`.
    Partial {
        /// Where the sum starts, in bytes from the start of the data.
        start: usize,
        /// Where the checksum goes, in bytes from `start`.
        offset: usize,
    },
}

const NONE: u8 = 0;
const UNNECESSARY: u8 = 1;
const COMPLETE: u8 = 2;
pub(super) const PARTIAL: u8 = 3;

/// Bits of the descriptor's flags.
const HAS_VLAN: u8 = 1;
const PEEKED: u8 = 2;
const HAS_HASH: u8 = 4;
const HAS_TIMESTAMP: u8 = 8;
const PAYLOAD_ONLY: u8 = 16;
const HAS_INTERFACE: u8 = 32;

/// Bytes of private state that a buffer carries for its owner (`cb`): see [`NetBuf::control_block`].
pub const CONTROL_BLOCK_SIZE: usize = 48;

macro_rules! field {
    ($(#[$documentation:meta])* $get:ident, $set:ident, $field:ident: $type:ty) => {
        $(#[$documentation])*
        ///
        /// ```
        /// # let memory = netbuf::host::memory();
        /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
        #[doc = concat!("assert_eq!(buffer.", stringify!($get), "(), 0);")]
        #[doc = concat!("buffer.", stringify!($set), "(7);")]
        #[doc = concat!("assert_eq!(buffer.", stringify!($get), "(), 7);")]
        /// # Ok::<(), netbuf::Error>(())
        /// ```
        #[inline]
        #[must_use]
        pub fn $get(&self) -> $type {
            self.descriptor().$field
        }

        #[doc = concat!("Sets [`", stringify!($get), "`](Self::", stringify!($get), ").")]
        ///
        /// ```
        /// # let memory = netbuf::host::memory();
        /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
        #[doc = concat!("buffer.", stringify!($set), "(3);")]
        #[doc = concat!("assert_eq!(buffer.", stringify!($get), "(), 3);")]
        /// # Ok::<(), netbuf::Error>(())
        /// ```
        #[inline]
        pub fn $set(&mut self, value: $type) {
            self.descriptor_mut().$field = value;
        }
    };
}

macro_rules! optional_field {
    ($(#[$documentation:meta])* $get:ident, $set:ident, $field:ident: $type:ty, $flag:ident) => {
        $(#[$documentation])*
        ///
        /// ```
        /// # let memory = netbuf::host::memory();
        /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
        #[doc = concat!("assert_eq!(buffer.", stringify!($get), "(), None);")]
        #[doc = concat!("buffer.", stringify!($set), "(Some(0));")]
        #[doc = concat!("assert_eq!(buffer.", stringify!($get), "(), Some(0));")]
        /// # Ok::<(), netbuf::Error>(())
        /// ```
        #[inline]
        #[must_use]
        pub fn $get(&self) -> Option<$type> {
            let descriptor = self.descriptor();
            (descriptor.flags & $flag != 0).then_some(descriptor.$field)
        }

        #[doc = concat!("Sets [`", stringify!($get), "`](Self::", stringify!($get), ").")]
        ///
        /// ```
        /// # let memory = netbuf::host::memory();
        /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
        #[doc = concat!("buffer.", stringify!($set), "(Some(3));")]
        #[doc = concat!("buffer.", stringify!($set), "(None);")]
        #[doc = concat!("assert_eq!(buffer.", stringify!($get), "(), None);")]
        /// # Ok::<(), netbuf::Error>(())
        /// ```
        #[inline]
        pub fn $set(&mut self, value: Option<$type>) {
            let descriptor = self.descriptor_mut();
            match value {
                Some(value) => {
                    descriptor.flags |= $flag;
                    descriptor.$field = value;
                }
                None => descriptor.flags &= !$flag,
            }
        }
    };
}

/// What layers tell each other about a packet, and the private bytes of each.
impl NetBuf {
    field!(
        /// The Ethernet type of the payload, host byte order (`protocol`).
        protocol, set_protocol, protocol: u16
    );
    field!(
        /// Scheduling class on transmit (`priority`).
        priority, set_priority, priority: u32
    );
    field!(
        /// A number that rules attach (`mark`).
        mark, set_mark, mark: u32
    );
    field!(
        /// The device queue to use or that was used (`queue_mapping`).
        queue_mapping, set_queue_mapping, queue_mapping: u16
    );
    field!(
        /// Bytes in the link-layer header (`mac_len`).
        mac_len, set_mac_len, mac_len: u16
    );
    field!(
        /// Bytes of headers that whoever gets a clone will want to write, so that a private copy of that many suffices
        /// (`hdr_len`). A note among layers, like the other fields: operations on buffers do not look at it.
        header_len, set_header_len, header_len: u16
    );
    optional_field!(
        /// The VLAN tag that the hardware took off or must insert: priority and identifier (`vlan_tci`).
        vlan, set_vlan, vlan_tci: u16, HAS_VLAN
    );
    optional_field!(
        /// The flow hash (`hash`).
        hash, set_hash, hash: u32, HAS_HASH
    );
    optional_field!(
        /// When the packet arrived or left, in nanoseconds of the surroundings' clock (`tstamp`).
        timestamp, set_timestamp, timestamp: u64, HAS_TIMESTAMP
    );
    optional_field!(
        /// The interface that the packet arrived on or leaves by (`dev`, `iif`), as an index that the network layer gives.
        interface, set_interface, interface: u32, HAS_INTERFACE
    );

    /// Whom the packet is for (`pkt_type`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// assert_eq!(buffer.packet_type(), netbuf::PacketType::Host);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn packet_type(&self) -> PacketType {
        match self.descriptor().packet_type {
            1 => PacketType::Broadcast,
            2 => PacketType::Multicast,
            3 => PacketType::OtherHost,
            4 => PacketType::Outgoing,
            _ => PacketType::Host,
        }
    }

    /// Sets [`packet_type`](Self::packet_type).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.set_packet_type(netbuf::PacketType::Multicast);
    /// assert_eq!(buffer.packet_type(), netbuf::PacketType::Multicast);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    pub fn set_packet_type(&mut self, packet_type: PacketType) {
        self.descriptor_mut().packet_type = packet_type as u8;
    }

    /// Whether a reader has seen the packet in a queue without taking it (`peeked`). A note that the reader makes.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.set_peeked(true);
    /// assert!(buffer.is_peeked());
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[must_use]
    pub fn is_peeked(&self) -> bool {
        self.descriptor().flags & PEEKED != 0
    }

    /// Sets [`is_peeked`](Self::is_peeked).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// assert!(!buffer.is_peeked());
    /// buffer.set_peeked(true);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn set_peeked(&mut self, peeked: bool) {
        self.set_flag(PEEKED, peeked);
    }

    /// Whether the owner of this buffer promised to look at the payload only and not at the headers (`nohdr`). A note
    /// among layers, which nothing enforces.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.set_payload_only(true);
    /// assert!(buffer.is_payload_only());
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[must_use]
    pub fn is_payload_only(&self) -> bool {
        self.descriptor().flags & PAYLOAD_ONLY != 0
    }

    /// Sets [`is_payload_only`](Self::is_payload_only).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// assert!(!buffer.is_payload_only());
    /// buffer.set_payload_only(true);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    pub fn set_payload_only(&mut self, payload_only: bool) {
        self.set_flag(PAYLOAD_ONLY, payload_only);
    }

    fn set_flag(&mut self, flag: u8, on: bool) {
        let flags = &mut self.descriptor_mut().flags;
        if on {
            *flags |= flag;
        } else {
            *flags &= !flag;
        }
    }

    /// What is known of the transport checksum (`ip_summed`, `csum`).
    ///
    /// The place of a partial checksum stays where it is while headers are pushed and pulled and heads replaced. While it
    /// is not within the packet, pulled off or trimmed off, the status is [`ChecksumStatus::None`].
    ///
    /// A complete checksum is a number noted once: to take bytes off or add some and keep it right, use
    /// [`pull_checksummed`](Self::pull_checksummed), [`push_checksummed`](Self::push_checksummed) and
    /// [`trim_checksummed`](Self::trim_checksummed).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// use netbuf::{ChecksumStatus, NetBuf};
    /// let mut buffer = NetBuf::rx_alloc(&memory, 64)?;
    /// buffer.put(40)?;
    /// buffer.set_checksum_status(ChecksumStatus::Partial { start: 20, offset: 16 });
    /// buffer.push(14)?;
    /// assert_eq!(buffer.checksum_status(), ChecksumStatus::Partial { start: 34, offset: 16 });
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn checksum_status(&self) -> ChecksumStatus {
        let descriptor = self.descriptor();
        match descriptor.checksum_status {
            UNNECESSARY => ChecksumStatus::Unnecessary,
            COMPLETE => ChecksumStatus::Complete(descriptor.checksum),
            PARTIAL => {
                let offset = descriptor.checksum_offset as usize;
                match (descriptor.checksum as usize).checked_sub(descriptor.headroom()) {
                    Some(start) if start + offset + 2 <= self.len() => {
                        ChecksumStatus::Partial { start, offset }
                    }
                    _ => ChecksumStatus::None,
                }
            }
            _ => ChecksumStatus::None,
        }
    }

    /// Sets [`checksum_status`](Self::checksum_status). A partial checksum must lie within the packet, otherwise the
    /// status becomes [`ChecksumStatus::None`].
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// use netbuf::{ChecksumStatus, NetBuf};
    /// let mut buffer = NetBuf::rx_alloc(&memory, 64)?;
    /// buffer.set_checksum_status(ChecksumStatus::Unnecessary);
    /// assert_eq!(buffer.checksum_status(), ChecksumStatus::Unnecessary);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    pub fn set_checksum_status(&mut self, status: ChecksumStatus) {
        let (headroom, len) = (self.headroom(), self.len());
        let descriptor = self.descriptor_mut();
        (descriptor.checksum_status, descriptor.checksum, descriptor.checksum_offset) = match status {
            ChecksumStatus::Unnecessary => (UNNECESSARY, 0, 0),
            ChecksumStatus::Complete(sum) => (COMPLETE, sum, 0),
            ChecksumStatus::Partial { start, offset }
                if start.saturating_add(offset).saturating_add(2) <= len =>
            {
                (PARTIAL, (headroom + start) as u32, offset as u32)
            }
            ChecksumStatus::None | ChecksumStatus::Partial { .. } => (NONE, 0, 0),
        };
    }

    /// Private state of whoever owns the buffer now (`cb`), as a type of theirs: at most [`CONTROL_BLOCK_SIZE`] bytes,
    /// aligned to at most 8. It starts as zeros; each layer finds what the one before left there. A layer that must keep
    /// it across a hand-over clones first: a clone begins with the same bytes and has its own from then on.
    ///
    /// A type that is too large does not compile:
    ///
    /// ```compile_fail
    /// # let memory = netbuf::host::memory();
    /// # let buffer = netbuf::NetBuf::alloc(&memory, 64).unwrap();
    /// let too_large: &[u8; 49] = buffer.control_block();
    /// ```
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};
    ///
    /// #[derive(FromBytes, IntoBytes, Immutable, KnownLayout)]
    /// #[repr(C)]
    /// struct Fragment {
    ///     offset: u32,
    ///     len: u32,
    /// }
    ///
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.control_block_mut::<Fragment>().offset = 1480;
    /// assert_eq!(buffer.control_block::<Fragment>().offset, 1480);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn control_block<T: FromBytes + Immutable + KnownLayout>(&self) -> &T {
        const { assert!(size_of::<T>() <= CONTROL_BLOCK_SIZE && align_of::<T>() <= align_of::<u64>()) };
        // SAFETY: the type fits, its alignment does too, any bytes are a value of it, and it has no interior
        // mutability.
        unsafe { &*self.descriptor().control_block.as_ptr().cast() }
    }

    /// [`control_block`](Self::control_block), to be written.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// *buffer.control_block_mut::<[u8; 48]>() = [1; 48];
    /// assert_eq!(buffer.control_block::<u64>(), &0x0101_0101_0101_0101);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[inline]
    #[must_use]
    pub fn control_block_mut<T: FromBytes + IntoBytes + KnownLayout>(&mut self) -> &mut T {
        const { assert!(size_of::<T>() <= CONTROL_BLOCK_SIZE && align_of::<T>() <= align_of::<u64>()) };
        // SAFETY: as in `control_block`; the type has no padding, so whatever is written leaves initialised bytes.
        unsafe { &mut *self.descriptor_mut().control_block.as_mut_ptr().cast() }
    }
}
