//! Contexts for tests: the thread that made a memory, two others that stay the same, and interrupts in all of them.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use netbuf::context::enter_interrupt;

/// Only ever reached by a hang.
const PATIENCE: Duration = Duration::from_secs(300);

/// Who does something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The thread that runs the test, which made the memory if any living thread did.
    Here,
    /// An interrupt handler on that thread.
    InterruptHere,
    /// Another thread.
    There,
    /// A third thread.
    Elsewhere,
    /// An interrupt handler on the other thread.
    InterruptThere,
}

pub const PLACES: [Place; 5] =
    [Place::Here, Place::InterruptHere, Place::There, Place::Elsewhere, Place::InterruptThere];

impl Place {
    pub fn is_interrupt(self) -> bool {
        matches!(self, Self::InterruptHere | Self::InterruptThere)
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// A thread that does what it is given, one thing after the other.
struct Worker(Sender<Work>);

impl Worker {
    fn new() -> Self {
        let (sender, receiver) = channel::<Work>();
        thread::spawn(move || receiver.into_iter().for_each(|work| work()));
        Self(sender)
    }

    fn run<R: Send + 'static>(&self, work: impl FnOnce() -> R + Send + 'static) -> R {
        let (sender, receiver): (_, Receiver<R>) = channel();
        let work = Box::new(move || sender.send(work()).expect("the test waits"));
        self.0.send(work).expect("the thread runs until the test ends");
        receiver.recv_timeout(PATIENCE).expect("the other thread panicked or hangs")
    }
}

pub struct Contexts {
    there: Worker,
    elsewhere: Worker,
}

impl Contexts {
    pub fn new() -> Self {
        Self { there: Worker::new(), elsewhere: Worker::new() }
    }

    /// Runs `work` at `place` and waits for it.
    pub fn run<R: Send + 'static>(&self, place: Place, work: impl FnOnce() -> R + Send + 'static) -> R {
        let work = move || {
            let _interrupt = place.is_interrupt().then(enter_interrupt);
            work()
        };
        match place {
            Place::Here | Place::InterruptHere => work(),
            Place::There | Place::InterruptThere => self.there.run(work),
            Place::Elsewhere => self.elsewhere.run(work),
        }
    }
}

/// Runs `test` on a thread of its own; a hang becomes a failure.
pub fn finishes(test: impl FnOnce() + Send + 'static) {
    let (sender, receiver) = channel();
    let thread = thread::spawn(move || {
        test();
        sender.send(()).expect("the caller waits");
    });
    match receiver.recv_timeout(PATIENCE) {
        Err(std::sync::mpsc::RecvTimeoutError::Timeout) => panic!("the test hangs"),
        _ => {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}
