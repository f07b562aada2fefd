//! A lock-free ring of variable-size frames between one producer and one consumer, over raw memory
//! that may belong to another process.
//!
//! No allocation, no system call, no clock: this crate moves cursors and copies bytes. Whoever uses
//! it brings the memory ([`MirroredMemory`] over a mapping, or [`channel`] on the heap) and the
//! doorbell.
//!
//! # Frames
//!
//! A frame is an eight-byte [`Header`] and a payload, padded to eight bytes. The producer *stages*
//! frames, then *publishes* all of them with one store. Cursors count bytes since the ring began and
//! never wrap; each lies on a cache line of its own, written by one end only.
//!
//! # Express
//!
//! A short frame that is [sent](Producer::send) by itself is written beside the producer's cursor, then into
//! the ring. A consumer that waits gets it with the cursor's own cache lines; one that comes late finds it
//! in the ring. The words beside the cursor are a seqlock: the consumer copies them, and keeps the copy only if
//! the cursor has not changed meanwhile. The producer takes the cursor's flag back before it writes them again, which
//! it does only after the frame that they held is in the ring.
//!
//! # A peer that lies
//!
//! Each end loads a shared word once, checks it against what it knows, and goes on with its own copy.
//! A cursor or a length out of range is [`Corruption`]. Payloads are copied out through raw pointers,
//! so that no reference to memory that a peer can write is ever formed.
//!
//! # Ends that come back
//!
//! Memory that outlives its processes keeps the cursors, and [`Producer::resume`] and [`Consumer::resume`] go on where
//! an end of another process has left off, however that came to its end. A frame is published once the
//! producer's cursor has moved past it, and consumed once the consumer's has. A producer that died between publishing by
//! express and the copy into the ring has that copy made by its successor.
//!
//! # Waking
//!
//! An end that finds nothing to do *arms* its wait word, looks again, and only then parks. The other
//! moves its cursor, then looks at the wait word, and rings the doorbell if it is armed.
//!
//! No wake-up is lost. Let *W* be the store that arms, *L* the look at the cursor that follows it,
//! *C* the store that moves the cursor, *A* the look at the wait word that follows that. *W* and *L*
//! are separated by a sequentially consistent fence; *C* and *A* are sequentially consistent. Were
//! the wake-up lost, *L* would not see *C* and *A* would not see *W*. In the single total order *S*
//! of sequentially consistent operations, *A* not seeing *W* puts *A* before *W*, hence *C*, which
//! precedes *A*, before *W* and before the fence that follows it; but then *L*, which comes after
//! that fence, must see *C*.
//!
//! A consumer releases far more often than a producer parks. With [`Fence::Asymmetric`] it
//! therefore executes no fence, and the producer executes, between *W* and *L*, a barrier on every
//! processor that runs the consumer's process. That barrier falls before *A* or after it in the
//! consumer's instructions. If before, *A* sees *W*; if after, *C*, which precedes *A* in program
//! order, is visible before the barrier returns, and *L* sees it. The compiler keeps *C* before
//! *A*. The same idea is in [P1202](https://wg21.link/p1202) and membarrier(2).
//!
//! The wait word says how far the cursor must have come. The other end rings once for a word, when
//! its cursor has come so far: one park costs one ring, however many small frames make up the room
//! for a large one.
//!
//! Loom models of all this are part of the crate: `RUSTFLAGS="--cfg loom" cargo test -p sinew-ring
//! --release`.

#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(test)]
extern crate std;

mod consumer;
mod control;
mod corruption;
mod frame;
#[cfg(feature = "alloc")]
mod heap;
mod loom;
mod memory;
mod producer;
pub mod sync;

#[cfg(loom)]
#[cfg(test)]
mod model;
#[cfg(not(loom))]
#[cfg(test)]
mod tests;

pub use crate::consumer::Consumer;
pub use crate::control::{ControlBlock, Fence, State};
pub use crate::corruption::Corruption;
#[cfg(feature = "alloc")]
pub use crate::frame::FrameBuffer;
pub use crate::frame::{FRAME_ALIGN, Frame, Frames, HEADER_SIZE, Header, frame_size, max_payload};
#[cfg(feature = "alloc")]
pub use crate::heap::{HeapMemory, channel};
pub use crate::memory::{FlatMemory, MAX_CAPACITY, MIN_CAPACITY, Memory, MirroredMemory};
pub use crate::producer::{Producer, PushError};
