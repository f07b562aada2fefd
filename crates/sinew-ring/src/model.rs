//! Loom models: every interleaving and every permitted reordering of a few steps.

#![allow(unsafe_code, reason = "takes copied bytes as initialised")]

use ::loom::sync::{Condvar, Mutex};
use ::loom::thread;
use std::sync::Arc;
use std::vec::Vec;

use super::*;

/// What a doorbell is to the models: a flag that stays up until a sleeper takes it.
#[derive(Debug)]
struct Doorbell {
    rung: Mutex<usize>,
    changed: Condvar,
}

impl Doorbell {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            rung: Mutex::new(0),
            changed: Condvar::new(),
        })
    }

    fn ring(&self) {
        *self.rung.lock().unwrap() += 1;
        self.changed.notify_one();
    }

    /// Sleeps until rung. A lost wake-up is a deadlock, which loom reports.
    fn park(&self) {
        let mut rung = self.rung.lock().unwrap();
        while *rung == 0 {
            rung = self.changed.wait(rung).unwrap();
        }
        *rung -= 1;
    }
}

fn send(producer: &mut Producer<HeapMemory>, value: u64, room: &Doorbell, data: &Doorbell) {
    let payload = value.to_ne_bytes();
    loop {
        match producer.send(1, &payload) {
            Ok(true) => return data.ring(),
            Ok(false) => return,
            Err(PushError::Full) => {}
            Err(error) => panic!("{error:?}"),
        }
        park_for_room(producer, payload.len(), room);
    }
}

/// What the barrier that is asked of a producer is to the model checker.
fn barrier() {
    crate::loom::sync::fence(crate::loom::sync::Ordering::SeqCst);
}

fn park_for_room(producer: &mut Producer<HeapMemory>, len: usize, room: &Doorbell) {
    producer.arm(producer.cursor_for(len), barrier);
    if !producer.has_room(len).unwrap() {
        room.park();
    }
    producer.disarm();
}

fn receive(consumer: &mut Consumer<HeapMemory>, data: &Doorbell, room: &Doorbell) -> Option<u64> {
    loop {
        let state = consumer.peer_state().unwrap();
        if let Some(frame) = consumer.peek().unwrap() {
            let mut payload = [core::mem::MaybeUninit::new(0u8); 8];
            consumer.copy_part(&frame, 0, &mut payload);
            if consumer.release(frame) {
                room.ring();
            }
            // SAFETY: initialised above, and overwritten by `copy_part`.
            let payload = payload.map(|byte| unsafe { byte.assume_init() });
            return Some(u64::from_ne_bytes(payload));
        }
        if state != State::Open {
            return None;
        }
        consumer.arm();
        if !consumer.is_ready() && consumer.peer_state().unwrap() == State::Open {
            data.park();
        }
        consumer.disarm();
    }
}

fn model(preemptions: usize, check: impl Fn() + Sync + Send + 'static) {
    let mut builder = ::loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(check);
}

/// Two values through a ring that never fills: each arrives once, in order, and loom's cells see no
/// access that the cursors do not order.
#[test]
fn transfer() {
    model(3, || {
        let (mut producer, mut consumer) = channel(64);
        let data = Doorbell::new();
        let room = Doorbell::new();
        let writer = thread::spawn({
            let (data, room) = (data.clone(), room.clone());
            move || {
                send(&mut producer, 1, &room, &data);
                send(&mut producer, 2, &room, &data);
            }
        });
        assert_eq!(receive(&mut consumer, &data, &room), Some(1));
        assert_eq!(receive(&mut consumer, &data, &room), Some(2));
        writer.join().unwrap();
    });
}

/// A consumer that never sleeps reads the express words while the producer writes them for the next: it gets
/// what was published, from there or from the ring.
#[test]
fn express() {
    model(4, || {
        let (mut producer, mut consumer) = channel(64);
        let writer = thread::spawn(move || {
            for value in 1..4u64 {
                assert_eq!(producer.send(1, &value.to_ne_bytes()), Ok(false));
            }
        });
        let mut seen = 0u64;
        for _ in 0..3 {
            if let Some(frame) = consumer.peek().unwrap() {
                let mut payload = [core::mem::MaybeUninit::new(0u8); 8];
                consumer.copy_part(&frame, 0, &mut payload);
                assert!(!consumer.release(frame));
                // SAFETY: initialised above, and overwritten by `copy_part`.
                let payload = payload.map(|byte| unsafe { byte.assume_init() });
                seen += 1;
                assert_eq!(u64::from_ne_bytes(payload), seen);
            }
        }
        writer.join().unwrap();
    });
}

