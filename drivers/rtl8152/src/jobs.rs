//! What takes more than one register access: link changes, inspections, recovery.
//!
//! A job runs as a future that the driver owns and polls beside its data path, so that a caller who drops the
//! future of `receive` interrupts nothing half-way. A job that stops or resets pipes takes them along and brings
//! them back with its result; meanwhile no data moves.

use alloc::boxed::Box;
use alloc::rc::Rc;
use core::future::Future;
use core::pin::Pin;

use hal::time::{Clock, Duration, sleep};
use usb::recovery::{self, Step};
use usb::{Pipes, TransferError, UsbDevice};

use crate::chip::Chip;
use crate::endpoints::Endpoints;
use crate::error::Error;
use crate::link::LinkStatus;
use crate::tally::Tally;

/// A job under way.
pub(crate) type Running<P> = Pin<Box<dyn Future<Output = Finished<P>>>>;

/// A job's end.
pub(crate) struct Finished<P> {
    /// The pipes, when the job had them and they live.
    pub pipes: Option<Pipes<P>>,
    /// What it found or did.
    pub outcome: Outcome,
}

/// What a job found or did.
pub(crate) enum Outcome {
    /// The link was looked at and served; down, or up with this status.
    Link(Result<Option<LinkStatus>, Error>),
    /// State of the link and the hardware's counters.
    Inspected(Result<(LinkStatus, Tally), Error>),
    /// The receive filter was set.
    Filtered(Result<(), Error>),
    /// The interrupt endpoint was reset.
    InterruptRecovered(Result<(), TransferError>),
    /// A step of recovery was taken; the link is down, or up and enabled.
    Recovered(Step, Result<Option<LinkStatus>, Error>),
}

/// Looks at the link and serves a change: `served` is the state that was served last.
pub(crate) fn serve_link<D, C>(
    chip: Rc<Chip<D, C>>,
    mut pipes: Pipes<D::Pipe>,
    served: Option<LinkStatus>,
) -> Running<D::Pipe>
where
    D: UsbDevice + 'static,
    C: Clock + 'static,
{
    Box::pin(async move {
        let outcome = change_link(&chip, &mut pipes, served).await;
        Finished { pipes: Some(pipes), outcome: Outcome::Link(outcome) }
    })
}

async fn change_link<D: UsbDevice, C: Clock>(
    chip: &Chip<D, C>,
    pipes: &mut Pipes<D::Pipe>,
    served: Option<LinkStatus>,
) -> Result<Option<LinkStatus>, Error> {
    let status = Some(chip.link_status().await?).filter(|status| status.is_up());
    if status.map(LinkStatus::speed) == served.map(LinkStatus::speed) {
        return Ok(status);
    }
    if served.is_some() {
        disable(chip, pipes).await?;
    }
    enable_if_up(chip).await
}

/// Starts the data path if the link is up.
async fn enable_if_up<D: UsbDevice, C: Clock>(chip: &Chip<D, C>) -> Result<Option<LinkStatus>, Error> {
    let status = chip.link_status().await?;
    if !status.is_up() {
        return Ok(None);
    }
    chip.enable(status).await?;
    Ok(Some(status))
}

/// Stops the data path: link down.
async fn disable<D: UsbDevice, C: Clock>(chip: &Chip<D, C>, pipes: &mut Pipes<D::Pipe>) -> Result<(), Error> {
    let clock = &chip.registers.clock;
    chip.stop_accepting().await?;
    recovery::empty(&mut pipes.transmit, clock).await.map_err(failed("stopping the bulk OUT pipe"))?;
    chip.drain().await?;
    recovery::empty(&mut pipes.receive, clock).await.map_err(failed("stopping the bulk IN pipe"))?;
    chip.reset_data_path().await
}

/// Reads the state of the link and the hardware's counters.
pub(crate) fn inspect<D, C>(chip: Rc<Chip<D, C>>) -> Running<D::Pipe>
where
    D: UsbDevice + 'static,
    C: Clock + 'static,
{
    Box::pin(async move {
        let outcome = async { Ok((chip.link_status().await?, chip.tally().await?)) }.await;
        Finished { pipes: None, outcome: Outcome::Inspected(outcome) }
    })
}

