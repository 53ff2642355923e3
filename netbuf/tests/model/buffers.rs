//! Steps on one buffer or two.

use netbuf::{ChecksumStatus, Error, MAX_FRAGS, NetBuf, PacketType, Segmentation, Shared};

use super::check::{frag_bytes, same_sum, sum};
use super::step::{Action, Which};
use super::{Head, Model, Pair, State, Status};

/// A step may run out of memory; any other error is told by the caller.
fn out_of_memory<E: Into<Error> + Clone>(error: &E) -> bool {
    matches!(error.clone().into(), Error::OutOfMemory(_))
}

impl Model {
    /// Joins two buffers; whether the step was one of these.
    pub(super) fn act_on_two(&mut self, action: Action) -> bool {
        let (Action::Coalesce(which, next) | Action::AppendToList(which, next)) = action else {
            return false;
        };
        if self.pairs.len() < 2 {
            return true;
        }
        let Some(next) = self.remove(next) else { return true };
        let index = usize::from(which) % self.pairs.len();
        let Pair { buffer, state } = &mut self.pairs[index];
        if matches!(action, Action::Coalesce(..)) {
            let separate = !buffer.is_cloned() && !next.buffer.is_cloned();
            let plain = !buffer.has_frag_list() && !next.buffer.has_frag_list();
            let fits = !next.buffer.is_nonlinear() && next.buffer.len() <= buffer.tailroom();
            let frags = buffer.frag_count() + next.buffer.frag_count();
            let moves = next.buffer.head_len() == 0 && frags <= MAX_FRAGS;
            match buffer.try_coalesce(next.buffer) {
                Ok(()) => {
                    assert!(separate && plain && (fits || moves));
                    state.bytes.extend(next.state.bytes);
                    assert_eq!(buffer.frag_count(), frags);
                }
                Err(buffer) => {
                    assert!(!separate || !plain || !(fits || moves));
                    self.pairs.push(Pair { buffer, state: next.state });
                }
            }
            return true;
        }
        let (nested, len) = (next.buffer.has_frag_list(), next.buffer.len());
        let truesize = buffer.truesize() + next.buffer.truesize();
        let cloned = buffer.is_cloned();
        match buffer.append_to_frag_list(next.buffer) {
            Ok(()) if len == 0 => assert!(!cloned),
            Ok(()) => {
                assert!(!nested && !cloned && buffer.has_frag_list());
                state.bytes.extend(next.state.bytes);
                assert_eq!(buffer.truesize(), truesize);
                self.heads[next.state.head].listed = true;
            }
            Err(Error::NestedFragList) => assert!(nested),
            Err(error) => assert!(error == Error::Shared && cloned, "{error}"),
        }
        true
    }

    /// Whether the step was one on a single buffer.
    pub(super) fn act_on_one(&mut self, action: Action) -> bool {
        let Some(which) = only_buffer(action) else { return false };
        let Some(index) = usize::from(which).checked_rem(self.pairs.len()) else { return true };
        let value = self.value();
        let Pair { mut buffer, mut state } = self.pairs.swap_remove(index);
        let (cloned, truesize) = (buffer.is_cloned(), buffer.truesize());
        let new = match action {
            Action::Clone(_) => self.clone_buffer(&mut buffer, &state),
            Action::Copy(_) => self.copy(&buffer, &state),
            Action::CopyHead(_) => self.copy_head(&buffer, &state),
            Action::Split(_, at) => {
                let limits = [buffer.head_len(), buffer.head_len() + frag_bytes(&buffer), buffer.len()];
                let at = at.to(&limits, buffer.len());
                self.split(&mut buffer, &mut state, at)
            }
            Action::Share(_) => {
                let (same, clone) = share_and_back(buffer, &state);
                buffer = same;
                clone
            }
            Action::AddFrag { .. } | Action::AddManyFrags(..) | Action::ContinueLastFrag(..) => {
                self.add_frags(action, &mut buffer, &mut state);
                None
            }
            Action::ReceiveInto(_, count) => {
                let count = count.to(&[buffer.tailroom()], 300);
                self.receive_into(&mut buffer, &mut state, count, value);
                None
            }
            Action::SetSharedFields(_, fields) => {
                let done = set_shared_fields(&mut buffer, fields);
                assert_eq!(done.is_ok(), !cloned);
                if done.is_ok() {
                    let head = &mut self.heads[state.head];
                    (head.packet, head.transmit) = (fields as u8, (fields >> 8) as u8);
                }
                None
            }
            Action::SetOwner(_) => {
                buffer.set_owner(self.account.clone());
                state.charged = true;
                None
            }
            Action::Orphan(_) => {
                buffer.orphan();
                state.charged = false;
                None
            }
            _ => {
                change(action, &mut buffer, &mut state, value);
                None
            }
        };
        // Whoever shared a head and does not any more has one of his own, with the same things said in it.
        if cloned && !buffer.is_cloned() && may_leave(action) {
            state.head = self.new_head(self.heads[state.head]);
        }
        if matches!(action, Action::Pull(..) | Action::Push(..) | Action::Put(..) | Action::StoreBits(..)) {
            assert_eq!(buffer.truesize(), truesize);
        }
        self.pairs.push(Pair { buffer, state });
        if let Some((buffer, state)) = new {
            self.add(buffer, state);
        }
        true
    }

