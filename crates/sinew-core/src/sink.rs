use std::ops::DerefMut;
use std::pin::Pin;

use futures_sink::Sink;

use crate::{Error, Message, Messages};

/// A boxed sink of [`Message`]s, as it is opened from an address.
pub type BoxSink = Pin<Box<dyn Sink<Message, Error = Error> + Send>>;

/// A sender: a sink of a mechanism's own messages, into which [`Message`]s can be written.
///
/// Unlike [`MessageStream`](crate::MessageStream) it has to be implemented, in one line, because a type
/// can be a sink of many types.
///
/// The conversion must fail rather than drop what the mechanism cannot carry;
/// [`Message::require_support`] makes the error.
///
/// # Examples
///
/// ```
/// use std::pin::Pin;
/// use std::task::{Context, Poll};
///
/// use futures::{Sink, SinkExt};
/// use sinew_core::{Attributes, Error, Message, MessageSink};
///
/// /// A queue's own message.
/// struct Job(Message);
///
/// impl TryFrom<Message> for Job {
///     type Error = Error;
///
///     fn try_from(message: Message) -> Result<Self, Error> {
///         message.require_support("send", Attributes::PRIORITY)?;
///         Ok(Job(message))
///     }
/// }
///
/// struct Sender(Vec<Job>);
///
/// impl Sink<Job> for Sender {
///     type Error = Error;
///     // ...
/// #   fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
/// #       Poll::Ready(Ok(()))
/// #   }
/// #   fn start_send(mut self: Pin<&mut Self>, job: Job) -> Result<(), Error> {
/// #       self.0.push(job);
/// #       Ok(())
/// #   }
/// #   fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
/// #       Poll::Ready(Ok(()))
/// #   }
/// #   fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
/// #       Poll::Ready(Ok(()))
/// #   }
/// }
///
/// impl MessageSink for Sender {
///     type Native = Job;
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let mut sink = Sender(Vec::new()).into_messages();
/// sink.send(Message::from("sweep").with_priority(2)).await?;
///
/// let error = sink.send(Message::from("sweep").with_kind(7)).await.unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "send: the message's kind cannot cross; remove it, or use a mechanism that carries it",
/// );
/// # Ok(())
/// # }
/// ```
pub trait MessageSink: Sink<Self::Native, Error = Error> {
    /// The mechanism's own message type.
    type Native: TryFrom<Message, Error: Into<Error>>;

    /// Writes [`Message`]s into this sink.
    ///
    /// A message that cannot be converted is an error of `start_send`, and leaves the sink as it was.
    /// The result is a `Sink` where this sink is `Unpin`; pin it with [`Box::pin`] first where it is not.
    fn into_messages(self) -> Messages<Self>
    where
        Self: Sized,
    {
        Messages::new(self)
    }

    /// Writes [`Message`]s into this sink, boxed.
    fn into_box_sink(self) -> BoxSink
    where
        Self: Sized + Send + 'static,
    {
        Box::pin(Messages::new(Box::pin(self)))
    }
}

impl<S: MessageSink + Unpin + ?Sized> MessageSink for &mut S {
    type Native = S::Native;
}

impl<S: MessageSink + Unpin + ?Sized> MessageSink for Box<S> {
    type Native = S::Native;
}

impl<P> MessageSink for Pin<P>
where
    P: DerefMut + Unpin,
    P::Target: MessageSink,
{
    type Native = <P::Target as MessageSink>::Native;
}

impl MessageSink for dyn Sink<Message, Error = Error> + Send {
    type Native = Message;
}
