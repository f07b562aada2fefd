use std::time::{Duration, Instant};

/// Fails unless no thread of this process has this name, which those that are ending, and neighbours' of the same name, may take a while for.
#[track_caller]
pub fn assert_no_thread(name: &str) {
    let deadline = Instant::now() + crate::scale::patience();
    let is_there = || {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap();
        tasks
            .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
            .any(|comm| comm.trim_end() == name)
    };
    while is_there() {
        assert!(Instant::now() < deadline, "a thread {name} is left behind");
        std::thread::sleep(Duration::from_millis(5));
    }
}
