//! "Did you mean": the nearest of a few known names.

/// The candidate that `given` most probably is a slip of, if any is near enough.
pub(super) fn find<'a>(
    given: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let longer = given.len().max(candidate.len());
            let limit = (longer / 3).max(1);
            // Also keeps the cost independent of the length of what was given.
            if given.len().abs_diff(candidate.len()) > limit {
                return None;
            }
            let distance = distance(given.as_bytes(), candidate.as_bytes());
            (distance <= limit).then_some((distance, candidate))
        })
        .min_by_key(|&(distance, _)| distance)
        .map(|(_, candidate)| candidate)
}

/// The optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut before = vec![0; b.len() + 1];
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut current = vec![i; b.len() + 1];
        for j in 1..=b.len() {
            let replaced = previous[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            current[j] = replaced.min(previous[j] + 1).min(current[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                current[j] = current[j].min(before[j - 2] + 1);
            }
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        for (a, b, expected) in [
            ("", "", 0),
            ("", "abc", 3),
            ("abc", "", 3),
            ("maxmgs", "maxmsg", 1),
            ("kitten", "sitting", 3),
            ("ca", "abc", 3),
        ] {
            assert_eq!(distance(a.as_bytes(), b.as_bytes()), expected, "{a} {b}");
        }
    }

    #[test]
    fn only_what_is_near() {
        let names = ["create", "maxmsg", "msgsize"];
        assert_eq!(find("maxmsgs", names), Some("maxmsg"));
        assert_eq!(find("craete", names), Some("create"));
        assert_eq!(find("recursive", names), None);
        assert_eq!(find("", names), None);
        assert_eq!(find(&"x".repeat(1 << 20), names), None);
    }
}
