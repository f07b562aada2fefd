//! Waiting for descriptors: edges, short reads, waiters, fairness and cancellation.

use std::cell::{Cell, RefCell};
use std::fs::File;
use std::future::poll_fn;
use std::io::{self, ErrorKind::WouldBlock};
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use futures::poll;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use sinew_core::{AdaptiveSpin, AsyncIo, ErrorKind};
use tokio::io::Interest;
use tokio::task::{LocalSet, coop};

/// Ends a test that would hang; nothing is asserted about how long one takes.
const WATCHDOG: Duration = Duration::from_secs(30);

type Result = std::result::Result<(), Box<dyn std::error::Error>>;

async fn within<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(WATCHDOG, future).await?
}

fn pipe(flags: PipeFlags) -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(flags | PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?)
}

fn read(fd: impl AsFd, length: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; length];
    let n = rustix::io::read(fd, &mut buffer)?;
    buffer.truncate(n);
    Ok(buffer)
}

fn write(fd: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
    Ok(rustix::io::write(fd, bytes)?)
}

#[test]
fn outside_a_runtime_is_an_error() -> Result {
    let (reader, _writer) = pipe(PipeFlags::empty())?;
    let error = AsyncIo::new(reader).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(
        error.to_string(),
        "register: there is no Tokio runtime here; call it from a task, or enter a runtime first"
    );
    Ok(())
}

#[test]
fn a_runtime_without_io_is_an_error() -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let _entered = runtime.enter();
    let (reader, _writer) = pipe(PipeFlags::empty())?;
    let error = AsyncIo::new(reader).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("enable_all"), "{error}");
    Ok(())
}