    fn clone_buffer(&mut self, buffer: &mut NetBuf, state: &State) -> Option<(NetBuf, State)> {
        let clone = buffer.clone_buffer().ok()?;
        assert!(buffer.is_cloned() && clone.is_cloned());
        assert_eq!(clone.truesize(), buffer.truesize());
        assert_eq!(clone.data().as_ptr(), buffer.data().as_ptr());
        Some((clone, State { charged: false, ..state.clone() }))
    }

    fn copy(&mut self, buffer: &NetBuf, state: &State) -> Option<(NetBuf, State)> {
        let copy = buffer.copy().ok()?;
        assert!(!copy.is_nonlinear() && !copy.is_cloned());
        assert_eq!(copy.headroom(), buffer.headroom());
        let headers = [copy.mac_header(), copy.network_header(), copy.transport_header()];
        let originals = [buffer.mac_header(), buffer.network_header(), buffer.transport_header()];
        for (copy, original) in headers.into_iter().zip(originals) {
            // What of the linear part follows the header, and what was pulled off behind it.
            assert!(original.is_none_or(|original| copy.is_some_and(|copy| copy.starts_with(original))));
        }
        let head = self.new_head(Head { packet: self.heads[state.head].packet, ..Head::default() });
        Some((copy, State { head, charged: false, ..state.clone() }))
    }

    fn copy_head(&mut self, buffer: &NetBuf, state: &State) -> Option<(NetBuf, State)> {
        let copy = buffer.copy_head().ok()?;
        assert!(!copy.is_cloned());
        assert_eq!((copy.headroom(), copy.head_len()), (buffer.headroom(), buffer.head_len()));
        assert_eq!((copy.truesize(), copy.frag_count()), (buffer.truesize(), buffer.frag_count()));
        assert_eq!(copy.mac_header(), buffer.mac_header());
        assert_eq!(copy.network_header(), buffer.network_header());
        assert_eq!(copy.transport_header(), buffer.transport_header());
        let head = self.new_head(Head { packet: self.heads[state.head].packet, ..Head::default() });
        Some((copy, State { head, charged: false, ..state.clone() }))
    }

    fn split(&mut self, buffer: &mut NetBuf, state: &mut State, offset: usize) -> Option<(NetBuf, State)> {
        let (len, head_len) = (buffer.len(), buffer.head_len());
        match buffer.split(offset) {
            Ok(second) => {
                let moved = len - offset.max(head_len);
                let head = self.new_head(Head::default());
                let bytes = state.bytes.split_off(offset);
                assert_eq!((buffer.head_len(), second.data_len()), (head_len.min(offset), moved));
                Some((second, State::new(bytes, head)))
            }
            Err(error) => {
                match error {
                    Error::PastEnd { .. } => assert!(offset > len),
                    Error::NestedFragList => assert!(buffer.has_frag_list()),
                    error => assert!(out_of_memory(&error), "{error}"),
                }
                None
            }
        }
    }

