//! What the value of a parameter can be.

use std::ops::Range;
use std::time::Duration;

use super::fault::Fault;
use super::nearest;

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// There or not, without a value.
    Flag,
    /// A decimal number from the first to the second.
    Integer(i64, i64),
    /// Bytes, with K, M, G or T.
    Size,
    /// Bytes, as for `Size`, in whole multiples of this.
    MultipleOf(u64),
    /// A number with its unit of time.
    Duration,
    /// Permission bits, octal.
    Mode,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// Some of these words, with commas.
    Choices(&'static [&'static str]),
    /// UTF-8.
    Text,
    /// Any bytes but NUL: a path.
    Path,
}

impl Kind {
    /// Checks a value; the fault's range is in the decoded value.
    pub(super) fn check(self, value: &[u8]) -> Result<(), Fault> {
        let whole = 0..value.len();
        if value.is_empty() {
            return Err(Fault::new(whole, "the value is empty"));
        }
        if let Self::Path = self {
            return match value.iter().position(|&byte| byte == 0) {
                Some(at) => Err(Fault::new(at..at + 1, "a path cannot contain a NUL")),
                None => Ok(()),
            };
        }
        let text =
            std::str::from_utf8(value).map_err(|_| Fault::new(whole.clone(), "not UTF-8"))?;
        match self {
            Self::Flag | Self::Text | Self::Path => Ok(()),
            Self::Integer(least, greatest) => integer(text, least, greatest).map(drop),
            Self::Size => size(text).map(drop),
            Self::MultipleOf(unit) => {
                if size(text)?.is_multiple_of(unit) {
                    Ok(())
                } else {
                    Err(Fault::new(
                        whole,
                        format!("`{text}` is not a multiple of {unit}"),
                    ))
                }
            }
            Self::Duration => duration(text).map(drop),
            Self::Mode => mode(text).map(drop),
            Self::Choice(words) => choice(text, whole, words),
            Self::Choices(words) => {
                let mut at = 0;
                for word in text.split(',') {
                    choice(word, at..at + word.len(), words)?;
                    at += word.len() + 1;
                }
                Ok(())
            }
        }
    }
}

fn choice(word: &str, range: Range<usize>, words: &[&'static str]) -> Result<(), Fault> {
    if words.contains(&word) {
        return Ok(());
    }
    let fault = Fault::new(range, format!("unknown value `{word}`"));
    Err(match nearest::find(word, words.iter().copied()) {
        Some(near) => fault.meant(near),
        None => fault.remedy(format!("it can be {}", words.join(", "))),
    })
}

/// The digits only: no sign, no space, as `from_str` would let through.
pub(super) fn is_decimal(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn integer(text: &str, least: i64, greatest: i64) -> Result<i64, Fault> {
    let fault = |reason: String| {
        Err(Fault::new(0..text.len(), reason)
            .remedy(format!("write a number from {least} to {greatest}")))
    };
    if !is_decimal(text.strip_prefix('-').unwrap_or(text)) {
        return fault(format!("`{text}` is not a number"));
    }
    match text.parse() {
        Ok(number) if (least..=greatest).contains(&number) => Ok(number),
        _ => fault(format!("`{text}` is out of range")),
    }
}

pub(super) fn size(text: &str) -> Result<u64, Fault> {
    const UNITS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let (digits, shift) = UNITS
        .iter()
        .find_map(|&(unit, shift)| Some((text.strip_suffix(unit)?, shift)))
        .unwrap_or((text, 0));
    if !is_decimal(digits) {
        return Err(Fault::new(0..text.len(), format!("`{text}` is not a size"))
            .remedy("write a number of bytes, or a number with K, M, G or T (powers of 1024)"));
    }
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1 << shift))
        .ok_or_else(|| Fault::new(0..text.len(), format!("`{text}` is too large")))
}

pub(super) fn duration(text: &str) -> Result<Duration, Fault> {
    const UNITS: [(&str, u64); 6] = [
        ("ns", 1),
        ("us", 1_000),
        ("ms", 1_000_000),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];
    let parts = UNITS.iter().find_map(|&(unit, nanoseconds)| {
        let digits = text.strip_suffix(unit)?;
        is_decimal(digits).then_some((digits, nanoseconds))
    });
    let Some((digits, nanoseconds)) = parts else {
        return Err(
            Fault::new(0..text.len(), format!("`{text}` is not a duration"))
                .remedy("write a number with ns, us, ms, s, m or h"),
        );
    };
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(nanoseconds))
        .map(Duration::from_nanos)
        .ok_or_else(|| Fault::new(0..text.len(), format!("`{text}` is too long")))
}

pub(super) fn mode(text: &str) -> Result<u32, Fault> {
    let octal = text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    match u32::from_str_radix(text, 8) {
        Ok(mode) if octal && mode <= 0o7777 => Ok(mode),
        _ => Err(Fault::new(0..text.len(), format!("`{text}` is not a mode"))
            .remedy("write permission bits in octal, such as 600")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("4096", Some(4096)),
            ("64K", Some(64 << 10)),
            ("1M", Some(1 << 20)),
            ("2G", Some(2 << 30)),
            ("1T", Some(1 << 40)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("16777216T", None),
            ("1k", None),
            ("K", None),
            ("+1", None),
            ("1KM", None),
            ("", None),
        ] {
            assert_eq!(size(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("500ms", Some(Duration::from_millis(500))),
            ("5s", Some(Duration::from_secs(5))),
            ("7us", Some(Duration::from_micros(7))),
            ("9ns", Some(Duration::from_nanos(9))),
            ("2m", Some(Duration::from_secs(120))),
            ("1h", Some(Duration::from_secs(3600))),
            ("0s", Some(Duration::ZERO)),
            ("5", None),
            ("s", None),
            ("-1s", None),
            ("1.5s", None),
            ("99999999999999h", None),
        ] {
            assert_eq!(duration(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn modes() {
        assert_eq!(mode("600").ok(), Some(0o600));
        assert_eq!(mode("0660").ok(), Some(0o660));
        for text in ["", "8", "+7", "10000", "0o600", "rw"] {
            assert!(mode(text).is_err(), "{text}");
        }
    }
}
