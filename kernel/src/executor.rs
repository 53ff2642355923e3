//! The executor: one queue of tasks, polled when something woke them; the processor halts when nothing did.

use alloc::boxed::Box;
use core::future::Future;
use core::pin::Pin;
use core::sync::atomic::{AtomicBool, Ordering};

use embassy_executor::raw::{Executor, TaskPool};
use spin::Once;
use x86_64::instructions::interrupts;

use crate::time;

/// Tasks that can live at one time.
const TASKS: usize = 32;

type Task = Pin<Box<dyn Future<Output = ()>>>;

static POOL: TaskPool<Task, TASKS> = TaskPool::new();

/// The executor is only used by code on the main stack, of which there is one.
struct OnMainStack(Executor);

// SAFETY: `spawn` and `run` are called on the main stack only; wakers may be used anywhere by their own design.
unsafe impl Sync for OnMainStack {}
// SAFETY: as above.
unsafe impl Send for OnMainStack {}

static EXECUTOR: Once<OnMainStack> = Once::new();
/// Something was woken since the executor last looked.
static PENDING: AtomicBool = AtomicBool::new(false);

fn executor() -> &'static Executor {
    &EXECUTOR.call_once(|| OnMainStack(Executor::new(core::ptr::null_mut()))).0
}

#[unsafe(export_name = "__pender")]
fn pend(_context: *mut ()) {
    PENDING.store(true, Ordering::Release);
}

/// All places for tasks are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyTasks;

impl core::fmt::Display for TooManyTasks {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(formatter, "{TASKS} tasks are running already")
    }
}

impl core::error::Error for TooManyTasks {}

/// Runs a future as a task of its own.
///
/// # Errors
///
/// [`TooManyTasks`]; the future is dropped.
pub fn spawn(future: impl Future<Output = ()> + 'static) -> Result<(), TooManyTasks> {
    let token = POOL.spawn(|| Box::pin(future)).map_err(|_| TooManyTasks)?;
    executor().spawner().spawn(token);
    Ok(())
}

/// Runs all tasks, for ever.
pub fn run() -> ! {
    let executor = executor();
    loop {
        time::run_expired();
        // SAFETY: called here only, and not by a task.
        unsafe { executor.poll() };
        // Looking and halting must be one step, or an interrupt in between would be slept over: `sti` takes effect
        // after the instruction that follows it.
        interrupts::disable();
        if PENDING.swap(false, Ordering::Acquire) || time::has_fired() {
            interrupts::enable();
        } else {
            interrupts::enable_and_hlt();
        }
    }
}
