//! From a vector to the tasks that wait for it.
//!
//! Each vector has a list of listeners, which only grows while interrupts are off; the handler walks it and raises every
//! signal. That is all that a handler does. A level-triggered line is masked before, and unmasked by the listener
//! when it has served its device ([`Interrupt::rearm`]): a listener that shares the line is woken once too often.

use alloc::boxed::Box;
use core::fmt;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use core::task::{Context, Poll};

use hal::interrupt::{Interrupt, InterruptSignal};
use x86_64::instructions::interrupts;

use super::{io_apic, local_apic, pic};
use crate::firmware::interrupt_map::{InterruptMap, Signal};
use crate::time;

const TIMER_VECTOR: u8 = pic::FIRST_VECTOR + pic::VECTORS;
const FIRST_DEVICE_VECTOR: u8 = TIMER_VECTOR + 1;
/// Interrupt priorities go by groups of 16 vectors; all of these are below the spurious vector.
const DEVICE_VECTORS: usize = 160;
/// Its low four bits are ones, as old processors want it.
const SPURIOUS_VECTOR: u8 = 0xff;

/// A vector's line, when it has one: the global interrupt + 1, or 0.
struct Vector {
    listeners: AtomicPtr<Listener>,
    line: AtomicU32,
    level: AtomicBool,
}

struct Listener {
    signal: InterruptSignal,
    /// A listener lives for ever, since a handler may be walking the list; when its owner is gone it is taken over.
    taken: AtomicBool,
    next: Option<&'static Listener>,
}

static VECTORS: [Vector; DEVICE_VECTORS] = [const {
    Vector {
        listeners: AtomicPtr::new(ptr::null_mut()),
        line: AtomicU32::new(0),
        level: AtomicBool::new(false),
    }
}; DEVICE_VECTORS];
static NEXT_VECTOR: AtomicUsize = AtomicUsize::new(0);

/// Called by the entry code of every device interrupt, with interrupts off.
pub(super) extern "C" fn interrupt(vector: u32) {
    if vector == u32::from(TIMER_VECTOR) {
        time::timer_fired();
        local_apic::end_of_interrupt();
        return;
    }
    let Some(vector) = VECTORS.get((vector as usize).wrapping_sub(usize::from(FIRST_DEVICE_VECTOR))) else {
        // Spurious, from the local APIC or the silenced 8259s: nothing to acknowledge.
        return;
    };
    if vector.level.load(Ordering::Relaxed) {
        io_apic::set_masked(vector.line.load(Ordering::Relaxed) - 1, true);
    }
    // SAFETY: listeners are leaked boxes, published when they were complete.
    let mut next = unsafe { vector.listeners.load(Ordering::Acquire).as_ref() };
    while let Some(listener) = next {
        listener.signal.raise();
        next = listener.next;
    }
    local_apic::end_of_interrupt();
}

/// Why a device gets no interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteError {
    /// All vectors are taken.
    NoVector,
    /// No I/O APIC has this global interrupt.
    NoInput {
        /// Its number.
        interrupt: u32,
    },
}

impl fmt::Display for RouteError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoVector => formatter.write_str("all interrupt vectors are taken"),
            Self::NoInput { interrupt } => write!(formatter, "no I/O APIC has interrupt {interrupt}"),
        }
    }
}

impl core::error::Error for RouteError {}

/// One listener of a vector: what a driver waits on. Dropping it leaves the vector to the next driver that asks.
pub struct DeviceInterrupt {
    listener: &'static Listener,
    vector: &'static Vector,
    number: u8,
}

impl fmt::Debug for DeviceInterrupt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "DeviceInterrupt(vector {:#x})", self.number)
    }
}

impl DeviceInterrupt {
    /// An interrupt that a device raises by a message (MSI, MSI-X).
    ///
    /// # Errors
    ///
    /// [`RouteError::NoVector`].
    pub fn message_signalled() -> Result<Self, RouteError> {
        // A vector whose listener is free again.
        let used = NEXT_VECTOR.load(Ordering::Relaxed).min(DEVICE_VECTORS);
        let free = (0..used)
            .find(|index| VECTORS[*index].line.load(Ordering::Relaxed) == 0 && is_free(&VECTORS[*index]));
        let index = free.map_or_else(new_vector, Ok)?;
        Ok(listen(index))
    }

