//! Section 2: `destructor`, `sk`, `truesize`. An owner bears exactly the truesize of what is charged to it, after
//! every operation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicIsize, Ordering};

use netbuf::{MemoryOwner, NetBuf, context, host};

use crate::{block, buffer, bytes, content};

/// A socket's account.
#[derive(Default)]
struct Account(AtomicIsize);

impl Account {
    fn bears(&self) -> usize {
        usize::try_from(self.0.load(Ordering::Relaxed)).expect("never gives back more than it was charged")
    }
}

impl MemoryOwner for Account {
    fn charge(&self, truesize: usize) {
        self.0.fetch_add(truesize as isize, Ordering::Relaxed);
    }

    fn discharge(&self, truesize: usize) {
        self.0.fetch_sub(truesize as isize, Ordering::Relaxed);
    }
}

#[test]
fn a_buffer_is_charged_when_it_gets_an_owner_and_given_back_when_it_dies() {
    let memory = host::memory();
    let account = Arc::new(Account::default());
    let mut first = buffer(&memory, b"head", &[b"frag"]);
    let mut second = buffer(&memory, b"head", &[]);
    first.set_owner(account.clone());
    second.set_owner(account.clone());
    assert_eq!(account.bears(), first.truesize() + second.truesize());
    drop(first);
    assert_eq!(account.bears(), second.truesize());
    second.orphan();
    assert_eq!(account.bears(), 0);
    drop(second);
    assert_eq!((account.bears(), Arc::strong_count(&account)), (0, 1));
}

#[test]
fn a_new_owner_takes_over_from_the_old_one() {
    let (first, second) = (Arc::new(Account::default()), Arc::new(Account::default()));
    let mut buffer = NetBuf::alloc(&host::memory(), 64).unwrap();
    buffer.set_owner(first.clone());
    buffer.set_owner(second.clone());
    assert_eq!((first.bears(), second.bears()), (0, buffer.truesize()));
    buffer.set_owner(second.clone());
    assert_eq!(second.bears(), buffer.truesize());
}

#[test]
fn every_operation_that_changes_truesize_keeps_the_account_right() {
    let memory = host::memory();
    let account = Arc::new(Account::default());
    let mut packet = NetBuf::alloc(&memory, 64).unwrap();
    packet.set_owner(account.clone());
    let mut check = |name: &str, work: &mut dyn FnMut(&mut NetBuf)| {
        work(&mut packet);
        assert_eq!(account.bears(), packet.truesize(), "{name}");
    };
    let page = |order, first| block(&memory, order, 0, &bytes(1500, first));
    check("reserve", &mut |packet| packet.reserve(20).unwrap());
    check("put", &mut |packet| packet.put(30).unwrap().fill(1));
    check("add_rx_frag", &mut |packet| packet.add_rx_frag(page(0, 1), 0, 1000, 4096).unwrap());
    check("add_rx_frag", &mut |packet| packet.add_rx_frag(page(1, 2), 0, 1000, 8192).unwrap());
    check("add_rx_frag", &mut |packet| packet.add_rx_frag(page(0, 3), 0, 1000, 1024).unwrap());
    check("add_rx_frag refused", &mut |packet| {
        assert!(packet.add_rx_frag(page(0, 3), 0, 5000, 1024).is_err())
    });
    check("expand_head", &mut |packet| packet.expand_head(100, 200).unwrap());
    check("may_pull", &mut |packet| packet.may_pull(1200).unwrap());
    check("trim within a frag", &mut |packet| packet.trim(2500).unwrap());
    check("trim of a frag", &mut |packet| packet.trim(1900).unwrap());
    check("cow", &mut |packet| packet.cow(1000).unwrap());
    check("unshare", &mut |packet| {
        let _clone = packet.clone_buffer().unwrap();
        packet.unshare().unwrap();
    });
    check("trim beside a clone", &mut |packet| {
        let _clone = packet.clone_buffer().unwrap();
        packet.trim(1800).unwrap();
    });
    check("linearize", &mut |packet| packet.linearize().unwrap());
    check("coalesce a copy", &mut |packet| {
        packet.expand_head(0, 100).unwrap();
        packet.try_coalesce(buffer(&memory, b"linear", &[])).unwrap();
    });
    check("coalesce frags", &mut |packet| {
        packet.try_coalesce(buffer(&memory, b"", &[b"one", b"two"])).unwrap();
    });
    check("frag list", &mut |packet| {
        packet.append_to_frag_list(buffer(&memory, b"list", &[b"frag"])).unwrap();
    });
    check("trim of the frag list", &mut |packet| packet.trim(packet.len() - 5).unwrap());
    check("linearize with a frag list", &mut |packet| packet.linearize().unwrap());
    check("trim to nothing", &mut |packet| packet.trim(0).unwrap());
    drop(packet);
    assert_eq!(account.bears(), 0);
}

