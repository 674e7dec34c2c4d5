//! Figures as people read them: medians, units, Markdown.

use std::time::Duration;

/// A cell of a table.
pub type Cell = String;

/// Prints a table under a heading and what its columns mean; nothing if it has no rows.
pub fn print<const N: usize>(heading: &str, note: &str, head: [&str; N], rows: &[[Cell; N]]) {
    if rows.is_empty() {
        return;
    }
    println!("### {heading}\n\n{note}\n\n| {} |\n|{}", head.join(" | "), " ---: |".repeat(N));
    for row in rows {
        println!("| {} |", row.join(" | "));
    }
    println!();
}

/// The value in the middle.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value that this share of the (sorted) values does not exceed.
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let at = (sorted.len() as f64 * share) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// A count with its thousands apart.
pub fn count(value: f64) -> Cell {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A length of time in milliseconds.
pub fn millis(length: Duration) -> Cell {
    let millis = length.as_secs_f64() * 1000.0;
    if millis < 10.0 { format!("{millis:.2} ms") } else { format!("{millis:.0} ms") }
}
