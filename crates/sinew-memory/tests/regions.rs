//! Regions with a name: made, found, refused, removed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr
)]

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use sinew_core::ErrorKind;
use sinew_memory::{MappedFile, PosixShm, Region, SysvShm, SysvTarget};

fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// A name that nobody else has, and that goes with the test.
struct Name(String);

impl Name {
    fn new() -> Self {
        Self(format!("/sinew-region-{}-{}", std::process::id(), number()))
    }

    fn file(&self) -> PathBuf {
        PathBuf::from(format!("/dev/shm{}", self.0))
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _unlinked_before = PosixShm::unlink(&self.0);
    }
}

/// A key that nobody else has, and that goes with the test.
struct Key(i32);

impl Key {
    fn new() -> Self {
        let key = 0x5200_0000 | std::process::id() << 6 & 0x00ff_ffc0 | number() & 0x3f;
        Self(key.cast_signed())
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        let _removed_before = SysvShm::remove(self.0);
    }
}

fn errno(error: &sinew_core::Error) -> &str {
    error.errno_name().unwrap_or("none")
}

#[test]
fn posix_is_made_once_found_again_and_removed() {
    let name = Name::new();
    let error = PosixShm::new(&name.0).open().unwrap_err();
    assert_eq!(errno(&error), "ENOENT");
    let error = PosixShm::new(&name.0).create(true).open().unwrap_err();
    assert!(error.to_string().contains("needs a size"), "{error}");

    let options = PosixShm::new(&name.0).create(true).size(10_000);
    let first = options.open().unwrap();
    let second = options.open().unwrap();
    assert!(first.was_created() && !second.was_created());
    assert_eq!((first.len(), second.len()), (10_000, 10_000));
    first
        .view::<AtomicU64>(8)
        .unwrap()
        .store(7, Ordering::Relaxed);
    assert_eq!(second.load::<u64>(8).unwrap(), 7);
    let error = options.clone().exclusive(true).open().unwrap_err();
    assert_eq!(errno(&error), "EEXIST");
    let error = options.size(10_001).open().unwrap_err();
    assert!(error.to_string().contains("has 10000 bytes"), "{error}");

    // Left behind by processes that are gone, it is as it was.
    drop((first, second));
    let again = PosixShm::new(&name.0).open().unwrap();
    assert_eq!(again.load::<u64>(8).unwrap(), 7);
    again.remove().unwrap();
    assert_eq!(errno(&again.remove().unwrap_err()), "ENOENT");
    again.store(8, &8_u64).unwrap();

    // A name that means another object by now is left alone.
    let other = PosixShm::new(&name.0)
        .exclusive(true)
        .size(1)
        .open()
        .unwrap();
    assert_eq!(errno(&again.remove().unwrap_err()), "ENOENT");
    assert!(name.file().exists());
    other.remove().unwrap();
}

#[test]
fn permissions_are_exact_whatever_the_umask() {
    let name = Name::new();
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let opened = PosixShm::new(&name.0)
        .create(true)
        .size(1)
        .mode(0o666)
        .open();
    rustix::process::umask(before);
    opened.unwrap();
    let mode = std::fs::metadata(name.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o666);

    let key = Key::new();
    let region = SysvShm::new(key.0)
        .create(true)
        .size(1)
        .mode(0o640)
        .open()
        .unwrap();
    assert_eq!(region.sysv_stat().unwrap().mode, 0o640);
}

#[test]
fn the_owner_is_known() {
    let me = rustix::process::geteuid().as_raw();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let file = MappedFile::new(&path).create(true).size(1);
    assert_eq!(file.open().unwrap().owner_uid(), Some(me));
    let key = Key::new();
    let segment = SysvShm::new(key.0).create(true).size(1).open().unwrap();
    assert_eq!(segment.owner_uid(), Some(me));
    assert_eq!(segment.sysv_stat().unwrap().creator_uid, me);
    assert_eq!(Region::anonymous(1).unwrap().owner_uid(), None);
    if me != 0 {
        eprintln!("skipped: a file of another user: only root can give one away");
        return;
    }
    std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
    assert_eq!(file.open().unwrap().owner_uid(), Some(12_345));
}

#[test]
fn reading_alone() {
    let name = Name::new();
    let writer = PosixShm::new(&name.0)
        .create(true)
        .size(64)
        .unlink_on_drop(true)
        .open()
        .unwrap();
    writer.write(0, b"x").unwrap();
    let reader = PosixShm::new(&name.0).read_only(true).open().unwrap();
    assert!(!reader.is_writable());
    assert_eq!(reader.load::<u8>(0).unwrap(), b'x');
    for error in [
        reader.write(0, b"y").unwrap_err(),
        reader.view::<AtomicU32>(0).unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("for reading"), "{error}");
    }
    drop(writer);
    assert!(!name.file().exists(), "removed with its last handle");
}

