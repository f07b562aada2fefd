//! A child process that was started with its end of a channel in hand.

use std::os::fd::AsRawFd;
use std::process::Stdio;
use std::time::Duration;

use sinew_core::Error;
use sinew_integration_tests::{Peer, Random, Resources, Watchdog, scaled};
use sinew_shm::{INHERITED_FD, Options, Wait};
use tokio::process::Command;

const PEER: &str = env!("CARGO_BIN_EXE_peer");

fn command() -> Command {
    let mut command = Command::new(PEER);
    command.arg("inherited").stdin(Stdio::null());
    command
}

#[tokio::test]
async fn a_child_echoes_and_ends() -> Result<(), Error> {
    let _watchdog = Watchdog::new("a_child_echoes_and_ends");
    let mut baseline = None;
    for round in 0..scaled(100).max(5) {
        let wait = [Wait::Adaptive, Wait::Park, Wait::Spin][usize::try_from(round % 3).unwrap()];
        let (mut channel, mut child) = Options::new().wait(wait).spawn(command()).await?;
        assert_eq!(Some(channel.peer().pid), child.id());
        for len in [0, 1, 1000, 100_000] {
            channel.send(vec![1; len]).await?;
            assert_eq!(channel.recv().await?.unwrap().len(), len);
        }
        channel.close().await?;
        assert_eq!(channel.recv().await?, None);
        assert!(child.wait().await.unwrap().success());
        drop((channel, child));
        match baseline {
            None => baseline = Some(Resources::now()),
            Some(baseline) => baseline.assert_back(),
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_child_that_is_killed() -> Result<(), Error> {
    let _watchdog = Watchdog::new("a_child_that_is_killed");
    let mut random = Random::from_env("a_child_that_is_killed");
    for _ in 0..scaled(100).max(5) {
        let (mut channel, mut child) = Options::new().spawn(command()).await?;
        channel.send("before").await?;
        tokio::time::sleep(Duration::from_micros(random.below(1000))).await;
        child.kill().await.unwrap();
        let mut echoes = 0;
        let error = loop {
            match channel.recv().await {
                Ok(message) => assert_eq!(message.unwrap(), "before"),
                Err(error) => break error,
            }
            echoes += 1;
        };
        assert!(error.is_peer_crashed() && echoes <= 1, "{error}");
    }
    Ok(())
}

/// A grandchild, and other children that are started meanwhile, have no part in the channel.
#[tokio::test]
async fn others_do_not_keep_it_open() -> Result<(), Error> {
    let _watchdog = Watchdog::new("others_do_not_keep_it_open");
    let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
    let (mut channel, mut child) = Options::new().spawn(command()).await?;
    let mut other = Command::new("sleep").arg("1000").spawn().unwrap();
    let (second, mut second_child) = Options::new().spawn(command()).await?;
    child.kill().await.unwrap();
    assert!(channel.recv().await.unwrap_err().is_peer_crashed());
    drop(second);
    assert!(second_child.wait().await.unwrap().success());
    for sleeper in [&mut sleeper, &mut other] {
        sleeper.kill().await.unwrap();
    }
    Ok(())
}

/// The variable alone reaches a grandchild, where the number may be another socket's.
#[tokio::test]
async fn the_variable_means_one_socket() -> Result<(), Error> {
    let _watchdog = Watchdog::new("the_variable_means_one_socket");
    // Without SOCK_CLOEXEC, so that children inherit it.
    let (ours, theirs) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::empty(),
        None,
    )
    .unwrap();
    let number = theirs.as_raw_fd();
    let inode = rustix::fs::fstat(&theirs).unwrap().st_ino;
    for wrong in [format!("{number}"), format!("{number}:{}", inode + 1)] {
        let mut command = std::process::Command::new(PEER);
        command.arg("inherited-without").env(INHERITED_FD, &wrong);
        let text = Peer::spawn(&mut command).line();
        assert!(
            text.contains("InvalidInput") && text.contains(&wrong),
            "{text}"
        );
    }
    let mut child = command()
        .env(INHERITED_FD, format!("{number}:{inode}"))
        .spawn()
        .unwrap();
    drop(theirs);
    let mut channel = Options::new().accept_on(ours).await?;
    channel.send("ping").await?;
    assert_eq!(channel.recv().await?.as_deref(), Some(&b"ping"[..]));
    channel.close().await?;
    drop(channel);
    assert!(child.wait().await.unwrap().success());
    Ok(())
}
