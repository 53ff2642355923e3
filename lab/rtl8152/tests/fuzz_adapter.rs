//! Fuzz target of the adapter: any transfers and any frames, to any version, with the receiver on or not. `cargo test`
//! runs it for a moment on random numbers; `tests/fuzz.sh` runs it under a fuzzer that follows the branches taken.

use std::time::Duration;

use bolero::{TypeGenerator, produce};
use lab_rtl8152::{Adapter, Config, VERSIONS};
use lab_usbredir::{Answer, Device, Setup};

/// The adapter.
#[derive(Clone, Copy, Debug, TypeGenerator)]
struct Start {
    version: u8,
    storage_first: bool,
    /// Configured, and its receiver on.
    up: bool,
}

#[derive(Clone, Debug, TypeGenerator)]
enum Step {
    Control {
        request_type: u8,
        request: u8,
        value: u16,
        index: u16,
        #[generator(produce::<Vec<u8>>().with().len(0..80_usize))]
        data: Vec<u8>,
    },
    Register {
        write: bool,
        pla: bool,
        address: u16,
        enables: u8,
        value: u32,
    },
    Out(#[generator(produce::<Vec<u8>>().with().len(0..400_usize))] Vec<u8>),
    Packet {
        options: [u32; 2],
        #[generator(produce::<Vec<u8>>().with().len(0..1600_usize))]
        frame: Vec<u8>,
    },
    In(u16),
    Interrupt,
    Frame(#[generator(produce::<Vec<u8>>().with().len(0..1600_usize))] Vec<u8>),
    Wait(u16),
    Reset,
}

fn register(adapter: &mut Adapter, write: bool, index: u16, address: u16, value: u32, now: Duration) {
    let request_type = if write { 0x40 } else { 0xc0 };
    let setup = Setup { request_type, request: 5, value: address & !3, index, length: 4 };
    let data = value.to_le_bytes();
    adapter.control(setup, if write { &data } else { &[] }, now);
}

fn take(adapter: &mut Adapter, step: &Step, now: &mut Duration) {
    match step {
        Step::Control { request_type, request, value, index, data } => {
            let length = data.len() as u16;
            let setup = Setup {
                request_type: *request_type,
                request: *request,
                value: *value,
                index: *index,
                length,
            };
            if let Answer::Data(answer) = adapter.control(setup, data, *now) {
                assert!(answer.len() <= data.len());
            }
        }
        Step::Register { write, pla, address, enables, value } => {
            let index = u16::from(*pla) << 8 | u16::from(*enables);
            register(adapter, *write, index, *address, *value, *now);
        }
        Step::Out(data) => {
            adapter.bulk_out(0x02, data, *now);
        }
        Step::Packet { options, frame } => {
            let mut data = (options[0] & !0x3ffff | 3 << 30 | frame.len() as u32).to_le_bytes().to_vec();
            data.extend(options[1].to_le_bytes());
            data.extend(frame);
            adapter.bulk_out(0x02, &data, *now);
        }
        Step::In(limit) => {
            if let Answer::Data(answer) = adapter.bulk_in(0x81, (*limit).into(), *now) {
                assert!(answer.len() <= usize::from(*limit));
            }
        }
        Step::Interrupt => {
            adapter.interrupt_in(0x83, 2, *now);
        }
        Step::Frame(frame) => adapter.receive_frame(frame, *now),
        Step::Wait(microseconds) => *now += Duration::from_micros((*microseconds).into()),
        Step::Reset => adapter.reset(*now),
    }
}

#[test]
fn no_transfer_and_no_frame_leads_the_adapter_astray() {
    let steps = produce::<Vec<Step>>().with().len(0..40_usize);
    bolero::check!().with_generator((produce::<Start>(), steps)).for_each(|(start, steps)| {
        let version = VERSIONS[usize::from(start.version) % VERSIONS.len()];
        let config = Config { storage_first: start.storage_first, ..Config::new(version) };
        let Ok(mut adapter) = Adapter::new(config) else { panic!("{version} has no such configuration") };
        let mut now = Duration::from_millis(100);
        if start.up {
            let setup = Setup { request_type: 0, request: 9, value: 1, index: 0, length: 0 };
            adapter.control(setup, &[], now);
            for (address, value) in [(0xc010, 0xf), (0xc014, 0x3fff_0000), (0xe810, 0x0c00_0000)] {
                register(&mut adapter, true, 0x01ff, address, value, now);
            }
        }
        for step in steps {
            take(&mut adapter, step, &mut now);
            while adapter.take_sent_frame().is_some() {}
            // What is asked for next lies ahead, or whoever serves the adapter would spin.
            adapter.attachment(now);
            assert!(adapter.next_timer().is_none_or(|at| at > now));
        }
    });
}