/// The consumer arms while the producer sends by express: it sees the frame or is rung.
#[test]
fn no_lost_wake_up_by_express() {
    model(5, || {
        let (mut producer, mut consumer) = channel(64);
        let data = Doorbell::new();
        let writer = thread::spawn({
            let data = data.clone();
            move || {
                if producer.send(1, &[7; 8]).unwrap() {
                    data.ring();
                }
            }
        });
        consumer.arm();
        if !consumer.is_ready() {
            data.park();
        }
        consumer.disarm();
        assert!(consumer.peek().unwrap().is_some());
        writer.join().unwrap();
    });
}

/// A ring of four frames carries six: the positions wrap, the producer finds it full, parks, and is
/// rung for the room.
#[test]
fn wrap_and_full() {
    for fence in [Fence::Full, Fence::Asymmetric] {
        model(2, move || {
            let (mut producer, mut consumer) = channel(64);
            consumer.set_fence(fence);
            let data = Doorbell::new();
            let room = Doorbell::new();
            for value in 0..4 {
                send(&mut producer, value, &room, &data);
            }
            let writer = thread::spawn({
                let (data, room) = (data.clone(), room.clone());
                move || {
                    send(&mut producer, 4, &room, &data);
                    send(&mut producer, 5, &room, &data);
                }
            });
            for value in 0..6 {
                assert_eq!(receive(&mut consumer, &data, &room), Some(value));
            }
            writer.join().unwrap();
        });
    }
}

/// The consumer arms while the producer publishes: it sees the frame or is rung.
#[test]
fn no_lost_wake_up_of_the_consumer() {
    model(5, || {
        let (mut producer, mut consumer) = channel(64);
        let data = Doorbell::new();
        let writer = thread::spawn({
            let data = data.clone();
            move || {
                producer.stage(1, &[7; 8]).unwrap();
                if producer.publish() {
                    data.ring();
                }
            }
        });
        consumer.arm();
        if !consumer.is_ready() {
            data.park();
        }
        consumer.disarm();
        assert!(consumer.peek().unwrap().is_some());
        writer.join().unwrap();
    });
}

/// The producer arms while the consumer releases: it sees the room or is rung.
#[test]
fn no_lost_wake_up_of_the_producer() {
    for fence in [Fence::Full, Fence::Asymmetric] {
        model(5, move || {
            let (mut producer, mut consumer) = channel(64);
            consumer.set_fence(fence);
            let room = Doorbell::new();
            producer.stage(1, &[7; 56]).unwrap();
            assert!(!producer.publish());
            let reader = thread::spawn({
                let room = room.clone();
                move || {
                    let frame = consumer.peek().unwrap().unwrap();
                    if consumer.release(frame) {
                        room.ring();
                    }
                }
            });
            park_for_room(&mut producer, 8, &room);
            assert!(producer.has_room(8).unwrap());
            reader.join().unwrap();
        });
    }
}

/// The producer waits for the room of two frames, while a consumer releases them one by one and
/// then turns to something else for ever: the producer is rung, once, when both are gone.
#[test]
fn one_ring_for_all_the_room() {
    for fence in [Fence::Full, Fence::Asymmetric] {
        model(4, move || {
            let (mut producer, mut consumer) = channel(64);
            consumer.set_fence(fence);
            let room = Doorbell::new();
            producer.stage(1, &[7; 24]).unwrap();
            producer.stage(1, &[7; 24]).unwrap();
            assert!(!producer.publish());
            let reader = thread::spawn({
                let room = room.clone();
                move || {
                    for _ in 0..2 {
                        let frame = consumer.peek().unwrap().unwrap();
                        if consumer.release(frame) {
                            room.ring();
                        }
                    }
                }
            });
            park_for_room(&mut producer, 56, &room);
            assert!(producer.has_room(56).unwrap());
            reader.join().unwrap();
            assert_eq!(
                *room.rung.lock().unwrap() & !1,
                0,
                "one ring at most is left"
            );
        });
    }
}

