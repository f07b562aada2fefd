//! Bad input, missing permissions, limits: each a clear error, that names operation, address, errno and
//! what to do.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sinew_core::{Error, ErrorKind, TrySendError};
use sinew_integration_tests::{Peer, Watchdog, Wire, scaled, skip};
use sinew_shm::{Endpoint, Listener, Options, connect};

const PEER: &str = env!("CARGO_BIN_EXE_peer");

/// Checks the parts of an error's text.
#[track_caller]
fn says(error: &Error, kind: ErrorKind, parts: &[&str]) {
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    says_text(&text, parts);
    assert!(!error.operation().is_empty(), "{text}");
    assert!(error.remedy().is_some(), "nothing to do about it: {text}");
}

#[track_caller]
fn says_text(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
    assert!(!text.contains('\n'), "{text}");
}

fn name(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Leaves what a killed process leaves. A socket of our own would live on for a moment in children that other tests
/// are just starting.
fn leave_dead(path: &Path) {
    let mut peer = Peer::start(PEER, &["bind", name(path)]);
    assert_eq!(peer.line(), "ok");
    peer.kill();
    peer.wait();
}

#[tokio::test]
async fn nobody_there() {
    let _watchdog = Watchdog::new("nobody_there");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let error = connect(&path).await.unwrap_err();
    says(
        &error,
        error.kind(),
        &["connect", name(&path), "ENOENT", "start the listener"],
    );

    let options = Options::new().wait_for_listener(Duration::from_millis(50));
    let error = options.connect(&path).await.unwrap_err();
    says(
        &error,
        error.kind(),
        &["connect", name(&path), "ENOENT", "waited 50ms"],
    );

    let missing = directory.path().join("missing/shm");
    let error = Listener::bind(&missing).await.unwrap_err();
    says(
        &error,
        error.kind(),
        &[name(&missing), "ENOENT", "directory", "create it"],
    );

    // A socket that a dead process left.
    drop(UnixListener::bind(&path).unwrap());
    let dead = directory.path().join("dead");
    leave_dead(&dead);
    let error = connect(&dead).await.unwrap_err();
    says(
        &error,
        ErrorKind::Refused,
        &[
            "connect",
            name(&dead),
            "ECONNREFUSED",
            "nobody listens",
            "start the listener",
        ],
    );

    let error = connect("@sinew-nobody").await.unwrap_err();
    says(
        &error,
        ErrorKind::Refused,
        &["connect", "@sinew-nobody", "ECONNREFUSED", "nobody listens"],
    );
}

#[tokio::test]
async fn a_listener_that_comes_later() {
    let _watchdog = Watchdog::new("a_listener_that_comes_later");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let client = tokio::spawn({
        let options = Options::new().wait_for_listener(Duration::from_secs(20));
        let path = path.clone();
        async move { options.connect(path).await }
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!client.is_finished());
    let mut listener = Listener::bind(&path).await.unwrap();
    listener.accept().await.unwrap();
    client.await.unwrap().unwrap();
}

#[tokio::test]
async fn names_that_cannot_be() {
    let _watchdog = Watchdog::new("names_that_cannot_be");
    for long in ["/".repeat(108), format!("@{}", "n".repeat(108))] {
        for error in [
            connect(&long).await.unwrap_err(),
            Listener::bind(&long).await.unwrap_err(),
        ] {
            let parts = ["ENAMETOOLONG", "108 bytes", "107", &long, "shorter"];
            let text = error.to_string();
            says_text(&text, &parts);
            assert!(error.remedy().is_some(), "{text}");
        }
    }
    for error in [
        connect("").await.unwrap_err(),
        Listener::bind("").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        says_text(&error.to_string(), &["empty"]);
    }
    for nul in ["/tmp/a\0b"] {
        let error = connect(nul).await.unwrap_err();
        assert!(error.to_string().contains("EINVAL"), "{error}");
    }
    // The longest that is allowed, to which nothing can be added.
    let directory = tempfile::tempdir().unwrap();
    let room = 107 - name(directory.path()).len() - 1;
    for short in [0, 1, 8, 20] {
        let path = directory.path().join("p".repeat(room - short));
        for _ in 0..2 {
            let mut listener = Listener::bind(&path).await.unwrap();
            let (client, server) = tokio::join!(connect(&path), listener.accept());
            let (mut client, mut server) = (client.unwrap(), server.unwrap());
            client.send("fits").await.unwrap();
            assert_eq!(server.recv().await.unwrap().unwrap(), "fits");
        }
        // Also over what a dead one left.
        leave_dead(&path);
        drop(Listener::bind(&path).await.unwrap());
        assert!(!path.exists());
    }
    let longest = format!("@{}", "n".repeat(107));
    let mut listener = Listener::bind(&longest).await.unwrap();
    let (client, server) = tokio::join!(connect(&longest), listener.accept());
    client.and(server).unwrap();
    let odd = Endpoint::Abstract(b"\x00\xff odd".to_vec());
    let mut listener = Listener::bind(odd.clone()).await.unwrap();
    let (client, server) = tokio::join!(connect(odd), listener.accept());
    client.and(server).unwrap();
}

#[tokio::test]
async fn something_else_is_there() {
    let _watchdog = Watchdog::new("something_else_is_there");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let error = Listener::bind(&file).await.unwrap_err();
    says(
        &error,
        error.kind(),
        &["bind", name(&file), "EEXIST", "no socket", "remove it"],
    );
    assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    let error = connect(&file).await.unwrap_err();
    says(
        &error,
        ErrorKind::Refused,
        &["connect", name(&file), "ECONNREFUSED"],
    );
    let error = Listener::bind(directory.path()).await.unwrap_err();
    says(&error, error.kind(), &["EEXIST", "no socket"]);
    let error = Listener::bind(file.join("below")).await.unwrap_err();
    says(&error, error.kind(), &["ENOTDIR", "no directory"]);

    // A live socket of another type is no stale one.
    let stream = directory.path().join("stream");
    let _live = UnixListener::bind(&stream).unwrap();
    let error = connect(&stream).await.unwrap_err();
    says(
        &error,
        error.kind(),
        &[
            "connect",
            name(&stream),
            "EPROTOTYPE",
            "SOCK_SEQPACKET",
            "check the address",
        ],
    );
    let error = Listener::bind(&stream).await.unwrap_err();
    says(&error, error.kind(), &["bind", name(&stream), "EADDRINUSE"]);
    assert!(stream.exists());

    // A symbolic link is somebody's arrangement.
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let error = Listener::bind(&link).await.unwrap_err();
    says(&error, error.kind(), &["EEXIST"]);

    // Something that speaks another protocol over the right type of socket.
    let other = directory.path().join("other");
    let listener = Wire::listen(&other);
    let babble = std::thread::spawn(move || {
        let wire = listener.accept();
        wire.send(b"220 ready", &[]).unwrap();
        wire.is_hung_up()
    });
    let error = connect(&other).await.unwrap_err();
    says(&error, ErrorKind::Protocol, &[name(&other), "9 bytes"]);
    assert!(babble.join().unwrap());
}

#[tokio::test]
async fn a_live_listener_is_not_robbed() {
    let _watchdog = Watchdog::new("a_live_listener_is_not_robbed");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let unique = format!("@sinew-live-{}", std::process::id());
    for endpoint in [Endpoint::from(&path), Endpoint::from(&unique)] {
        let mut listener = Listener::bind(endpoint.clone()).await.unwrap();
        for _ in 0..3 {
            let error = Listener::bind(endpoint.clone()).await.unwrap_err();
            says(
                &error,
                error.kind(),
                &[
                    "bind",
                    &endpoint.to_string(),
                    "EADDRINUSE",
                    "live listener",
                    "choose another",
                ],
            );
        }
        let (client, server) = tokio::join!(connect(endpoint.clone()), listener.accept());
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        drop(listener);
        // Accepted channels live on, and the name is free again.
        let next = Listener::bind(endpoint.clone()).await.unwrap();
        client.send("still here").await.unwrap();
        assert_eq!(server.recv().await.unwrap().unwrap(), "still here");
        drop(next);
    }
    assert!(!path.exists());

    // A listener does not remove what another has put there.
    let listener = Listener::bind(&path).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let other = Listener::bind(&path).await.unwrap();
    drop(listener);
    assert!(path.exists());
    drop(other);
    assert!(!path.exists());
}

/// Starters that race for what a dead one left: one wins, and the others say why they did not.
#[test]
fn racing_starters() {
    let _watchdog = Watchdog::new("racing_starters");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    const STARTERS: usize = 4;
    for round in 0..scaled(200).max(10) {
        let unique = format!("@sinew-race-{}-{round}", std::process::id());
        let endpoint = if round % 5 == 4 { &unique } else { name(&path) };
        if round % 5 != 4 && round % 2 == 0 && !path.exists() {
            drop(Wire::listen(&path));
        }
        let mut starters: Vec<Peer> = (0..STARTERS)
            .map(|_| Peer::start(PEER, &["bind", endpoint]))
            .collect();
        let answers: Vec<String> = starters.iter_mut().map(Peer::line).collect();
        let won = answers.iter().filter(|answer| *answer == "ok").count();
        assert_eq!(won, 1, "round {round}: {answers:?}");
        for answer in answers.iter().filter(|answer| *answer != "ok") {
            says_text(answer, &["bind", endpoint, "EADDRINUSE", "live listener"]);
        }
        // Killed all, the winner too: the next ones race for its path.
        for starter in &mut starters {
            starter.kill();
            starter.wait();
        }
    }
}

#[tokio::test]
async fn no_permission() {
    let _watchdog = Watchdog::new("no_permission");
    if !rustix::process::geteuid().is_root() {
        skip("no_permission", "needs root, to become somebody else");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    // The build's directories may be closed to others.
    let program = directory.path().join("peer");
    std::fs::copy(PEER, &program).unwrap();
    let answer = |arguments: [&str; 2]| {
        let mut command = Command::new(&program);
        Peer::spawn(command.args(arguments).uid(65534).gid(65534)).line()
    };
    let path = directory.path().join("shm");
    let text = answer(["bind", name(&path)]);
    says_text(&text, &["Refused", name(&path), "EACCES"]);

    let listener = Options::new().mode(0o600).bind(&path).await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = answer(["connect", name(&path)]);
    says_text(&text, &["Refused", "connect", name(&path), "EACCES"]);
    drop(listener);

    // Open to all: across users the doorbell is the socket.
    let mut listener = Options::new().mode(0o666).bind(&path).await.unwrap();
    let client = tokio::task::spawn_blocking({
        let mut command = Command::new(&program);
        command
            .args(["echo", "connect", name(&path)])
            .uid(65534)
            .gid(65534);
        move || Peer::spawn(&mut command)
    });
    let mut channel = listener.accept().await.unwrap();
    assert_eq!((channel.peer().uid, channel.peer().gid), (65534, 65534));
    let mut peer = client.await.unwrap();
    assert_eq!(channel.peer().pid, peer.pid());
    for len in [0, 10, 100_000] {
        channel.send(vec![1; len]).await.unwrap();
        assert_eq!(channel.recv().await.unwrap().unwrap().len(), len);
    }
    peer.kill();
    assert!(channel.recv().await.unwrap_err().is_peer_crashed());

    // An abstract name has no permissions: by default it is for the same user, and root.
    let unique = format!("@sinew-user-{}", std::process::id());
    let mut listener = Listener::bind(&unique).await.unwrap();
    let client = tokio::task::spawn_blocking({
        let mut command = Command::new(&program);
        command.args(["connect", &unique]).uid(65534).gid(65534);
        move || Peer::spawn(&mut command).line()
    });
    let text = tokio::select! {
        channel = listener.accept() => panic!("admitted {channel:?}"),
        text = client => text.unwrap(),
    };
    says_text(&text, &["Refused", "policy", &unique]);
    // The other side of the refusal is counted.
    tokio::select! {
        channel = listener.accept() => panic!("admitted {channel:?}"),
        () = tokio::time::sleep(Duration::from_millis(20)) => {}
    }
    assert_eq!(listener.rejected(), 1);
}

#[tokio::test]
async fn a_policy_says_no() {
    let _watchdog = Watchdog::new("a_policy_says_no");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let options = Options::new().authorize(|peer| peer.pid != std::process::id());
    let mut listener = options.bind(&path).await.unwrap();
    let error = tokio::select! {
        channel = listener.accept() => panic!("admitted {channel:?}"),
        refused = connect(&path) => refused.unwrap_err(),
    };
    says(
        &error,
        ErrorKind::Refused,
        &["connect", name(&path), "policy", "change its policy"],
    );
    let mut listener = Listener::bind(directory.path().join("2")).await.unwrap();
    let error = tokio::select! {
        channel = listener.accept() => panic!("admitted {channel:?}"),
        refused = options.connect(directory.path().join("2")) => refused.unwrap_err(),
    };
    assert_eq!(error.kind(), ErrorKind::Refused);
    says_text(&error.to_string(), &["connect", "policy", "uid"]);
}

#[tokio::test]
async fn a_message_above_the_peers_limit() {
    let _watchdog = Watchdog::new("a_message_above_the_peers_limit");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    // Both a limit above the threshold and one below, at which messages travel in the ring.
    for limit in [200_000, 1000] {
        let mut listener = Options::new().max_message(limit).bind(&path).await.unwrap();
        let (client, server) = tokio::join!(connect(&path), listener.accept());
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        let most = usize::try_from(limit).unwrap();
        let long = vec![1; most + 1];
        let more = format!("{} bytes", most + 1);
        let parts = [
            "send",
            name(&path),
            &more,
            &limit.to_string(),
            "max_message",
        ];

        let error = client.send(&long).await.unwrap_err();
        says(&error, ErrorKind::LimitExceeded, &parts);
        match client.try_send(long.clone()).unwrap_err() {
            TrySendError::Rejected { value, error, .. } => {
                assert_eq!(value, long);
                says(&error, ErrorKind::LimitExceeded, &parts);
            }
            other => panic!("{other}"),
        }
        let error = client.sender().reserve(most + 1).await.unwrap_err();
        says(&error, ErrorKind::LimitExceeded, &parts);
        let batch = [&b"before"[..], &long, b"after"];
        let error = client.sender().send_batch(batch).await.unwrap_err();
        says(&error, ErrorKind::LimitExceeded, &parts);
        let frozen = sinew_memory::Frozen::copy_from_slice(&long).unwrap();
        let error = client.sender().send_frozen(&frozen).await.unwrap_err();
        says(&error, ErrorKind::LimitExceeded, &parts);
        let error = client.blocking_send(&long).unwrap_err();
        says(&error, ErrorKind::LimitExceeded, &parts);
        let feed = futures::SinkExt::send(&mut client, long.into());
        says(&feed.await.unwrap_err(), ErrorKind::LimitExceeded, &parts);

        // The channel goes on.
        client.send(vec![2; most]).await.unwrap();
        assert_eq!(server.recv().await.unwrap().unwrap(), "before");
        assert_eq!(server.recv().await.unwrap().unwrap(), vec![2; most]);
        // The other direction has a limit of its own.
        server.send(vec![3; most + 1]).await.unwrap();
        assert_eq!(client.recv().await.unwrap().unwrap(), vec![3; most + 1]);
    }
}

#[tokio::test]
async fn a_ring_above_the_limit() {
    let _watchdog = Watchdog::new("a_ring_above_the_limit");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let small = Options::new().max_capacity(64 << 10);
    let mut listener = small.bind(&path).await.unwrap();
    let error = tokio::select! {
        channel = listener.accept() => panic!("admitted {channel:?}"),
        refused = connect(&path) => refused.unwrap_err(),
    };
    says(&error, error.kind(), &["connect", name(&path), "handshake"]);
    drop(listener);
    let mut listener = Listener::bind(&path).await.unwrap();
    let error = tokio::select! {
        channel = listener.accept() => panic!("admitted {channel:?}"),
        refused = small.connect(&path) => refused.unwrap_err(),
    };
    says(
        &error,
        ErrorKind::LimitExceeded,
        &[name(&path), "262144", "65536", "max_capacity"],
    );
}

#[tokio::test]
async fn impossible_options() {
    let _watchdog = Watchdog::new("impossible_options");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let cases = [
        (Options::new().capacity(0), "capacity=0"),
        (Options::new().capacity(4095), "capacity=4095"),
        (Options::new().capacity(100_000), "capacity=100000"),
        (Options::new().capacity(1 << 32), "capacity=4294967296"),
        (Options::new().capacity(u64::MAX), "capacity="),
        (
            Options::new().capacity(4096).threshold(4089),
            "threshold=4089",
        ),
        (Options::new().threshold(usize::MAX), "threshold="),
    ];
    for (options, part) in cases {
        for error in [
            options.pair().map(drop).unwrap_err(),
            options.bind(&path).await.map(drop).unwrap_err(),
            options.connect(&path).await.map(drop).unwrap_err(),
        ] {
            says(&error, ErrorKind::InvalidInput, &[part]);
        }
        assert!(!path.exists());
    }
    Options::new()
        .capacity(4096)
        .threshold(4088)
        .pair()
        .unwrap();
    let (left, _right) = std::os::unix::net::UnixStream::pair().unwrap();
    let error = Options::new().connect_on(left.into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    says_text(&error.to_string(), &["connect", "SOCK_SEQPACKET"]);
}

/// At the limit of open files, in a process of its own.
#[test]
fn no_descriptors_left() {
    let _watchdog = Watchdog::new("no_descriptors_left");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("shm");
    let limit = |what: &str| {
        let mut peer = Peer::start(PEER, &["limit", what, name(&path)]);
        let answer = peer.rest();
        assert!(peer.wait().success(), "{what}: {answer}");
        println!("{what}: {}", answer.trim_end());
        answer.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    for what in ["bind", "bind-abstract", "connect", "accept", "send", "recv"] {
        let answer = limit(what);
        let address = match what {
            "bind-abstract" => "@sinew-limit",
            _ => name(&path),
        };
        says_text(&answer[0], &["EMFILE", address, "ulimit -n"]);
        if matches!(what, "accept" | "send") {
            assert_eq!(answer[1], "ok", "{what}");
        }
    }
    says_text(&limit("pair")[0], &["EMFILE", "ulimit -n"]);
}

#[test]
fn nothing_inherited() {
    let _watchdog = Watchdog::new("nothing_inherited");
    for value in [
        None,
        Some("7"),
        Some("1:1"),
        Some("-3:2"),
        Some("7:7"),
        Some("x"),
    ] {
        let mut command = Command::new(PEER);
        command.arg("inherited-without");
        if let Some(value) = value {
            command.env(sinew_shm::INHERITED_FD, value);
        }
        let text = Peer::spawn(&mut command).line();
        says_text(&text, &["InvalidInput", "SINEW_SHM_FD", "Options::spawn"]);
    }
}

#[tokio::test]
async fn a_child_that_does_not_come() {
    let _watchdog = Watchdog::new("a_child_that_does_not_come");
    let options = Options::new().handshake_timeout(Duration::from_millis(200));
    let error = options
        .spawn(tokio::process::Command::new("/nonexistent/program"))
        .await
        .unwrap_err();
    says_text(
        &error.to_string(),
        &["spawn", "/nonexistent/program", "ENOENT"],
    );
    let mut command = tokio::process::Command::new(PEER);
    command
        .arg("inherited-never")
        .stdin(std::process::Stdio::piped());
    let error = options.spawn(command).await.unwrap_err();
    says(&error, ErrorKind::TimedOut, &[PEER, "200ms"]);
    let error = Options::new()
        .spawn(tokio::process::Command::new("/bin/true"))
        .await
        .unwrap_err();
    says(&error, ErrorKind::Closed, &["/bin/true", "handshake"]);
}
