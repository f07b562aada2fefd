//! Both ends in one thread, against a plain queue; and ends that are lied to.
#![allow(
    unsafe_code,
    clippy::cast_possible_truncation,
    reason = "plays a hostile peer on raw memory"
)]

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::mem::MaybeUninit;
use core::ptr::NonNull;

use proptest::prelude::*;

use super::*;

fn take<M: Memory>(consumer: &mut Consumer<M>) -> Option<(u32, Vec<u8>)> {
    let frame = consumer.peek().unwrap()?;
    let mut payload = vec![MaybeUninit::new(0); frame.len()];
    consumer.copy_part(&frame, 0, &mut payload);
    let _ring = consumer.release(frame);
    // SAFETY: initialised by `vec!` and overwritten by `copy_part`.
    Some((
        frame.kind(),
        payload
            .into_iter()
            .map(|byte| unsafe { byte.assume_init() })
            .collect(),
    ))
}

#[derive(Debug, Clone)]
enum Step {
    Stage(u32, Vec<u8>),
    StageAll(Vec<Vec<u8>>),
    Publish,
    Send(u32, Vec<u8>),
    Take,
    Span(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1u32..9, prop::collection::vec(any::<u8>(), 0..60)).prop_map(|(k, p)| Step::Stage(k, p)),
        1 => prop::collection::vec(prop::collection::vec(any::<u8>(), 0..30), 0..5).prop_map(Step::StageAll),
        2 => Just(Step::Publish),
        3 => (1u32..9, prop::collection::vec(any::<u8>(), 0..130)).prop_map(|(k, p)| Step::Send(k, p)),
        4 => Just(Step::Take),
        1 => (8usize..200).prop_map(Step::Span),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #[test]
    fn behaves_like_a_queue(steps in steps(), bits in 6u32..9) {
        let (mut producer, mut consumer) = channel(1 << bits);
        let mut staged = VecDeque::new();
        let mut published = VecDeque::new();
        for step in steps {
            match step {
                Step::Stage(kind, payload) => match producer.stage(kind, &payload) {
                    Ok(()) => staged.push_back((kind, payload)),
                    Err(PushError::Full) => {
                        let used: u64 = staged
                            .iter()
                            .chain(&published)
                            .map(|(_, p): &(u32, Vec<u8>)| frame_size(p.len() as u64))
                            .sum();
                        prop_assert!(used + frame_size(payload.len() as u64) > 1 << bits);
                    }
                    Err(PushError::TooLarge) => {
                        prop_assert!(payload.len() as u64 > max_payload(1 << bits));
                    }
                    Err(error) => prop_assert!(false, "{error:?}"),
                },
                Step::StageAll(payloads) => {
                    let mut frames = FrameBuffer::new();
                    payloads.iter().for_each(|payload| frames.push(7, payload));
                    prop_assert_eq!(frames.len(), payloads.len());
                    let used: u64 = staged
                        .iter()
                        .chain(&published)
                        .map(|(_, p): &(u32, Vec<u8>)| frame_size(p.len() as u64))
                        .sum();
                    match producer.stage_all(&frames) {
                        Ok(()) => staged.extend(payloads.into_iter().map(|payload| (7, payload))),
                        Err(PushError::Full) => prop_assert!(used + frames.size() as u64 > 1 << bits),
                        Err(PushError::TooLarge) => prop_assert!(frames.size() > 1 << bits),
                        Err(error) => prop_assert!(false, "{error:?}"),
                    }
                }
                Step::Publish => {
                    prop_assert!(!producer.publish());
                    published.append(&mut staged);
                }
                Step::Send(kind, payload) => match producer.send(kind, &payload) {
                    Ok(ring) => {
                        prop_assert!(!ring);
                        published.append(&mut staged);
                        published.push_back((kind, payload));
                    }
                    Err(PushError::Full) => {
                        let used: u64 = staged
                            .iter()
                            .chain(&published)
                            .map(|(_, p): &(u32, Vec<u8>)| frame_size(p.len() as u64))
                            .sum();
                        prop_assert!(used + frame_size(payload.len() as u64) > 1 << bits);
                    }
                    Err(PushError::TooLarge) => {
                        prop_assert!(payload.len() as u64 > max_payload(1 << bits));
                    }
                    Err(error) => prop_assert!(false, "{error:?}"),
                },
                Step::Take => prop_assert_eq!(take(&mut consumer), published.pop_front()),
                Step::Span(most) => {
                    let mut span = Vec::new();
                    consumer.copy_span(&mut span, most).unwrap();
                    let mut size = 0;
                    for (kind, payload) in Frames::new(&span) {
                        size += frame_size(payload.len() as u64);
                        prop_assert_eq!(Some((kind, payload.to_vec())), published.pop_front());
                    }
                    prop_assert!(!consumer.release_span(size));
                }
            }
        }
    }

