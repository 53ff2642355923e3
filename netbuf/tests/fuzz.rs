//! Fuzz targets. `cargo test` runs them for a moment on random numbers; `tests/fuzz.sh` runs them under a fuzzer that
//! follows the branches taken.
#![cfg(not(feature = "loom"))]

mod model;

use bolero::TypeGenerator;
use model::{Model, Step};
use netbuf::host::HostPages;
use netbuf::{Block, Error, Memory, NetBuf, ReceivePattern, Zone};

/// How a sequence runs.
#[derive(Clone, Copy, Debug, TypeGenerator)]
struct Surroundings {
    owned: bool,
    /// The page source refuses this allocation.
    fault: Option<u8>,
    /// From this step on another thread goes on.
    leave: Option<u8>,
}

#[test]
fn sequences_leave_buffers_and_model_alike_and_nothing_leaks() {
    let steps = bolero::generator::produce::<Vec<[u16; 4]>>().with().len(0..150_usize);
    bolero::check!().with_generator((bolero::generator::produce::<Surroundings>(), steps)).for_each(
        |(surroundings, steps)| {
            let pages = HostPages::new();
            if let Some(index) = surroundings.fault {
                pages.fail_allocation(index.into());
            }
            let Some(mut model) = Model::new(pages, surroundings.owned) else { return };
            let leave = surroundings.leave.map_or(steps.len(), |index| steps.len().min(index.into()));
            let (here, there) = steps.split_at(leave);
            for numbers in here {
                model.run(&Step::from(*numbers));
            }
            if there.is_empty() {
                return model.finish();
            }
            model.owner_is_gone();
            std::thread::scope(|scope| {
                let other = scope.spawn(move || {
                    for numbers in there {
                        model.run(&Step::from(*numbers));
                    }
                    model.finish();
                });
                other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            });
        },
    );
}

/// Where a packet lies in a block, as a device says it, and what a driver was configured to.
#[derive(Clone, Debug, TypeGenerator)]
struct Received {
    /// As it is, or reduced to about the block's length.
    reduce: bool,
    offset: usize,
    len: usize,
    head_len: usize,
    copybreak: usize,
    truesize: Option<usize>,
    bytes: [u8; 16],
}

#[test]
fn no_offset_and_length_of_a_device_reaches_outside_the_block() {
    bolero::check!().with_type::<Received>().for_each(|received| {
        let pages = HostPages::new();
        let memory = Memory::new(pages.clone()).expect("no faults");
        let mut block = Block::alloc(&memory, 2, Zone::Dma32).expect("no faults");
        for (place, byte) in block.bytes_mut().iter_mut().zip(received.bytes.iter().cycle()) {
            *place = *byte;
        }
        let block = block.share();
        let about = |number: usize| if received.reduce { number % (block.len() + 2) } else { number };
        let (offset, len) = (about(received.offset), about(received.len));
        let pattern = ReceivePattern {
            head_len: about(received.head_len),
            copybreak: about(received.copybreak),
            truesize: received.truesize,
        };
        let fits = offset.checked_add(len).is_some_and(|end| end <= block.len());
        match NetBuf::receive(&memory, &block, offset, len, &pattern) {
            Ok(buffer) => {
                assert!(fits);
                let head_len = if len <= pattern.copybreak { len } else { len.min(pattern.head_len) };
                assert_eq!((buffer.len(), buffer.head_len()), (len, head_len));
                let expected = &block.bytes()[offset..offset + len];
                assert!(buffer.pieces().flatten().eq(expected));
                let frags = u32::from(head_len != len);
                assert_eq!(block.references(), 1 + frags);
                if frags != 0 {
                    let at_least = pattern.truesize.unwrap_or(len - head_len).min(1 << 31);
                    assert!(buffer.truesize() >= at_least);
                    assert_eq!(buffer.frag(0).map(<[u8]>::len), Some(len - head_len));
                }
            }
            Err(Error::OutsideBlock { block_len, .. }) => assert!(!fits && block_len == block.len()),
            Err(error) => panic!("{error}"),
        }
        // And the same device fills a linear buffer, or says that it did.
        let mut linear = NetBuf::rx_alloc(&memory, 2048).expect("no faults");
        assert_eq!(linear.put_received(len).is_ok(), len <= 2048);
        drop((block, linear));
        drop(memory);
        assert_eq!(pages.live_blocks(), 0);
    });
}
