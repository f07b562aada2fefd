//! Percent-encoding: what is not plain text, or would end its part, is written `%XX`.

use std::fmt::{self, Write};
use std::ops::Range;

/// Writes `bytes` so that [`decode`] gives them back and none of `special` stands in the result.
pub(super) fn encode(out: &mut impl Write, bytes: &[u8], special: &[char]) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '%' || c.is_control() || special.contains(&c) {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    write!(out, "%{byte:02X}")?;
                }
            } else {
                out.write_char(c)?;
            }
        }
        for byte in chunk.invalid() {
            write!(out, "%{byte:02X}")?;
        }
    }
    Ok(())
}

/// Reads what [`encode`] wrote. The error is the place of a `%` that no two digits follow.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, Range<usize>> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        if byte == b'%' {
            let digit = |offset: usize| bytes.get(at + offset).copied().and_then(hex);
            match (digit(1), digit(2)) {
                (Some(high), Some(low)) => decoded.push(high << 4 | low),
                _ => return Err(at..at + 1),
            }
            at += 3;
        } else {
            decoded.push(byte);
            at += 1;
        }
    }
    Ok(decoded)
}

/// Where in the encoded `text` the decoded byte number `offset` begins.
pub(super) fn encoded_offset(text: &str, offset: usize) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    for _ in 0..offset {
        at += if bytes.get(at) == Some(&b'%') { 3 } else { 1 };
    }
    at.min(text.len())
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_escaped() {
        let mut out = String::new();
        encode(&mut out, b"a b?c%\n\xff\xc3\xa9\xc2\x85&", &['?']).unwrap();
        assert_eq!(out, "a b%3Fc%25%0A%FF\u{e9}%C2%85&");
    }

    #[test]
    fn broken_escapes() {
        assert_eq!(decode("ab%"), Err(2..3));
        assert_eq!(decode("%4"), Err(0..1));
        assert_eq!(decode("%4g"), Err(0..1));
        assert_eq!(decode("%\u{e9}"), Err(0..1));
        assert_eq!(decode("%41%6a"), Ok(b"Aj".to_vec()));
    }

    proptest! {
        #[test]
        fn any_bytes_round_trip(bytes: Vec<u8>) {
            let mut out = String::new();
            encode(&mut out, &bytes, &['?', '&']).unwrap();
            prop_assert!(!out.contains(['?', '&']));
            prop_assert_eq!(decode(&out), Ok(bytes));
        }
    }
}