    #[test]
    fn lies_never_reach_out_of_bounds(
        lies in prop::collection::vec((any::<u64>(), any::<u64>(), 0usize..8), 1..40),
    ) {
        // Every word that a producer writes is arbitrary; the consumer must answer with data or an
        // error. The bytes sit between guards that would show a stray access.
        let page = Page::new();
        let mut consumer = page.consumer();
        for (cursor, word, at) in lies {
            page.lie(cursor % 2048, word, at);
            for _ in 0..4 {
                match consumer.peek() {
                    Ok(Some(frame)) => {
                        prop_assert!(frame_size(frame.len() as u64) <= CAPACITY);
                        let mut payload = vec![MaybeUninit::new(0); frame.len()];
                        consumer.copy_part(&frame, 0, &mut payload);
                        let _ring = consumer.release(frame);
                    }
                    Ok(None) | Err(_) => break,
                }
            }
        }
    }
}

const CAPACITY: u64 = 256;

/// A ring in plain memory whose other end the test plays.
struct Page {
    blocks: Arc<Blocks>,
    data: *mut u64,
}

struct Blocks {
    producer: ControlBlock,
    consumer: ControlBlock,
}

impl Page {
    fn new() -> Self {
        let data = Box::leak(vec![0u64; 2 * CAPACITY as usize / 8].into_boxed_slice()).as_mut_ptr();
        let blocks = Arc::new(Blocks {
            producer: ControlBlock::new(),
            consumer: ControlBlock::new(),
        });
        Self { blocks, data }
    }

    fn memory(&self) -> MirroredMemory<Arc<Blocks>> {
        let producer = NonNull::from(&self.blocks.producer);
        let consumer = NonNull::from(&self.blocks.consumer);
        let data = NonNull::new(self.data.cast()).unwrap();
        // SAFETY: the blocks live in the `Arc`, the data until the page is dropped, after the ends.
        // It is not mirrored: the tests below never let a frame wrap with content that matters.
        unsafe { MirroredMemory::new(producer, consumer, data, CAPACITY, self.blocks.clone()) }
    }

    fn consumer(&self) -> Consumer<MirroredMemory<Arc<Blocks>>> {
        // SAFETY: the only consumer of this page.
        unsafe { Consumer::new(self.memory()) }
    }

    fn producer(&self) -> Producer<MirroredMemory<Arc<Blocks>>> {
        // SAFETY: the only producer of this page.
        unsafe { Producer::new(self.memory()) }
    }

    fn lie(&self, cursor: u64, word: u64, at: usize) {
        // SAFETY: `at` is below the number of words.
        unsafe { self.data.add(at).write_volatile(word) };
        self.blocks.producer.set_cursor(cursor);
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        let words = NonNull::slice_from_raw_parts(
            NonNull::new(self.data).unwrap(),
            2 * CAPACITY as usize / 8,
        );
        // SAFETY: leaked by `new`, with this length.
        drop(unsafe { Box::from_raw(words.as_ptr()) });
    }
}

#[test]
fn a_producer_that_goes_back_is_found_out() {
    let page = Page::new();
    let mut consumer = page.consumer();
    page.lie(16, Header { len: 8, kind: 1 }.to_word(), 0);
    let frame = consumer.peek().unwrap().unwrap();
    assert!(!consumer.release(frame));
    page.lie(8, 0, 2);
    assert_eq!(
        consumer.peek(),
        Err(Corruption::ProducerCursor {
            found: 8,
            least: 16,
            most: 16 + CAPACITY
        })
    );
}

#[test]
fn a_length_past_what_is_published_is_found_out() {
    let page = Page::new();
    let mut consumer = page.consumer();
    page.lie(
        16,
        Header {
            len: u32::MAX,
            kind: 1,
        }
        .to_word(),
        0,
    );
    assert_eq!(
        consumer.peek(),
        Err(Corruption::FrameLength {
            found: u64::from(u32::MAX),
            published: 16
        })
    );
}

