//! Who is charged for a half gets it back once, from a task, wherever the half is dropped.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use netbuf::context::in_interrupt;
use netbuf::host::HostPages;
use netbuf::{Memory, MemoryOwner, NetBuf};

use super::account::Account;
use super::contexts::{Contexts, PLACES};
use super::{assert_nothing_is_live, pair};

/// An [`Account`] for buffers that only handlers drop: a task must give them back.
#[derive(Debug, Default)]
struct TaskAccount(Account);

impl MemoryOwner for TaskAccount {
    fn charge(&self, truesize: usize) {
        self.0.charge(truesize);
    }

    fn discharge(&self, truesize: usize) {
        assert!(!in_interrupt(), "a task frees what an interrupt handler dropped");
        self.0.discharge(truesize);
    }
}

#[test]
fn who_pays_for_a_half_gets_it_back_once_and_from_a_task() {
    let contexts = Contexts::new();
    for place in PLACES {
        for pays_for_clone in [false, true] {
            let pages = HostPages::new();
            let memory = Memory::new(pages.clone()).unwrap();
            let account = Arc::new(TaskAccount::default());
            let mut halves = pair(&memory);
            halves[usize::from(pays_for_clone)].set_owner(account.clone());
            let [original, clone] = halves;
            let (payer, other) = if pays_for_clone { (clone, original) } else { (original, clone) };
            let truesize = payer.truesize();
            assert_eq!(account.0.charged(), truesize);
            contexts.run(place, move || drop(payer));
            memory.free_deferred();
            assert_eq!(account.0.charged(), 0, "{place:?}, clone: {pays_for_clone}");
            contexts.run(place, move || drop(other));
            memory.free_deferred();
            assert_eq!(account.0.discharges.load(Ordering::SeqCst), 1);
            // Nobody holds on to who paid.
            assert_eq!(Arc::strong_count(&account), 1);
            drop(memory);
            assert_eq!(pages.live_blocks(), 0);
        }
    }
}

#[test]
fn a_half_on_a_frag_list_is_charged_to_the_packets_owner() {
    let contexts = Contexts::new();
    for place in PLACES {
        let memory = netbuf::host::memory();
        let account = Arc::new(TaskAccount::default());
        let [mut original, clone] = pair(&memory);
        original.set_owner(account.clone());
        let mut whole = NetBuf::alloc(&memory, 64).unwrap();
        let packet = Arc::new(TaskAccount::default());
        whole.set_owner(packet.clone());
        whole.append_to_frag_list(original).unwrap();
        assert_eq!((account.0.charged(), packet.0.charged()), (0, whole.truesize()));
        contexts.run(place, move || drop(whole));
        memory.free_deferred();
        assert_eq!((account.0.charged(), packet.0.charged()), (0, 0));
        assert!(!clone.is_cloned());
        contexts.run(place, move || drop(clone));
        memory.free_deferred();
        assert_nothing_is_live(memory.statistics());
    }
}
