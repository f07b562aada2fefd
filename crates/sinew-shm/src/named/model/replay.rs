//! States of the model in real memory.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use sinew_core::TryRecvError;
use sinew_memory::Region;
use sinew_ring::ControlBlock;

use super::super::block::{
    self, Block, SLOT_ENDED, SLOT_HOLDER, SLOT_OPENED, SLOT_TALLY, SLOT_TOLD,
};
use super::super::recovery::{self, Found};
use super::super::{FRAME_CRASH, FRAME_DATA, FRAME_END, Options, Receiver};
use super::{Frame, R, S, World};

/// The word of no process: none has the number zero.
const DEAD: u64 = 1;
const SLOTS: [usize; 2] = [128, 256];

/// What a receiver gives.
#[derive(Debug, PartialEq, Eq)]
enum Told {
    /// With its bytes.
    Message(u64),
    End,
    Crash,
}

pub(super) struct Replay {
    region: Region,
    fresh: Vec<u8>,
    done: HashSet<u64>,
}

impl Replay {
    pub(super) fn new() -> Self {
        let len = block::size(block::CAPACITY_MIN);
        let region = Region::anonymous(len).unwrap();
        let ends = Options::new().blocking_open_receiver(region.clone());
        std::mem::forget(ends.unwrap());
        let mut fresh = vec![0; len];
        region.read(0, &mut fresh).unwrap();
        // As it is before anybody has taken an end.
        fresh[SLOTS[R]..][..64].fill(0);
        Self {
            region,
            fresh,
            done: HashSet::new(),
        }
    }

    pub(super) fn count(&self) -> usize {
        self.done.len()
    }

    /// Lets the shipped ends take over, in either order, unless that was done with this state
    /// before.
    pub(super) fn run(&mut self, world: &World) {
        let mut hasher = DefaultHasher::new();
        (world.published, world.flag, world.express, &world.ring).hash(&mut hasher);
        (world.released, world.holders, world.ended, world.told).hash(&mut hasher);
        (world.tally, &world.log, world.opened).hash(&mut hasher);
        if !self.done.insert(hasher.finish()) {
            return;
        }
        let died = world.is_dead(S);
        let mut expected: Vec<Told> = world.log.iter().map(|(frame, _)| told(*frame)).collect();

        self.lay(world);
        let mut receiver = self.receiver();
        assert_eq!(receiver.consumed(), world.messages[R]);
        if died && !recovery::was_closed(world.ended, world.opened, world.published) {
            expected.push(Told::Crash);
        }
        assert_eq!(drain(&mut receiver), expected, "{world:#?}");
        drop(receiver);

        self.lay(world);
        let sender = Options::new().blocking_open_sender(self.region.clone());
        let mut sender = sender.unwrap();
        assert_eq!(sender.published(), world.messages[S]);
        expected.truncate(world.log.len());
        let found = Found {
            published: world.published,
            released: world.released,
            opened: world.opened,
            ended: world.ended,
            told: world.told,
            died,
        };
        if found.must_tell() {
            expected.push(Told::Crash);
        }
        let mut receiver = self.receiver();
        assert_eq!(drain(&mut receiver), expected, "{world:#?}");
        assert!(sender.try_send(9_u64.to_ne_bytes()).is_ok());
        drop(sender);
        let last = [Told::Message(8), Told::End];
        assert_eq!(drain(&mut receiver), last, "{world:#?}");
        drop(receiver);

        // One that dies in silence.
        self.lay(world);
        let sender = Options::new().blocking_open_sender(self.region.clone());
        std::mem::forget(sender.unwrap());
        let holder = SLOTS[S] + 8 * SLOT_HOLDER;
        self.region.store(holder, &DEAD).unwrap();
        expected.push(Told::Crash);
        assert_eq!(drain(&mut self.receiver()), expected, "{world:#?}");
    }

    fn receiver(&self) -> Receiver {
        Options::new()
            .blocking_open_receiver(self.region.clone())
            .unwrap()
    }

    /// Writes the state into the memory.
    fn lay(&self, world: &World) {
        let store = |at: usize, word: u64| self.region.store(at, &word).unwrap();
        let frame = |at: usize, content: Frame| {
            let (len, kind, payload) = match content {
                Frame::Message(number) => (content.size() - 8, FRAME_DATA, u64::from(number)),
                Frame::End => (0, FRAME_END, 0),
                Frame::Crash => (0, FRAME_CRASH, 0),
            };
            store(at, len | u64::from(kind) << 32);
            if len > 0 {
                store(at + 8, payload);
            }
        };
        self.region.write(0, &self.fresh).unwrap();
        let flags = u64::from(world.flag) * ControlBlock::EXPRESS;
        store(Block::PRODUCER, world.published | flags);
        frame(Block::PRODUCER + 8, world.express);
        store(Block::CONSUMER, world.released);
        // What was never written there must not be read.
        let ring = self.region.len() - Block::DATA;
        self.region.write(Block::DATA, &vec![0xee; ring]).unwrap();
        for (at, content) in &world.ring {
            frame(Block::DATA + usize::try_from(*at).unwrap(), *content);
        }
        for end in [S, R] {
            let word = |word| SLOTS[end] + 8 * word;
            let is_dead = world.is_dead(end);
            store(word(SLOT_HOLDER), u64::from(is_dead) * DEAD);
            for (pair, (cursor, count)) in world.tally[end].into_iter().enumerate() {
                store(word(SLOT_TALLY + 2 * pair), cursor);
                store(word(SLOT_TALLY + 2 * pair + 1), count);
            }
        }
        store(SLOTS[S] + 8 * SLOT_ENDED, world.ended);
        store(SLOTS[S] + 8 * SLOT_TOLD, world.told);
        store(SLOTS[S] + 8 * SLOT_OPENED, world.opened);
    }
}

fn told(frame: Frame) -> Told {
    match frame {
        Frame::Message(_) => Told::Message(frame.size() - 8),
        Frame::End => Told::End,
        Frame::Crash => Told::Crash,
    }
}

/// All that is there for a receiver.
fn drain(receiver: &mut Receiver) -> Vec<Told> {
    let mut all = Vec::new();
    loop {
        all.push(match receiver.try_recv() {
            Ok(bytes) => Told::Message(bytes.len() as u64),
            Err(TryRecvError::Empty) => return all,
            Err(TryRecvError::Closed) => Told::End,
            Err(TryRecvError::Failed(error)) => {
                assert!(error.is_peer_crashed(), "{error}");
                Told::Crash
            }
            Err(error) => panic!("{error}"),
        });
    }
}
