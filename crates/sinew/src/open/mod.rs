//! Opening by address: a file for each mechanism, and the choice between them.

#[cfg(feature = "mqueue")]
mod mqueue;
#[cfg(feature = "shm")]
mod region;
#[cfg(feature = "shm")]
mod shm;

use sinew_core::{Address, BoxSink, BoxStream, Error, ErrorKind, Scheme};

/// The schemes that can be opened, with the feature that each needs and whether this build has it.
const OPENABLE: &[(Scheme, &str, bool)] = &[
    (Scheme::Shm, "shm", cfg!(feature = "shm")),
    (Scheme::Mq, "mqueue", cfg!(feature = "mqueue")),
    (Scheme::SysvMq, "mqueue", cfg!(feature = "mqueue")),
    (Scheme::PosixShm, "shm", cfg!(feature = "shm")),
    (Scheme::SysvShm, "shm", cfg!(feature = "shm")),
    (Scheme::Mmap, "shm", cfg!(feature = "shm")),
];

macro_rules! dispatch {
    ($open:ident($address:expr)) => {
        match $address.scheme() {
            #[cfg(feature = "mqueue")]
            Scheme::Mq | Scheme::SysvMq => mqueue::$open($address).await,
            #[cfg(feature = "shm")]
            Scheme::Shm => shm::$open($address).await,
            #[cfg(feature = "shm")]
            Scheme::PosixShm | Scheme::SysvShm | Scheme::Mmap => region::$open($address).await,
            _ => Err(unsupported(stringify!($open), $address)),
        }
    };
}

/// Opens both directions of what `address` names.
///
/// # `shm:`
///
/// A channel between two processes. One listens, at a path or an abstract name, until one peer has
/// connected, and gives the address free again then; the other connects.
///
/// | parameter | default | |
/// |---|---|---|
/// | `listen`, `connect` | [`open_receiver`] listens, [`open_sender`] and [`open`] connect | which of the two this end does |
/// | `timeout` | 5 s to connect, for ever to listen | how long to wait for the other end |
/// | `mode` | what the umask leaves of 666 | permissions of the path: who may write, may connect |
/// | `capacity` | `256K` | bytes of the ring in which this end sends, a power of two |
/// | `threshold` | a quarter of `capacity` | the longest message that travels in the ring |
/// | `max-message` | `1G` | the longest message that this end receives |
/// | `wait` | `adaptive` | `adaptive`, `park` or `spin`, as `shm::Wait` |
///
/// The same address serves both ends: `mode` is for the one that listens.
///
/// # `mq:`
///
/// A POSIX message queue, by its name, which begins with a slash. Messages have a
/// [priority](sinew_core::Message::priority), and the highest is received first. The queue outlives those
/// who use it. Its stream does not end by itself, because nobody is told whether somebody will send.
///
/// | parameter | default | |
/// |---|---|---|
/// | `create` | | make the queue where there is none |
/// | `exclusive` | | with `create`: fail where there is one |
/// | `maxmsg` | `fs.mqueue.msg_default`, 10 | messages that the queue holds; one that exists must hold as many |
/// | `mode` | 600 | permissions of a queue that is made, exactly |
/// | `msgsize` | `fs.mqueue.msgsize_default`, `8K` | bytes of the longest message; one that exists must have the same |
/// | `prio` | 0 | the priority of messages that are sent without one, up to 32767 |
/// | `unlink` | | remove the name when the halves are dropped |
///
/// # `sysvmq:`
///
/// A SysV message queue, by its key (`sysvmq:0x5e1f`), the id that ipcs(1) lists (`sysvmq:id=3`), or the key
/// that ftok(3) makes of a file (`sysvmq:/etc/app.conf`). Messages have a type, their
/// [kind](sinew_core::Message::kind). The queue outlives those who use it; the stream ends when it is removed.
///
/// | parameter | default | |
/// |---|---|---|
/// | `create` | | make the queue where there is none |
/// | `except` | | receive messages of all types but this one |
/// | `exclusive` | | with `create`: fail where there is one |
/// | `max-message` | what was sent | the longest message that is received; a longer one is an error, and stays |
/// | `mode` | 600 | permissions of a queue that is made |
/// | `project` | 1 | the number that ftok(3) takes besides a path |
/// | `remove` | | remove the queue when the halves are dropped |
/// | `type` | any | receive messages of this type; with a minus, of types up to it, the lowest first |
///
/// Messages that are sent without a type get `type`, or else 1 (2 with `except=1`).
///
/// # `posixshm:`, `sysvshm:`, `mmap:`
///
/// A channel laid in POSIX shared memory (`posixshm:/name`), a SysV segment (by its key, `id=` and its id, or a
/// file for ftok(3), as for `sysvmq:`) or a mapped file (`mmap:/path`). Its two ends meet by the name, in either order, and each may
/// go and come back: what was sent stays until it is received, also when both are gone. [`open_sender`] and [`open_receiver`]
/// are the ends of one direction; [`open`] opens a channel with two, at both ends. Everybody who may write to the
/// memory has to be trusted.
///
/// | parameter | default | |
/// |---|---|---|
/// | `create` | | make the memory, and lay the channel, where there is none |
/// | `exclusive` | | with `create`: fail where there is memory of that name |
/// | `max-message` | what fits into the ring | the longest message; a channel that is there must take as long ones |
/// | `mode` | 600 | permissions of memory that is made, exactly |
/// | `project` | 1 | of `sysvshm:`, the number that ftok(3) takes besides a path |
/// | `remove`, `unlink` | | of `sysvshm:`, of the others: remove the memory when the halves are dropped |
/// | `size` | `256K`, or what fits into memory that is there | bytes of the ring, rounded up to a power of two; the memory has 4096 more |
/// | `timeout` | 0 without `create`, 5 s with it | how long to wait for the channel to be there |
/// | `wait` | `adaptive` | `adaptive`, `park` or `spin`, as `shm::Wait` |
///
/// # Errors
///
/// Of kind [`Unsupported`](ErrorKind::Unsupported) if this build cannot open such an address,
/// [`InvalidAddress`](ErrorKind::InvalidAddress) or [`InvalidInput`](ErrorKind::InvalidInput) if its
/// parameters cannot be met, [`TimedOut`](ErrorKind::TimedOut) if nobody came in time; otherwise those of
/// the mechanism's own way to open, which name the system call and the remedy.
///
/// # Cancel safety
///
/// Cancel safe: dropped before it is ready, it leaves nothing behind.
///
/// # Examples
///
/// ```no_run
/// use futures::{SinkExt, StreamExt};
/// use sinew::{Address, Message};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let address: Address = "shm:/run/echo.sock?timeout=500ms".parse()?;
/// let (mut sink, mut stream) = sinew::open(&address).await?;
/// sink.send(Message::from("hello")).await?;
/// if let Some(answer) = stream.next().await.transpose()? {
///     println!("{:?}", answer.payload());
/// }
/// # Ok(())
/// # }
/// ```
pub async fn open(address: &Address) -> Result<(BoxSink, BoxStream), Error> {
    dispatch!(open(address))
}

