//! Numbers and words out of bytes, without allocation. Messages are made only where something is wrong.

/// What a line gave, or what is wrong with it; the reader adds file and line number.
pub(super) type Parsed<T> = std::result::Result<T, String>;

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// True for what separates words within a line.
#[inline(always)]
pub(super) fn is_blank(byte: u8) -> bool {
    byte == b' ' || byte == b'\t' || byte == b'\r'
}

/// `at`, moved past blanks.
#[inline(always)]
pub(super) fn skip_blanks(line: &[u8], mut at: usize) -> usize {
    while at < line.len() && is_blank(line[at]) {
        at += 1;
    }
    at
}

/// One past the word that starts at `at`.
#[inline(always)]
pub(super) fn word_end(line: &[u8], mut at: usize) -> usize {
    while at < line.len() && !is_blank(line[at]) {
        at += 1;
    }
    at
}

/// The words of a line.
pub(super) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|byte| is_blank(*byte)).filter(|word| !word.is_empty())
}

/// The digits from `at`: their value and where they end; `None` if there are none, or more than 18.
#[inline(always)]
pub(super) fn digits(line: &[u8], at: usize) -> Option<(u64, usize)> {
    let mut value = 0u64;
    let mut end = at;
    while end < line.len() && line[end].is_ascii_digit() {
        value = value.wrapping_mul(10).wrapping_add(u64::from(line[end] - b'0'));
        end += 1;
    }
    (end > at && end - at <= 18).then_some((value, end))
}

/// A whole word of digits; `None` if it is anything else or has more than 18.
#[inline(always)]
pub(super) fn whole(word: &[u8]) -> Option<u64> {
    digits(word, 0).filter(|(_, end)| *end == word.len()).map(|(value, _)| value)
}

/// The number from `at` up to the next blank: the nearest double, and where it ends. `None` if it is no finite
/// number.
///
/// A mantissa below 2^53 and a power of ten up to 22 are both exact as doubles, so that one multiplication or
/// division rounds correctly; everything else takes the library's way.
#[inline(always)]
pub(super) fn number(line: &[u8], at: usize) -> Option<(f64, usize)> {
    let mut end = at;
    let negative = end < line.len() && line[end] == b'-';
    if end < line.len() && (line[end] == b'-' || line[end] == b'+') {
        end += 1;
    }
    let first = end;
    let (mut mantissa, mut decimals) = (0u64, 0usize);
    while end < line.len() && line[end].is_ascii_digit() {
        mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(line[end] - b'0'));
        end += 1;
    }
    let mut count = end - first;
    if end < line.len() && line[end] == b'.' {
        end += 1;
        let start = end;
        while end < line.len() && line[end].is_ascii_digit() {
            mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(line[end] - b'0'));
            end += 1;
        }
        decimals = end - start;
        count += decimals;
    }
    let plain = end == line.len() || is_blank(line[end]);
    if plain && count > 0 && count <= 19 && mantissa < 1 << 53 && decimals <= 22 {
        let value = mantissa as f64 / POWERS[decimals];
        return Some((if negative { -value } else { value }, end));
    }
    slow_number(line, at)
}

#[cold]
fn slow_number(line: &[u8], at: usize) -> Option<(f64, usize)> {
    let end = word_end(line, at);
    let word = std::str::from_utf8(&line[at..end]).ok()?;
    // The library also takes "inf" and "nan"; those are not finite.
    word.parse::<f64>().ok().filter(|value| value.is_finite()).map(|value| (value, end))
}

/// A number as f32: the nearest double, rounded.
///
/// # Errors
/// Not a number, not finite, or beyond the range of f32; `what` says whose value it is.
#[inline(always)]
pub(super) fn real(word: &[u8], what: &str) -> Parsed<f32> {
    match number(word, 0) {
        Some((value, end)) if end == word.len() && (value as f32).is_finite() => Ok(value as f32),
        _ => Err(bad_number(word, what)),
    }
}