#[test]
fn truesize_gives_back_what_dropped_frags_held() {
    let memory = host::memory();
    let mut packet = buffer(&memory, b"head", &[]);
    let alone = packet.truesize();
    for (order, truesize) in [(0, 4096), (2, 16_384), (1, 8192)] {
        packet.add_rx_frag(block(&memory, order, 0, &bytes(100, 1)), 0, 100, truesize).unwrap();
    }
    packet.trim(4 + 200).unwrap();
    assert_eq!(packet.truesize(), alone + 4096 + 16_384);
    packet.trim(4 + 150).unwrap();
    assert_eq!(packet.truesize(), alone + 4096 + 16_384, "half of a frag pins all of its memory");
    packet.trim(4 + 100).unwrap();
    assert_eq!(packet.truesize(), alone + 4096);
    packet.trim(4).unwrap();
    assert_eq!(packet.truesize(), alone);
}

#[test]
fn truesize_of_the_frags_that_stay_is_never_more_than_their_blocks_nor_less_than_was_said() {
    let memory = host::memory();
    let mut packet = buffer(&memory, b"head", &[]);
    let alone = packet.truesize();
    for truesize in [1024, 256, 128] {
        packet.add_rx_frag(block(&memory, 0, 0, &bytes(100, 1)), 0, 100, truesize).unwrap();
    }
    packet.trim(4 + 100).unwrap();
    assert!((alone + 1024..=alone + 4096).contains(&packet.truesize()));
    packet.trim(4).unwrap();
    assert_eq!(packet.truesize(), alone);
}

#[test]
fn truesize_of_a_buffer_that_became_linear_is_its_head() {
    let memory = host::memory();
    let mut packet = buffer(&memory, b"head", &[&bytes(2000, 1), &bytes(2000, 2)]);
    packet.append_to_frag_list(buffer(&memory, b"list", &[&bytes(700, 3)])).unwrap();
    let parts = packet.truesize();
    packet.linearize().unwrap();
    let area = packet.headroom() + packet.head_len() + packet.tailroom();
    assert_eq!(packet.truesize(), 192 + 312 + area);
    assert!(packet.truesize() < parts);
}

#[test]
fn truesize_falls_by_that_of_each_buffer_that_leaves_the_frag_list() {
    let memory = host::memory();
    let mut packet = buffer(&memory, b"head", &[]);
    packet.add_rx_frag(block(&memory, 2, 0, b"frag"), 0, 4, 64).unwrap();
    let without = packet.truesize();
    for _ in 0..2 {
        packet.append_to_frag_list(buffer(&memory, b"list", &[])).unwrap();
    }
    let member = (packet.truesize() - without) / 2;
    packet.trim(8 + 5).unwrap();
    assert_eq!(packet.truesize(), without + 2 * member, "one byte of it is still needed");
    packet.trim(8 + 4).unwrap();
    assert_eq!(packet.truesize(), without + member);
    packet.trim(8).unwrap();
    assert_eq!(packet.truesize(), without);
}

#[test]
fn clones_and_copies_are_not_charged_to_the_owner() {
    let memory = host::memory();
    let account = Arc::new(Account::default());
    let mut packet = buffer(&memory, b"head", &[b"frag"]);
    packet.set_owner(account.clone());
    let others = (packet.clone_buffer().unwrap(), packet.copy().unwrap(), packet.copy_head().unwrap());
    assert_eq!(account.bears(), packet.truesize());
    drop(packet);
    assert_eq!(account.bears(), 0, "the clone holds the memory now, on nobody's account");
    drop(others);
    assert_eq!(account.bears(), 0);
}

#[test]
fn skb_split_leaves_the_account_with_what_the_first_part_holds() {
    let memory = host::memory();
    let account = Arc::new(Account::default());
    let mut first = buffer(&memory, b"head", &[&bytes(100, 1), &bytes(100, 2)]);
    first.set_owner(account.clone());
    let second = first.split(150).unwrap();
    assert_eq!(account.bears(), first.truesize());
    drop(second);
    assert_eq!(account.bears(), first.truesize());
}

