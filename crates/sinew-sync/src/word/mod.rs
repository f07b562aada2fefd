//! Words of shared memory as streams and sinks.

mod options;
mod sink;
mod stream;
mod value;

pub use self::options::WordOptions;
pub use self::sink::WordSink;
pub use self::stream::WordStream;
pub use self::value::WordValue;
