//! The driver: brings a function up, follows its link, and recovers it.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::future::{Future, poll_fn};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use hal::network::{DeviceError, Event, Information, NetworkDevice};
use hal::time::{Clock, Duration, sleep};
use netbuf::{Memory, OutOfMemory, Queue};
use usb::descriptor::{kind, string_text};
use usb::recovery::{self, Fault, Ladder, Step};
use usb::{Listener, Pipe, Pipes, ReceiveSupply, Request, TransferError, Transmitter, UsbDevice};

use crate::config::Config;
use crate::counters::Counters;
use crate::error::Error;
use crate::function::{Function, find, is_station_address, station_address};

/// SET_ETHERNET_PACKET_FILTER (ECM 1.2, section 6.2.4).
const SET_ETHERNET_PACKET_FILTER: u8 = 0x43;
/// English (United States), the language whose strings every device has.
const LANGUAGE: u16 = 0x0409;

/// A device and how it is used: what a job needs.
pub(crate) struct Service<D, C> {
    pub device: D,
    pub clock: C,
    pub function: Function,
    pub config: Config,
}

/// Recovery under way: the pipes, if they live, and how it went.
type Running<P> = Pin<Box<dyn Future<Output = (Option<Pipes<P>>, Recovered)>>>;

/// What was recovered.
enum Recovered {
    /// The device, by one step of the ladder.
    Device(Step, Result<(), Error>),
    /// The interrupt endpoint.
    Notification(Result<(), TransferError>),
}

/// A CDC Ethernet adapter in service.
pub struct CdcEcm<D: UsbDevice, C> {
    pub(crate) service: Rc<Service<D, C>>,
    information: Information,
    pub(crate) memory: Memory,
    pub(crate) supply: ReceiveSupply,
    /// Of a device that has them.
    pub(crate) notifications: Option<Listener>,
    /// Away while recovery has them, gone when it failed.
    pub(crate) pipes: Option<Pipes<D::Pipe>>,
    job: Option<Running<D::Pipe>>,
    /// A device that never tells is taken to have a link.
    pub(crate) link_up: bool,
    /// Megabits per second of the link, or of the last one; 0 while the device has not told.
    pub(crate) speed: u32,
    /// What the network layer was told: the speed of a link that is up.
    told: Option<u32>,
    pub(crate) ladder: Ladder,
    pub(crate) transmitter: Transmitter,
    pub(crate) counters: Counters,
}

fn failed(operation: &'static str) -> impl Fn(TransferError) -> Error {
    move |error| Error::Usb { operation, error }
}

impl<D: UsbDevice, C: Clock> Service<D, C> {
    /// Chooses the configuration, sets the filter and lets frames flow.
    async fn begin(&self) -> Result<Pipes<D::Pipe>, Error> {
        let Function { control_interface, data_interface, data_alternate, .. } = self.function;
        let device = &self.device;
        device
            .set_configuration(self.function.configuration)
            .await
            .map_err(failed("choosing the configuration"))?;
        self.set_filter(control_interface).await?;
        device
            .set_interface(data_interface, data_alternate)
            .await
            .map_err(failed("enabling the data interface"))?;
        let Function { receive, transmit, notification, .. } = self.function;
        let notification = notification.map(|(endpoint, _)| endpoint);
        Ok(Pipes::open(device, receive, transmit, notification)?)
    }

    /// Asks for the frames that are wanted. A device without a filter stalls the request and passes its own choice.
    async fn set_filter(&self, control_interface: u8) -> Result<(), Error> {
        let request = Request {
            kind: Request::CLASS | Request::INTERFACE,
            request: SET_ETHERNET_PACKET_FILTER,
            value: self.config.filter.bits(),
            index: control_interface.into(),
        };
        match self.device.control_out(request, &[], self.config.control_deadline).await {
            Err(TransferError::Stall) | Ok(()) => Ok(()),
            Err(error) => Err(failed("setting the packet filter")(error)),
        }
    }

    /// The station address that the device tells in a string.
    async fn permanent_address(&self) -> Result<[u8; 6], Error> {
        let mut bytes = [0; 255];
        let request = Request::get_descriptor(kind::STRING, self.function.address_string, LANGUAGE);
        let length = self
            .device
            .control_in(request, &mut bytes, self.config.control_deadline)
            .await
            .map_err(failed("reading the station address"))?;
        let text = bytes.get(..length).and_then(|bytes| string_text(bytes).ok());
        text.and_then(|text| station_address(&text)).ok_or(Error::NoStationAddress)
    }

    async fn station_address(&self) -> Result<[u8; 6], Error> {
        match self.config.mac_address {
            Some(address) if is_station_address(address) => Ok(address),
            Some(_) => Err(Error::NoStationAddress),
            None => self.permanent_address().await,
        }
    }
}

