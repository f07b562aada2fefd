//! Both ends of a ring against a peer that writes anything anywhere it can: data or an error, and no access
//! out of bounds (run it with the address sanitizer, as cargo-fuzz does).
#![no_main]

use std::mem::MaybeUninit;
use std::ptr::NonNull;

use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;
use sinew_ring::{Consumer, ControlBlock, Frames, MirroredMemory, Producer};

const CAPACITY: u64 = 256;
/// Words of the two control blocks.
const BLOCKS: usize = 2 * ControlBlock::SIZE / 8;

#[derive(Debug, Arbitrary)]
enum Step {
    /// The peer writes one of its words, near where it is or anywhere.
    Word { at: u8, value: u64 },
    Nudge { at: u8, by: i8, flags: u8 },
    Data { at: u8, value: u64 },
    Receive,
    Span { most: u8 },
    Stage { len: u16 },
    Publish,
    Send { len: u16 },
    Reserve { len: u16, commit: u16 },
    Arm,
    State,
}

#[repr(C, align(128))]
struct Page {
    blocks: [u64; BLOCKS],
    data: [u64; 2 * CAPACITY as usize / 8],
}

fuzz_target!(|steps: Vec<Step>| {
    // One page for each direction; in both, the test plays the other end.
    let incoming = Box::into_raw(Box::new(Page { blocks: [0; BLOCKS], data: [0; 64] }));
    let outgoing = Box::into_raw(Box::new(Page { blocks: [0; BLOCKS], data: [0; 64] }));
    let memory = |page: *mut Page| unsafe {
        let blocks = NonNull::new((&raw mut (*page).blocks).cast::<ControlBlock>()).unwrap();
        let data = NonNull::new((&raw mut (*page).data).cast::<u8>()).unwrap();
        MirroredMemory::new(blocks, blocks.add(1), data, CAPACITY, ())
    };
    let mut consumer = unsafe { Consumer::new(memory(incoming)) };
    let mut producer = unsafe { Producer::new(memory(outgoing)) };
    let block_words = ControlBlock::SIZE / 8;
    // The words of the producing peer in one page, of the consuming peer in the other.
    let (blocks_in, blocks_out) = unsafe { (&raw mut (*incoming).blocks, &raw mut (*outgoing).blocks) };
    let data = unsafe { (&raw mut (*incoming).data).cast::<u64>() };
    let word = |at: u8| unsafe {
        let at = at as usize % (2 * block_words);
        if at < block_words {
            blocks_in.cast::<u64>().add(at)
        } else {
            blocks_out.cast::<u64>().add(at)
        }
    };
    for step in steps {
        match step {
            Step::Word { at, value } => unsafe { word(at).write_volatile(value) },
            Step::Nudge { at, by, flags } => unsafe {
                let at = word(if at % 2 == 0 { 0 } else { block_words as u8 });
                let cursor = at.read_volatile() & !7;
                at.write_volatile(cursor.wrapping_add_signed(i64::from(by) * 8) | u64::from(flags % 4));
            },
            Step::Data { at, value } => unsafe {
                let at = at as usize % (CAPACITY as usize / 8);
                data.add(at).write_volatile(value);
                data.add(at + CAPACITY as usize / 8).write_volatile(value);
            },
            Step::Receive => {
                if let Ok(Some(frame)) = consumer.peek() {
                    let mut payload = vec![MaybeUninit::new(0u8); frame.len()];
                    consumer.copy_part(&frame, 0, &mut payload);
                    let _ring = consumer.release(frame);
                }
            }
            Step::Span { most } => {
                let mut span = Vec::new();
                if consumer.copy_span(&mut span, most as usize).is_ok() {
                    let size = Frames::new(&span)
                        .map(|(_, payload)| sinew_ring::frame_size(payload.len() as u64))
                        .sum();
                    let _ring = consumer.release_span(size);
                }
            }
            Step::Stage { len } => {
                let _result = producer.stage(1, &vec![7; len as usize % 300]);
            }
            Step::Publish => {
                let _ring = producer.publish();
            }
            Step::Send { len } => {
                let _result = producer.send(1, &vec![7; len as usize % 300]);
            }
            Step::Reserve { len, commit } => {
                let len = len as usize % 300;
                if let Ok(Some(space)) = producer.reserve(len) {
                    unsafe { (*space.as_ptr()).fill(9) };
                    let _result = producer.commit(2, commit as usize % (len + 1));
                }
            }
            Step::Arm => {
                consumer.arm();
                producer.arm(producer.cursor_for(8), || ());
                consumer.disarm();
                producer.disarm();
            }
            Step::State => {
                let _state = (consumer.peer_state(), producer.peer_state());
            }
        }
    }
    drop((consumer, producer));
    unsafe {
        drop(Box::from_raw(incoming));
        drop(Box::from_raw(outgoing));
    }
});
