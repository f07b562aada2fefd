//! Memory that several processes read and write.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;
use std::sync::Arc;

use bytemuck::Pod;
use sinew_core::{Error, ErrorKind};

use crate::memfd::{self, system};
use crate::sys::{self, Access, Map, Shared};

/// Memory that several processes may read and write at the same time.
///
/// It is never lent as a slice: what another process can change under one's eyes is no `&[u8]` of Rust's.
/// There are copies ([`read`](Self::read), [`write`](Self::write), [`load`](Self::load),
/// [`store`](Self::store)), and [views](Self::view) of atomics, which may change at any time.
///
/// A `Region` is a handle: clones are of the same mapping, which goes when the last of them and of their
/// views goes.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use sinew_memory::Region;
///
/// # fn main() -> Result<(), sinew_core::Error> {
/// let region = Region::anonymous(4096)?;
/// region.write(64, b"hello")?;
/// let counter = region.view::<AtomicU64>(128)?;
/// counter.fetch_add(1, Ordering::Relaxed);
///
/// let mut bytes = [0; 5];
/// region.read(64, &mut bytes)?;
/// assert_eq!(&bytes, b"hello");
/// assert_eq!(region.load::<u64>(128)?, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Region {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    map: Map,
    len: usize,
    writable: bool,
    name: String,
}

impl Region {
    /// Memory without a name, of `len` bytes, all zero: for this process and those that it forks.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) for no bytes; `ENOMEM`.
    pub fn anonymous(len: usize) -> Result<Self, Error> {
        check_len(len)?;
        let map = Map::anonymous(len)
            .map_err(|errno| system("mmap", errno).with_detail(format!("{len} bytes")))?;
        Ok(Self::new(map, len, true, "anonymous memory"))
    }

    /// Memory of `len` bytes, all zero, with the descriptor by which another process
    /// [opens](Self::from_memfd) it. Its size cannot change.
    ///
    /// # Errors
    ///
    /// As for [`anonymous`](Self::anonymous), and `EMFILE`, `ENFILE` at the limit of open files.
    pub fn memfd(len: usize) -> Result<(Self, std::os::fd::OwnedFd), Error> {
        use std::os::fd::AsFd;
        check_len(len)?;
        let fd = memfd::create("sinew-region", len as u64, false)?;
        memfd::seal(&fd, memfd::FIXED_SIZE)?;
        Ok((Self::from_memfd(fd.as_fd())?, fd))
    }

    /// Maps memory that another process made with [`memfd`](Self::memfd).
    ///
    /// # Errors
    ///
    /// Of kind [`Protocol`](ErrorKind::Protocol) if the descriptor is not a memfd whose size is sealed.
    pub fn from_memfd(fd: std::os::fd::BorrowedFd<'_>) -> Result<Self, Error> {
        let size = memfd::check(fd, memfd::FIXED_SIZE)?;
        let len = usize::try_from(size).map_err(|_| system("mmap", rustix::io::Errno::NOMEM))?;
        check_len(len)?;
        let map = Map::new(fd, len, Access::ReadWrite)
            .map_err(|errno| system("mmap", errno).with_detail(format!("{len} bytes")))?;
        Ok(Self::new(map, len, true, "memfd"))
    }

    /// Maps `len` bytes of a file that several processes write, which must have as many at least.
    ///
    /// # Errors
    ///
    /// Of kind [`Protocol`](ErrorKind::Protocol) for a file that is shorter or no regular one; `EACCES`, `ENOMEM`.
    pub fn from_file(
        fd: std::os::fd::BorrowedFd<'_>,
        len: usize,
        name: &str,
    ) -> Result<Self, Error> {
        check_len(len)?;
        let stat = rustix::fs::fstat(fd).map_err(|errno| system("fstat", errno))?;
        let size = usize::try_from(stat.st_size).unwrap_or(usize::MAX);
        if !rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file() || size < len {
            return Err(Error::new(ErrorKind::Protocol, "fstat")
                .with_address(name)
                .with_reason(format!("it has {size} bytes, and must have {len}")));
        }
        let map = Map::new(fd, len, Access::ReadWrite)
            .map_err(|errno| system("mmap", errno).with_detail(format!("{len} bytes")))?;
        Ok(Self::new(map, len, true, name))
    }

    fn new(map: Map, len: usize, writable: bool, name: impl Into<String>) -> Self {
        Self {
            inner: Arc::new(Inner {
                map,
                len,
                writable,
                name: name.into(),
            }),
        }
    }

    /// Bytes.
    #[expect(clippy::len_without_is_empty, reason = "no region is empty")]
    pub fn len(&self) -> usize {
        self.inner.len
    }

    /// Whether this process may write here.
    pub fn is_writable(&self) -> bool {
        self.inner.writable
    }

