//! The order in which the machine comes up.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::sync::Arc;
use core::future::Future;
use core::pin::Pin;

use hal::dma::Pages;
use hal::time::{Clock, Duration, sleep};
use netbuf::Memory;
use netbuf::context::InterruptControl;
use x86_64::instructions::interrupts;

use super::embedded;
use super::entry::EARLY_MAP_END;
use super::loader::Information;
use super::stacks;
use crate::command_line::{Options, Problem};
use crate::devices::binding::{self, Environment};
use crate::devices::bus::Bus;
use crate::devices::entropy::SystemEntropy;
use crate::firmware::configuration;
use crate::firmware::interrupt_map::{InterruptMap, Signal};
use crate::firmware::tables::{self, Platform};
use crate::interrupt::dispatch::DeviceInterrupt;
use crate::interrupt::{descriptor, dispatch};
use crate::memory::address_space::{self, SetupError};
use crate::memory::frames::{FRAMES, SystemFrames};
use crate::memory::map::MemoryMap;
use crate::report::Escaped;
use crate::system::System;
use crate::time::SystemClock;
use crate::{console, executor, power, time};

/// Longest command line that is kept, in bytes.
const COMMAND_LINE_LIMIT: usize = 2048;
/// The file in QEMU's firmware configuration that adds to the command line.
const COMMAND_LINE_FILE: &str = "opt/skiff/cmdline";

unsafe extern "Rust" {
    /// What [`crate::application!`] defines.
    fn skiff_application(system: System) -> Pin<Box<dyn Future<Output = ()>>>;
}

/// Called once by the entry code, on the main stack, with the first GiB mapped onto itself.
pub(super) extern "C" fn start(start_info: u32, entry_time_stamp: u64) -> ! {
    console::initialise();
    console::line(format_args!("entry version={}", env!("CARGO_PKG_VERSION")));
    // SAFETY: the address is what the loader left in ebx.
    let Some(information) = (unsafe { Information::from_pvh(start_info) }) else {
        panic!("the loader's start info at {start_info:#x} is not one");
    };
    let root_pointer = information.root_pointer();
    let command_line = set_up_memory(&information);
    // SAFETY: once, here; interrupts are off, and the stacks have their final mapping.
    unsafe { descriptor::load() };

    let options = read_options(&command_line);
    let platform = tables::read(root_pointer).unwrap_or_else(|error| {
        log::warn!("{error}");
        Platform { interrupts: InterruptMap::undescribed(), ..Platform::default() }
    });
    power::initialise(platform.power);
    if let Err(error) = dispatch::initialise(&platform.interrupts) {
        panic!("{error}");
    }
    time::initialise(entry_time_stamp, platform.power.timer);
    let pages: Pages = Arc::new(SystemFrames);
    let bus = Bus::new(&platform);
    binding::bind_entropy(&bus, &pages);
    let environment = environment(&options, &pages);
    binding::bind(&bus, &pages, environment, &options.adapters);
    let interrupts = platform.interrupts;
    let listen = move |isa: u8| {
        let (interrupt, signal) = interrupts.resolve(isa, Signal::PCI);
        DeviceInterrupt::line(interrupt, signal)
    };
    spawn(async move {
        match power::power_button(listen).await {
            Ok(()) => shut_down(environment, power::Reason::PowerButton).await,
            Err(error) => log::warn!("{error}"),
        }
    });
    // SAFETY: `application!` defines the function with this signature.
    let application = unsafe { skiff_application(System { options, clock: SystemClock }) };
    spawn(async move {
        application.await;
        shut_down(environment, power::Reason::Application).await;
    });
    log::info!("up after {} us", SystemClock.now().nanoseconds() / 1000);
    executor::run()
}

/// Runs one of the first tasks, for which there is always room.
fn spawn(task: impl Future<Output = ()> + 'static) {
    if let Err(error) = executor::spawn(task) {
        panic!("{error}");
    }
}

/// How packet memory keeps interrupt handlers away while it must.
const INTERRUPT_CONTROL: InterruptControl = InterruptControl {
    disable: || {
        let were_on = interrupts::are_enabled();
        interrupts::disable();
        were_on
    },
    restore: |were_on| {
        if were_on {
            interrupts::enable();
        }
    },
};

/// What all interfaces share.
fn environment(options: &Options, pages: &Pages) -> &'static Environment {
    // SAFETY: there is one core; tasks do not preempt each other, and interrupt handlers only wake tasks.
    unsafe { netbuf::context::declare_single_core(INTERRUPT_CONTROL) };
    let memory = match Memory::new(pages.clone()) {
        Ok(memory) => memory,
        Err(error) => panic!("no packet memory: {error}"),
    };
    let seed = SystemEntropy.next_u64().unwrap_or_else(|error| {
        log::error!("{error}: identifiers and keys can be guessed; add a virtio-rng to the machine");
        SystemClock.now().nanoseconds()
    });
    let (configuration, problems) = options.network_configuration();
    problems.iter().for_each(report_problem);
    Box::leak(Box::new(Environment {
        clock: SystemClock,
        memory,
        seed,
        table: Arc::default(),
        configuration,
        report: Rc::new(console::line),
    }))
}

/// Long enough for every task to run once.
const DRIVERS_TELL: Duration = Duration::from_millis(2);

/// Ends in good order: counters and memory, then power off.
async fn shut_down(environment: &Environment, reason: power::Reason) {
    // The tasks of the interfaces fetch the last figures of their drivers.
    environment.table.entries().iter().for_each(|entry| entry.ask_driver());
    sleep(&SystemClock, DRIVERS_TELL).await;
    for entry in environment.table.entries() {
        console::line(format_args!("{entry}"));
    }
    environment.inspect_memory();
    let (total, used) = FRAMES.statistics();
    console::line(format_args!("memory total_bytes={total} used_bytes={used}"));
    power::exit(reason, 0)
}

/// Maps and hands out all memory; gives the loader's command line, which is copied first: what the loader left is
/// overwritten from then on.
fn set_up_memory(information: &Information) -> String {
    let mut command_line = [0; COMMAND_LINE_LIMIT];
    let text = information.command_line();
    let kept = text.len().min(COMMAND_LINE_LIMIT);
    command_line[..kept].copy_from_slice(&text[..kept]);
    let memory = MemoryMap::from_entries(
        information.memory_map().iter().map(|entry| (entry.addr, entry.size, entry.ty == MEMORY)),
    );
    let guards = stacks::regions().into_iter().map(|(_, guard, _)| guard);
    let result = memory.map_err(SetupError::Map).and_then(|memory| {
        // SAFETY: once, here; nothing of the loader's is read after this.
        unsafe { address_space::initialise(memory, EARLY_MAP_END, guards) }
    });
    if let Err(error) = result {
        panic!("memory cannot be set up: {error}");
    }
    String::from_utf8_lossy(&command_line[..kept]).into_owned()
}

/// The type of usable memory in PVH's memory map.
const MEMORY: u32 = 1;

/// Names an option that is not understood, to people and to the host tool.
fn report_problem(problem: &Problem) {
    log::warn!("{problem}");
    console::line(format_args!("option problem={}", Escaped(problem)));
}

fn read_options(command_line: &str) -> Options {
    let mut options = Options::default();
    let file = configuration::file(COMMAND_LINE_FILE).unwrap_or_default();
    for text in [&embedded::command_line(), command_line, &file] {
        options.apply(text).iter().for_each(report_problem);
    }
    log::set_max_level(options.log);
    power::set_panic_action(options.panic);
    options
}
