//! A peer that sends arbitrary packets and goes: an error, or a channel that ends; never a panic or a hang.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use rustix::net::{AddressFamily, SendFlags, SocketFlags, SocketType};
use sinew_shm::Options;

fuzz_target!(|input: (bool, Vec<Vec<u8>>)| {
    let (accepts, packets) = input;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (ours, theirs) = rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    for (index, packet) in packets.iter().take(8).enumerate() {
        let mut packet = packet.clone();
        packet.truncate(150);
        // Past the magic and the kind, where random bytes would never come.
        if index % 2 == 0 && packet.len() >= 16 {
            packet.resize(128, 0);
            packet[..8].copy_from_slice(b"SINEWSHM");
            packet[8] &= 7;
            packet[9..12].fill(0);
        }
        let _full = rustix::net::send(&theirs, &packet, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
    }
    let _gone = rustix::net::shutdown(&theirs, rustix::net::Shutdown::Write);
    let options = Options::new().capacity(4096).handshake_timeout(Duration::from_secs(1));
    runtime.block_on(async {
        let channel = if accepts {
            options.accept_on(ours).await
        } else {
            options.connect_on(ours).await
        };
        // No packet here carries a descriptor, so no handshake can be completed.
        assert!(channel.is_err());
    });
});