/// Makes the filter in `chip` the one in force.
pub(crate) fn set_filter<D, C>(chip: Rc<Chip<D, C>>) -> Running<D::Pipe>
where
    D: UsbDevice + 'static,
    C: Clock + 'static,
{
    Box::pin(async move {
        let filter = chip.filter.borrow().clone();
        let outcome = chip.configure_filter(&filter).await;
        Finished { pipes: None, outcome: Outcome::Filtered(outcome) }
    })
}

/// Resets the interrupt endpoint after a pause.
pub(crate) fn recover_interrupt<D, C>(
    chip: Rc<Chip<D, C>>,
    mut pipes: Pipes<D::Pipe>,
    pause: Duration,
) -> Running<D::Pipe>
where
    D: UsbDevice + 'static,
    C: Clock + 'static,
{
    Box::pin(async move {
        sleep(&chip.registers.clock, pause).await;
        let outcome = pipes.recover_interrupt(&chip.registers.clock).await;
        Finished { pipes: Some(pipes), outcome: Outcome::InterruptRecovered(outcome) }
    })
}

/// Takes one step of recovery after a pause.
pub(crate) fn recover<D, C>(
    chip: Rc<Chip<D, C>>,
    pipes: Option<Pipes<D::Pipe>>,
    endpoints: Endpoints,
    step: Step,
    pause: Duration,
) -> Running<D::Pipe>
where
    D: UsbDevice + 'static,
    C: Clock + 'static,
{
    Box::pin(async move {
        sleep(&chip.registers.clock, pause).await;
        let mut pipes = pipes;
        let outcome = match step {
            Step::Endpoints => reset_endpoints(&chip, pipes.as_mut()).await,
            Step::Device | Step::PortPower => {
                // The pipes die with the reset; the transfers in them are lost.
                pipes = None;
                restart(&chip, &endpoints, step).await.map(|(opened, status)| {
                    pipes = Some(opened);
                    status
                })
            }
        };
        Finished { pipes, outcome: Outcome::Recovered(step, outcome) }
    })
}

/// First step: halted endpoints come back, and the chip's data path starts afresh.
async fn reset_endpoints<D: UsbDevice, C: Clock>(
    chip: &Chip<D, C>,
    pipes: Option<&mut Pipes<D::Pipe>>,
) -> Result<Option<LinkStatus>, Error> {
    let Some(pipes) = pipes else {
        return Err(Error::Usb { operation: "resetting a data endpoint", error: TransferError::NotThere });
    };
    pipes.recover_data(&chip.registers.clock).await?;
    disable(chip, pipes).await?;
    enable_if_up(chip).await
}

/// Second and third step: the device is reset, or its power cycled, and everything done anew.
async fn restart<D: UsbDevice, C: Clock>(
    chip: &Chip<D, C>,
    endpoints: &Endpoints,
    step: Step,
) -> Result<(Pipes<D::Pipe>, Option<LinkStatus>), Error> {
    recovery::reset(&chip.registers.device, step).await?;
    let (_, pipes) = begin(chip, endpoints).await?;
    let status = enable_if_up(chip).await?;
    Ok((pipes, status))
}

/// Chooses the vendor configuration and brings the chip up; gives the station address and open pipes.
pub(crate) async fn begin<D: UsbDevice, C: Clock>(
    chip: &Chip<D, C>,
    endpoints: &Endpoints,
) -> Result<([u8; 6], Pipes<D::Pipe>), Error> {
    let device = &chip.registers.device;
    device
        .set_configuration(endpoints.configuration)
        .await
        .map_err(failed("choosing the vendor configuration"))?;
    let address = chip.bring_up().await?;
    let Endpoints { receive, transmit, interrupt, .. } = *endpoints;
    let pipes = Pipes::open(device, receive, transmit, Some(interrupt))?;
    Ok((address, pipes))
}

fn failed(operation: &'static str) -> impl Fn(TransferError) -> Error {
    move |error| Error::Usb { operation, error }
}
