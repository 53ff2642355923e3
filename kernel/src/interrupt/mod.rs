//! Interrupts and exceptions, from the descriptor tables to the tasks that wait.
//!
//! Every vector enters on a stack of its own (see `boot/stacks.rs`): device interrupts share one, since they never
//! nest; exceptions, the non-maskable interrupt, double fault and machine check have one each.
//!
//! | module | what |
//! | --- | --- |
//! | `descriptor` | the processor's tables |
//! | `entry` | the first instructions of each vector |
//! | [`dispatch`] | from a vector to the tasks that wait for it |
//! | [`exception`] | the report of a bug |
//! | [`local_apic`], [`io_apic`] | the interrupt controllers |

pub(crate) mod descriptor;
pub mod dispatch;
mod entry;
pub mod exception;
pub mod io_apic;
pub mod local_apic;
mod pic;