#[tokio::test]
async fn what_epoll_refuses_is_an_error() -> Result {
    let error =
        AsyncIo::with_interest(File::open("/proc/self/exe")?, Interest::READABLE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert_eq!(error.errno_name(), Some("EPERM"));
    assert_eq!(error.operation(), "epoll_ctl");
    Ok(())
}

#[tokio::test]
async fn waits_for_data_and_for_room() -> Result {
    let (reader, writer) = pipe(PipeFlags::empty())?;
    let reader = Arc::new(AsyncIo::with_interest(reader, Interest::READABLE)?);
    let writer = AsyncIo::with_interest(writer, Interest::WRITABLE)?;

    let mut capacity = 0;
    while let Ok(n) = writer.try_write_with(|fd| write(fd, &[7; 4096])) {
        capacity += n;
    }
    assert!(capacity > 0);

    let mut more = pin!(writer.write_with(|fd| write(fd, &[8])));
    assert!(poll!(&mut more).is_pending());
    let drain = tokio::spawn({
        let reader = Arc::clone(&reader);
        async move {
            let mut total = 0;
            while total < capacity {
                total += reader.read_with(|fd| read(fd, 4096)).await?.len();
            }
            io::Result::Ok(total)
        }
    });
    within(more).await?;
    assert!(within(async { drain.await? }).await? >= capacity);
    Ok(())
}

/// A packet pipe in which one edge announces three packets, none of which fills a buffer.
fn three_packets() -> io::Result<(AsyncIo<OwnedFd>, OwnedFd)> {
    let (reader, writer) = pipe(PipeFlags::DIRECT)?;
    for packet in PACKETS {
        write(&writer, packet)?;
    }
    // The writer stays open with the caller: its hang-up would be a second edge.
    Ok((AsyncIo::new(reader)?, writer))
}

const PACKETS: [&[u8]; 3] = [b"a", b"bb", b"ccc"];

#[tokio::test]
async fn short_reads_of_a_packet_pipe_keep_the_readiness() -> Result {
    let (awaited, _writer) = three_packets()?;
    for expected in PACKETS {
        let packet = within(awaited.read_with(|fd| read(fd, 4096))).await?;
        assert_eq!(packet, expected);
    }
    let (polled, _writer) = three_packets()?;
    for expected in PACKETS {
        let next = poll_fn(|cx| polled.poll_read_with(cx, |fd| read(fd, 4096)));
        assert_eq!(within(next).await?, expected);
    }
    Ok(())
}

#[tokio::test]
async fn every_waiter_is_woken() -> Result {
    const WAITERS: usize = 8;
    let (reader, writer) = pipe(PipeFlags::empty())?;
    let reader = Arc::new(AsyncIo::new(reader)?);
    let tasks: Vec<_> = (0..WAITERS)
        .map(|_| {
            let reader = Arc::clone(&reader);
            tokio::spawn(async move { reader.read_with(|fd| read(fd, 1)).await })
        })
        .collect();
    tokio::task::yield_now().await;
    write(&writer, &[1; WAITERS])?;
    for task in tasks {
        assert_eq!(within(async { task.await? }).await?, [1]);
    }
    Ok(())
}

#[tokio::test]
async fn a_dropped_read_takes_nothing() -> Result {
    let (reader, writer) = pipe(PipeFlags::empty())?;
    let reader = AsyncIo::new(reader)?;
    for byte in 0..100 {
        {
            let mut dropped = pin!(reader.read_with(|fd| read(fd, 1)));
            assert!(poll!(&mut dropped).is_pending());
        }
        {
            let mut dropped = pin!(reader.read_with(|fd| read(fd, 1)));
            assert!(poll!(&mut dropped).is_pending());
            write(&writer, &[byte])?;
            // Woken, but dropped before it is polled again.
            tokio::task::yield_now().await;
        }
        let got = within(reader.read_with(|fd| read(fd, 1))).await?;
        assert_eq!(got, [byte]);
        assert_eq!(
            reader.try_read_with(|fd| read(fd, 1)).unwrap_err().kind(),
            WouldBlock
        );
    }
    Ok(())
}

#[tokio::test]
async fn try_asks_the_kernel_and_loses_no_edge() -> Result {
    let (reader, writer) = pipe(PipeFlags::empty())?;
    write(&writer, b"x")?;
    let reader = AsyncIo::new(reader)?;
    // The runtime has not yet looked at epoll since the registration.
    assert_eq!(reader.try_read_with(|fd| read(fd, 1))?, b"x");

    for byte in 0..100 {
        assert_eq!(
            reader.try_read_with(|fd| read(fd, 1)).unwrap_err().kind(),
            WouldBlock
        );
        write(&writer, &[byte])?;
        if byte % 2 == 0 {
            tokio::task::yield_now().await;
        }
        let got = within(reader.read_with(|fd| read(fd, 1))).await?;
        assert_eq!(got, [byte]);
    }
    Ok(())
}

#[tokio::test]
async fn interrupted_operations_are_repeated() -> Result {
    let (_reader, writer) = pipe(PipeFlags::empty())?;
    let writer = AsyncIo::new(writer)?;
    let calls = Cell::new(0);
    let interrupted_twice = |_: &OwnedFd| {
        calls.set(calls.get() + 1);
        if calls.get() % 3 == 0 {
            Ok(calls.get())
        } else {
            Err(io::Error::from(Errno::INTR))
        }
    };
    assert_eq!(within(writer.write_with(interrupted_twice)).await?, 3);
    assert_eq!(
        within(poll_fn(|cx| writer.poll_write_with(cx, interrupted_twice))).await?,
        6
    );
    assert_eq!(writer.try_write_with(interrupted_twice)?, 9);
    Ok(())
}

/// Whether a loop over a descriptor that is always ready keeps the other tasks of its worker from running
/// until it ends.
fn starves<F: Future<Output = io::Result<()>>>(
    operation: impl Fn(Rc<AsyncIo<OwnedFd>>) -> F,
) -> io::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(
        &runtime,
        within(async {
            let (reader, writer) = pipe(PipeFlags::empty())?;
            write(&writer, b"x")?;
            let reader = Rc::new(AsyncIo::new(reader)?);
            reader.read_with(|_| Ok(())).await?;

            let had_a_turn = Rc::new(Cell::new(false));
            tokio::task::spawn_local({
                let had_a_turn = Rc::clone(&had_a_turn);
                async move { had_a_turn.set(true) }
            });
            for _ in 0..100_000 {
                operation(Rc::clone(&reader)).await?;
                if had_a_turn.get() {
                    return Ok(false);
                }
            }
            Ok(true)
        }),
    )
}

