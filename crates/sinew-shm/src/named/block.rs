//! Where a ring lies in a region, and what says so.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use sinew_core::{Error, ErrorKind};
use sinew_memory::{Fate, Region, View};
use sinew_ring::ControlBlock;
use sinew_sync::Word;

const MAGIC: u64 = u64::from_le_bytes(*b"SINEWRNG");
/// While it is being laid.
const LAYING: u64 = u64::from_le_bytes(*b"SINEWNEW");
const VERSION: u64 = 3;
/// Features that this version knows, and may be required to have: a bit each.
const FEATURES: u64 = 0;

/// The words at the beginning.
const HEAD_MAGIC: usize = 0;
const HEAD_MAKER: usize = 1;
const HEAD_VERSION: usize = 2;
const HEAD_CAPACITY: usize = 3;
const HEAD_MAX_MESSAGE: usize = 4;
const HEAD_BLOCKS: usize = 5;
/// Features without which the channel must not be used.
const HEAD_REQUIRED: usize = 6;
/// Words of the header.
const HEAD: usize = 7;

/// The smallest and the largest ring, bytes.
pub(super) const CAPACITY_MIN: u64 = 4096;
pub(super) const CAPACITY_MAX: u64 = sinew_ring::MAX_CAPACITY;

/// One of the two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Sender,
    Receiver,
}

impl Role {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Sender => Self::Receiver,
            Self::Receiver => Self::Sender,
        }
    }
}

/// What an end keeps about itself, words.
pub(super) type Slot = View<[AtomicU64; 16]>;
/// The word of the process that has the end ([`Presence`](sinew_memory::Presence)), or zero.
pub(super) const SLOT_HOLDER: usize = 0;
/// How often the end was taken.
pub(super) const SLOT_EPOCH: usize = 1;
/// Of a sender: where the frame ends by which it was closed last.
pub(super) const SLOT_ENDED: usize = 2;
/// Of a sender: where the frame ends that told of a death last.
pub(super) const SLOT_TOLD: usize = 3;
/// Of a receiver: the last label that it has consumed.
pub(super) const SLOT_LABEL: usize = 2;
/// Four words: see `tally`.
pub(super) const SLOT_TALLY: usize = 4;
/// Of a sender: where its cursor was when it was opened.
pub(super) const SLOT_OPENED: usize = 8;
/// The pid of the process that took the end last, in its own namespace: for messages alone.
pub(super) const SLOT_PID: usize = 9;

/// A ring in a region, of one direction.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    region: Region,
    start: usize,
    capacity: u64,
    max_message: u64,
    by_name: bool,
}

/// What is asked of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    /// Lay it where there is none.
    pub(super) lay: bool,
    /// Bytes of the ring, at least.
    pub(super) capacity: Option<u64>,
    /// Bytes of the longest message, at least.
    pub(super) max_message: Option<u64>,
    /// Blocks in the region.
    pub(super) blocks: u64,
    /// The region was opened by its name, as others are expected to do.
    pub(super) by_name: bool,
}

/// What was found.
pub(super) enum Found {
    Ready(Block),
    /// Not yet, with what is to be said when the time is up.
    Later(Error),
}

impl Block {
    /// Offsets, bytes.
    pub(crate) const PRODUCER: usize = 512;
    pub(crate) const CONSUMER: usize = 768;
    pub(crate) const DATA: usize = 4096;
    const SLOTS: [usize; 2] = [128, 256];
    const BELLS: [usize; 2] = [384, 448];

    pub(crate) fn region(&self) -> &Region {
        &self.region
    }

    pub(crate) fn start(&self) -> usize {
        self.start
    }

    pub(crate) fn end(&self) -> usize {
        size(self.capacity).saturating_add(self.start)
    }

    pub(crate) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Whether nobody can come to a free end any more: the name by which the region was opened is
    /// gone, or means another one by now.
    pub(super) fn is_removed(&self) -> bool {
        self.by_name && self.region.is_removed()
    }

    pub(super) fn max_message(&self) -> u64 {
        self.max_message
    }

    pub(super) fn slot(&self, role: Role) -> Result<Slot, Error> {
        self.region.view(self.start + Self::SLOTS[role as usize])
    }

    /// What an end waits for.
    pub(super) fn bell(&self, role: Role) -> Result<Word, Error> {
        self.region
            .view::<AtomicU32>(self.start + Self::BELLS[role as usize])
    }

