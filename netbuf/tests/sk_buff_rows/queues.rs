//! Section 2: the queue. Every operation unlocked, then locked.

use netbuf::{LockedQueue, Memory, NetBuf, Queue, host};

/// A buffer that is told by its mark.
fn marked(memory: &Memory, mark: u32) -> NetBuf {
    let mut buffer = NetBuf::alloc(memory, 64).unwrap();
    buffer.set_mark(mark);
    buffer
}

/// A queue of buffers with these marks.
fn queue(memory: &Memory, marks: &[u32]) -> Queue {
    marks.iter().map(|&mark| marked(memory, mark)).collect()
}

/// The marks from front to back; and that the links the other way agree.
fn marks(queue: &Queue) -> Vec<u32> {
    let marks: Vec<_> = queue.iter().map(NetBuf::mark).collect();
    assert_eq!(queue.len(), marks.len());
    assert_eq!(queue.is_empty(), marks.is_empty());
    assert_eq!(queue.front().map(NetBuf::mark), marks.first().copied());
    assert_eq!(queue.back().map(NetBuf::mark), marks.last().copied());
    marks
}

#[test]
fn skb_queue_head_init_empty_and_len() {
    let queue = Queue::new();
    assert!(queue.is_empty());
    assert_eq!(queue.len(), 0);
    assert!(marks(&Queue::default()).is_empty());
}

#[test]
fn skb_queue_head_and_tail_put_at_either_end() {
    let memory = host::memory();
    let mut queue = Queue::new();
    queue.push_back(marked(&memory, 2));
    queue.push_back(marked(&memory, 3));
    queue.push_front(marked(&memory, 1));
    assert_eq!(marks(&queue), [1, 2, 3]);
}

#[test]
fn skb_dequeue_and_dequeue_tail_take_from_either_end() {
    let memory = host::memory();
    let mut queue = queue(&memory, &[1, 2, 3]);
    assert_eq!(queue.pop_back().unwrap().mark(), 3);
    assert_eq!(queue.pop_front().unwrap().mark(), 1);
    assert_eq!(marks(&queue), [2]);
    assert_eq!(queue.pop_back().unwrap().mark(), 2);
    assert!(queue.pop_front().is_none() && queue.pop_back().is_none());
    queue.push_front(marked(&memory, 9));
    assert_eq!(marks(&queue), [9]);
}

#[test]
fn skb_peek_and_peek_tail_leave_the_buffer_in_the_queue() {
    let memory = host::memory();
    let queue = queue(&memory, &[1, 2]);
    assert_eq!((queue.front().unwrap().mark(), queue.back().unwrap().mark()), (1, 2));
    assert_eq!(queue.len(), 2);
}

#[test]
fn skb_insert_puts_in_front_of_a_buffer_and_skb_append_behind() {
    let memory = host::memory();
    for (at, before, after) in
        [(0, [9, 1, 2], [1, 9, 2]), (1, [1, 9, 2], [1, 2, 9]), (2, [1, 2, 9], [9, 1, 2])]
    {
        let mut first = queue(&memory, &[1, 2]);
        let mut cursor = first.cursor();
        (0..at).for_each(|_| cursor.advance());
        cursor.insert_before(marked(&memory, 9));
        assert_eq!(marks(&first), before, "in front of place {at}");

        let mut second = queue(&memory, &[1, 2]);
        let mut cursor = second.cursor();
        (0..at).for_each(|_| cursor.advance());
        cursor.insert_after(marked(&memory, 9));
        assert_eq!(marks(&second), after, "behind place {at}");
    }
}

#[test]
fn cursor_stays_at_its_buffer_when_others_are_inserted() {
    let memory = host::memory();
    let mut queue = queue(&memory, &[1, 2]);
    let mut cursor = queue.cursor();
    cursor.insert_before(marked(&memory, 8));
    assert_eq!(cursor.current().unwrap().mark(), 1);
    cursor.insert_after(marked(&memory, 9));
    assert_eq!(cursor.current().unwrap().mark(), 1);
    cursor.advance();
    assert_eq!(cursor.current().unwrap().mark(), 9);
    assert_eq!(marks(&queue), [8, 1, 9, 2]);
}

#[test]
fn skb_unlink_takes_a_buffer_from_anywhere() {
    let memory = host::memory();
    for at in 0..3 {
        let mut queue = queue(&memory, &[0, 1, 2]);
        let mut cursor = queue.cursor();
        (0..at).for_each(|_| cursor.advance());
        assert_eq!(cursor.remove().unwrap().mark(), at);
        let rest: Vec<_> = (0..3).filter(|&mark| mark != at).collect();
        assert_eq!(marks(&queue), rest);
    }
    assert!(Queue::new().cursor().remove().is_none());
}

#[test]
fn skb_queue_splice_joins_two_queues_at_either_end_and_empties_the_other() {
    let memory = host::memory();
    for (left, right) in [(&[1, 2][..], &[3, 4][..]), (&[], &[3]), (&[1], &[]), (&[], &[])] {
        let (mut first, mut second) = (queue(&memory, left), queue(&memory, right));
        first.append(&mut second);
        assert_eq!(marks(&first), [left, right].concat());
        assert!(marks(&second).is_empty());

        let (mut first, mut second) = (queue(&memory, left), queue(&memory, right));
        first.prepend(&mut second);
        assert_eq!(marks(&first), [right, left].concat());
        assert!(marks(&second).is_empty());
        second.push_back(marked(&memory, 7)); // and can be used again
        assert_eq!(marks(&second), [7]);
    }
}

