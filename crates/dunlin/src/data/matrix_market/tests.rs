//! Every layout, field and symmetry, as every kind of data; and what is refused, with its place.

use crate::Error;
use crate::data::*;
use std::io::{Cursor, Write};

fn parse(kind: Option<Kind>, text: &str) -> crate::Result<Data> {
    let options =
        ReadOptions { kind, any_labels: true, layout: Layout::Sparse, blocks: 1, ..ReadOptions::default() };
    Ok(read_from(Box::new(Cursor::new(text.as_bytes().to_vec())), "a.mtx", &options, None)?.0)
}

/// Rows of (column, value), the columns that there are.
fn rows(text: &str) -> (Vec<Vec<(u32, f32)>>, usize) {
    let data = parse(Some(Kind::Labelled), text).unwrap();
    let [Block { contents: Contents::Sparse(rows), .. }] = &data.blocks[..] else {
        panic!("one block of sparse rows")
    };
    let row = |pair: &[u32]| {
        let range = pair[0] as usize..pair[1] as usize;
        rows.columns[range.clone()].iter().copied().zip(rows.values[range].iter().copied()).collect()
    };
    (rows.offsets.windows(2).map(row).collect(), data.shape.columns)
}

#[test]
fn entries_may_come_in_any_order() {
    let text = "%%MatrixMarket matrix coordinate real general\n% made up\n\n%\n3 5 4\n3 4 -2.5\n1 2 1e1\n\n\
                3 1 7\n1 1 0\n";
    assert_eq!(rows(text), (vec![vec![(1, 10.0)], vec![], vec![(0, 7.0), (3, -2.5)]], 5));
    assert_eq!(rows(&text.replace('\n', "\r\n").replace("%%M", "%%m")), rows(text));
    let pattern = "%%MatrixMarket MATRIX Coordinate Pattern General\n2 2 2\n2 1\n1 2\n";
    assert_eq!(rows(pattern).0, [[(1, 1.0)], [(0, 1.0)]]);
}

#[test]
fn an_array_goes_column_by_column() {
    let text = "%%MatrixMarket matrix array integer general\n2 3\n1\n2\n3\n4\n0\n6\n";
    assert_eq!(rows(text).0, [vec![(0, 1.0), (1, 3.0)], vec![(0, 2.0), (1, 4.0), (2, 6.0)]]);
}

#[test]
fn one_triangle_gives_the_other() {
    let both = [vec![(0, 1.0), (1, 2.0)], vec![(0, 2.0), (2, 5.0)], vec![(1, 5.0), (2, 6.0)]];
    let listed = "coordinate real symmetric\n3 3 4\n1 1 1\n2 1 2\n3 2 5\n3 3 6\n";
    let array = "array real symmetric\n3 3\n1\n2\n0\n0\n5\n6\n";
    for text in [listed, array] {
        assert_eq!(rows(&format!("%%MatrixMarket matrix {text}")).0, both, "{text}");
    }
    let skew = [vec![(1, -2.0), (2, -3.0)], vec![(0, 2.0), (2, -5.0)], vec![(0, 3.0), (1, 5.0)]];
    let listed = "coordinate integer skew-symmetric\n3 3 3\n2 1 2\n3 1 3\n3 2 5\n";
    let array = "array real skew-symmetric\n3 3\n2\n3\n5\n";
    for text in [listed, array] {
        assert_eq!(rows(&format!("%%MatrixMarket matrix {text}")).0, skew, "{text}");
    }
}

#[test]
fn a_matrix_is_what_the_model_asks_for() {
    let text = "%%MatrixMarket matrix coordinate integer general\n4 3 4\n4 1 2\n2 3 5\n2 1 1\n1 3 0\n";
    let ratings = parse(Some(Kind::Ratings), text).unwrap();
    // A user without a rating is not there, an entry of 0 is a rating of 0.
    assert_eq!(ratings.names.rows, ["1", "2", "4"]);
    assert_eq!(ratings.names.columns, ["1", "3"]);
    let expected =
        Ratings { users: vec![0, 1, 1, 2], items: vec![1, 0, 1, 0], ratings: vec![0.0, 1.0, 5.0, 2.0] };
    assert_eq!(ratings.blocks[0].contents, Contents::Ratings(expected));
    let documents = parse(Some(Kind::Documents), text).unwrap();
    assert_eq!((documents.shape.rows, documents.shape.columns, documents.shape.samples), (4, 3, 8));
    let expected = Documents { offsets: vec![0, 0, 2, 2, 3], words: vec![0, 2, 0], counts: vec![1, 5, 2] };
    assert_eq!(documents.blocks[0].contents, Contents::Documents(expected));
    let any = parse(None, text).unwrap();
    assert_eq!((any.shape.kind, any.shape.rows, any.shape.columns), (Kind::Labelled, 4, 3));
}

