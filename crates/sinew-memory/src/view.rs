use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use bytemuck::Pod;
use sinew_core::Error;

use crate::region::Region;
use crate::sys::{Place, Shared};

/// Atomics in a [`Region`], which they keep mapped.
pub struct View<T> {
    place: Place<T>,
    offset: usize,
    of: PhantomData<T>,
}

impl<T> View<T> {
    /// The caller has checked the range and the alignment.
    pub(crate) fn new(region: &Region, offset: usize) -> Self {
        Self {
            place: Place::new(region, offset),
            offset,
            of: PhantomData,
        }
    }

    /// Where it is.
    pub fn region(&self) -> &Region {
        self.place.region()
    }

    /// The offset in the region, bytes.
    pub fn offset(&self) -> usize {
        self.offset
    }
}

impl<T: Shared> Deref for View<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.place.shared()
    }
}

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        Self::new(self.region(), self.offset)
    }
}

impl<T> fmt::Debug for View<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("region", &self.region().name())
            .field("offset", &self.offset)
            .finish()
    }
}

/// A value in a [`Region`], which it keeps mapped: copied out and in.
///
/// # Examples
///
/// ```
/// use sinew_memory::Region;
///
/// # fn main() -> Result<(), sinew_core::Error> {
/// let region = Region::anonymous(4096)?;
/// let origin = region.slot::<[f32; 2]>(64)?;
/// origin.store(&[1.0, 2.0])?;
/// assert_eq!(region.load::<[f32; 2]>(64)?, [1.0, 2.0]);
/// # Ok(())
/// # }
/// ```
pub struct Slot<T> {
    place: Place<T>,
    offset: usize,
}

impl<T> Slot<T> {
    /// The caller has checked the range.
    pub(crate) fn new(region: &Region, offset: usize) -> Self {
        Self {
            place: Place::new(region, offset),
            offset,
        }
    }

    /// Where it is.
    pub fn region(&self) -> &Region {
        self.place.region()
    }

    /// The offset in the region, bytes.
    pub fn offset(&self) -> usize {
        self.offset
    }
}

impl<T: Pod> Slot<T> {
    /// Copies the value out.
    ///
    /// Another process may write it meanwhile: the copy is then a mixture.
    ///
    /// # Errors
    ///
    /// Of kind [`Corrupted`](sinew_core::ErrorKind::Corrupted) if the region [is
    /// truncated](Region::is_truncated).
    #[inline]
    pub fn load(&self) -> Result<T, Error> {
        let value = self.place.copy_out();
        self.region().check_intact()?;
        Ok(value)
    }

    /// Copies a value in.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    #[inline]
    pub fn store(&self, value: &T) -> Result<(), Error> {
        self.place.copy_in(value);
        self.region().check_intact()
    }
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self::new(self.region(), self.offset)
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("region", &self.region().name())
            .field("offset", &self.offset)
            .finish()
    }
}