    fn add_frags(&mut self, action: Action, buffer: &mut NetBuf, state: &mut State) {
        let Some(block_len) = self.block.as_ref().map(netbuf::SharedBlock::len) else { return };
        match action {
            Action::AddFrag { offset, len, .. } => {
                let len = usize::from(len) % 1500;
                let offset = offset.to(&[self.last_end, block_len - len], block_len);
                self.add_frag(buffer, state, offset, len);
            }
            Action::ContinueLastFrag(_, len) => {
                self.add_frag(buffer, state, self.last_end, usize::from(len) % 300);
            }
            Action::AddManyFrags(_, count) => {
                for index in 0..usize::from(count) % 20 {
                    self.add_frag(buffer, state, index * 200 + 7, usize::from(count) % 150);
                }
            }
            _ => {}
        }
    }

    fn add_frag(&mut self, buffer: &mut NetBuf, state: &mut State, offset: usize, len: usize) {
        let Some(block) = self.block.clone() else { return };
        let source = block.bytes().get(offset..offset + len).map(<[u8]>::to_vec);
        let place = block.bus_address() + offset as u64;
        let frags = buffer.frag_count();
        let continues = offset != 0
            && frags != 0
            && !buffer.has_frag_list()
            && buffer
                .scatter_list()
                .last()
                .is_some_and(|last| last.bus_address + last.bytes.len() as u64 == place);
        let truesize = len.next_multiple_of(4096);
        let (references, before) = (block.references(), buffer.truesize());
        match buffer.add_rx_frag(block.clone(), offset, len, truesize) {
            Ok(()) if len == 0 => {}
            Ok(()) => {
                state.bytes.extend(source.expect("inside the block"));
                assert_eq!(buffer.truesize(), before + truesize);
                self.last_end = offset + len;
                assert_eq!(buffer.frag_count(), frags + usize::from(!continues));
                assert_eq!(block.references(), references + u32::from(!continues));
                return;
            }
            Err(Error::OutsideBlock { .. }) => assert!(source.is_none()),
            Err(Error::Shared) => assert!(buffer.is_cloned()),
            Err(Error::TooManyFrags { .. }) => assert!(frags == MAX_FRAGS && !continues),
            Err(error) => {
                assert!(matches!(error, Error::NonLinear { .. }) && buffer.has_frag_list(), "{error}");
            }
        }
        assert_eq!((buffer.frag_count(), block.references()), (frags, references));
        assert_eq!(buffer.truesize(), before);
    }

    /// A device writes to the tailroom by its bus address.
    fn receive_into(&self, buffer: &mut NetBuf, state: &mut State, count: usize, value: u8) {
        let (tailroom, cloned) = (buffer.tailroom(), buffer.is_cloned());
        match buffer.receive_space() {
            Some(space) => {
                assert!(!cloned);
                assert_eq!(space.bytes.len(), tailroom);
                let received = vec![value; count.min(tailroom)];
                self.pages.write(space.bus_address, &received).expect("live memory");
            }
            None => assert!(cloned || tailroom == 0),
        }
        let writable = !cloned && !buffer.is_nonlinear();
        let taken = buffer.put_received(count);
        assert_eq!(taken.is_ok(), writable && count <= tailroom, "{taken:?}");
        if taken.is_ok() {
            state.bytes.resize(state.bytes.len() + count, value);
        }
    }
}

/// The buffer that a step on a single one means.
fn only_buffer(action: Action) -> Option<Which> {
    use Action::*;
    match action {
        Clone(which)
        | Copy(which)
        | CopyHead(which)
        | Split(which, _)
        | Reserve(which, _)
        | Put(which, _)
        | Push(which, _)
        | Pull(which, _)
        | PullAnywhere(which, _)
        | PullChecksummed(which, _)
        | PushChecksummed(which, _)
        | TrimChecksummed(which, _)
        | Trim(which, _)
        | MayPull(which, _)
        | Linearize(which)
        | ReceiveInto(which, _)
        | ExpandHead(which, ..)
        | Cow(which, _)
        | Unshare(which)
        | Share(which)
        | AddFrag { which, .. }
        | AddManyFrags(which, _)
        | ContinueLastFrag(which, _)
        | StoreBits(which, ..)
        | WriteData(which)
        | CopyBits(which, _)
        | Checksum(which, _)
        | CompleteChecksum(which, ..)
        | SetHeaders(which, _)
        | SetMetadata(which, _)
        | SetSharedFields(which, _)
        | SetOwner(which)
        | Orphan(which) => Some(which),
        _ => None,
    }
}

