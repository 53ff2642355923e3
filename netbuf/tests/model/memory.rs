//! Steps that make buffers from nothing, and those on blocks, pools and the memory itself.

use netbuf::{Block, Error, NetBuf, RECEIVE_HEADROOM, ReceivePattern, Zone};

use super::check::BESIDE;
use super::step::{Action, Near};
use super::{Model, fill};

impl Model {
    /// Whether the step was one of these.
    pub(super) fn act_on_memory(&mut self, action: Action) -> bool {
        match action {
            Action::Alloc(size) => self.alloc(size, usize::from(size) % 3000),
            Action::AllocLarge(size) => self.alloc(size, 7000 + usize::from(size)),
            Action::ReceiveAlloc(size) => {
                let Some(memory) = self.memory(size) else { return true };
                let size = usize::from(size) % 9000;
                if let Ok(buffer) = NetBuf::rx_alloc(memory, size) {
                    assert_eq!(buffer.headroom(), RECEIVE_HEADROOM);
                    assert_eq!(buffer.tailroom(), size.next_multiple_of(64));
                    self.add_new(buffer, Vec::new());
                }
            }
            Action::AllocFclone(size) => {
                let Some(memory) = self.memory(size) else { return true };
                if let Ok(buffer) = NetBuf::alloc_fclone(memory, usize::from(size) % 600) {
                    self.add_new(buffer, Vec::new());
                }
            }
            Action::Receive { offset, len, head_len } => self.receive(offset, len, head_len),
            Action::FreshBlock => {
                let value = self.value();
                if let Some(Ok(block)) = self.pool.as_ref().map(netbuf::BlockPool::take) {
                    self.set_block(block, value);
                }
            }
            Action::OwnBlock(kind) => {
                let value = self.value();
                let Some(memory) = self.memory(kind) else { return true };
                let order = [0, 1, 2, 255][usize::from(kind % 4)];
                let zone = [Zone::Dma, Zone::Dma32, Zone::Normal][usize::from(kind / 4 % 3)];
                if let Ok(block) = Block::alloc(memory, order, zone) {
                    assert_eq!((block.order(), block.zone()), (order, zone));
                    self.set_block(block, value);
                }
            }
            Action::UnshareBlock => {
                let value = self.value();
                let Some(block) = self.block.take() else { return true };
                let alone = block.references() == 1;
                match block.try_unshare() {
                    // Whoever still read it would see this.
                    Ok(block) => self.set_block(block, value),
                    Err(block) => {
                        assert!(!alone);
                        self.block = Some(block);
                    }
                }
            }
            Action::FillPool(count) => {
                let Some(pool) = &self.pool else { return true };
                let count = usize::from(count % 5);
                if pool.fill(count).is_ok() {
                    assert!(pool.idle() >= count.min(3));
                }
                assert!(pool.idle() <= 3);
            }
            Action::FreeDeferred => {
                for memory in self.memories.iter().flatten() {
                    memory.free_deferred();
                }
            }
            Action::Shrink => {
                for memory in self.memories.iter().flatten() {
                    let before = self.pages.live_blocks();
                    let released = memory.shrink();
                    assert!(before - self.pages.live_blocks() >= released);
                }
            }
            Action::DropHandles(which) => {
                if which % 3 != 0 {
                    self.pool = None;
                    self.memories[0] = None;
                }
                if which % 3 != 1 {
                    self.memories[1] = None;
                }
            }
            _ => return false,
        }
        true
    }

    fn set_block(&mut self, block: Block, value: u8) {
        self.block = Some(fill(block, value));
        self.last_end = 0;
    }

    fn alloc(&mut self, memory: u16, size: usize) {
        let Some(memory) = self.memory(memory) else { return };
        if let Ok(buffer) = NetBuf::alloc(memory, size) {
            assert_eq!((buffer.len(), buffer.headroom()), (0, 0));
            assert_eq!(buffer.tailroom(), size.next_multiple_of(64));
            self.add_new(buffer, Vec::new());
        }
    }

    fn receive(&mut self, offset: Near, len: u16, head_len: u16) {
        let (Some(memory), Some(block)) = (self.memory(len), &self.block) else { return };
        let len = usize::from(len) % 2000;
        let offset = offset.to(&[self.last_end, block.len() - len], block.len());
        // Copybreak and truesize vary with what is left of the numbers.
        let head_len = usize::from(head_len);
        let pattern = ReceivePattern {
            head_len: head_len % 256,
            copybreak: [0, 64, len, len.saturating_sub(1)][head_len / 256 % 4],
            truesize: (head_len / 1024 % 2 == 0).then_some(block.len()),
        };
        match NetBuf::receive(memory, block, offset, len, &pattern) {
            Ok(buffer) => {
                let head = if len <= pattern.copybreak { len } else { len.min(pattern.head_len) };
                assert_eq!(buffer.head_len(), head);
                assert_eq!(buffer.frag_count(), usize::from(head < len));
                let bytes = block.bytes()[offset..offset + len].to_vec();
                let pinned = match len - head {
                    0 => 0,
                    rest => pattern.truesize.unwrap_or(rest.next_multiple_of(64)),
                };
                let linear = RECEIVE_HEADROOM + head.next_multiple_of(64);
                assert_eq!(buffer.truesize(), BESIDE + linear + pinned);
                self.last_end = offset + len;
                self.add_new(buffer, bytes);
            }
            Err(Error::OutsideBlock { end, block_len }) => {
                assert_eq!((end, block_len), (offset + len, block.len()));
                assert!(end > block_len);
            }
            Err(error) => assert!(matches!(error, Error::OutOfMemory(_)), "{error}"),
        }
    }
}
