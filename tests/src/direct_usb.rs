//! A USB host that is only a trait: [`usb::UsbDevice`] straight over a virtual device, without a host controller.
//!
//! Transfers are answered when they are polled for, in order per endpoint. What the device has nothing to say to is
//! asked again when time has passed or when anything else happened to the device.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use hal::time::{Clock, Duration, Instant, sleep};
use lab_usbredir::{Answer, Device, Setup};
use usb::descriptor::kind;
use usb::{
    Completion, Configuration, DeviceDescriptor, DeviceInformation, EndpointAddress, Path, Pipe, Request,
    Speed, Transfer, TransferError, UsbDevice,
};

use crate::virtual_time::VirtualClock;

/// A virtual device whose port's power can be switched.
pub trait SwitchedPower: Device {
    /// Power goes off and comes back.
    fn cycle_power(&mut self, now: Duration);
}

/// A socket for one virtual device: what the test holds.
pub struct Socket<M> {
    model: RefCell<M>,
    clock: Rc<VirtualClock>,
    waiting: RefCell<Vec<Waker>>,
    /// Counts what kills pipes: resets and changes of configuration.
    generation: Cell<u32>,
    /// Which plug-in of the device was enumerated last.
    plugged: Cell<Option<u32>>,
    /// Pieces of memory that the transfers of one pipe may have together: at first what one page of TRBs holds.
    pub ring: Cell<usize>,
}

/// How long a control transfer takes on the bus.
const CONTROL_TIME: Duration = Duration::from_micros(50);

impl<M: Device> Socket<M> {
    /// A socket with `model` plugged in.
    #[must_use]
    pub fn new(model: M, clock: &Rc<VirtualClock>) -> Rc<Self> {
        Rc::new(Self {
            model: RefCell::new(model),
            clock: clock.clone(),
            waiting: RefCell::default(),
            generation: Cell::new(0),
            plugged: Cell::new(None),
            ring: Cell::new(255),
        })
    }

    /// The time, as the device counts it.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.clock.now().since(Instant::default())
    }

    /// Does something to the device; whoever waits for it looks again.
    pub fn with<T>(&self, action: impl FnOnce(&mut M, Duration) -> T) -> T {
        let result = action(&mut self.model.borrow_mut(), self.now());
        self.waiting.take().into_iter().for_each(Waker::wake);
        result
    }
}

impl<M: SwitchedPower> Socket<M> {
    /// Waits until a device is plugged in that was not enumerated yet, addresses it, and reads what it says of itself.
    ///
    /// # Errors
    ///
    /// What a transfer ended with; descriptors that are none count as a stall.
    pub async fn enumerate(self: &Rc<Self>) -> Result<DirectUsb<M>, TransferError> {
        let attachment = loop {
            let attachment = self.with(|model, now| model.attachment(now));
            match attachment {
                Some(attachment) if Some(attachment.plugged) != self.plugged.get() => break attachment,
                _ => sleep(&*self.clock, Duration::from_millis(10)).await,
            }
        };
        self.generation.set(self.generation.get() + 1);
        self.with(|model, now| model.reset(now));
        let mut device = DirectUsb {
            socket: self.clone(),
            plugged: attachment.plugged.into(),
            information: DeviceInformation {
                path: Path::root(0, 1),
                speed: match attachment.speed {
                    lab_usbredir::Speed::Full => Speed::Full,
                    lab_usbredir::Speed::High => Speed::High,
                    lab_usbredir::Speed::Super => Speed::Super,
                },
                device: PLACEHOLDER,
                configurations: Vec::new(),
                manufacturer: String::new(),
                product: String::new(),
                serial: String::new(),
            },
        };
        let bytes = device.descriptor(kind::DEVICE, 0, 18).await?;
        device.information.device = DeviceDescriptor::parse(&bytes).map_err(|_| TransferError::Stall)?;
        for index in 0..device.information.device.configurations {
            let header = device.descriptor(kind::CONFIGURATION, index, 9).await?;
            let total = Configuration::total_length(&header).map_err(|_| TransferError::Stall)?;
            let bytes = device.descriptor(kind::CONFIGURATION, index, total.into()).await?;
            if bytes.len() < total.into() {
                return Err(TransferError::Stall);
            }
            if let Ok(configuration) = Configuration::parse(&bytes, device.information.speed) {
                device.information.configurations.push(configuration);
            }
        }
        self.plugged.set(Some(attachment.plugged));
        Ok(device)
    }
}

