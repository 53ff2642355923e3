//! Switching an adapter that shows itself as a virtual CD-ROM (0bda:8151) to what it is.
//!
//! The disc carries a driver for another system. Ejecting it, a SCSI START STOP UNIT command (SBC-3, 5.25) in a command
//! block wrapper of USB mass storage (Bulk-Only Transport 1.0, 5.1), makes the adapter disconnect and come back with its
//! Ethernet ids. One that only closes the drawer gets the vendor command that mode-switch tools send it.

use hal::time::{Clock, Duration, sleep, timeout};
use netbuf::{Memory, NetBuf};
use usb::recovery;
use usb::{Gather, Pipe, Request, Transfer, TransferError, TransferKind, UsbDevice};

use crate::error::Error;

const CLASS_MASS_STORAGE: u8 = 0x08;
/// Bulk-only mass storage reset (Bulk-Only Transport 1.0, 3.1).
const MASS_STORAGE_RESET: u8 = 0xff;

/// Bytes of a command block wrapper.
const WRAPPER_LENGTH: usize = 31;

/// START STOP UNIT with LOEJ set and START clear. Wrapper: signature, tag, no data, OUT, unit 0, six bytes of command.
#[rustfmt::skip]
const EJECT: [u8; WRAPPER_LENGTH] = [
    b'U', b'S', b'B', b'C', 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6,
    0x1b, 0, 0, 0, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// The vendor's switch command, 0xe0, which announces 192 bytes of data to the host.
#[rustfmt::skip]
const VENDOR_SWITCH: [u8; WRAPPER_LENGTH] = [
    b'U', b'S', b'B', b'C', 2, 0, 0, 0, 192, 0, 0, 0, 0x80, 0, 6,
    0xe0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// How long one transfer may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long the adapter may take to disconnect, and how often to look.
const DISCONNECT: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(100);

/// Ejects the virtual disc and waits until the adapter disconnects; it comes back as another device.
///
/// # Errors
///
/// [`Error::BadEndpoint`] when it is no mass storage device, [`Error::Usb`] when it stays what it is.
pub async fn switch_mode<D: UsbDevice, C: Clock>(
    device: &D,
    clock: &C,
    memory: &Memory,
) -> Result<(), Error> {
    match try_commands(device, clock, memory).await {
        Err(error) if error.is_gone() => Ok(()),
        other => other,
    }
}

/// Gives the error of the device that is gone when all went well.
async fn try_commands<D: UsbDevice, C: Clock>(device: &D, clock: &C, memory: &Memory) -> Result<(), Error> {
    let (configuration, interface, endpoint) = device
        .information()
        .configurations
        .iter()
        .find_map(|configuration| {
            let storage =
                configuration.default_settings().find(|setting| setting.class == CLASS_MASS_STORAGE)?;
            let endpoint = storage.endpoint(TransferKind::Bulk, false)?.address;
            Some((configuration.value, storage.number, endpoint))
        })
        .ok_or(Error::BadEndpoint("mass storage bulk OUT"))?;
    let failed = |operation| move |error| Error::Usb { operation, error };
    device
        .set_configuration(configuration)
        .await
        .map_err(failed("choosing the mass storage configuration"))?;
    let mut pipe = device.open(endpoint).map_err(failed("opening the mass storage pipe"))?;
    for command in [EJECT, VENDOR_SWITCH] {
        let sent = send(&mut pipe, clock, memory, &command).await;
        if let Err(error) = sent
            && error.is_gone()
        {
            return Err(error);
        }
        wait_for_disconnect(device, clock).await?;
        log::debug!("{}: still a virtual CD-ROM ({sent:?})", device.information());
        // The answer to the command was never asked for: start afresh (Bulk-Only Transport 1.0, 5.3.4).
        let reset = Request {
            kind: Request::CLASS | Request::INTERFACE,
            request: MASS_STORAGE_RESET,
            value: 0,
            index: interface.into(),
        };
        let _ = device.control_out(reset, &[], DEADLINE).await;
        recovery::recover(&mut pipe, clock).await.map_err(failed("resetting the mass storage pipe"))?;
    }
    Err(failed("switching the adapter from CD-ROM to Ethernet")(TransferError::TimedOut))
}

/// Sends one command; its status is not asked for.
async fn send<P: Pipe, C: Clock>(
    pipe: &mut P,
    clock: &C,
    memory: &Memory,
    command: &[u8; WRAPPER_LENGTH],
) -> Result<(), Error> {
    let failed = |error| Error::Usb { operation: "sending a mass storage command", error };
    let mut wrapper = NetBuf::alloc(memory, WRAPPER_LENGTH).map_err(|_| Error::OutOfMemory)?;
    wrapper.put(WRAPPER_LENGTH).map_err(|_| Error::OutOfMemory)?.copy_from_slice(command);
    let mut gather = Gather::new();
    gather.push_frame(wrapper);
    pipe.submit(Transfer::Out(gather)).map_err(|(error, _)| failed(error))?;
    pipe.start();
    let completion = timeout(clock, DEADLINE, core::future::poll_fn(|context| pipe.poll_completion(context)));
    match completion.await {
        Ok(completion) => completion.result.map(drop).map_err(failed),
        Err(_) => Err(failed(TransferError::TimedOut)),
    }
}

/// Gives the error of a device that is gone as soon as it is, and nothing when it stays.
async fn wait_for_disconnect<D: UsbDevice, C: Clock>(device: &D, clock: &C) -> Result<(), Error> {
    let end = clock.now() + DISCONNECT;
    let status = Request { kind: Request::STANDARD, request: Request::GET_STATUS, value: 0, index: 0 };
    while clock.now() < end {
        sleep(clock, LOOK).await;
        if let Err(error @ TransferError::Gone) = device.control_in(status, &mut [0; 2], DEADLINE).await {
            return Err(Error::Usb { operation: "waiting for the adapter to disconnect", error });
        }
    }
    Ok(())
}
