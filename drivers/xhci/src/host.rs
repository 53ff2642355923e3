//! The controller as the USB core sees it: root ports and new slots (xHCI 1.2, 4.3 and 4.19).

use core::task::{Context, Poll};

use hal::mmio::Mmio;
use hal::time::{Clock, Duration, timeout};
use usb::host::{Attachment, HostController, HostError, PortStatus};

use crate::controller::Controller;
use crate::extended::default_speed_id;
use crate::regs::portsc;
use crate::slot::Slot;

impl<M: Mmio, C: Clock> Controller<M, C> {
    /// What PORTSC says, without acknowledging anything.
    fn look_at_port(&self, port: u8) -> PortStatus {
        let raw = self.shared.registers.portsc(port);
        if raw == u32::MAX || !self.shared.alive.get() {
            return PortStatus { connection_changed: true, raw, ..PortStatus::default() };
        }
        let protocol = self.shared.protocols.get(usize::from(port).wrapping_sub(1));
        let superspeed = protocol.is_some_and(|protocol| protocol.major >= 3);
        let state = portsc::link_state(raw);
        let connected = raw & portsc::CCS != 0;
        let cold_attached = raw & portsc::CAS != 0;
        let broken_link = matches!(state, portsc::INACTIVE | portsc::COMPLIANCE);
        PortStatus {
            connected: connected || superspeed && cold_attached,
            connection_changed: raw & portsc::CSC != 0,
            enabled: raw & portsc::PED != 0,
            over_current: raw & portsc::OCA != 0,
            wants_warm_reset: superspeed && (cold_attached || broken_link),
            training: superspeed && state == portsc::POLLING,
            speed: protocol.and_then(|protocol| protocol.speed(portsc::speed(raw))),
            raw,
        }
    }
}

impl<M: Mmio, C: Clock> HostController for Controller<M, C> {
    type Slot = Slot<M, C>;

    fn number(&self) -> u8 {
        self.shared.number
    }

    fn ports(&self) -> u8 {
        self.shared.registers.capabilities.ports
    }

    fn port_status(&self, port: u8) -> PortStatus {
        let status = self.look_at_port(port);
        if status.raw != u32::MAX && status.raw & portsc::CHANGES != 0 {
            self.shared.registers.act_on_port(port, status.raw, status.raw & portsc::CHANGES);
        }
        status
    }

    fn poll_port_changed(&self, port: u8, context: &mut Context<'_>) -> Poll<()> {
        let Some(latch) = self.shared.ports.get(usize::from(port).wrapping_sub(1)) else {
            return Poll::Pending;
        };
        if latch.changed.replace(false) {
            return Poll::Ready(());
        }
        latch.waiters.register(context);
        Poll::Pending
    }

    async fn reset_port(&self, port: u8, warm: bool) -> Result<PortStatus, HostError> {
        let shared = &self.shared;
        let latch = shared.ports.get(usize::from(port).wrapping_sub(1));
        let latch = latch.ok_or(HostError::PortReset { status: 0 })?;
        if !shared.alive.get() {
            return Err(HostError::ControllerDied);
        }
        let current = shared.registers.portsc(port);
        let action = if warm { portsc::WPR } else { portsc::PR };
        shared.registers.act_on_port(port, current, action | portsc::PRC | portsc::WRC);
        let end = shared.clock.now() + shared.config.port_reset_deadline;
        // A port status change event ends the reset (4.19.5); its loss costs one step.
        const STEP: Duration = Duration::from_millis(50);
        while shared.alive.get() {
            let raw = shared.registers.portsc(port);
            let done = raw & portsc::PR == 0 && raw & (portsc::PRC | portsc::WRC) != 0;
            let out_of_time = shared.clock.now() >= end;
            if done || out_of_time || raw == u32::MAX {
                let status = self.look_at_port(port);
                let usable = done && status.enabled && status.connected;
                // A failed reset leaves the connection change for `port_status` to see. After a good one it means
                // nothing any more, and while it stood the port would announce no other change (4.19.2).
                let seen = raw & if usable { portsc::CHANGES } else { portsc::PRC | portsc::WRC };
                shared.registers.act_on_port(port, raw, seen);
                return if usable { Ok(status) } else { Err(HostError::PortReset { status: raw }) };
            }
            let changed = latch.waiters.wait(|| latch.changed.replace(false).then_some(()));
            let _ = timeout(&shared.clock, STEP, changed).await;
        }
        Err(HostError::ControllerDied)
    }

    fn disable_port(&self, port: u8) {
        let raw = self.shared.registers.portsc(port);
        if self.shared.alive.get() && raw & portsc::PED != 0 {
            self.shared.registers.act_on_port(port, raw, portsc::PED);
        }
    }

    fn set_port_power(&self, port: u8, on: bool) -> bool {
        let switchable = self.shared.registers.capabilities.port_power && self.shared.alive.get();
        if switchable {
            self.shared.registers.set_port_power(port, on);
        }
        switchable
    }

    async fn enable_slot(&self, attachment: Attachment) -> Result<Self::Slot, HostError> {
        let ports = attachment.path.ports();
        // At a root port the controller's own speed id, behind a hub the default one (6.2.2).
        let speed_id = match ports {
            [port] => portsc::speed(self.shared.registers.portsc(*port)),
            _ => default_speed_id(attachment.speed),
        };
        let cell = self.shared.new_slot(attachment, speed_id).await?;
        Ok(Slot { shared: self.shared.clone(), cell })
    }
}
