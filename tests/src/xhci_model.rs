//! A computer with a virtual host controller in it: the driver's register window, memory and interrupt on one side,
//! `lab_xhci` on the other, both on virtual time.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use hal::interrupt::InterruptSignal;
use hal::mmio::Mmio;
use lab_xhci::{Gadget, GuestMemory, Model, shared};
use netbuf::host::HostPages;
use netbuf::{Block, Memory, Zone};
use usb::waiting::both;
use usb::{Bus, Completion, Device, Pipe, Transfer};
use xhci::{Controller, ControllerError};

use crate::virtual_time::{Executor, VirtualClock};

/// Prints the drivers' log lines to standard error when `SKIFF_TEST_LOG` is set, for looking into a failure.
struct TestLog;

impl log::Log for TestLog {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }
    fn log(&self, record: &log::Record<'_>) {
        eprintln!("{:5} {}", record.level(), record.args());
    }
    fn flush(&self) {}
}

fn switch_log_on() {
    if std::env::var_os("SKIFF_TEST_LOG").is_some() && log::set_logger(&TestLog).is_ok() {
        log::set_max_level(log::LevelFilter::Trace);
    }
}

/// The model reaches the host's pages by their bus addresses, and nothing else.
struct Reach(Arc<HostPages>);

impl GuestMemory for Reach {
    fn read(&self, address: u64, bytes: &mut [u8]) -> bool {
        self.0.read(address, bytes).is_ok()
    }
    fn write(&self, address: u64, bytes: &[u8]) -> bool {
        self.0.write(address, bytes).is_ok()
    }
}

/// The model, its interrupt line, and whoever has to run it.
pub struct Machine {
    /// The controller.
    pub model: RefCell<Model>,
    interrupt: Arc<InterruptSignal>,
    kicked: Cell<bool>,
    waker: RefCell<Option<Waker>>,
    unplugged: Cell<bool>,
}

impl Machine {
    /// Makes the hardware look for work: after a test changed something about a device.
    pub fn kick(&self) {
        self.kicked.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    /// Pulls the controller itself out of the computer: registers read as all ones from now on.
    pub fn remove_controller(&self) {
        self.unplugged.set(true);
        self.model.borrow_mut().fail();
    }

    /// The hardware's own life: works whenever a register was written or somebody kicked it.
    async fn run(self: Rc<Self>) {
        loop {
            poll_fn(|context| {
                if self.kicked.replace(false) {
                    return Poll::Ready(());
                }
                *self.waker.borrow_mut() = Some(context.waker().clone());
                Poll::Pending
            })
            .await;
            if self.model.borrow_mut().step() {
                self.interrupt.raise();
            }
        }
    }
}

/// The register window as the driver gets it.
#[derive(Clone)]
pub struct Window(Rc<Machine>);

impl Mmio for Window {
    fn len(&self) -> usize {
        self.0.model.borrow().window_size()
    }
    fn read_u8(&self, offset: usize) -> u8 {
        (self.read_u32(offset & !3) >> (8 * (offset & 3))) as u8
    }
    fn read_u16(&self, offset: usize) -> u16 {
        (self.read_u32(offset & !3) >> (8 * (offset & 2))) as u16
    }
    fn read_u32(&self, offset: usize) -> u32 {
        if self.0.unplugged.get() {
            return u32::MAX;
        }
        self.0.model.borrow_mut().read(offset)
    }
    fn write_u8(&self, offset: usize, value: u8) {
        panic!("byte {value:#x} written to register {offset:#x}");
    }
    fn write_u16(&self, offset: usize, value: u16) {
        panic!("half word {value:#x} written to register {offset:#x}");
    }
    fn write_u32(&self, offset: usize, value: u32) {
        if !self.0.unplugged.get() {
            self.0.model.borrow_mut().write_register(offset, value);
            self.0.kick();
        }
    }
}

/// The driver's types in this computer.
pub type ModelController = Controller<Window, Rc<VirtualClock>>;
/// A slot of the controller.
pub type ModelSlot = xhci::Slot<Window, Rc<VirtualClock>>;
/// A pipe to one of its endpoints.
pub type ModelPipe = xhci::XhciPipe<Window, Rc<VirtualClock>>;
/// A device on the controller.
pub type ModelDevice = Device<ModelSlot>;

/// The computer.
pub struct Computer {
    /// Its time.
    pub clock: Rc<VirtualClock>,
    /// Who runs driver and model.
    pub executor: Executor,
    /// Its memory, as allocated by the driver and reached by the model.
    pub pages: Arc<HostPages>,
    /// Its packet memory.
    pub memory: Memory,
    /// The hardware.
    pub machine: Rc<Machine>,
    /// The driver.
    pub controller: ModelController,
    /// Devices that were offered, in order.
    pub offered: Rc<RefCell<Vec<ModelDevice>>>,
    /// How many devices had been offered when the bus was settled, once it is.
    pub settled: Rc<Cell<Option<usize>>>,
    /// How the driver ended, if it did.
    pub ended: Rc<Cell<Option<ControllerError>>>,
}

impl Computer {
    /// Puts the computer together and switches it on: controller task and bus task run from now on.
    ///
    /// # Panics
    ///
    /// When the driver does not accept the controller.
    #[must_use]
    pub fn new(config: lab_xhci::Config) -> Self {
        Self::with(config, xhci::Config::default())
    }

