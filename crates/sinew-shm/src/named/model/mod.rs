//! Every interleaving of senders and receivers that come, go and die between any two steps, up to a
//! number of lives and messages.
//!
//! A step is one access to shared memory, in the order in which `sender.rs`, `receiver.rs`,
//! `claim.rs` and the ring make them; what follows from what a step finds is decided by
//! `recovery.rs`, which both use. Memory is sequentially consistent here: what weaker orders allow
//! is the matter of the ring's own models. The states in which both ends are dead are also written
//! to real memory, for the shipped ends to take over: see `replay.rs`.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::recovery;

mod duplex;
mod receiver;
mod replay;
mod sender;

use receiver::{Receiver, Receiving};
use replay::Replay;
use sender::{Sender, Sending};

/// Bytes of the ring: one long message or two short ones, and what no message takes.
const CAPACITY: u64 = 16 + super::SPARE as u64;
const S: usize = 0;
const R: usize = 1;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Frame {
    Message(u8),
    End,
    Crash,
}

impl Frame {
    pub(super) fn size(self) -> u64 {
        match self {
            // As short as an end, or longer.
            Self::Message(number) if number % 2 == 1 => 16,
            Self::Message(_) | Self::End | Self::Crash => 8,
        }
    }

    fn messages(self) -> u64 {
        u64::from(matches!(self, Self::Message(_)))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Holder {
    Nobody,
    Live,
    /// With the number of its life, as a process is told apart from a later one.
    Dead(usize),
}

/// What has become of a sender's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Life {
    sent: bool,
    closed: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct World {
    pub(super) published: u64,
    pub(super) flag: bool,
    pub(super) express: Frame,
    /// Frames in the ring, those that are staged included.
    pub(super) ring: BTreeMap<u64, Frame>,
    pub(super) released: u64,
    pub(super) holders: [Holder; 2],
    pub(super) opened: u64,
    pub(super) ended: u64,
    pub(super) told: u64,
    pub(super) tally: [[(u64, u64); 2]; 2],
    /// Up to where a sender that sleeps wants to write.
    sender_armed: Option<u64>,
    receiver_armed: bool,
    /// Whether an end was rung since it looked at its bell.
    rung: [bool; 2],
    sender: Option<Sender>,
    receiver: Option<Receiver>,
    /// What is published and not released, and by which life.
    pub(super) log: VecDeque<(Frame, usize)>,
    pub(super) messages: [u64; 2],
    lives: Vec<Life>,
    /// Lives that ended without a close, less the deaths that were told.
    untold: usize,
    /// A sender has died that had been opened, and nothing was told since.
    owed: bool,
    /// Anybody has died, so that a ring may be missing.
    death: bool,
    /// Whose message was received last, and what was told since.
    heard: Option<usize>,
    since: (bool, bool),
    last: Option<Frame>,
    left: Limits,
}

/// How much may still happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Limits {
    senders: usize,
    receivers: usize,
    messages: u8,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Send { express: bool },
    Close,
    Sender,
    KillSender,
    OpenSender,
    Receiver,
    LeaveReceiver,
    KillReceiver,
    OpenReceiver,
}

impl World {
    fn new(left: Limits) -> Self {
        Self {
            published: 0,
            flag: false,
            express: Frame::Message(0),
            ring: BTreeMap::new(),
            released: 0,
            holders: [Holder::Nobody; 2],
            opened: 0,
            ended: 0,
            told: 0,
            tally: [[(0, 0); 2]; 2],
            sender_armed: None,
            receiver_armed: false,
            rung: [false; 2],
            sender: None,
            receiver: None,
            log: VecDeque::new(),
            messages: [0; 2],
            lives: Vec::new(),
            untold: 0,
            owed: false,
            death: false,
            heard: None,
            since: (false, false),
            last: None,
            left,
        }
    }

    pub(super) fn is_dead(&self, end: usize) -> bool {
        matches!(self.holders[end], Holder::Dead(_))
    }

    fn sender_wakes(&self) -> bool {
        let gone = self.sender.as_ref().is_some_and(|sender| sender.gone);
        let seen = self.sender.as_ref().map_or(0, |sender| sender.released);
        let died = self.is_dead(R) && !gone;
        self.rung[S] || recovery::must_look(self.released, seen, died)
    }

    fn receiver_wakes(&self) -> bool {
        let head = self.receiver.as_ref().map_or(0, |receiver| receiver.head);
        let died = self.is_dead(S);
        self.rung[R] || recovery::must_look(self.published, head, died)
    }

