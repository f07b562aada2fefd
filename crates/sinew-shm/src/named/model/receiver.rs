//! The steps of a receiver, as in `named/receiver.rs` and the ring's consumer.

use super::super::recovery;
use super::{Frame, Holder, R, S, World};

/// What a receiver does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Receiving {
    RingFirst,
    Resume,
    Next,
    ReadExpress,
    Validate,
    ReadRing,
    PrepareCursor,
    PrepareCount,
    Release,
    LookAtSender,
    Ring,
    Fate,
    NextBeforeBurial,
    LoadEnded,
    Bury,
    LoadBell,
    Arm,
    LookAgain,
    Sleep,
    RingLast,
    Gone,
}

impl Receiving {
    /// Whether only a successor sees what this step does.
    pub(super) fn is_private(self) -> bool {
        matches!(
            self,
            Self::Resume | Self::PrepareCursor | Self::PrepareCount
        )
    }

    /// Whether it has looked at its bell, and sees if that is rung.
    pub(super) fn watches(self) -> bool {
        matches!(self, Self::Arm | Self::LookAgain | Self::Sleep)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Receiver {
    pub(super) at: Receiving,
    pub(super) head: u64,
    seen: u64,
    frame: Frame,
    current: usize,
    count: u64,
    /// The sender that is dead had been closed.
    closed: bool,
    /// The sender that was found dead.
    dead: Holder,
}

impl Receiver {
    pub(super) fn new() -> Self {
        Self {
            at: Receiving::RingFirst,
            head: 0,
            seen: 0,
            frame: Frame::End,
            current: 0,
            count: 0,
            closed: false,
            dead: Holder::Nobody,
        }
    }

    /// Whether it has released something, and has not come to ring for it.
    pub(super) fn will_ring(&self) -> bool {
        matches!(
            self.at,
            Receiving::LookAtSender | Receiving::Ring | Receiving::RingLast
        )
    }

    fn next_head(&self) -> u64 {
        self.head + self.frame.size()
    }
}

impl World {
    pub(super) fn receive(&mut self, receiver: &mut Receiver) {
        match receiver.at {
            Receiving::RingFirst => {
                self.ring(S);
                receiver.at = Receiving::Resume;
            }
            Receiving::Resume => {
                receiver.head = self.released;
                let counted = recovery::count_at(self.tally[R], receiver.head);
                (receiver.current, receiver.count) = counted.unwrap();
                assert_eq!(receiver.count, self.messages[R], "consumed");
                receiver.at = Receiving::Next;
            }
            Receiving::Next => {
                receiver.at = self.look(receiver).unwrap_or(Receiving::Fate);
            }
            Receiving::ReadExpress => {
                receiver.frame = self.express;
                receiver.at = Receiving::Validate;
            }
            Receiving::Validate => {
                let same = self.flag && self.published == receiver.seen;
                receiver.at = match same {
                    true => Receiving::PrepareCursor,
                    false => Receiving::ReadRing,
                };
            }
            Receiving::ReadRing => {
                receiver.frame = self.ring[&receiver.head];
                receiver.at = Receiving::PrepareCursor;
            }
            Receiving::PrepareCursor => {
                let (frame, _) = self.log.front().unwrap();
                assert_eq!(receiver.frame, *frame, "another frame than was published");
                self.tally[R][1 - receiver.current].0 = receiver.next_head();
                receiver.at = Receiving::PrepareCount;
            }
            Receiving::PrepareCount => {
                let count = receiver.count + receiver.frame.messages();
                self.tally[R][1 - receiver.current].1 = count;
                receiver.at = Receiving::Release;
            }
            Receiving::Release => {
                let (frame, life) = self.log.pop_front().unwrap();
                self.released = receiver.next_head();
                self.ring = self.ring.split_off(&self.released);
                receiver.head = self.released;
                receiver.count += frame.messages();
                receiver.current = 1 - receiver.current;
                self.consumed(frame, life);
                (receiver.seen, receiver.frame) = (0, Frame::End);
                receiver.at = Receiving::LookAtSender;
            }
            Receiving::LookAtSender => {
                let waits = self
                    .sender_armed
                    .is_some_and(|wanted| self.has_room(wanted));
                receiver.at = match waits {
                    true => Receiving::Ring,
                    false => Receiving::Next,
                };
            }
            Receiving::Ring => {
                self.ring(S);
                receiver.at = Receiving::Next;
            }
            Receiving::Fate => {
                receiver.at = Receiving::LoadBell;
                if self.is_dead(S) {
                    receiver.dead = self.holders[S];
                    receiver.at = Receiving::NextBeforeBurial;
                }
            }
            Receiving::NextBeforeBurial => {
                receiver.at = self.look(receiver).unwrap_or(Receiving::LoadEnded);
                if receiver.at != Receiving::LoadEnded {
                    receiver.dead = Holder::Nobody;
                }
            }
            Receiving::LoadEnded => {
                receiver.closed = recovery::was_closed(self.ended, self.opened, receiver.head);
                receiver.at = Receiving::Bury;
            }
            Receiving::Bury => {
                receiver.at = Receiving::LoadBell;
                let dead = std::mem::replace(&mut receiver.dead, Holder::Nobody);
                let closed = std::mem::take(&mut receiver.closed);
                if self.holders[S] == dead {
                    self.holders[S] = Holder::Nobody;
                    if !closed {
                        self.crash_told();
                        receiver.at = Receiving::Next;
                    }
                }
            }
            Receiving::LoadBell => {
                self.rung[R] = false;
                receiver.at = Receiving::Arm;
            }
            Receiving::Arm => {
                self.receiver_armed = true;
                receiver.at = Receiving::LookAgain;
            }
            Receiving::LookAgain => {
                receiver.at = Receiving::Sleep;
                if self.published != receiver.head {
                    self.wake_receiver(receiver);
                }
            }
            Receiving::Sleep => self.wake_receiver(receiver),
            Receiving::RingLast => {
                self.ring(S);
                receiver.at = Receiving::Gone;
            }
            Receiving::Gone => unreachable!("it is dropped"),
        }
    }

    fn wake_receiver(&mut self, receiver: &mut Receiver) {
        self.receiver_armed = false;
        self.rung[R] = false;
        receiver.at = Receiving::Next;
    }

    /// Looks at the cursor; how to read the oldest frame, if there is one.
    fn look(&self, receiver: &mut Receiver) -> Option<Receiving> {
        if self.published == receiver.head {
            return None;
        }
        receiver.seen = self.published;
        let last = self.published == receiver.head + self.express.size();
        Some(match self.flag && last {
            true => Receiving::ReadExpress,
            false => Receiving::ReadRing,
        })
    }
}
