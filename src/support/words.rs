//! Wording that messages of several layers share.

/// A number and its noun: `1 event`, `2 events`.
pub(crate) fn plural(number: impl TryInto<u64>, noun: &str) -> String {
    // No count exceeds `u64::MAX`.
    let number = number.try_into().unwrap_or(u64::MAX);
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{s}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_singular_and_nothing_is_not() {
        assert_eq!(plural(0_u64, "event"), "0 events");
        assert_eq!(plural(1_usize, "event"), "1 event");
        assert_eq!(plural(2_u32, "event"), "2 events");
    }
}
