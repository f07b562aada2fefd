//! Regions and channels, with programs that no one here wrote: Python's `posix_ipc`, `sysv_ipc` and `mmap`, and ipcs(1).

use std::path::Path;
use std::process::{Command, Stdio};

use futures::SinkExt;
use sinew_integration_tests::{Peer, Watchdog, program, python, region_place};
use sinew_memory::{MappedFile, PosixShm, SysvShm, SysvTarget};
use sinew_shm::named::Options;

const PEER: &str = env!("CARGO_BIN_EXE_region_peer");

struct Posix(String);

impl Posix {
    fn new(test: &str) -> Self {
        Self(format!("/sinew-foreign-{test}-{}", std::process::id()))
    }
}

impl Drop for Posix {
    fn drop(&mut self) {
        let _unlinked_before = PosixShm::unlink(&self.0);
    }
}

fn key(number: u32) -> i32 {
    (0x5600_0000 | std::process::id() << 3 & 0x00ff_fff8 | number).cast_signed()
}

struct Sysv(i32);

impl Drop for Sysv {
    fn drop(&mut self) {
        let _removed_before = SysvShm::remove(self.0);
    }
}

/// Runs a Python program to its end; what it prints.
fn run(python: &Path, source: &str, arguments: &[&str]) -> String {
    let output = Command::new(python)
        .args(["-c", source])
        .args(arguments)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn posix_ipc_has_the_same_memory() {
    let test = "region_foreign::posix_ipc_has_the_same_memory";
    let _watchdog = Watchdog::new(test);
    let Some(python) = python(test, &["posix_ipc"]) else {
        return;
    };
    let name = Posix::new("posix");
    // Made there.
    let source = "
import mmap, os, posix_ipc, sys
shm = posix_ipc.SharedMemory(sys.argv[1], posix_ipc.O_CREX, 0o600, size=12288)
with mmap.mmap(shm.fd, shm.size) as m:
    m[100:105] = b'there'
";
    run(&python, source, &[&name.0]);
    let region = PosixShm::new(&name.0).open().unwrap();
    assert_eq!(region.len(), 12288);
    assert_eq!(&region.load::<[u8; 5]>(100).unwrap(), b"there");
    region.remove().unwrap();
    // Made here.
    let region = PosixShm::new(&name.0)
        .create(true)
        .size(8192)
        .open()
        .unwrap();
    region.write(4096, b"here").unwrap();
    let source = "
import mmap, posix_ipc, sys
shm = posix_ipc.SharedMemory(sys.argv[1])
with mmap.mmap(shm.fd, shm.size) as m:
    print(shm.size, m[4096:4100].decode())
    m[4096:4100] = b'back'
posix_ipc.unlink_shared_memory(sys.argv[1])
";
    assert_eq!(run(&python, source, &[&name.0]), "8192 here");
    assert_eq!(&region.load::<[u8; 4]>(4096).unwrap(), b"back");
    assert_eq!(region.remove().unwrap_err().errno_name(), Some("ENOENT"));
}

#[test]
fn sysv_ipc_and_ipcs_have_the_same_segment() {
    let test = "region_foreign::sysv_ipc_and_ipcs_have_the_same_segment";
    let _watchdog = Watchdog::new(test);
    let Some(python) = python(test, &["sysv_ipc"]) else {
        return;
    };
    let Some(ipcs) = program(test, "ipcs") else {
        return;
    };
    let key = Sysv(key(0));
    let text = key.0.to_string();
    let region = SysvShm::new(key.0)
        .create(true)
        .size(8192)
        .mode(0o640)
        .open()
        .unwrap();
    region.write(4096, b"here").unwrap();
    let source = "
import sysv_ipc, sys
shm = sysv_ipc.SharedMemory(int(sys.argv[1]))
print(shm.size, shm.number_attached, oct(shm.mode), shm.creator_pid, shm.read(4, 4096).decode())
shm.write(b'back', 4096)
shm.detach()
";
    let pid = std::process::id();
    let said = run(&python, source, &[&text]);
    assert_eq!(said, format!("8192 2 0o640 {pid} here"));
    assert_eq!(&region.load::<[u8; 4]>(4096).unwrap(), b"back");

    // A second process that holds it, in everybody's eyes.
    let mut peer = Peer::start(PEER, &["hold", &format!("sysv:{text}")]);
    assert_eq!(peer.line(), "8192");
    let stat = region.sysv_stat().unwrap();
    assert_eq!(
        (stat.attachments, stat.last_pid),
        (2, peer.pid().cast_signed())
    );
    let who = region.attachments().unwrap();
    assert!(
        who.pids.contains(&pid) && who.pids.contains(&peer.pid()),
        "{who:?}"
    );
    let output = Command::new(ipcs).arg("-m").output().unwrap();
    let listed = String::from_utf8(output.stdout).unwrap();
    let hex = format!("0x{:08x}", key.0);
    let line = listed.lines().find(|line| line.starts_with(&hex)).unwrap();
    let fields: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(fields[1], stat.id.to_string());
    assert_eq!(fields[3..6], ["640", "8192", "2"]);

    // Killed, it is attached no more; removed, it has no key.
    peer.kill();
    peer.wait();
    assert_eq!(region.sysv_stat().unwrap().attachments, 1);
    let source = "
import sysv_ipc, sys
sysv_ipc.SharedMemory(int(sys.argv[1])).remove()
";
    run(&python, source, &[&text]);
    assert!(region.sysv_stat().unwrap().removed);
    assert_eq!(
        SysvShm::new(key.0).open().unwrap_err().errno_name(),
        Some("ENOENT")
    );
    SysvShm::new(SysvTarget::Id(stat.id)).open().unwrap();
}

#[test]
fn python_maps_the_same_file() {
    let test = "region_foreign::python_maps_the_same_file";
    let _watchdog = Watchdog::new(test);
    let Some(python) = python(test, &["mmap"]) else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let region = MappedFile::new(&path)
        .create(true)
        .size(10_000)
        .open()
        .unwrap();
    region.write(9990, b"here").unwrap();
    let source = "
import mmap, sys
with open(sys.argv[1], 'r+b') as f, mmap.mmap(f.fileno(), 0) as m:
    print(len(m), m[9990:9994].decode())
    m[9990:9994] = b'back'
";
    let said = run(&python, source, &[path.to_str().unwrap()]);
    assert_eq!(said, "10000 here");
    assert_eq!(&region.load::<[u8; 4]>(9990).unwrap(), b"back");
    // Somebody else has it mapped, as far as /proc tells.
    let mut peer = Peer::start(PEER, &["hold", &format!("file:{}", path.display())]);
    assert_eq!(peer.line(), "10000");
    let who = region.attachments().unwrap();
    assert!(who.pids.contains(&peer.pid()), "{who:?}");
    assert_eq!(who.mappings, None);
}

/// A channel in memory that Python made; and Python reads the ring, as `docs/protocol/region.md` says it.
#[tokio::test]
async fn python_reads_what_was_sent() {
    let test = "region_foreign::python_reads_what_was_sent";
    let _watchdog = Watchdog::new(test);
    let Some(python) = python(test, &["posix_ipc"]) else {
        return;
    };
    let name = Posix::new("channel");
    let source = "
import posix_ipc, sys
posix_ipc.SharedMemory(sys.argv[1], posix_ipc.O_CREX, size=4096 + 4096 + 1000)
";
    run(&python, source, &[&name.0]);
    let place = region_place(&format!("posix:{}", name.0));
    let mut sender = Options::new().open_sender(place).await.unwrap();
    assert_eq!(sender.capacity(), 4096);
    sender.send("express").await.unwrap();
    sender.feed("staged".into()).await.unwrap();
    sender.feed("".into()).await.unwrap();
    sender.close().await.unwrap();
    let source = "
import mmap, os, posix_ipc, struct, sys
m = mmap.mmap(posix_ipc.SharedMemory(sys.argv[1]).fd, 0)
word = lambda at: struct.unpack_from('<Q', m, at)[0]
assert m[0:8] == b'SINEWRNG' and word(16) == 3 and word(24) == 4096 and word(40) == 1 and word(48) == 0
published, released = word(512) & ~7, word(768)
frames = []
while released < published:
    at = 4096 + released % 4096
    length, kind = struct.unpack_from('<II', m, at)
    frames.append(f'{kind}:{m[at + 8:at + 8 + length].decode()}')
    released += (8 + length + 7) & ~7
# Consumed, with the count for that cursor before it.
struct.pack_into('<QQ', m, 256 + 48, released, 3)
struct.pack_into('<Q', m, 768, released)
print(' '.join(frames))
";
    assert_eq!(run(&python, source, &[&name.0]), "1:express 1:staged 1: 3:");
    let place = region_place(&format!("posix:{}", name.0));
    let mut receiver = Options::new().open_receiver(place).await.unwrap();
    assert_eq!(receiver.consumed(), 3);
    assert!(receiver.try_recv().is_err());
}