/// Takes one step of recovery after a pause.
fn recover<D, C>(
    service: Rc<Service<D, C>>,
    pipes: Option<Pipes<D::Pipe>>,
    step: Step,
    pause: Duration,
) -> Running<D::Pipe>
where
    D: UsbDevice + 'static,
    C: Clock + 'static,
{
    Box::pin(async move {
        sleep(&service.clock, pause).await;
        let (pipes, outcome) = match (step, pipes) {
            (Step::Endpoints, Some(mut pipes)) => {
                let outcome = pipes.recover_data(&service.clock).await;
                (Some(pipes), outcome.map_err(Error::from))
            }
            (Step::Endpoints, None) => {
                (None, Err(failed("resetting the data pipes")(TransferError::NotThere)))
            }
            (Step::Device | Step::PortPower, pipes) => {
                // The pipes die with the reset.
                drop(pipes);
                match restart(&service, step).await {
                    Ok(pipes) => (Some(pipes), Ok(())),
                    Err(error) => (None, Err(error)),
                }
            }
        };
        (pipes, Recovered::Device(step, outcome))
    })
}

/// Second and third step: the device is reset, or its power cycled, and brought up anew.
async fn restart<D: UsbDevice, C: Clock>(
    service: &Service<D, C>,
    step: Step,
) -> Result<Pipes<D::Pipe>, Error> {
    recovery::reset(&service.device, step).await?;
    service.begin().await
}

/// Resets the interrupt endpoint after a pause.
fn recover_notification<D, C>(
    service: Rc<Service<D, C>>,
    mut pipes: Pipes<D::Pipe>,
    pause: Duration,
) -> Running<D::Pipe>
where
    D: UsbDevice + 'static,
    C: Clock + 'static,
{
    Box::pin(async move {
        sleep(&service.clock, pause).await;
        let outcome = pipes.recover_interrupt(&service.clock).await;
        (Some(pipes), Recovered::Notification(outcome))
    })
}