#[test]
fn what_is_no_memory_is_refused() {
    let name = Name::new();
    std::fs::write(name.file(), b"").unwrap();
    let error = PosixShm::new(&name.0).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Protocol);
    assert!(error.to_string().contains("empty"), "{error}");
    // Its maker died before it had given it a size.
    let region = PosixShm::new(&name.0)
        .create(true)
        .size(4096)
        .open()
        .unwrap();
    assert_eq!(region.len(), 4096);

    std::fs::remove_file(name.file()).unwrap();
    std::os::unix::fs::symlink("/dev/zero", name.file()).unwrap();
    assert_eq!(errno(&PosixShm::new(&name.0).open().unwrap_err()), "ELOOP");
    for path in ["/dev/zero", "/dev/shm"] {
        let error = MappedFile::new(path).read_only(true).open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    }
    for name in ["ring", "/", "/a/b", "/..", &format!("/{}", "n".repeat(255))] {
        let error = PosixShm::new(name).open().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
}

#[test]
fn a_file_keeps_what_was_flushed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let options = MappedFile::new(&path)
        .create(true)
        .size(8192)
        .prefault(true)
        .huge_pages(true);
    let region = options.open().unwrap();
    region.write(5000, b"kept").unwrap();
    region.start_flush().unwrap();
    region.flush().unwrap();
    assert_eq!(&std::fs::read(&path).unwrap()[5000..5004], b"kept");
    drop(region);
    let region = options.remove_on_drop(true).open().unwrap();
    assert_eq!(&region.load::<[u8; 4]>(5000).unwrap(), b"kept");
    drop(region);
    assert!(!path.exists());
}

#[test]
fn sparse_or_not() {
    use std::os::unix::fs::MetadataExt;
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    for sparse in [false, true] {
        let path = directory.path().join(sparse.to_string());
        let options = MappedFile::new(&path)
            .create(true)
            .size(1 << 20)
            .sparse(sparse);
        let _region = options.open().unwrap();
        let blocks = std::fs::metadata(&path).unwrap().blocks();
        assert_eq!(blocks == 0, sparse, "{blocks}");
    }
    let error = MappedFile::new(directory.path().join("huge"))
        .create(true)
        .size(1 << 60)
        .open()
        .unwrap_err();
    assert!(["ENOSPC", "EFBIG"].contains(&errno(&error)), "{error}");
    assert!(!directory.path().join("huge").exists());
}

#[test]
fn sysv_is_made_once_found_again_and_removed() {
    let key = Key::new();
    assert_eq!(errno(&SysvShm::new(key.0).open().unwrap_err()), "ENOENT");
    let options = SysvShm::new(key.0)
        .create(true)
        .size(10_000)
        .huge_pages(true);
    let first = options.open().unwrap();
    let second = options.open().unwrap();
    assert!(first.was_created() && !second.was_created());
    first.store(8, &7_u64).unwrap();
    assert_eq!(second.load::<u64>(8).unwrap(), 7);
    let stat = first.sysv_stat().unwrap();
    assert_eq!((stat.key, stat.size, stat.attachments), (key.0, 10_000, 2));
    assert_eq!(stat.creator_pid, std::process::id().cast_signed());
    let who = first.attachments().unwrap();
    assert_eq!(who.pids, [std::process::id()]);
    assert_eq!(who.mappings, Some(2));
    assert_eq!(
        errno(&options.clone().exclusive(true).open().unwrap_err()),
        "EEXIST"
    );
    let error = options.clone().size(20_000).open().unwrap_err();
    assert!(error.to_string().contains("has 10000 bytes"), "{error}");

    drop(second);
    first.remove().unwrap();
    assert!(first.sysv_stat().unwrap().removed);
    assert_eq!(errno(&SysvShm::new(key.0).open().unwrap_err()), "ENOENT");
    // By its id it lives until the last of its users goes.
    let third = SysvShm::new(SysvTarget::Id(stat.id)).open().unwrap();
    drop(first);
    assert_eq!(third.load::<u64>(8).unwrap(), 7);
    drop(third);
    assert_eq!(
        errno(&SysvShm::new(SysvTarget::Id(stat.id)).open().unwrap_err()),
        "EINVAL"
    );
    let error = SysvShm::new(SysvTarget::Id(stat.id)).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert!(error.remedy().unwrap().contains("ipcs -m"), "{error}");

    let error = SysvShm::new(key.0)
        .create(true)
        .size(usize::MAX >> 1)
        .open()
        .unwrap_err();
    assert!(
        ["EINVAL", "ENOSPC", "ENOMEM"].contains(&errno(&error)),
        "{error}"
    );
}

