use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sinew_core::Error;
use sinew_shm::{Channel, Options, connect};
use tokio::task::JoinHandle;

use crate::seed::Random;

/// What only a hang takes longer than.
const HANG: Duration = Duration::from_secs(20);

/// A listener that echoes, and counts whom it turned away.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub path: PathBuf,
    rejected: Arc<AtomicU64>,
    task: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Server {
    /// Listens at a path of its own.
    pub async fn start(options: Options) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("shm");
        let mut listener = options.bind(&path).await.unwrap();
        let rejected = Arc::new(AtomicU64::new(0));
        let count = rejected.clone();
        let task = tokio::spawn(async move {
            loop {
                tokio::select! {
                    channel = listener.accept() => {
                        let mut channel = channel.unwrap();
                        tokio::spawn(async move {
                            let echo = async {
                                while let Some(message) = channel.recv().await? {
                                    channel.send(message).await?;
                                }
                                Ok::<_, Error>(())
                            };
                            // Printed with a failing test, whose reason it may be.
                            if let Err(error) = echo.await {
                                eprintln!("an echo ends: {error}");
                            }
                        });
                    }
                    () = tokio::time::sleep(Duration::from_millis(2)) => {}
                }
                count.store(listener.rejected(), Ordering::SeqCst);
            }
        });
        Self {
            path,
            rejected,
            task,
            _directory: directory,
        }
    }

    /// How many it has turned away.
    pub fn rejected(&self) -> u64 {
        self.rejected.load(Ordering::SeqCst)
    }

    /// Waits until it has turned away as many; more are a failure.
    pub async fn until_rejected(&self, count: u64, case: &str) {
        let deadline = Instant::now() + HANG;
        while self.rejected() < count {
            assert!(Instant::now() < deadline, "{case}: was not turned away");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(self.rejected(), count, "{case}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An honest client, which checks that it is not affected.
#[derive(Debug)]
pub struct Honest {
    channel: Channel,
    random: Random,
}

impl Honest {
    /// Connects to a server.
    pub async fn connect(path: &Path) -> Self {
        Self {
            channel: connect(path).await.unwrap(),
            random: Random::new(7),
        }
    }

    /// Sends messages of all sizes, and expects each back.
    pub async fn check(&mut self) {
        for most in [0, 100, 30_000, 300_000] {
            let len = usize::try_from(self.random.below(most + 1)).unwrap();
            let message = vec![u8::try_from(self.random.below(256)).unwrap(); len];
            let echo = async {
                self.channel.send(&message).await.unwrap();
                self.channel.recv().await.unwrap().unwrap()
            };
            let echo = tokio::time::timeout(HANG, echo).await;
            assert!(echo.expect("the honest channel goes on") == message);
        }
    }
}
