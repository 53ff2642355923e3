//! A virtual adapter of the RTL8152 family in its socket, and a station that drives it: for tests on virtual time.
//!
//! The station does what a kernel does: it waits for the adapter, starts the driver that its ids ask for, and sends every
//! frame that it receives back to where it came from. When the adapter is unplugged it waits for the next one.

use std::cell::RefCell;
use std::rc::Rc;

use hal::network::{DeviceError, Event, NetworkDevice};
use hal::time::{Clock, Duration, sleep};
use lab_rtl8152::Adapter;
use netbuf::host::HostPages;
use netbuf::{Memory, NetBuf, Queue};
use usb::UsbDevice;

use crate::direct_usb::{DirectUsb, Socket, SwitchedPower};
use crate::virtual_time::{Executor, VirtualClock};

impl SwitchedPower for Adapter {
    fn cycle_power(&mut self, now: std::time::Duration) {
        self.unplug(lab_rtl8152::Disconnect { away: None, as_storage: false }, now);
        self.plug(now);
    }
}

/// What the station went through.
#[derive(Debug, Default)]
pub struct Diary {
    /// Times that a driver came up.
    pub started: usize,
    /// Why drivers did not come up, and why they ended.
    pub failures: Vec<String>,
    /// Link events, in order: megabits per second, or `None` for down.
    pub links: Vec<Option<u32>>,
    /// Frames received.
    pub frames: u64,
    /// Counters of the driver that runs, or ran last.
    pub counters: Vec<(&'static str, u64)>,
    /// VLAN tags of received frames that had one.
    pub tags: Vec<u16>,
    /// Frames whose checksum the hardware verified.
    pub verified: u64,
}

impl Diary {
    /// A counter by its name; 0 when there is none.
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        self.counters.iter().find(|(known, _)| *known == name).map_or(0, |(_, value)| *value)
    }
}

/// Everything that a test needs.
pub struct World {
    /// Virtual time.
    pub clock: Rc<VirtualClock>,
    /// Where tasks run.
    pub executor: Executor,
    /// The station address that the adapter holds.
    pub address: [u8; 6],
    /// The socket with the adapter.
    pub socket: Rc<Socket<Adapter>>,
    /// Where blocks and buffers come from.
    pub pages: std::sync::Arc<HostPages>,
    /// The packet memory on top of it.
    pub memory: Memory,
    /// What the station writes down.
    pub diary: Rc<RefCell<Diary>>,
}

/// How a station answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// Every frame goes back at once.
    #[default]
    Echo,
    /// Every frame goes back, and the future of `receive` is dropped and made again every few microseconds.
    Impatient,
}

impl World {
    /// A world with this adapter plugged in and nobody at the station.
    ///
    /// # Panics
    ///
    /// When its fault plan names a field that does not exist.
    #[must_use]
    pub fn new(config: lab_rtl8152::Config) -> Self {
        let clock = VirtualClock::new();
        let address = config.address;
        let adapter = Adapter::new(config).unwrap_or_else(|error| panic!("{error:?}"));
        let pages = HostPages::new();
        let memory = Memory::new(pages.clone()).unwrap_or_else(|error| panic!("{error}"));
        Self {
            executor: Executor::new(&clock),
            address,
            socket: Socket::new(adapter, &clock),
            clock,
            pages,
            memory,
            diary: Rc::default(),
        }
    }

    /// A world where a station with the RTL8152 driver echoes, all choices left as they are.
    #[must_use]
    pub fn with_rtl8152(config: lab_rtl8152::Config) -> Self {
        let world = Self::new(config);
        world.employ_rtl8152(Manner::Echo, rtl8152::Config::default());
        world
    }

    /// A world where a station with the CDC ECM driver echoes, all choices left as they are.
    #[must_use]
    pub fn with_cdc_ecm(config: lab_rtl8152::Config) -> Self {
        let world = Self::new(config);
        world.employ_cdc_ecm(Manner::Echo, cdc_ecm::Config::default());
        world
    }

