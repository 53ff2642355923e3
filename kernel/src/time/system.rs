//! The clock of the image: nanoseconds since its first instruction.

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::Waker;

use hal::time::{Clock, Instant};
use spin::{Mutex, Once};
use x86_64::instructions::port::Port;

use super::rate::Rate;
use super::timers::Timers;
use crate::interrupt::local_apic;

/// Rate of the ACPI power management timer, in Hz.
const POWER_MANAGEMENT_TIMER_RATE: u64 = 3_579_545;
const POWER_MANAGEMENT_TIMER_MASK: u32 = 0xff_ffff;
/// Rate of the 8254 interval timer, in Hz.
const INTERVAL_TIMER_RATE: u64 = 1_193_182;
const INTERVAL_TIMER_CHANNEL_2: u16 = 0x42;
const INTERVAL_TIMER_MODE: u16 = 0x43;
/// Gate and output of channel 2.
const INTERVAL_TIMER_GATE: u16 = 0x61;

/// How long calibration looks, in microseconds: short, for the image to be up soon, and long enough for a part in a thousand.
const CALIBRATION: u64 = 2_000;
/// Readings of which the one that took the shortest is kept: an emulator may pause in any of them.
const READINGS: usize = 5;

const NANOSECONDS: u64 = 1_000_000_000;

struct Rates {
    entry: u64,
    nanoseconds: Rate,
    timer_counts: Rate,
}

static RATES: Once<Rates> = Once::new();
static TIMERS: Mutex<Timers> = Mutex::new(Timers::new());
static FIRED: AtomicBool = AtomicBool::new(false);

fn time_stamp() -> u64 {
    // SAFETY: every x86-64 processor has the counter, and nothing forbids ring 0 to read it.
    unsafe { _rdtsc() }
}

/// A clock of known rate that counts up.
enum Reference {
    PowerManagementTimer(Port<u32>),
    IntervalTimer(Port<u8>),
}

impl Reference {
    /// Starts the reference.
    fn new(power_management_timer: Option<u16>) -> Self {
        if let Some(port) = power_management_timer {
            return Self::PowerManagementTimer(Port::new(port));
        }
        // SAFETY: a machine without a power management timer has the interval timer of a PC; channel 2 is the
        // loudspeaker's.
        unsafe {
            let mut gate = Port::<u8>::new(INTERVAL_TIMER_GATE);
            let value = gate.read();
            gate.write(value & !0b11 | 0b01);
            // Channel 2, both bytes, one-shot, from the top.
            Port::<u8>::new(INTERVAL_TIMER_MODE).write(0b1011_0000);
            let mut data = Port::<u8>::new(INTERVAL_TIMER_CHANNEL_2);
            data.write(0xff);
            data.write(0xff);
            Self::IntervalTimer(data)
        }
    }

    fn rate(&self) -> u64 {
        match self {
            Self::PowerManagementTimer(_) => POWER_MANAGEMENT_TIMER_RATE,
            Self::IntervalTimer(_) => INTERVAL_TIMER_RATE,
        }
    }

    fn read(&mut self) -> u32 {
        match self {
            // SAFETY: the firmware described the port.
            Self::PowerManagementTimer(port) => unsafe { port.read() },
            // SAFETY: as in `new`; latching command, then both bytes of the count.
            Self::IntervalTimer(port) => unsafe {
                Port::<u8>::new(INTERVAL_TIMER_MODE).write(0b1000_0000);
                let low = port.read();
                let high = port.read();
                u32::from(u16::MAX - u16::from_le_bytes([low, high]))
            },
        }
    }

    fn elapsed(&self, from: u32, to: u32) -> u64 {
        let difference = to.wrapping_sub(from);
        u64::from(match self {
            Self::PowerManagementTimer(_) => difference & POWER_MANAGEMENT_TIMER_MASK,
            Self::IntervalTimer(_) => difference & 0xffff,
        })
    }
}

/// Reads all three clocks as close together as possible: reference, time stamp, local APIC timer.
fn read_together(reference: &mut Reference) -> (u32, u64, u32) {
    let mut best = (u64::MAX, (0, 0, 0));
    for _ in 0..READINGS {
        let before = time_stamp();
        let counts = (reference.read(), time_stamp(), local_apic::timer_count());
        let took = time_stamp().wrapping_sub(before);
        if took < best.0 {
            best = (took, counts);
        }
    }
    best.1
}

/// Measures the rates of the time stamp counter and of the local APIC's timer, which must be set up. `entry` is the time
/// stamp of the image's first instruction.
pub fn initialise(entry: u64, power_management_timer: Option<u16>) {
    RATES.call_once(|| {
        local_apic::start_timer(u32::MAX);
        let mut reference = Reference::new(power_management_timer);
        let (start, start_stamp, start_count) = read_together(&mut reference);
        let wanted = reference.rate() * CALIBRATION / 1_000_000;
        // A reference that stands still must not hold up the image: any processor does a million readings in less time
        // than this takes to matter.
        for _ in 0..1_000_000 {
            let now = reference.read();
            if reference.elapsed(start, now) >= wanted {
                break;
            }
        }
        let (end, end_stamp, end_count) = read_together(&mut reference);
        local_apic::start_timer(0);
        let nanoseconds =
            Rate::new(reference.rate(), NANOSECONDS).convert(reference.elapsed(start, end)).max(1);
        let stamps = end_stamp.wrapping_sub(start_stamp);
        let counts = u64::from(start_count.wrapping_sub(end_count));
        log::debug!("time: {stamps} time stamps and {counts} timer counts in {nanoseconds} ns");
        Rates {
            entry,
            nanoseconds: Rate::new(stamps, nanoseconds),
            timer_counts: Rate::new(nanoseconds, counts),
        }
    });
}

/// The clock; it stands still until [`initialise`].
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        let nanoseconds =
            RATES.get().map_or(0, |rates| rates.nanoseconds.convert(time_stamp().wrapping_sub(rates.entry)));
        Instant::from_nanoseconds(nanoseconds)
    }

    fn wake_at(&self, at: Instant, waker: &Waker) {
        if TIMERS.lock().add(at, waker) {
            arm(at);
        }
    }
}

/// Starts the timer for this moment, or for the furthest one that it reaches.
fn arm(at: Instant) {
    let Some(rates) = RATES.get() else { return };
    let wait = u64::try_from(at.since(SystemClock.now()).as_nanos()).unwrap_or(u64::MAX);
    // Rounded up, so that the moment has come when the timer fires; and never 0, which would stop it.
    let counts = rates.timer_counts.convert(wait).saturating_add(1);
    local_apic::start_timer(u32::try_from(counts).unwrap_or(u32::MAX));
}

/// Called by the interrupt handler of the timer.
pub(crate) fn timer_fired() {
    FIRED.store(true, Ordering::Relaxed);
}

/// Whether the timer has fired since [`run_expired`].
pub(crate) fn has_fired() -> bool {
    FIRED.load(Ordering::Relaxed)
}

/// Wakes the tasks whose moment has come, if the timer has fired, and starts it for the next moment.
#[inline]
pub(crate) fn run_expired() {
    if FIRED.load(Ordering::Relaxed) {
        FIRED.store(false, Ordering::Relaxed);
        wake_expired();
    }
}

#[cold]
fn wake_expired() {
    let now = SystemClock.now();
    loop {
        let expired = TIMERS.lock().take_expired(now);
        match expired {
            Some(waker) => waker.wake(),
            None => break,
        }
    }
    if let Some(at) = TIMERS.lock().earliest() {
        arm(at);
    }
}
