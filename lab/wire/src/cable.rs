//! Frames in, frames out: the two halves of a cable, and the cable within one process.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

/// Longest frame that any cable carries, in bytes: 64 KiB minus one, more than any jumbo frame.
pub const MAXIMUM_FRAME: usize = 0xffff;

/// The half of a cable that frames go into.
pub trait FrameSender: Send {
    /// Puts one Ethernet frame on the cable: from the destination address to the end of the payload, without the
    /// frame check sequence.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::BrokenPipe`] when the other end is gone, [`io::ErrorKind::TimedOut`] when it takes nothing
    /// any more, [`io::ErrorKind::InvalidInput`] for a frame longer than [`MAXIMUM_FRAME`].
    fn send_frame(&mut self, frame: &[u8]) -> io::Result<()>;
}

/// The half of a cable that frames come out of.
pub trait FrameReceiver: Send {
    /// Waits up to `timeout` for the next frame and returns it without its frame check sequence; `None` when none
    /// came. A `timeout` of zero only looks.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::UnexpectedEof`] when the other end is gone, [`io::ErrorKind::InvalidData`] when what
    /// arrives is not framed as it should be.
    fn recv_frame(&mut self, timeout: Duration) -> io::Result<Option<Vec<u8>>>;
}

/// One end of an Ethernet cable. [`Cable::into_halves`] lets two threads share it.
pub struct Cable {
    sender: Box<dyn FrameSender>,
    receiver: Box<dyn FrameReceiver>,
}

impl Cable {
    /// A cable of any two halves.
    pub fn new(sender: impl FrameSender + 'static, receiver: impl FrameReceiver + 'static) -> Self {
        Self { sender: Box::new(sender), receiver: Box::new(receiver) }
    }

    /// Both ends of a cable within this process.
    #[must_use]
    pub fn channel() -> (Self, Self) {
        let (to_right, from_left) = mpsc::channel();
        let (to_left, from_right) = mpsc::channel();
        (
            Self::new(ChannelSender(to_right), ChannelReceiver(from_right)),
            Self::new(ChannelSender(to_left), ChannelReceiver(from_left)),
        )
    }

    /// See [`FrameSender::send_frame`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn send_frame(&mut self, frame: &[u8]) -> io::Result<()> {
        self.sender.send_frame(frame)
    }

    /// See [`FrameReceiver::recv_frame`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn recv_frame(&mut self, timeout: Duration) -> io::Result<Option<Vec<u8>>> {
        self.receiver.recv_frame(timeout)
    }

    /// The two halves, for one thread each.
    #[must_use]
    pub fn into_halves(self) -> (Box<dyn FrameSender>, Box<dyn FrameReceiver>) {
        (self.sender, self.receiver)
    }
}

/// Refuses what no cable carries.
pub(crate) fn check_length(frame: &[u8]) -> io::Result<()> {
    if frame.len() > MAXIMUM_FRAME {
        let message = format!("a frame of {} bytes; a cable carries at most {MAXIMUM_FRAME}", frame.len());
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}

struct ChannelSender(mpsc::Sender<Vec<u8>>);

impl FrameSender for ChannelSender {
    fn send_frame(&mut self, frame: &[u8]) -> io::Result<()> {
        check_length(frame)?;
        self.0.send(frame.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

struct ChannelReceiver(mpsc::Receiver<Vec<u8>>);

impl FrameReceiver for ChannelReceiver {
    fn recv_frame(&mut self, timeout: Duration) -> io::Result<Option<Vec<u8>>> {
        match self.0.recv_timeout(timeout) {
            Ok(frame) => Ok(Some(frame)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_out_at_the_other_end_and_an_idle_cable_times_out() {
        let (mut left, mut right) = Cable::channel();
        left.send_frame(b"there").unwrap();
        right.send_frame(b"and back").unwrap();
        assert_eq!(right.recv_frame(Duration::ZERO).unwrap().unwrap(), b"there");
        assert_eq!(left.recv_frame(Duration::ZERO).unwrap().unwrap(), b"and back");
        assert!(left.recv_frame(Duration::from_millis(1)).unwrap().is_none());
    }

    #[test]
    fn an_unplugged_end_is_told_apart_from_an_idle_one() {
        let (mut left, right) = Cable::channel();
        drop(right);
        assert_eq!(left.recv_frame(Duration::ZERO).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(left.send_frame(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn an_oversized_frame_is_refused() {
        let (mut left, _right) = Cable::channel();
        let error = left.send_frame(&vec![0; MAXIMUM_FRAME + 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
