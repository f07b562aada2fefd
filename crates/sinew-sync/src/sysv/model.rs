//! Every interleaving of a helper, those who wait and the kernel, up to a number of units and of
//! cancellations: nobody sleeps beside a unit, and the helper is in the kernel for somebody or not at all.
//!
//! The steps are those between which the real thing can be interrupted: each is either under the lock of
//! the watch or one system call.

use std::collections::HashSet;
use std::task::Waker;

use super::demand::{Answer, Demand, Phase};

/// Where somebody is who wants a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum At {
    /// No future.
    Idle,
    /// Its try found nothing.
    Tried,
    /// Pending.
    Sleeps,
    /// To be polled again.
    Woken,
}

#[derive(Debug, Clone)]
struct World {
    demand: Demand,
    units: u8,
    given: u8,
    taken: u8,
    /// In the kernel; with the answer that it will bring, once there is one.
    helper: Option<Option<Answer>>,
    interrupts: bool,
    tasks: Vec<At>,
    cancels: u8,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Give,
    /// Another process takes a unit.
    Rob,
    HelperBegins,
    HelperLosesPatience,
    HelperEnds,
    Signal,
    Poll(usize),
    Enlist(usize),
    Cancel(usize),
}

impl World {
    fn new(tasks: usize) -> Self {
        Self {
            demand: Demand::new(),
            units: 0,
            given: 0,
            taken: 0,
            helper: None,
            interrupts: false,
            tasks: vec![At::Idle; tasks],
            cancels: 0,
        }
    }

    fn key(&self) -> String {
        format!("{self:?}")
    }

    fn steps(&self, units: u8, cancels: u8, polls_all: bool) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.given < units {
            steps.push(Step::Give);
        }
        if self.units > 0 {
            steps.push(Step::Rob);
        }
        match self.helper {
            None if self.demand.clone().begin(false) => steps.push(Step::HelperBegins),
            None if self.demand.is_patient() => steps.push(Step::HelperLosesPatience),
            None => {}
            Some(Some(_)) => steps.push(Step::HelperEnds),
            Some(None) if self.interrupts => steps.push(Step::Signal),
            Some(None) => {}
        }
        for (index, at) in self.tasks.iter().enumerate() {
            match at {
                At::Tried => steps.push(Step::Enlist(index)),
                // Also without having been woken.
                _ if polls_all || *at != At::Sleeps => steps.push(Step::Poll(index)),
                _ => {}
            }
            if *at != At::Idle && self.cancels < cancels {
                steps.push(Step::Cancel(index));
            }
        }
        steps
    }

    fn wake(&mut self, wakers: Vec<Waker>) {
        for waker in wakers {
            let number = waker_number(&waker);
            if self.tasks[number] == At::Sleeps {
                self.tasks[number] = At::Woken;
            }
        }
    }

    fn leave(&mut self, index: usize) {
        let left = self.demand.leave(index as u64);
        self.interrupts |= left.recall;
        self.tasks[index] = At::Idle;
        self.wake(left.next.into_iter().collect());
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Give => {
                self.given += 1;
                self.units += 1;
                if let Some(answer @ None) = &mut self.helper {
                    *answer = Some(Answer::Possible);
                }
            }
            Step::Rob => {
                self.units -= 1;
                self.taken += 1;
            }
            Step::HelperBegins | Step::HelperLosesPatience => {
                let patience_over = matches!(step, Step::HelperLosesPatience);
                assert!(self.demand.begin(patience_over));
                self.helper = Some((self.units > 0).then_some(Answer::Possible));
            }
            Step::HelperEnds => {
                let answer = self.helper.take().flatten().unwrap();
                let mut wakers = Vec::new();
                if self.demand.finish(answer, &mut wakers) {
                    self.interrupts = false;
                }
                assert!(wakers.len() <= 1, "all at once");
                self.wake(wakers);
            }
            Step::Signal => self.helper = Some(Some(Answer::Interrupted)),
            Step::Poll(index) => {
                if self.units > 0 {
                    self.units -= 1;
                    self.taken += 1;
                    self.leave(index);
                } else {
                    self.tasks[index] = At::Tried;
                }
            }
            Step::Enlist(index) => {
                let _tell = self.demand.enlist(index as u64, &waker(index));
                self.tasks[index] = At::Sleeps;
            }
            Step::Cancel(index) => {
                self.cancels += 1;
                self.leave(index);
            }
        }
    }

    fn check(&self) {
        assert_eq!(self.units + self.taken, self.given);
        // Where nothing moves by itself any more, nobody may sleep beside a unit.
        let moves = match self.helper {
            Some(None) => self.interrupts,
            Some(Some(_)) => true,
            None => self.demand.is_wanted(),
        };
        let awake = self
            .tasks
            .iter()
            .any(|at| matches!(at, At::Tried | At::Woken));
        if !moves && !awake {
            let sleeps = self.tasks.contains(&At::Sleeps);
            assert!(!sleeps || self.units == 0, "nobody is woken");
            assert!(self.helper.is_none() || sleeps, "it asks for nobody");
        }
        // Who sleeps has the helper in the kernel, or about to be.
        if self.helper.is_none() {
            assert_eq!(self.demand.phase(), Phase::Resting);
        }
    }
}

/// A waker of which the number can be told: the number of references to nothing else.
fn waker(index: usize) -> Waker {
    static NUMBERS: [Number; 3] = [Number(0), Number(1), Number(2)];
    Waker::from(std::sync::Arc::new(NUMBERS[index].clone()))
}

#[derive(Debug, Clone)]
struct Number(usize);

impl std::task::Wake for Number {
    fn wake(self: std::sync::Arc<Self>) {
        LAST.set(Some(self.0));
    }
}

thread_local! {
    static LAST: std::cell::Cell<Option<usize>> = const { std::cell::Cell::new(None) };
}

fn waker_number(waker: &Waker) -> usize {
    waker.wake_by_ref();
    LAST.take().unwrap()
}

fn explore(tasks: usize, units: u8, cancels: u8, polls_all: bool) -> usize {
    let mut seen = HashSet::new();
    let mut stack = vec![(World::new(tasks), Vec::new())];
    while let Some((world, path)) = stack.pop() {
        if !seen.insert(key(&world)) {
            continue;
        }
        for step in world.steps(units, cancels, polls_all) {
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
                Err(_) => panic!("{path:?}\nfrom {world:?}"),
            }
        }
    }
    seen.len()
}

/// Without what tells wakers of the same number apart.
fn key(world: &World) -> String {
    let text = world.key();
    let mut key = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find("Waker {") {
        key.push_str(&rest[..at]);
        let end = rest[at..].find('}').map_or(rest.len(), |end| at + end + 1);
        rest = &rest[end..];
    }
    key.push_str(rest);
    key
}

#[test]
fn two_tasks() {
    let states = explore(2, 3, 3, true);
    assert!(states > 1000, "{states} states");
}

#[test]
fn three_tasks_that_are_polled_when_woken() {
    let states = explore(3, 3, 2, false);
    assert!(states > 1000, "{states} states");
}
