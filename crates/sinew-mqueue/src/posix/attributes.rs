/// What the kernel knows of a queue: mq_getattr(3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Attributes {
    /// Messages that the queue holds, `mq_maxmsg`.
    pub max_messages: usize,
    /// Bytes of the longest message, `mq_msgsize`.
    pub message_size: usize,
    /// Messages that are in it now, `mq_curmsgs`.
    pub messages: usize,
}
