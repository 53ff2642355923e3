//! A downstream port, of the root hub or of any other: what enumeration needs of it.

use core::future::poll_fn;

use crate::device::{Path, Speed};
use crate::host::{Attachment, HostController, HostError, PortStatus};

/// Something a device can be plugged into.
pub(crate) trait DownstreamPort {
    /// The name of what is plugged in here.
    fn path(&self) -> Path;

    /// How a device of this speed is reached here.
    fn attachment(&self, speed: Speed) -> Attachment;

    /// Waits until something changed since the last time, or the port is gone. The first time it waits until the port
    /// can be looked at.
    async fn changed(&self);

    /// The status; acknowledges what changed. Fails only when the port itself is gone: its hub was unplugged, or does
    /// not tell of it any more.
    async fn status(&self) -> Result<PortStatus, HostError>;

    /// Resets the port and waits until it is enabled.
    async fn reset(&self, warm: bool) -> Result<PortStatus, HostError>;

    /// Switches the port off until it is reset or replugged.
    async fn disable(&self);

    /// Switches the power; false when that cannot be done.
    async fn set_power(&self, on: bool) -> bool;
}

/// A port of the root hub.
pub(crate) struct RootPort<'h, H> {
    pub(crate) host: &'h H,
    pub(crate) port: u8,
}

impl<H: HostController> DownstreamPort for RootPort<'_, H> {
    fn path(&self) -> Path {
        Path::root(self.host.number(), self.port)
    }

    fn attachment(&self, speed: Speed) -> Attachment {
        Attachment { path: self.path(), speed, translator: None }
    }

    async fn changed(&self) {
        poll_fn(|context| self.host.poll_port_changed(self.port, context)).await;
    }

    async fn status(&self) -> Result<PortStatus, HostError> {
        Ok(self.host.port_status(self.port))
    }

    async fn reset(&self, warm: bool) -> Result<PortStatus, HostError> {
        self.host.reset_port(self.port, warm).await
    }

    async fn disable(&self) {
        self.host.disable_port(self.port);
    }

    async fn set_power(&self, on: bool) -> bool {
        self.host.set_port_power(self.port, on)
    }
}