#[test]
fn an_express_that_lies_is_found_out() {
    // Longer than its words, than what is published, and than all that ever was.
    for (len, cursor) in [(113, 128), (112, 64), (0, 0x18), (u32::MAX, 64)] {
        let page = Page::new();
        let mut consumer = page.consumer();
        let header = Header { len, kind: 1 };
        page.blocks
            .producer
            .set_express(0, cursor, header, &[7; 16]);
        match consumer.peek() {
            // A short one, before which something else seems to lie: zeros, an empty frame.
            Ok(Some(frame)) => assert_eq!((len, frame.len()), (0, 0)),
            found => assert_eq!(
                found,
                Err(Corruption::FrameLength {
                    found: u64::from(len),
                    published: cursor
                })
            ),
        }
    }
    for flags in 2..8 {
        let page = Page::new();
        let mut consumer = page.consumer();
        page.lie(8 | flags, 0, 0);
        assert!(matches!(
            consumer.peek(),
            Err(Corruption::ProducerCursor { found, .. }) if found == 8 | flags
        ));
    }
}

#[test]
fn an_express_frame_stays_while_others_come() {
    let (mut producer, mut consumer) = channel(512);
    assert_eq!(producer.send(1, b"first, by express"), Ok(false));
    let frame = consumer.peek().unwrap().unwrap();
    assert_eq!(producer.send(2, b"second, likewise"), Ok(false));
    assert_eq!(producer.send(3, &[7; 300]), Ok(false));
    let mut span = Vec::new();
    consumer.copy_span(&mut span, 512).unwrap();
    assert_eq!(
        Frames::new(&span).next(),
        Some((1, &b"first, by express"[..]))
    );
    let mut part = [MaybeUninit::new(0); 7];
    consumer.copy_part(&frame, 10, &mut part);
    // SAFETY: initialised above.
    assert_eq!(part.map(|byte| unsafe { byte.assume_init() }), *b"express");
    assert!(!consumer.release(frame));
    assert_eq!(take(&mut consumer), Some((2, b"second, likewise".to_vec())));
    assert_eq!(take(&mut consumer), Some((3, vec![7; 300])));
    assert_eq!(take(&mut consumer), None);
}

#[test]
fn a_consumer_past_the_published_is_found_out() {
    let page = Page::new();
    let mut producer = page.producer();
    producer.stage(1, &[0; 200]).unwrap();
    page.blocks.consumer.set_cursor(208);
    let lie = Corruption::ConsumerCursor {
        found: 208,
        least: 0,
        most: 0,
    };
    assert_eq!(producer.stage(1, &[0; 200]), Err(PushError::Corrupted(lie)));
    assert!(!producer.publish());
    producer.stage(1, &[0; 200]).unwrap();
}

#[test]
fn only_an_armed_peer_is_rung_and_once() {
    let (mut producer, mut consumer) = channel(64);
    producer.stage(1, b"a").unwrap();
    assert!(!producer.publish());
    let frame = consumer.peek().unwrap().unwrap();
    assert!(!consumer.release(frame));
    consumer.arm();
    producer.stage(1, b"b").unwrap();
    assert!(producer.publish(), "armed");
    producer.stage(1, b"c").unwrap();
    assert!(!producer.publish(), "rung already");
    for _ in 0..2 {
        let frame = consumer.peek().unwrap().unwrap();
        assert!(!consumer.release(frame));
    }
    consumer.arm();
    producer.stage(1, b"d").unwrap();
    assert!(producer.publish(), "armed anew");

    for _ in 0..3 {
        producer.stage(1, b"e").unwrap();
    }
    assert_eq!(producer.stage(1, &[0; 8]), Err(PushError::Full));
    assert!(!producer.publish());
    producer.arm(producer.cursor_for(8), || ());
    let frame = consumer.peek().unwrap().unwrap();
    assert!(consumer.release(frame), "the producer sleeps");
    let frame = consumer.peek().unwrap().unwrap();
    assert!(!consumer.release(frame), "rung already");
}

#[test]
fn a_producer_is_rung_once_all_the_room_that_it_waits_for_is_there() {
    for fence in [Fence::Full, Fence::Asymmetric] {
        let (mut producer, mut consumer) = channel(256);
        consumer.set_fence(fence);
        while producer.stage(1, b"small").is_ok() {}
        assert!(!producer.publish());
        // 10 of the 16 small frames have to go.
        producer.arm(producer.cursor_for(152), || ());
        let mut released = 0;
        while let Some(frame) = consumer.peek().unwrap() {
            released += 1;
            assert_eq!(consumer.release(frame), released == 10, "{released}");
        }
        assert_eq!(released, 16);
        assert_eq!(producer.has_room(152), Ok(true));
    }
}