    /// What may happen next.
    ///
    /// A step of one end that the other cannot see yet happens before or after a step of the other
    /// to the same effect, so that one of the two orders is enough.
    fn steps(&self) -> Vec<Step> {
        if self.sender.as_ref().is_some_and(|end| end.at.is_private()) {
            return vec![Step::Sender, Step::KillSender];
        }
        if self
            .receiver
            .as_ref()
            .is_some_and(|end| end.at.is_private())
        {
            return vec![Step::Receiver, Step::KillReceiver];
        }
        let mut steps = Vec::new();
        match &self.sender {
            None if self.left.senders > 0 => steps.push(Step::OpenSender),
            None => {}
            Some(sender) => {
                steps.push(Step::KillSender);
                match sender.at {
                    Sending::Idle => {
                        steps.push(Step::Close);
                        if self.left.messages > 0 {
                            steps.push(Step::Send { express: true });
                            steps.push(Step::Send { express: false });
                        }
                    }
                    Sending::Sleep if !self.sender_wakes() => {}
                    _ => steps.push(Step::Sender),
                }
            }
        }
        match &self.receiver {
            None if self.left.receivers > 0 => steps.push(Step::OpenReceiver),
            None => {}
            Some(receiver) => {
                steps.push(Step::KillReceiver);
                if receiver.at == Receiving::Next {
                    steps.push(Step::LeaveReceiver);
                }
                if receiver.at != Receiving::Sleep || self.receiver_wakes() {
                    steps.push(Step::Receiver);
                }
            }
        }
        steps
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Send { express } => {
                self.left.messages -= 1;
                if let Some(sender) = &mut self.sender {
                    sender.frame = Frame::Message(self.left.messages);
                    sender.express = express;
                    sender.at = Sending::Try;
                }
            }
            Step::Close => {
                if let Some(sender) = &mut self.sender {
                    sender.at = Sending::CloseLook;
                }
            }
            Step::Sender => {
                if let Some(mut sender) = self.sender.take() {
                    self.send(&mut sender);
                    self.sender = (sender.at != Sending::Gone).then_some(sender);
                }
            }
            Step::KillSender => {
                if let Some(sender) = self.sender.take()
                    && self.holders[S] == Holder::Live
                {
                    self.holders[S] = Holder::Dead(sender.life);
                    // Armed, it would be rung for nothing: to the same effect.
                    self.sender_armed = None;
                    let closed = self.lives[sender.life].closed;
                    self.untold += usize::from(!closed);
                    self.owed |= !closed && sender.is_open;
                }
                self.death = true;
            }
            Step::OpenSender => {
                self.left.senders -= 1;
                let died = self.is_dead(S);
                self.holders[S] = Holder::Live;
                self.lives.push(Life {
                    sent: false,
                    closed: false,
                });
                self.sender = Some(Sender::new(self.lives.len() - 1, died));
            }
            Step::Receiver => {
                if let Some(mut receiver) = self.receiver.take() {
                    self.receive(&mut receiver);
                    self.receiver = (receiver.at != Receiving::Gone).then_some(receiver);
                }
            }
            Step::LeaveReceiver => {
                self.holders[R] = Holder::Nobody;
                if let Some(receiver) = &mut self.receiver {
                    receiver.at = Receiving::RingLast;
                }
            }
            Step::KillReceiver => {
                self.receiver = None;
                self.receiver_armed = false;
                if self.holders[R] == Holder::Live {
                    self.holders[R] = Holder::Dead(0);
                }
                self.death = true;
            }
            Step::OpenReceiver => {
                self.left.receivers -= 1;
                self.holders[R] = Holder::Live;
                self.receiver = Some(Receiver::new());
            }
        }
    }
}

impl World {
    /// Whether a message that ends at `end` fits, with what no message takes.
    fn has_room(&self, end: u64) -> bool {
        end.saturating_sub(self.released) + super::SPARE as u64 <= CAPACITY
    }

    /// The receiver has moved past `frame`, which is from `life`.
    fn consumed(&mut self, frame: Frame, life: usize) {
        match frame {
            Frame::Message(_) => {
                if let Some(before) = self.heard.filter(|before| *before != life) {
                    let (ended, crashed) = self.since;
                    let told = if self.lives[before].closed {
                        ended
                    } else {
                        crashed
                    };
                    assert!(told, "nothing was told of what became of a sender");
                }
                self.messages[R] += 1;
                self.heard = Some(life);
                self.since = (false, false);
            }
            Frame::End => {
                self.since.0 = true;
                self.owed = false;
            }
            Frame::Crash => self.crash_told(),
        }
        self.last = Some(frame);
    }

