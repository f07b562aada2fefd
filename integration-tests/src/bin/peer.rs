//! The second process of the integration tests; the first argument says what it does.

use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt;
use rustix::process::{Resource, Rlimit, setrlimit};
use sinew_core::Error;
use sinew_integration_tests::{Board, Payloads, parse_options};
use sinew_shm::{Channel, Options, inherited};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // Within a runtime, but not in a task: the blocking styles are used here, too.
    let _entered = runtime.enter();
    let wait = |future: std::pin::Pin<Box<dyn Future<Output = ()>>>| runtime.block_on(future);
    match arguments[..] {
        [
            "produce",
            role,
            endpoint,
            board,
            seed,
            longest,
            style,
            how,
            bell,
        ] => {
            let options = parse_options(how, bell);
            let board = Board::open(Path::new(board));
            let payloads = Payloads::new(seed.parse().unwrap(), longest.parse().unwrap());
            let channel = runtime.block_on(meet(&options, role, endpoint));
            if style == "blocking" {
                produce_blocking(channel, &board, &payloads);
            } else {
                let style = style.to_owned();
                wait(Box::pin(async move {
                    produce(channel, &board, &payloads, &style).await;
                }));
            }
        }
        ["consume", role, endpoint, board, seed, longest, how, bell] => {
            let options = parse_options(how, bell);
            let board = Board::open(Path::new(board));
            let payloads = Payloads::new(seed.parse().unwrap(), longest.parse().unwrap());
            let mut channel = runtime.block_on(meet(&options, role, endpoint));
            runtime.block_on(async {
                for number in 0.. {
                    let Ok(Some(message)) = channel.recv().await else {
                        break;
                    };
                    if message != payloads.get(number) {
                        board.wrong();
                    }
                    board.finish(1);
                }
            });
        }
        ["bind", endpoint] => {
            let listener = runtime.block_on(Options::new().bind(endpoint));
            report(listener.as_ref().err());
            until_told();
        }
        ["connect", endpoint] => {
            let channel = runtime.block_on(Options::new().connect(endpoint));
            report(channel.as_ref().err());
        }
        ["echo", role, endpoint] => {
            let channel = runtime.block_on(meet(&Options::new(), role, endpoint));
            runtime.block_on(echo(channel));
        }
        ["inherited"] => {
            let channel = runtime.block_on(inherited()).unwrap();
            let twice = runtime.block_on(inherited()).unwrap_err();
            assert!(twice.to_string().contains("before"), "{twice}");
            runtime.block_on(echo(channel));
        }
        ["inherited-busy"] => {
            let mut channel = runtime.block_on(inherited()).unwrap();
            runtime.block_on(channel.recv()).unwrap();
            until_told();
        }
        ["inherited-never"] => until_told(),
        ["inherited-without"] => report(runtime.block_on(inherited()).as_ref().err()),
        ["limit", what, endpoint] => runtime.block_on(limit(what, endpoint)),
        _ => panic!("unknown arguments {arguments:?}"),
    }
}

async fn meet(options: &Options, role: &str, endpoint: &str) -> Channel {
    match role {
        "connect" => {
            let options = options.clone().wait_for_listener(Duration::from_secs(10));
            options.connect(endpoint).await.unwrap()
        }
        "listen" => {
            let mut listener = options.bind(endpoint).await.unwrap();
            let channel = listener.accept().await.unwrap();
            // It stays, so that its death leaves a stale path.
            std::mem::forget(listener);
            channel
        }
        _ => panic!("unknown role {role}"),
    }
}

/// Sends for ever; the board says what was begun and what is known to be published.
async fn produce(mut channel: Channel, board: &Board, payloads: &Payloads, style: &str) {
    const BATCH: u64 = 7;
    let mut next = 0;
    loop {
        let message = payloads.get(next);
        let count = match style {
            "batch" | "sink" => BATCH,
            _ => 1,
        };
        board.begin(count);
        let sent = match style {
            "send" => channel.send(message).await,
            "loan" => {
                let sender = channel.sender();
                match sender.reserve(message.len() + 10).await {
                    Ok(mut loan) => {
                        loan[..message.len()].copy_from_slice(message);
                        loan.commit(message.len()).await
                    }
                    Err(error) => Err(error),
                }
            }
            "batch" => {
                let batch = (next..next + BATCH).map(|number| payloads.get(number));
                channel.sender().send_batch(batch).await.map(drop)
            }
            "sink" => {
                let mut fed = Ok(());
                for number in next..next + BATCH {
                    let message = Bytes::copy_from_slice(payloads.get(number));
                    fed = fed.and(channel.feed(message).await);
                }
                fed.and(SinkExt::<Bytes>::flush(&mut channel).await)
            }
            _ => panic!("unknown style {style}"),
        };
        if sent.is_err() {
            return;
        }
        board.finish(count);
        next += count;
    }
}

