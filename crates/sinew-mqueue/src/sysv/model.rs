//! Every interleaving of a helper, its receivers and the kernel, up to a number of messages and of
//! cancellations: nothing is lost, duplicated or overtaken, and nobody sleeps who should be awake.
//!
//! The steps are those between which the real thing can be interrupted: each is either under the lock of
//! the watch or one system call.

use std::collections::{HashSet, VecDeque};
use std::task::Waker;

use super::demand::{Answer, Demand, Look};

/// Where a receiver is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    /// No future.
    Idle,
    /// Polled; found the helper at rest.
    Tries,
    /// Its try found nothing.
    Waits,
    /// Pending.
    Sleeps,
    /// To be polled again.
    Woken,
}

/// A message: its number, and whether it has no payload.
type Sent = (u8, bool);

#[derive(Debug, Clone)]
struct World {
    demand: Demand,
    queue: VecDeque<Sent>,
    /// In the kernel; with the answer that it will bring, once there is one.
    helper: Option<Option<Answer>>,
    interrupts: bool,
    receivers: Vec<At>,
    received: Vec<u8>,
    by: Vec<Vec<u8>>,
    sent: u8,
    /// Which messages have a payload, a bit each.
    payloads: u8,
    cancels: u8,
    put_back: bool,
    may_write: bool,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Send,
    HelperBegins,
    HelperEnds,
    Signal,
    Poll(usize),
    Cancel(usize),
}

impl World {
    fn new(receivers: usize, payloads: u8, may_write: bool) -> Self {
        Self {
            demand: Demand::new(),
            queue: VecDeque::new(),
            helper: None,
            interrupts: false,
            receivers: vec![At::Idle; receivers],
            received: Vec::new(),
            by: vec![Vec::new(); receivers],
            sent: 0,
            payloads,
            cancels: 0,
            put_back: false,
            may_write,
        }
    }

    fn key(&self) -> String {
        format!(
            "{:?} {:?} {:?} {:?} {:?} {:?} {} {} {}",
            self.demand,
            self.queue,
            self.helper,
            self.interrupts,
            self.receivers,
            self.by,
            self.sent,
            self.cancels,
            self.put_back
        )
    }

