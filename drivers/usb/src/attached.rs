//! A device that was enumerated, as its driver holds it: [`UsbDevice`] over a host controller's slot.
//!
//! Data moves directly between driver and slot. What changes the shape of the device (configuration, alternate
//! setting, reset) is a `Change` asked of the task that serves the device's port: it alone issues the steps, so a
//! driver that goes away in the middle leaves nothing half done.

use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use hal::time::Duration;

use crate::configuration::{Configuration, Endpoint, InterfaceSetting, TransferKind};
use crate::device::{DeviceInformation, EndpointAddress, Request, TransferError, UsbDevice};
use crate::host::{ControlData, HostError, HostSlot};
use crate::waiting::Waiters;

/// How long SET_CONFIGURATION and SET_INTERFACE may take (USB 2.0, 9.2.6.1).
const CONFIGURE_DEADLINE: Duration = Duration::from_secs(5);

/// A change of the device's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    Configuration(u8),
    Interface { interface: u8, alternate: u8 },
    Reset,
    PowerCycle,
}

#[derive(Debug, Default)]
pub(crate) struct Reply {
    result: Cell<Option<Result<(), TransferError>>>,
    waiters: Waiters,
}

impl Reply {
    pub(crate) fn give(&self, result: Result<(), TransferError>) {
        self.result.set(Some(result));
        self.waiters.wake();
    }
}

#[derive(Debug)]
struct State<S> {
    slot: S,
    information: DeviceInformation,
    /// The configuration in force; 0 for none.
    configuration: Cell<u8>,
    /// The alternate settings in force other than 0: interface and alternate.
    alternates: RefCell<Vec<(u8, u8)>>,
    changes: RefCell<VecDeque<(Change, Rc<Reply>)>>,
    asked: Waiters,
    ended: Cell<bool>,
}

/// A handle to an enumerated device. Cheap to clone.
#[derive(Debug)]
pub struct Device<S> {
    state: Rc<State<S>>,
}

impl<S> Clone for Device<S> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone() }
    }
}

impl<S: HostSlot> Device<S> {
    pub(crate) fn new(slot: S, information: DeviceInformation) -> Self {
        Self {
            state: Rc::new(State {
                slot,
                information,
                configuration: Cell::new(0),
                alternates: RefCell::default(),
                changes: RefCell::default(),
                asked: Waiters::default(),
                ended: Cell::new(false),
            }),
        }
    }

    pub(crate) fn slot(&self) -> &S {
        &self.state.slot
    }

    /// The configuration in force; 0 for none.
    #[must_use]
    pub fn current_configuration(&self) -> u8 {
        self.state.configuration.get()
    }

    /// The next change that somebody asks for.
    pub(crate) async fn next_change(&self) -> (Change, Rc<Reply>) {
        self.state.asked.wait(|| self.state.changes.borrow_mut().pop_front()).await
    }

    /// Unplugged: everything fails from here on.
    pub(crate) fn end(&self) {
        self.state.ended.set(true);
        self.state.slot.mark_gone();
        for (_, reply) in self.state.changes.borrow_mut().drain(..) {
            reply.give(Err(TransferError::Gone));
        }
        self.state.asked.wake();
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.state.ended.get() || self.state.slot.is_gone()
    }

    /// Waits until the device has ended.
    pub(crate) async fn ended(&self) {
        self.state.asked.wait(|| self.is_ended().then_some(())).await;
    }

    async fn ask(&self, change: Change) -> Result<(), TransferError> {
        if self.state.ended.get() {
            return Err(TransferError::Gone);
        }
        let reply = Rc::new(Reply::default());
        self.state.changes.borrow_mut().push_back((change, reply.clone()));
        self.state.asked.wake();
        reply.waiters.wait(|| reply.result.get()).await
    }

    fn current(&self) -> Option<&Configuration> {
        self.state.information.configuration(self.state.configuration.get())
    }

    fn alternate(&self, interface: u8) -> u8 {
        let alternates = self.state.alternates.borrow();
        alternates.iter().find(|(number, _)| *number == interface).map_or(0, |(_, alternate)| *alternate)
    }

    /// The addresses of all endpoints that are configured now.
    fn endpoints_in_force(&self) -> Vec<EndpointAddress> {
        let settings = self.current().into_iter().flat_map(|configuration| &configuration.settings);
        settings
            .filter(|setting| setting.alternate == self.alternate(setting.number))
            .flat_map(addresses)
            .collect()
    }

    /// After a reset the device is unconfigured.
    pub(crate) fn forget_configuration(&self) {
        self.state.configuration.set(0);
        self.state.alternates.borrow_mut().clear();
    }

