//! A cable whose other end is a tap interface of this machine.

use std::io::{self, ErrorKind};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::cable::{Cable, FrameReceiver, FrameSender, MAXIMUM_FRAME, check_length};

impl Cable {
    /// Attaches to the tap interface `name`; it is made, for as long as the cable lives, when it does not exist and
    /// the caller may (`CAP_NET_ADMIN`). The interface is not configured: bringing it up and giving it an address is
    /// up to the caller.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::PermissionDenied`] when the caller may not use the interface, [`ErrorKind::ResourceBusy`] when
    /// another process has it.
    pub fn tap(name: &str) -> io::Result<Self> {
        // Bringing it up would need more rights than using it.
        let builder = DeviceBuilder::new().name(name).layer(Layer::L2).inherit_enable_state();
        let device = builder.build_sync()?;
        device.set_nonblocking(true)?;
        let device = Arc::new(device);
        Ok(Self::new(TapSender(Arc::clone(&device)), TapReceiver(device)))
    }
}

struct TapSender(Arc<SyncDevice>);

impl FrameSender for TapSender {
    fn send_frame(&mut self, frame: &[u8]) -> io::Result<()> {
        check_length(frame)?;
        self.0.send(frame).map(|_| ())
    }
}

struct TapReceiver(Arc<SyncDevice>);

impl FrameReceiver for TapReceiver {
    fn recv_frame(&mut self, timeout: Duration) -> io::Result<Option<Vec<u8>>> {
        let milliseconds = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
        poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], milliseconds)?;
        let mut frame = vec![0; MAXIMUM_FRAME];
        match self.0.recv(&mut frame) {
            Ok(length) => {
                frame.truncate(length);
                Ok(Some(frame))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}
