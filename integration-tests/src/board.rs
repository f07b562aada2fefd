use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::sys::SharedMap;

/// Counters in a mapped file, which outlive the process that counts.
#[derive(Debug)]
pub struct Board {
    map: SharedMap,
    path: PathBuf,
}

impl Board {
    const SIZE: u64 = 4096;

    /// Opens, or creates, the board in this file.
    pub fn open(path: &Path) -> Self {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .unwrap();
        file.set_len(Self::SIZE).unwrap();
        let len = usize::try_from(Self::SIZE).unwrap();
        Self {
            map: SharedMap::new(file.as_fd(), len, true).unwrap(),
            path: path.to_path_buf(),
        }
    }

    /// The file, for a command line.
    pub fn path(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Sets all counters to zero.
    pub fn reset(&self) {
        for offset in [0, 64, 128] {
            self.map.word(offset).store(0, Ordering::SeqCst);
        }
    }

    /// Counts something as begun.
    pub fn begin(&self, count: u64) {
        self.map.word(0).fetch_add(count, Ordering::SeqCst);
    }

    /// Counts something as done.
    pub fn finish(&self, count: u64) {
        self.map.word(64).fetch_add(count, Ordering::SeqCst);
    }

    /// Counts something as wrong.
    pub fn wrong(&self) {
        self.map.word(128).fetch_add(1, Ordering::SeqCst);
    }

    /// What was begun.
    pub fn begun(&self) -> u64 {
        self.map.word(0).load(Ordering::SeqCst)
    }

    /// What was done.
    pub fn done(&self) -> u64 {
        self.map.word(64).load(Ordering::SeqCst)
    }

    /// What was wrong.
    pub fn wrongs(&self) -> u64 {
        self.map.word(128).load(Ordering::SeqCst)
    }
}
