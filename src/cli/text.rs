//! Text for a terminal: numbers to be read, names that cannot drive it, and how wide they come out.

/// A number with its thousands set apart: `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of something, with its thousands set apart: `1 event`, `12,345 events`.
pub(super) fn counted(number: u64, noun: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{} {noun}{s}", grouped(number))
}

/// Escapes what a terminal would act on instead of showing it.
pub(super) fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        if acts_on_a_terminal(character) {
            out.extend(character.escape_unicode());
        } else {
            out.push(character);
        }
    }
    out
}

/// Whether a character does something else than to appear: control characters, and those that turn the direction of writing around,
/// break lines or hide text. (The joiners U+200C and U+200D belong to the spelling of some languages.)
pub(super) fn acts_on_a_terminal(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// How many cells of a terminal a text takes. Terminals disagree about the rarer characters; this is right for names that occur.
pub(super) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(character: char) -> usize {
    match character {
        // Joiners, variation selectors, and marks that sit on the letter before them.
        '\u{300}'..='\u{36f}'
        | '\u{483}'..='\u{489}'
        | '\u{591}'..='\u{5bd}'
        | '\u{610}'..='\u{61a}'
        | '\u{64b}'..='\u{65f}'
        | '\u{200c}'
        | '\u{200d}'
        | '\u{20d0}'..='\u{20f0}'
        | '\u{302a}'..='\u{302d}'
        | '\u{3099}'
        | '\u{309a}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{fe20}'..='\u{fe2f}'
        | '\u{e0100}'..='\u{e01ef}' => 0,
        // East Asian scripts, full-width forms and pictures.
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{33ff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{a4cf}'
        | '\u{a960}'..='\u{a97f}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1f64f}'
        | '\u{1f680}'..='\u{1f6ff}'
        | '\u{1f900}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let texts = [0, 999, 1000, 336_776, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "336,776", "1,234,567"]);
        let counts = [0, 1, 2, 1000].map(|number| counted(number, "event"));
        assert_eq!(counts, ["0 events", "1 event", "2 events", "1,000 events"]);
    }

    #[test]
    fn nothing_that_drives_a_terminal_comes_through() {
        assert_eq!(
            printable("a\u{1b}[2J\r\n\u{7f}\u{9b}1m"),
            "a\\u{1b}[2J\\u{d}\\u{a}\\u{7f}\\u{9b}1m"
        );
        assert_eq!(
            printable("\u{202e}b\u{2028}\u{feff}c"),
            "\\u{202e}b\\u{2028}\\u{feff}c"
        );
        assert_eq!(printable("né 日本 👍🏽"), "né 日本 👍🏽");
    }

    #[test]
    fn wide_letters_take_two_cells_and_marks_none() {
        let widths = ["", "abc", "né", "ne\u{301}", "日本", "ｗｅｂ", "한국", "👍"].map(width);
        assert_eq!(widths, [0, 3, 2, 2, 4, 6, 4, 2]);
    }
}
