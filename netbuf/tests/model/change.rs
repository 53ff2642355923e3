//! Steps that change one buffer and nothing else.

use netbuf::{ChecksumStatus, Error, NetBuf, PacketType, Shared};

use super::buffers::out_of_memory;
use super::check::{frag_bytes, same_sum, sum};
use super::step::Action;
use super::{State, Status};

/// Steps that change nothing but the buffer itself.
pub(super) fn change(action: Action, buffer: &mut NetBuf, state: &mut State, value: u8) {
    let (len, head_len) = (buffer.len(), buffer.head_len());
    let (headroom, tailroom, cloned) = (buffer.headroom(), buffer.tailroom(), buffer.is_cloned());
    // Where something changes in the packet: numbers near these find what is off by one.
    let limits = [head_len, head_len + frag_bytes(buffer), len];
    let most = len + 1;
    // Every other time the twin without checks, where its conditions hold.
    let unchecked = value.is_multiple_of(2);
    let bytes = &mut state.bytes;
    match action {
        Action::Reserve(_, count) => {
            let count = count.to(&[tailroom], 100);
            let may = len == 0 && count <= tailroom;
            let result = match may && unchecked {
                true => {
                    // SAFETY: the buffer is empty and has the room.
                    unsafe { buffer.reserve_unchecked(count) };
                    Ok(())
                }
                false => buffer.reserve(count),
            };
            assert_eq!(result.is_ok(), may, "{result:?}");
            if result.is_ok() {
                assert_eq!((buffer.headroom(), buffer.tailroom()), (headroom + count, tailroom - count));
                state.data_moves(count as i64);
            }
        }
        Action::Put(_, count) => {
            let count = count.to(&[tailroom], 300);
            let may = !buffer.is_nonlinear() && !cloned && count <= tailroom;
            let result = match may && unchecked {
                // SAFETY: the buffer is linear, its head is its own, and there is room.
                true => Ok(unsafe { buffer.put_unchecked(count) }),
                false => buffer.put(count),
            };
            match result {
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
            let may = !cloned && count <= headroom;
            let result = match may && unchecked {
                // SAFETY: the head is this buffer's own, and there is room.
                true => Ok(unsafe { buffer.push_unchecked(count) }),
                false => buffer.push(count),
            };
            match result {
                Ok(room) => {
                    assert!(may);
                    room.fill(value);
                    bytes.splice(0..0, std::iter::repeat_n(value, count));
                    state.data_moves(-(count as i64));
                }
                Err(_) => assert!(!may),
            }
        }
        Action::Pull(_, count) => {
            let count = count.to(&limits, most);
            if count <= head_len && unchecked {
                // SAFETY: the linear part has that many bytes.
                unsafe { buffer.pull_unchecked(count) };
                bytes.drain(..count);
                return state.data_moves(count as i64);
            }
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
            if count <= len && !buffer.is_nonlinear() && unchecked {
                // SAFETY: the buffer is linear and has that many bytes.
                unsafe { buffer.trim_unchecked(count) };
                return bytes.truncate(count);
            }
            match buffer.trim(count) {
                Ok(()) => bytes.truncate(count),
                Err(error) => assert!(out_of_memory(&error) && buffer.is_nonlinear(), "{error}"),
            }
        }
        Action::MayPull(_, count) => {
            let count = count.to(&limits, most);
            let before = buffer.data().as_ptr();
            match buffer.may_pull(count) {
                Ok(()) => {
                    assert_eq!(buffer.head_len(), count.max(head_len));
                    assert!(buffer.data().as_ptr() == before || count > head_len);
                }
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
        Action::MakeWritable(_, count) => {
            let count = count.to(&limits, most);
            match buffer.make_writable(count) {
                Ok(()) => assert!(!buffer.is_cloned() && buffer.head_len() == count.max(head_len)),
                Err(Error::PastEnd { .. }) => assert!(count > len),
                Err(error) => assert!(out_of_memory(&error), "{error}"),
            }
        }
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
                let mut scratch = vec![0; count];
                let result = buffer.header_pointer(offset, &mut scratch);
                assert_eq!(result.ok(), bytes.get(offset..offset + count));
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
    let unset = [NetBuf::unset_mac_header, NetBuf::unset_network_header, NetBuf::unset_transport_header];
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
            2 => {
                unset[index](buffer);
                state.headers[index] = None;
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