    /// The interrupt of a line, shared with whoever listens already.
    ///
    /// # Errors
    ///
    /// [`RouteError`].
    pub fn line(interrupt: u32, signal: Signal) -> Result<Self, RouteError> {
        let used = NEXT_VECTOR.load(Ordering::Relaxed).min(DEVICE_VECTORS);
        if let Some(index) =
            (0..used).find(|index| VECTORS[*index].line.load(Ordering::Relaxed) == interrupt + 1)
        {
            let device = listen(index);
            // The line may have been left masked by a listener that is gone.
            device.rearm();
            return Ok(device);
        }
        let index = new_vector()?;
        let vector = &VECTORS[index];
        vector.line.store(interrupt + 1, Ordering::Relaxed);
        vector.level.store(signal.level, Ordering::Relaxed);
        let device = listen(index);
        if !io_apic::route(interrupt, signal, device.number, local_apic::id()) {
            // Or the next to ask for this line would be told that it has one.
            vector.line.store(0, Ordering::Relaxed);
            return Err(RouteError::NoInput { interrupt });
        }
        Ok(device)
    }

    /// The vector, for the data of an interrupt message.
    pub fn vector(&self) -> u8 {
        self.number
    }
}

fn is_free(vector: &Vector) -> bool {
    // SAFETY: as in `interrupt`.
    let first = unsafe { vector.listeners.load(Ordering::Acquire).as_ref() };
    first.is_some_and(|listener| listener.next.is_none() && !listener.taken.load(Ordering::Relaxed))
}

fn new_vector() -> Result<usize, RouteError> {
    let index = NEXT_VECTOR.fetch_add(1, Ordering::Relaxed);
    if index < DEVICE_VECTORS { Ok(index) } else { Err(RouteError::NoVector) }
}

fn listen(index: usize) -> DeviceInterrupt {
    let vector = &VECTORS[index];
    let number = FIRST_DEVICE_VECTOR + index as u8;
    // SAFETY: as in `interrupt`.
    let first = unsafe { vector.listeners.load(Ordering::Acquire).as_ref() };
    let mut next = first;
    while let Some(listener) = next {
        if !listener.taken.swap(true, Ordering::Relaxed) {
            return DeviceInterrupt { listener, vector, number };
        }
        next = listener.next;
    }
    let listener: &'static Listener = Box::leak(Box::new(Listener {
        signal: InterruptSignal::new(),
        taken: AtomicBool::new(true),
        next: first,
    }));
    vector.listeners.store(ptr::from_ref(listener).cast_mut(), Ordering::Release);
    DeviceInterrupt { listener, vector, number }
}

impl Interrupt for DeviceInterrupt {
    fn poll_fired(&self, context: &mut Context<'_>) -> Poll<()> {
        self.listener.signal.poll_raised(context)
    }

    fn rearm(&self) {
        if self.vector.level.load(Ordering::Relaxed) {
            io_apic::set_masked(self.vector.line.load(Ordering::Relaxed) - 1, false);
        }
    }
}

impl Drop for DeviceInterrupt {
    fn drop(&mut self) {
        self.listener.taken.store(false, Ordering::Relaxed);
        // Others on the line may be waiting for it.
        self.rearm();
    }
}

/// Sets up the interrupt controllers and switches interrupts on.
///
/// # Errors
///
/// [`local_apic::Unavailable`].
pub fn initialise(map: &InterruptMap) -> Result<(), local_apic::Unavailable> {
    if map.has_8259 {
        pic::silence();
    }
    local_apic::initialise(SPURIOUS_VECTOR)?;
    io_apic::initialise(&map.io_apics);
    local_apic::initialise_timer(TIMER_VECTOR);
    interrupts::enable();
    Ok(())
}