fn produce_blocking(mut channel: Channel, board: &Board, payloads: &Payloads) {
    for number in 0.. {
        board.begin(1);
        if channel.blocking_send(payloads.get(number)).is_err() {
            return;
        }
        board.finish(1);
    }
}

async fn echo(mut channel: Channel) {
    while let Ok(Some(message)) = channel.recv().await {
        if channel.send(message).await.is_err() {
            return;
        }
    }
    let _told = channel.close().await;
}

fn report(error: Option<&Error>) {
    match error {
        None => println!("ok"),
        Some(error) => println!("{:?} {error}", error.kind()),
    }
    std::io::stdout().flush().unwrap();
}

fn until_told() {
    let _closed = std::io::stdin().read(&mut [0]);
}

/// Reaches the limit of open files in some operation, prints the error, then raises it again and shows
/// that things go on.
async fn limit(what: &str, endpoint: &str) {
    let options = Options::new().threshold(100);
    let mut listener = options.bind(endpoint).await.unwrap();
    match what {
        "bind" => {
            let full = Full::new(0);
            let error = options.bind(format!("{endpoint}2")).await.err();
            drop(full);
            report(error.as_ref());
        }
        "bind-abstract" => {
            let full = Full::new(0);
            let error = options.bind("@sinew-limit").await.err();
            drop(full);
            report(error.as_ref());
        }
        "connect" => {
            let full = Full::new(0);
            let error = options.connect(endpoint).await.err();
            drop(full);
            report(error.as_ref());
        }
        "accept" => {
            let options = options.clone();
            let address = endpoint.to_owned();
            // One that waits in the backlog needs no descriptor here.
            let client = tokio::spawn(async move { options.connect(address).await });
            tokio::time::sleep(Duration::from_millis(50)).await;
            let full = Full::new(0);
            let error = listener.accept().await.err();
            assert!(error.as_ref().is_some_and(Error::is_recoverable));
            // A loop that goes on at once does not take the processor.
            let again = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
            assert!(again.is_err());
            drop(full);
            report(error.as_ref());
            // The peer is still there, and the listener goes on.
            let channel = listener.accept().await;
            report(
                channel
                    .as_ref()
                    .err()
                    .or(client.await.unwrap().as_ref().err()),
            );
        }
        "send" | "recv" => {
            let (left, right) = tokio::join!(options.connect(endpoint), listener.accept());
            let (mut left, mut right) = (left.unwrap(), right.unwrap());
            left.send("warm").await.unwrap();
            right.recv().await.unwrap();
            if what == "send" {
                let full = Full::new(0);
                let error = left.send([7; 1000]).await.err();
                drop(full);
                report(error.as_ref());
                left.send([8; 1000]).await.unwrap();
                let next = right.recv().await.unwrap().unwrap();
                assert_eq!(next[..], [8; 1000]);
                report(None);
            } else {
                left.send([7; 1000]).await.unwrap();
                let full = Full::new(0);
                let error = right.recv().await.err();
                drop(full);
                report(error.as_ref());
            }
        }
        "pair" => {
            let full = Full::new(3);
            let error = options.pair().err();
            drop(full);
            report(error.as_ref());
        }
        _ => panic!("unknown limit {what}"),
    }
}

/// The limit of open files, reached but for a few.
struct Full {
    before: Rlimit,
}

impl Full {
    fn new(spare: u64) -> Self {
        let before = rustix::process::getrlimit(Resource::Nofile);
        // The lowest number that is free is the first that the limit forbids.
        let probe = std::fs::File::open("/dev/null").unwrap();
        let lowest = u64::try_from(std::os::fd::AsRawFd::as_raw_fd(&probe)).unwrap();
        let limit = Rlimit {
            current: Some(lowest + spare),
            maximum: before.maximum,
        };
        setrlimit(Resource::Nofile, limit).unwrap();
        Self { before }
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        setrlimit(Resource::Nofile, self.before).unwrap();
    }
}
