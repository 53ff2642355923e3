//! What an application is given, and how it says that it is one.

use crate::command_line::Options;
use crate::time::SystemClock;

/// The machine, as an application sees it.
#[derive(Clone, Debug)]
pub struct System {
    /// What the image was told to do.
    pub options: Options,
    /// The clock.
    pub clock: SystemClock,
}

/// Makes an `async fn(kernel::System)` the application of an image. When it returns, the machine is switched off.
#[macro_export]
macro_rules! application {
    ($main:path) => {
        // The kernel is compiled before the application and finds it by this name.
        #[unsafe(no_mangle)]
        fn skiff_application(
            system: $crate::System,
        ) -> $crate::Boxed<dyn ::core::future::Future<Output = ()>> {
            $crate::boxed($main(system))
        }
    };
}
