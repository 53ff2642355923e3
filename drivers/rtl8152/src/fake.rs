//! A device for unit tests: a register file that answers what bring-up waits for, and a log of all accesses. It moves
//! no frames; the in-process tests do that, against the model.

use core::cell::{Cell, RefCell};
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use hal::time::{Clock, Duration, Instant};
use usb::{
    Completion, Configuration, DeviceDescriptor, DeviceInformation, EndpointAddress, Path, Pipe, Request,
    Speed, Transfer, TransferError, UsbDevice,
};

use crate::version::Version;

/// One access to a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Access {
    pub write: bool,
    pub usb: bool,
    pub address: u16,
    /// Low byte of `wIndex`.
    pub enables: u8,
    pub length: usize,
    /// First dword.
    pub value: u32,
}

/// The register file of a chip that is ready and has no link.
pub struct FakeDevice {
    information: DeviceInformation,
    spaces: RefCell<[Vec<u8>; 2]>,
    pub log: RefCell<Vec<Access>>,
    /// The access with this number fails with this error.
    pub fail: Cell<Option<(usize, TransferError)>>,
    /// The access with this number comes back short.
    pub shorten: Cell<Option<usize>>,
}

const PLA: usize = 0;
const USB: usize = 1;

impl FakeDevice {
    pub fn new(version: Version, speed: Speed) -> Self {
        let device = Self {
            information: information(speed),
            spaces: RefCell::new([vec![0; 0x1_0000], vec![0; 0x1_0000]]),
            log: RefCell::default(),
            fail: Cell::new(None),
            shorten: Cell::new(None),
        };
        device.poke(PLA, 0xe610, &0x0800_u16.to_le_bytes());
        device.poke(PLA, 0xe612, &version.number().to_le_bytes());
        device.poke(PLA, 0xe000, &0x0100_u16.to_le_bytes());
        device.poke(PLA, 0xe004, &0x0002_u16.to_le_bytes());
        device.poke(PLA, 0xe84f, &[0x32]);
        device.poke(PLA, 0xb420, &3_u16.to_le_bytes());
        device.poke(PLA, 0xb400, &0x1140_u16.to_le_bytes());
        device.poke(PLA, 0xb408, &0x01e1_u16.to_le_bytes());
        for place in [0xc000, 0xd000] {
            device.poke(PLA, place, &[0x00, 0xe0, 0x4c, 0x01, 0x02, 0x03]);
        }
        device
    }

    pub fn poke(&self, space: usize, address: usize, bytes: &[u8]) {
        self.spaces.borrow_mut()[space][address..address + bytes.len()].copy_from_slice(bytes);
    }

    fn note(&self, write: bool, request: Request, data: &[u8]) -> Result<usize, TransferError> {
        let mut log = self.log.borrow_mut();
        let number = log.len();
        let mut dword = [0; 4];
        dword.copy_from_slice(&data[..4]);
        log.push(Access {
            write,
            usb: request.index & 0x0100 == 0,
            address: request.value,
            enables: request.index as u8,
            length: data.len(),
            value: u32::from_le_bytes(dword),
        });
        match self.fail.get() {
            Some((at, error)) if at == number => Err(error),
            _ if self.shorten.get() == Some(number) => Ok(data.len() / 2),
            _ => Ok(data.len()),
        }
    }

    fn store(&self, request: Request, data: &[u8]) {
        let space = if request.index & 0x0100 == 0 { USB } else { PLA };
        let last = data.len() / 4 - 1;
        for (index, dword) in data.chunks(4).enumerate() {
            let enables = match index {
                0 => request.index & 0xf,
                index if index == last => request.index >> 4 & 0xf,
                _ => 0xf,
            };
            for (lane, &byte) in dword.iter().enumerate().filter(|(lane, _)| enables >> lane & 1 == 1) {
                let address = usize::from(request.value) + index * 4 + lane;
                let kept = match (space, address) {
                    (PLA, 0xe813) => byte & !0x10,
                    (PLA, 0xb401) => byte & !0x82,
                    _ => byte,
                };
                self.poke(space, address, &[kept]);
            }
        }
    }
}

