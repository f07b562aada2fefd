use sinew_shm::{Doorbell, Options, Receiver, Sender, Wait};

/// All ways of waiting.
pub const WAITS: [Wait; 3] = [Wait::Adaptive, Wait::Park, Wait::Spin];
/// All doorbells.
pub const BELLS: [Doorbell; 2] = [Doorbell::Auto, Doorbell::Socket];

/// Options with these two set. With the socket's doorbell, large messages go in sealed memory
/// instead of segments.
pub fn options(wait: Wait, bell: Doorbell) -> Options {
    let options = Options::new().wait(wait).doorbell(bell);
    match bell {
        Doorbell::Socket => options.reused_memory(0),
        _ => options,
    }
}

/// One direction of a fresh pair; what is not used is kept, so that nothing is closed.
pub fn one_way(options: &Options) -> (Sender, Receiver, (Receiver, Sender)) {
    let (left, right) = options.pair().unwrap();
    let (sender, unused_receiver) = left.split();
    let (unused_sender, receiver) = right.split();
    (sender, receiver, (unused_receiver, unused_sender))
}

/// For a command line: see [`parse_options`].
pub fn wait_name(wait: Wait) -> &'static str {
    match wait {
        Wait::Park => "park",
        Wait::Spin => "spin",
        _ => "adaptive",
    }
}

/// For a command line: see [`parse_options`].
pub fn bell_name(bell: Doorbell) -> &'static str {
    match bell {
        Doorbell::Socket => "socket",
        _ => "auto",
    }
}

/// Options from the names of a way of waiting and a doorbell.
pub fn parse_options(wait: &str, bell: &str) -> Options {
    let wait = WAITS.into_iter().find(|known| wait_name(*known) == wait);
    let bell = BELLS.into_iter().find(|known| bell_name(*known) == bell);
    options(wait.expect("a way of waiting"), bell.expect("a doorbell"))
}
