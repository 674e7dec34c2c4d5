//! Which characters of a text a reader can see, and which invisible ones a script or an emoji needs.

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{
        CanonicalCombiningClass, DefaultIgnorableCodePoint, ExtendedPictographic, GeneralCategory,
        JoiningType, PrependedConcatenationMark, Script,
    },
};

const ZERO_WIDTH_NON_JOINER: char = '\u{200c}';
const ZERO_WIDTH_JOINER: char = '\u{200d}';
const BLACK_FLAG: char = '\u{1f3f4}';
/// The flags that are written with tag characters (Unicode, RGI emoji tag sequences). A tag character is its ASCII
/// character plus 0xE0000.
const TAGGED_FLAGS: [&str; 3] = ["gbeng\u{7f}", "gbsct\u{7f}", "gbwls\u{7f}"];

/// Whether a reader cannot see a character, or sees others differently because of it: control, format, bidi and
/// private characters, fillers, variation selectors and tags. Spaces are not among them.
pub fn is_invisible(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    match CodePointMapData::<GeneralCategory>::new().get(c) {
        GeneralCategory::Control
        | GeneralCategory::LineSeparator
        | GeneralCategory::ParagraphSeparator
        | GeneralCategory::PrivateUse => true,
        GeneralCategory::Format => !is_sign_before_digits(c),
        // The empty pattern of Braille, the placeholder of an object, and code points that are no characters.
        _ => matches!(c, '\u{2800}' | '\u{fffc}') || u32::from(c) & 0xFFFE == 0xFFFE || is_ignorable(c),
    }
}

