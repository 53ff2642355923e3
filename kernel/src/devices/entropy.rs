//! Random bytes: from the processor, or from a device that the binding found.

use alloc::boxed::Box;
use core::arch::asm;
use core::arch::x86_64::__cpuid;

use hal::entropy::{Entropy, NoEntropy};
use spin::Once;

/// A device that gives random bytes.
static DEVICE: Once<Box<dyn Entropy + Send + Sync>> = Once::new();

/// RDRAND may run dry for a moment (Intel SDM volume 1, 7.3.17.1 advises ten tries).
const TRIES: usize = 10;

/// The machine's source of random bytes: RDRAND and, if there is one, virtio-rng, mixed, so that either is enough.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEntropy;

/// Adds a device; only the first one is used.
pub fn add_device(device: Box<dyn Entropy + Send + Sync>) {
    DEVICE.call_once(|| device);
}

fn has_rdrand() -> bool {
    const RDRAND: u32 = 1 << 30;
    __cpuid(1).ecx & RDRAND != 0
}

/// Eight bytes of the processor's generator.
fn rdrand() -> Option<u64> {
    (0..TRIES).find_map(|_| {
        let (value, valid): (u64, u8);
        // SAFETY: the caller checked that the processor has the instruction.
        unsafe {
            asm!("rdrand {}", "setc {}", out(reg) value, out(reg_byte) valid, options(nomem, nostack));
        }
        (valid != 0).then_some(value)
    })
}

impl SystemEntropy {
    /// Eight random bytes.
    ///
    /// # Errors
    ///
    /// [`NoEntropy`].
    pub fn next_u64(&self) -> Result<u64, NoEntropy> {
        let mut bytes = [0; 8];
        self.fill(&mut bytes)?;
        Ok(u64::from_ne_bytes(bytes))
    }
}

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        let from_device = DEVICE.get().is_some_and(|device| device.fill(bytes).is_ok());
        if !from_device {
            bytes.fill(0);
        }
        let mut from_processor = has_rdrand();
        if from_processor {
            for chunk in bytes.chunks_mut(8) {
                let Some(value) = rdrand() else {
                    from_processor = false;
                    break;
                };
                chunk.iter_mut().zip(value.to_ne_bytes()).for_each(|(byte, random)| *byte ^= random);
            }
        }
        if from_device || from_processor { Ok(()) } else { Err(NoEntropy) }
    }
}