const PLACEHOLDER: DeviceDescriptor = DeviceDescriptor {
    usb_version: 0,
    class: 0,
    subclass: 0,
    protocol: 0,
    control_packet_size: 0,
    vendor: 0,
    product: 0,
    device_version: 0,
    manufacturer_string: 0,
    product_string: 0,
    serial_string: 0,
    configurations: 0,
};

/// A device in a [`Socket`], for as long as it stays plugged in.
pub struct DirectUsb<M> {
    socket: Rc<Socket<M>>,
    plugged: Cell<u32>,
    information: DeviceInformation,
}

impl<M: SwitchedPower> DirectUsb<M> {
    async fn descriptor(&self, kind: u8, index: u8, length: usize) -> Result<Vec<u8>, TransferError> {
        let mut bytes = vec![0; length];
        let request = Request::get_descriptor(kind, index, 0);
        let length = self.control_in(request, &mut bytes, Duration::from_secs(5)).await?;
        bytes.truncate(length);
        Ok(bytes)
    }

    async fn control(&self, setup: Setup, data: &[u8], deadline: Duration) -> Result<Vec<u8>, TransferError> {
        sleep(&*self.socket.clock, CONTROL_TIME).await;
        self.socket.still_there(self.plugged.get())?;
        let answer = self.socket.with(|model, now| model.control(setup, data, now));
        match answer {
            Answer::Data(bytes) => Ok(bytes),
            Answer::Accepted(_) => Ok(Vec::new()),
            Answer::Stall => Err(TransferError::Stall),
            Answer::Babble => Err(TransferError::Babble),
            Answer::Error => Err(TransferError::Transaction),
            Answer::Never | Answer::NotYet => {
                sleep(&*self.socket.clock, deadline).await;
                self.socket.still_there(self.plugged.get())?;
                Err(TransferError::TimedOut)
            }
        }
    }

    async fn standard(
        &self,
        recipient: u8,
        request: u8,
        value: u16,
        index: u16,
    ) -> Result<(), TransferError> {
        let setup = Setup { request_type: recipient, request, value, index, length: 0 };
        self.control(setup, &[], Duration::from_secs(5)).await.map(drop)
    }
}

impl<M: Device> Socket<M> {
    fn still_there(&self, plugged: u32) -> Result<(), TransferError> {
        let now = self.now();
        let attachment = self.model.borrow_mut().attachment(now);
        if attachment.is_some_and(|attachment| attachment.plugged == plugged) {
            Ok(())
        } else {
            Err(TransferError::Gone)
        }
    }
}

impl<M: SwitchedPower> UsbDevice for DirectUsb<M> {
    type Pipe = DirectPipe<M>;

    fn information(&self) -> &DeviceInformation {
        &self.information
    }