#[test]
fn an_always_ready_descriptor_does_not_starve_others() -> Result {
    let awaited = starves(|io| async move { io.read_with(|_| Ok(())).await })?;
    assert!(!awaited);
    let polled =
        starves(|io| async move { poll_fn(|cx| io.poll_read_with(cx, |_| Ok(()))).await })?;
    assert!(!polled);
    // Nor does one that is found to be ready before the runtime has heard of it.
    let spin = Rc::new(RefCell::new(AdaptiveSpin::adaptive()));
    let looked = starves(|io| {
        let spin = Rc::clone(&spin);
        async move {
            poll_fn(|cx| io.poll_read_spinning(cx, &mut spin.borrow_mut(), |_| Ok(((), true))))
                .await
        }
    })?;
    assert!(!looked);
    // What the test would see without the budget.
    let unconstrained =
        starves(|io| coop::unconstrained(async move { io.read_with(|_| Ok(())).await }))?;
    assert!(unconstrained);
    Ok(())
}

#[tokio::test]
async fn a_hang_up_that_is_not_the_end_does_not_hang_the_worker() -> Result {
    let (reader, writer) = pipe(PipeFlags::empty())?;
    let reader = AsyncIo::new(reader)?;
    drop(writer);
    assert!(within(reader.read_with(|fd| read(fd, 1))).await?.is_empty());

    let calls = Cell::new(0);
    let stubborn = |_: &OwnedFd| {
        calls.set(calls.get() + 1);
        if calls.get() % 1000 == 0 {
            Ok(())
        } else {
            Err(io::Error::from(WouldBlock))
        }
    };
    // Without a budget, only the helper itself can make each poll end.
    let mut waiting = pin!(coop::unconstrained(reader.read_with(stubborn)));
    assert!(poll!(&mut waiting).is_pending());
    within(waiting).await?;
    let mut polling = pin!(coop::unconstrained(poll_fn(
        |cx| reader.poll_read_with(cx, stubborn)
    )));
    assert!(poll!(&mut polling).is_pending());
    within(polling).await?;
    Ok(())
}

#[tokio::test]
async fn a_socket_error_wakes_a_reader() -> Result {
    let nobody = UdpSocket::bind("127.0.0.1:0")?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(nobody.local_addr()?)?;
    socket.set_nonblocking(true)?;
    drop(nobody);
    let socket = AsyncIo::new(socket)?;

    let mut waiting = pin!(socket.read_with(|socket| socket.recv(&mut [0; 16])));
    assert!(poll!(&mut waiting).is_pending());
    socket.get_ref().send(b"anyone?")?;
    let error = within(waiting).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    Ok(())
}

#[tokio::test]
async fn the_descriptor_comes_back_and_can_be_registered_anew() -> Result {
    let (reader, writer) = pipe(PipeFlags::empty())?;
    let number = reader.as_raw_fd();
    let mut reader = AsyncIo::new(reader)?;
    for byte in 0..3 {
        assert_eq!(reader.as_fd().as_raw_fd(), number);
        reader = AsyncIo::new(reader.into_inner())?;
        write(&writer, &[byte])?;
        let got = within(reader.read_with(|fd| read(fd, 1))).await?;
        assert_eq!(got, [byte]);
    }
    Ok(())
}