    fn crash_told(&mut self) {
        self.since.1 = true;
        self.owed = false;
        self.last = Some(Frame::Crash);
        let untold = self.untold.checked_sub(1);
        self.untold = untold.expect("a death is told that was none, or was told before");
    }

    fn check(&self) {
        let receiver = self.receiver.as_ref();
        let receiver_sleeps = receiver.is_some_and(|end| end.at == Receiving::Sleep);
        let sender = self.sender.as_ref();
        let sender_sleeps = sender.is_some_and(|end| end.at == Sending::Sleep);
        // Nobody relies on looking up, but for the dead.
        if !self.death {
            let sender_rings = sender.is_some_and(|end| end.will_ring());
            let receiver_rings = receiver.is_some_and(|end| end.will_ring());
            assert!(
                !receiver_sleeps || self.rung[R] || self.log.is_empty() || sender_rings,
                "the receiver is not rung"
            );
            let room = self.sender_armed.is_some_and(|end| self.has_room(end));
            assert!(
                !sender_sleeps || self.rung[S] || !room || receiver_rings,
                "the sender is not rung"
            );
        }
        let receiver_rests = receiver_sleeps && !self.receiver_wakes();
        let sender_rests = sender_sleeps && !self.sender_wakes();
        if receiver_rests {
            assert!(self.log.is_empty(), "it sleeps beside a frame");
            assert!(!sender_rests, "both sleep");
            let settled = sender.is_none_or(|end| end.is_open);
            assert!(!settled || !self.owed, "a death is not told");
        }
        // All have gone, and nothing is left: the last thing that happened was told last.
        if receiver_rests && self.sender.is_none() {
            assert_eq!(self.messages[S], self.messages[R]);
            if let Some(life) = self.lives.last() {
                let expected = match life.closed {
                    true => Frame::End,
                    false => Frame::Crash,
                };
                let merged = !life.sent && self.last == Some(Frame::End);
                assert!(
                    self.last == Some(expected) || merged,
                    "{:?} was told last",
                    self.last
                );
            }
        }
    }

    /// Rings an end. One that has not looked at its bell yet will look at it after this.
    fn ring(&mut self, end: usize) {
        self.rung[end] = match end {
            S => self.sender.as_ref().is_some_and(|end| end.at.watches()),
            _ => self.receiver.as_ref().is_some_and(|end| end.at.watches()),
        };
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.hash(&mut hasher);
        hasher.finish()
    }
}

/// Explores all that can happen, and hands each state in which nobody lives to `crashed`. Returns
/// how many states there are.
fn explore(limits: Limits, mut crashed: impl FnMut(&World)) -> usize {
    let mut seen = HashSet::new();
    let mut stack = vec![World::new(limits)];
    seen.insert(stack[0].fingerprint());
    while let Some(world) = stack.pop() {
        if world.sender.is_none() && world.receiver.is_none() {
            crashed(&world);
        }
        for step in world.steps() {
            let mut next = world.clone();
            let checked = std::panic::catch_unwind(move || {
                next.run(step);
                next.check();
                next
            });
            match checked {
                Ok(next) => {
                    if seen.insert(next.fingerprint()) {
                        stack.push(next);
                    }
                }
                Err(_) => panic!("{step:?}\nfrom {world:#?}"),
            }
        }
    }
    seen.len()
}

/// Explores, and lets the shipped ends take over wherever nobody lives.
fn check(senders: usize, receivers: usize, messages: u8, least: usize) {
    let limits = Limits {
        senders,
        receivers,
        messages,
    };
    let mut replay = Replay::new();
    let states = explore(limits, |world| replay.run(world));
    let crashes = replay.count();
    assert!(
        states > least && crashes > 100,
        "{states} states, {crashes} crashes"
    );
}

#[test]
fn four_senders() {
    check(4, 1, 1, 100_000);
}

#[test]
fn two_receivers() {
    check(2, 2, 2, 100_000);
}

#[test]
fn a_full_ring() {
    check(2, 1, 3, 100_000);
}

/// What no message takes is enough for all that has to be told.
#[test]
fn nobody_receives() {
    check(5, 0, 2, 1000);
}