/// Whether a step may give the buffer a head of its own.
fn may_leave(action: Action) -> bool {
    use Action::*;
    matches!(
        action,
        ExpandHead(..)
            | Cow(..)
            | Unshare(_)
            | MayPull(..)
            | PullAnywhere(..)
            | Linearize(_)
            | Trim(..)
            | TrimChecksummed(..)
            | Split(..)
    )
}

/// Handles take the buffer's place for a moment; one of them becomes a clone.
fn share_and_back(buffer: NetBuf, state: &State) -> (NetBuf, Option<(NetBuf, State)>) {
    let handle = buffer.share();
    assert_eq!(handle.users(), 1);
    let (second, third) = (handle.clone(), handle.clone());
    assert_eq!((handle.users(), second.data()), (3, handle.data()));
    drop(third);
    let clone = second.share_check().ok();
    assert_eq!(handle.users(), 1);
    if let Some(clone) = &clone {
        assert!(clone.is_cloned() && handle.is_cloned());
    }
    let buffer = handle.share_check().expect("the only handle needs no memory");
    (buffer, clone.map(|clone| (clone, State { charged: false, ..state.clone() })))
}

fn set_shared_fields(buffer: &mut NetBuf, fields: u16) -> Result<(), Shared> {
    let (segments, flags) = (fields & 0xff, fields >> 8);
    let segmentation = Segmentation { size: segments, count: segments / 2, kind: segments % 3 };
    buffer.set_segmentation((segments != 0).then_some(segmentation))?;
    buffer.set_hardware_timestamp(u64::from(segments) * 1000)?;
    buffer.set_transmit_flags(flags.into())
}

