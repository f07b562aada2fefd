//! Pipes with programs that nobody here wrote.

use std::process::{Command, Stdio};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use sinew_integration_tests::{Watchdog, program, python, scaled};
use sinew_pipe::{Framing, Options, PIPE_BUF, Splice};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn cat_gives_everything_back() {
    let _watchdog = Watchdog::new("cat_gives_everything_back");
    let Some(cat) = program("cat_gives_everything_back", "cat") else {
        return;
    };
    for framing in [Framing::Lines, Framing::Length] {
        let options = Options::new().framing(framing);
        let (mut sender, mut receiver) = options.spawn(&mut Command::new(&cat)).unwrap();
        let count = scaled(200_000);
        let message = |number: u64| {
            let len = usize::try_from(number % 700).unwrap();
            let mut message = number.to_string().into_bytes();
            message.resize(message.len() + len, b'x');
            Bytes::from(message)
        };
        let sending = async {
            for number in 0..count {
                match number % 10 {
                    0 => sender.send(message(number)).await.unwrap(),
                    _ => sender.feed(message(number)).await.unwrap(),
                }
            }
            sender.close().await.unwrap();
        };
        let receiving = async {
            for number in 0..count {
                assert_eq!(receiver.recv().await.unwrap().unwrap(), message(number));
            }
            assert_eq!(receiver.recv().await.unwrap(), None);
        };
        tokio::join!(sending, receiving);
    }
}

#[tokio::test]
async fn sort_sorts() {
    let _watchdog = Watchdog::new("sort_sorts");
    let Some(sort) = program("sort_sorts", "sort") else {
        return;
    };
    let count = scaled(100_000);
    let mut command = Command::new(sort);
    let (mut sender, receiver) = Options::new().spawn(command.arg("-n")).unwrap();
    for number in (0..count).rev() {
        sender.feed(number.to_string().into()).await.unwrap();
    }
    sender.close().await.unwrap();
    let sorted: Vec<_> = receiver.map(Result::unwrap).collect().await;
    assert_eq!(sorted.len() as u64, count);
    for (number, line) in sorted.iter().enumerate() {
        assert_eq!(*line, number.to_string());
    }
}

/// `dd oflag=direct` writes packets, `iflag=direct` is not needed to read them.
#[tokio::test]
async fn dd_writes_and_reads_packets() {
    let _watchdog = Watchdog::new("dd_writes_and_reads_packets");
    let Some(dd) = program("dd_writes_and_reads_packets", "dd") else {
        return;
    };
    // Of an ordinary pipe, `dd` makes one of packets.
    let (receiver, theirs) = Options::new().receiver().unwrap();
    let reader = receiver.into_parts().0;
    let mut receiver = Options::new().packet_receiver_of(reader).unwrap();
    let count = scaled(20_000);
    let mut command = Command::new(&dd);
    let mut child = command
        .args(["if=/dev/zero", "bs=777", "oflag=direct", "status=none"])
        .arg(format!("count={count}"))
        .stdout(theirs)
        .spawn()
        .unwrap();
    drop(command);
    let mut packets = 0;
    while let Some(packet) = receiver.recv().await.unwrap() {
        assert_eq!(packet, vec![0; 777]);
        packets += 1;
    }
    assert_eq!(packets, count);
    assert!(child.wait().unwrap().success());

    // Each of our packets is one block to it, which it pads.
    let (mut sender, theirs) = Options::new().packet_sender().unwrap();
    let mut command = Command::new(&dd);
    let child = command
        .args(["bs=8", "conv=sync,block", "cbs=8", "status=none"])
        .stdin(theirs)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(command);
    for packet in ["one\n", "three\n", "x\n"] {
        sender.send(packet).await.unwrap();
    }
    sender.close().await.unwrap();
    let output = tokio::task::spawn_blocking(|| child.wait_with_output());
    let output = output.await.unwrap().unwrap();
    assert!(output.stdout.starts_with(b"one     "), "{output:?}");
}

