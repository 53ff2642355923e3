//! Virtual adapters that fail, and what a station must come through with whichever driver.

use hal::time::{Duration, sleep};
use lab_rtl8152::{Action, Config, Counted, Disconnect, Fault, FaultPlan, Trigger, Version};

use crate::adapter_world::{Diary, World};

/// More than all deadlines of one recovery together.
pub const LIMIT: Duration = Duration::from_secs(600);

/// An adapter with the chip of this name.
///
/// # Panics
///
/// When the model does not know it.
#[must_use]
pub fn adapter(name: &str) -> Config {
    Config::new(Version::find(name).unwrap_or_else(|| panic!("the model knows no {name}")))
}

/// An adapter that suffers what this plan says (`lab_rtl8152`, `FaultPlan`).
///
/// # Panics
///
/// When the plan is not understood.
#[must_use]
pub fn planned(name: &str, plan: &str) -> Config {
    let faults = plan.parse().unwrap_or_else(|error| panic!("{error}"));
    Config { faults, ..adapter(name) }
}

/// An adapter that something happens to.
#[must_use]
pub fn faulty(name: &str, trigger: Trigger, action: Action) -> Config {
    Config { faults: FaultPlan { faults: vec![Fault { trigger, action }] }, ..adapter(name) }
}

/// An adapter that suffers the same at each of these transfers.
#[must_use]
pub fn faulty_at(name: &str, kind: Counted, numbers: impl Iterator<Item = u64>, action: &Action) -> Config {
    let fault = |number| Fault { trigger: Trigger::Nth(kind, number), action: action.clone() };
    Config { faults: FaultPlan { faults: numbers.map(fault).collect() }, ..adapter(name) }
}

/// Unplugged, and plugged in again after so long.
#[must_use]
pub fn away(milliseconds: u64) -> Disconnect {
    Disconnect { away: Some(Duration::from_millis(milliseconds)), as_storage: false }
}

/// However it went until now: in the end frames come back, if need be after a replug.
pub async fn works_in_the_end(world: &World) {
    let patience = world.socket.now() + Duration::from_secs(60);
    while world.socket.now() < patience {
        if world.exchange(&world.frame(99, 99), Duration::from_millis(200)).await {
            return;
        }
    }
    world.socket.with(|adapter, now| adapter.unplug(away(100), now));
    world.echo_works().await;
}

/// Waits for the first failure in the diary, and gives it.
pub async fn failure(world: &World) -> String {
    loop {
        if let Some(first) = world.diary.borrow().failures.first() {
            return first.clone();
        }
        sleep(&*world.clock, Duration::from_millis(100)).await;
    }
}

/// Sends until the driver gives up because transmit transfers hang, and checks that it tried every step once before.
///
/// # Panics
///
/// When it did not.
pub fn climb_the_ladder(world: World) {
    let diary = send_until_failure(world);
    assert_eq!(diary.failures[0], "the device failed and could not be recovered");
    assert_eq!((recovery_steps(&diary), diary.counter("tx_timeouts")), ([1, 1, 1], 4), "{diary:?}");
}

/// How often each step of recovery was taken, the first one first.
#[must_use]
pub fn recovery_steps(diary: &Diary) -> [u64; 3] {
    ["recovery_endpoint_resets", "recovery_device_resets", "recovery_port_power_cycles"]
        .map(|name| diary.counter(name))
}

/// Sends frame after frame until the driver gives up.
#[must_use]
pub fn send_until_failure(world: World) -> Diary {
    world.run(LIMIT, async {
        while world.diary.borrow().failures.is_empty() {
            world.exchange(&world.frame(7, 70), Duration::from_millis(100)).await;
        }
    });
    world.close()
}
