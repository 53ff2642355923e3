//! A running guest: started, watched, stopped, never outliving its owner.
//!
//! Everything that connects to QEMU is a socket pair that it inherits: console, monitor and network leave nothing in the
//! file system, and their end tells that QEMU has ended. Four things end QEMU with us: dropping the [`Guest`], our
//! orderly stop, its parent-death signal when we are killed, and `-no-reboot` when the guest resets.

use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::iter;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use command_fds::CommandFdExt;
use lab_wire::Cable;
use serde_json::json;

use crate::console::Transcript;
use crate::dongle::Remote;
use crate::error::Error;
use crate::image::Image;
use crate::nic::{self, Descriptors, Slot};
use crate::output;
use crate::qemu::{Firmware, MachineLock, Monitor, Qemu};
use crate::readiness::Cards;
use crate::symbols;

/// Console lines shown when something went wrong.
pub const SHOWN_LINES: usize = 30;

/// A limit that no wait reaches.
pub const FOREVER: Duration = Duration::from_secs(u32::MAX as u64);

/// How long the last lines of a QEMU that has ended may take: generous, their end is seen.
const LAST_LINES_LIMIT: Duration = Duration::from_secs(5);

/// How often the power button is pressed until the guest feels it.
const PRESS_INTERVAL: Duration = Duration::from_secs(1);

/// A pause between two looks at a guest that nothing else waits for.
const GLANCE: Duration = Duration::from_millis(2);

/// The machines of QEMU that images run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum MachineType {
    /// PCI Express, as new virtual machines have
    Q35,
    /// The older PC with conventional PCI
    Pc,
}

/// A guest to be started.
#[derive(Clone, Debug)]
pub struct GuestConfiguration {
    /// What boots.
    pub image: PathBuf,
    /// The same with symbols, for when it dies.
    pub unstripped: PathBuf,
    /// The machine.
    pub machine: MachineType,
    /// What runs before the image.
    pub firmware: Firmware,
    /// Memory, in MiB.
    pub memory: u32,
    /// Network cards.
    pub slots: Vec<Slot>,
    /// The kernel's command line.
    pub command_line: String,
    /// More arguments for QEMU.
    pub extra_arguments: Vec<String>,
}

impl GuestConfiguration {
    /// An image on a q35 with 32 MiB and no network card.
    #[must_use]
    pub fn new(image: &Image) -> Self {
        Self {
            image: image.stripped.clone(),
            unstripped: image.unstripped.clone(),
            machine: MachineType::Q35,
            firmware: Firmware::Fastest,
            memory: 32,
            slots: Vec::new(),
            command_line: String::new(),
            extra_arguments: Vec::new(),
        }
    }

    /// The cards that we make.
    #[must_use]
    pub fn cards(&self) -> Cards {
        Cards { macs: self.slots.iter().map(|slot| slot.mac).collect(), handed_over: 0 }
    }

    fn arguments(&self, qemu: &Qemu) -> Vec<String> {
        let machine = match self.machine {
            MachineType::Q35 => "q35",
            MachineType::Pc => "pc",
        };
        let memory = format!("{}M", self.memory);
        let image = self.image.display().to_string();
        let mut arguments: Vec<String> = [
            "-nodefaults",
            "-no-user-config",
            "-no-reboot",
            "-display",
            "none",
            "-accel",
            "tcg",
            "-cpu",
            "max",
            "-smp",
            "1",
            "-machine",
            machine,
            "-m",
            &memory,
            "-kernel",
            &image,
            "-append",
            &self.command_line,
            "-device",
            "virtio-rng-pci",
            "-device",
            "isa-debug-exit",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.extend(qemu.firmware_arguments(self.firmware));
        arguments
    }
}

/// A guest that runs. Dropping it kills QEMU.
///
/// It must be dropped on the thread that started it or before that thread ends: QEMU gets its parent-death signal when
/// the thread ends.
pub struct Guest {
    child: Child,
    monitor: Option<Monitor>,
    monitor_socket: Option<UnixStream>,
    console: Receiver<(Instant, String)>,
    console_input: UnixStream,
    /// What QEMU itself complains about.
    complaints: Receiver<(Instant, String)>,
    transcript: Transcript,
    unstripped: PathBuf,
    started: Instant,
    echo_console: bool,
    dongles: Vec<Option<Remote>>,
    _lock: MachineLock,
}

impl Guest {
    /// Starts QEMU, once no other one runs, and returns our ends of the cables in the order of the slots.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when QEMU cannot be started.
    pub fn start(
        qemu: &Qemu,
        configuration: &GuestConfiguration,
    ) -> Result<(Self, Vec<Option<Cable>>), Error> {
        Self::start_with(qemu, configuration, |_| Vec::new())
    }

