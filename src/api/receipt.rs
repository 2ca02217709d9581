//! Receipts: what a client holds to find its own events again.
//!
//! A receipt names a place in a log: the life of the log in which it was given out, and the sequence of the request's
//! last event. The flush moves through a log in order, and stores with the events which life wrote them and how far the
//! flush is. So any server on the same database can answer "is this in the database?", even if a copy of the log has
//! given out the same sequences. To clients a receipt is opaque: 33 to 48 hexadecimal digits, which need no encoding in
//! a query string.

use std::fmt;

use uuid::Uuid;

/// Hexadecimal digits of the life; the sequence takes the rest.
const LIFE_DIGITS: usize = 32;
/// Most digits of a sequence.
const SEQUENCE_DIGITS_MAX: usize = 16;

/// A place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The life of the log. In a receipt of a release that knew no lives, the identity of the log.
    pub life: Uuid,
    /// Sequence of the last event of the request, at least 1.
    pub through: u64,
}

impl Receipt {
    /// Most characters of a receipt.
    pub const CHARS_MAX: usize = LIFE_DIGITS + SEQUENCE_DIGITS_MAX;
    /// The message to a client that sends a malformed receipt.
    pub const FORM: &str = "must be the `receipt` in the answer to a POST of events, unchanged";

    /// Reads a receipt as this or another server wrote it.
    pub fn parse(text: &str) -> Option<Self> {
        // One spelling for each receipt: the parsers below would also take `+`, braces and capitals.
        let is_hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if !text.bytes().all(is_hex) || text.len() > Self::CHARS_MAX {
            return None;
        }
        let (life, through) = text.split_at_checked(LIFE_DIGITS)?;
        if through.starts_with('0') {
            return None;
        }
        Some(Self {
            life: Uuid::try_parse(life).ok()?,
            through: u64::from_str_radix(through, 16).ok()?,
        })
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:x}", self.life.simple(), self.through)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn receipt(through: u64) -> Receipt {
        let life = Uuid::from_u128(0x0a0b_0c0d_0000_0000_0000_0000_0000_0001);
        Receipt { life, through }
    }

    #[test]
    fn what_is_written_is_read_back() {
        assert_eq!(receipt(0x2a).to_string(), "0a0b0c0d0000000000000000000000012a");
        for through in [1, 15, 16, 1 << 40, u64::MAX] {
            let text = receipt(through).to_string();
            assert!(text.len() <= Receipt::CHARS_MAX);
            assert_eq!(Receipt::parse(&text), Some(receipt(through)), "{text}");
        }
    }

    #[test]
    fn nothing_else_is_a_receipt() {
        let log = "0a0b0c0d000000000000000000000001";
        let not_receipts = [
            String::new(),
            "1".to_owned(),
            log.to_owned(),
            format!("{log}0"),
            format!("{log}01"),
            format!("{log}+1"),
            format!("{log}-1"),
            format!("{log}A"),
            format!("{}1", log.to_uppercase()),
            format!("{log}1 "),
            format!("{log}10000000000000000"),
            format!("{}é1", &log[1..]),
        ];
        for text in not_receipts {
            assert_eq!(Receipt::parse(&text), None, "{text:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn any_receipt_is_read_back(life: u128, through in 1..=u64::MAX) {
            let receipt = Receipt { life: Uuid::from_u128(life), through };
            prop_assert_eq!(Receipt::parse(&receipt.to_string()), Some(receipt));
        }

        #[test]
        fn a_receipt_has_one_spelling(text in "[0-9a-f]{30,50}|[0-9a-fA-F+{}-]{30,50}|\\PC{0,50}") {
            if let Some(receipt) = Receipt::parse(&text) {
                prop_assert!(receipt.through > 0);
                prop_assert_eq!(receipt.to_string(), text);
            }
        }
    }
}