    async fn control_in(
        &self,
        request: Request,
        data: &mut [u8],
        deadline: Duration,
    ) -> Result<usize, TransferError> {
        let setup = Setup {
            request_type: request.kind | 0x80,
            request: request.request,
            value: request.value,
            index: request.index,
            length: u16::try_from(data.len()).map_err(|_| TransferError::TooLarge)?,
        };
        let bytes = self.control(setup, &[], deadline).await?;
        data.get_mut(..bytes.len()).ok_or(TransferError::Babble)?.copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    async fn control_out(
        &self,
        request: Request,
        data: &[u8],
        deadline: Duration,
    ) -> Result<(), TransferError> {
        let setup = Setup {
            request_type: request.kind,
            request: request.request,
            value: request.value,
            index: request.index,
            length: u16::try_from(data.len()).map_err(|_| TransferError::TooLarge)?,
        };
        self.control(setup, data, deadline).await.map(drop)
    }

    async fn set_configuration(&self, value: u8) -> Result<(), TransferError> {
        self.socket.generation.set(self.socket.generation.get() + 1);
        self.standard(Request::DEVICE, Request::SET_CONFIGURATION, value.into(), 0).await
    }

    async fn set_interface(&self, interface: u8, alternate: u8) -> Result<(), TransferError> {
        self.socket.generation.set(self.socket.generation.get() + 1);
        self.standard(Request::INTERFACE, Request::SET_INTERFACE, alternate.into(), interface.into()).await
    }

    fn open(&self, endpoint: EndpointAddress) -> Result<DirectPipe<M>, TransferError> {
        self.socket.still_there(self.plugged.get())?;
        let endpoints = self.socket.model.borrow().endpoints();
        let found = endpoints.iter().find(|found| found.address == endpoint.0);
        let found = found.ok_or(TransferError::NotThere)?;
        Ok(DirectPipe {
            socket: self.socket.clone(),
            plugged: self.plugged.get(),
            generation: self.socket.generation.get(),
            endpoint,
            interrupt: found.kind == lab_usbredir::TransferKind::Interrupt,
            queued: VecDeque::new(),
            finished: VecDeque::new(),
            started: 0,
            halted: false,
            hangs: false,
        })
    }

    async fn reset(&self) -> Result<(), TransferError> {
        self.socket.generation.set(self.socket.generation.get() + 1);
        sleep(&*self.socket.clock, Duration::from_millis(50)).await;
        self.socket.still_there(self.plugged.get())?;
        self.socket.with(|model, now| model.reset(now));
        Ok(())
    }

    async fn power_cycle(&self) -> Result<(), TransferError> {
        self.socket.generation.set(self.socket.generation.get() + 1);
        self.socket.still_there(self.plugged.get())?;
        self.socket.with(|model, now| model.cycle_power(now));
        sleep(&*self.socket.clock, Duration::from_secs(1)).await;
        // The host knows that it did this itself: it is the same device.
        let attachment = self.socket.with(|model, now| model.attachment(now)).ok_or(TransferError::Gone)?;
        self.plugged.set(attachment.plugged);
        self.socket.plugged.set(Some(attachment.plugged));
        self.socket.with(|model, now| model.reset(now));
        Ok(())
    }
}

/// A pipe to an endpoint of a virtual device.
pub struct DirectPipe<M> {
    socket: Rc<Socket<M>>,
    plugged: u32,
    generation: u32,
    endpoint: EndpointAddress,
    interrupt: bool,
    queued: VecDeque<Transfer>,
    finished: VecDeque<Completion>,
    /// Transfers at the front of the queue that the device may see.
    started: usize,
    halted: bool,
    /// The transfer in front never gets an answer.
    hangs: bool,
}

impl<M: Device> DirectPipe<M> {
    fn is_dead(&self) -> bool {
        self.generation != self.socket.generation.get()
    }

    /// Lets the device answer the transfer in front.
    fn answer(&mut self) -> Answer {
        let Some(front) = self.queued.front() else { return Answer::NotYet };
        let endpoint = self.endpoint.0;
        let interrupt = self.interrupt;
        let now = self.socket.now();
        let mut model = self.socket.model.borrow_mut();
        match front {
            Transfer::In { length, .. } if interrupt => model.interrupt_in(endpoint, *length, now),
            Transfer::In { length, .. } => model.bulk_in(endpoint, *length, now),
            Transfer::Out(gather) => model.bulk_out(endpoint, &gather.to_vec(), now),
        }
    }

    fn finish(&mut self, result: Result<usize, TransferError>) -> Option<Completion> {
        let transfer = self.queued.pop_front()?;
        self.started = self.started.saturating_sub(1);
        Some(Completion { transfer, result })
    }

    fn flush(&mut self) {
        while let Some(completion) = self.finish(Err(TransferError::Cancelled)) {
            self.finished.push_back(completion);
        }
        self.hangs = false;
    }
}

impl<M: Device> Pipe for DirectPipe<M> {
    fn submit(&mut self, transfer: Transfer) -> Result<(), (TransferError, Transfer)> {
        if let Err(error) = self.socket.still_there(self.plugged) {
            return Err((error, transfer));
        }
        if self.is_dead() {
            return Err((TransferError::NotThere, transfer));
        }
        let pieces: usize = self.queued.iter().chain([&transfer]).map(pieces).sum();
        if pieces > self.socket.ring.get() {
            return Err((TransferError::TooLarge, transfer));
        }
        self.queued.push_back(transfer);
        Ok(())
    }

