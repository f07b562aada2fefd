//! Sockets with programs that know nothing of Sinew at the other end: socat, nc and Python.

use std::io::{Read, Seek, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures::FutureExt;
use sinew_core::{AdaptiveSpin, Framing};
use sinew_integration_tests::{Peer, Watchdog, program, python};
use sinew_socket::unix::{Message, datagram, seqpacket, stream};
use sinew_socket::{tcp, udp};

const PEER: &str = env!("CARGO_BIN_EXE_socket_peer");
const PATIENCE: Duration = Duration::from_secs(30);
const LINES: [&str; 4] = ["one", "", "three words here", "last"];

fn socat(program: &Path, arguments: &[&str]) -> Peer {
    Peer::spawn(Command::new(program).args(arguments))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

fn lines() -> stream::Options {
    stream::Options::new()
        .framing(Framing::Lines)
        .wait_for_listener(PATIENCE)
}

/// What we say comes back.
async fn echoes(connection: &mut stream::Connection) {
    for line in LINES {
        connection.send(line).await.unwrap();
        assert_eq!(connection.recv().await.unwrap().unwrap().payload(), line);
    }
    connection.close().await.unwrap();
    assert!(connection.recv().await.unwrap().is_none());
}

async fn echoes_packets(connection: &mut seqpacket::Connection) {
    for packet in ["one", "two\nlines", &"x".repeat(5000)] {
        connection.send(packet).await.unwrap();
        assert_eq!(connection.recv().await.unwrap().unwrap().payload(), packet);
    }
    connection.close().await.unwrap();
    assert!(connection.recv().await.unwrap().is_none());
}

async fn echoes_tcp(connection: &mut tcp::Connection) {
    for line in LINES {
        connection.send(line).await.unwrap();
        assert_eq!(connection.recv().await.unwrap().unwrap(), line);
    }
    connection.close().await.unwrap();
    assert!(connection.recv().await.unwrap().is_none());
}

#[tokio::test]
async fn socat_on_streams_and_packets() {
    let Some(program) = program("socat_on_streams_and_packets", "socat") else {
        return;
    };
    let _watchdog = Watchdog::new("socat_on_streams_and_packets");
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let id = std::process::id();

    // It listens, we connect.
    let at = path("listen");
    let _peer = socat(&program, &[&format!("UNIX-LISTEN:{at}"), "PIPE"]);
    echoes(&mut lines().connect(&at).await.unwrap()).await;
    let name = format!("sinew-foreign-{id}");
    let _peer = socat(&program, &[&format!("ABSTRACT-LISTEN:{name}"), "PIPE"]);
    echoes(&mut lines().connect(format!("@{name}")).await.unwrap()).await;
    let at = path("packets");
    let _peer = socat(&program, &[&format!("UNIX-LISTEN:{at},type=5"), "PIPE"]);
    let options = seqpacket::Options::new().wait_for_listener(PATIENCE);
    echoes_packets(&mut options.connect(&at).await.unwrap()).await;

    // We listen, it connects.
    let at = path("ours");
    let mut listener = lines().bind(&at).await.unwrap();
    let peer = socat(&program, &[&format!("UNIX-CONNECT:{at}"), "PIPE"]);
    let mut connection = listener.accept().await.unwrap();
    assert_ne!(connection.peer().pid, id);
    echoes(&mut connection).await;
    drop(peer);
    let mut listener = lines().bind(format!("@{name}")).await.unwrap();
    let _peer = socat(&program, &[&format!("ABSTRACT-CONNECT:{name}"), "PIPE"]);
    echoes(&mut listener.accept().await.unwrap()).await;
    let at = path("our packets");
    let mut listener = seqpacket::Listener::bind(&at).await.unwrap();
    let _peer = socat(&program, &[&format!("UNIX-CONNECT:{at},type=5"), "PIPE"]);
    echoes_packets(&mut listener.accept().await.unwrap()).await;
}

#[tokio::test]
async fn socat_on_datagrams() {
    let Some(program) = program("socat_on_datagrams", "socat") else {
        return;
    };
    let _watchdog = Watchdog::new("socat_on_datagrams");
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();

    // It answers each datagram where it came from.
    let (at, us) = (path("echo"), path("us"));
    let _peer = socat(&program, &[&format!("UNIX-RECVFROM:{at},fork"), "PIPE"]);
    let options = datagram::Options::new()
        .local(&us)
        .wait_for_receiver(PATIENCE);
    let mut socket = options.connect(&at).await.unwrap();
    for payload in ["one", "two\nlines"] {
        socket.send(payload).await.unwrap();
        assert_eq!(socket.recv().await.unwrap().payload(), payload);
    }

    // It sends, bound and not, and by an abstract name.
    let at = path("ours");
    let mut socket = datagram::Socket::bind(&at).await.unwrap();
    let bound = path("bound");
    let mut peer = socat(&program, &["-", &format!("UNIX-SENDTO:{at},bind={bound}")]);
    peer.tell("to you");
    let message = socket.recv().await.unwrap();
    assert_eq!(message.payload(), "to you\n");
    assert_eq!(message.address().unwrap().to_string(), bound);
    socket
        .send(Message::new("and back\n").with_address(&bound))
        .await
        .unwrap();
    assert_eq!(peer.line(), "and back");
    let peer = socat(&program, &["-u", "-", &format!("UNIX-SENDTO:{at}")]);
    peer_says(peer, "unbound");
    let message = socket.recv().await.unwrap();
    assert_eq!(
        (message.payload().as_ref(), message.address()),
        (&b"unbound\n"[..], None)
    );
    let name = format!("sinew-foreign-dgram-{}", std::process::id());
    let mut socket = datagram::Socket::bind(format!("@{name}")).await.unwrap();
    let peer = socat(&program, &["-u", "-", &format!("ABSTRACT-SENDTO:{name}")]);
    peer_says(peer, "abstract");
    assert_eq!(socket.recv().await.unwrap().payload(), "abstract\n");

    // UDP, both ways.
    let port = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let listen = format!("UDP4-RECVFROM:{port},bind=127.0.0.1,fork");
    let _peer = socat(&program, &[&listen, "PIPE"]);
    let mut socket = udp::Socket::connect(format!("127.0.0.1:{port}"))
        .await
        .unwrap();
    let answer = loop {
        // Until it listens, that is answered by an error, or not at all.
        let _refused = socket.send("anybody").await;
        match tokio::time::timeout(Duration::from_millis(200), socket.recv()).await {
            Ok(Ok(message)) => break message,
            Ok(Err(error)) => {
                assert!(error.is_recoverable(), "{error}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(_) => {}
        }
    };
    assert_eq!(answer.payload(), "anybody");
    let mut socket = udp::Socket::bind("127.0.0.1:0").await.unwrap();
    let to = format!("UDP4-SENDTO:{}", socket.local_addr());
    let mut peer = socat(&program, &["-", &to]);
    peer.tell("to you");
    let message = socket.recv().await.unwrap();
    assert_eq!(message.payload(), "to you\n");
    let back = udp::Message::new("and back\n").with_address(message.address().unwrap());
    socket.send(back).await.unwrap();
    assert_eq!(peer.line(), "and back");
}

/// Has it read a line, which it sends.
fn peer_says(mut peer: Peer, line: &str) {
    peer.tell(line);
    assert_eq!(peer.rest(), "");
}

#[tokio::test]
async fn socat_on_tcp() {
    let Some(program) = program("socat_on_tcp", "socat") else {
        return;
    };
    let _watchdog = Watchdog::new("socat_on_tcp");
    let options = tcp::Options::new()
        .framing(Framing::Lines)
        .wait_for_listener(PATIENCE);
    for (kind, host) in [("TCP4", "127.0.0.1"), ("TCP6", "[::1]")] {
        let port = free_port();
        let mut listener = match options.bind(format!("{host}:0")).await {
            Ok(listener) => listener,
            Err(error) if error.errno_name() == Some("EADDRNOTAVAIL") => continue,
            Err(error) => panic!("{error}"),
        };
        let listen = format!("{kind}-LISTEN:{port},bind={host},reuseaddr");
        let _peer = socat(&program, &[&listen, "PIPE"]);
        echoes_tcp(&mut options.connect(format!("{host}:{port}")).await.unwrap()).await;
        let _peer = socat(
            &program,
            &[&format!("{kind}:{}", listener.local_addr()), "PIPE"],
        );
        echoes_tcp(&mut listener.accept().await.unwrap()).await;
    }
}

#[tokio::test]
async fn nc_on_everything_that_it_knows() {
    let Some(program) = program("nc_on_everything_that_it_knows", "nc") else {
        return;
    };
    let _watchdog = Watchdog::new("nc_on_everything_that_it_knows");
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();

    let at = path("ours");
    let mut listener = lines().bind(&at).await.unwrap();
    let mut peer = socat(&program, &["-N", "-U", &at]);
    let mut connection = listener.accept().await.unwrap();
    peer.tell("from nc");
    assert_eq!(
        connection.recv().await.unwrap().unwrap().payload(),
        "from nc"
    );
    connection.send("to nc").await.unwrap();
    assert_eq!(peer.line(), "to nc");
    let ended = tokio::task::spawn_blocking(move || peer.rest());
    // It has shut down its side.
    assert!(connection.recv().await.unwrap().is_none());
    connection.send("last").await.unwrap();
    connection.close().await.unwrap();
    assert_eq!(ended.await.unwrap(), "last\n");

    let at = path("theirs");
    let mut peer = socat(&program, &["-l", "-N", "-U", &at]);
    let mut connection = lines().connect(&at).await.unwrap();
    connection.send("to nc").await.unwrap();
    assert_eq!(peer.line(), "to nc");
    peer.tell("from nc");
    assert_eq!(
        connection.recv().await.unwrap().unwrap().payload(),
        "from nc"
    );

    let port = free_port();
    let mut peer = socat(&program, &["-l", "-N", "127.0.0.1", &port.to_string()]);
    let options = tcp::Options::new()
        .framing(Framing::Lines)
        .wait_for_listener(PATIENCE);
    let mut connection = options.connect(format!("127.0.0.1:{port}")).await.unwrap();
    connection.send("to nc").await.unwrap();
    assert_eq!(peer.line(), "to nc");
    peer.tell("from nc");
    assert_eq!(connection.recv().await.unwrap().unwrap(), "from nc");
    let ended = tokio::task::spawn_blocking(move || peer.rest());
    assert!(connection.recv().await.unwrap().is_none());
    connection.close().await.unwrap();
    assert_eq!(ended.await.unwrap(), "");

    let mut socket = udp::Socket::bind("127.0.0.1:0").await.unwrap();
    let port = socket.local_addr().port().to_string();
    let mut peer = socat(&program, &["-u", "127.0.0.1", &port]);
    peer.tell("from nc");
    let message = socket.recv().await.unwrap();
    assert_eq!(message.payload(), "from nc\n");
    socket
        .send(udp::Message::new("to nc\n").with_address(message.address().unwrap()))
        .await
        .unwrap();
    assert_eq!(peer.line(), "to nc");
}

fn content(fd: &OwnedFd) -> String {
    let mut file = std::fs::File::from(fd.try_clone().unwrap());
    let mut text = String::new();
    file.rewind().unwrap();
    file.read_to_string(&mut text).unwrap();
    text
}

fn file(text: &str) -> OwnedFd {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file.into()
}

/// Connects by each kind, says who it is with two files, and echoes what it gets with the content of the
/// files that came.
const FDS: &str = r#"
import os, socket, struct, sys, tempfile

def file(text):
    file = tempfile.TemporaryFile()
    file.write(text)
    file.flush()
    return file

def content(fd):
    os.lseek(fd, 0, 0)
    return os.read(fd, 100)

kind, path = sys.argv[1:]
types = {"stream": socket.SOCK_STREAM, "seqpacket": socket.SOCK_SEQPACKET, "datagram": socket.SOCK_DGRAM}
peer = socket.socket(socket.AF_UNIX, types[kind])
if kind == "datagram":
    peer.bind(path + ".python")
peer.connect(path)
frame = (lambda b: struct.pack(">I", len(b)) + b) if kind == "stream" else (lambda b: b)
one, two = file(b"first"), file(b"second")
socket.send_fds(peer, [frame(b"two files")], [one.fileno(), two.fileno()])
peer.send(frame(b"none"))
data, fds, flags, _ = socket.recv_fds(peer, 100, 10)
assert data == frame(b"three files"), data
assert flags & socket.MSG_CTRUNC == 0
peer.send(frame(b",".join(content(fd) for fd in fds)))
"#;

#[tokio::test]
async fn python_passes_descriptors_both_ways() {
    let Some(python) = python("python_passes_descriptors_both_ways", &["socket"]) else {
        return;
    };
    let _watchdog = Watchdog::new("python_passes_descriptors_both_ways");
    let directory = tempfile::tempdir().unwrap();
    let at = |kind: &str| directory.path().join(kind);
    let start = |kind: &str| {
        let path: PathBuf = at(kind);
        Peer::spawn(Command::new(&python).args(["-c", FDS, kind]).arg(path))
    };
    let check = |message: &Message| {
        assert_eq!(message.payload(), "two files");
        assert_eq!(
            message.fds().iter().map(content).collect::<Vec<_>>(),
            ["first", "second"]
        );
    };
    let answer = || Message::new("three files").with_fds([file("a"), file("b"), file("c")]);

    let mut listener = stream::Listener::bind(at("stream")).await.unwrap();
    let mut peer = start("stream");
    let mut connection = listener.accept().await.unwrap();
    check(&connection.recv().await.unwrap().unwrap());
    let none = connection.recv().await.unwrap().unwrap();
    assert!(none.payload() == "none" && none.fds().is_empty());
    connection.send(answer()).await.unwrap();
    assert_eq!(connection.recv().await.unwrap().unwrap().payload(), "a,b,c");
    assert!(peer.wait().success());

    let mut listener = seqpacket::Listener::bind(at("seqpacket")).await.unwrap();
    let mut peer = start("seqpacket");
    let mut connection = listener.accept().await.unwrap();
    check(&connection.recv().await.unwrap().unwrap());
    assert!(connection.recv().await.unwrap().unwrap().fds().is_empty());
    connection.send(answer()).await.unwrap();
    assert_eq!(connection.recv().await.unwrap().unwrap().payload(), "a,b,c");
    assert!(peer.wait().success());

    let mut socket = datagram::Socket::bind(at("datagram")).await.unwrap();
    let mut peer = start("datagram");
    let message = socket.recv().await.unwrap();
    check(&message);
    assert!(socket.recv().await.unwrap().fds().is_empty());
    let address = message.address().unwrap().clone();
    socket.send(answer().with_address(address)).await.unwrap();
    assert_eq!(socket.recv().await.unwrap().payload(), "a,b,c");
    assert!(peer.wait().success());
}

/// Python makes a socket of each kind and passes them as systemd does.
const ACTIVATE: &str = r#"
import os, socket, sys

peer, stream, packets = sys.argv[1:]
sockets = []
for kind, path in [(socket.SOCK_STREAM, stream), (socket.SOCK_SEQPACKET, packets)]:
    sockets.append(socket.socket(socket.AF_UNIX, kind))
    sockets[-1].bind(path)
    sockets[-1].listen()
sockets.append(socket.create_server(("127.0.0.1", 0)))
sockets.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
sockets[-1].bind(("127.0.0.1", 0))
print(sockets[2].getsockname()[1], sockets[3].getsockname()[1], flush=True)
# Out of the way of the numbers that they are to have.
high = [os.dup2(s.fileno(), 100 + i, False) for i, s in enumerate(sockets)]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i, True)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="4", LISTEN_FDNAMES="stream:packets:tcp:udp")
os.execv(peer, [peer, "activated"])
"#;

#[tokio::test]
async fn activation() {
    let Some(python) = python("activation", &["socket"]) else {
        return;
    };
    let _watchdog = Watchdog::new("activation");
    let directory = tempfile::tempdir().unwrap();
    let (stream_at, packets_at) = (directory.path().join("s"), directory.path().join("p"));
    let mut command = Command::new(python);
    command
        .args(["-c", ACTIVATE, PEER])
        .arg(&stream_at)
        .arg(&packets_at);
    let mut peer = Peer::spawn(&mut command);
    let ports = peer.line();
    let (tcp_port, udp_port) = ports.split_once(' ').unwrap();

    assert_eq!(peer.line(), "stream true");
    let mut connection = stream::connect(&stream_at).await.unwrap();
    connection.send("to a service").await.unwrap();
    assert_eq!(
        connection.recv().await.unwrap().unwrap().payload(),
        "to a service"
    );
    assert_eq!(peer.line(), "packets false");
    let mut connection = seqpacket::connect(&packets_at).await.unwrap();
    connection.send("").await.unwrap();
    assert_eq!(connection.recv().await.unwrap().unwrap().payload(), "");
    assert_eq!(peer.line(), "tcp true");
    let mut connection = tcp::connect(format!("127.0.0.1:{tcp_port}")).await.unwrap();
    connection.send("to a service").await.unwrap();
    assert_eq!(connection.recv().await.unwrap().unwrap(), "to a service");
    assert_eq!(peer.line(), "udp false");
    let mut socket = udp::Socket::connect(format!("127.0.0.1:{udp_port}"))
        .await
        .unwrap();
    socket.send("to a service").await.unwrap();
    assert_eq!(socket.recv().await.unwrap().payload(), "to a service");
    assert_eq!(peer.line(), "done");
    assert!(peer.wait().success());
    // The paths are systemd's.
    assert!(stream_at.exists() && packets_at.exists());
}

/// Variables that are meant for another process are left alone.
#[test]
fn activation_of_another_process() {
    let _watchdog = Watchdog::new("activation_of_another_process");
    let mut command = Command::new(PEER);
    command
        .arg("activated")
        .env("LISTEN_PID", "1")
        .env("LISTEN_FDS", "1");
    assert_eq!(Peer::spawn(&mut command).rest(), "done\n");
}

/// A descriptor that the program has opened itself, and that the variables call a socket.
#[test]
fn activation_with_a_file_of_the_program() {
    let _watchdog = Watchdog::new("activation_with_a_file_of_the_program");
    let mut command = Command::new("sh");
    command.args([
        "-c",
        r#"exec 3>&- 4>&- 5>&-; LISTEN_PID=$$ LISTEN_FDS=3 exec "$0" lied-to"#,
        PEER,
    ]);
    let mut peer = Peer::spawn(&mut command);
    let error = peer.line();
    assert!(error.contains("LISTEN_FDS promises the socket"), "{error}");
    assert_eq!(peer.rest(), "done\n");
}

/// As another user.
#[tokio::test]
async fn permissions_of_a_path() {
    if !rustix::process::geteuid().is_root() {
        return sinew_integration_tests::skip("permissions_of_a_path", "needs root");
    }
    let _watchdog = Watchdog::new("permissions_of_a_path");
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(
        directory.path(),
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )
    .unwrap();
    let nobody = |what: &str, address: &str| {
        let mut command = Command::new(PEER);
        Peer::spawn(command.args([what, address]).uid(65534).gid(65534)).line()
    };
    let path = directory.path().join("s");
    let text = path.display().to_string();
    let mut listener = stream::Options::new()
        .mode(0o600)
        .bind(&path)
        .await
        .unwrap();
    let refused = nobody("connect", &text);
    assert!(
        refused.starts_with("\"EACCES\"") && refused.contains("permissions"),
        "{refused}"
    );
    drop(listener);
    listener = stream::Options::new()
        .mode(0o666)
        .bind(&path)
        .await
        .unwrap();
    assert_eq!(nobody("connect", &text), "ok 0");
    assert_eq!(listener.accept().await.unwrap().peer().uid, 65534);
    let refused = nobody(
        "bind",
        &directory.path().join("theirs").display().to_string(),
    );
    assert!(refused.starts_with("\"EACCES\""), "{refused}");

    // A name has no permissions, so that others are turned away.
    let name = format!("@sinew-permissions-{}", std::process::id());
    let mut listener = stream::Listener::bind(&name).await.unwrap();
    assert_eq!(nobody("connect", &name), "ok 0");
    let accepting = tokio::time::timeout(Duration::from_millis(200), listener.accept());
    assert!(accepting.await.is_err());
    assert_eq!(listener.rejected(), 1);

    let low = nobody("bind-tcp", "127.0.0.1:1");
    if low != "ok bound" {
        assert!(
            low.contains("EACCES") && low.contains("CAP_NET_BIND_SERVICE"),
            "{low}"
        );
    }
}

/// The kernel does not join what two processes write where credentials are on, wanted or not: of two lines, the
/// first read gives one, and no more readiness is told of the other.
#[tokio::test]
async fn two_writers_to_a_socket_that_somebody_has_turned_credentials_on_for() {
    let _watchdog = Watchdog::new("two_writers");
    AdaptiveSpin::set_process_limit(Duration::ZERO);
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    rustix::net::sockopt::set_socket_passcred(&ours, true).unwrap();
    ours.set_nonblocking(true).unwrap();
    let options = stream::Options::new().framing(Framing::Lines);
    let mut connection = options.connection_on(ours).unwrap();
    for _ in 0..10 {
        assert!(connection.recv().now_or_never().is_none());
        theirs.write_all(b"one\n").unwrap();
        let second = OwnedFd::from(theirs.try_clone().unwrap());
        let mut shell = Command::new("sh");
        shell.args(["-c", "echo two"]).stdout(second);
        assert!(shell.status().unwrap().success());
        for expected in ["one", "two"] {
            let message = connection.recv().await.unwrap().unwrap();
            assert_eq!(message.payload(), expected);
        }
    }
}
