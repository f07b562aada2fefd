//! The steps of a sender, as in `named/sender.rs` and the ring's producer.

use super::super::recovery::{self, Found};
use super::{Frame, Holder, R, S, World};

/// What a sender does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Sending {
    RingFirst,
    Resume,
    CopyExpress,
    ClearFlag,
    Tally,
    ClearEnded,
    ClearTold,
    StoreOpened,
    Idle,
    Try,
    LoadBell,
    Fate,
    Arm,
    LookAgain,
    Sleep,
    Write,
    Mark,
    PrepareCursor,
    PrepareCount,
    HideExpress,
    WriteExpress,
    Publish,
    LookAtReceiver,
    Ring,
    Copy,
    CloseLook,
    GiveBack,
    RingLast,
    Gone,
}

impl Sending {
    /// Whether only a successor sees what this step does.
    pub(super) fn is_private(self) -> bool {
        matches!(self, Self::Write | Self::PrepareCursor | Self::PrepareCount)
    }

    /// Whether it has looked at its bell, and sees if that is rung.
    pub(super) fn watches(self) -> bool {
        matches!(self, Self::Fate | Self::Arm | Self::LookAgain | Self::Sleep)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Sender {
    pub(super) at: Sending,
    pub(super) life: usize,
    /// Where the next frame begins.
    pub(super) end: u64,
    pub(super) released: u64,
    current: usize,
    count: u64,
    predecessor_died: bool,
    tell: bool,
    pub(super) frame: Frame,
    pub(super) express: bool,
    /// The receiver's death is known.
    pub(super) gone: bool,
    /// It has been opened, so that somebody may rely on it.
    pub(super) is_open: bool,
}

impl Sender {
    pub(super) fn new(life: usize, predecessor_died: bool) -> Self {
        Self {
            at: Sending::RingFirst,
            life,
            end: 0,
            released: 0,
            current: 0,
            count: 0,
            predecessor_died,
            tell: false,
            frame: Frame::End,
            express: false,
            gone: false,
            is_open: false,
        }
    }

    /// Whether it has published something, and has not come to ring for it.
    pub(super) fn will_ring(&self) -> bool {
        matches!(self.at, Sending::LookAtReceiver | Sending::Ring)
    }

    fn next_end(&self) -> u64 {
        self.end + self.frame.size()
    }

    /// Begins to write the frame, for which there is room.
    fn begin(&mut self) {
        self.at = match self.express {
            true => Sending::PrepareCursor,
            false => Sending::Write,
        };
    }

    /// After the publication of a frame, and the ring for it.
    fn after_ring(&mut self) {
        self.at = match self.frame {
            _ if self.express => Sending::Copy,
            Frame::End => Sending::GiveBack,
            Frame::Message(_) | Frame::Crash => Sending::Idle,
        };
    }
}

impl World {
    pub(super) fn send(&mut self, sender: &mut Sender) {
        match sender.at {
            Sending::RingFirst => {
                self.ring(R);
                sender.at = Sending::Resume;
            }
            Sending::Resume => {
                assert!(self.released <= self.published);
                sender.end = self.published;
                sender.at = match self.flag {
                    true => Sending::CopyExpress,
                    false => Sending::Tally,
                };
            }
            Sending::CopyExpress => {
                self.ring
                    .insert(sender.end - self.express.size(), self.express);
                sender.at = Sending::ClearFlag;
            }
            Sending::ClearFlag => {
                self.flag = false;
                self.express = Frame::End;
                sender.at = Sending::Tally;
            }
            Sending::Tally => {
                let counted = recovery::count_at(self.tally[S], sender.end);
                (sender.current, sender.count) = counted.unwrap();
                assert_eq!(sender.count, self.messages[S], "published");
                let found = Found {
                    published: sender.end,
                    released: self.released,
                    opened: self.opened,
                    ended: self.ended,
                    told: self.told,
                    died: sender.predecessor_died,
                };
                sender.tell = found.must_tell();
                sender.at = Sending::ClearEnded;
            }
            Sending::ClearEnded => {
                if recovery::is_stale(self.ended, sender.end) {
                    self.ended = 0;
                }
                sender.at = Sending::ClearTold;
            }
            Sending::ClearTold => {
                if recovery::is_stale(self.told, sender.end) {
                    self.told = 0;
                }
                sender.at = Sending::StoreOpened;
            }
            Sending::StoreOpened => {
                self.opened = sender.end;
                sender.gone = self.is_dead(R);
                sender.at = Sending::Idle;
                if std::mem::take(&mut sender.tell) {
                    sender.frame = Frame::Crash;
                    sender.at = Sending::Write;
                }
            }
            Sending::Idle => unreachable!("there is a choice"),
            Sending::Try => match self.has_room(sender.next_end()) {
                true => sender.begin(),
                false => sender.at = Sending::LoadBell,
            },
            Sending::LoadBell => {
                self.rung[S] = false;
                sender.at = Sending::Fate;
            }
            Sending::Fate => {
                sender.gone = self.is_dead(R);
                sender.at = Sending::Arm;
            }
            Sending::Arm => {
                self.sender_armed = Some(sender.next_end());
                sender.at = Sending::LookAgain;
            }
            Sending::LookAgain => {
                sender.released = self.released;
                sender.at = Sending::Sleep;
                if self.has_room(sender.next_end()) {
                    self.wake(sender);
                }
            }
            Sending::Sleep => self.wake(sender),
            Sending::Write => {
                let spares = sender.next_end() - self.released;
                assert!(spares <= super::CAPACITY, "no room for {:?}", sender.frame);
                self.ring.insert(sender.end, sender.frame);
                sender.at = match sender.frame {
                    Frame::Message(_) => Sending::PrepareCursor,
                    Frame::End | Frame::Crash => Sending::Mark,
                };
            }
            Sending::Mark => {
                let mark = match sender.frame {
                    Frame::Crash => &mut self.told,
                    _ => &mut self.ended,
                };
                *mark = sender.next_end();
                sender.at = Sending::PrepareCursor;
            }
            Sending::PrepareCursor => {
                self.tally[S][1 - sender.current].0 = sender.next_end();
                sender.at = Sending::PrepareCount;
            }
            Sending::PrepareCount => {
                let count = sender.count + sender.frame.messages();
                self.tally[S][1 - sender.current].1 = count;
                sender.at = match sender.express {
                    true => Sending::HideExpress,
                    false => Sending::Publish,
                };
            }
            Sending::HideExpress => {
                self.flag = false;
                self.express = Frame::End;
                sender.at = Sending::WriteExpress;
            }
            Sending::WriteExpress => {
                self.express = sender.frame;
                sender.at = Sending::Publish;
            }
            Sending::Publish => {
                self.published = sender.next_end();
                self.flag = sender.express;
                if !sender.express {
                    self.express = Frame::End;
                }
                self.log.push_back((sender.frame, sender.life));
                self.messages[S] += sender.frame.messages();
                self.lives[sender.life].sent |= sender.frame.messages() > 0;
                self.lives[sender.life].closed |= sender.frame == Frame::End;
                sender.count += sender.frame.messages();
                sender.current = 1 - sender.current;
                if !sender.express {
                    sender.end = self.published;
                }
                sender.at = Sending::LookAtReceiver;
            }
            Sending::LookAtReceiver => match self.receiver_armed {
                true => sender.at = Sending::Ring,
                false => sender.after_ring(),
            },
            Sending::Ring => {
                self.ring(R);
                sender.after_ring();
            }
            Sending::Copy => {
                self.ring.insert(sender.end, sender.frame);
                sender.end = sender.next_end();
                sender.express = false;
                sender.at = Sending::Idle;
            }
            Sending::CloseLook => {
                sender.at = Sending::Write;
                sender.frame = Frame::End;
                if recovery::end_stands(self.ended, sender.end, self.released) {
                    sender.at = Sending::GiveBack;
                }
            }
            Sending::GiveBack => {
                self.lives[sender.life].closed = true;
                self.holders[S] = Holder::Nobody;
                sender.at = Sending::RingLast;
            }
            Sending::RingLast => {
                self.ring(R);
                sender.at = Sending::Gone;
            }
            Sending::Gone => unreachable!("it is dropped"),
        }
        if sender.at == Sending::Idle {
            sender.frame = Frame::End;
            sender.is_open = true;
        }
    }

    fn wake(&mut self, sender: &mut Sender) {
        self.sender_armed = None;
        self.rung[S] = false;
        sender.released = 0;
        sender.at = Sending::Try;
    }
}
