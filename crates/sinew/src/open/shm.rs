//! `shm:` addresses.

use std::time::Duration;

use sinew_core::time;
use sinew_core::{Address, BoxSink, BoxStream, Error, ErrorKind, Messages};
use sinew_shm::{Channel, Endpoint, Options, Wait};
use tokio::time::Instant;

use super::parameters::{endpoint_mode, invalid, named};

/// For how long to wait for a listener where the address does not say.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two listeners.
const RETRY: Duration = Duration::from_millis(5);
/// The largest ring of a peer that is mapped, unless this end's own is larger.
const MAX_CAPACITY: u64 = 256 << 20;

/// Which part an end takes in finding the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Listen,
    Connect,
}

pub(super) async fn open(address: &Address) -> Result<(BoxSink, BoxStream), Error> {
    let (sender, receiver) = channel(address, Role::Connect).await?.split();
    Ok((
        Box::pin(Messages::new(sender)),
        Box::pin(Messages::new(receiver)),
    ))
}

pub(super) async fn open_sender(address: &Address) -> Result<BoxSink, Error> {
    let sender = channel(address, Role::Connect).await?.into_sender();
    Ok(Box::pin(Messages::new(sender)))
}

pub(super) async fn open_receiver(address: &Address) -> Result<BoxStream, Error> {
    let receiver = channel(address, Role::Listen).await?.into_receiver();
    Ok(Box::pin(Messages::new(receiver)))
}

async fn channel(address: &Address, default: Role) -> Result<Channel, Error> {
    let role = match (address.flag("listen"), address.flag("connect")) {
        (true, _) => Role::Listen,
        (_, true) => Role::Connect,
        _ => default,
    };
    let endpoint = endpoint(address)?;
    let options = options(address, role)?;
    let timeout = address.duration("timeout")?;
    match role {
        Role::Listen => listen(address, endpoint, options, timeout).await,
        Role::Connect => connect(endpoint, options, timeout.unwrap_or(PATIENCE)).await,
    }
    .map_err(|error| named(error, address))
}

/// Connects to the listener that is there, or to the next: one that takes somebody else closes.
async fn connect(
    endpoint: Endpoint,
    mut options: Options,
    patience: Duration,
) -> Result<Channel, Error> {
    if !patience.is_zero() {
        options = options.handshake_timeout(patience);
    }
    let begun = Instant::now();
    let mut left = patience;
    loop {
        let options = options.clone().wait_for_listener(left);
        let error = match options.connect(endpoint.clone()).await {
            Err(error) if error.is_closed() => error,
            done => return done,
        };
        left = patience.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Err(error);
        }
        time::sleep(RETRY)?.await;
    }
}

/// Takes one peer. Handshakes go one by one: of several at once, all but the first would be broken off
/// here, when their ends may already believe in them.
async fn listen(
    address: &Address,
    endpoint: Endpoint,
    options: Options,
    timeout: Option<Duration>,
) -> Result<Channel, Error> {
    let mut listener = options.max_handshakes(1).bind(endpoint).await?;
    let Some(timeout) = timeout else {
        return listener.accept().await;
    };
    match time::timeout(timeout, listener.accept()).await? {
        Some(accepted) => accepted,
        None => Err(Error::new(ErrorKind::TimedOut, "accept")
            .with_address(address)
            .with_reason(format!("nobody connected within {timeout:?}"))
            .with_remedy("start the process that connects, or raise the timeout")),
    }
}

pub(super) fn endpoint(address: &Address) -> Result<Endpoint, Error> {
    match address.endpoint() {
        Some(sinew_core::Endpoint::Path(path)) => Ok(Endpoint::Path(path.to_path_buf())),
        Some(sinew_core::Endpoint::Abstract(name)) => Ok(Endpoint::Abstract(name.to_vec())),
        _ => Err(invalid(
            address,
            "it names no socket",
            "write shm:/path or shm:@name",
        )),
    }
}

pub(super) fn options(address: &Address, role: Role) -> Result<Options, Error> {
    let mut options = Options::new();
    if let Some(capacity) = address.size("capacity")? {
        options = options
            .capacity(capacity)
            .max_capacity(capacity.max(MAX_CAPACITY));
    }
    if let Some(threshold) = address.size("threshold")? {
        // What no memory can hold is above any ring's limit, which is checked with the ring.
        options = options.threshold(usize::try_from(threshold).unwrap_or(usize::MAX));
    }
    if let Some(bytes) = address.size("max-message")? {
        options = options.max_message(bytes);
    }
    if let Some(mode) = endpoint_mode(address)? {
        if role == Role::Listen {
            options = options.mode(mode);
        } else if address.flag("connect") {
            return Err(invalid(
                address,
                "`mode` is for the end that listens, and this one connects",
                "leave out `mode` or `connect`",
            ));
        }
    }
    Ok(match address.get_str("wait") {
        Some("park") => options.wait(Wait::Park),
        Some("spin") => options.wait(Wait::Spin),
        _ => options.wait(Wait::Adaptive),
    })
}