#[test]
fn a_producer_that_waits_for_the_end_alone_is_rung_by_the_end_alone() {
    let (mut producer, mut consumer) = channel(64);
    producer.stage(1, &[0; 56]).unwrap();
    assert!(!producer.publish());
    producer.arm(Producer::<crate::HeapMemory>::NEVER, || ());
    let frame = consumer.peek().unwrap().unwrap();
    assert!(!consumer.release(frame));
    assert!(consumer.close(State::Closed));
    consumer.arm();
    assert!(producer.close(State::Closed));
}

#[test]
fn parts_of_a_frame_are_copied() {
    let (mut producer, mut consumer) = channel(64);
    producer.stage(1, b"0123456789abcdef!").unwrap();
    assert!(!producer.publish());
    let frame = consumer.peek().unwrap().unwrap();
    let mut part = [MaybeUninit::new(0); 7];
    consumer.copy_part(&frame, 5, &mut part);
    // SAFETY: initialised above.
    assert_eq!(part.map(|byte| unsafe { byte.assume_init() }), *b"56789ab");
    assert_eq!(frame.len(), 17);
}

#[test]
fn two_threads_transfer_in_order() {
    let (mut producer, mut consumer) = channel(512);
    let writer = std::thread::spawn(move || {
        for i in 0..20_000u32 {
            let payload = vec![i.to_le_bytes()[0]; (i % 100) as usize];
            while producer.stage(i, &payload) == Err(PushError::Full) {
                let _nobody = producer.publish();
                std::thread::yield_now();
            }
            if i % 3 == 0 {
                let _nobody = producer.publish();
            }
            while i % 2 == 0
                && producer.send(u32::MAX, &payload[..payload.len().min(20)])
                    == Err(PushError::Full)
            {
                std::thread::yield_now();
            }
        }
        let _nobody = producer.publish();
    });
    for i in 0..20_000u32 {
        let (kind, payload) = loop {
            match take(&mut consumer) {
                Some(frame) => break frame,
                None => std::thread::yield_now(),
            }
        };
        assert_eq!(kind, i);
        let expected = vec![i.to_le_bytes()[0]; (i % 100) as usize];
        assert_eq!(payload, expected);
        if i % 2 == 0 {
            let (kind, payload) = loop {
                match take(&mut consumer) {
                    Some(frame) => break frame,
                    None => std::thread::yield_now(),
                }
            };
            assert_eq!(kind, u32::MAX);
            assert_eq!(payload, expected[..expected.len().min(20)]);
        }
    }
    writer.join().unwrap();
}

/// Rings that outlive their ends.
mod resumed {
    use std::boxed::Box;
    use std::vec::Vec;

    use crate::{Consumer, ControlBlock, Corruption, FlatMemory, Producer, PushError};

    #[repr(C, align(128))]
    struct Place {
        producer: ControlBlock,
        consumer: ControlBlock,
        data: [u64; 32],
    }

    #[derive(Clone, Copy)]
    struct Ring(core::ptr::NonNull<Place>);

    impl Ring {
        fn new() -> Self {
            let place = Box::leak(Box::new(Place {
                producer: ControlBlock::new(),
                consumer: ControlBlock::new(),
                data: [0; 32],
            }));
            Self(core::ptr::NonNull::from(place))
        }

        fn memory(self) -> FlatMemory<()> {
            let at = self.0.cast::<u8>();
            // SAFETY: the offsets are inside of the place, which is never freed.
            let at = |offset| unsafe { at.add(offset) };
            // SAFETY: as large as it says; each test has one producer and one consumer at a time.
            unsafe { FlatMemory::new(at(0).cast(), at(256).cast(), at(512), 256, ()) }
        }

        fn producer(self) -> Result<Producer<FlatMemory<()>>, Corruption> {
            // SAFETY: the tests drop or forget the one before.
            unsafe { Producer::resume(self.memory()) }
        }

        fn consumer(self) -> Result<Consumer<FlatMemory<()>>, Corruption> {
            // SAFETY: as for the producer.
            unsafe { Consumer::resume(self.memory()) }
        }