    fn steps(&self, messages: u8, cancels: u8) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.sent < messages {
            steps.push(Step::Send);
        }
        match self.helper {
            None if self.demand.clone().begin() => steps.push(Step::HelperBegins),
            None => {}
            Some(Some(_)) => steps.push(Step::HelperEnds),
            Some(None) if self.interrupts => steps.push(Step::Signal),
            Some(None) => {}
        }
        for (index, at) in self.receivers.iter().enumerate() {
            // A task may also be polled without having been woken.
            steps.push(Step::Poll(index));
            if matches!(at, At::Sleeps | At::Woken) && self.cancels < cancels {
                steps.push(Step::Cancel(index));
            }
        }
        steps
    }

    fn take(&mut self, receiver: usize, message: u8) {
        self.received.push(message);
        self.by[receiver].push(message);
        self.receivers[receiver] = At::Idle;
    }

    fn put_back(&mut self) {
        if let Some(number) = self.demand.unwanted()
            && self.may_write
        {
            self.demand.returned();
            self.put_back = true;
            self.queue.push_back((u8::try_from(number).unwrap(), true));
        }
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Send => {
                let message = (self.sent, self.payloads >> self.sent & 1 == 0);
                self.sent += 1;
                match (&mut self.helper, message) {
                    (Some(answer @ None), (number, true)) => {
                        *answer = Some(Answer::Empty(number.into()));
                    }
                    (Some(answer @ None), _) => {
                        *answer = Some(Answer::Message);
                        self.queue.push_back(message);
                    }
                    _ => self.queue.push_back(message),
                }
            }
            Step::HelperBegins => {
                assert!(self.demand.begin());
                self.helper = Some(match self.queue.front() {
                    Some(&(number, true)) => {
                        self.queue.pop_front();
                        Some(Answer::Empty(number.into()))
                    }
                    Some(_) => Some(Answer::Message),
                    None => None,
                });
            }
            Step::HelperEnds => {
                let answer = self.helper.take().flatten().unwrap();
                let mut wakers = Vec::new();
                if self.demand.finish(answer, &mut wakers) {
                    self.interrupts = false;
                }
                // All that sleep are woken, or none.
                if !wakers.is_empty() {
                    for at in &mut self.receivers {
                        if *at == At::Sleeps {
                            *at = At::Woken;
                        }
                    }
                }
                self.put_back();
            }
            Step::Signal => self.helper = Some(Some(Answer::Interrupted)),
            Step::Poll(receiver) => self.poll(receiver),
            Step::Cancel(receiver) => {
                self.cancels += 1;
                self.receivers[receiver] = At::Idle;
                if self.demand.withdraw(receiver as u64) {
                    self.interrupts = true;
                }
                self.put_back();
            }
        }
    }

    fn poll(&mut self, receiver: usize) {
        let look = match self.receivers[receiver] {
            At::Tries => match self.queue.pop_front() {
                Some((number, _)) => {
                    self.take(receiver, number);
                    return;
                }
                None => {
                    self.receivers[receiver] = At::Waits;
                    return;
                }
            },
            At::Waits => self.demand.wait(receiver as u64, Waker::noop()),
            At::Idle | At::Sleeps | At::Woken => {
                self.demand.look(receiver as u64, Some(Waker::noop()))
            }
        };
        match look {
            Look::Try => self.receivers[receiver] = At::Tries,
            Look::Wait => self.receivers[receiver] = At::Sleeps,
            Look::Empty(number) => self.take(receiver, u8::try_from(number).unwrap()),
            Look::Failed(errno) => panic!("nothing fails here, but {errno}"),
        }
    }

    fn check(&self) {
        let mut all: Vec<u8> = self.queue.iter().map(|&(number, _)| number).collect();
        all.extend(&self.received);
        let held = self.demand.held_for_test();
        all.extend(held.map(|number| u8::try_from(number).unwrap()));
        if let Some(Some(Answer::Empty(number))) = self.helper {
            all.push(u8::try_from(number).unwrap());
        }
        all.sort_unstable();
        assert_eq!(
            all,
            (0..self.sent).collect::<Vec<_>>(),
            "lost or duplicated"
        );
        if !self.put_back && self.receivers.len() == 1 {
            assert!(self.received.is_sorted(), "overtaken");
        }
        // Where nothing moves by itself any more, nobody may sleep beside a message.
        let moves = match self.helper {
            Some(None) => self.interrupts,
            Some(Some(_)) => true,
            None => self.demand.clone().begin(),
        };
        let awake = self
            .receivers
            .iter()
            .any(|at| matches!(at, At::Tries | At::Waits | At::Woken));
        if !moves && !awake {
            let sleeps = self.receivers.contains(&At::Sleeps);
            assert!(
                !sleeps || self.queue.is_empty() && held.is_none(),
                "nobody is woken"
            );
            // And no message is held that nobody asked for, unless it cannot go back.
            assert!(held.is_none() || !self.may_write, "held for nobody");
            // The helper is in the kernel for somebody, or not at all.
            assert!(self.helper.is_none() || sleeps, "it asks for nobody");
        }
    }
}

fn explore(receivers: usize, messages: u8, cancels: u8, may_write: bool) -> usize {
    let mut seen = HashSet::new();
    for payloads in 0..1 << messages {
        let mut stack = vec![(World::new(receivers, payloads, may_write), Vec::new())];
        while let Some((world, path)) = stack.pop() {
            if !seen.insert((payloads, world.key())) {
                continue;
            }
            for step in world.steps(messages, cancels) {
                let mut next = world.clone();
                let mut path = path.clone();
                path.push(step);
                let checked = std::panic::catch_unwind(move || {
                    next.run(step);
                    next.check();
                    next
                });
                match checked {
                    Ok(next) => stack.push((next, path)),
                    Err(_) => panic!("payloads {payloads:b}: {path:?}\nfrom {world:?}"),
                }
            }
        }
    }
    seen.len()
}

#[test]
fn one_receiver() {
    let states = explore(1, 3, 3, true);
    assert!(states > 1000, "{states} states");
}

#[test]
fn two_receivers() {
    let states = explore(2, 2, 2, true);
    assert!(states > 1000, "{states} states");
}

#[test]
fn without_permission_to_write() {
    let states = explore(2, 2, 2, false);
    assert!(states > 1000, "{states} states");
}
