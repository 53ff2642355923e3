//! What must hold after every step.

use netbuf::{NetBuf, PacketType};

use super::{Head, Model, Pair, State};

/// Bytes of a buffer that are neither in the linear area nor pinned by frags: descriptor and shared info.
pub const BESIDE: usize = 192 + 312;

/// The ones' complement sum of RFC 1071, as it is written there.
pub fn sum(bytes: &[u8]) -> u16 {
    let words =
        bytes.chunks(2).map(|word| u64::from(word[0]) << 8 | word.get(1).map_or(0, |low| u64::from(*low)));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Whether two sums are the same number: there are two zeros.
pub fn same_sum(unfolded: u32, sum: u16) -> bool {
    unfolded % 0xffff == u32::from(sum) % 0xffff
}

pub fn frag_bytes(buffer: &NetBuf) -> usize {
    (0..buffer.frag_count()).filter_map(|index| buffer.frag(index)).map(<[u8]>::len).sum()
}

impl Model {
    pub(super) fn check(&self) {
        self.queue.with(|queue| {
            let states = || self.pairs.iter().map(|pair| &pair.state).chain(&self.queued);
            let mut users = vec![0; self.heads.len()];
            states().for_each(|state| users[state.head] += 1);
            let mut charged = 0;
            let mut check = |buffer: &NetBuf, state: &State| {
                self.check_buffer(buffer, state);
                let head = &self.heads[state.head];
                check_shared_fields(buffer, head);
                if users[state.head] > 1 {
                    assert!(buffer.is_cloned(), "another buffer uses this head");
                } else if self.settled && !head.listed {
                    assert!(!buffer.is_cloned(), "nobody else uses this head");
                }
                charged += if state.charged { buffer.truesize() } else { 0 };
            };
            for Pair { buffer, state } in &self.pairs {
                check(buffer, state);
            }
            assert_eq!((queue.len(), queue.is_empty()), (self.queued.len(), self.queued.is_empty()));
            assert_eq!(queue.iter().count(), self.queued.len());
            for (buffer, state) in queue.iter().zip(&self.queued) {
                check(buffer, state);
            }
            assert_eq!(queue.front().map(NetBuf::len), self.queued.front().map(|state| state.bytes.len()));
            assert_eq!(queue.back().map(NetBuf::len), self.queued.back().map(|state| state.bytes.len()));
            assert!(self.account.charged() >= charged);
            assert!(self.account.charged() == charged || !self.settled);
        });
    }

    fn check_buffer(&self, buffer: &NetBuf, state: &State) {
        let bytes = &state.bytes;
        assert_eq!(buffer.len(), bytes.len());
        assert_eq!(buffer.is_empty(), bytes.is_empty());
        assert_eq!(buffer.head_len() + buffer.data_len(), bytes.len());
        assert_eq!(buffer.is_nonlinear(), buffer.data_len() != 0);
        assert_eq!(buffer.data(), &bytes[..buffer.head_len()]);
        let mut read = vec![0; bytes.len()];
        buffer.copy_bits(0, &mut read).expect("all of it");
        assert_eq!(&read, bytes);
        assert_eq!(buffer.pieces().flatten().copied().collect::<Vec<_>>(), *bytes);
        let middle = bytes.len() / 3..bytes.len() - bytes.len() / 4;
        let found = buffer.checksum(middle.clone()).expect("within");
        assert!(same_sum(found, sum(&bytes[middle])));
        // What a device would read at the bus addresses.
        for segment in buffer.scatter_list() {
            let mut read = vec![0; segment.bytes.len()];
            self.pages.read(segment.bus_address, &mut read).expect("live memory");
            assert_eq!(read, segment.bytes);
        }
        let members = || buffer.frag_list();
        assert_eq!(members().map(NetBuf::len).sum::<usize>(), buffer.data_len() - frag_bytes(buffer));
        assert_eq!(buffer.has_frag_list(), members().next().is_some());
        assert!(members().all(|member| !member.is_empty() && !member.has_frag_list()));
        assert!(
            (0..buffer.frag_count()).all(|index| buffer.frag(index).is_some_and(|frag| !frag.is_empty()))
        );
        assert!(buffer.frag(buffer.frag_count()).is_none());
        assert!(buffer.frag_block(buffer.frag_count()).is_none());
        for (index, inspected) in buffer.inspect().frags().enumerate() {
            // A handle is one reference more, for as long as it lives.
            let (block, offset) = buffer.frag_block(index).expect("as many as are counted");
            assert_eq!(Some(&block.bytes()[offset..offset + inspected.len]), buffer.frag(index));
            assert_eq!((block.references(), offset), (inspected.references + 1, inspected.offset));
        }
        let inspection = buffer.inspect();
        assert_eq!(inspection.frags().map(|frag| frag.len).sum::<usize>(), frag_bytes(buffer));
        assert!(
            inspection.frags().all(|frag| frag.references > 0 && frag.offset + frag.len <= frag.block.len())
        );
        // Memory really held: exact for a linear buffer.
        let linear = BESIDE + buffer.headroom() + buffer.head_len() + buffer.tailroom();
        let least = linear + frag_bytes(buffer) + members().map(NetBuf::truesize).sum::<usize>();
        match buffer.is_nonlinear() {
            true => assert!(buffer.truesize() >= least),
            false => assert_eq!(buffer.truesize(), linear),
        }
        check_headers(buffer, state);
        check_metadata(buffer, state.metadata);
    }
}

fn check_headers(buffer: &NetBuf, state: &State) {
    let offsets = [buffer.mac_offset(), buffer.network_offset(), buffer.transport_offset()];
    assert_eq!(offsets.map(|offset| offset.map(|offset| offset as i64)), state.headers);
    let found = [
        (buffer.mac_header_was_set(), buffer.mac_header()),
        (buffer.network_header_was_set(), buffer.network_header()),
        (buffer.transport_header_was_set(), buffer.transport_header()),
    ];
    for ((was_set, bytes), expected) in found.into_iter().zip(state.headers) {
        assert_eq!(was_set, expected.is_some());
        let len = expected.map(|header| buffer.head_len() as i64 - header).filter(|len| *len >= 0);
        assert_eq!(bytes.map(|bytes| bytes.len() as i64), len);
        if let Some(bytes) = bytes {
            let (longer, shorter) =
                if bytes.len() > buffer.head_len() { (bytes, buffer.data()) } else { (buffer.data(), bytes) };
            assert!(longer.ends_with(shorter));
            assert_eq!(longer.as_ptr_range().end, shorter.as_ptr_range().end);
        }
    }
    assert_eq!(buffer.destination().is_some(), buffer.mac_header().is_some_and(|bytes| bytes.len() >= 6));
    assert_eq!(buffer.checksum_status(), state.status());
}

fn check_metadata(buffer: &NetBuf, value: u8) {
    let number = u16::from(value);
    let some = (value % 2 == 1).then_some(number);
    // A new buffer's fields are zeros, one's that was given numbers are these.
    let is_new = buffer.priority() == 0;
    assert!(!is_new || value == 0);
    let plus = |more: u16| if is_new { 0 } else { number + more };
    assert_eq!(buffer.protocol(), number);
    assert_eq!(buffer.priority(), plus(1).into());
    assert_eq!(buffer.mark(), plus(2).into());
    assert_eq!(buffer.queue_mapping(), plus(3));
    assert_eq!(buffer.mac_len(), plus(4));
    assert_eq!(buffer.header_len(), plus(5));
    assert_eq!(buffer.vlan(), some);
    assert_eq!(buffer.hash(), some.map(u32::from));
    assert_eq!(buffer.timestamp(), some.map(u64::from));
    assert_eq!(buffer.interface(), some.map(u32::from));
    assert_eq!((buffer.is_peeked(), buffer.is_payload_only()), (value & 2 != 0, value & 4 != 0));
    let types = [PacketType::Host, PacketType::Multicast, PacketType::Outgoing];
    assert_eq!(buffer.packet_type(), types[usize::from(value) % 3]);
    assert_eq!(buffer.control_block::<[u8; 48]>(), &[value; 48]);
}

/// What a head says of the packet as a whole.
fn check_shared_fields(buffer: &NetBuf, head: &Head) {
    let segments = u16::from(head.packet);
    let segmentation = buffer.segmentation().map(|found| (found.size, found.count, found.kind));
    assert_eq!(segmentation, (segments != 0).then_some((segments, segments / 2, segments % 3)));
    assert_eq!(buffer.hardware_timestamp(), u64::from(segments) * 1000);
    assert_eq!(buffer.transmit_flags(), head.transmit.into());
}
