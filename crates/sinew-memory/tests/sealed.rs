//! What the kernel refuses to do with sealed memory, and what we refuse to take.
#![allow(
    unsafe_code,
    clippy::cast_possible_truncation,
    clippy::unwrap_used,
    reason = "a test, which looks at raw memory"
)]

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use proptest::prelude::*;
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags};
use sinew_core::{Error, ErrorKind};
use sinew_memory::{Draft, Frozen, Layout, RingFds, RingMemory, RingOptions};

fn layout(data: u64) -> Layout {
    Layout::new(4096, data).unwrap()
}

fn write(memory: &RingMemory, offset: usize, byte: u8) {
    assert!(memory.is_writable() && offset < 2 * memory.layout().data() as usize);
    // SAFETY: in bounds; no reference to the memory exists.
    unsafe { memory.data().add(offset).write_volatile(byte) }
}

fn read(memory: &RingMemory, offset: usize) -> u8 {
    assert!(offset < 2 * memory.layout().data() as usize);
    // SAFETY: in bounds; no reference to the memory exists.
    unsafe { memory.data().add(offset).read_volatile() }
}

fn open(fds: &RingFds, layout: Layout) -> Result<RingMemory, Error> {
    RingMemory::open(fds.control.as_fd(), fds.data.as_fd(), layout, true)
}

#[test]
fn the_data_is_mapped_twice_in_both_processes() {
    let (ours, fds) = RingMemory::create(layout(8192), RingOptions::default()).unwrap();
    let theirs = open(&fds, layout(8192)).unwrap();
    assert!(ours.is_writable() && !theirs.is_writable());
    write(&ours, 8191, 1);
    write(&ours, 8192, 2);
    for memory in [&ours, &theirs] {
        assert_eq!([read(memory, 8191), read(memory, 0)], [1, 2]);
        assert_eq!([read(memory, 2 * 8192 - 1), read(memory, 8192)], [1, 2]);
    }
}

#[test]
fn the_kernel_refuses_a_peer_every_change() {
    let (_ours, fds) = RingMemory::create(layout(4096), RingOptions::default()).unwrap();
    let fd = fds.data;
    let map = |protection| {
        // SAFETY: the kernel picks the address, and nothing refers to it.
        unsafe {
            rustix::mm::mmap(
                std::ptr::null_mut(),
                4096,
                protection,
                MapFlags::SHARED,
                &fd,
                0,
            )
        }
    };
    assert_eq!(
        map(ProtFlags::READ | ProtFlags::WRITE).unwrap_err(),
        Errno::PERM
    );
    let readable = map(ProtFlags::READ).unwrap();
    // SAFETY: the mapping of the line above.
    let upgrade = unsafe {
        rustix::mm::mprotect(
            readable,
            4096,
            rustix::mm::MprotectFlags::READ | rustix::mm::MprotectFlags::WRITE,
        )
    };
    assert_eq!(upgrade.unwrap_err(), Errno::ACCESS);
    assert_eq!(rustix::io::pwrite(&fd, b"x", 0).unwrap_err(), Errno::PERM);
    assert_eq!(rustix::fs::ftruncate(&fd, 0).unwrap_err(), Errno::PERM);
    assert_eq!(
        rustix::fs::ftruncate(&fd, 1 << 20).unwrap_err(),
        Errno::PERM
    );
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    assert_eq!(
        rustix::fs::fallocate(&fd, punch, 0, 4096).unwrap_err(),
        Errno::PERM
    );
    assert_eq!(
        rustix::fs::fcntl_add_seals(&fd, SealFlags::WRITE).unwrap_err(),
        Errno::PERM
    );
    // SAFETY: the mapping made above.
    unsafe { rustix::mm::munmap(readable, 4096).unwrap() };
}