#[test]
fn sysv_by_a_file_and_read_only() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let target = SysvTarget::path(file.path(), 7);
    let region = SysvShm::new(target.clone())
        .exclusive(true)
        .size(4096)
        .remove_on_drop(true)
        .prefault(true)
        .open()
        .unwrap();
    region.write(0, b"x").unwrap();
    let reader = SysvShm::new(target.clone()).read_only(true).open().unwrap();
    assert_eq!(reader.load::<u8>(0).unwrap(), b'x');
    assert!(reader.write(0, b"y").is_err());
    drop(region);
    assert_eq!(errno(&SysvShm::new(target).open().unwrap_err()), "ENOENT");
    let error = SysvShm::new(SysvTarget::path("/nowhere", 1))
        .open()
        .unwrap_err();
    assert_eq!(errno(&error), "ENOENT");
    let error = SysvShm::new(SysvTarget::path("/", 0)).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn racing_makers_agree() {
    for _ in 0..20 {
        let name = Name::new();
        let key = Key::new();
        let made: Vec<bool> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|index| {
                    let (name, key) = (&name.0, key.0);
                    scope.spawn(move || {
                        let region: Region = match index % 2 {
                            0 => PosixShm::new(name).create(true).size(4096).open(),
                            _ => SysvShm::new(key).create(true).size(4096).open(),
                        }
                        .unwrap();
                        assert_eq!(region.len(), 4096);
                        region.was_created()
                    })
                })
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(made.iter().filter(|made| **made).count(), 2);
    }
}

#[test]
fn nothing_is_left_of_ten_thousand() {
    let name = Name::new();
    let options = PosixShm::new(&name.0).create(true).size(4096);
    let count = |path: &str| {
        std::fs::read(path)
            .unwrap()
            .iter()
            .filter(|byte| **byte == b'\n')
            .count()
    };
    let _kept = options.open().unwrap();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (maps, fds) = (count("/proc/self/maps"), descriptors());
    for _ in 0..10_000 {
        options.open().unwrap().write(0, b"x").unwrap();
    }
    // Other tests of this process map things too.
    assert!(count("/proc/self/maps") < maps + 200);
    assert!(descriptors() < fds + 50);
}

/// A memfd on huge pages, from which a peer takes the pages out, when the system has none left.
#[test]
fn huge_pages_that_are_gone_are_an_error() {
    use std::os::fd::AsFd;

    use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};

    const PAGE: usize = 2 << 20;
    let free = || {
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap();
        let line = meminfo
            .lines()
            .find_map(|line| line.strip_prefix("HugePages_Free:"));
        line.map_or(0, |count| count.trim().parse::<u64>().unwrap())
    };
    let pages = free();
    if !(1..=8).contains(&pages) {
        println!("skipped: {pages} free huge pages; this takes all, and needs one to eight");
        return;
    }
    let memfd = |len: u64| {
        let flags = MemfdFlags::CLOEXEC
            | MemfdFlags::ALLOW_SEALING
            | MemfdFlags::HUGETLB
            | MemfdFlags::HUGE_2MB;
        let fd = rustix::fs::memfd_create("huge", flags).unwrap();
        rustix::fs::ftruncate(&fd, len).unwrap();
        fd
    };
    let fd = memfd(PAGE as u64);
    let fixed = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    rustix::fs::fcntl_add_seals(&fd, fixed).unwrap();
    let region = Region::from_memfd(fd.as_fd()).unwrap();
    assert_eq!(region.len(), PAGE);
    region.write(PAGE - 4, &[7; 4]).unwrap();
    assert_eq!(region.load::<[u8; 4]>(PAGE - 4).unwrap(), [7; 4]);

    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&fd, punch, 0, PAGE as u64).unwrap();
    let all = memfd(free() * PAGE as u64);
    rustix::fs::fallocate(&all, FallocateFlags::empty(), 0, free() * PAGE as u64).unwrap();
    let error = region.read(0, &mut [0; 4]).unwrap_err();
    assert!(error.is_corrupted() && region.is_truncated(), "{error}");
    assert!(region.write(100, &[1]).is_err());
    drop(region);
}
