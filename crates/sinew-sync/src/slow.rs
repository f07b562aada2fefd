use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// The part of an operation that waits, which is begun only where it does not succeed at once.
///
/// It is in memory of its own: the future of what succeeds stays a few words, which a caller can inline.
pub(crate) struct Slow<'a, T>(Option<Pin<Box<dyn Future<Output = T> + Send + 'a>>>);

impl<'a, T> Slow<'a, T> {
    pub(crate) const fn new() -> Self {
        Self(None)
    }

    #[inline]
    pub(crate) fn is_begun(&self) -> bool {
        self.0.is_some()
    }

    #[cold]
    pub(crate) fn poll<F>(&mut self, cx: &mut Context<'_>, begin: impl FnOnce() -> F) -> Poll<T>
    where
        F: Future<Output = T> + Send + 'a,
    {
        let future = self.0.get_or_insert_with(|| Box::pin(begin()));
        future.as_mut().poll(cx)
    }
}
