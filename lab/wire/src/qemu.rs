//! Cables whose other end is QEMU.
//!
//! On a stream (`-netdev stream`, or `-netdev socket` before QEMU 7.2) each frame is preceded by its length as a
//! 32-bit big-endian number. On a datagram socket (`-netdev dgram`) each datagram is one frame.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

use crate::cable::{Cable, FrameReceiver, FrameSender, MAXIMUM_FRAME, check_length};

/// How long a guest may take nothing off a full socket before sending fails: it has most likely stopped.
const STALL_LIMIT: Duration = Duration::from_secs(20);

/// Bytes of a length prefix.
const PREFIX: usize = 4;

impl Cable {
    /// A cable into QEMU over a connected stream socket.
    ///
    /// # Errors
    ///
    /// Of the system, when the socket cannot be set up.
    pub fn qemu_stream(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_write_timeout(Some(STALL_LIMIT))?;
        let receiver =
            StreamReceiver { timeout: ReadTimeout::new(socket.try_clone()?), splitter: Splitter::new() };
        Ok(Self::new(StreamSender { socket, pending: Vec::new() }, receiver))
    }

    /// A cable into QEMU over a connected datagram socket.
    ///
    /// # Errors
    ///
    /// Of the system, when the socket cannot be set up.
    pub fn qemu_datagram(socket: UnixDatagram) -> io::Result<Self> {
        socket.set_nonblocking(false)?;
        socket.set_write_timeout(Some(STALL_LIMIT))?;
        let receiver = DatagramReceiver(ReadTimeout::new(socket.try_clone()?));
        Ok(Self::new(DatagramSender(socket), receiver))
    }
}

/// Sockets take their time-out as a setting; it is changed only when it differs.
trait SetReadTimeout {
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()>;
}

impl SetReadTimeout for UnixStream {
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        UnixStream::set_read_timeout(self, timeout)
    }
}

impl SetReadTimeout for UnixDatagram {
    fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        UnixDatagram::set_read_timeout(self, timeout)
    }
}

struct ReadTimeout<Socket> {
    socket: Socket,
    current: Option<Duration>,
}

impl<Socket: SetReadTimeout> ReadTimeout<Socket> {
    fn new(socket: Socket) -> Self {
        Self { socket, current: None }
    }

