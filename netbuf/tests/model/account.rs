//! Somebody who is charged for buffers, and who checks what is given back.

use std::sync::atomic::{AtomicUsize, Ordering};

use netbuf::MemoryOwner;

#[derive(Debug, Default)]
pub struct Account {
    charged: AtomicUsize,
    pub discharges: AtomicUsize,
}

impl Account {
    /// Bytes charged and not given back.
    pub fn charged(&self) -> usize {
        self.charged.load(Ordering::SeqCst)
    }
}

impl MemoryOwner for Account {
    fn charge(&self, truesize: usize) {
        self.charged.fetch_add(truesize, Ordering::SeqCst);
    }

    fn discharge(&self, truesize: usize) {
        self.discharges.fetch_add(1, Ordering::SeqCst);
        let before = self.charged.fetch_sub(truesize, Ordering::SeqCst);
        assert!(before >= truesize, "given back twice");
    }
}