    /// Puts a station to work that starts its drivers by `start`.
    pub fn employ<S, F, N>(&self, manner: Manner, start: S)
    where
        S: Fn(DirectUsb<Adapter>, Rc<VirtualClock>, Memory) -> F + 'static,
        F: Future<Output = Result<Option<N>, String>> + 'static,
        N: NetworkDevice + 'static,
    {
        let (clock, socket) = (self.clock.clone(), self.socket.clone());
        let (memory, diary) = (self.memory.clone(), self.diary.clone());
        self.executor.spawn(async move {
            loop {
                let device = match socket.enumerate().await {
                    Ok(device) => device,
                    Err(error) => {
                        diary.borrow_mut().failures.push(format!("enumeration: {error}"));
                        sleep(&*clock, Duration::from_millis(100)).await;
                        continue;
                    }
                };
                match start(device, clock.clone(), memory.clone()).await {
                    Ok(Some(driver)) => {
                        diary.borrow_mut().started += 1;
                        let ended = serve(driver, &clock, &diary, manner).await;
                        diary.borrow_mut().failures.push(ended.to_string());
                    }
                    Ok(None) => {}
                    Err(error) => diary.borrow_mut().failures.push(error),
                }
            }
        });
    }

    /// A station with the RTL8152 driver.
    pub fn employ_rtl8152(&self, manner: Manner, config: rtl8152::Config) {
        self.employ(manner, move |device, clock, memory| {
            start_rtl8152(device, clock, memory, config.clone())
        });
    }

    /// A station with the CDC ECM driver.
    pub fn employ_cdc_ecm(&self, manner: Manner, config: cdc_ecm::Config) {
        self.employ(manner, move |device, clock, memory| {
            let config = config.clone();
            async move {
                let started = cdc_ecm::CdcEcm::start(device, clock, memory, config).await;
                started.map(Some).map_err(|error| error.to_string())
            }
        });
    }

    /// Runs `main` beside the station for at most `limit` of virtual time.
    ///
    /// # Panics
    ///
    /// With the diary when it does not end in time.
    pub fn run<T>(&self, limit: Duration, main: impl Future<Output = T>) -> T {
        match self.executor.run_for(limit, main) {
            Ok(output) => output,
            Err(stuck) => panic!("{stuck}; {:#?}", self.diary.borrow()),
        }
    }

    /// Waits until the adapter takes frames: sends one until it comes back.
    pub async fn echo_works(&self) {
        let probe = self.frame(0, 60);
        loop {
            if self.exchange(&probe, Duration::from_millis(100)).await {
                // Whatever else is still under way.
                sleep(&*self.clock, Duration::from_millis(10)).await;
                drop(self.sent());
                return;
            }
        }
    }

    /// A frame of `length` bytes from the far host to the station, with a pattern that depends on `number`.
    #[must_use]
    pub fn frame(&self, number: usize, length: usize) -> Vec<u8> {
        frame(self.address, number, length)
    }

    /// Sends a frame to the station and waits for its echo; false when none came in time.
    pub async fn exchange(&self, sent: &[u8], patience: Duration) -> bool {
        let expected = echo_of(sent);
        self.socket.with(|adapter, now| adapter.receive_frame(sent, now));
        let end = self.clock.now() + patience;
        while self.clock.now() < end {
            sleep(&*self.clock, Duration::from_micros(200)).await;
            if self.sent().contains(&expected) {
                return true;
            }
        }
        false
    }

    /// The frames that the adapter put on the cable since the last call.
    #[must_use]
    pub fn sent(&self) -> Vec<Vec<u8>> {
        self.socket.with(|adapter, _| core::iter::from_fn(|| adapter.take_sent_frame()).collect())
    }

