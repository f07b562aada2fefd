use std::pin::Pin;

use futures_core::Stream;

use crate::{Error, Message, Messages};

/// A boxed stream of [`Message`]s, as it is opened from an address.
pub type BoxStream = Pin<Box<dyn Stream<Item = Result<Message, Error>> + Send>>;

/// A receiver: a stream of a mechanism's own messages, which can be read as [`Message`]s.
///
/// This is implemented for every stream of `Result<M, Error>` where `M` becomes a `Message`, so there
/// is nothing to implement.
///
/// # Examples
///
/// ```
/// use futures::{StreamExt, stream};
/// use sinew_core::{Error, Message, MessageStream};
///
/// /// A queue's own message.
/// struct Job {
///     name: String,
///     priority: u32,
/// }
///
/// impl From<Job> for Message {
///     fn from(job: Job) -> Self {
///         Message::from(job.name).with_priority(job.priority)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let jobs = stream::iter([Ok::<_, Error>(Job { name: "sweep".into(), priority: 2 })]);
/// let mut messages = jobs.into_messages();
/// if let Some(message) = messages.next().await.transpose()? {
///     assert_eq!(message.priority(), Some(2));
/// }
/// # Ok(())
/// # }
/// ```
pub trait MessageStream: Stream<Item = Result<Self::Native, Error>> {
    /// The mechanism's own message type.
    type Native: Into<Message>;

    /// Reads this stream as [`Message`]s.
    ///
    /// The result is a `Stream` where this stream is `Unpin`; pin it with [`Box::pin`] first where it is
    /// not.
    fn into_messages(self) -> Messages<Self>
    where
        Self: Sized,
    {
        Messages::new(self)
    }

    /// Reads this stream as [`Message`]s, boxed.
    fn into_box_stream(self) -> BoxStream
    where
        Self: Sized + Send + 'static,
    {
        Box::pin(Messages::new(Box::pin(self)))
    }
}

impl<S, M> MessageStream for S
where
    S: Stream<Item = Result<M, Error>> + ?Sized,
    M: Into<Message>,
{
    type Native = M;
}