fn memfd(size: u64, seals: SealFlags) -> OwnedFd {
    let fd =
        rustix::fs::memfd_create("test", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    if size > 0 {
        rustix::fs::fallocate(&fd, FallocateFlags::empty(), 0, size).unwrap();
    }
    rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
    fd
}

/// Without its pages.
fn hollow(size: u64, seals: SealFlags) -> OwnedFd {
    let fd = memfd(0, SealFlags::empty());
    rustix::fs::ftruncate(&fd, size).unwrap();
    rustix::fs::fcntl_add_seals(&fd, seals).unwrap();
    fd
}

/// A page that the maker has not allocated would be charged to the process that reads it first.
#[test]
fn memory_with_holes_is_refused() {
    let fixed = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    let (single, immutable) = (fixed | SealFlags::FUTURE_WRITE, fixed | SealFlags::WRITE);
    let refused = |result: Result<(), Error>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains("allocated"), "{error}");
    };
    refused(Frozen::from_fd(hollow(1, immutable), 1).map(drop));
    refused(Frozen::from_fd(hollow(1 << 30, immutable), 1 << 30).map(drop));
    // All but one page.
    let fd = memfd(8192, SealFlags::empty());
    rustix::fs::ftruncate(&fd, 12288).unwrap();
    rustix::fs::fcntl_add_seals(&fd, immutable).unwrap();
    refused(Frozen::from_fd(fd, 12288).map(drop));
    let (control, data) = (hollow(4096, fixed), memfd(8192, single));
    refused(open(&RingFds { control, data }, layout(8192)).map(drop));
    let (control, data) = (memfd(4096, fixed), hollow(8192, single));
    refused(open(&RingFds { control, data }, layout(8192)).map(drop));
}

/// What this process makes, a peer accepts: it has all its pages from the beginning.
#[test]
fn our_own_memory_has_no_holes() {
    for (prefault, huge_pages) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut options = RingOptions::default();
        (options.prefault, options.huge_pages) = (prefault, huge_pages);
        let (_ours, fds) = RingMemory::create(layout(4 << 20), options).unwrap();
        open(&fds, layout(4 << 20)).unwrap();
    }
    for len in [0, 1, 4096, 100_000] {
        let frozen = Draft::new(200_000).unwrap().freeze(len).unwrap();
        Frozen::from_fd(frozen.into(), len).unwrap();
        let frozen = Frozen::copy_from_slice(&vec![1; len]).unwrap();
        let frozen = Frozen::from_fd(frozen.into(), len).unwrap();
        assert_eq!(frozen.copy().unwrap(), vec![1; len]);
        assert_eq!(frozen.map().unwrap(), vec![1; len]);
    }
}

/// A seal that a later kernel adds is none of our business.
#[test]
fn further_seals_are_tolerated() {
    // Where the kernel has it (Linux 6.3), our own has F_SEAL_EXEC.
    let (_ours, fds) = RingMemory::create(layout(8192), RingOptions::default()).unwrap();
    open(&fds, layout(8192)).unwrap();
    let fixed = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    let immutable = fixed | SealFlags::WRITE | SealFlags::FUTURE_WRITE;
    Frozen::from_fd(memfd(10, immutable), 10).unwrap();
}

