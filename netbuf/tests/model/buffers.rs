//! Steps that make one buffer from another, join two, share heads or add frags.

use netbuf::{Error, MAX_FRAGS, NetBuf, Segmentation, Shared};

use super::change::change;
use super::check::frag_bytes;
use super::step::{Action, Which};
use super::{Head, Model, Pair, State};

/// A step may run out of memory; any other error is told by the caller.
pub(super) fn out_of_memory<E: Into<Error> + Clone>(error: &E) -> bool {
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
        | MakeWritable(which, _)
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
            | MakeWritable(..)
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
