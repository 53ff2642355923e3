//! What the driver counts about itself.

hal::counters! {
    /// Frames handed up.
    received_frames,
    /// Bytes of these frames.
    received_bytes,
    /// Transfers dropped because they are shorter than an Ethernet header or longer than the largest frame.
    rx_bad_length,
    /// Frames dropped because there was no memory for a buffer.
    rx_dropped_no_memory,
    /// Receive transfers that ended in an error.
    rx_transfer_errors,
    /// Receive transfers not posted because no block was free.
    rx_blocks_missing,
    /// Frames sent.
    sent_frames,
    /// Bytes of these frames.
    sent_bytes,
    /// Frames dropped because they do not fit, or want an offload.
    tx_dropped_unfit,
    /// Frames lost in transfers that failed or were stopped.
    tx_dropped_lost,
    /// Transmit transfers that ended in an error.
    tx_transfer_errors,
    /// Transmit transfers that took longer than the watchdog allows.
    tx_timeouts,
    /// Doorbells: times that a data pipe was told of new transfers.
    doorbells,
    /// Notifications taken in.
    notifications,
    /// Times the link came up.
    link_ups,
    /// Times the link went down.
    link_downs,
    /// Recovery, first step: data endpoints were reset.
    recovery_endpoint_resets,
    /// Recovery, second step: the device was reset and brought up anew.
    recovery_device_resets,
    /// Recovery, third step: the port's power was switched off and on.
    recovery_port_power_cycles,
    /// Steps of recovery that failed themselves.
    recovery_steps_failed,
}
