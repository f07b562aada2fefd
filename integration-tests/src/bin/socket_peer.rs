//! The second process of the socket tests; the first argument says what it does.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sinew_core::Error;
use sinew_socket::unix::{Message, inherited_listeners, seqpacket, stream};
use sinew_socket::{tcp, udp};
use tokio::io::AsyncWriteExt;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["connect", path] => say(stream::connect(path).await.map(|peer| peer.peer().uid)),
        ["bind", path] => say(stream::Listener::bind(path).await.map(|_| "bound")),
        ["bind-tcp", address] => say(tcp::Listener::bind(address).await.map(|_| "bound")),
        ["half", "unix", path] => {
            let mut bytes = stream::connect(path)
                .await
                .unwrap()
                .into_byte_stream()
                .await
                .unwrap();
            half(&mut bytes).await;
        }
        ["half", "tcp", address] => {
            let mut bytes = tcp::connect(address)
                .await
                .unwrap()
                .into_byte_stream()
                .await
                .unwrap();
            half(&mut bytes).await;
        }
        ["activated"] => activated().await,
        ["lied-to"] => lied_to(),
        ["shortage", "accept", path] => accepts_without_numbers(path).await,
        ["shortage", "recv", path] => receives_without_numbers(path).await,
        ["flood", path, count] => {
            let mut connection = seqpacket::connect(path).await.unwrap();
            for number in 0..count.parse::<u64>().unwrap() {
                connection.send(number.to_le_bytes()).await.unwrap();
            }
            connection.close().await.unwrap();
        }
        _ => panic!("unknown: {arguments:?}"),
    }
}

fn print(line: impl std::fmt::Display) {
    let mut output = std::io::stdout();
    writeln!(output, "{line}").unwrap();
    output.flush().unwrap();
}

fn say(result: Result<impl std::fmt::Display, Error>) {
    match result {
        Ok(done) => print(format!("ok {done}")),
        Err(error) => print(format!("{:?} {error}", error.errno_name().unwrap_or("-"))),
    }
}

/// A message, a part of the next, and then nothing, until it is killed.
async fn half(bytes: &mut (impl tokio::io::AsyncWrite + Unpin)) {
    bytes
        .write_all(b"\0\0\0\x05whole\0\0\0\x05ha")
        .await
        .unwrap();
    print("half");
    tokio::time::sleep(Duration::from_secs(600)).await;
}

/// Serves once on each socket that it was started with.
async fn activated() {
    let inherited = inherited_listeners().unwrap();
    assert!(inherited_listeners().unwrap().is_empty(), "taken twice");
    for inherited in inherited {
        let flags = rustix::io::fcntl_getfd(&inherited).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
        let name = inherited.name().to_owned();
        print(format!("{name} {}", inherited.is_listener()));
        match name.as_str() {
            "stream" => {
                let mut listener = stream::Options::new().listen_on(inherited).unwrap();
                let mut peer = listener.accept().await.unwrap();
                let message = peer.recv().await.unwrap().unwrap();
                peer.send(message).await.unwrap();
            }
            "packets" => {
                let mut listener = seqpacket::Options::new().listen_on(inherited).unwrap();
                let mut peer = listener.accept().await.unwrap();
                let message = peer.recv().await.unwrap().unwrap();
                peer.send(message).await.unwrap();
            }
            "tcp" => {
                let mut listener = tcp::Options::new().listen_on(inherited).unwrap();
                let mut peer = listener.accept().await.unwrap();
                let message = peer.recv().await.unwrap().unwrap();
                peer.send(message).await.unwrap();
            }
            _ => {
                let mut socket = udp::Options::new().socket_on(inherited).unwrap();
                let message = socket.recv().await.unwrap();
                socket.send(message).await.unwrap();
            }
        }
    }
    print("done");
}

/// Opens files, of which one has the number that `LISTEN_FDS` promises.
fn lied_to() {
    let files = [(); 3].map(|()| std::fs::File::open("/proc/self/cmdline").unwrap());
    let error = inherited_listeners().unwrap_err();
    print(error);
    for mut file in files {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut file, &mut text).unwrap();
        assert!(text.contains("lied-to"), "{text}");
    }
    print("done");
}

/// Takes up all numbers but as many as are asked for.
fn take_numbers(leave: usize) -> Vec<OwnedFd> {
    let limit = Rlimit {
        current: Some(64),
        maximum: getrlimit(Resource::Nofile).maximum,
    };
    setrlimit(Resource::Nofile, limit).unwrap();
    let mut held = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        held.push(OwnedFd::from(file));
    }
    held.truncate(held.len() - leave);
    held
}

/// Accepts without a number left, and goes on once there are some again.
async fn accepts_without_numbers(path: &str) {
    let mut listener = stream::Listener::bind(path).await.unwrap();
    let held = take_numbers(0);
    print("listening");
    let mut errors = 0;
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(400) || errors < 2 {
        let Ok(accepted) = tokio::time::timeout(Duration::from_secs(5), listener.accept()).await
        else {
            panic!("it stopped accepting");
        };
        let error = accepted.unwrap_err();
        assert!(error.is_recoverable(), "{error}");
        assert_eq!(error.errno_name(), Some("EMFILE"));
        assert!(error.remedy().unwrap().contains("RLIMIT_NOFILE"));
        errors += 1;
    }
    drop(held);
    let mut peer = loop {
        match listener.accept().await {
            Ok(peer) => break peer,
            Err(error) => assert!(error.is_recoverable(), "{error}"),
        }
    };
    peer.send("accepted after all").await.unwrap();
    peer.close().await.unwrap();
    print(errors);
}

/// Receives descriptors for which there are no numbers, or for some of them only.
async fn receives_without_numbers(path: &str) {
    let mut listener = seqpacket::Listener::bind(path).await.unwrap();
    print("listening");
    let mut peer = listener.accept().await.unwrap();
    for leave in [0, 2] {
        let held = take_numbers(leave);
        let count = || std::fs::read_dir("/proc/self/fd").map(Iterator::count);
        let error = peer.recv().await.unwrap_err();
        assert!(error.is_recoverable(), "{error}");
        assert_eq!(error.lost(), Some(1));
        assert!(
            error.to_string().contains(&format!("numbers for {leave}")),
            "{error}"
        );
        drop(held);
        let before = count().unwrap();
        // Those that came were closed.
        assert!(before < 20, "{before} are open");
        let message: Message = peer.recv().await.unwrap().unwrap();
        assert_eq!(message.payload(), "none");
    }
    print("done");
}
