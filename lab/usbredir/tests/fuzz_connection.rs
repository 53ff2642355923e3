//! Fuzz target of a connection with a device behind it: any bytes from a guest, before and after its hello.
//! `cargo test` runs it for a moment on random numbers; `tests/fuzz.sh` runs it under a fuzzer that follows the branches
//! taken.

use std::time::Duration;

use bolero::{TypeGenerator, produce};
use lab_usbredir::device::{Answer, Attachment, Device, Endpoint, Interface, Setup, Speed, TransferKind};
use lab_usbredir::{Body, Capabilities, Connection, Packet};

/// Answers everything, with as much as it is asked for.
#[derive(Default)]
struct Generous(u8);

impl Device for Generous {
    fn attachment(&mut self, _: Duration) -> Option<Attachment> {
        let plugged = u32::from(self.0 / 16);
        (self.0 % 16 != 7).then_some(Attachment {
            plugged,
            speed: Speed::High,
            vendor: 1,
            product: 2,
            version: 3,
        })
    }

    fn endpoints(&self) -> Vec<Endpoint> {
        [(0x81, TransferKind::Bulk), (0x02, TransferKind::Bulk), (0x83, TransferKind::Interrupt)]
            .map(|(address, kind)| Endpoint { address, kind, max_packet_size: 64, interval: 1, interface: 0 })
            .into()
    }

    fn interfaces(&self) -> Vec<Interface> {
        vec![Interface { number: 0, class: [255; 3] }; 40]
    }

    fn reset(&mut self, _: Duration) {}

    fn control(&mut self, setup: Setup, _: &[u8], _: Duration) -> Answer {
        self.0 = self.0.wrapping_add(setup.request);
        match setup.request % 8 {
            0 => Answer::Stall,
            1 => Answer::Never,
            2 => Answer::Data(vec![0; 70_000]),
            _ => Answer::Accepted(setup.length.into()),
        }
    }

    fn bulk_out(&mut self, _: u8, data: &[u8], _: Duration) -> Answer {
        Answer::Accepted(data.len())
    }

    fn bulk_in(&mut self, _: u8, limit: usize, _: Duration) -> Answer {
        match limit % 4 {
            0 => Answer::NotYet,
            1 => Answer::Never,
            _ => Answer::Data(vec![1; limit.min(5000) + 1]),
        }
    }

    fn interrupt_in(&mut self, _: u8, _: usize, _: Duration) -> Answer {
        Answer::Data(vec![0; 2])
    }

    fn next_timer(&self) -> Option<Duration> {
        None
    }
}

/// The guest's hello, if it says one.
#[derive(Clone, Copy, Debug, TypeGenerator)]
struct Hello {
    said: bool,
    capabilities: u32,
}

#[test]
fn no_bytes_of_a_guest_lead_a_connection_astray() {
    let pieces = produce::<Vec<_>>().with().values(produce::<Vec<u8>>().with().len(0..300_usize));
    let pieces = pieces.len(0..20_usize);
    bolero::check!().with_generator((produce::<Hello>(), pieces)).for_each(|(hello, pieces)| {
        let mut device = Generous::default();
        let mut connection = Connection::new("fuzz");
        if hello.said {
            let body = Body::Hello { version: String::new(), capabilities: Capabilities(hello.capabilities) };
            let mut bytes = Vec::new();
            Packet { id: 0, body }.build(&mut bytes, Capabilities::default());
            if connection.receive(&bytes, &mut device, Duration::ZERO).is_err() {
                return;
            }
        }
        for piece in pieces {
            if connection.receive(piece, &mut device, Duration::ZERO).is_err() {
                return;
            }
            connection.take_output();
        }
    });
}
