//! FIFOs.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use sinew_core::{ErrorKind, Framing};
use sinew_pipe::fifo::{self, Eof, Options};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    (directory, path)
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().permissions().mode() & 0o7777
}

#[tokio::test]
async fn the_mode_is_exact() {
    let (directory, path) = place();
    for wanted in [0o600, 0o666, 0o622, 0o777, 0] {
        fifo::create(&path, wanted).unwrap();
        assert!(path.metadata().unwrap().file_type().is_fifo());
        assert_eq!(mode(&path), wanted);
        let error = fifo::create(&path, wanted).unwrap_err();
        assert_eq!(error.errno_name(), Some("EEXIST"));
        std::fs::remove_file(&path).unwrap();
    }
    assert_eq!(directory.path().read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn each_end_waits_for_the_other() {
    let (_directory, path) = place();
    let options = Options::new().create(true);
    for reader_first in [true, false] {
        let (one, two) = (options.clone(), options.clone());
        let (path_one, path_two) = (path.clone(), path.clone());
        let receiving = async move { one.receiver(path_one).await.unwrap() };
        let sending = async move { two.sender(path_two).await.unwrap() };
        let (mut receiver, mut sender) = if reader_first {
            let receiving = tokio::spawn(receiving);
            tokio::time::sleep(Duration::from_millis(30)).await;
            assert!(!receiving.is_finished());
            let sender = sending.await;
            (receiving.await.unwrap(), sender)
        } else {
            let sending = tokio::spawn(sending);
            tokio::time::sleep(Duration::from_millis(30)).await;
            assert!(!sending.is_finished());
            let receiver = receiving.await;
            (receiver, sending.await.unwrap())
        };
        assert!(receiver.try_recv().unwrap_err().is_empty());
        sender.send("a line").await.unwrap();
        assert_eq!(receiver.recv().await.unwrap().unwrap(), "a line");
        sender.close().await.unwrap();
        assert_eq!(receiver.recv().await.unwrap(), None);
    }
}

#[tokio::test]
async fn waiting_can_be_given_up() {
    let (_directory, path) = place();
    fifo::create(&path, 0o600).unwrap();
    let options = Options::new().timeout(Duration::from_millis(20));
    let error = options.sender(&path).await.unwrap_err();
    assert!(error.is_timed_out(), "{error}");
    let error = options.receiver(&path).await.unwrap_err();
    assert!(error.is_timed_out(), "{error}");
    // Two, as one that is given up may still meet one that is opened in the same moment.
    let other = path.with_extension("other");
    fifo::create(&other, 0o600).unwrap();
    for _ in 0..50 {
        assert!(Options::new().sender(&path).now_or_never().is_none());
        assert!(Options::new().receiver(&other).now_or_never().is_none());
    }
    // Nothing of them is left, after a moment.
    let threads = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm"));
        tasks
            .filter_map(|task| name(task.unwrap()).ok())
            .filter(|name| name.trim() == "sinew-fifo")
            .count()
    };
    // Other tests of this process have some of their own now and then, but not for ever.
    let mut left = threads();
    for _ in 0..1000 {
        if left == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        left = threads();
    }
    assert_eq!(left, 0);
    let opened = rustix::fs::open(
        &other,
        rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::NONBLOCK,
        rustix::fs::Mode::empty(),
    );
    assert_eq!(
        opened.unwrap_err(),
        rustix::io::Errno::NXIO,
        "a reader is left"
    );
}

#[tokio::test]
async fn one_try_finds_who_is_there() {
    let (_directory, path) = place();
    fifo::create(&path, 0o600).unwrap();
    let once = Options::new().timeout(Duration::ZERO);
    assert!(once.receiver(&path).await.unwrap_err().is_timed_out());
    assert!(once.sender(&path).await.unwrap_err().is_timed_out());
    for _ in 0..100 {
        let waiting = tokio::spawn({
            let path = path.clone();
            async move { Options::new().sender(path).await.unwrap() }
        });
        // It is there when its thread sleeps in open(2), which an open without waiting shows.
        let mut tries = 0;
        let receiver = loop {
            match once.receiver(&path).await {
                Ok(receiver) => break receiver,
                Err(error) => assert!(error.is_timed_out(), "{error}"),
            }
            tries += 1;
            assert!(tries < 1000);
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        drop((receiver, waiting.await.unwrap()));
    }
}

#[tokio::test]
async fn what_is_no_fifo_is_refused() {
    let (directory, path) = place();
    let error = Options::new().receiver(&path).await.unwrap_err();
    assert_eq!(error.errno_name(), Some("ENOENT"));
    assert!(error.remedy().unwrap().contains("mkfifo"), "{error}");
    std::fs::write(&path, "text").unwrap();
    for options in [
        Options::new(),
        Options::new().create(true).mode(0o600).unlink(true),
    ] {
        for (path, what) in [
            (path.as_path(), "a regular file"),
            (directory.path(), "a directory"),
            ("/dev/null".as_ref(), "a character device"),
        ] {
            for error in [
                options.receiver(path).await.unwrap_err(),
                options.sender(path).await.unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
                assert!(error.to_string().contains(what), "{error}");
            }
        }
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
}

#[tokio::test]
async fn one_that_is_there_is_taken() {
    let (_directory, path) = place();
    fifo::create(&path, 0o644).unwrap();
    let inode = path.metadata().unwrap().ino();
    let options = Options::new().create(true).eof(Eof::Hold);
    drop(options.receiver(&path).await.unwrap());
    assert_eq!(
        (mode(&path), path.metadata().unwrap().ino()),
        (0o644, inode)
    );
    drop(options.clone().mode(0o600).receiver(&path).await.unwrap());
    assert_eq!(
        (mode(&path), path.metadata().unwrap().ino()),
        (0o600, inode)
    );
    let receiver = options.clone().unlink(true).receiver(&path).await.unwrap();
    assert!(path.exists());
    drop(receiver);
    assert!(!path.exists());
    // Another one in its place is not removed.
    let receiver = options.unlink(true).receiver(&path).await.unwrap();
    let elsewhere = path.with_extension("moved");
    std::fs::rename(&path, &elsewhere).unwrap();
    fifo::create(&path, 0o600).unwrap();
    drop(receiver);
    assert!(path.exists());
}

#[tokio::test]
async fn the_last_writer_leaves() {
    let (_directory, path) = place();
    fifo::create(&path, 0o600).unwrap();
    let options = Options::new().framing(Framing::Length);

    // `End` is shown above. `Reopen` waits for the next, whatever the last one has left.
    let reopening = options.clone().eof(Eof::Reopen);
    let (receiver, writer) = tokio::join!(reopening.receiver(&path), options.writer(&path));
    let (mut receiver, mut writer) = (receiver.unwrap(), writer.unwrap());
    for round in 0..20 {
        writer.write_all(b"\0\0\0\x02ok").await.unwrap();
        if round % 2 == 0 {
            writer.write_all(b"\0\0\0\x05cut").await.unwrap();
        }
        drop(writer);
        assert_eq!(receiver.next().await.unwrap().unwrap(), "ok");
        if round % 2 == 0 {
            let error = receiver.next().await.unwrap().unwrap_err();
            assert!(error.is_recoverable(), "{error}");
            assert_eq!(error.lost(), Some(1));
        }
        assert!(receiver.next().now_or_never().is_none());
        tokio::task::yield_now().await;
        assert!(receiver.try_recv().unwrap_err().is_empty());
        writer = options.writer(&path).await.unwrap();
    }
    drop((writer, receiver));

    // `Hold` goes on as if the next writer were the last one.
    let holding = options.clone().eof(Eof::Hold);
    let mut receiver = holding.receiver(&path).await.unwrap();
    for part in [&b"\0\0\0\x04w"[..], b"ho", b"le"] {
        let mut writer = options.writer(&path).await.unwrap();
        writer.write_all(part).await.unwrap();
        drop(writer);
        tokio::task::yield_now().await;
        if part != b"le" {
            assert!(receiver.try_recv().unwrap_err().is_empty());
        }
    }
    assert_eq!(receiver.try_recv().unwrap(), "whol");
}

#[tokio::test]
async fn a_reader_that_reopens_idles() {
    let (_directory, path) = place();
    fifo::create(&path, 0o600).unwrap();
    let options = Options::new().eof(Eof::Reopen);
    let (reader, writer) = tokio::join!(options.reader(&path), options.writer(&path));
    let mut reader = reader.unwrap();
    drop(writer.unwrap());
    let mut buffer = [0; 16];
    assert_eq!(reader.read(&mut buffer).await.unwrap(), 0, "the end, once");
    let mut polls = 0;
    let reading = std::future::poll_fn(|cx| {
        polls += 1;
        std::pin::pin!(reader.read(&mut buffer)).poll(cx)
    });
    let waited = tokio::time::timeout(Duration::from_millis(50), reading).await;
    assert!(waited.is_err());
    // It looks for a moment, in slices, and then waits.
    assert!(polls < 50, "it looks again and again: {polls}");
}

#[tokio::test]
async fn packets() {
    let (_directory, path) = place();
    let options = Options::new().create(true).unlink(true);
    let (sender, receiver) =
        tokio::join!(options.packet_sender(&path), options.packet_receiver(&path));
    let (mut sender, mut receiver) = (sender.unwrap(), receiver.unwrap());
    sender.send("one").await.unwrap();
    sender.send("two").await.unwrap();
    drop(sender);
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "one");
    assert_eq!(receiver.recv().await.unwrap().unwrap(), "two");
    assert_eq!(receiver.recv().await.unwrap(), None);
}
