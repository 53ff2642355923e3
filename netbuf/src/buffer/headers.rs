//! Where the headers of the layers are: offsets into the head, which stay when the data moves.

use super::NetBuf;
use super::descriptor::UNSET;
use crate::error::Error;

macro_rules! header_offset {
    ($name:literal, $field:ident, $offset:ident, $get:ident, $was_set:ident, $set:ident, $reset:ident, $unset:ident) => {
        #[doc = concat!("Where the ", $name, " header begins, in bytes from the start of the data: negative when it was")]
        /// pulled off; `None` while it is unset.
        ///
        /// ```
        /// # let memory = netbuf::host::memory();
        /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
        /// buffer.put(20)?;
        #[doc = concat!("assert_eq!(buffer.", stringify!($offset), "(), None);")]
        #[doc = concat!("buffer.", stringify!($set), "(4)?;")]
        #[doc = concat!("assert_eq!(buffer.", stringify!($offset), "(), Some(4));")]
        /// buffer.pull(14)?;
        #[doc = concat!("assert_eq!(buffer.", stringify!($offset), "(), Some(-10));")]
        /// # Ok::<(), netbuf::Error>(())
        /// ```
        #[must_use]
        pub fn $offset(&self) -> Option<isize> {
            let offset = self.descriptor().$field.checked_sub(1)?;
            Some(offset as isize - self.headroom() as isize)
        }

        #[doc = concat!("The bytes from the ", $name, " header to the end of the linear part; `None` while it is unset,")]
        /// or when it no longer lies there.
        ///
        /// ```
        /// # let memory = netbuf::host::memory();
        /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
        /// buffer.put(6)?.copy_from_slice(b"ab  cd");
        #[doc = concat!("assert_eq!(buffer.", stringify!($get), "(), None);")]
        #[doc = concat!("buffer.", stringify!($set), "(4)?;")]
        /// buffer.pull(6)?; // the header stays where it is
        #[doc = concat!("assert_eq!(buffer.", stringify!($get), "(), Some(&b\"cd\"[..]));")]
        /// # Ok::<(), netbuf::Error>(())
        /// ```
        #[must_use]
        pub fn $get(&self) -> Option<&[u8]> {
            self.bytes_from_head_offset(self.descriptor().$field)
        }

        #[doc = concat!("Whether the ", $name, " header was set.")]
        ///
        /// ```
        /// # let memory = netbuf::host::memory();
        /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
        #[doc = concat!("assert!(!buffer.", stringify!($was_set), "());")]
        #[doc = concat!("buffer.", stringify!($reset), "();")]
        #[doc = concat!("assert!(buffer.", stringify!($was_set), "());")]
        /// # Ok::<(), netbuf::Error>(())
        /// ```
        #[must_use]
        pub fn $was_set(&self) -> bool {
            self.descriptor().$field != UNSET
        }

        #[doc = concat!("Sets the ", $name, " header `offset` bytes behind the start of the data.")]
        ///
        /// ```
        /// # let memory = netbuf::host::memory();
        /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
        /// buffer.put(20)?;
        #[doc = concat!("buffer.", stringify!($set), "(14)?;")]
        #[doc = concat!("assert_eq!(buffer.", stringify!($get), "().map(<[u8]>::len), Some(6));")]
        /// # Ok::<(), netbuf::Error>(())
        /// ```
        ///
        /// # Errors
        ///
        /// [`Error::PastEnd`]: the linear part is shorter.
        pub fn $set(&mut self, offset: usize) -> Result<(), Error> {
            let available = self.head_len();
            if offset > available {
                return Err(Error::PastEnd { wanted: offset, available });
            }
            self.descriptor_mut().$field = (self.headroom() + offset) as u32 + 1;
            Ok(())
        }

        #[doc = concat!("Sets the ", $name, " header to the start of the data.")]
        ///
        /// ```
        /// # let memory = netbuf::host::memory();
        /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
        /// buffer.put(20)?;
        #[doc = concat!("buffer.", stringify!($reset), "();")]
        #[doc = concat!("assert_eq!(buffer.", stringify!($get), "().map(<[u8]>::len), Some(20));")]
        /// # Ok::<(), netbuf::Error>(())
        /// ```
        pub fn $reset(&mut self) {
            self.descriptor_mut().$field = self.headroom() as u32 + 1;
        }

        #[doc = concat!("Forgets where the ", $name, " header is.")]
        ///
        /// ```
        /// # let memory = netbuf::host::memory();
        /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
        #[doc = concat!("buffer.", stringify!($reset), "();")]
        #[doc = concat!("buffer.", stringify!($unset), "();")]
        #[doc = concat!("assert!(!buffer.", stringify!($was_set), "());")]
        /// # Ok::<(), netbuf::Error>(())
        /// ```
        pub fn $unset(&mut self) {
            self.descriptor_mut().$field = UNSET;
        }
    };
}

/// Where the headers are: offsets that stay when the data moves.
impl NetBuf {
    header_offset!(
        "link-layer",
        mac_header,
        mac_offset,
        mac_header,
        mac_header_was_set,
        set_mac_header,
        reset_mac_header,
        unset_mac_header
    );
    header_offset!(
        "network",
        network_header,
        network_offset,
        network_header,
        network_header_was_set,
        set_network_header,
        reset_network_header,
        unset_network_header
    );
    header_offset!(
        "transport",
        transport_header,
        transport_offset,
        transport_header,
        transport_header_was_set,
        set_transport_header,
        reset_transport_header,
        unset_transport_header
    );

    fn bytes_from_head_offset(&self, offset: u32) -> Option<&[u8]> {
        let descriptor = self.descriptor();
        let end = descriptor.headroom() + descriptor.head_len();
        let offset = (offset as usize).checked_sub(1)?;
        if offset > end {
            return None;
        }
        // SAFETY: the range lies between head and end, is initialised, and is read only while borrowed: only the sole
        // user of a head writes it.
        Some(unsafe { core::slice::from_raw_parts(descriptor.head.as_ptr().add(offset), end - offset) })
    }

    /// The destination station address: the first six bytes at the link-layer header (`eth_hdr(skb)->h_dest`). `None`
    /// while that is unset, or when fewer than six bytes of it are linear.
    ///
    /// ```
    /// # let memory = netbuf::host::memory();
    /// let mut buffer = netbuf::NetBuf::alloc(&memory, 64)?;
    /// buffer.put(14)?.fill(0xff);
    /// buffer.reset_mac_header();
    /// assert_eq!(buffer.destination(), Some([0xff; 6]));
    /// # Ok::<(), netbuf::Error>(())
    /// ```
    #[must_use]
    pub fn destination(&self) -> Option<[u8; 6]> {
        self.mac_header()?.first_chunk().copied()
    }
}