    fn start(&mut self) {
        self.started = self.queued.len();
    }

    fn poll_completion(&mut self, context: &mut Context<'_>) -> Poll<Completion> {
        if let Some(completion) = self.finished.pop_front() {
            return Poll::Ready(completion);
        }
        if let Err(error) = self.socket.still_there(self.plugged)
            && let Some(completion) = self.finish(Err(error))
        {
            return Poll::Ready(completion);
        }
        if self.is_dead()
            && let Some(completion) = self.finish(Err(TransferError::Cancelled))
        {
            return Poll::Ready(completion);
        }
        if self.started > 0 && !self.halted && !self.hangs {
            let result = match self.answer() {
                Answer::NotYet => None,
                Answer::Never => {
                    self.hangs = true;
                    None
                }
                Answer::Accepted(length) => Some(Ok(length)),
                Answer::Data(bytes) => Some(self.store(&bytes)),
                Answer::Stall => Some(Err(TransferError::Stall)),
                Answer::Babble => Some(Err(TransferError::Babble)),
                Answer::Error => Some(Err(TransferError::Transaction)),
            };
            if let Some(result) = result {
                self.halted = result.is_err();
                self.socket.waiting.take().into_iter().for_each(Waker::wake);
                if let Some(completion) = self.finish(result) {
                    return Poll::Ready(completion);
                }
            }
        }
        self.socket.waiting.borrow_mut().push(context.waker().clone());
        if let Some(at) = self.socket.model.borrow().next_timer() {
            let at = Instant::default() + at;
            if at > self.socket.clock.now() {
                self.socket.clock.wake_at(at, context.waker());
            }
        }
        Poll::Pending
    }

    fn in_flight(&self) -> usize {
        self.queued.len() + self.finished.len()
    }

    async fn recover(&mut self) -> Result<(), TransferError> {
        self.socket.still_there(self.plugged)?;
        self.flush();
        if !self.halted {
            return Ok(());
        }
        sleep(&*self.socket.clock, CONTROL_TIME).await;
        let setup = Setup {
            request_type: Request::ENDPOINT,
            request: Request::CLEAR_FEATURE,
            value: 0,
            index: self.endpoint.0.into(),
            length: 0,
        };
        let answer = self.socket.with(|model, now| model.control(setup, &[], now));
        match answer {
            Answer::Accepted(_) | Answer::Data(_) => {
                self.halted = false;
                Ok(())
            }
            Answer::Stall => Err(TransferError::Stall),
            Answer::Babble => Err(TransferError::Babble),
            Answer::Error => Err(TransferError::Transaction),
            Answer::Never | Answer::NotYet => {
                sleep(&*self.socket.clock, Duration::from_secs(5)).await;
                Err(TransferError::TimedOut)
            }
        }
    }

    async fn cancel(&mut self) -> Result<(), TransferError> {
        self.socket.still_there(self.plugged)?;
        self.flush();
        Ok(())
    }
}

impl<M: Device> DirectPipe<M> {
    fn store(&mut self, bytes: &[u8]) -> Result<usize, TransferError> {
        let Some(Transfer::In { block, length }) = self.queued.front_mut() else {
            return Err(TransferError::NotThere);
        };
        let room = block.bytes_mut().get_mut(..*length).ok_or(TransferError::TooLarge)?;
        room.get_mut(..bytes.len()).ok_or(TransferError::Babble)?.copy_from_slice(bytes);
        Ok(bytes.len())
    }
}

/// Pieces of memory in a transfer.
fn pieces(transfer: &Transfer) -> usize {
    match transfer {
        Transfer::In { .. } => 1,
        Transfer::Out(gather) => gather.pieces().count() + usize::from(gather.zero_packet()),
    }
}
