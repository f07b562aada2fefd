//! The second process of the tests of regions.
//!
//! `region_peer send PLACE WAIT BOARD SEED` sends numbered messages, from the first that is not
//! published yet on, until the board says to stop; `region_peer peek …` and `region_peer recv …`
//! check that each message is the one of its number, and note on the board how far they have come.
//! `region_peer hold PLACE` attaches a region, says so, and holds it; `region_peer say PLACE` sends
//! one message, says so or why not, and keeps its end.

use std::time::Duration;

use futures::SinkExt;
use sinew_core::Error;
use sinew_integration_tests::{Board, Payloads, region_place};
use sinew_shm::named::{Options, Place, Receiver, Sender};

/// Bytes of the longest message; the ring has 64 KiB.
const LONGEST: usize = 5000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run(&arguments)).unwrap();
}

async fn run(arguments: &[&str]) -> Result<(), Error> {
    let place = region_place(arguments[1]);
    if arguments[0] == "say" {
        let sender = Options::new().open_sender(place).await;
        let said = match sender {
            Ok(mut sender) => sender.send("hello").await.map(|()| sender),
            Err(error) => Err(error),
        };
        match &said {
            Ok(_) => println!("said"),
            Err(error) => println!("{:?}: {error}", error.kind()),
        }
        return std::future::pending().await;
    }
    let ["send" | "peek" | "recv", _, wait, board, seed] = arguments else {
        let region = match place {
            Place::Posix(shm) => shm.open()?,
            Place::Sysv(shm) => shm.open()?,
            Place::File(file) => file.open()?,
            _ => panic!("{arguments:?}"),
        };
        println!("{}", region.len());
        std::thread::sleep(Duration::from_secs(600));
        return Ok(());
    };
    let board = Board::open(board.as_ref());
    let payloads = Payloads::new(seed.parse().unwrap(), LONGEST);
    let options = Options::new()
        .capacity(64 << 10)
        .spin_limit(Duration::from_micros(20));
    let options = match *wait {
        "park" => options.wait(sinew_shm::Wait::Park),
        "spin" => options.wait(sinew_shm::Wait::Spin),
        _ => options,
    };
    match arguments[0] {
        "send" => {
            let sender = options.await_successor(true).open_sender(place).await?;
            send(sender, &board, &payloads).await
        }
        kind => {
            let receiver = options.open_receiver(place).await?;
            receive(receiver, kind == "peek", &board, &payloads).await
        }
    }
}

async fn send(mut sender: Sender, board: &Board, payloads: &Payloads) -> Result<(), Error> {
    let mut number = sender.published();
    while board.begun() == 0 {
        // One by one, and several at once.
        sender.send(payloads.get(number)).await?;
        number += 1;
        for _ in 0..number % 4 {
            sender.feed(payloads.get(number).to_vec().into()).await?;
            number += 1;
        }
        sender.flush().await?;
        assert_eq!(sender.published(), number);
    }
    sender.close().await
}

async fn receive(
    mut receiver: Receiver,
    peek: bool,
    board: &Board,
    payloads: &Payloads,
) -> Result<(), Error> {
    loop {
        let number = receiver.consumed();
        let received = match peek {
            true => receiver.peek().await,
            false => receiver.recv().await,
        };
        match received {
            Ok(Some(bytes)) => {
                if bytes != payloads.get(number) {
                    board.wrong();
                    panic!("message {number} is another");
                }
            }
            Ok(None) => return Ok(()),
            Err(error) if error.is_peer_crashed() => continue,
            Err(error) => return Err(error),
        }
        let done = board.done();
        if peek {
            // It was handled, and its receiver died before it could say so.
            let again = done == number + 1;
            if !again && done != number {
                board.wrong();
                panic!("message {number}, where {done} were handled");
            }
            board.finish(u64::from(!again));
            assert!(receiver.commit()?);
        } else {
            // What was received and not noted is lost with its receiver: one at most for each.
            if done > number {
                board.wrong();
                panic!("message {number} again, where {done} were handled");
            }
            board.finish(number + 1 - done);
        }
    }
}