#[test]
fn skb_queue_purge_frees_every_buffer() {
    let memory = host::memory();
    let mut queue = queue(&memory, &[1, 2, 3]);
    assert_eq!(memory.statistics().live_descriptors, 3);
    queue.clear();
    assert_eq!((marks(&queue), memory.statistics().live_descriptors), (vec![], 0));
}

#[test]
fn a_queue_that_is_dropped_frees_its_buffers() {
    let memory = host::memory();
    drop(queue(&memory, &[1, 2, 3]));
    assert_eq!(memory.statistics().live_descriptors, 0);
}

#[test]
fn skb_queue_walk_safe_may_remove_what_it_meets() {
    let memory = host::memory();
    let mut queue = queue(&memory, &[1, 2, 3, 4, 5, 6]);
    let mut even = Queue::new();
    let mut cursor = queue.cursor();
    while let Some(mark) = cursor.current().map(NetBuf::mark) {
        if mark % 2 == 0 {
            even.extend(cursor.remove());
        } else {
            cursor.advance();
        }
    }
    assert_eq!((marks(&queue), marks(&even)), (vec![1, 3, 5], vec![2, 4, 6]));
}

#[test]
fn queue_is_intrusive_and_needs_no_memory() {
    let pages = host::HostPages::new();
    let memory = Memory::unowned(pages.clone()).unwrap();
    let buffers: Vec<_> = (0..100).map(|mark| marked(&memory, mark)).collect();
    let objects = pages.objects();
    pages.fail_object(0);
    let queue: Queue = buffers.into_iter().collect();
    assert_eq!(queue.len(), 100);
    pages.heal();
    assert_eq!(pages.objects(), objects);
}

#[test]
fn locked_queue_does_the_same_under_its_lock() {
    let memory = host::memory();
    let locked = LockedQueue::new();
    assert!(locked.is_empty() && locked.pop_front().is_none() && locked.pop_back().is_none());
    locked.push_back(marked(&memory, 2));
    locked.push_back(marked(&memory, 3));
    locked.push_front(marked(&memory, 1));
    assert_eq!(locked.len(), 3);
    locked.append(&mut queue(&memory, &[4, 5]));
    locked.prepend(&mut queue(&memory, &[8, 9]));
    assert_eq!(locked.with(|queue| marks(queue)), [8, 9, 1, 2, 3, 4, 5]);
    assert_eq!((locked.pop_front().unwrap().mark(), locked.pop_back().unwrap().mark()), (8, 5));

    // Peeking, inserting and unlinking happen under one hold of the lock.
    locked.with(|queue| {
        let mut cursor = queue.cursor();
        cursor.advance();
        assert_eq!(cursor.remove().unwrap().mark(), 1);
        cursor.insert_before(marked(&memory, 7));
        cursor.insert_after(marked(&memory, 6));
    });
    assert_eq!(locked.with(|queue| queue.front().map(NetBuf::mark)), Some(9));
    assert_eq!(marks(&locked.take()), [9, 7, 2, 6, 3, 4]);
    assert!(locked.is_empty());
    locked.push_back(marked(&memory, 1));
    locked.clear();
    assert!(locked.is_empty());
    assert_eq!(memory.statistics().live_descriptors, 0);
}

#[test]
fn locked_queue_is_used_from_many_threads_and_loses_nothing() {
    const EACH: u32 = 200;
    let memory = Memory::unowned(host::HostPages::new()).unwrap();
    let locked = LockedQueue::new();
    let taken: Vec<u32> = std::thread::scope(|scope| {
        for thread in 0..2 {
            let (memory, locked) = (&memory, &locked);
            scope.spawn(move || (0..EACH).for_each(|n| locked.push_back(marked(memory, thread * EACH + n))));
        }
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut taken = Vec::new();
                    while taken.len() < EACH as usize {
                        match locked.pop_front() {
                            Some(buffer) => taken.push(buffer.mark()),
                            None => std::thread::yield_now(),
                        }
                    }
                    taken
                })
            })
            .collect();
        readers.into_iter().flat_map(|reader| reader.join().unwrap()).collect()
    });
    let mut sorted = taken;
    sorted.sort_unstable();
    assert_eq!(sorted, (0..2 * EACH).collect::<Vec<_>>());
    assert_eq!(memory.statistics().live_descriptors, 0);
}

#[test]
fn skb_queue_reverse_walk_goes_back_and_may_remove_too() {
    let memory = host::memory();
    let mut queue = queue(&memory, &[1, 2, 3, 4]);
    let mut seen = Vec::new();
    let mut cursor = queue.cursor_back();
    while let Some(mark) = cursor.current().map(NetBuf::mark) {
        seen.push(mark);
        if mark % 2 == 0 {
            cursor.remove();
        }
        cursor.retreat();
    }
    assert_eq!((seen, marks(&queue)), (vec![4, 3, 2, 1], vec![1, 3]));
    assert!(Queue::new().cursor_back().current().is_none());
}
