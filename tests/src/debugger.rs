//! Just enough of the GDB remote protocol to make a running guest call a function or jump anywhere: how tests provoke
//! the panics and exceptions that an image must report, without a back door in the image.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use object::{Object, ObjectSymbol};

/// Numbers of x86-64 registers in GDB's order.
const RSP: u8 = 7;
const RIP: u8 = 16;

/// How long QEMU may take to open its socket: generous, only against a hang.
const OPENING_LIMIT: Duration = Duration::from_secs(30);

/// QEMU's debugger socket.
pub struct Debugger {
    socket: UnixStream,
}

/// A folder for the socket, removed with everything in it when dropped.
pub struct SocketFolder(PathBuf);

impl SocketFolder {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// Of the system.
    pub fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("skiff-debugger-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    fn socket(&self) -> PathBuf {
        self.0.join("gdb")
    }

    /// The arguments that make QEMU listen there.
    #[must_use]
    pub fn qemu_arguments(&self) -> Vec<String> {
        vec!["-gdb".into(), format!("unix:{},server=on,wait=off", self.socket().display())]
    }
}

impl Drop for SocketFolder {
    fn drop(&mut self) {
        // Nothing is lost when it stays.
        let _ = fs::remove_dir_all(&self.0);
    }
}

impl Debugger {
    /// Connects and thereby stops the guest.
    ///
    /// # Errors
    ///
    /// Of the system.
    pub fn attach(folder: &SocketFolder) -> io::Result<Self> {
        let deadline = Instant::now() + OPENING_LIMIT;
        let socket = loop {
            match UnixStream::connect(folder.socket()) {
                Ok(socket) => break socket,
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        socket.set_read_timeout(Some(OPENING_LIMIT))?;
        let mut debugger = Self { socket };
        // Why it stopped is not of interest, but asking makes sure that it has.
        debugger.command("?")?;
        Ok(debugger)
    }

    /// Makes the guest call the function at `address`, as if the interrupted instruction had been that call.
    ///
    /// # Errors
    ///
    /// Of the protocol.
    pub fn call(&mut self, address: u64) -> io::Result<()> {
        let stack = self.register(RSP)? - 8;
        let from = self.register(RIP)?;
        let bytes: String = from.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        self.expect_ok(&format!("M{stack:x},8:{bytes}"))?;
        self.set_register(RSP, stack)?;
        self.jump(address)
    }

    /// Makes the guest go on at `address`.
    ///
    /// # Errors
    ///
    /// Of the protocol.
    pub fn jump(&mut self, address: u64) -> io::Result<()> {
        self.set_register(RIP, address)
    }

    /// Lets the guest run on.
    ///
    /// # Errors
    ///
    /// Of the protocol.
    pub fn detach(mut self) -> io::Result<()> {
        self.expect_ok("D")
    }

    fn register(&mut self, number: u8) -> io::Result<u64> {
        let answer = self.command(&format!("p{number:x}"))?;
        let bytes = (0..8).map(|index| answer.get(2 * index..2 * index + 2));
        let bytes: Option<Vec<u8>> = bytes.map(|digits| u8::from_str_radix(digits?, 16).ok()).collect();
        let bytes = bytes.and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
        bytes.map(u64::from_le_bytes).ok_or_else(|| unexpected(&answer))
    }

    fn set_register(&mut self, number: u8, value: u64) -> io::Result<()> {
        let bytes: String = value.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        self.expect_ok(&format!("P{number:x}={bytes}"))
    }

    fn expect_ok(&mut self, command: &str) -> io::Result<()> {
        let answer = self.command(command)?;
        if answer == "OK" { Ok(()) } else { Err(unexpected(&answer)) }
    }

    /// Sends `$command#checksum` and reads `+$answer#checksum`.
    fn command(&mut self, command: &str) -> io::Result<String> {
        let checksum = command.bytes().fold(0, u8::wrapping_add);
        write!(self.socket, "${command}#{checksum:02x}")?;
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