/// A short read of a stream is taken for the end of what is there, which saves a system call; what comes
/// later, or came meanwhile, is found all the same.
#[tokio::test]
async fn a_stream_that_was_drained_is_not_asked_again() -> Result {
    let (reader, writer) = pipe(PipeFlags::empty())?;
    let reader = AsyncIo::new(reader)?;
    let calls = Cell::new(0);
    let some = || {
        within(poll_fn(|cx| {
            reader.poll_read_spinning(cx, &mut AdaptiveSpin::never(), |fd| {
                calls.set(calls.get() + 1);
                let bytes = read(fd, 4)?;
                let drained = (1..4).contains(&bytes.len());
                Ok((bytes, drained))
            })
        }))
    };
    write(&writer, b"12345")?;
    assert_eq!(some().await?, b"1234");
    assert_eq!(some().await?, b"5");
    let before = calls.get();
    let mut waiting = pin!(some());
    assert!(poll!(waiting.as_mut()).is_pending());
    assert_eq!(calls.get(), before);
    write(&writer, b"6")?;
    assert_eq!(waiting.await?, b"6");
    assert_eq!(calls.get(), before + 1);
    for number in 0..1000_u32 {
        let bytes = (number % 250).to_le_bytes();
        write(&writer, &bytes[..1 + number as usize % 3])?;
        assert_eq!(some().await?[0], bytes[0]);
    }
    drop(writer);
    assert_eq!(some().await?, b"");
    assert_eq!(some().await?, b"");
    Ok(())
}

/// Bytes that come at any time, also while a reader looks for them or gives that up, are found, each once.
#[tokio::test]
async fn who_looks_before_waiting_misses_nothing() -> Result {
    let (reader, writer) = pipe(PipeFlags::empty())?;
    let reader = AsyncIo::new(reader)?;
    let mut spin = AdaptiveSpin::adaptive();
    let writing = thread::spawn(move || -> io::Result<()> {
        for number in 0..2000_u32 {
            write(&writer, &number.to_le_bytes())?;
            let begun = Instant::now();
            let pause = Duration::from_micros(u64::from(number * 37 % 300));
            while begun.elapsed() < pause {}
        }
        Ok(())
    });
    let mut numbers = Vec::new();
    loop {
        let some = poll_fn(|cx| {
            reader.poll_read_spinning(cx, &mut spin, |fd| {
                let bytes = read(fd, 4)?;
                Ok((bytes, false))
            })
        });
        let bytes = within(some).await?;
        if bytes.is_empty() {
            break;
        }
        numbers.push(u32::from_le_bytes(
            bytes.try_into().map_err(|_| "four bytes")?,
        ));
    }
    writing.join().map_err(|_| "the writer panicked")??;
    assert!(numbers.into_iter().eq(0..2000));
    Ok(())
}

/// An ICMP answer comes without data. Who waits for it takes nothing from those that wait to read.
#[tokio::test]
async fn an_error_without_data_wakes_who_waits_for_it() -> Result {
    let gone = UdpSocket::bind("127.0.0.1:0")?.local_addr()?;
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    socket.connect(gone)?;
    socket.set_nonblocking(true)?;
    let socket = AsyncIo::new(socket)?;
    for _ in 0..3 {
        let mut waiting = pin!(within(socket.error_with(|fd| {
            match rustix::net::sockopt::socket_error(fd)? {
                Ok(()) => Err(WouldBlock.into()),
                Err(errno) => Ok(errno),
            }
        })));
        assert!(poll!(waiting.as_mut()).is_pending());
        socket.get_ref().send(b"anybody")?;
        assert_eq!(waiting.await?, Errno::CONNREFUSED);
    }
    let other = UdpSocket::bind(gone)?;
    other.send_to(b"now", socket.get_ref().local_addr()?)?;
    let mut buffer = [0; 8];
    let read = within(socket.read_with(|socket| socket.recv(&mut buffer))).await?;
    assert_eq!(&buffer[..read], b"now");
    Ok(())
}
