//! Where a step runs: in the thread of the test, in another one, or in an interrupt handler on either.

use netbuf::context::enter_interrupt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Here,
    InterruptHere,
    There,
    InterruptThere,
}

impl Place {
    pub fn is_interrupt(self) -> bool {
        matches!(self, Self::InterruptHere | Self::InterruptThere)
    }

    /// Runs `work` here or there and waits for it.
    pub fn run<R: Send>(self, work: impl FnOnce() -> R + Send) -> R {
        let work = move || {
            let _interrupt = self.is_interrupt().then(enter_interrupt);
            work()
        };
        match self {
            Self::Here | Self::InterruptHere => work(),
            Self::There | Self::InterruptThere => std::thread::scope(|scope| {
                let thread = scope.spawn(work);
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }),
        }
    }
}