#[test]
fn truesize_is_never_less_than_descriptor_and_head_whatever_frags_were_said_to_pin() {
    let memory = host::memory();
    let account = Arc::new(Account::default());
    let mut first = NetBuf::alloc(&memory, 64).unwrap();
    first.set_owner(account.clone());
    let empty = first.truesize();
    first.add_rx_frag(block(&memory, 0, 0, b""), 0, 4000, 0).unwrap();
    let mut second = first.split(1000).unwrap();
    assert_eq!((first.truesize(), second.truesize()), (empty, NetBuf::alloc(&memory, 0).unwrap().truesize()));

    // More than a buffer can be charged for: the account stays at its end, and comes down from there no further.
    for _ in 0..2 {
        let mut member = NetBuf::alloc(&memory, 0).unwrap();
        member.add_rx_frag(block(&memory, 0, 0, b""), 0, 1000, usize::MAX).unwrap();
        first.append_to_frag_list(member).unwrap();
        assert_eq!((first.truesize(), account.bears()), (u32::MAX as usize, u32::MAX as usize));
    }
    first.trim(1000).unwrap();
    assert_eq!((first.truesize(), account.bears()), (empty, empty));
    second.linearize().unwrap();
    drop((first, second));
    assert_eq!(account.bears(), 0);
}

#[test]
fn an_owner_who_panics_leaves_the_packet_whole() {
    #[derive(Default)]
    struct PanicsOnce(AtomicBool);
    impl MemoryOwner for PanicsOnce {
        fn charge(&self, _truesize: usize) {}
        fn discharge(&self, _truesize: usize) {
            assert!(self.0.swap(true, Ordering::Relaxed), "for the test");
        }
    }
    let memory = host::memory();
    let mut packet = buffer(&memory, b"head", &[&bytes(50, 1), &bytes(60, 2)]);
    let whole = content(&packet);
    packet.set_owner(Arc::new(PanicsOnce::default()));
    // The first frag goes, and what it held is given back.
    let pulled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| packet.may_pull(54)));
    assert!(pulled.is_err());
    assert_eq!((content(&packet), packet.head_len()), (whole, 54));
    drop(packet);
    assert_eq!(memory.statistics().live_descriptors, 0);
}

#[test]
fn what_is_joined_to_another_buffer_leaves_its_own_account() {
    let memory = host::memory();
    let (mine, other) = (Arc::new(Account::default()), Arc::new(Account::default()));
    let mut first = buffer(&memory, b"head", &[]);
    first.set_owner(mine.clone());
    let mut second = buffer(&memory, b"", &[b"frag"]);
    second.set_owner(other.clone());
    first.try_coalesce(second).unwrap();
    assert_eq!((mine.bears(), other.bears()), (first.truesize(), 0));

    let mut third = buffer(&memory, b"list", &[]);
    third.set_owner(other.clone());
    first.append_to_frag_list(third).unwrap();
    assert_eq!((mine.bears(), other.bears()), (first.truesize(), 0));
    drop(first);
    assert_eq!((mine.bears(), other.bears()), (0, 0));
}

#[test]
fn what_coalescing_gives_back_stays_on_its_own_account() {
    let memory = host::memory();
    let account = Arc::new(Account::default());
    let mut full = NetBuf::alloc(&memory, 64).unwrap();
    full.put(64).unwrap();
    let mut second = buffer(&memory, b"body", &[]);
    second.set_owner(account.clone());
    let back = full.try_coalesce(second).unwrap_err();
    assert_eq!(account.bears(), back.truesize());
}

#[test]
fn the_destructor_of_a_deferred_buffer_runs_when_the_task_frees_it() {
    let memory = host::memory();
    let account = Arc::new(Account::default());
    let mut packet = buffer(&memory, b"head", &[b"frag"]);
    packet.set_owner(account.clone());
    let truesize = packet.truesize();
    {
        let _interrupt = context::enter_interrupt();
        packet.free_any();
        assert_eq!(account.bears(), truesize);
    }
    assert_eq!(account.bears(), truesize);
    memory.free_deferred();
    assert_eq!(account.bears(), 0);
}

#[test]
fn shared_handles_are_charged_once() {
    let account = Arc::new(Account::default());
    let mut packet = NetBuf::alloc(&host::memory(), 64).unwrap();
    packet.set_owner(account.clone());
    let first = packet.share();
    let second = first.clone();
    assert_eq!(account.bears(), first.truesize());
    drop(first);
    assert_eq!(account.bears(), second.truesize());
    drop(second);
    assert_eq!(account.bears(), 0);
}
