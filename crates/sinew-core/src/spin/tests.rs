use std::task::Waker;

use super::*;

fn spin(wait: Wait) -> AdaptiveSpin {
    AdaptiveSpin::new(wait, Duration::from_micros(20))
}

/// Looks until it is ready or to sleep, and returns how often it looked.
fn wait(spin: &mut AdaptiveSpin, looks: Looks, mut ready: impl FnMut() -> bool) -> (u64, Looked) {
    let mut count = 0;
    loop {
        let looked = spin.look(looks, || {
            count += 1;
            ready()
        });
        if looked != Looked::Yield {
            return (count, looked);
        }
    }
}

#[test]
fn what_never_pays_is_given_up_and_tried_again_rarely() {
    let mut spin = spin(Wait::Adaptive);
    for _ in 0..100_000 {
        let (_, looked) = wait(&mut spin, Looks::ALONE, || false);
        assert_eq!(looked, Looked::Park);
        spin.succeed();
    }
    assert!(spin.misses() < 200, "{} of 100,000", spin.misses());
    assert!(spin.misses() > 3, "it never tries again");
    assert_eq!(spin.hits(), 0);
}

#[test]
fn what_pays_is_taken_up_again() {
    let mut spin = spin(Wait::Adaptive);
    for _ in 0..1000 {
        wait(&mut spin, Looks::ALONE, || false);
        spin.succeed();
    }
    for _ in 0..3000 {
        wait(&mut spin, Looks::ALONE, || true);
        spin.succeed();
    }
    let before = spin.hits();
    for _ in 0..1000 {
        let (count, looked) = wait(&mut spin, Looks::ALONE, || true);
        assert_eq!((count, looked), (1, Looked::Ready));
    }
    // A look during which this thread has no processor does not count.
    assert!(spin.hits() - before > 900);
}

#[test]
fn others_have_their_turn_after_a_few_looks() {
    for looks in [Looks::ALONE, Looks::SHARED, Looks::RECEIVE, Looks::SEND] {
        let mut spin = spin(Wait::Spin);
        let mut count = 0;
        let mut ready = || {
            count += 1;
            false
        };
        assert_eq!(spin.look(looks, &mut ready), Looked::Yield);
        assert_eq!(spin.look(looks, &mut ready), Looked::Yield);
        assert_eq!(count, looks.first + looks.turn);
        assert_eq!(spin.look(looks, || true), Looked::Ready);
    }
}

#[test]
fn a_wait_that_has_come_to_sleep_looks_no_more() {
    let mut spin = spin(Wait::Adaptive);
    let (count, looked) = wait(&mut spin, Looks::SHARED, || false);
    assert!(count > 0 && looked == Looked::Park);
    assert_eq!(wait(&mut spin, Looks::SHARED, || true), (0, Looked::Park));
    assert_eq!(spin.misses(), 1);
    spin.succeed();
    let (count, looked) = wait(&mut spin, Looks::SHARED, || true);
    assert_eq!((count, looked), (1, Looked::Ready));
}

#[test]
fn parking_never_looks() {
    let mut spin = spin(Wait::Park);
    assert_eq!(wait(&mut spin, Looks::ALONE, || true), (0, Looked::Park));
    assert_eq!(AdaptiveSpin::never().step(Looks::RECEIVE), Step::Park);
}

#[test]
fn spinning_never_sleeps() {
    let mut spin = spin(Wait::Spin);
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1) {
        assert_eq!(spin.look(Looks::SHARED, || false), Looked::Yield);
    }
    assert_eq!(spin.look(Looks::SHARED, || true), Looked::Ready);
}

#[test]
fn a_success_of_the_scheduler_is_none() {
    let mut spin = spin(Wait::Adaptive);
    assert_eq!(spin.look(Looks::SHARED, || false), Looked::Yield);
    std::thread::sleep(Duration::from_millis(1));
    assert_eq!(spin.look(Looks::SHARED, || true), Looked::Ready);
    assert_eq!((spin.hits(), spin.misses()), (0, 1));
}

#[test]
fn a_poll_ends_when_others_have_their_turn() {
    // Not `Adaptive`, whose time may be over when this thread has had no processor.
    let mut spin = spin(Wait::Spin);
    let mut cx = Context::from_waker(Waker::noop());
    for looks in [Looks::RECEIVE.first, Looks::RECEIVE.turn] {
        for _ in 0..looks {
            assert_eq!(spin.poll_again(&mut cx, Looks::RECEIVE), Poll::Ready(true));
        }
        assert_eq!(spin.poll_again(&mut cx, Looks::RECEIVE), Poll::Pending);
    }
}