    /// What it is, for messages: a path or a name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Copies bytes out, from `offset` on.
    ///
    /// Another process may write them meanwhile: the copy is then a mixture.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) past the end.
    pub fn read(&self, offset: usize, to: &mut [u8]) -> Result<(), Error> {
        self.check(offset, to.len(), 1)?;
        sys::copy_out(&self.inner.map, offset, to);
        Ok(())
    }

    /// Copies bytes in, from `offset` on.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) past the end, or if this process may only read.
    pub fn write(&self, offset: usize, from: &[u8]) -> Result<(), Error> {
        self.check_writable()?;
        self.check(offset, from.len(), 1)?;
        sys::copy_in(&self.inner.map, offset, from);
        Ok(())
    }

    /// Copies a value out: see [`read`](Self::read).
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    pub fn load<T: Pod>(&self, offset: usize) -> Result<T, Error> {
        let mut value = T::zeroed();
        self.read(offset, bytemuck::bytes_of_mut(&mut value))?;
        Ok(value)
    }

    /// Copies a value in: see [`write`](Self::write).
    ///
    /// # Errors
    ///
    /// As for [`write`](Self::write).
    pub fn store<T: Pod>(&self, offset: usize, value: &T) -> Result<(), Error> {
        self.write(offset, bytemuck::bytes_of(value))
    }

    /// Atomics at `offset`, where they lie.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) past the end, at an offset that is not aligned,
    /// or if this process may only read, since an atomic can be written.
    pub fn view<T: Shared>(&self, offset: usize) -> Result<View<T>, Error> {
        self.check_writable()?;
        self.check(offset, size_of::<T>(), align_of::<T>())?;
        Ok(View {
            region: self.clone(),
            offset,
            of: PhantomData,
        })
    }

    fn check_writable(&self) -> Result<(), Error> {
        if self.inner.writable {
            return Ok(());
        }
        Err(self.invalid(
            "this process has attached it for reading".to_owned(),
            "attach it for writing",
        ))
    }

    fn check(&self, offset: usize, len: usize, align: usize) -> Result<(), Error> {
        if !offset.is_multiple_of(align) {
            return Err(self.invalid(
                format!("the offset {offset} is not a multiple of {align}"),
                "align it",
            ));
        }
        if offset
            .checked_add(len)
            .is_none_or(|end| end > self.inner.len)
        {
            return Err(self.invalid(
                format!(
                    "{len} bytes at {offset} reach past its {} bytes",
                    self.inner.len
                ),
                "make it larger",
            ));
        }
        Ok(())
    }

    fn invalid(&self, reason: String, remedy: &'static str) -> Error {
        Error::new(ErrorKind::InvalidInput, "region")
            .with_address(&self.inner.name)
            .with_reason(reason)
            .with_remedy(remedy)
    }
}

fn check_len(len: usize) -> Result<(), Error> {
    if len > 0 {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, "region")
        .with_reason("it would have no bytes")
        .with_remedy("ask for at least one"))
}

/// Atomics in a [`Region`], which they keep mapped.
pub struct View<T> {
    region: Region,
    offset: usize,
    of: PhantomData<T>,
}

impl<T> View<T> {
    /// Where it is.
    pub fn region(&self) -> &Region {
        &self.region
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
        sys::shared(&self.region.inner.map, self.offset)
    }
}

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        Self {
            region: self.region.clone(),
            offset: self.offset,
            of: PhantomData,
        }
    }
}

impl<T> fmt::Debug for View<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("View")
            .field("region", &self.region.inner.name)
            .field("offset", &self.offset)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    use super::*;

    #[test]
    fn copies_and_views_are_of_the_same_bytes() {
        let (region, fd) = Region::memfd(4096).unwrap();
        let other = Region::from_memfd(fd.as_fd()).unwrap();
        region.store(8, &[1_u32, 2, 3]).unwrap();
        let view = other.view::<[AtomicU32; 3]>(8).unwrap();
        view[1].fetch_add(40, Ordering::Relaxed);
        drop(other);
        assert_eq!(region.load::<[u32; 3]>(8).unwrap(), [1, 42, 3]);
        assert_eq!(view[2].load(Ordering::Relaxed), 3);
    }

    #[test]
    fn bounds_and_alignment() {
        let region = Region::anonymous(4096).unwrap();
        assert!(region.view::<AtomicU64>(4088).is_ok());
        for (offset, reason) in [
            (4, "not a multiple of 8"),
            (4096, "reach past its 4096 bytes"),
            (usize::MAX - 7, "reach past"),
        ] {
            let error = region.view::<AtomicU64>(offset).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
        }
        assert!(region.write(4095, b"ab").is_err());
        assert!(region.read(usize::MAX, &mut [0]).is_err());
        assert!(Region::anonymous(0).is_err());
    }
}