impl<D, C> CdcEcm<D, C>
where
    D: UsbDevice + 'static,
    C: Clock + 'static,
{
    /// Brings a device up, trying again as often as `config` says.
    ///
    /// # Errors
    ///
    /// [`Error`]: what the last try failed of.
    pub async fn start(device: D, clock: C, memory: Memory, config: Config) -> Result<Self, Error> {
        let function = find(device.information())?;
        let service = Rc::new(Service { device, clock, function, config });
        let (supply, notifications) = supply(&service, &memory).map_err(|_| Error::OutOfMemory)?;
        let mut attempts = service.config.bring_up_attempts.max(1);
        let (mac_address, pipes) = loop {
            attempts -= 1;
            let outcome = async {
                let address = service.station_address().await?;
                Ok((address, service.begin().await?))
            };
            match outcome.await {
                Ok(begun) => break begun,
                Err(error @ Error::Usb { .. }) if attempts > 0 && !error.is_gone() => {
                    log::warn!("{}: bring-up failed: {error}; trying again", service.device.information());
                    sleep(&service.clock, service.config.recovery_pause).await;
                    if let Err(error @ TransferError::Gone) = service.device.reset().await {
                        return Err(failed("resetting the device")(error));
                    }
                }
                Err(error) => return Err(error),
            }
        };
        log::info!("{}: CDC Ethernet", service.device.information());
        Ok(Self {
            information: Information {
                driver: "cdc-ecm",
                mac_address,
                maximum_transmission_unit: function.maximum_transmission_unit(),
                transmit_checksum: false,
            },
            memory,
            supply,
            notifications,
            pipes: Some(pipes),
            job: None,
            link_up: true,
            speed: 0,
            told: None,
            ladder: Ladder::new(service.device.information().path),
            transmitter: Transmitter::new(
                service.config.transmit_transfers,
                service.config.transmit_watchdog,
            ),
            counters: Counters::default(),
            service,
        })
    }

    /// What the driver counted.
    #[must_use]
    pub fn driver_counters(&self) -> &Counters {
        &self.counters
    }

    fn poll_receive(
        &mut self,
        context: &mut Context<'_>,
        received: &mut Queue,
        budget: usize,
    ) -> Poll<Result<Event, DeviceError>> {
        loop {
            if let Some(job) = &mut self.job
                && let Poll::Ready((pipes, outcome)) = job.as_mut().poll(context)
            {
                self.job = None;
                self.pipes = pipes;
                self.recovered(outcome)?;
                return Poll::Ready(Ok(Event::Progress));
            }
            if self.poll_pipes(context, received, budget)? {
                return Poll::Ready(Ok(Event::Progress));
            }
            if self.link() != self.told && self.job.is_none() {
                return Poll::Ready(Ok(self.tell_link()));
            }
            self.watch_transmitter();
            if self.job.is_none() {
                self.job = self.next_job()?;
                if self.job.is_some() {
                    continue;
                }
            }
            self.arm_timer(context.waker());
            return Poll::Pending;
        }
    }

    fn poll_pipes(
        &mut self,
        context: &mut Context<'_>,
        received: &mut Queue,
        budget: usize,
    ) -> Result<bool, DeviceError> {
        self.poll_notifications(context)?;
        let room = self.poll_transmitted(context)?;
        let frames = self.poll_received(context, received, budget)?;
        Ok(frames > 0 || room)
    }

    fn link(&self) -> Option<u32> {
        self.link_up.then_some(self.speed)
    }

    fn tell_link(&mut self) -> Event {
        let link = self.link();
        let before = core::mem::replace(&mut self.told, link);
        match link {
            Some(speed) => {
                self.counters.link_ups += u64::from(before.is_none());
                Event::LinkUp(speed)
            }
            None => {
                self.counters.link_downs += 1;
                Event::LinkDown
            }
        }
    }

    /// A transmit transfer that does not end is a fault.
    fn watch_transmitter(&mut self) {
        let Some(pipes) = &self.pipes else { return };
        let Some(deadline) = self.transmitter.deadline(&pipes.transmit) else { return };
        if self.service.clock.now() >= deadline && !self.ladder.is_faulty() {
            self.counters.tx_timeouts += 1;
            self.ladder.fail(Fault::Transmit);
        }
    }

    fn next_job(&mut self) -> Result<Option<Running<D::Pipe>>, DeviceError> {
        let pause = self.service.config.recovery_pause;
        if let Some((step, pause)) = self.ladder.next_step(pause)? {
            match step {
                Step::Endpoints => self.counters.recovery_endpoint_resets += 1,
                Step::Device => self.counters.recovery_device_resets += 1,
                Step::PortPower => self.counters.recovery_port_power_cycles += 1,
            }
            if step != Step::Endpoints {
                self.notifications.iter_mut().for_each(Listener::forget);
                // As at first: it tells anew, or never.
                self.link_up = true;
            }
            return Ok(Some(recover(self.service.clone(), self.pipes.take(), step, pause)));
        }
        if self.notifications.as_ref().is_some_and(Listener::wants_recovery)
            && let Some(pipes) = self.pipes.take()
        {
            return Ok(Some(recover_notification(self.service.clone(), pipes, pause)));
        }
        Ok(None)
    }

    fn recovered(&mut self, recovered: Recovered) -> Result<(), DeviceError> {
        let (step, outcome) = match recovered {
            Recovered::Device(step, outcome) => (step, outcome),
            Recovered::Notification(outcome) => {
                // What it said meanwhile is lost: as with a device that never tells.
                self.link_up = true;
                return self.notifications.as_mut().map_or(Ok(()), |listener| listener.recovered(outcome));
            }
        };
        let transmit = self.pipes.as_ref().map(|pipes| &pipes.transmit);
        self.counters.tx_dropped_lost += self.transmitter.take_lost(transmit);
        match outcome {
            Ok(()) => Ok(()),
            Err(error) if error.is_gone() => Err(DeviceError::Gone),
            Err(error) => {
                log::warn!("{}: {} failed: {error}", self.service.device.information().path, step.name());
                self.counters.recovery_steps_failed += 1;
                self.ladder.step_failed();
                Ok(())
            }
        }
    }

    /// Asks for a wake-up at the next deadline.
    fn arm_timer(&mut self, waker: &Waker) {
        let Some(pipes) = &self.pipes else { return };
        let clock = &self.service.clock;
        let at = if pipes.receive.in_flight() == 0 {
            // No block was free, and nothing tells when one comes back.
            Some(clock.now() + BLOCK_RETRY)
        } else {
            self.transmitter.deadline(&pipes.transmit)
        };
        if let Some(at) = at {
            clock.wake_at(at, waker);
        }
    }
}

/// When no receive block was free, this long until the next look.
const BLOCK_RETRY: Duration = Duration::from_millis(10);

/// Blocks that hold the largest frame in whole packets, and the listener of a device that tells of its link.
fn supply<D, C>(
    service: &Service<D, C>,
    memory: &Memory,
) -> Result<(ReceiveSupply, Option<Listener>), OutOfMemory> {
    let Service { function, config, .. } = service;
    let length = receive_length(function);
    let supply = ReceiveSupply::new(memory, length, config.receive_transfers, config.receive_blocks)?;
    let notifications = function.notification.map(|(_, packet)| Listener::new(memory, packet)).transpose()?;
    Ok((supply, notifications))
}

/// Bytes of a receive transfer: a whole number of packets and more than the largest frame, so that its end shows.
fn receive_length(function: &Function) -> usize {
    let packet = function.receive_packet.max(1);
    (function.segment + 1).next_multiple_of(packet)
}

impl<D, C> NetworkDevice for CdcEcm<D, C>
where
    D: UsbDevice + 'static,
    C: Clock + 'static,
{
    fn information(&self) -> &Information {
        &self.information
    }

    async fn receive(&mut self, received: &mut Queue, budget: usize) -> Result<Event, DeviceError> {
        poll_fn(|context| self.poll_receive(context, received, budget)).await
    }

    fn transmit(&mut self, frames: &mut Queue) -> Result<(), DeviceError> {
        self.send(frames)
    }

    fn counters(&self, visit: &mut dyn FnMut(&'static str, u64)) {
        self.counters.visit(visit);
        self.service.device.counters(visit);
    }
}