    /// As [`Guest::start`], with devices of the caller's own: `devices` gives QEMU's arguments for them and the file
    /// descriptors that they name.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when QEMU cannot be started.
    pub fn start_with(
        qemu: &Qemu,
        configuration: &GuestConfiguration,
        devices: impl FnOnce(&mut Descriptors) -> Vec<String>,
    ) -> Result<(Self, Vec<Option<Cable>>), Error> {
        let lock = MachineLock::of_qemu()?;
        let mut descriptors = Descriptors::default();
        let (console_number, console) = descriptors.add_socket()?;
        let (monitor_number, monitor) = descriptors.add_socket()?;
        let attachments = nic::attach(qemu, &configuration.slots, &mut descriptors)?;
        let devices = devices(&mut descriptors);

        // setpriv is part of every Debian: it arranges that QEMU is killed when this thread is gone, then becomes QEMU.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(&qemu.path);
        command.args(configuration.arguments(qemu));
        command.args([
            "-chardev",
            &format!("socket,id=console,fd={console_number}"),
            "-serial",
            "chardev:console",
        ]);
        command.args(["-chardev", &format!("socket,id=monitor,fd={monitor_number}")]);
        command.args(["-mon", "chardev=monitor,mode=control"]);
        command.args(&attachments.arguments).args(devices).args(&configuration.extra_arguments);
        // A group of its own: Ctrl-C is for us, who then stop the guest in order.
        command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.fd_mappings(descriptors.into_mappings()).map_err(|error| Error::Usage(error.to_string()))?;
        let started = Instant::now();
        // QEMU itself has been found; only setpriv can be what is missing.
        let mut child = command.spawn().map_err(|source| match source.kind() {
            ErrorKind::NotFound => {
                Error::Missing { program: "setpriv", remedy: "install it (it is part of util-linux)".into() }
            }
            _ => Error::System { action: format!("cannot start {}", qemu.path.display()), source },
        })?;
        // With the command goes our copy of QEMU's ends.
        drop(command);
        let complaints = child.stderr.take().map_or_else(|| mpsc::channel().1, read_lines);
        let console_input = console.try_clone().map_err(Error::system("cannot set up a socket"))?;
        let guest = Self {
            child,
            monitor: None,
            monitor_socket: Some(monitor),
            console: read_lines(console),
            console_input,
            complaints,
            transcript: Transcript::default(),
            unstripped: configuration.unstripped.clone(),
            started,
            echo_console: false,
            dongles: attachments.dongles,
            _lock: lock,
        };
        Ok((guest, attachments.cables))
    }

    /// The remote control of the virtual adapter in slot `index`, if that card is one.
    #[must_use]
    pub fn dongle(&self, index: usize) -> Option<&Remote> {
        self.dongles.get(index)?.as_ref()
    }

    /// When QEMU was started.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// QEMU's process id.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// From now on, shows the console on standard output.
    pub fn show_console(&mut self) {
        self.echo_console = true;
    }

    /// The way to the guest's serial input.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when the socket cannot be shared.
    pub fn console_input(&self) -> Result<UnixStream, Error> {
        self.console_input.try_clone().map_err(Error::system("cannot set up a socket"))
    }

    /// What the guest has said by now.
    pub fn transcript(&mut self) -> &Transcript {
        loop {
            match self.console.try_recv() {
                Ok((seen, line)) => self.take_line(&line, seen),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return &self.transcript,
            }
        }
    }

    /// How QEMU ended, once it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until the guest has said what `condition` looks for; `between` is called again and again meanwhile, and
    /// should itself wait a little (a host serves its network there). Ends early, without an error, when `stop` is set.
    ///
    /// # Errors
    ///
    /// [`Error::NoGuest`] or [`Error::GuestDied`] when QEMU ends, [`Error::GuestStalled`] after `limit`.
    pub fn wait_until(
        &mut self,
        waiting_for: &str,
        limit: Duration,
        stop: Option<&AtomicBool>,
        between: &mut dyn FnMut(),
        condition: &mut dyn FnMut(&Transcript) -> bool,
    ) -> Result<(), Error> {
        let deadline = Instant::now() + limit;
        loop {
            // In this order: what was said before the end counts.
            let ended = self.exit_status().is_some();
            if ended {
                self.read_to_the_end();
            }
            if condition(self.transcript()) || stop.is_some_and(|stop| stop.load(Ordering::Relaxed)) {
                return Ok(());
            }
            if ended {
                return Err(self.death());
            }
            if Instant::now() >= deadline {
                let console = self.transcript().last_lines(SHOWN_LINES);
                return Err(Error::GuestStalled { waiting_for: waiting_for.to_owned(), console });
            }
            between();
        }
    }

    /// Presses the power button.
    ///
    /// # Errors
    ///
    /// [`Error::Monitor`] when QEMU does not listen any more.
    pub fn press_power_button(&mut self) -> Result<(), Error> {
        self.monitor()?.execute("system_powerdown", &json!({})).map(|_| ())
    }

    /// The monitor, connected when it is first needed.
    ///
    /// # Errors
    ///
    /// [`Error::Monitor`] when QEMU does not speak.
    pub fn monitor(&mut self) -> Result<&mut Monitor, Error> {
        if let Some(socket) = self.monitor_socket.take() {
            self.monitor = Some(Monitor::connect(socket)?);
        }
        self.monitor.as_mut().ok_or_else(|| Error::Monitor("it could not be reached before".into()))
    }