    /// As [`Computer::new`], with the driver's configuration.
    ///
    /// # Panics
    ///
    /// When the driver does not accept the controller.
    #[must_use]
    pub fn with(config: lab_xhci::Config, driver_config: xhci::Config) -> Self {
        switch_log_on();
        let clock = VirtualClock::new();
        let executor = Executor::new(&clock);
        let pages = HostPages::new();
        let machine = Rc::new(Machine {
            model: RefCell::new(Model::new(config, Box::new(Reach(pages.clone())))),
            interrupt: Arc::new(InterruptSignal::new()),
            kicked: Cell::new(true),
            waker: RefCell::new(None),
            unplugged: Cell::new(false),
        });
        executor.spawn(machine.clone().run());
        #[expect(clippy::expect_used, reason = "a test without memory is no test")]
        let memory = Memory::new(pages.clone()).expect("the host has a page");
        let created =
            Controller::new(0, Window(machine.clone()), pages.clone(), clock.clone(), driver_config);
        #[expect(clippy::expect_used, reason = "the model's capabilities are sane")]
        let controller = created.expect("the model's capabilities are accepted");
        let computer = Self {
            clock: clock.clone(),
            executor,
            pages,
            memory,
            machine,
            controller,
            offered: Rc::default(),
            settled: Rc::default(),
            ended: Rc::default(),
        };
        computer.switch_on();
        computer
    }

    fn switch_on(&self) {
        let (controller, ended) = (self.controller.clone(), self.ended.clone());
        let interrupt = self.machine.interrupt.clone();
        self.executor.spawn(async move {
            if let Err(error) = controller.run(interrupt).await {
                ended.set(Some(error));
            }
        });
        let bus = Bus::new(
            self.controller.clone(),
            self.clock.clone(),
            self.memory.clone(),
            usb::Config::default(),
        );
        let (offered, settled) = (self.offered.clone(), self.settled.clone());
        self.executor.spawn(async move {
            let offer = |device| {
                offered.borrow_mut().push(device);
                true
            };
            let watch = async {
                bus.settled().await;
                settled.set(Some(offered.borrow().len()));
            };
            both(bus.run(&offer), watch).await;
        });
    }

    /// Runs a test's future beside driver and model, for at most an hour of virtual time.
    ///
    /// # Panics
    ///
    /// When it gets stuck.
    pub fn run<F: Future>(&self, future: F) -> F::Output {
        match self.executor.run_for(hal::time::Duration::from_secs(3600), future) {
            Ok(output) => output,
            Err(stuck) => panic!("{stuck}"),
        }
    }

    /// Lets virtual time pass.
    pub fn pass(&self, duration: hal::time::Duration) {
        let clock = self.clock.clone();
        self.run(async move { hal::time::sleep(&clock, duration).await });
    }

    /// Plugs a device in.
    pub fn plug(&self, port: usize, device: lab_xhci::Plugged) {
        self.machine.model.borrow_mut().plug(port, device);
        self.machine.kick();
    }

    /// Plugs a gadget in and waits for the device that the driver makes of it.
    ///
    /// # Panics
    ///
    /// When it makes none.
    pub fn attach(&self, port: usize, gadget: Gadget) -> (Rc<RefCell<Gadget>>, ModelDevice) {
        let gadget = shared(gadget);
        self.plug(port, gadget.clone());
        (gadget, self.device())
    }

    /// Submits a receive transfer as long as its block of 2^`order` pages.
    ///
    /// # Panics
    ///
    /// When the pipe does not take it.
    pub fn post(&self, pipe: &mut impl Pipe, order: u8) {
        let block = Block::alloc(&self.memory, order, Zone::Normal);
        let block = block.unwrap_or_else(|error| panic!("{error}"));
        let length = block.len();
        pipe.submit(Transfer::In { block, length }).unwrap_or_else(|(error, _)| panic!("{error}"));
    }

    /// Unplugs what is at a root port.
    pub fn unplug(&self, port: usize) {
        self.machine.model.borrow_mut().unplug(port);
        self.machine.kick();
    }

    /// Takes the device that was offered last, after letting ten seconds pass.
    ///
    /// # Panics
    ///
    /// When none was offered.
    #[must_use]
    pub fn device(&self) -> ModelDevice {
        self.pass(hal::time::Duration::from_secs(10));
        let device = self.offered.borrow_mut().pop();
        device.unwrap_or_else(|| panic!("no device was offered; model: {:?}", self.violations()))
    }

    /// As [`Computer::run`]; then checks that the driver did nothing that the specification forbids.
    ///
    /// # Panics
    ///
    /// When it did, or gets stuck.
    pub fn run_within_rules<F: Future>(&self, future: F) -> F::Output {
        let output = self.run(future);
        assert_eq!(self.violations(), Vec::<String>::new());
        output
    }

    /// What the driver did that the specification forbids.
    #[must_use]
    pub fn violations(&self) -> Vec<String> {
        self.machine.model.borrow().violations().to_vec()
    }
}

/// The next transfer that a pipe finished.
pub async fn completion(pipe: &mut impl Pipe) -> Completion {
    poll_fn(|context| pipe.poll_completion(context)).await
}
