//! Files of pairs: `row row 1` or `row row -1` a line, with `#` comments, packed or not.
//!
//! Rows are counted as they stand in the training data, from 0, as names count them; lines without a row do not
//! count. 1 (or +1) says that the two rows are similar, -1 (or 0) that they are not. A pair that is listed twice
//! counts twice.

use super::input::Input;
use super::pairs::PairList;
use super::text::{Parsed, grouped, show, whole, words};
use crate::{Error, Result};
use std::collections::HashMap;
use std::path::Path;

const A_LINE: &str = "a line is: row row 1 (similar) or row row -1 (dissimilar), such as 0 17 1";

/// Reads pairs of `rows` rows.
///
/// # Errors
/// [`Error::Data`] with file and line: what was given, what is allowed; no pairs. [`Error::Usage`] for standard
/// input, which is read by one process alone. [`Error::Io`].
pub(super) fn read(path: &Path, rows: usize) -> Result<PairList> {
    let name = path.display().to_string();
    if name == "-" {
        return Err(Error::Usage("pairs are read from a file, not from - (standard input)".into()));
    }
    from_input(&mut Input::open(&name)?, rows)
}

fn from_input(input: &mut Input, rows: usize) -> Result<PairList> {
    let (mut list, mut known, mut number) = (PairList::default(), HashMap::new(), 0u64);
    input.each_line(|line| {
        number += 1;
        let line = &line[..memchr::memchr(b'#', line).unwrap_or(line.len())];
        let Some(([first, second], similar)) = pair(line, rows)? else { return Ok(()) };
        let key = (first.min(second), first.max(second));
        let (said, earlier) = *known.entry(key).or_insert((similar, number));
        if said != similar {
            let word = |similar| if similar { "similar" } else { "dissimilar" };
            let (now, then) = (word(similar), word(said));
            return Err(format!(
                "rows {first} and {second} are {now} here and {then} in line {earlier}; a pair is one of both"
            ));
        }
        list.push(first, second, similar);
        Ok(())
    })?;
    if list.pairs.is_empty() {
        return Err(input.whole_fault(format!("no pairs; {A_LINE}")));
    }
    Ok(list)
}

/// The pair of a line; `None` if there is nothing on it.
fn pair(line: &[u8], rows: usize) -> Parsed<Option<([usize; 2], bool)>> {
    let mut given = words(line);
    let (first, second, mark) = match (given.next(), given.next(), given.next(), given.next()) {
        (None, ..) => return Ok(None),
        (Some(first), Some(second), Some(mark), None) => (first, second, mark),
        _ => return Err(format!("{:?} is no pair; {A_LINE}", show(line.trim_ascii()))),
    };
    let (first, second) = (row(first, rows)?, row(second, rows)?);
    if first == second {
        return Err(format!("row {first} is paired with itself; a pair joins two rows"));
    }
    let similar = match mark {
        b"1" | b"+1" => true,
        b"-1" | b"0" => false,
        _ => return Err(format!("{:?} where 1 (similar), or -1 or 0 (dissimilar), should be", show(mark))),
    };
    Ok(Some(([first, second], similar)))
}

fn row(word: &[u8], rows: usize) -> Parsed<usize> {
    let shown = || show(word);
    let row = whole(word).ok_or_else(|| format!("row {:?}; rows are whole numbers from 0", shown()))?;
    usize::try_from(row).ok().filter(|row| *row < rows).ok_or_else(|| {
        let (rows, last) = (grouped(rows as u64), rows.saturating_sub(1));
        format!("row {}; the training data have {rows} rows, numbered from 0 to {last}", shown())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::stream;

    fn parse(bytes: &[u8]) -> Result<PairList> {
        from_input(&mut Input::new("p", Box::new(std::io::Cursor::new(bytes.to_vec())))?, 5)
    }

    #[test]
    fn lines_are_pairs() {
        let list = parse(b"# rows\n0 1 1\n\n3\t2 -1 # far\r\n  4 0 +1\n1 4 0\n1 0 1").unwrap();
        assert_eq!(list.pairs, [[0, 1], [3, 2], [4, 0], [1, 4], [1, 0]]);
        assert_eq!(list.similar, [true, false, true, false, true]);
    }

    #[test]
    fn what_is_no_pair_is_refused_with_its_line() {
        let wrong: [(&str, &[&str]); 11] = [
            ("0 1 1\n0 2\n", &["p:2", "\"0 2\"", "row row -1"]),
            ("0 1 1 1\n", &["p:1", "\"0 1 1 1\""]),
            ("0 1 2\n", &["p:1", "\"2\"", "1 (similar)", "-1 or 0"]),
            ("0 5 1\n", &["p:1", "row 5", "5 rows", "0 to 4"]),
            ("99999999999999999999 0 1\n", &["p:1", "99999999999999999999"]),
            ("-1 0 1\n", &["p:1", "\"-1\"", "from 0"]),
            ("a 0 1\n", &["p:1", "\"a\"", "whole"]),
            ("3 3 -1\n", &["p:1", "row 3", "itself"]),
            ("0 1 1\n2 3 1\n1 0 -1\n", &["p:3", "dissimilar here", "similar in line 1"]),
            ("", &["p: no pairs", "row row 1"]),
            ("\n# nothing\n", &["p: no pairs"]),
        ];
        for (text, parts) in wrong {
            let error = parse(text.as_bytes()).unwrap_err().to_string();
            assert!(parts.iter().all(|part| error.contains(part)), "{text:?}: {error}");
        }
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for seed in 0..2000 {
            let mut rng = stream(seed, "pair bytes", &[]);
            let alphabet = b"0123456789 -+#\t\r\n\n1 \xff\x00a.";
            let bytes: Vec<u8> = (0..rng.below(60)).map(|_| alphabet[rng.below(alphabet.len())]).collect();
            if let Ok(list) = parse(&bytes) {
                assert!(list.pairs.iter().all(|[a, b]| a != b && *a < 5 && *b < 5), "seed {seed}");
            }
        }
    }
}
