/// Whether the counts are CI's.
pub fn is_full() -> bool {
    divisor() == 1
}

/// A count that is `full` in CI and a fraction of it elsewhere, at least one.
pub fn scaled(full: u64) -> u64 {
    (full / divisor()).max(1)
}

/// The one constant by which all heavy counts scale.
fn divisor() -> u64 {
    match std::env::var("SINEW_TEST_SCALE").as_deref() {
        Ok("ci") => 1,
        Ok(number) => number.parse().unwrap_or(20),
        Err(_) => 20,
    }
    .max(1)
}

/// For how long what a test has let go may still be there, with others running beside it. What has leaked stays.
pub(crate) fn patience() -> std::time::Duration {
    std::time::Duration::from_secs(if is_full() { 600 } else { 60 })
}
