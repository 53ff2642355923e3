//! Random operation sequences against a plain `Vec<u8>`, with and without faults.
#![cfg(not(feature = "loom"))]

mod model;

use model::{Model, Step};
use netbuf::host::HostPages;
use proptest::collection::vec;
use proptest::prelude::*;

fn step() -> impl Strategy<Value = Step> {
    any::<[u16; 4]>().prop_map(Step::from)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn every_step_leaves_buffers_and_model_alike_and_nothing_leaks(steps in vec(step(), 1..120)) {
        let mut model = Model::new(HostPages::new(), true).expect("no faults");
        for step in &steps {
            model.run(step);
        }
        model.finish();
    }

    #[test]
    fn everything_goes_on_when_the_owner_is_gone(first in vec(step(), 1..60), second in vec(step(), 1..60)) {
        let owner = std::thread::spawn(move || {
            let mut model = Model::new(HostPages::new(), true).expect("no faults");
            for step in &first {
                model.run(step);
            }
            model
        });
        let mut model = owner.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        model.owner_is_gone();
        for step in &second {
            model.run(step);
        }
        model.finish();
    }

    #[test]
    fn a_memory_without_owner_behaves_alike(steps in vec(step(), 1..60)) {
        let mut model = Model::new(HostPages::new(), false).expect("no faults");
        for step in &steps {
            model.run(step);
        }
        model.finish();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn a_fault_at_any_object_allocation_leaves_everything_whole(steps in vec(step(), 1..40)) {
        let run = |fault: Option<u64>| {
            let pages = HostPages::new();
            if let Some(index) = fault {
                pages.fail_object(index);
            }
            if let Some(mut model) = Model::new(pages.clone(), false) {
                for step in &steps {
                    model.run(step);
                }
                model.finish();
            }
            assert_eq!(pages.live_blocks(), 0);
            pages.objects()
        };
        for index in 0..run(None) {
            run(Some(index));
        }
    }

    #[test]
    fn a_fault_at_any_page_allocation_leaves_everything_whole(steps in vec(step(), 1..60)) {
        let run = |fault: Option<u64>, for_good: bool, owned: bool| {
            let pages = HostPages::new();
            match fault {
                Some(index) if for_good => pages.fail_allocations_from(index),
                Some(index) => pages.fail_allocation(index),
                None => {}
            }
            if let Some(mut model) = Model::new(pages.clone(), owned) {
                for step in &steps {
                    model.run(step);
                }
                model.finish();
            }
            assert_eq!(pages.live_blocks(), 0);
            pages.allocations()
        };
        for owned in [true, false] {
            for index in 0..run(None, false, owned) {
                run(Some(index), false, owned);
                run(Some(index), true, owned);
            }
        }
    }
}