/// Steps that change nothing but the buffer itself.
fn change(action: Action, buffer: &mut NetBuf, state: &mut State, value: u8) {
    let (len, head_len) = (buffer.len(), buffer.head_len());
    let (headroom, tailroom, cloned) = (buffer.headroom(), buffer.tailroom(), buffer.is_cloned());
    // Where something changes in the packet: numbers near these find what is off by one.
    let limits = [head_len, head_len + frag_bytes(buffer), len];
    let most = len + 1;
    let bytes = &mut state.bytes;
    match action {
        Action::Reserve(_, count) => {
            let count = count.to(&[tailroom], 100);
            let result = buffer.reserve(count);
            assert_eq!(result.is_ok(), len == 0 && count <= tailroom, "{result:?}");
            if result.is_ok() {
                assert_eq!((buffer.headroom(), buffer.tailroom()), (headroom + count, tailroom - count));
                state.data_moves(count as i64);
            }
        }
        Action::Put(_, count) => {
            let count = count.to(&[tailroom], 300);
            let may = !buffer.is_nonlinear() && !cloned && count <= tailroom;
            match buffer.put(count) {
                Ok(room) => {
                    assert!(may);
                    room.fill(value);
                    bytes.resize(len + count, value);
                }
                Err(_) => assert!(!may),
            }
        }
        Action::Push(_, count) => {
            let count = count.to(&[headroom], 100);
            match buffer.push(count) {
                Ok(room) => {
                    assert!(!cloned && count <= headroom);
                    room.fill(value);
                    bytes.splice(0..0, std::iter::repeat_n(value, count));
                    state.data_moves(-(count as i64));
                }
                Err(_) => assert!(cloned || count > headroom),
            }
        }
        Action::Pull(_, count) => {
            let count = count.to(&limits, most);
            let result = buffer.pull(count).map(<[u8]>::to_vec);
            assert_eq!(result.is_ok(), count <= head_len, "{result:?}");
            if let Ok(rest) = result {
                bytes.drain(..count);
                assert_eq!(rest, bytes[..head_len - count]);
                assert_eq!(buffer.headroom(), headroom + count);
                state.data_moves(count as i64);
            }
        }
        Action::PullAnywhere(_, count) => {
            let count = count.to(&limits, most);
            match buffer.pull_anywhere(count).map(drop) {
                Ok(()) => {
                    bytes.drain(..count);
                    state.data_moves(count as i64);
                }
                Err(Error::PastEnd { .. }) => assert!(count > len),
                Err(error) => assert!(out_of_memory(&error), "{error}"),
            }
        }
        Action::PullChecksummed(_, count) => {
            let count = count.to(&limits, most);
            buffer.set_checksum_status(ChecksumStatus::Complete(sum(bytes).into()));
            let result = buffer.pull_checksummed(count).map(drop);
            assert_eq!(result.is_ok(), count <= head_len, "{result:?}");
            if result.is_ok() {
                bytes.drain(..count);
            }
            state.status = complete(buffer, bytes);
            if result.is_ok() {
                state.data_moves(count as i64);
            }
        }
        Action::PushChecksummed(_, count) => {
            let header = vec![value; count.to(&[headroom], 100)];
            buffer.set_checksum_status(ChecksumStatus::Complete(sum(bytes).into()));
            let result = buffer.push_checksummed(&header);
            assert_eq!(result.is_ok(), !cloned && header.len() <= headroom);
            if result.is_ok() {
                bytes.splice(0..0, header.iter().copied());
                state.data_moves(-(header.len() as i64));
            }
            state.status = complete(buffer, &state.bytes);
        }
        Action::TrimChecksummed(_, count) => {
            let count = count.to(&limits, most);
            buffer.set_checksum_status(ChecksumStatus::Complete(sum(bytes).into()));
            match buffer.trim_checksummed(count) {
                Ok(()) => bytes.truncate(count),
                Err(error) => assert!(out_of_memory(&error) && buffer.is_nonlinear(), "{error}"),
            }
            state.status = complete(buffer, &state.bytes);
        }
        Action::Trim(_, count) => {
            let count = count.to(&limits, most);
            match buffer.trim(count) {
                Ok(()) => bytes.truncate(count),
                Err(error) => assert!(out_of_memory(&error) && buffer.is_nonlinear(), "{error}"),
            }
        }
        Action::MayPull(_, count) => {
            let count = count.to(&limits, most);
            match buffer.may_pull(count) {
                Ok(()) => assert!(buffer.head_len() == count.max(head_len)),
                Err(Error::PastEnd { .. }) => assert!(count > len),
                Err(error) => assert!(out_of_memory(&error), "{error}"),
            }
        }
        Action::Linearize(_) => match buffer.linearize() {
            Ok(()) => {
                assert_eq!((buffer.head_len(), buffer.data_len(), buffer.frag_count()), (len, 0, 0));
                assert!(!buffer.has_frag_list());
            }
            Err(error) => assert!(out_of_memory(&error), "{error}"),
        },
        Action::ExpandHead(_, front, back) => {
            let (front, back) = (usize::from(front % 300), usize::from(back % 300));
            if buffer.expand_head(front, back).is_ok() {
                assert!(!buffer.is_cloned());
                assert_eq!(buffer.headroom(), headroom + front);
                assert!(buffer.is_nonlinear() || buffer.tailroom() >= tailroom + back);
            }
        }
        Action::Cow(_, front) => {
            let front = front.to(&[headroom], 200);
            let before = buffer.data().as_ptr();
            match buffer.cow(front) {
                Ok(()) => {
                    assert!(!buffer.is_cloned() && buffer.headroom() >= front);
                    assert_eq!(buffer.data().as_ptr() == before, !cloned && front <= headroom);
                }
                Err(error) => assert!(out_of_memory(&error)),
            }
        }
        Action::Unshare(_) => {
            let before = buffer.data().as_ptr();
            if buffer.unshare().is_ok() {
                assert!(!buffer.is_cloned());
                assert_eq!(buffer.data().as_ptr() == before, !cloned);
                assert_eq!(buffer.headroom(), headroom);
            }
        }
        Action::StoreBits(_, offset, count) => {
            let (offset, count) = (offset.to(&limits, most), usize::from(count) % 300);
            match buffer.store_bits(offset, &vec![value; count]) {
                Ok(()) => bytes[offset..offset + count].fill(value),
                Err(Error::PastEnd { wanted, available }) => {
                    assert_eq!((wanted, available), (offset + count, len));
                    assert!(wanted > available);
                }
                Err(error) => {
                    assert_eq!(error, Error::Shared);
                    assert!(cloned || offset + count > head_len, "the head is this buffer's alone");
                }
            }
        }
        Action::WriteData(_) => match buffer.data_mut() {
            Ok(data) => {
                assert!(!cloned);
                data.fill(value);
                bytes[..head_len].fill(value);
            }
            Err(Shared) => assert!(cloned),
        },
        Action::CopyBits(_, offset) => {
            let offset = offset.to(&limits, most);
            for count in [0, 1, len.saturating_sub(offset), (len + 1).saturating_sub(offset), 64] {
                let mut read = vec![0; count];
                let result = buffer.copy_bits(offset, &mut read);
                assert_eq!(result.is_ok(), offset + count <= len);
                if result.is_ok() {
                    assert_eq!(read, bytes[offset..offset + count]);
                }
            }
        }
        Action::Checksum(_, start) => {
            let start = start.to(&limits, most);
            for end in [start, start + 1, head_len.max(start), len, len + 1] {
                let result = buffer.checksum(start..end);
                let wanted = end.saturating_sub(start);
                assert_eq!(result.is_ok(), start + wanted <= len);
                if let Ok(found) = result {
                    assert!(same_sum(found, sum(&bytes[start..start + wanted])));
                }
            }
        }
        Action::CompleteChecksum(_, start, offset) => {
            let (start, offset) = (usize::from(start) % (len + 2), usize::from(offset) % 20);
            buffer.set_checksum_status(ChecksumStatus::Partial { start, offset });
            if start + offset + 2 > len {
                assert_eq!(buffer.checksum_status(), ChecksumStatus::None);
                assert_eq!(buffer.complete_checksum(), Ok(()));
                state.status = Status::None;
            } else if let Err(error) = buffer.complete_checksum() {
                assert_eq!(error, Error::Shared);
                state.status = Status::Partial { start: start as i64, offset };
            } else {
                // Of the two zeros of ones' complement the one that says that there is a checksum.
                let checksum = Some(!sum(&bytes[start..])).filter(|sum| *sum != 0).unwrap_or(0xffff);
                bytes[start + offset..start + offset + 2].copy_from_slice(&checksum.to_be_bytes());
                state.status = Status::None;
            }
        }
        Action::SetHeaders(_, kinds) => set_headers(buffer, state, kinds),
        Action::SetMetadata(_, value) => {
            state.metadata = value as u8;
            set_metadata(buffer, state.metadata);
        }
        _ => unreachable!("{action:?} is done elsewhere"),
    }
}

