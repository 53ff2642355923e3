//! The search for network devices at the start.
//!
//! Everything that may still bring one up holds the search: the walk over the PCI bus, each USB bus until it has looked
//! at all of its ports, each adapter until its driver has come up or failed. Who lets go of it last thereby says what was
//! found, so that nobody waits for a device that is not there. What is plugged in later is used all the same.

use alloc::rc::Rc;

use super::binding::Environment;

/// A search that is not over.
pub(super) struct Search {
    pub(super) environment: &'static Environment,
}

impl Search {
    /// Begins.
    pub(super) fn begin(environment: &'static Environment) -> Rc<Self> {
        Rc::new(Self { environment })
    }
}

impl Drop for Search {
    fn drop(&mut self) {
        let interfaces = self.environment.table.entries().len();
        if interfaces == 0 {
            log::error!(
                "there is no network device that this image drives; what is plugged in later is used"
            );
        }
        (self.environment.report)(format_args!("devices interfaces={interfaces}"));
    }
}