/// Why `word` is no number that we take.
#[cold]
pub(super) fn bad_number(word: &[u8], what: &str) -> String {
    let shown = show(word);
    let bare = shown.trim_start_matches(['+', '-']).to_ascii_lowercase();
    if ["nan", "inf", "infinity"].contains(&bare.as_str()) {
        return format!("{what} {shown}; it must be a finite number");
    }
    match shown.parse::<f64>() {
        Ok(_) => format!("{what} {shown} is too large; at most 3.4e38 either side of 0"),
        Err(_) => format!("{what} {shown:?} is not a number"),
    }
}

/// A class label: a whole number, also written `+1` or `1.0`.
///
/// # Errors
/// Anything else, with a hint for several labels and for regression targets.
pub(super) fn label(word: &[u8]) -> Parsed<i64> {
    let limit = (1u64 << 53) as f64;
    match number(word, 0) {
        Some((value, end)) if end == word.len() && value.fract() == 0.0 && value.abs() <= limit => {
            Ok(value as i64)
        }
        _ => Err(bad_label(word)),
    }
}

/// Why `word` is no label that we take.
#[cold]
pub(super) fn bad_label(word: &[u8]) -> String {
    let shown = show(word);
    if word.contains(&b',') {
        format!("several labels ({shown}); each row has one class")
    } else if word.contains(&b':') {
        format!("{shown:?} where the label should be; a row is: label index:value index:value ...")
    } else if number(word, 0).is_some_and(|(_, end)| end == word.len()) {
        format!(
            "label {shown}; labels are classes: whole numbers such as -1, 1, 7 (`dunlin data --targets` and models that predict numbers read others)"
        )
    } else {
        format!("label {shown:?} is not a whole number; labels are classes such as -1, 1, 7")
    }
}

/// `bytes` for a message: as text, cut where it is long.
#[cold]
pub(super) fn show(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(160)]);
    let mut shown: String = text.chars().take(40).collect();
    if shown.len() < text.len() || bytes.len() > 160 {
        shown.push('…');
    }
    shown
}

/// `count` with thousands separated.
pub(super) fn grouped(count: u64) -> String {
    let plain = count.to_string();
    let mut shown = String::new();
    for (at, digit) in plain.chars().enumerate() {
        if at > 0 && (plain.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_the_nearest_doubles() {
        let mut rng = crate::rng::stream(5, "numbers", &[]);
        for round in 0..20_000 {
            let value = f64::from_bits(rng.next());
            let text = match round % 3 {
                0 => format!("{value}"),
                1 => format!("{:.6}", rng.unit() * 1000.0 - 500.0),
                _ => format!("{:e}", rng.normal()),
            };
            match text.parse::<f64>() {
                Ok(expected) if expected.is_finite() => {
                    assert_eq!(number(text.as_bytes(), 0), Some((expected, text.len())), "{text}");
                }
                _ => assert_eq!(number(text.as_bytes(), 0), None, "{text}"),
            }
        }
        for odd in ["", "-", ".", "1e", "+-1", "1_0", "0x1", "1.2.3", "e5", "nan", "-inf", "1e999"] {
            assert_eq!(number(odd.as_bytes(), 0), None, "{odd}");
        }
    }

    #[test]
    fn labels_are_whole_however_written() {
        for (text, expected) in [("1", 1), ("+1", 1), ("-1", -1), ("1.0", 1), ("7.", 7), ("1e3", 1000)] {
            assert_eq!(label(text.as_bytes()), Ok(expected), "{text}");
        }
        for (text, part) in
            [("1,2", "several"), ("2.5", "classes"), ("3:1", "index:value"), ("x", "whole number")]
        {
            assert!(label(text.as_bytes()).is_err_and(|message| message.contains(part)), "{text}");
        }
    }

    #[test]
    fn messages_say_what_is_wrong_with_a_number() {
        assert!(real(b"NaN", "value").is_err_and(|m| m.contains("finite")));
        assert!(real(b"1e39", "value").is_err_and(|m| m.contains("too large")));
        assert!(real(b"1e999", "value").is_err_and(|m| m.contains("too large")));
        assert!(real(b"one", "value").is_err_and(|m| m.contains("not a number")));
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped(999), "999");
    }
}
