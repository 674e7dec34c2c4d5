//! Telephone numbers as people paste and type them: in the digits of their script, with typographic hyphens and
//! blanks, and with the invisible marks that programs put around them.

/// The zeros of the scripts that people type numbers in; the other nine digits follow each (Unicode, general
/// category Nd): Arabic, Persian, N'Ko, the scripts of India, Thai, Lao, Tibetan, Myanmar, Khmer, Mongolian,
/// full-width.
const ZEROS: [u32; 20] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0,
    0xf20, 0x1040, 0x17e0, 0x1810, 0xff10,
];

/// The number with ASCII digits and separators. `None` if it has any other character: the library would also parse
/// letters for digits, extensions and URIs.
pub fn in_ascii(number: &str) -> Option<String> {
    let mut text = String::with_capacity(number.len());
    for c in number.chars() {
        text.push(match c {
            '0'..='9' | '+' | '(' | ')' | '-' | '.' | '/' | ' ' => c,
            '\u{ff0b}' => '+',
            '\u{ff08}' => '(',
            '\u{ff09}' => ')',
            '\u{2010}'..='\u{2015}' | '\u{2212}' | '\u{30fc}' | '\u{fe58}' | '\u{fe63}' | '\u{ff0d}' => '-',
            '\u{ff0e}' => '.',
            '\u{ff0f}' => '/',
            '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{205f}' | '\u{3000}' => ' ',
            // Soft hyphens, joiners, and the marks and isolates for direction.
            '\u{ad}'
            | '\u{200b}'..='\u{200f}'
            | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{2069}'
            | '\u{feff}' => {
                continue;
            }
            other => {
                let zero = ZEROS.into_iter().find(|&zero| (zero..zero + 10).contains(&u32::from(other)))?;
                char::from_digit(u32::from(other) - zero, 10)?
            }
        });
    }
    Some(text)
}
