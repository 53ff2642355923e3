//! The console: the first serial port.
//!
//! Two kinds of line go out: log lines for people, and lines that begin with `@skiff ` for the host tool
//! (`@skiff word key=value ...`; a value has no spaces, see [`crate::report::Escaped`]).

use core::fmt::{self, Write};

use spin::Mutex;
use uart_16550::backend::PioBackend;
use uart_16550::{BaudRate, Config, Uart16550};

/// The first serial port of a PC.
const FIRST_SERIAL_PORT: u16 = 0x3f8;

static SERIAL: Mutex<Option<Uart16550<PioBackend>>> = Mutex::new(None);

/// Finds the serial port and starts logging to it. Without one the image runs silently.
pub fn initialise() {
    // SAFETY: these ports are the first serial port or nothing at all, and nobody else uses them.
    let port = unsafe { Uart16550::new_port(FIRST_SERIAL_PORT) };
    if let Ok(mut port) = port
        && port.init(Config { baud_rate: BaudRate::Baud115200, ..Config::DEFAULT }).is_ok()
    {
        *SERIAL.lock() = Some(port);
    }
    // Fails only when a logger is set already.
    let _ = log::set_logger(&CONSOLE);
    log::set_max_level(log::LevelFilter::Info);
}

/// Writes to the serial port, ending lines as terminals want them.
struct Port;

impl Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Only code that was interrupted for good (by an exception or a panic inside this function) can hold the lock.
        let mut port = SERIAL.try_lock();
        if port.is_none() {
            // SAFETY: there is one processor and interrupt handlers do not print, so the holder never runs again.
            unsafe { SERIAL.force_unlock() };
            port = SERIAL.try_lock();
        }
        if let Some(port) = port.as_mut().and_then(|port| port.as_mut()) {
            for line in text.split_inclusive('\n') {
                match line.strip_suffix('\n') {
                    Some(line) => {
                        port.send_bytes_exact(line.as_bytes());
                        port.send_bytes_exact(b"\r\n");
                    }
                    None => port.send_bytes_exact(line.as_bytes()),
                }
            }
        }
        Ok(())
    }
}

/// Prints one line for the host tool: `@skiff`, a space, and the text.
pub fn line(text: fmt::Arguments<'_>) {
    // Writing to the port cannot fail.
    let _ = writeln!(Port, "@skiff {text}");
}

/// The `log` crate's output.
struct Console;

static CONSOLE: Console = Console;

impl log::Log for Console {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            let _ = writeln!(Port, "{:5} {}", record.level(), record.args());
        }
    }

    fn flush(&self) {}
}
