//! The packets of `docs/protocol/vectors`, byte by byte.

use sinew_memory::Layout;

use crate::wire::{Features, Hello, Offer, PACKET, Packet, Reason, Terms};

/// A file's bytes: `size N`, and lines of `OFFSET: BYTES # comment`, both in hexadecimal.
fn read(name: &str) -> Vec<u8> {
    let path = format!(
        "{}/../../docs/protocol/vectors/{name}.txt",
        env!("CARGO_MANIFEST_DIR")
    );
    let mut bytes = Vec::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        let line = line.split('#').next().unwrap().trim();
        if let Some(size) = line.strip_prefix("size ") {
            bytes.resize(size.parse().unwrap(), 0);
        } else if let Some((offset, values)) = line.split_once(": ") {
            let offset = usize::from_str_radix(offset, 16).unwrap();
            for (byte, value) in bytes[offset..].iter_mut().zip(values.split_whitespace()) {
                *byte = u8::from_str_radix(value, 16).unwrap();
            }
        }
    }
    bytes
}

fn check(name: &str, packet: Packet) {
    let bytes = read(name);
    assert_eq!(bytes.len(), PACKET, "{name}");
    assert_eq!(packet.encode()[..], bytes[..], "{name}");
    assert_eq!(Packet::decode(&bytes).unwrap(), packet, "{name}");
}

#[test]
fn packets_are_those_of_the_document() {
    let features = Features::EXPRESS.union(Features::EPOLL_BELL);
    let required = Terms {
        required: Features::EXPRESS,
        ..Terms::new(features)
    };
    check(
        "hello",
        Packet::Hello(Hello {
            least_version: 2,
            most_version: 3,
            terms: required,
        }),
    );
    let offer = |terms, control, data, max_message| Offer {
        version: 2,
        terms,
        layout: Layout::new(control, data).unwrap(),
        max_message,
    };
    let accept = offer(Terms::new(features), 4096, 65536, 1 << 30);
    check("accept", Packet::Accept(accept));
    check("ready", Packet::Ready(offer(required, 8192, 4096, 100)));
    check("reject-policy", Packet::Reject(Reason::Policy));
    let missing = Features(1 << 40 | 1 << 1);
    check("reject-features", Packet::Reject(Reason::Features(missing)));
    check("open", Packet::Open);
}