        fn block(self, offset: usize) -> &'static ControlBlock {
            // SAFETY: never freed, and atomics alone.
            unsafe { self.0.cast::<u8>().add(offset).cast().as_ref() }
        }
    }

    fn take(consumer: &mut Consumer<FlatMemory<()>>) -> Option<Vec<u8>> {
        let frame = consumer.peek().unwrap()?;
        let mut bytes = Vec::new();
        consumer.append_to(&frame, &mut bytes);
        let _ring = consumer.release(frame);
        Some(bytes)
    }

    #[test]
    fn ends_go_on_where_others_left_off_around_the_ring() {
        let ring = Ring::new();
        let mut expected = std::collections::VecDeque::new();
        let mut sent = 0_u64;
        for round in 1..500_u64 {
            let mut producer = ring.producer().unwrap();
            loop {
                let len = (sent * 7 % 61) as usize;
                let bytes: Vec<u8> = (0..len)
                    .map(|at| (sent as u8).wrapping_add(at as u8))
                    .collect();
                let pushed = match round % 3 {
                    0 => producer.stage(1, &bytes).map(|()| producer.publish()),
                    _ => producer.send(1, &bytes),
                };
                match pushed {
                    Ok(_) => expected.push_back(bytes),
                    Err(PushError::Full) => break,
                    Err(error) => panic!("{error:?}"),
                }
                sent += 1;
            }
            // Not published, and gone with this end.
            let _full = producer.stage(1, &[]);
            let mut consumer = ring.consumer().unwrap();
            for _ in 0..round % 5 + 1 {
                let Some(bytes) = take(&mut consumer) else {
                    break;
                };
                assert_eq!(Some(bytes), expected.pop_front());
            }
        }
        let mut consumer = ring.consumer().unwrap();
        while let Some(bytes) = take(&mut consumer) {
            assert_eq!(Some(bytes), expected.pop_front());
        }
        assert!(expected.is_empty() && sent > 500);
    }

    #[test]
    fn an_express_frame_whose_sender_died_before_the_copy() {
        for len in [0, 1, 8, 9, 112] {
            let ring = Ring::new();
            let bytes: Vec<u8> = (1..=len).collect();
            let header = crate::Header {
                len: len.into(),
                kind: 3,
            };
            let end = crate::frame_size(len.into());
            // As `send` does first; what follows it did not come to pass.
            ring.block(0).set_express(0, end, header, &bytes);
            let mut producer = ring.producer().unwrap();
            assert_eq!(producer.position(), end);
            let _ring = producer.send(1, b"next").unwrap();
            let mut consumer = ring.consumer().unwrap();
            assert_eq!(take(&mut consumer).unwrap(), bytes);
            assert_eq!(take(&mut consumer).unwrap(), b"next");
            assert_eq!(take(&mut consumer), None);
        }
    }

    #[test]
    fn a_consumer_that_follows_while_the_sender_is_replaced() {
        let ring = Ring::new();
        let mut consumer = ring.consumer().unwrap();
        let header = crate::Header { len: 5, kind: 1 };
        ring.block(0).set_express(0, 16, header, b"early");
        assert_eq!(take(&mut consumer).unwrap(), b"early");
        let mut producer = ring.producer().unwrap();
        assert_eq!(take(&mut consumer), None);
        let _ring = producer.send(1, b"late").unwrap();
        assert_eq!(take(&mut consumer).unwrap(), b"late");
    }

    #[test]
    fn what_no_end_would_have_left_is_refused() {
        // Producer's cursor, consumer's cursor.
        for (published, released) in [
            (0, 8),
            (264, 0),
            (12, 0),
            (16, 4),
            (2, 0),
            (3, 0),
            (!7, !7),
            (1 << 63, 1 << 63),
        ] {
            let ring = Ring::new();
            ring.block(0).set_cursor(published);
            ring.block(256).set_cursor(released);
            assert!(ring.producer().is_err(), "{published} {released}");
            if published & 7 == 0 {
                assert!(ring.consumer().is_err(), "{published} {released}");
            }
        }
        // An express frame that is longer than there is room for, or than what was published.
        for (len, end) in [(113, 128), (100, 64), (u32::MAX, 8)] {
            let ring = Ring::new();
            let header = crate::Header { len, kind: 1 };
            ring.block(0).set_express(0, end, header, &[]);
            assert!(ring.producer().is_err(), "{len}");
        }
    }
}

/// A frame of another ring, at the same position and longer than what is there.
#[test]
#[should_panic(expected = "oldest frame")]
fn a_frame_of_another_ring_is_not_copied() {
    let (_empty, here) = channel(64);
    let (mut producer, mut there) = channel(4096);
    producer.stage(1, &[7; 900]).unwrap();
    let _ring = producer.publish();
    let frame = there.peek().unwrap().unwrap();
    here.copy_to(&frame, 0, &mut [0; 900]);
}

#[test]
#[should_panic(expected = "released in order")]
fn a_frame_of_another_ring_is_not_released() {
    let (_empty, mut here) = channel(64);
    let (mut producer, mut there) = channel(4096);
    producer.stage(1, &[7; 900]).unwrap();
    let _ring = producer.publish();
    let frame = there.peek().unwrap().unwrap();
    let _ring = here.release(frame);
}
