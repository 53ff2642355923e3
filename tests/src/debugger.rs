//! Just enough of the GDB remote protocol to make a running guest call a function or jump anywhere: how tests provoke
//! the panics and exceptions that an image must report, without a back door in the image.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use object::{Object, ObjectSymbol};

use crate::folder::Folder;

/// Places of x86-64 registers in GDB's packet of all registers, in units of eight bytes.
const RSP: usize = 7;
const RIP: usize = 16;

/// Name of the socket in its folder.
const SOCKET: &str = "gdb";

/// How long QEMU may take to open its socket: generous, only against a hang.
const OPENING_LIMIT: Duration = Duration::from_secs(30);

/// QEMU's debugger socket.
pub struct Debugger {
    socket: UnixStream,
}

/// The arguments that make QEMU listen for a debugger, in a folder for its socket.
#[must_use]
pub fn qemu_arguments(folder: &Folder) -> Vec<String> {
    vec!["-gdb".into(), format!("unix:{},server=on,wait=off", folder.file(SOCKET))]
}

impl Debugger {
    /// Connects and thereby stops the guest.
    ///
    /// # Errors
    ///
    /// Of the system.
    pub fn attach(folder: &Folder) -> io::Result<Self> {
        let deadline = Instant::now() + OPENING_LIMIT;
        let socket = loop {
            match UnixStream::connect(folder.file(SOCKET)) {
                Ok(socket) => break socket,
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        socket.set_read_timeout(Some(OPENING_LIMIT))?;
        let mut debugger = Self { socket };
        // Why it stopped is not of interest, but asking makes sure that it has.
        debugger.send("?")?;
        debugger.answer()?;
        Ok(debugger)
    }

    /// Makes the guest call the function at `address`, as if the interrupted instruction had been that call.
    ///
    /// # Errors
    ///
    /// Of the protocol.
    pub fn call(&mut self, address: u64) -> io::Result<()> {
        let mut registers = self.registers()?;
        let stack = register(&registers, RSP)? - 8;
        let from = register(&registers, RIP)?;
        self.expect_ok(&format!("M{stack:x},8:{}", hexadecimal(from)))?;
        set_register(&mut registers, RSP, stack)?;
        set_register(&mut registers, RIP, address)?;
        self.expect_ok(&format!("G{registers}"))
    }

    /// Makes the guest go on at `address`.
    ///
    /// # Errors
    ///
    /// Of the protocol.
    pub fn jump(&mut self, address: u64) -> io::Result<()> {
        let mut registers = self.registers()?;
        set_register(&mut registers, RIP, address)?;
        self.expect_ok(&format!("G{registers}"))
    }

    /// Lets the guest run on.
    ///
    /// # Errors
    ///
    /// Of the protocol.
    pub fn detach(mut self) -> io::Result<()> {
        self.expect_ok("D")
    }

    /// All registers, in hexadecimal.
    fn registers(&mut self) -> io::Result<String> {
        self.command("g")
    }

    fn expect_ok(&mut self, command: &str) -> io::Result<()> {
        let answer = self.command(command)?;
        if answer == "OK" { Ok(()) } else { Err(unexpected(&answer)) }
    }

    fn command(&mut self, command: &str) -> io::Result<String> {
        self.send(command)?;
        loop {
            let answer = self.answer()?;
            // That the guest has stopped may be told once more, at any time.
            if !answer.starts_with("T0") {
                return Ok(answer);
            }
        }
    }

    /// `$command#checksum`.
    fn send(&mut self, command: &str) -> io::Result<()> {
        let checksum = command.bytes().fold(0, u8::wrapping_add);
        write!(self.socket, "${command}#{checksum:02x}")
    }

    /// `+$answer#checksum`, the plus being for the command.
    fn answer(&mut self) -> io::Result<String> {
        let mut answer = Vec::new();
        let mut inside = false;
        loop {
            let mut byte = [0];
            self.socket.read_exact(&mut byte)?;
            match byte[0] {
                b'$' => {
                    inside = true;
                    answer.clear();
                }
                b'#' if inside => break,
                other if inside => answer.push(other),
                _ => {}
            }
        }
        self.socket.read_exact(&mut [0; 2])?;
        self.socket.write_all(b"+")?;
        String::from_utf8(answer).map_err(|_| ErrorKind::InvalidData.into())
    }
}

/// A number as the debugger writes it: its bytes in ascending order of address.
fn hexadecimal(value: u64) -> String {
    value.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The hexadecimal digits of a register.
fn digits(place: usize) -> Range<usize> {
    16 * place..16 * (place + 1)
}

fn register(registers: &str, place: usize) -> io::Result<u64> {
    let text = registers.get(digits(place));
    let value = text.and_then(|text| u64::from_str_radix(text, 16).ok());
    value.map(u64::swap_bytes).ok_or_else(|| unexpected(registers))
}

fn set_register(registers: &mut String, place: usize, value: u64) -> io::Result<()> {
    // Reading it first shows that it is there.
    register(registers, place)?;
    registers.replace_range(digits(place), &hexadecimal(value));
    Ok(())
}

fn unexpected(answer: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("the debugger answered {answer:?}"))
}

/// The address of the function whose mangled name contains all of `parts`, in the unstripped image.
#[must_use]
pub fn function_address(unstripped: &Path, parts: &[&str]) -> Option<u64> {
    let bytes = fs::read(unstripped).ok()?;
    let file = object::File::parse(&*bytes).ok()?;
    let mut symbols = file.symbols();
    let wanted =
        symbols.find(|symbol| symbol.name().is_ok_and(|name| parts.iter().all(|part| name.contains(part))));
    wanted.map(|symbol| symbol.address())
}