    /// Ends the station and checks that it left nothing behind.
    ///
    /// # Panics
    ///
    /// When a buffer or a block was not given back.
    pub fn close(self) -> Diary {
        drop(self.executor);
        let left = self.memory.statistics();
        assert_eq!((left.live_descriptors, left.live_blocks), (0, 0), "left behind: {left:?}");
        drop(self.socket);
        Rc::try_unwrap(self.diary).map(RefCell::into_inner).unwrap_or_default()
    }
}

async fn start_rtl8152(
    device: DirectUsb<Adapter>,
    clock: Rc<VirtualClock>,
    memory: Memory,
    config: rtl8152::Config,
) -> Result<Option<rtl8152::Rtl8152<DirectUsb<Adapter>, Rc<VirtualClock>>>, String> {
    let ids = device.information().device;
    match rtl8152::matches(ids.vendor, ids.product) {
        Some(rtl8152::Match::Adapter) => {
            let started = rtl8152::Rtl8152::start(device, clock, memory, config).await;
            started.map(Some).map_err(|error| error.to_string())
        }
        Some(rtl8152::Match::ModeSwitch) => {
            let switched = rtl8152::switch_mode(&device, &clock, &memory).await;
            switched.map(|()| None).map_err(|error| error.to_string())
        }
        None => Err(format!("no driver for {:04x}:{:04x}", ids.vendor, ids.product)),
    }
}

/// Echoes until the device ends.
async fn serve<N: NetworkDevice>(
    mut driver: N,
    clock: &Rc<VirtualClock>,
    diary: &Rc<RefCell<Diary>>,
    manner: Manner,
) -> DeviceError {
    let mut received = Queue::new();
    let mut answers = Queue::new();
    loop {
        let event = match manner {
            Manner::Echo => Some(driver.receive(&mut received, 32).await),
            Manner::Impatient => {
                let patience = Duration::from_micros(7);
                hal::time::timeout(&**clock, patience, driver.receive(&mut received, 3)).await.ok()
            }
        };
        while let Some(mut frame) = received.pop_front() {
            note(&mut diary.borrow_mut(), &frame);
            turn_round(&mut frame);
            answers.push_back(frame);
        }
        let sent = driver.transmit(&mut answers);
        let mut notes = diary.borrow_mut();
        notes.counters.clear();
        driver.counters(&mut |name, value| notes.counters.push((name, value)));
        match event {
            Some(Ok(Event::LinkUp(speed))) => notes.links.push(Some(speed)),
            Some(Ok(Event::LinkDown)) => notes.links.push(None),
            Some(Ok(Event::Progress)) | None => {}
            Some(Err(error)) => return error,
        }
        if let Err(error) = sent {
            return error;
        }
    }
}

fn note(diary: &mut Diary, frame: &NetBuf) {
    diary.frames += 1;
    diary.tags.extend(frame.vlan());
    if frame.checksum_status() == netbuf::ChecksumStatus::Unnecessary {
        diary.verified += 1;
    }
}

/// Exchanges the addresses in place.
fn turn_round(frame: &mut NetBuf) {
    if let Ok(bytes) = frame.data_mut()
        && let Some((destination, rest)) = bytes.split_at_mut_checked(6)
        && let Some(source) = rest.get_mut(..6)
    {
        destination.swap_with_slice(source);
    }
}

/// The far host.
pub const FAR: [u8; 6] = [0x02, 0, 0, 0, 0, 0xfe];

/// A frame of `length` bytes from the far host, with a pattern that depends on `number`.
#[must_use]
pub fn frame(to: [u8; 6], number: usize, length: usize) -> Vec<u8> {
    let mut frame = Vec::with_capacity(length);
    frame.extend(to);
    frame.extend(FAR);
    frame.extend([0x88, 0xb5]);
    frame.extend((14..length).map(|index| (index.wrapping_mul(31) ^ number.wrapping_mul(17)) as u8));
    frame
}

/// What the station makes of a frame, as it appears on the cable.
#[must_use]
pub fn echo_of(frame: &[u8]) -> Vec<u8> {
    let mut echo = frame.to_vec();
    echo[..12].rotate_left(6);
    echo
}
