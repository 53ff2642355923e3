//! The virtual USB network adapter in real time: plugged into a guest at one end and into cables at the other.
//!
//! ```text
//! QEMU -device usb-redir  <- socket, usbredir ->  lab-usbredir  <- Device ->  lab-rtl8152  <- frames ->  cables
//! ```

use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use lab_rtl8152::descriptors::UnknownField;
use lab_rtl8152::{Adapter, Config, Disconnect, LinkSpeed};
use lab_usbredir::ProtocolError;
use lab_usbredir::serve::{End, Input, Inputs, Surroundings};
use lab_wire::{Cable, FrameReceiver, FrameSender};

use crate::output;

/// How the program names itself to QEMU.
pub const PROGRAM: &str = concat!("skiff ", env!("CARGO_PKG_VERSION"));

/// How often a thread that waits for frames looks whether it is still needed.
const GLANCE: Duration = Duration::from_millis(500);

/// What happens to the adapter besides USB.
pub enum Event {
    /// A frame on one of the cables, without frame check sequence.
    Frame(Vec<u8>),
    /// A person does something.
    Command(Command),
    /// A guest connects.
    Connected(UnixStream),
}

/// What a person can do to the adapter.
#[derive(Clone, Debug)]
pub enum Command {
    /// Pull it out.
    Unplug(Disconnect),
    /// Plug it in again.
    Plug,
    /// Pull it out and plug in another one.
    Replace(Box<Config>),
    /// Plug the network cable in, to a partner of at most this speed, or out.
    Cable(Option<LinkSpeed>),
}

/// Where register accesses are written, one a line.
pub type AccessLog = Box<dyn Write + Send>;

/// The adapter with its cables. With several cables the adapter sits at a hub with them.
pub struct Dongle {
    adapter: Adapter,
    outside: Outside,
    inputs: Inputs<Event>,
}

/// The adapter's other side.
struct Outside {
    cables: Vec<Box<dyn FrameSender>>,
    log: Option<AccessLog>,
    /// How many more violations of the protocol are reported: a guest must not fill the log.
    complaints: u32,
}

impl Surroundings<Adapter> for Outside {
    type Event = Event;

    fn event(&mut self, adapter: &mut Adapter, event: Event, now: Duration) {
        match event {
            Event::Frame(frame) => adapter.receive_frame(&frame, now),
            Event::Command(Command::Unplug(how)) => adapter.unplug(how, now),
            Event::Command(Command::Plug) => adapter.plug(now),
            Event::Command(Command::Replace(config)) => adapter.replace(*config, now),
            Event::Command(Command::Cable(partner)) => adapter.set_cable(partner, now),
            // One guest at a time: closing the socket says so.
            Event::Connected(stream) => drop(stream),
        }
    }

    fn flush(&mut self, adapter: &mut Adapter, _now: Duration) {
        while let Some(frame) = adapter.take_sent_frame() {
            for cable in &mut self.cables {
                // A far end that is gone or takes nothing loses frames, as an Ethernet does.
                let _ = cable.send_frame(&frame);
            }
        }
        if let Some(log) = &mut self.log {
            for access in adapter.take_accesses() {
                let _ = writeln!(log, "{access}");
            }
            let _ = log.flush();
        }
    }

    fn protocol_error(&mut self, error: ProtocolError) {
        if self.complaints > 0 {
            self.complaints -= 1;
            output::note(format_args!("virtual adapter: {error}"));
        }
    }
}

impl Dongle {
    /// An adapter on these cables.
    ///
    /// # Errors
    ///
    /// The fault plan names a descriptor field that does not exist.
    pub fn new(config: Config, cables: Vec<Cable>, log: Option<AccessLog>) -> Result<Self, UnknownField> {
        let mut adapter = Adapter::new(config)?;
        if log.is_some() {
            adapter.log_accesses();
        }
        let inputs = Inputs::new();
        let mut senders = Vec::new();
        for cable in cables {
            let (sender, receiver) = cable.into_halves();
            senders.push(sender);
            let to_inputs = inputs.sender();
            thread::spawn(move || forward(receiver, &to_inputs));
        }
        Ok(Self { adapter, outside: Outside { cables: senders, log, complaints: 10 }, inputs })
    }

    /// For commands and guests from other threads.
    pub fn remote(&self) -> Remote {
        Remote(self.inputs.sender())
    }

    /// Serves one guest until it leaves, then loses power.
    pub fn serve(&mut self, stream: UnixStream) -> End {
        let end = self.inputs.serve(stream, PROGRAM, &mut self.adapter, &mut self.outside);
        let now = self.inputs.now();
        self.adapter.unplug(Disconnect { away: None, as_storage: false }, now);
        self.adapter.plug(now);
        end
    }

    /// Waits for the next guest that [`Remote::connect`] brings. None: none can come any more.
    pub fn wait_for_guest(&mut self) -> Option<UnixStream> {
        loop {
            match self.inputs.wait()? {
                Event::Connected(stream) => return Some(stream),
                event => self.outside.event(&mut self.adapter, event, self.inputs.now()),
            }
        }
    }

    /// Serves the guest at the other end of a socket pair from a thread of its own, and gives that end: for
    /// `-chardev socket,fd=N`. The thread ends when the guest closes the socket.
    ///
    /// # Errors
    ///
    /// Of the system, when there are no more sockets.
    pub fn plug_into(mut self, name: &str) -> io::Result<(UnixStream, Remote)> {
        let (ours, theirs) = UnixStream::pair()?;
        let remote = self.remote();
        thread::Builder::new().name(name.to_owned()).spawn(move || self.serve(ours))?;
        Ok((theirs, remote))
    }
}

/// Commands an adapter from another thread.
#[derive(Clone)]
pub struct Remote(Sender<Input<Event>>);

impl Remote {
    /// Does this to the adapter. An adapter that is no longer served does nothing.
    pub fn command(&self, command: Command) {
        let _ = self.0.send(Input::Outside(Event::Command(command)));
    }

    /// Brings a guest; false: the adapter is gone.
    pub fn connect(&self, stream: UnixStream) -> bool {
        self.0.send(Input::Outside(Event::Connected(stream))).is_ok()
    }
}

/// Carries frames from a cable to the adapter until one of them is gone.
fn forward(mut cable: Box<dyn FrameReceiver>, inputs: &Sender<Input<Event>>) {
    loop {
        match cable.recv_frame(GLANCE) {
            Ok(Some(frame)) => {
                if inputs.send(Input::Outside(Event::Frame(frame))).is_err() {
                    return;
                }
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

/// QEMU's arguments for an adapter behind file descriptor `descriptor` as the `index`-th network card: an xHCI of its own
/// and the redirected device.
pub fn qemu_arguments(index: usize, descriptor: i32) -> Vec<String> {
    [
        "-chardev".to_owned(),
        format!("socket,id=dongle{index},fd={descriptor}"),
        "-device".to_owned(),
        format!("qemu-xhci,id=xhci{index}"),
        "-device".to_owned(),
        format!("usb-redir,chardev=dongle{index},bus=xhci{index}.0"),
    ]
    .into()
}