/// Four bytes, big-endian, and the payload: what any language writes in two lines.
#[tokio::test]
async fn python_speaks_length_frames() {
    let _watchdog = Watchdog::new("python_speaks_length_frames");
    let Some(python) = python("python_speaks_length_frames", &["struct"]) else {
        return;
    };
    const ECHO: &str = "
import sys, struct
i, o = sys.stdin.buffer, sys.stdout.buffer
while True:
    head = i.read(4)
    if not head: break
    n, = struct.unpack('>I', head)
    body = i.read(n)[::-1]
    o.write(struct.pack('>I', n) + body); o.flush()
";
    let options = Options::new().framing(Framing::Length);
    let mut command = Command::new(python);
    let (mut sender, mut receiver) = options.spawn(command.args(["-c", ECHO])).unwrap();
    for len in [0, 1, 4092, 4093, 65_536, 1 << 20] {
        let message: Vec<u8> = (0..len).map(|at: u32| at.to_le_bytes()[0] ^ 0x5a).collect();
        let mut answer = message.clone();
        answer.reverse();
        // Neither side can hold the largest in its pipe.
        let (sent, received) = tokio::join!(sender.send(Bytes::from(message)), receiver.recv());
        sent.unwrap();
        assert_eq!(received.unwrap().unwrap(), answer);
    }
    sender.close().await.unwrap();
    assert_eq!(receiver.recv().await.unwrap(), None);
}

/// Several processes write into one pipe: what is written at once is not mixed.
#[tokio::test]
async fn writers_in_several_processes_are_not_mixed() {
    let _watchdog = Watchdog::new("writers_in_several_processes_are_not_mixed");
    let Some(dd) = program("writers_in_several_processes_are_not_mixed", "dd") else {
        return;
    };
    let count = scaled(20_000);
    let (mut writer, mut reader) = Options::new().byte_pair().unwrap();
    let mut children = Vec::new();
    for letter in ["a", "b", "c", "d"] {
        let mut command = Command::new("sh");
        // `tr` turns the zeros of a block into letters; `dd` writes blocks of PIPE_BUF bytes.
        let script = format!(
            "head -c {} /dev/zero | tr '\\0' {letter} | {} bs={PIPE_BUF} iflag=fullblock status=none",
            count * PIPE_BUF as u64,
            dd.display(),
        );
        let theirs = writer.fd().unwrap().try_clone_to_owned().unwrap();
        rustix::fs::fcntl_setfl(&theirs, rustix::fs::OFlags::empty()).unwrap();
        children.push(
            command
                .args(["-c", &script])
                .stdout(theirs)
                .spawn()
                .unwrap(),
        );
    }
    writer.shutdown().await.unwrap();
    let mut block = vec![0; PIPE_BUF];
    let mut blocks = 0;
    while reader.read_exact(&mut block).await.is_ok() {
        assert!(block.iter().all(|byte| *byte == block[0]), "mixed");
        blocks += 1;
    }
    assert_eq!(blocks, 4 * count);
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
}

/// Between two processes, without a copy here.
#[tokio::test]
async fn spliced_between_programs() {
    let _watchdog = Watchdog::new("spliced_between_programs");
    let Some(sum) = program("spliced_between_programs", "cksum") else {
        return;
    };
    let bytes = scaled(1 << 30).max(64 << 20);
    let (from, theirs) = Options::new().receiver().unwrap();
    let mut from = from.into_parts().0;
    let mut producer = Command::new("sh");
    producer.args(["-c", &format!("seq 1000000000 | head -c {bytes}")]);
    let mut producing = producer.stdout(theirs).spawn().unwrap();
    drop(producer);
    let (to, theirs) = Options::new().sender().unwrap();
    let mut to = to.into_inner();
    let mut consumer = Command::new(&sum);
    let consuming = consumer
        .stdin(theirs)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(consumer);
    assert_eq!(Splice::new(&mut from, &mut to).run().await.unwrap(), bytes);
    drop(to);
    assert!(producing.wait().unwrap().success());
    let through = consuming.wait_with_output().unwrap();
    let direct = format!("seq 1000000000 | head -c {bytes} | {}", sum.display());
    let direct = Command::new("sh").args(["-c", &direct]).output().unwrap();
    assert_eq!(through.stdout, direct.stdout);
}
