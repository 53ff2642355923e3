//! What the shared info says of the packet as a whole: how to cut it into segments, and when the hardware saw it.
//! Clones share it with the head.

use super::NetBuf;
use crate::error::Shared;

/// How a device must cut a packet that is larger than the link takes (`gso_size`, `gso_segs`, `gso_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// Payload bytes of each segment but the last.
    pub size: u16,
    /// Segments that the packet becomes.
    pub count: u16,
    /// Which protocol's rules to follow: a number that drivers and the network layer agree on.
    pub kind: u16,
}

/// What the shared info says of the packet as a whole.
impl NetBuf {
    /// How the packet must be cut into segments; `None`: not at all.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// assert_eq!(netbuf::NetBuf::alloc(&memory, 64)?.segmentation(), None);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[must_use]
    pub fn segmentation(&self) -> Option<Segmentation> {
        let info = self.shared_info();
        let fields = info.fields();
        (fields.segment_size != 0).then_some(Segmentation {
            size: fields.segment_size,
            count: fields.segments,
            kind: info.segment_type,
        })
    }

    /// Sets [`segmentation`](Self::segmentation). A size of 0 is the same as `None`.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// use netbuf::{NetBuf, Segmentation};
    /// let mut buffer = NetBuf::alloc(&memory, 64)?;
    /// let segmentation = Segmentation { size: 1460, count: 3, kind: 1 };
    /// buffer.set_segmentation(Some(segmentation))?;
    /// assert_eq!(buffer.clone_buffer()?.segmentation(), Some(segmentation));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Shared`]: a clone uses the same shared info.
    pub fn set_segmentation(&mut self, segmentation: Option<Segmentation>) -> Result<(), Shared> {
        let Segmentation { size, count, kind } =
            segmentation.unwrap_or(Segmentation { size: 0, count: 0, kind: 0 });
        let info = self.shared_info_mut()?;
        info.segment_type = kind;
        let fields = info.fields_mut();
        (fields.segment_size, fields.segments) = (size, count);
        Ok(())
    }

    /// When the device saw the packet, by its own clock; 0 when it did not tell (`skb_hwtstamps`).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// assert_eq!(netbuf::NetBuf::alloc(&memory, 64)?.hardware_timestamp(), 0);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[must_use]
    pub fn hardware_timestamp(&self) -> u64 {
        self.shared_info().fields().hardware_timestamp
    }

    /// Sets [`hardware_timestamp`](Self::hardware_timestamp).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.set_hardware_timestamp(12345)?;
    /// assert_eq!(buffer.hardware_timestamp(), 12345);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Shared`]: a clone uses the same shared info.
    pub fn set_hardware_timestamp(&mut self, timestamp: u64) -> Result<(), Shared> {
        self.shared_info_mut()?.fields_mut().hardware_timestamp = timestamp;
        Ok(())
    }

    /// What the device is asked to do on transmit, as bits that drivers and the network layer agree on (`tx_flags`).
    /// Clones share them; a copy begins without.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// assert_eq!(netbuf::NetBuf::alloc(&memory, 64)?.transmit_flags(), 0);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[must_use]
    pub fn transmit_flags(&self) -> u32 {
        self.shared_info().fields().transmit_flags
    }

    /// Sets [`transmit_flags`](Self::transmit_flags).
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.set_transmit_flags(1)?;
    /// assert_eq!(buffer.transmit_flags(), 1);
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Shared`]: a clone uses the same shared info.
    pub fn set_transmit_flags(&mut self, flags: u32) -> Result<(), Shared> {
        self.shared_info_mut()?.fields_mut().transmit_flags = flags;
        Ok(())
    }
}