#[test]
fn test_data_are_mapped_to_the_training_data() {
    let head = "%%MatrixMarket matrix coordinate integer general\n";
    let open = |text: &str| Box::new(Cursor::new(format!("{head}{text}").into_bytes()));
    for kind in [Kind::Labelled, Kind::Documents, Kind::Ratings] {
        let options = ReadOptions { kind: Some(kind), any_labels: true, blocks: 1, ..ReadOptions::default() };
        let (train, _) = read_from(open("2 2 2\n1 1 1\n2 2 1\n"), "a.mtx", &options, None).unwrap();
        let (test, notes) =
            read_from(open("3 9 2\n1 2 4\n3 9 1\n"), "b.mtx", &options, Some(&train)).unwrap();
        assert_eq!(test.shape, train.shape);
        match kind {
            Kind::Ratings => assert_eq!((notes.unknown_rows, notes.unknown_columns), (1, 1)),
            _ => assert_eq!((notes.dropped_entries, notes.unknown_rows, test.blocks[0].end_row), (1, 0, 3)),
        }
    }
}

#[test]
fn columns_may_have_names() {
    let folder = std::env::temp_dir().join(format!("dunlin-mtx-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("a.mtx.gz");
    let text = b"%%MatrixMarket matrix coordinate pattern general\n2 2 2\n1 1\n2 2\n";
    let mut packed = flate2::write::GzEncoder::new(std::fs::File::create(&path).unwrap(), Default::default());
    packed.write_all(text).unwrap();
    packed.finish().unwrap();
    let words = folder.join("words.txt");
    std::fs::write(&words, "ibis\nstint\n").unwrap();
    let options = ReadOptions { vocabulary: Some(words.clone()), ..ReadOptions::default() };
    let data = read(&path.to_string_lossy(), &options, None).unwrap();
    assert_eq!((data.shape.rows, &data.names.columns[..]), (2, &["ibis".to_string(), "stint".into()][..]));
    std::fs::write(&words, "ibis\n").unwrap();
    let error = read(&path.to_string_lossy(), &options, None).unwrap_err().to_string();
    assert!(error.contains("words.txt: 1 words, but") && error.contains("a.mtx.gz says 2"), "{error}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[track_caller]
fn refused(kind: Kind, text: &str, expected: &str) {
    match parse(Some(kind), text) {
        Ok(data) => panic!("{text:?} read as {:?}, though {expected:?}", data.shape),
        Err(Error::Data(message)) => assert!(message.contains(expected), "{message:?} lacks {expected:?}"),
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn banners_and_sizes_are_refused_in_words() {
    for (text, expected) in [
        ("1 2 3\n", "a.mtx:1: \"1 2 3\"; a MatrixMarket file begins with %%MatrixMarket"),
        ("%%MatrixMarket vector\n", "a.mtx:1: vector as object; allowed: matrix"),
        ("%%MatrixMarket matrix\n", "a.mtx:1: nothing as layout; allowed: coordinate, array"),
        (
            "%%MatrixMarket matrix array complex general\n",
            "complex as field; allowed: real, integer, pattern",
        ),
        (
            "%%MatrixMarket matrix array real hermitian\n",
            "hermitian as symmetry; allowed: general, symmetric",
        ),
        ("%%MatrixMarket matrix array pattern general\n", "a.mtx:1: pattern goes with coordinate"),
        ("%%MatrixMarket matrix array real general more\n", "a.mtx:1: \"more\" after the symmetry"),
        ("%%MatrixMarket matrix array real general\n% only\n", "where the line of sizes should be"),
        (
            "%%MatrixMarket matrix array real general\n2 2 4\n",
            "a.mtx:2: \"2 2 4\"; the line of sizes is: rows columns",
        ),
        (
            "%%MatrixMarket matrix coordinate real general\n2 2\n",
            "the line of sizes is: rows columns entries",
        ),
        (
            "%%MatrixMarket matrix coordinate real general\n0 2 0\n",
            "a.mtx:2: 0 rows; allowed are 1 to 2147483647",
        ),
        ("%%MatrixMarket matrix coordinate real general\n2 9999999999 1\n", "9999999999 columns; allowed"),
        (
            "%%MatrixMarket matrix coordinate real general\n2 2 5\n",
            "5 entries; 2 rows of 2 columns list at most 4",
        ),
        (
            "%%MatrixMarket matrix coordinate real symmetric\n2 3 1\n",
            "a.mtx:2: 2 rows and 3 columns; a symmetric",
        ),
        (
            "%%MatrixMarket matrix array real skew-symmetric\n1 1\n1\n",
            "a.mtx:3: more entries than the 0 of line 2",
        ),
    ] {
        refused(Kind::Labelled, text, expected);
    }
}

#[test]
fn entries_are_refused_with_their_line() {
    for (text, expected) in [
        ("2 2 2\n1 1 1\n", "a.mtx: 1 entries, but line 2 makes it 2; is the file complete?"),
        ("2 2 1\n1 1 1\n\n2 2 1\n", "a.mtx:5: more entries than the 1 of line 2"),
        ("2 2 1\n0 1 1\n", "a.mtx:3: row 0; rows go from 1 to 2 (line 2)"),
        ("2 2 1\n1 3 1\n", "a.mtx:3: column 3; columns go from 1 to 2"),
        ("2 2 1\n1 1\n", "a.mtx:3: value \"\" is not a number"),
        ("2 2 1\n1 1 nan\n", "a.mtx:3: value nan; it must be a finite number"),
        ("2 2 1\n1 1 1 1\n", "a.mtx:3: \"1\" behind the entry"),
        ("2 2 1\n1.5 1 1\n", "a line is: row column value, both from 1"),
        ("2 2 3\n1 1 1\n\n2 2 1\n1 1 4\n", "a.mtx:6: row 1, column 1 is there already, on line 3"),
        ("5000000 2 1\n1 1 1\n", "a.mtx:2: 5,000,000 rows; with only 1 entries at most 1,000,064"),
        ("2147483647 2147483647 900000000000000000\n1 1 1\n", "is the file complete?"),
        ("2147483647 2147483647 1000000000000000000\n1 1 1\n", "whole numbers of up to 18 digits"),
    ] {
        refused(Kind::Labelled, &format!("%%MatrixMarket matrix coordinate real general\n{text}"), expected);
    }
    let integer = "%%MatrixMarket matrix coordinate integer general\n2 2 1\n1 1 0.5\n";
    refused(Kind::Labelled, integer, "a.mtx:3: value 0.5; the banner says integer");
    let twice = "%%MatrixMarket matrix coordinate real symmetric\n2 2 2\n2 1 1\n1 2 1\n";
    refused(Kind::Labelled, twice, "a.mtx:4: row 1, column 2 is there already, on line 3");
    let diagonal = "%%MatrixMarket matrix coordinate real skew-symmetric\n2 2 1\n2 2 1\n";
    refused(Kind::Labelled, diagonal, "a.mtx:3: row 2, column 2: the diagonal");
    let array = "%%MatrixMarket matrix array real general\n1 2\n1\n2 3\n";
    refused(Kind::Labelled, array, "a.mtx:4: \"2 3\"; an array has one value a line");
}

#[test]
fn counts_and_labels_are_asked_for_where_they_matter() {
    for (value, expected) in [("-1", "count -1"), ("0.5", "count 0.5"), ("1000001", "count 1000001")] {
        let text = format!("%%MatrixMarket matrix coordinate real general\n2 2 1\n2 1 {value}\n");
        refused(Kind::Documents, &text, &format!("a.mtx: row 2: column 1: {expected}; counts are whole"));
    }
    let options = ReadOptions { kind: Some(Kind::Labelled), ..ReadOptions::default() };
    let text = b"%%MatrixMarket matrix coordinate pattern general\n1 1 1\n1 1\n";
    let error = read_from(Box::new(Cursor::new(text.to_vec())), "a.mtx", &options, None).unwrap_err();
    assert!(error.to_string().contains("a MatrixMarket file has no labels"), "{error}");
}
