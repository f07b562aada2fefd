//! Opening by address: a file for each mechanism, and the choice between them.

#[cfg(any(feature = "shm", feature = "socket"))]
mod listen;
#[cfg(feature = "mqueue")]
mod mqueue;
#[cfg(any(
    feature = "mqueue",
    feature = "pipe",
    feature = "shm",
    feature = "socket",
    feature = "sync"
))]
mod parameters;
#[cfg(feature = "pipe")]
mod pipe;
#[cfg(feature = "shm")]
mod region;
#[cfg(feature = "shm")]
mod shm;
#[cfg(feature = "socket")]
mod socket;
#[cfg(feature = "sync")]
mod sync;

#[cfg(any(feature = "shm", feature = "socket"))]
pub use listen::{Connection, Listener, Peer, listen};
use sinew_core::{Address, BoxSink, BoxStream, Error, ErrorKind, Scheme};

/// The schemes that can be opened, with the feature that each needs and whether this build has it.
const OPENABLE: &[(Scheme, &str, bool)] = &[
    (Scheme::Shm, "shm", cfg!(feature = "shm")),
    (Scheme::Mq, "mqueue", cfg!(feature = "mqueue")),
    (Scheme::SysvMq, "mqueue", cfg!(feature = "mqueue")),
    (Scheme::Exec, "pipe", cfg!(feature = "pipe")),
    (Scheme::Fd, "pipe", cfg!(feature = "pipe")),
    (Scheme::Fifo, "pipe", cfg!(feature = "pipe")),
    (Scheme::Unix, "socket", cfg!(feature = "socket")),
    (Scheme::UnixDgram, "socket", cfg!(feature = "socket")),
    (Scheme::UnixSeqpacket, "socket", cfg!(feature = "socket")),
    (Scheme::Tcp, "socket", cfg!(feature = "socket")),
    (Scheme::Udp, "socket", cfg!(feature = "socket")),
    (Scheme::PosixShm, "shm", cfg!(feature = "shm")),
    (Scheme::SysvShm, "shm", cfg!(feature = "shm")),
    (Scheme::Mmap, "shm", cfg!(feature = "shm")),
    (Scheme::Sem, "sync", cfg!(feature = "sync")),
    (Scheme::SysvSem, "sync", cfg!(feature = "sync")),
    (Scheme::Futex, "sync", cfg!(feature = "sync")),
];

