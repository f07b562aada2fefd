//! Opening by address: a file for each mechanism, and the choice between them.

#[cfg(feature = "shm")]
mod shm;
#[cfg(feature = "socket")]
mod socket;

use sinew_core::{Address, BoxSink, BoxStream, Error, ErrorKind, Scheme};

/// The schemes that can be opened, with the feature that each needs and whether this build has it.
const OPENABLE: &[(Scheme, &str, bool)] = &[
    (Scheme::Shm, "shm", cfg!(feature = "shm")),
    (Scheme::Unix, "socket", cfg!(feature = "socket")),
    (Scheme::UnixDgram, "socket", cfg!(feature = "socket")),
    (Scheme::UnixSeqpacket, "socket", cfg!(feature = "socket")),
    (Scheme::Tcp, "socket", cfg!(feature = "socket")),
    (Scheme::Udp, "socket", cfg!(feature = "socket")),
];

macro_rules! dispatch {
    ($open:ident($address:expr)) => {
        match $address.scheme() {
            #[cfg(feature = "shm")]
            Scheme::Shm => shm::$open($address).await,
            #[cfg(feature = "socket")]
            Scheme::Unix
            | Scheme::UnixDgram
            | Scheme::UnixSeqpacket
            | Scheme::Tcp
            | Scheme::Udp => socket::$open($address).await,
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
/// # `unix:`, `unix-seqpacket:`, `tcp:`
///
/// A connection between two processes. One listens, until one peer has connected, and gives the address
/// free again then; the other connects.
///
/// | parameter | default | |
/// |---|---|---|
/// | `listen`, `connect` | [`open_receiver`] listens, [`open_sender`] and [`open`] connect | which of the two this end does |
/// | `timeout` | 5 s to connect, for ever to listen | how long to wait for the other end |
/// | `framing` | `length` | not `unix-seqpacket:`; `lines` for socat, nc and others that know nothing of lengths |
/// | `max-message` | `16M`, `256K` for packets | the longest message that this end receives (and sends, where it is framed) |
/// | `mode` | what the umask leaves of 666 | not `tcp:`; permissions of the path: who may write, may connect |
/// | `credentials` | no | not `tcp:`; whether each message that is received says who sent it |
/// | `nodelay` | no | `tcp:`; send small messages at once |
/// | `keepalive` | no | `tcp:`; probe a silent peer after this long, and then three times, as far apart (75 s at most) |
/// | `linger` | no | `tcp:`; how long closing waits until the peer's host has everything; `0s` resets |
/// | `backlog` | 1024 | `tcp:`; how many connections can wait |
/// | `reuse-port` | no | `tcp:`; share the port with others that say so too |
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
/// What each scheme takes is said at [`open`]; this end connects unless the address says `listen`. Of a
/// `shm:` channel's other direction nothing is left: a peer that sends is told that it is closed. What
/// comes back on a socket is dropped.
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
/// What each scheme takes is said at [`open`]; this end listens unless the address says `connect`. Of a
/// `shm:` channel's other direction nothing is left: a peer that receives finds it closed. On a socket it
/// is closed with the stream.
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