    /// How far an end has come, for a look without taking part.
    pub(super) fn cursor(&self, role: Role) -> Result<View<AtomicU64>, Error> {
        let block = match role {
            Role::Sender => Self::PRODUCER,
            Role::Receiver => Self::CONSUMER,
        };
        self.region
            .view(self.start + block + ControlBlock::CURSOR_OFFSET)
    }

    /// Finds the block at `start`, or lays it.
    pub(super) fn open(region: &Region, start: usize, wish: Wish) -> Result<Found, Error> {
        if !region.is_writable() {
            return Err(error(region, ErrorKind::InvalidInput)
                .with_reason("a channel needs memory that is attached for writing, at both ends")
                .with_remedy("attach it without read_only"));
        }
        if region.len() < start.saturating_add(size(CAPACITY_MIN)) {
            return Err(error(region, ErrorKind::Protocol)
                .with_reason(format!("{} bytes are too few for a channel", region.len()))
                .with_remedy(format!(
                    "make it of {} at least",
                    size(CAPACITY_MIN) + start
                )));
        }
        let presence = region.presence();
        let me = presence.enter()?;
        let head = region.view::<[AtomicU64; HEAD]>(start)?;
        loop {
            let magic = head[HEAD_MAGIC].load(Ordering::Acquire);
            let maker = head[HEAD_MAKER].load(Ordering::Acquire);
            region.check_intact()?;
            match magic {
                MAGIC => return Self::check(region, start, &head, wish).map(Found::Ready),
                0 if !is_blank(region, start)? => {
                    // Somebody may just have begun.
                    if head[HEAD_MAGIC].load(Ordering::Acquire) == 0 {
                        return Err(foreign(region));
                    }
                    continue;
                }
                0 | LAYING => {}
                _ => return Err(foreign(region)),
            }
            if maker != 0 {
                match presence.judge(maker) {
                    Fate::Ended => {}
                    Fate::Lives => {
                        return Ok(Found::Later(
                            error(region, ErrorKind::TimedOut).with_reason(
                                "a process is laying a channel there, and does not come to an end",
                            ),
                        ));
                    }
                    _ => {
                        let unknown = presence.unknown("open", maker);
                        return Err(unknown.with_address(region.name()));
                    }
                }
            }
            if !wish.lay {
                return Ok(Found::Later(
                    error(region, ErrorKind::TimedOut)
                        .with_reason("there is no channel yet")
                        .with_remedy("start the other side, or open it with `create`"),
                ));
            }
            // Nobody, or somebody who died over it.
            let taken =
                head[HEAD_MAKER].compare_exchange(maker, me, Ordering::AcqRel, Ordering::Acquire);
            // It may have been laid, and its maker gone, since the first look. From now on it is ours to lay.
            if taken.is_err() || head[HEAD_MAGIC].load(Ordering::Acquire) == MAGIC {
                continue;
            }
            Self::lay(region, start, &head, wish)?;
        }
    }

    fn lay(
        region: &Region,
        start: usize,
        head: &View<[AtomicU64; HEAD]>,
        wish: Wish,
    ) -> Result<(), Error> {
        let laid = Self::measure(region, start, wish).and_then(|(capacity, max_message)| {
            head[HEAD_MAGIC].store(LAYING, Ordering::Release);
            // What one that died over it may have left.
            let rest = start + 16;
            region.write(rest, &[0; Self::DATA - 16])?;
            head[HEAD_VERSION].store(VERSION, Ordering::Relaxed);
            head[HEAD_CAPACITY].store(capacity, Ordering::Relaxed);
            head[HEAD_MAX_MESSAGE].store(max_message, Ordering::Relaxed);
            head[HEAD_BLOCKS].store(wish.blocks, Ordering::Relaxed);
            head[HEAD_REQUIRED].store(FEATURES, Ordering::Relaxed);
            // Last, for those who wait for it.
            head[HEAD_MAGIC].store(MAGIC, Ordering::Release);
            region.check_intact()
        });
        if laid.is_err() {
            head[HEAD_MAGIC].store(0, Ordering::Release);
            head[HEAD_MAKER].store(0, Ordering::Release);
        }
        laid
    }

