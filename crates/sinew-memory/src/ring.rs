//! Memory that its creator writes and its peer only reads, and control words beside it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;

use rustix::io::Errno;
use sinew_core::{Error, ErrorKind};

use crate::file::is_hugetlb;
use crate::memfd::{self, FIXED_SIZE, SINGLE_WRITER, Seals, system};
use crate::sys::{Access, Map};

const PAGE: u64 = 4096;
const HUGE_PAGE: u64 = 2 << 20;

/// The sizes of a [`RingMemory`]: of its control words and of its data.
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
    /// The largest control part, bytes.
    pub const MAX_CONTROL: u64 = 2 << 20;

    /// A layout of `control` bytes and `data` bytes.
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

    /// Bytes of control words.
    pub fn control(self) -> u64 {
        self.control
    }

    /// Bytes of data.
    pub fn data(self) -> u64 {
        self.data
    }
}

/// How a [`RingMemory`] is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct RingOptions {
    /// Maps every page before use, so that the first lap takes no page faults. (They are allocated
    /// in any case: memory that is not to be had is an error now rather than a signal later, and it
    /// is charged to the process that makes it.) Default: true.
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

/// Two memfds: one with *data* that one process writes and others read, mapped twice in a row, and one with *control*
/// words that all of them may write.
///
/// The data of what [`create`](Self::create) returns is writable here and nowhere else: whoever gets the descriptor can
/// map it for reading only. What [`open`](Self::open) returns has read-only data.
///
/// An end writes its own control words and reads its peer's. That the peer could write them, too, gives it no power over
/// an end that never reads its own back; and they travel faster that way: a cache line of a page that is mapped
/// read-only is handed to the reader without being handed over, so that the writer has to ask for it back.
///
/// The kernel's page cache is the only copy. Nothing of it has a name, so nothing is left behind when
/// the last process that maps it ends, however it ends.
#[derive(Debug)]
pub struct RingMemory {
    control: Map,
    data: Map,
    layout: Layout,
    writable: bool,
}

/// The descriptors of a [`RingMemory`], to be passed to the peer; they are of no further use here.
#[derive(Debug)]
pub struct RingFds {
    /// Of the control words.
    pub control: OwnedFd,
    /// Of the data.
    pub data: OwnedFd,
}

impl RingMemory {
    /// Creates memory of this layout.
    ///
    /// # Errors
    ///
    /// `EMFILE`/`ENFILE` at the limit of open files, `ENOMEM` without memory, `EINVAL` before
    /// Linux 5.1.
    pub fn create(layout: Layout, options: RingOptions) -> Result<(Self, RingFds), Error> {
        let (data, data_fd) = Self::create_data(layout.data, options)?;
        let control_fd = memfd::create("sinew-control", layout.control, false)?;
        let control = map_control(control_fd.as_fd(), layout)?;
        memfd::seal(&control_fd, FIXED_SIZE)?;
        populate(&control, layout.control)?;
        allocate(&control_fd, layout.control)?;
        let memory = Self {
            control,
            data,
            layout,
            writable: true,
        };
        let fds = RingFds {
            control: control_fd,
            data: data_fd,
        };
        Ok((memory, fds))
    }

    fn create_data(len: u64, options: RingOptions) -> Result<(Map, OwnedFd), Error> {
        if options.huge_pages && len >= HUGE_PAGE {
            // Huge pages are a wish: none reserved, none left, or no support of the seal on hugetlbfs
            // all mean ordinary ones.
            if let Ok(made) = Self::create_data_in(len, options, true) {
                return Ok(made);
            }
        }
        Self::create_data_in(len, options, false)
    }

    fn create_data_in(len: u64, options: RingOptions, huge: bool) -> Result<(Map, OwnedFd), Error> {
        let fd = memfd::create("sinew-ring", len, huge)?;
        // Mapped first, sealed then: the seal refuses later writable mappings, this one stays.
        let map = map_data(fd.as_fd(), len, Access::ReadWrite)?;
        memfd::seal(&fd, SINGLE_WRITER)?;
        if options.huge_pages && !huge {
            // Refused where shmem has no transparent huge pages; then there are none.
            let _refused = map.prefer_huge();
        }
        if options.prefault || huge {
            populate(&map, len)?;
        }
        allocate(&fd, len)?;
        Ok((map, fd))
    }