/// Opens what `address` names for sending.
///
/// What `shm:` takes is said at [`open`]; this end connects unless the address says `listen`. Of the
/// channel's other direction nothing is left: a peer that sends is told that it is closed.
///
/// Closing the sink is what tells the peer that all was sent. A process that ends without having done so,
/// or having dropped it, is one that died.
///
/// # Errors
///
/// As for [`open`].
///
/// # Cancel safety
///
/// As for [`open`].
pub async fn open_sender(address: &Address) -> Result<BoxSink, Error> {
    dispatch!(open_sender(address))
}

/// Opens what `address` names for receiving.
///
/// What `shm:` takes is said at [`open`]; this end listens unless the address says `connect`. Of the
/// channel's other direction nothing is left: a peer that receives finds it closed.
///
/// # Errors
///
/// As for [`open`].
///
/// # Cancel safety
///
/// As for [`open`].
pub async fn open_receiver(address: &Address) -> Result<BoxStream, Error> {
    dispatch!(open_receiver(address))
}

fn unsupported(operation: &'static str, address: &Address) -> Error {
    let scheme = address.scheme();
    let error = Error::new(ErrorKind::Unsupported, operation).with_address(address);
    if let Some((_, feature, _)) = OPENABLE.iter().find(|(known, ..)| *known == scheme) {
        return error
            .with_reason(format!("this build is without the feature `{feature}`"))
            .with_remedy(format!(
                "build sinew with the feature `{feature}`, or `full`"
            ));
    }
    let here: Vec<_> = OPENABLE
        .iter()
        .filter(|(_, _, enabled)| *enabled)
        .map(|(scheme, ..)| format!("`{scheme}:`"))
        .collect();
    let error = error.with_reason(format!("this version cannot open `{scheme}:` addresses"));
    if here.is_empty() {
        return error.with_remedy("build sinew with the feature `full`");
    }
    error.with_remedy(format!("it can open {}", here.join(", ")))
}