    fn socket(&mut self, timeout: Duration) -> io::Result<&mut Socket> {
        // The system reads zero as "for ever".
        let timeout = timeout.max(Duration::from_micros(1));
        if self.current != Some(timeout) {
            self.socket.set_read_timeout(Some(timeout))?;
            self.current = Some(timeout);
        }
        Ok(&mut self.socket)
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

struct StreamSender {
    socket: UnixStream,
    /// The rest of a frame that the socket did not take: it must go first, or the framing is lost.
    pending: Vec<u8>,
}

impl StreamSender {
    fn flush(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            match self.socket.write(&self.pending) {
                Ok(0) => return Err(ErrorKind::BrokenPipe.into()),
                Ok(written) => drop(self.pending.drain(..written)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_timeout(&error) => {
                    return Err(io::Error::new(
                        ErrorKind::TimedOut,
                        format!("the guest took no frame for {} s", STALL_LIMIT.as_secs()),
                    ));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl FrameSender for StreamSender {
    fn send_frame(&mut self, frame: &[u8]) -> io::Result<()> {
        check_length(frame)?;
        self.flush()?;
        let length = u32::try_from(frame.len()).map_err(|_| ErrorKind::InvalidInput)?;
        self.pending.extend_from_slice(&length.to_be_bytes());
        self.pending.extend_from_slice(frame);
        self.flush()
    }
}

/// Cuts a stream of bytes into frames.
struct Splitter {
    bytes: Vec<u8>,
    start: usize,
}

impl Splitter {
    fn new() -> Self {
        Self { bytes: Vec::new(), start: 0 }
    }

    fn push(&mut self, more: &[u8]) {
        if self.start > 0 {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(more);
    }

    /// The next whole frame, if it is there.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let unread = &self.bytes[self.start..];
        let Some((prefix, rest)) = unread.split_first_chunk::<PREFIX>() else { return Ok(None) };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > MAXIMUM_FRAME {
            let message = format!("a length prefix of {length} bytes: the stream is out of step");
            return Err(io::Error::new(ErrorKind::InvalidData, message));
        }
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        let frame = frame.to_vec();
        self.start += PREFIX + length;
        Ok(Some(frame))
    }
}

struct StreamReceiver {
    timeout: ReadTimeout<UnixStream>,
    splitter: Splitter,
}

impl FrameReceiver for StreamReceiver {
    fn recv_frame(&mut self, timeout: Duration) -> io::Result<Option<Vec<u8>>> {
        let deadline = Instant::now() + timeout;
        let mut chunk = [0; 65536];
        loop {
            if let Some(frame) = self.splitter.next()? {
                return Ok(Some(frame));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match self.timeout.socket(left)?.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.splitter.push(&chunk[..length]),
                Err(error) if is_timeout(&error) => {
                    if left.is_zero() || Instant::now() >= deadline {
                        return Ok(None);
                    }
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
                Err(error) => return Err(error),
            }
        }
    }
}

struct DatagramSender(UnixDatagram);

impl FrameSender for DatagramSender {
    fn send_frame(&mut self, frame: &[u8]) -> io::Result<()> {
        check_length(frame)?;
        self.0.send(frame).map(|_| ())
    }
}

struct DatagramReceiver(ReadTimeout<UnixDatagram>);

impl FrameReceiver for DatagramReceiver {
    fn recv_frame(&mut self, timeout: Duration) -> io::Result<Option<Vec<u8>>> {
        let mut frame = vec![0; MAXIMUM_FRAME];
        match self.0.socket(timeout)?.recv(&mut frame) {
            Ok(length) => {
                frame.truncate(length);
                Ok(Some(frame))
            }
            Err(error) if is_timeout(&error) => Ok(None),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(ErrorKind::UnexpectedEof.into()),
            Err(error) => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn frames_are_preceded_by_their_length_in_big_endian() {
        let (ours, mut qemu) = UnixStream::pair().unwrap();
        Cable::qemu_stream(ours).unwrap().send_frame(b"abcde").unwrap();
        let mut bytes = [0; 9];
        qemu.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"\0\0\0\x05abcde");
    }

    #[test]
    fn a_frame_that_arrives_in_pieces_comes_out_whole() {
        let (ours, mut qemu) = UnixStream::pair().unwrap();
        let mut cable = Cable::qemu_stream(ours).unwrap();
        qemu.write_all(b"\0\0").unwrap();
        assert!(cable.recv_frame(Duration::from_millis(1)).unwrap().is_none());
        qemu.write_all(b"\0\x03a").unwrap();
        assert!(cable.recv_frame(Duration::from_millis(1)).unwrap().is_none());
        qemu.write_all(b"bc\0\0\0\x01d").unwrap();
        assert_eq!(cable.recv_frame(Duration::from_secs(1)).unwrap().unwrap(), b"abc");
        assert_eq!(cable.recv_frame(Duration::from_secs(1)).unwrap().unwrap(), b"d");
        drop(qemu);
        assert_eq!(cable.recv_frame(Duration::ZERO).unwrap_err().kind(), ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_datagram_is_a_frame() {
        let (ours, qemu) = UnixDatagram::pair().unwrap();
        let mut cable = Cable::qemu_datagram(ours).unwrap();
        qemu.send(b"frame").unwrap();
        assert_eq!(cable.recv_frame(Duration::from_secs(1)).unwrap().unwrap(), b"frame");
        cable.send_frame(b"answer").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(qemu.recv(&mut buffer).unwrap(), 6);
    }

    #[test]
    fn a_stream_out_of_step_is_an_error_and_not_a_huge_allocation() {
        let mut splitter = Splitter::new();
        splitter.push(&[0xff; 8]);
        assert_eq!(splitter.next().unwrap_err().kind(), ErrorKind::InvalidData);
    }

    proptest! {
        #[test]
        fn any_frames_cut_anywhere_come_out_as_they_went_in(
            frames in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 0..20),
            cut in 1_usize..100,
        ) {
            let mut stream = Vec::new();
            for frame in &frames {
                stream.extend_from_slice(&u32::try_from(frame.len()).unwrap().to_be_bytes());
                stream.extend_from_slice(frame);
            }
            let mut splitter = Splitter::new();
            let mut seen = Vec::new();
            for piece in stream.chunks(cut) {
                splitter.push(piece);
                while let Some(frame) = splitter.next().unwrap() {
                    seen.push(frame);
                }
            }
            prop_assert_eq!(seen, frames);
        }
    }
}
