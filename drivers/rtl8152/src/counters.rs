//! What the driver counts about itself.

hal::counters! {
    /// Frames handed up.
    received_frames,
    /// Bytes of these frames.
    received_bytes,
    /// Receive transfers that brought something.
    rx_transfers,
    /// Receive transfers whose rest was dropped because a descriptor could not be true.
    rx_bad_aggregates,
    /// Frames dropped because the hardware found their check sequence wrong.
    rx_crc_errors,
    /// Frames dropped because there was no memory for a buffer.
    rx_dropped_no_memory,
    /// Receive transfers that ended in an error.
    rx_transfer_errors,
    /// Receive transfers not posted because no block was free.
    rx_blocks_missing,
    /// Frames sent: their transfer ended well.
    sent_frames,
    /// Transmit transfers that ended well.
    tx_transfers,
    /// Bytes of these transfers, with descriptors.
    sent_bytes,
    /// Frames dropped because they do not fit the MTU or carry an offload that the chip cannot do.
    tx_dropped_unfit,
    /// Frames dropped because there was no memory to make room for a descriptor.
    tx_dropped_no_memory,
    /// Frames lost in transfers that failed or were stopped.
    tx_dropped_lost,
    /// Transmit transfers that ended in an error.
    tx_transfer_errors,
    /// Transmit transfers that took longer than the watchdog allows.
    tx_timeouts,
    /// Times that receiving was found stuck: the hardware took frames and none arrived.
    rx_stalls,
    /// Frames whose head had to be copied because it was shared or had no headroom.
    tx_heads_copied,
    /// Doorbells: times that a pipe was told of new transfers.
    doorbells,
    /// Link events from the interrupt endpoint.
    link_events,
    /// Times the link came up.
    link_ups,
    /// Times the link went down.
    link_downs,
    /// Recovery: the interrupt endpoint was reset.
    recovery_interrupt_endpoint,
    /// Recovery, first step: data endpoints and data path were reset.
    recovery_endpoint_resets,
    /// Recovery, second step: the device was reset and brought up anew.
    recovery_device_resets,
    /// Recovery, third step: the port's power was switched off and on.
    recovery_port_power_cycles,
    /// Steps of recovery that failed themselves.
    recovery_steps_failed,
}
