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

/// A device that something besides USB happens to: frames from a cable, commands.
pub trait Served: Device {
    /// What comes from outside.
    type Event;

    /// Takes one such event.
    fn outside(&mut self, event: Self::Event, now: Duration);

    /// Called after each turn: hand on what the device has for the outside.
    fn flush(&mut self, now: Duration);
}

/// Why [`serve`] returned.
#[derive(Debug)]
#[non_exhaustive]
pub enum End {
    /// The guest closed the connection.
    GuestLeft,
    /// The guest broke the protocol beyond repair.
    Protocol(crate::ProtocolError),
    /// The socket failed.
    Socket(std::io::Error),
    /// Nobody can send inputs any more.
    InputsClosed,
}

/// Serves `device` to the guest at the other end of `stream` until it leaves. `epoch` is time zero of the device's
/// clock, `number` tells this connection from others on the same `inputs`.
pub fn serve<D: Served>(
    stream: UnixStream,
    number: u64,
    version: &str,
    device: &mut D,
    inputs: &Receiver<Input<D::Event>>,
    to_inputs: Sender<Input<D::Event>>,
    epoch: Instant,
) -> End
where
    D::Event: Send + 'static,
{
    let mut writer = match stream.try_clone() {
        Ok(writer) => writer,
        Err(error) => return End::Socket(error),
    };
    let reader = thread::spawn(move || read(stream, number, &to_inputs));
    let mut connection = Connection::new(version);
    let end = run(&mut writer, number, &mut connection, device, inputs, epoch);
    // Wakes the reader, which then ends by itself.
    let _ = writer.shutdown(std::net::Shutdown::Both);
    let _ = reader.join();
    end
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

fn run<D: Served>(
    writer: &mut UnixStream,
    number: u64,
    connection: &mut Connection,
    device: &mut D,
    inputs: &Receiver<Input<D::Event>>,
    epoch: Instant,
) -> End {
    loop {
        let now = epoch.elapsed();
        connection.run(device, now);
        device.flush(now);
        let output = connection.take_output();
        if !output.is_empty()
            && let Err(error) = writer.write_all(&output)
        {
            return End::Socket(error);
        }
        let mut next = match device.next_timer() {
            None => inputs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => inputs.recv_timeout(at.saturating_sub(epoch.elapsed())),
        };
        // Takes all there is before answering, so that a burst of frames fills one transfer.
        loop {
            let now = epoch.elapsed();
            match next {
                Ok(Input::Guest { connection: from, bytes }) if from == number => {
                    if bytes.is_empty() {
                        return End::GuestLeft;
                    }
                    if let Err(error) = connection.receive(&bytes, device, now) {
                        return End::Protocol(error);
                    }
                }
                // The last words of an earlier connection.
                Ok(Input::Guest { .. }) => {}
                Ok(Input::Outside(event)) => device.outside(event, now),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return End::InputsClosed,
            }
            next = match inputs.try_recv() {
                Ok(input) => Ok(input),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
            };
        }
    }
}