#[test]
fn wrong_seals_sizes_and_files_are_refused() {
    let fixed = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    let single = fixed | SealFlags::FUTURE_WRITE;
    let open_data = |data: OwnedFd| {
        let control = memfd(4096, fixed);
        open(&RingFds { control, data }, layout(8192))
    };
    let open_control = |control: OwnedFd| {
        let data = memfd(8192, single);
        open(&RingFds { control, data }, layout(8192))
    };
    let try_all = |open: &dyn Fn(OwnedFd) -> Result<RingMemory, Error>, right: SealFlags, size| {
        assert!(open(memfd(size, right)).is_ok());
        for missing in right {
            let error = open(memfd(size, right - missing)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
            assert!(error.to_string().contains("seals"), "{error}");
        }
        assert!(
            open(memfd(size, right | SealFlags::WRITE)).is_err(),
            "nobody could write it"
        );
        for wrong in [0, size - 4096, size - 1, size + 1, 1 << 20] {
            let error = open(memfd(wrong, right)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        }
        let file = File::open("/proc/self/exe").unwrap();
        let error = open(file.into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol);
        assert!(error.to_string().contains("not a memfd"), "{error}");
    };
    try_all(&open_data, single, 8192);
    try_all(&open_control, fixed, 4096);

    let immutable = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    assert!(Frozen::from_fd(memfd(10, immutable), 10).is_ok());
    for missing in immutable {
        assert!(Frozen::from_fd(memfd(10, immutable - missing), 10).is_err());
    }
    assert!(Frozen::from_fd(memfd(10, immutable), 11).is_err());
}

#[test]
fn control_words_on_huge_pages_are_refused() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
    let size = Layout::MAX_CONTROL;
    // It needs no page as long as nobody maps it.
    let Ok(control) = rustix::fs::memfd_create("test", flags) else {
        return;
    };
    rustix::fs::ftruncate(&control, size).unwrap();
    let fixed = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&control, fixed).unwrap();
    let data = memfd(8192, fixed | SealFlags::FUTURE_WRITE);
    let layout = Layout::new(size, 8192).unwrap();
    let error = open(&RingFds { control, data }, layout).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("huge pages"), "{error}");
}

#[test]
fn layouts_that_cannot_be_are_refused() {
    for (control, data) in [
        (0, 4096),
        (100, 4096),
        (4 << 20, 4096),
        (4096, 0),
        (4096, 5000),
        (4096, 1 << 32),
    ] {
        assert_eq!(
            Layout::new(control, data).unwrap_err().kind(),
            ErrorKind::InvalidInput
        );
    }
}

#[test]
fn huge_pages_fall_back() {
    let mut wish = RingOptions::default();
    wish.huge_pages = true;
    let (ours, fds) = RingMemory::create(layout(4 << 20), wish).unwrap();
    let theirs = open(&fds, ours.layout()).unwrap();
    write(&ours, 0, 7);
    assert_eq!(read(&theirs, 4 << 20), 7);
}

#[test]
fn a_draft_is_frozen_to_its_length() {
    let mut draft = Draft::new(10_000).unwrap();
    assert!(draft.iter().all(|byte| *byte == 0));
    draft.fill(9);
    let frozen = draft.freeze(5000).unwrap();
    assert_eq!(frozen.len(), 5000);
    let bytes = frozen.map().unwrap();
    drop(frozen);
    assert_eq!(bytes, vec![9; 5000]);
    assert_eq!(bytes.slice(4999..), [9][..]);

    assert!(
        Draft::new(0)
            .unwrap()
            .freeze(0)
            .unwrap()
            .map()
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        Draft::new(1).unwrap().freeze(2).unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

#[test]
fn both_ends_write_the_control_words_of_both() {
    let (ours, fds) = RingMemory::create(layout(4096), RingOptions::default()).unwrap();
    let theirs = open(&fds, ours.layout()).unwrap();
    for (number, (from, to)) in [(&ours, &theirs), (&theirs, &ours)].into_iter().enumerate() {
        let byte = number as u8 + 1;
        // SAFETY: in bounds, and no reference to the memory exists.
        let found = unsafe {
            from.control().add(4095).write_volatile(byte);
            to.control().add(4095).read_volatile()
        };
        assert_eq!(found, byte);
    }
}

proptest! {
    #[test]
    fn gathered_parts_come_back(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..9000), 0..5)) {
        let frozen = Frozen::gather(parts.iter().map(Vec::as_slice)).unwrap();
        prop_assert_eq!(frozen.len(), parts.iter().map(Vec::len).sum::<usize>());
        prop_assert_eq!(frozen.map().unwrap(), parts.concat());
        let len = frozen.len();
        prop_assert!(Frozen::from_fd(frozen.into(), len).is_ok());
    }
}