macro_rules! dispatch {
    ($open:ident($address:expr)) => {
        match $address.scheme() {
            #[cfg(feature = "mqueue")]
            Scheme::Mq | Scheme::SysvMq => mqueue::$open($address).await,
            #[cfg(feature = "pipe")]
            Scheme::Exec | Scheme::Fd | Scheme::Fifo => pipe::$open($address).await,
            #[cfg(feature = "shm")]
            Scheme::Shm => shm::$open($address).await,
            #[cfg(feature = "socket")]
            Scheme::Unix
            | Scheme::UnixDgram
            | Scheme::UnixSeqpacket
            | Scheme::Tcp
            | Scheme::Udp => socket::$open($address).await,
            #[cfg(feature = "shm")]
            Scheme::PosixShm | Scheme::SysvShm | Scheme::Mmap => region::$open($address).await,
            #[cfg(feature = "sync")]
            Scheme::Sem | Scheme::SysvSem | Scheme::Futex => sync::$open($address).await,
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
/// | `mode` | what the umask leaves of 777 | permissions of the path: who may write, may connect |
/// | `capacity` | `256K` | bytes of the ring in which this end sends, a power of two |
/// | `threshold` | a quarter of `capacity` | the longest message that travels in the ring |
/// | `max-message` | `1G` | the longest message that this end receives |
/// | `wait` | `adaptive` | `adaptive`, `park` or `spin`, as `shm::Wait` |
/// | `peers`, `max-peers` | `one` | of an end that connects, nothing; otherwise only for `listen` |
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
/// # `exec:`
///
/// A program that is started, with pipes to its standard input and from its standard output; its
/// standard error is ours. The words are taken apart as `pipe::command` says: with quotes, without a shell
/// (`exec:sh -c 'a | b'` has one), and with `%3F` for a question mark. [`open_sender`] leaves its output
/// to our standard output, [`open_receiver`] gives it no input.
///
/// The sink's `close` ends its input; a sink that was opened alone then waits for its end. A
/// program that fails is an error with [`is_peer_crashed`](Error::is_peer_crashed) at the end. It
/// is the leader of a process group of its own, which is killed when the halves are dropped before:
/// the program, and what it has started.
///
/// | parameter | default | |
/// |---|---|---|
/// | `framing` | `lines` | `lines`, `length` (four bytes, big-endian, before each message), `none` (bytes as they are) or `packet` (`O_DIRECT`: up to 4096 bytes, none empty) |
/// | `max-message` | `16M`; `4096` for packets | the longest message, in both directions |
///
/// # `fd:`
///
/// A descriptor that this process was started with: a pipe, and for `lines` and `length` also a file, a
/// terminal or a socket. From 3 on it is taken, once, and closed with what is opened; 0, 1 and 2 stay open
/// besides. From a socket that listens, one connection is accepted, and the socket is closed. To
/// [`open`] it for both directions, it has to have both. The parameters are those of `exec:`.
///
/// # `fifo:`
///
/// One end of a FIFO, once somebody has opened the other. It has one direction, so [`open`] fails.
///
/// | parameter | default | |
/// |---|---|---|
/// | `framing`, `max-message` | `lines`, `16M` | as for `exec:` |
/// | `create` | no | make it if it is not there; it stays |
/// | `mode` | what the umask leaves of 666 | with `create`: its permissions, exactly |
/// | `eof` | `end` | to receive, when the last writer leaves: `end`, `reopen` (wait for the next), `hold` (never notice, and do not wait for the first) |
/// | `timeout` | for ever | how long to wait for the other end |
/// | `unlink` | no | remove it when this end is dropped |
///
/// # `unix:`, `unix-seqpacket:`, `tcp:`
///
/// A connection between two processes. One listens, until one peer has connected, and gives the
/// address free again then; the other connects. Of several that connect at once one is taken; the
/// others fail, at the latest when they close. `listen` takes them all.
///
/// | parameter | default | |
/// |---|---|---|
/// | `listen`, `connect` | [`open_receiver`] listens, [`open_sender`] and [`open`] connect | which of the two this end does |
/// | `timeout` | 5 s to connect, for ever to listen | how long to wait for the other end |
/// | `framing` | `length` | not `unix-seqpacket:`; `lines` or `none` (bytes as they are) for socat, nc and others that know nothing of lengths |
/// | `max-message` | `16M`, `256K` for packets | the longest message that this end receives (and sends, where it is framed) |
/// | `mode` | what the umask leaves of 777 | not `tcp:`; permissions of the path: who may write, may connect |
/// | `credentials` | no | not `tcp:`; whether each message that is received says who sent it |
/// | `nodelay` | no | `tcp:`; send small messages at once |
/// | `keepalive` | no | `tcp:`; probe a silent peer after this long, and then three times, as far apart (75 s at most) |
/// | `linger` | until the peer's host has everything, and 5 s for the end of the peer | `tcp:`; how long closing waits; `0s` resets |
/// | `backlog` | 0; 1024 of `listen` | `tcp:`; how many connections can wait, less one |
/// | `peers`, `max-peers` | `one` | of an end that connects, nothing; otherwise only for `listen` |
/// | `reuse-port` | no | `tcp:`; share the port with others that say so too |
///
/// Port 0 is one that is free. An end that listens logs which, at the level `info` with the target
/// `sinew::listening`; [`Listener::address`](crate::Listener::address) has it, too.
///
/// The host of `tcp:` and `udp:` is a name or an address, of IPv6 in brackets. A link-local one
/// names its interface: `tcp:[fe80::1%25eth0]:9000`, where `%25` stands for a percent sign.
///
/// The framing is by length unless the address says otherwise, so that every message crosses as it is,
/// and one that was cut off is noticed.
///
/// # `unix-dgram:`, `udp:`
///
/// Datagrams. The receiver is at the address and hears everybody; the sender connects to it. There is no
/// end: closing a sender tells nobody. To [`open`] with `listen` is to wait for a first datagram, and then
/// to talk with its sender alone.
///
/// | parameter | default | |
/// |---|---|---|
/// | `listen`, `connect` | [`open_receiver`] listens, [`open_sender`] and [`open`] connect | which of the two this end does |
/// | `timeout` | 5 s to connect, for ever to listen | `unix-dgram:`; how long to wait for the other end |
/// | `bind` | nowhere, any port | where the end that connects is itself, so that it can be answered: a path, or `host:port` |
/// | `max-message` | `256K`, `64K` | the longest datagram that this end receives |
/// | `mode`, `credentials` | as above | `unix-dgram:` |
/// | `multicast` | | `udp:`; the address is a group's |
/// | `interface` | what the routing table says | `udp:`; where the group is: a name, a number, or an IPv4 address |
/// | `ttl` | the system's, 1 to a group | `udp:`; how many hops |
/// | `loopback` | `on` | `udp:`; whether this machine gets what it sends to a group |
/// | `broadcast` | no | `udp:`; allow broadcast addresses |
/// | `reuse-port` | no | `udp:`; share the port with others that say so too |
///
/// # `posixshm:`, `sysvshm:`, `mmap:`
///
/// A channel in POSIX shared memory (`posixshm:/name`), a SysV segment (by its key, `id=` and
/// its id, or a file for ftok(3), as for `sysvmq:`) or a mapped file (`mmap:/path`). Its two ends
/// meet by the name, in either order, and each may go and come back: what was sent stays until it
/// is received, also when both are gone. [`open_sender`] and [`open_receiver`] are the ends of one
/// direction. [`open`] opens a channel with two: one process has `listen` and is the server, the
/// other is the client. A client does not receive what the server has sent to an earlier one.
/// Everybody who may write to the memory has to be trusted.
///
/// | parameter | default | |
/// |---|---|---|
/// | `allow-uid` | | trust memory that belongs to this user, besides root's and that of this process's user |
/// | `create` | | make the memory, and lay the channel, where there is none |
/// | `exclusive` | | with `create`: fail where there is memory of that name |
/// | `listen` | | of [`open`]: this process is the server |
/// | `max-message` | what fits into the ring | the longest message; a channel that is there must take as long ones |
/// | `mode` | 600 | permissions of memory that is made, exactly |
/// | `project` | 1 | of `sysvshm:`, the number that ftok(3) takes besides a path |
/// | `remove`, `unlink` | | of `sysvshm:`, of the others: remove the memory when the halves are dropped |
/// | `size` | `256K`, or what fits into memory that is there | bytes of the ring, rounded up to a power of two; the memory has 4096 more |
/// | `timeout` | 0 without `create`, 5 s with it | how long to wait for the channel to be there |
/// | `wait` | `adaptive` | `adaptive`, `park` or `spin`, as `shm::Wait` |
///
/// # `sem:`
///
/// A POSIX semaphore, by its name, which begins with a slash. The stream acquires a unit for each item, the
/// sink posts one for each message, whatever is in it; items are empty. Neither ends by itself, and the units that
/// were acquired are not given back.
///
/// | parameter | default | |
/// |---|---|---|
/// | `create` | | make the semaphore where there is none |
/// | `exclusive` | | with `create`: fail where there is one |
/// | `mode` | what the umask leaves of 666 | permissions of a semaphore that is made |
/// | `unlink` | | remove the name when the halves are dropped |
/// | `value` | 0 | units of a semaphore that is made |
///
/// # `sysvsem:`
///
/// One semaphore of a SysV set, which is named as with `sysvmq:`; its number in the set follows after a slash
/// (`sysvsem:0x5e1f/0`). Items are as with `sem:`; the stream ends when the set is removed.
///
/// | parameter | default | |
/// |---|---|---|
/// | `count` | as many as the number needs | semaphores of a set that is made; one that exists must have as many |
/// | `create` | | make the set where there is none |
/// | `exclusive` | | with `create`: fail where there is one |
/// | `mode` | 600 | permissions of a set that is made |
/// | `project` | 1 | the number that ftok(3) takes besides a path |
/// | `remove` | | remove the set when the halves are dropped |
/// | `timeout` | `5s` | for how long to wait until a set that exists is initialised; `0s` takes it as it is |
/// | `undo` | | the kernel takes back what was done here when the process ends |
/// | `value` | 0 | units of each semaphore of a set that is made |
///
/// # `futex:`
///
/// A word of 32 bits in a file that processes map. The stream has an item for each change that is seen: the
/// new value, in decimal. Changes between two looks are one item, and nothing tells how many they were. The
/// sink stores the number in each message, and wakes all that wait.
///
/// | parameter | default | |
/// |---|---|---|
/// | `create` | | make the file where there is none, all zero |
/// | `mode` | 600 | permissions of a file that is made, exactly |
/// | `offset` | 0 | where the word is in the file, bytes |
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
    check_one_peer(address, address.flag("listen"))?;
    dispatch!(open(address))
}

/// Opens what `address` names for sending.
///
/// What each scheme takes is said at [`open`]; this end connects unless the address says `listen`. Of a
/// `shm:` channel's other direction nothing is left: a peer that sends is told that it is closed. What
/// comes back on a socket is dropped.
///
/// Closing the sink is what tells the peer that all was sent: a sink that is dropped before is a
/// crash to it, where the mechanism can tell ([what success means](crate#what-success-means)).
///
/// # Errors
///
/// As for [`open`].
///
/// # Cancel safety
///
/// As for [`open`].
pub async fn open_sender(address: &Address) -> Result<BoxSink, Error> {
    check_one_peer(address, address.flag("listen"))?;
    dispatch!(open_sender(address))
}

/// Opens what `address` names for receiving.
///
/// What each scheme takes is said at [`open`]; this end listens unless the address says `connect`. Of a
/// `shm:` channel's other direction nothing is left: a peer that receives finds it closed. On a socket it
/// is closed with the stream, or (`tcp:`) when everything was read to the peer's end.
///
/// # Errors
///
/// As for [`open`].
///
/// # Cancel safety
///
/// As for [`open`].
pub async fn open_receiver(address: &Address) -> Result<BoxStream, Error> {
    check_one_peer(address, !address.flag("connect"))?;
    dispatch!(open_receiver(address))
}

/// Makes sure that an end that takes one peer is not told to take many.
fn check_one_peer(address: &Address, listens: bool) -> Result<(), Error> {
    let key = match address.get_str("peers") {
        _ if !listens => return Ok(()),
        Some("many") => "peers=many",
        _ if address.flag("max-peers") => "max-peers",
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::InvalidAddress, "open")
        .with_address(address)
        .with_reason(format!(
            "`{key}` is for an end that listens for any number of peers"
        ))
        .with_remedy("call sinew::listen, run `sinew recv`, or leave it out"))
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
