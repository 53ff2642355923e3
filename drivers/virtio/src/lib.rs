//! virtio-net and virtio-rng, handing over netbufs
