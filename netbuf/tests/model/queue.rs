//! Steps on the queue, beside a `VecDeque`.

use std::collections::VecDeque;

use netbuf::{Cursor, NetBuf, Queue};

use super::step::Action;
use super::{MOST, Model, Pair};

impl Model {
    /// Whether the step was one of these.
    pub(super) fn act_on_queue(&mut self, action: Action) -> bool {
        match action {
            Action::PushBack(which) => {
                if let Some(Pair { buffer, state }) = self.remove(which) {
                    self.queue.push_back(buffer);
                    self.queued.push_back(state);
                }
            }
            Action::PushFront(which) => {
                if let Some(Pair { buffer, state }) = self.remove(which) {
                    self.queue.push_front(buffer);
                    self.queued.push_front(state);
                }
            }
            Action::PopFront => {
                let buffer = self.queue.pop_front();
                assert_eq!(buffer.is_some(), !self.queued.is_empty());
                if let (Some(buffer), Some(state)) = (buffer, self.queued.pop_front()) {
                    self.add(buffer, state);
                }
            }
            Action::PopBack => {
                let buffer = self.queue.pop_back();
                assert_eq!(buffer.is_some(), !self.queued.is_empty());
                if let (Some(buffer), Some(state)) = (buffer, self.queued.pop_back()) {
                    self.add(buffer, state);
                }
            }
            Action::Splice { which, count, in_front } => {
                let mut other = Queue::new();
                let mut states = VecDeque::new();
                for _ in 0..count % 4 {
                    if let Some(Pair { buffer, state }) = self.remove(which) {
                        other.extend([buffer]);
                        states.push_back(state);
                    }
                }
                if in_front {
                    self.queue.prepend(&mut other);
                    states.append(&mut self.queued);
                    self.queued = states;
                } else {
                    self.queue.append(&mut other);
                    self.queued.append(&mut states);
                }
                assert!(other.is_empty() && other.pop_front().is_none());
            }
            Action::TakeQueue => {
                let mut taken = self.queue.take();
                assert!(self.queue.is_empty());
                assert_eq!(taken.len(), self.queued.len());
                // Turned around twice it is what it was.
                let mut turned = Queue::new();
                while let Some(buffer) = taken.pop_back() {
                    turned.push_back(buffer);
                }
                while let Some(buffer) = turned.pop_front() {
                    taken.push_front(buffer);
                }
                self.queue.with(|queue| *queue = taken);
            }
            Action::InsertAt { which, position, before } => {
                let Some(Pair { buffer, state }) = self.remove(which) else { return true };
                let len = self.queued.len();
                let position = usize::from(position) % (len + 1);
                self.queue.with(|queue| {
                    let mut cursor = cursor_at(queue, position);
                    assert_eq!(cursor.current().is_some(), position < len);
                    if before { cursor.insert_before(buffer) } else { cursor.insert_after(buffer) }
                });
                let place = match before {
                    true => position,
                    // Past the end, the place behind is the front.
                    false if position == len => 0,
                    false => position + 1,
                };
                self.queued.insert(place, state);
            }
            Action::RemoveAt(position) => {
                let position = usize::from(position) % (self.queued.len() + 1);
                let next = self.queued.get(position + 1).map(|state| state.bytes.len());
                let removed = self.queue.with(|queue| {
                    let mut cursor = cursor_at(queue, position);
                    let removed = cursor.remove();
                    assert_eq!(cursor.current().map(NetBuf::len), next);
                    removed
                });
                assert_eq!(removed.is_some(), position < self.queued.len());
                if let (Some(buffer), Some(state)) = (removed, self.queued.remove(position)) {
                    self.add(buffer, state);
                }
            }
            Action::ClearQueue => {
                self.queue.clear();
                self.queued.clear();
            }
            _ => return false,
        }
        while self.queued.len() > MOST {
            self.queued.pop_front();
            self.queue.pop_front();
        }
        true
    }
}

/// The place with `position` buffers in front of it, from the nearer end.
fn cursor_at(queue: &mut Queue, position: usize) -> Cursor<'_> {
    let len = queue.len();
    if position < len / 2 {
        let mut cursor = queue.cursor();
        (0..position).for_each(|_| cursor.advance());
        return cursor;
    }
    let mut cursor = queue.cursor_back();
    // From the last one, or past the end.
    match (position + 1).checked_sub(len) {
        Some(past) => (0..past).for_each(|_| cursor.advance()),
        None => (position + 1..len).for_each(|_| cursor.retreat()),
    }
    cursor
}
