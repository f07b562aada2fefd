//! What goes in at one end comes out at the other.
#![allow(clippy::unwrap_used)]

mod process;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use process::{Place, noise, same, start, start_with};

/// Sends, and gives what was printed.
fn through(send: &[&str], recv: &[&str], input: Option<&[u8]>) -> Vec<u8> {
    let place = Place::new();
    let address = place.address();
    let receiver = start(&[&["recv", &address], recv].concat());
    let arguments = [&["send", &address], send].concat();
    let sender = match input {
        Some(input) => start_with(&arguments, input),
        None => start(&arguments),
    };
    sender.end().done();
    let printed = receiver.end().done();
    assert!(!place.path().exists());
    printed
}

#[test]
fn arguments_are_messages() {
    let printed = through(&["one", "two words", "", "--", "-3"], &[], None);
    same(&printed, b"one\ntwo words\n\n-3\n");
}

#[test]
fn lines_are_messages() {
    same(
        &through(&[], &[], Some(b"one\n\ntwo\r\n")),
        b"one\n\ntwo\r\n",
    );
    let printed = through(&[], &["--json"], Some(b"one\n\nno newline"));
    same(
        &printed,
        b"{\"payload\":\"one\"}\n{\"payload\":\"\"}\n{\"payload\":\"no newline\"}\n",
    );
}

#[test]
fn no_input_is_no_message() {
    same(&through(&[], &[], Some(b"")), b"");
    same(&through(&["--raw"], &[], Some(b"")), b"");
}

#[test]
fn lines_need_not_be_text() {
    let mut input = noise(1 << 20);
    input.push(b'\n');
    same(&through(&[], &[], Some(&input)), &input);
}

#[test]
fn long_lines() {
    let input = [
        vec![b'a'; 200_000],
        b"\nshort\n".to_vec(),
        vec![b'b'; 5_000_000],
        b"\n".to_vec(),
    ]
    .concat();
    same(&through(&[], &[], Some(&input)), &input);
}

#[test]
fn json_has_bytes_that_are_no_text_in_base64() {
    let printed = through(
        &["--raw", "--chunk", "4"],
        &["--json"],
        Some(b"\xff\x00\xfe\x01ab\"\n"),
    );
    same(
        &printed,
        b"{\"payload_base64\":\"/wD+AQ==\"}\n{\"payload\":\"ab\\\"\\n\"}\n",
    );
}

#[test]
fn raw_is_byte_for_byte() {
    let input = noise(3_000_001);
    same(&through(&["--raw"], &["--raw"], Some(&input)), &input);
    for chunk in ["1000", "1M", "300K"] {
        same(
            &through(&["--raw", "--chunk", chunk], &["--raw"], Some(&input)),
            &input,
        );
    }
    same(
        &through(
            &["--raw", "--chunk", "1"],
            &["--raw"],
            Some(&input[..10_000]),
        ),
        &input[..10_000],
    );
}

#[test]
fn raw_messages_are_whole_chunks() {
    let printed = through(
        &["--raw", "--chunk", "1K"],
        &["--json"],
        Some(&vec![b'x'; 10_000]),
    );
    let lengths: Vec<_> = printed
        .split_inclusive(|byte| *byte == b'\n')
        .map(|line| line.len() - "{\"payload\":\"\"}\n".len())
        .collect();
    assert_eq!(lengths, [vec![1024; 9], vec![10_000 - 9 * 1024]].concat());
}

#[test]
fn payloads_side_by_side() {
    same(&through(&["one", "two"], &["--raw"], None), b"onetwo");
}

#[test]
fn a_large_file() {
    let input = noise(64 << 20);
    same(&through(&["--raw"], &["--raw"], Some(&input)), &input);
}

#[test]
fn a_large_text() {
    use std::fmt::Write;
    let mut input = String::new();
    for number in 0..1_000_000 {
        writeln!(input, "{number}").unwrap();
    }
    same(&through(&[], &[], Some(input.as_bytes())), input.as_bytes());
}

#[test]
fn the_parameters_of_an_address_serve_both_ends() {
    let place = Place::new();
    let address = format!(
        "{}?mode=600&capacity=8K&threshold=1K&wait=park&max-message=1M&timeout=30s",
        place.address()
    );
    let receiver = start(&["recv", "--raw", &address]);
    let input = noise(100_000);
    start_with(
        &["send", "--raw", "--chunk", "3000", &address],
        input.clone(),
    )
    .end()
    .done();
    same(&receiver.end().done(), &input);
}

/// A peer that is not Sinew, and knows nothing of messages.
#[test]
fn raw_over_sockets_is_byte_for_byte() {
    let place = Place::new();
    let listener = UnixListener::bind(place.path()).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let input = noise(300_000);
    for address in [
        format!("unix:{}", place.path().display()),
        format!("tcp:{}", tcp.local_addr().unwrap()),
    ] {
        let accept = || -> Box<dyn ReadWrite> {
            match address.starts_with("unix:") {
                true => Box::new(listener.accept().unwrap().0),
                false => Box::new(tcp.accept().unwrap().0),
            }
        };
        let sender = start_with(&["send", "--raw", &address], input.clone());
        let mut received = Vec::new();
        accept().read_to_end(&mut received).unwrap();
        same(&received, &input);
        sender.end().done();

        let receiver = start(&["recv", "--raw", &format!("{address}?connect")]);
        accept().write_all(&input).unwrap();
        same(&receiver.end().done(), &input);
    }
}

trait ReadWrite: Read + Write {}

impl<T: Read + Write> ReadWrite for T {}