    /// Capacity and longest message of one that is laid.
    fn measure(region: &Region, start: usize, wish: Wish) -> Result<(u64, u64), Error> {
        let blocks = wish.blocks - u64::from(start > 0);
        let room = (region.len() - start) as u64 / blocks;
        let most = room.saturating_sub(Self::DATA as u64).min(CAPACITY_MAX);
        let capacity = match wish.capacity {
            Some(capacity) if capacity <= most => capacity,
            Some(capacity) => {
                return Err(error(region, ErrorKind::InvalidInput)
                    .with_reason(format!("there is no room for {capacity} bytes"))
                    .with_remedy("make the region larger, or ask for less"));
            }
            None => 1 << most.checked_ilog2().unwrap_or_default(),
        };
        let longest = longest(capacity);
        let max_message = wish.max_message.unwrap_or(longest);
        if capacity < CAPACITY_MIN || max_message > longest {
            return Err(error(region, ErrorKind::InvalidInput)
                .with_reason(format!(
                    "a ring of {capacity} bytes has messages of {longest} at most"
                ))
                .with_remedy("raise `size`"));
        }
        Ok((capacity, max_message))
    }

    fn check(
        region: &Region,
        start: usize,
        head: &View<[AtomicU64; HEAD]>,
        wish: Wish,
    ) -> Result<Self, Error> {
        let [version, capacity, max_message, blocks] =
            [HEAD_VERSION, HEAD_CAPACITY, HEAD_MAX_MESSAGE, HEAD_BLOCKS]
                .map(|word| head[word].load(Ordering::Relaxed));
        let wrong = |reason: String, remedy| {
            Err(error(region, ErrorKind::Protocol)
                .with_reason(reason)
                .with_remedy(remedy))
        };
        if version != VERSION {
            return wrong(
                format!("the channel there is of version {version}, and this is {VERSION}"),
                "use the same version of sinew at both ends, or remove it",
            );
        }
        let unknown = head[HEAD_REQUIRED].load(Ordering::Relaxed) & !FEATURES;
        if unknown != 0 {
            return wrong(
                format!(
                    "the channel there requires feature bit {}, which this version does not know",
                    unknown.trailing_zeros()
                ),
                "use the version of sinew that made it, or remove it",
            );
        }
        if !capacity.is_power_of_two()
            || !(CAPACITY_MIN..=CAPACITY_MAX).contains(&capacity)
            || max_message > longest(capacity)
        {
            return wrong(
                format!(
                    "what is there says of itself what cannot be: a ring of {capacity} bytes, messages of {max_message}"
                ),
                "remove it",
            );
        }
        let block = Self {
            region: region.clone(),
            start,
            capacity,
            max_message,
            by_name: wish.by_name,
        };
        if block.end() > region.len() {
            return wrong(
                format!(
                    "the channel there ends after {} bytes, and the region after {}",
                    block.end(),
                    region.len()
                ),
                "remove it: it was truncated",
            );
        }
        if blocks != wish.blocks {
            return wrong(
                match blocks {
                    1 => "the channel there has one direction".to_owned(),
                    _ => "the channel there has two directions".to_owned(),
                },
                "open it in the same way at both ends: to send at one and receive at the other, or both at both",
            );
        }
        let short = [
            ("ring of", wish.capacity, capacity),
            ("messages of at most", wish.max_message, max_message),
        ];
        for (what, wished, found) in short {
            if wished.is_some_and(|wished| wished > found) {
                return Err(error(region, ErrorKind::InvalidInput)
                    .with_reason(format!("the channel there has a {what} {found} bytes"))
                    .with_remedy("ask for less, or remove it first"));
            }
        }
        Ok(block)
    }
}

/// The longest message of a ring.
fn longest(capacity: u64) -> u64 {
    sinew_ring::max_payload(capacity) - super::SPARE as u64
}

/// Bytes of a block with a ring of `capacity`.
pub(super) fn size(capacity: u64) -> usize {
    usize::try_from(capacity).map_or(usize::MAX, |capacity| capacity.saturating_add(Block::DATA))
}

/// Whether nothing is there but, perhaps, the mark of who is about to lay it.
fn is_blank(region: &Region, start: usize) -> Result<bool, Error> {
    let mut control = [0; Block::DATA];
    region.read(start, &mut control)?;
    control[8 * HEAD_MAKER..][..8].fill(0);
    Ok(control.iter().all(|byte| *byte == 0))
}

fn foreign(region: &Region) -> Error {
    error(region, ErrorKind::Protocol)
        .with_reason("what is there is something else than a channel")
        .with_remedy("choose another name, or remove it")
}

fn error(region: &Region, kind: ErrorKind) -> Error {
    Error::new(kind, "open").with_address(region.name())
}
