//! Memory that its creator writes and its peer only reads.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::io::Errno;
use sinew_core::{Error, ErrorKind};

use crate::memfd::{self, SINGLE_WRITER, system};
use crate::sys::{Access, Map};

const HUGE_PAGE: u64 = 2 << 20;

/// How a [`RingMemory`] is divided: control words, then data.
///
/// Both parts are multiples of 4096 bytes, and the data a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    control: u64,
    data: u64,
}

impl Layout {
    /// The smallest data part, bytes: a page.
    pub const MIN_DATA: u64 = 4096;
    /// The largest data part, bytes.
    pub const MAX_DATA: u64 = 1 << 31;
    /// The largest control part, bytes: a huge page.
    pub const MAX_CONTROL: u64 = HUGE_PAGE;

    /// A layout of `control` bytes followed by `data` bytes.
    ///
    /// # Errors
    ///
    /// Of kind [`InvalidInput`](ErrorKind::InvalidInput) if `control` is not a multiple of 4096 up to
    /// [`MAX_CONTROL`](Self::MAX_CONTROL), or `data` not a power of two from
    /// [`MIN_DATA`](Self::MIN_DATA) to [`MAX_DATA`](Self::MAX_DATA).
    pub fn new(control: u64, data: u64) -> Result<Self, Error> {
        let invalid = |reason: String| {
            Err(Error::new(ErrorKind::InvalidInput, "memory layout").with_reason(reason))
        };
        if control == 0 || control > Self::MAX_CONTROL || !control.is_multiple_of(4096) {
            return invalid(format!(
                "a control part of {control} bytes is not a multiple of 4096 up to 2 MiB"
            ));
        }
        if !data.is_power_of_two() || !(Self::MIN_DATA..=Self::MAX_DATA).contains(&data) {
            return invalid(format!(
                "a ring of {data} bytes is not a power of two from 4 KiB to 2 GiB"
            ));
        }
        Ok(Self { control, data })
    }

    /// Bytes before the data.
    pub fn control(self) -> u64 {
        self.control
    }

    /// Bytes of data.
    pub fn data(self) -> u64 {
        self.data
    }

    /// Bytes of the file.
    pub fn size(self) -> u64 {
        self.control + self.data
    }

    fn page(self) -> u64 {
        if self.control == HUGE_PAGE {
            HUGE_PAGE
        } else {
            4096
        }
    }
}

/// How a [`RingMemory`] is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingOptions {
    /// Makes every page present before use, so that memory that is not to be had is an error now
    /// rather than a signal later, and the first lap takes no page faults. Default: true.
    pub prefault: bool,
    /// Takes 2 MiB pages where the system has some to give (`vm.nr_hugepages`), for rings of 2 MiB or
    /// more; otherwise asks for transparent ones, and does without if there are none. Default: false.
    pub huge_pages: bool,
}

impl Default for RingOptions {
    fn default() -> Self {
        Self {
            prefault: true,
            huge_pages: false,
        }
    }
}

/// A memfd in which one process writes and others read, mapped with its data twice in a row.
///
/// What [`create`](Self::create) returns is writable here and nowhere else: whoever gets the
/// descriptor can map it for reading only. What [`open`](Self::open) returns is read-only.
///
/// The kernel's page cache is the only copy. Nothing of it has a name, so nothing is left behind when
/// the last process that maps it ends, however it ends.
#[derive(Debug)]
pub struct RingMemory {
    map: Map,
    layout: Layout,
    writable: bool,
}

impl RingMemory {
    /// Creates memory of (at least) this layout; the control part may grow to a huge page. Also returns
    /// the descriptor to pass to the peer, which is of no further use here.
    ///
    /// # Errors
    ///
    /// `EMFILE`/`ENFILE` at the limit of open files, `ENOMEM` without memory, `EINVAL` before
    /// Linux 5.1.
    pub fn create(layout: Layout, options: RingOptions) -> Result<(Self, OwnedFd), Error> {
        if options.huge_pages && layout.data >= HUGE_PAGE {
            let huge = Layout {
                control: HUGE_PAGE,
                data: layout.data,
            };
            // Huge pages are a wish: none reserved, none left, or no support of the seal on hugetlbfs
            // all mean ordinary ones.
            if let Ok(memory) = Self::create_in(huge, options, true) {
                return Ok(memory);
            }
        }
        Self::create_in(layout, options, false)
    }

    fn create_in(
        layout: Layout,
        options: RingOptions,
        huge: bool,
    ) -> Result<(Self, OwnedFd), Error> {
        let fd = memfd::create("sinew-ring", layout.size(), huge)?;
        // Mapped first, sealed then: the seal refuses later writable mappings, this one stays.
        let map = map(fd.as_fd(), layout, Access::ReadWrite)?;
        memfd::seal(&fd, SINGLE_WRITER)?;
        if options.huge_pages && !huge {
            // Refused where shmem has no transparent huge pages; then there are none.
            let _refused = map.prefer_huge();
        }
        if options.prefault || huge {
            match map.populate() {
                // Before Linux 5.14 the pages come one by one, as they are touched.
                Ok(()) | Err(Errno::INVAL) => {}
                Err(errno) => {
                    return Err(system("madvise(MADV_POPULATE_WRITE)", errno)
                        .with_detail(format!("{} bytes", layout.size())));
                }
            }
        }
        Ok((
            Self {
                map,
                layout,
                writable: true,
            },
            fd,
        ))
    }

    /// Maps the memory behind a descriptor that a peer sent, after checking its seals and size.
    ///
    /// # Errors
    ///
    /// Of kind [`Protocol`](ErrorKind::Protocol) if it is not a memfd with exactly the seals that
    /// [`create`](Self::create) sets and the size of `layout`; `ENOMEM` without address space.
    pub fn open(fd: BorrowedFd<'_>, layout: Layout, prefault: bool) -> Result<Self, Error> {
        let size = memfd::check(fd, SINGLE_WRITER)?;
        if size != layout.size() {
            return Err(
                Error::new(ErrorKind::Protocol, "fstat").with_reason(format!(
                    "the peer's memory has {size} bytes, not the {} agreed on",
                    layout.size()
                )),
            );
        }
        let map = map(fd, layout, Access::ReadOnly)?;
        if prefault && memfd::is_present(fd, size) {
            // Only saves faults, the pages being there. Where the owner has not made them, nor are
            // they made here, at this process's expense.
            let _refused = map.populate();
        }
        Ok(Self {
            map,
            layout,
            writable: false,
        })
    }

    /// How it is divided.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether this process may write here.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// The control part: `layout().control()` bytes, aligned to a page.
    pub fn control(&self) -> NonNull<u8> {
        self.map.at(0)
    }

    /// The data part: `2 * layout().data()` bytes, the second half being the same memory as the first.
    pub fn data(&self) -> NonNull<u8> {
        #[expect(clippy::cast_possible_truncation, reason = "at most 2 MiB")]
        let offset = self.layout.control as usize;
        self.map.at(offset)
    }
}

fn map(fd: BorrowedFd<'_>, layout: Layout, access: Access) -> Result<Map, Error> {
    let size = |bytes: u64| usize::try_from(bytes).map_err(|_| system("mmap", Errno::NOMEM));
    let (head, body, page) = (
        size(layout.control)?,
        size(layout.data)?,
        size(layout.page())?,
    );
    Map::mirrored(fd, head, body, page, access).map_err(|errno| {
        system("mmap", errno)
            .with_detail(format!("{} bytes", layout.size()))
            .with_remedy(
                "use smaller or fewer rings, or raise the limit of the address space (ulimit -v)",
            )
    })
}