fn is_ignorable(c: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// Whether a format character has a shape, such as the Arabic number sign.
fn is_sign_before_digits(c: char) -> bool {
    CodePointSetData::new::<PrependedConcatenationMark>().contains(c)
}

/// The text without invisible characters, except those that its script or an emoji needs. Every kind of space
/// becomes a space.
pub fn without_invisible(text: &str) -> String {
    let characters: Vec<char> = text.chars().collect();
    let mut kept = String::with_capacity(text.len());
    for (at, c) in characters.iter().copied().enumerate() {
        if c.is_whitespace() {
            kept.push(' ');
        } else if !is_invisible(c) || is_needed(&kept, c, &characters[at + 1..]) {
            kept.push(c);
        }
    }
    kept
}

/// Whether the text between `before` and `after` looks wrong without this invisible character.
fn is_needed(before: &str, c: char, after: &[char]) -> bool {
    let last = before.chars().next_back().unwrap_or_default();
    match c {
        ZERO_WIDTH_JOINER => is_virama(last) || joins_emoji(before, after),
        // RFC 5892, appendix A.1.
        ZERO_WIDTH_NON_JOINER => is_virama(last) || separates_letters(before, after),
        // The presentation of an emoji; that of a digit only in a keycap.
        '\u{fe0e}' | '\u{fe0f}' => {
            is_pictographic(last)
                || matches!(last, '0'..='9' | '#' | '*') && after.first() == Some(&'\u{20e3}')
        }
        // The shape of a Mongolian letter.
        '\u{180b}'..='\u{180d}' | '\u{180f}' => matches!(last, '\u{1820}'..='\u{18aa}'),
        // The shape of a Chinese character in a name.
        '\u{e0100}'..='\u{e01ef}' => CodePointMapData::<Script>::new().get(last) == Script::Han,
        _ => is_tag(c) && is_in_flag(before, c, after),
    }
}

/// The sign that kills a vowel in Indian scripts. The joiner after it chooses the shape of the letters.
fn is_virama(c: char) -> bool {
    CodePointMapData::<CanonicalCombiningClass>::new().get(c) == CanonicalCombiningClass::Virama
}

fn is_pictographic(c: char) -> bool {
    CodePointSetData::new::<ExtendedPictographic>().contains(c)
}

/// Whether an emoji ends here and the next one follows, so that both are one picture.
fn joins_emoji(before: &str, after: &[char]) -> bool {
    let is_modifier = |c: &char| matches!(c, '\u{fe0f}' | '\u{1f3fb}'..='\u{1f3ff}');
    let picture = before.chars().rev().find(|c| !is_modifier(c));
    picture.is_some_and(is_pictographic) && after.first().copied().is_some_and(is_pictographic)
}

/// Whether the letters on both sides would join.
fn separates_letters(before: &str, after: &[char]) -> bool {
    let joining = |c: char| CodePointMapData::<JoiningType>::new().get(c);
    let is_letter = |one: &JoiningType| *one != JoiningType::Transparent;
    let left = before.chars().rev().map(joining).find(is_letter);
    let right = after.iter().copied().map(joining).find(is_letter);
    left.is_some_and(|one| [JoiningType::LeftJoining, JoiningType::DualJoining].contains(&one))
        && right.is_some_and(|one| [JoiningType::RightJoining, JoiningType::DualJoining].contains(&one))
}

fn is_tag(c: char) -> bool {
    matches!(c, '\u{e0020}'..='\u{e007f}')
}

fn is_in_flag(before: &str, c: char, after: &[char]) -> bool {
    let start = before.trim_end_matches(is_tag);
    let earlier = before[start.len()..].chars();
    let later = after.iter().copied().take_while(|c| is_tag(*c));
    let ascii = |c: char| char::from_u32(u32::from(c) - 0xE0000).unwrap_or_default();
    let tags: String = earlier.chain([c]).chain(later).map(ascii).collect();
    start.ends_with(BLACK_FLAG) && TAGGED_FLAGS.contains(&tags.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_are_known() {
        for c in "\u{0}\u{1b}\u{7f}\u{85}\u{ad}\u{34f}\u{61c}\u{115f}\u{1160}\u{17b4}\u{180b}\u{180e}\u{200b}\u{200c}\
                  \u{200d}\u{200e}\u{202a}\u{202e}\u{2028}\u{2060}\u{2066}\u{2069}\u{2800}\u{3164}\u{e000}\u{fe0f}\
                  \u{feff}\u{ffa0}\u{fff9}\u{fffc}\u{fffe}\u{1d173}\u{e0001}\u{e0041}\u{e0100}\u{10ffff}"
            .chars()
        {
            assert!(is_invisible(c), "{c:?}");
        }
        for c in "aé字ا\u{301}\u{600}\u{94d}👍€«\u{2236}\u{fffd} \u{a0}\u{3000}".chars() {
            assert!(!is_invisible(c), "{c:?}");
        }
    }

    #[test]
    fn joiners_stay_where_a_script_or_an_emoji_needs_them() {
        for text in [
            "می\u{200c}خواهم",
            "क्\u{200d}ष",
            "ශ්\u{200d}රී",
            "ন্\u{200c}ত",
            "👩\u{200d}🚀",
            "👩🏽\u{200d}❤\u{fe0f}\u{200d}👨🏿",
            "❤\u{fe0f}",
            "1\u{fe0f}\u{20e3}",
            "🏴\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}",
            "葛\u{e0100}",
            "ᠠ\u{180b}",
        ] {
            assert_eq!(without_invisible(text), text, "{text:?}");
        }
        for (text, expected) in [
            ("pay\u{200d}pal", "paypal"),
            ("pay\u{200c}pal", "paypal"),
            ("a\u{fe0f}b", "ab"),
            ("1\u{fe0f}", "1"),
            ("\u{200d}👍", "👍"),
            ("👍\u{200d}", "👍"),
            ("👍\u{200d}a", "👍a"),
            ("क्\u{200d}\u{200d}", "क्\u{200d}"),
            ("🏴\u{e0068}\u{e0069}\u{e007f}", "🏴"),
            ("a\u{e0067}\u{e0062}\u{e0065}\u{e006e}\u{e0067}\u{e007f}", "a"),
            ("a\u{202e}b\u{2066}c\u{3164}d", "abcd"),
            ("a\u{3000}\tb", "a  b"),
        ] {
            assert_eq!(without_invisible(text), expected, "{text:?}");
        }
    }
}