/// The status of a buffer whose checksum is complete, and right for these bytes.
fn complete(buffer: &NetBuf, bytes: &[u8]) -> Status {
    let ChecksumStatus::Complete(found) = buffer.checksum_status() else { panic!("it was complete") };
    assert!(same_sum(found, sum(bytes)), "{found:x}");
    Status::Complete(found)
}

fn set_headers(buffer: &mut NetBuf, state: &mut State, kinds: u16) {
    let head_len = buffer.head_len();
    let place = usize::from(kinds / 64) % (head_len + 2);
    let set = [NetBuf::set_mac_header, NetBuf::set_network_header, NetBuf::set_transport_header];
    let reset = [NetBuf::reset_mac_header, NetBuf::reset_network_header, NetBuf::reset_transport_header];
    for index in 0..3 {
        match kinds >> (2 * index) & 3 {
            0 => {
                reset[index](buffer);
                state.headers[index] = Some(0);
            }
            1 => {
                let result = set[index](buffer, place);
                assert_eq!(result.is_ok(), place <= head_len);
                if result.is_ok() {
                    state.headers[index] = Some(place as i64);
                }
            }
            _ => {}
        }
    }
}

/// All the plain fields.
fn set_metadata(buffer: &mut NetBuf, value: u8) {
    let number = u16::from(value);
    let some = (value % 2 == 1).then_some(number);
    buffer.set_protocol(number);
    buffer.set_priority(u32::from(number) + 1);
    buffer.set_mark(u32::from(number) + 2);
    buffer.set_queue_mapping(number + 3);
    buffer.set_mac_len(number + 4);
    buffer.set_header_len(number + 5);
    buffer.set_vlan(some);
    buffer.set_hash(some.map(u32::from));
    buffer.set_timestamp(some.map(u64::from));
    buffer.set_interface(some.map(u32::from));
    buffer.set_peeked(value & 2 != 0);
    buffer.set_payload_only(value & 4 != 0);
    buffer.set_packet_type(
        [PacketType::Host, PacketType::Multicast, PacketType::Outgoing][usize::from(value) % 3],
    );
    buffer.control_block_mut::<[u8; 48]>().fill(value);
}
