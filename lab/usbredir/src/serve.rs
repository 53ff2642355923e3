//! A connection in real time: one thread reads the guest's socket, one owns the device.
//!
//! Everything that can happen to the device arrives as an [`Input`] on one channel, so that the device needs no lock.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::device::Device;
use crate::error::ProtocolError;

/// What happens to a served device.
#[derive(Debug)]
pub enum Input<E> {
    /// The guest of connection number `connection` sent bytes; none: it is gone.
    Guest {
        /// Counts the connections, so that the last bytes of one are not taken for the next one's.
        connection: u64,
        /// What it sent.
        bytes: Vec<u8>,
    },
    /// Something from the device's other side.
    Outside(E),
}

/// What is on the device's other side: a network cable, a person with commands.
pub trait Surroundings<D> {
    /// What comes from there.
    type Event;

    /// Lets one such event happen to the device.
    fn event(&mut self, device: &mut D, event: Self::Event, now: Duration);

    /// Called after each turn: takes what the device has for the outside.
    fn flush(&mut self, device: &mut D, now: Duration);

    /// The guest broke the protocol; the packet was skipped.
    fn protocol_error(&mut self, error: ProtocolError);
}

/// Why [`Inputs::serve`] returned.
#[derive(Debug)]
#[non_exhaustive]
pub enum End {
    /// The guest closed the connection.
    GuestLeft,
    /// The guest broke the protocol beyond repair.
    Protocol(ProtocolError),
    /// The socket failed.
    Socket(std::io::Error),
    /// Nobody can send inputs any more.
    InputsClosed,
}

/// What a served device hears and is heard by; lives longer than one connection.
pub struct Inputs<E> {
    receiver: Receiver<Input<E>>,
    sender: Sender<Input<E>>,
    connections: u64,
    epoch: Instant,
}

impl<E: Send + 'static> Inputs<E> {
    /// A new channel, and time zero of the device's clock.
    pub fn new() -> Self {
        let (sender, receiver) = std::sync::mpsc::channel();
        Self { receiver, sender, connections: 0, epoch: Instant::now() }
    }

    /// Where events from outside are put, as [`Input::Outside`].
    pub fn sender(&self) -> Sender<Input<E>> {
        self.sender.clone()
    }

    /// The device's time.
    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Waits for the next event from outside, while nobody is connected.
    pub fn wait(&self) -> Option<E> {
        loop {
            if let Input::Outside(event) = self.receiver.recv().ok()? {
                return Some(event);
            }
        }
    }

    /// Serves `device` to the guest at the other end of `stream` until it leaves. `version` names this program to it.
    pub fn serve<D: Device>(
        &mut self,
        stream: UnixStream,
        version: &str,
        device: &mut D,
        surroundings: &mut impl Surroundings<D, Event = E>,
    ) -> End {
        let mut writer = match stream.try_clone() {
            Ok(writer) => writer,
            Err(error) => return End::Socket(error),
        };
        self.connections += 1;
        let (number, to_inputs) = (self.connections, self.sender.clone());
        let reader = thread::spawn(move || read(stream, number, &to_inputs));
        let mut connection = Connection::new(version);
        let end = self.run(&mut writer, &mut connection, device, surroundings);
        // Wakes the reader, which then ends by itself.
        let _ = writer.shutdown(std::net::Shutdown::Both);
        let _ = reader.join();
        end
    }

    fn run<D: Device>(
        &self,
        writer: &mut UnixStream,
        connection: &mut Connection,
        device: &mut D,
        surroundings: &mut impl Surroundings<D, Event = E>,
    ) -> End {
        loop {
            let now = self.now();
            connection.run(device, now);
            surroundings.flush(device, now);
            let output = connection.take_output();
            if !output.is_empty()
                && let Err(error) = writer.write_all(&output)
            {
                return End::Socket(error);
            }
            let mut next = match device.next_timer() {
                None => self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => self.receiver.recv_timeout(at.saturating_sub(self.now())),
            };
            // Takes all there is before answering, so that a burst of frames fills one transfer.
            loop {
                let now = self.now();
                match next {
                    Ok(Input::Guest { connection: from, bytes }) if from == self.connections => {
                        if bytes.is_empty() {
                            return End::GuestLeft;
                        }
                        if let Err(error) = connection.receive(&bytes, device, now) {
                            return End::Protocol(error);
                        }
                        if let Some(error) = connection.take_error() {
                            surroundings.protocol_error(error);
                        }
                    }
                    // The last words of an earlier connection.
                    Ok(Input::Guest { .. }) => {}
                    Ok(Input::Outside(event)) => surroundings.event(device, event, now),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return End::InputsClosed,
                }
                next = match self.receiver.try_recv() {
                    Ok(input) => Ok(input),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
                };
            }
        }
    }
}

impl<E: Send + 'static> Default for Inputs<E> {
    fn default() -> Self {
        Self::new()
    }
}

/// Reads until the socket closes. Ends with an input of no bytes.
fn read<E>(mut stream: UnixStream, connection: u64, inputs: &Sender<Input<E>>) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = stream.read(&mut buffer).unwrap_or(0);
        let bytes = buffer[..count].to_vec();
        if inputs.send(Input::Guest { connection, bytes }).is_err() || count == 0 {
            return;
        }
    }
}