    /// SET_CONFIGURATION: the controller first, because only it knows whether the bandwidth is there (xHCI 4.6.6).
    pub(crate) async fn change_configuration(&self, value: u8) -> Result<(), HostError> {
        let slot = &self.state.slot;
        let add: Vec<Endpoint> = if value == 0 {
            Vec::new()
        } else {
            let configuration = self.state.information.configuration(value);
            let configuration = configuration.ok_or(HostError::Transfer(TransferError::NotThere))?;
            configuration.default_settings().flat_map(usable).cloned().collect()
        };
        let drop = self.endpoints_in_force();
        slot.configure(&drop, &add).await?;
        self.forget_configuration();
        let request = standard(Request::SET_CONFIGURATION, Request::DEVICE, u16::from(value), 0);
        let done = slot.control(request, ControlData::Out(&[]), CONFIGURE_DEADLINE).await;
        if let Err(error) = done {
            let added: Vec<_> = add.iter().map(|endpoint| endpoint.address).collect();
            let _ = slot.configure(&added, &[]).await;
            return Err(error.into());
        }
        self.state.configuration.set(value);
        Ok(())
    }

    /// SET_INTERFACE: the endpoints of one interface exchanged.
    pub(crate) async fn change_interface(&self, interface: u8, alternate: u8) -> Result<(), HostError> {
        let slot = &self.state.slot;
        let not_there = HostError::Transfer(TransferError::NotThere);
        let configuration = self.current().ok_or(not_there)?;
        let old = configuration.setting(interface, self.alternate(interface)).ok_or(not_there)?;
        let new = configuration.setting(interface, alternate).ok_or(not_there)?;
        let drop: Vec<_> = addresses(old).collect();
        let add: Vec<_> = usable(new).cloned().collect();
        slot.configure(&drop, &add).await?;
        let request =
            standard(Request::SET_INTERFACE, Request::INTERFACE, u16::from(alternate), u16::from(interface));
        let done = slot.control(request, ControlData::Out(&[]), CONFIGURE_DEADLINE).await;
        if let Err(error) = done {
            let added: Vec<_> = addresses(new).collect();
            let restored: Vec<_> = usable(old).cloned().collect();
            let _ = slot.configure(&added, &restored).await;
            return Err(error.into());
        }
        let mut alternates = self.state.alternates.borrow_mut();
        alternates.retain(|(number, _)| *number != interface);
        alternates.push((interface, alternate));
        Ok(())
    }
}

/// Endpoints that a controller is told of.
fn usable(setting: &InterfaceSetting) -> impl Iterator<Item = &Endpoint> {
    let wanted = |endpoint: &&Endpoint| matches!(endpoint.kind, TransferKind::Bulk | TransferKind::Interrupt);
    setting.endpoints.iter().filter(wanted)
}

fn addresses(setting: &InterfaceSetting) -> impl Iterator<Item = EndpointAddress> {
    usable(setting).map(|endpoint| endpoint.address)
}

fn standard(request: u8, recipient: u8, value: u16, index: u16) -> Request {
    Request { kind: Request::STANDARD | recipient, request, value, index }
}

impl<S: HostSlot> UsbDevice for Device<S> {
    type Pipe = S::Pipe;

    fn information(&self) -> &DeviceInformation {
        &self.state.information
    }

    async fn control_in(
        &self,
        request: Request,
        data: &mut [u8],
        deadline: Duration,
    ) -> Result<usize, TransferError> {
        self.state.slot.control(request, ControlData::In(data), deadline).await
    }

    async fn control_out(
        &self,
        request: Request,
        data: &[u8],
        deadline: Duration,
    ) -> Result<(), TransferError> {
        self.state.slot.control(request, ControlData::Out(data), deadline).await.map(|_| ())
    }

    async fn set_configuration(&self, value: u8) -> Result<(), TransferError> {
        self.ask(Change::Configuration(value)).await
    }

    async fn set_interface(&self, interface: u8, alternate: u8) -> Result<(), TransferError> {
        self.ask(Change::Interface { interface, alternate }).await
    }

    fn open(&self, endpoint: EndpointAddress) -> Result<Self::Pipe, TransferError> {
        self.state.slot.open(endpoint)
    }

    async fn reset(&self) -> Result<(), TransferError> {
        self.ask(Change::Reset).await
    }

    async fn power_cycle(&self) -> Result<(), TransferError> {
        self.ask(Change::PowerCycle).await
    }

    fn counters(&self, visit: &mut dyn FnMut(&'static str, u64)) {
        self.state.slot.counters(visit);
    }
}