impl UsbDevice for FakeDevice {
    type Pipe = NoPipe;

    fn information(&self) -> &DeviceInformation {
        &self.information
    }

    async fn control_in(
        &self,
        request: Request,
        data: &mut [u8],
        _: Duration,
    ) -> Result<usize, TransferError> {
        let space = if request.index & 0x0100 == 0 { USB } else { PLA };
        let address = usize::from(request.value);
        data.copy_from_slice(&self.spaces.borrow()[space][address..address + data.len()]);
        self.note(false, request, data)
    }

    async fn control_out(&self, request: Request, data: &[u8], _: Duration) -> Result<(), TransferError> {
        self.note(true, request, data)?;
        self.store(request, data);
        Ok(())
    }

    async fn set_configuration(&self, _: u8) -> Result<(), TransferError> {
        Ok(())
    }

    async fn set_interface(&self, _: u8, _: u8) -> Result<(), TransferError> {
        Ok(())
    }

    fn open(&self, _: EndpointAddress) -> Result<NoPipe, TransferError> {
        Err(TransferError::NotThere)
    }

    async fn reset(&self) -> Result<(), TransferError> {
        Ok(())
    }
}

/// There are no pipes in these tests.
#[derive(Debug)]
pub enum NoPipe {}

impl Pipe for NoPipe {
    fn submit(&mut self, _: Transfer) -> Result<(), (TransferError, Transfer)> {
        match *self {}
    }
    fn start(&mut self) {
        match *self {}
    }
    fn poll_completion(&mut self, _: &mut Context<'_>) -> Poll<Completion> {
        match *self {}
    }
    fn in_flight(&self) -> usize {
        match *self {}
    }
    async fn recover(&mut self) -> Result<(), TransferError> {
        match *self {}
    }
    async fn cancel(&mut self) -> Result<(), TransferError> {
        match *self {}
    }
}

/// A clock that jumps to whatever is waited for.
#[derive(Debug, Default)]
pub struct FakeClock(Cell<u64>);

impl Clock for FakeClock {
    fn now(&self) -> Instant {
        Instant::from_nanoseconds(self.0.get())
    }
    fn wake_at(&self, at: Instant, waker: &Waker) {
        self.0.set(self.0.get().max(at.nanoseconds()));
        waker.wake_by_ref();
    }
}

/// Runs a future that waits for nothing but a [`FakeClock`].
pub fn run<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return output;
        }
    }
}

/// The configurations of an RTL8153: vendor and CDC.
pub fn information(speed: Speed) -> DeviceInformation {
    #[rustfmt::skip]
    let vendor = [
        9, 2, 39, 0, 1, 1, 0, 0xa0, 50,
        9, 4, 0, 0, 3, 0xff, 0xff, 0, 0,
        7, 5, 0x81, 2, 0, 2, 0,
        7, 5, 0x02, 2, 0, 2, 0,
        7, 5, 0x83, 3, 2, 0, 8,
    ];
    #[rustfmt::skip]
    let cdc = [
        9, 2, 32, 0, 2, 2, 0, 0xa0, 50,
        9, 4, 0, 0, 1, 2, 6, 0, 5,
        7, 5, 0x83, 3, 16, 0, 8,
        9, 4, 1, 0, 0, 10, 0, 0, 4,
    ];
    let device = [18, 1, 0x10, 0x02, 0, 0, 0, 64, 0xda, 0x0b, 0x53, 0x81, 0, 0x30, 1, 2, 6, 2];
    DeviceInformation {
        path: Path::root(0, 1),
        speed,
        device: DeviceDescriptor::parse(&device).unwrap(),
        configurations: [&cdc[..], &vendor[..]]
            .map(|bytes| Configuration::parse(bytes, Speed::High).unwrap())
            .into(),
        manufacturer: "Realtek".into(),
        product: "USB 10/100/1000 LAN".into(),
        serial: "000001".into(),
    }
}
