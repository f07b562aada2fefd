use sinew_memory::{MappedFile, PosixShm, SysvShm};
use sinew_shm::named::Place;

/// Where a channel lies, from a command line: `posix:/name`, `sysv:KEY` or `file:/path`. It is made where there is none.
pub fn region_place(text: &str) -> Place {
    match text.split_once(':') {
        Some(("posix", name)) => PosixShm::new(name).create(true).into(),
        Some(("sysv", key)) => SysvShm::new(key.parse::<i32>().unwrap())
            .create(true)
            .into(),
        Some(("file", path)) => MappedFile::new(path).create(true).into(),
        _ => panic!("no place: {text}"),
    }
}