    /// Maps the memory behind descriptors that a peer sent, after checking their seals and sizes.
    ///
    /// # Errors
    ///
    /// Of kind [`Protocol`](ErrorKind::Protocol) if they are not memfds with the seals that
    /// [`create`](Self::create) sets and the sizes of `layout`, with all pages allocated; `ENOMEM`
    /// without address space.
    pub fn open(
        control_fd: BorrowedFd<'_>,
        data_fd: BorrowedFd<'_>,
        layout: Layout,
        prefault: bool,
    ) -> Result<Self, Error> {
        check(control_fd, FIXED_SIZE, "control words", layout.control)?;
        if is_hugetlb(control_fd) {
            // A hole in it may find no page to be filled with, and then whoever looks there gets SIGBUS.
            return Err(Error::new(ErrorKind::Protocol, "fstatfs")
                .with_reason("the peer's control words are on huge pages"));
        }
        check(data_fd, SINGLE_WRITER, "data", layout.data)?;
        memfd::check_present(control_fd, layout.control)?;
        memfd::check_present(data_fd, layout.data)?;
        let control = map_control(control_fd, layout)?;
        let data = map_data(data_fd, layout.data, Access::ReadOnly)?;
        if prefault {
            // Only saves faults, the pages being there.
            let _refused = data.populate();
        }
        Ok(Self {
            control,
            data,
            layout,
            writable: false,
        })
    }

    /// How large it is.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether this process may write the data.
    pub fn is_writable(&self) -> bool {
        self.writable
    }

    /// The control part: `layout().control()` bytes, aligned to a page, which the peer may write as well.
    pub fn control(&self) -> NonNull<u8> {
        self.control.at(0)
    }

    /// The data part: `2 * layout().data()` bytes, the second half being the same memory as the first.
    pub fn data(&self) -> NonNull<u8> {
        self.data.at(0)
    }
}

fn check(fd: BorrowedFd<'_>, seals: Seals, what: &str, len: u64) -> Result<(), Error> {
    let size = memfd::check(fd, seals)?;
    if size == len {
        return Ok(());
    }
    Err(
        Error::new(ErrorKind::Protocol, "fstat").with_reason(format!(
            "the peer's {what} have {size} bytes, not the {len} agreed on"
        )),
    )
}

/// Does nothing where `populate` has done all.
fn allocate(fd: &OwnedFd, len: u64) -> Result<(), Error> {
    memfd::allocate(fd, len)
        .map_err(|errno| system("fallocate", errno).with_detail(format!("{len} bytes")))
}

fn populate(map: &Map, len: u64) -> Result<(), Error> {
    match map.populate() {
        // Before Linux 5.14 the pages come one by one, as they are touched.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        Err(errno) => {
            Err(system("madvise(MADV_POPULATE_WRITE)", errno).with_detail(format!("{len} bytes")))
        }
    }
}

fn map_control(fd: BorrowedFd<'_>, layout: Layout) -> Result<Map, Error> {
    size(layout.control)
        .and_then(|len| Map::new(fd, len, Access::ReadWrite))
        .map_err(|errno| refused(errno, layout.control))
}

fn map_data(fd: BorrowedFd<'_>, len: u64, access: Access) -> Result<Map, Error> {
    // Where a huge page fits in, there may be some.
    let align = if len < HUGE_PAGE { PAGE } else { HUGE_PAGE };
    size(len)
        .and_then(|body| Map::mirrored(fd, body, size(align)?, access))
        .map_err(|errno| refused(errno, len))
}

fn size(bytes: u64) -> Result<usize, Errno> {
    usize::try_from(bytes).map_err(|_| Errno::NOMEM)
}

fn refused(errno: Errno, len: u64) -> Error {
    system("mmap", errno)
        .with_detail(format!("{len} bytes"))
        .with_remedy(
            "use smaller or fewer rings, or raise the limit of the address space (ulimit -v)",
        )
}