/// However publication and parking interleave, a park is answered by one ring at most.
#[test]
fn one_ring_for_a_park() {
    model(3, || {
        let (mut producer, mut consumer) = channel(64);
        let data = Doorbell::new();
        let writer = thread::spawn({
            let data = data.clone();
            move || {
                for _ in 0..2 {
                    producer.stage(1, &[7; 8]).unwrap();
                    if producer.publish() {
                        data.ring();
                    }
                }
            }
        });
        consumer.arm();
        if !consumer.is_ready() {
            data.park();
        }
        writer.join().unwrap();
        assert!(*data.rung.lock().unwrap() <= 1);
    });
}

/// The producer publishes and closes while the consumer waits: it gets the frame, then the end.
#[test]
fn close_of_the_producer() {
    model(3, || {
        let (mut producer, mut consumer) = channel(64);
        let data = Doorbell::new();
        let room = Doorbell::new();
        let writer = thread::spawn({
            let data = data.clone();
            move || {
                producer.stage(1, &1u64.to_ne_bytes()).unwrap();
                if producer.close(State::Closed) {
                    data.ring();
                }
            }
        });
        let mut received = Vec::new();
        while let Some(value) = receive(&mut consumer, &data, &room) {
            received.push(value);
        }
        assert_eq!(received, [1]);
        writer.join().unwrap();
    });
}

/// The consumer closes while the producer waits for room: the producer wakes and sees it.
#[test]
fn close_of_the_consumer() {
    model(3, || {
        let (mut producer, mut consumer) = channel(64);
        let room = Doorbell::new();
        producer.stage(1, &[7; 56]).unwrap();
        assert!(!producer.publish());
        let reader = thread::spawn({
            let room = room.clone();
            move || {
                if consumer.close(State::Closed) {
                    room.ring();
                }
            }
        });
        producer.arm(producer.cursor_for(8), barrier);
        if producer.peer_state().unwrap() == State::Open && !producer.has_room(8).unwrap() {
            room.park();
        }
        producer.disarm();
        assert_eq!(producer.peer_state().unwrap(), State::Closed);
        reader.join().unwrap();
    });
}

/// A producer dies between publishing by express and the copy into the ring, and before it comes to ring; its
/// successor, which rings first of all, makes the copy while the consumer goes on.
#[test]
fn a_producer_that_is_replaced() {
    model(3, || {
        let (producer, mut consumer) = channel(64);
        let data = Doorbell::new();
        let room = Doorbell::new();
        let writer = thread::spawn({
            let (data, room) = (data.clone(), room.clone());
            move || {
                let header = Header { len: 8, kind: 1 };
                let block = producer.memory().producer();
                block.set_express(0, 16, header, &1_u64.to_ne_bytes());
                let memory = producer.memory().again();
                drop(producer);
                // SAFETY: the one before is gone.
                let mut producer = unsafe { Producer::resume(memory) }.unwrap();
                data.ring();
                send(&mut producer, 2, &room, &data);
            }
        });
        assert_eq!(receive(&mut consumer, &data, &room), Some(1));
        assert_eq!(receive(&mut consumer, &data, &room), Some(2));
        writer.join().unwrap();
    });
}

/// A consumer dies after it has made room, and before it comes to ring; its successor rings first of all.
#[test]
fn a_consumer_that_is_replaced() {
    model(2, || {
        let (mut producer, mut consumer) = channel(64);
        let data = Doorbell::new();
        let room = Doorbell::new();
        for value in 1..=4 {
            send(&mut producer, value, &room, &data);
        }
        let writer = thread::spawn({
            let (data, room) = (data.clone(), room.clone());
            move || send(&mut producer, 5, &room, &data)
        });
        let frame = consumer.peek().unwrap().unwrap();
        let _not_rung = consumer.release(frame);
        let memory = consumer.memory().again();
        drop(consumer);
        // SAFETY: the one before is gone.
        let mut consumer = unsafe { Consumer::resume(memory) }.unwrap();
        room.ring();
        for value in 2..=5 {
            assert_eq!(receive(&mut consumer, &data, &room), Some(value));
        }
        writer.join().unwrap();
    });
}
