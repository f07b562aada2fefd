use std::fmt;
use std::ops::Deref;

use bytemuck::Pod;
use sinew_core::Error;

use crate::region::Region;
use crate::sys::{Place, Shared};

/// Atomics in a [`Region`], which they keep mapped.
pub struct View<T>(Place<T>);

impl<T> View<T> {
    /// The caller has checked the range and the alignment.
    pub(crate) fn new(region: &Region, offset: usize) -> Self {
        Self(Place::new(region, offset))
    }
}

impl<T: Shared> Deref for View<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        self.0.shared()
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
pub struct Slot<T>(Place<T>);

impl<T> Slot<T> {
    /// The caller has checked the range.
    pub(crate) fn new(region: &Region, offset: usize) -> Self {
        Self(Place::new(region, offset))
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
        let value = self.0.copy_out();
        self.0.region().check_intact()?;
        Ok(value)
    }

    /// Copies a value in.
    ///
    /// # Errors
    ///
    /// As for [`load`](Self::load).
    #[inline]
    pub fn store(&self, value: &T) -> Result<(), Error> {
        self.0.copy_in(value);
        self.0.region().check_intact()
    }
}

macro_rules! place {
    ($name:ident) => {
        impl<T> $name<T> {
            /// Where it is.
            pub fn region(&self) -> &Region {
                self.0.region()
            }

            /// The offset in the region, bytes.
            pub fn offset(&self) -> usize {
                self.0.offset()
            }
        }

        impl<T> Clone for $name<T> {
            fn clone(&self) -> Self {
                Self(self.0.clone())
            }
        }

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    .field("region", &self.region().name())
                    .field("offset", &self.offset())
                    .finish()
            }
        }
    };
}

place!(View);
place!(Slot);
