//! The three pipes of an adapter.

use usb::{Pipe, UsbDevice};

use crate::endpoints::Endpoints;
use crate::error::Error;

/// Open pipes of the vendor interface.
#[derive(Debug)]
pub(crate) struct Pipes<P> {
    pub receive: P,
    pub transmit: P,
    pub interrupt: P,
}

impl<P: Pipe> Pipes<P> {
    /// Opens all three.
    pub fn open<D: UsbDevice<Pipe = P>>(device: &D, endpoints: &Endpoints) -> Result<Self, Error> {
        let open =
            |endpoint, operation| device.open(endpoint).map_err(|error| Error::Usb { operation, error });
        Ok(Self {
            receive: open(endpoints.receive, "opening the bulk IN pipe")?,
            transmit: open(endpoints.transmit, "opening the bulk OUT pipe")?,
            interrupt: open(endpoints.interrupt, "opening the interrupt IN pipe")?,
        })
    }
}