    /// Presses the power button, again and again, until QEMU has ended; `between` as in [`Guest::wait_until`]. A guest
    /// that is still booting does not feel the first press.
    ///
    /// # Errors
    ///
    /// [`Error::NoGuest`] or [`Error::GuestDied`] when the guest ends for another reason, [`Error::GuestStalled`] when it
    /// does not end.
    pub fn shut_down(&mut self, limit: Duration, between: &mut dyn FnMut()) -> Result<(), Error> {
        let deadline = Instant::now() + limit;
        let mut next_press = Instant::now();
        while self.exit_status().is_none() {
            let now = Instant::now();
            if now >= deadline {
                let console = self.transcript().last_lines(SHOWN_LINES);
                return Err(Error::GuestStalled { waiting_for: "the power-off".into(), console });
            }
            if now >= next_press {
                // A guest that ends at this very moment is judged below.
                let _ = self.press_power_button();
                next_press = now + PRESS_INTERVAL;
            }
            between();
        }
        self.read_to_the_end();
        if self.transcript.exit_reason.as_deref() == Some("power-button") {
            Ok(())
        } else {
            Err(self.death())
        }
    }

    /// Waits until QEMU has ended by itself.
    ///
    /// # Errors
    ///
    /// [`Error::GuestStalled`] when it has not by then.
    pub fn wait_for_end(&mut self, limit: Duration) -> Result<ExitStatus, Error> {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.exit_status() {
                self.read_to_the_end();
                return Ok(status);
            }
            if Instant::now() >= deadline {
                let console = self.transcript().last_lines(SHOWN_LINES);
                return Err(Error::GuestStalled { waiting_for: "its end".into(), console });
            }
            thread::sleep(GLANCE);
        }
    }

    /// After QEMU's end: the console lines still on their way.
    fn read_to_the_end(&mut self) {
        while let Ok((seen, line)) = self.console.recv_timeout(LAST_LINES_LIMIT) {
            self.take_line(&line, seen);
        }
    }

    /// After QEMU's end, which nobody asked for: what it was.
    pub fn death(&mut self) -> Error {
        self.read_to_the_end();
        let began = self.transcript.lines().next().is_some();
        let obituary = self.obituary();
        if began { Error::GuestDied(obituary) } else { Error::NoGuest(obituary) }
    }

    fn take_line(&mut self, line: &str, seen: Instant) {
        if self.echo_console {
            output::line(line);
        }
        self.transcript.add(line, seen);
    }

    /// What is known about the guest's end: its exception or panic in terms of the source, its last console lines, what
    /// QEMU said, how it ended.
    pub fn obituary(&mut self) -> String {
        let mut text = String::new();
        self.transcript();
        if let Some(failure) = symbols::explain(&self.unstripped, &self.transcript.failure) {
            text.push_str(&failure);
        }
        // After its end the last of them may still be on their way.
        let patience = if self.exit_status().is_some() { LAST_LINES_LIMIT } else { Duration::ZERO };
        let complaints = iter::from_fn(|| self.complaints.recv_timeout(patience).ok());
        let complaints: Vec<String> = complaints.map(|(_, line)| line).collect();
        if !complaints.is_empty() {
            text.push_str(&format!("QEMU said:\n    {}\n", complaints.join("\n    ")));
        }
        let lines = self.transcript.last_lines(SHOWN_LINES);
        if lines.is_empty() {
            text.push_str("The console is empty.\n");
        } else {
            text.push_str(&format!("Last lines of the console:\n{lines}"));
        }
        match self.transcript.exit_reason.as_deref() {
            Some(reason) => text.push_str(&format!("The guest named as the reason of its end: {reason}.\n")),
            None => text.push_str("The guest gave no reason for its end (a reset, or QEMU was killed).\n"),
        }
        if let Some(status) = self.exit_status() {
            text.push_str(&format!("QEMU ended with {status}.\n"));
        }
        text
    }

    /// Writes a line to the guest's serial input.
    ///
    /// # Errors
    ///
    /// [`Error::System`] when the guest is gone.
    pub fn type_line(&mut self, line: &str) -> Result<(), Error> {
        writeln!(self.console_input, "{line}").map_err(Error::system("cannot write to the console"))
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended already; either way it is waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads lines on a thread that ends with the stream. Bytes that are not UTF-8 are replaced.
fn read_lines(stream: impl std::io::Read + Send + 'static) -> Receiver<(Instant, String)> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::new(stream);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            let text = String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned();
            if sender.send((Instant::now(), text)).is_err() {
                return;
            }
            line.clear();
        }
    });
    receiver
}

/// Whether a process with this id runs; for tests of what must not outlive us.
#[must_use]
pub fn process_runs(id: u32) -> bool {
    // A zombie does not run any more.
    std::fs::read_to_string(Path::new("/proc").join(id.to_string()).join("stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
}
