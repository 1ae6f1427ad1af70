//! Tests over all readers: what bad input says, that no bytes panic, that what is written reads back the same.

use super::*;
use crate::rng::{Stream, stream};
use crate::{Error, Result};
use std::io::Write;

fn parse_with(name: &str, bytes: &[u8], options: &ReadOptions, like: Option<&Data>) -> Result<Data> {
    Ok(read_from(Box::new(std::io::Cursor::new(bytes.to_vec())), name, options, like)?.0)
}

fn parse(name: &str, text: &str) -> Result<Data> {
    parse_with(name, text.as_bytes(), &ReadOptions::default(), None)
}

fn wanting(kind: Kind) -> ReadOptions {
    ReadOptions { kind: Some(kind), ..ReadOptions::default() }
}

#[track_caller]
fn refused(result: Result<Data>, expected: &str) {
    match result {
        Ok(data) => panic!("read as {:?}, though {expected:?}", data.shape),
        Err(Error::Data(message) | Error::Usage(message)) => {
            assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        }
        Err(other) => panic!("{other}"),
    }
}

#[test]
fn bad_svmlight_is_refused_with_its_place() {
    for (text, expected) in [
        (
            "1 1:1\n2 0:1\n",
            "a.svm:2: feature index 0; indices start at 1 (for files that start at 0: --zero-based)",
        ),
        ("1 2:1 1:1\n", "a.svm:1: feature index 1 after 2; indices must ascend within a row"),
        ("1 2:1 2:1\n", "a.svm:1: feature index 2 twice in one row"),
        ("1 1:nan\n", "a.svm:1: value nan; it must be a finite number"),
        ("1 1:-inf\n", "a.svm:1: value -inf; it must be a finite number"),
        ("1 1:1e39\n", "a.svm:1: value 1e39 is too large"),
        ("1 1:x\n", "a.svm:1: value \"x\" is not a number"),
        ("1 1:\n", "a.svm:1: value \"\" is not a number"),
        ("1,2 1:1\n", "a.svm:1: several labels (1,2); each row has one class"),
        ("1.5 1:1\n", "a.svm:1: label 1.5; labels are classes"),
        ("x 1:1\n", "a.svm:1: label \"x\" is not a whole number"),
        ("1:1 2:1\n", "a.svm:1: \"1:1\" where the label should be"),
        ("1 -3:1\n", "a.svm:1: \"-3:1\": a feature index cannot be negative"),
        ("1 3\n", "a.svm:1: \"3\" is not index:value"),
        ("1 3000000000:1\n", "a.svm:1: feature index 3000000000; at most 2147483647"),
        ("1 99999999999999999999999:1\n", "is not index:value"),
        ("", "a.svm: the file is empty"),
        ("# nothing\n\n", "a.svm: no rows"),
        ("1\n2\n", "a.svm: no row has a feature"),
    ] {
        refused(parse("a.svm", text), expected);
    }
    refused(
        parse_with("a.svm", b"3 1:1\n3 2:1\n", &wanting(Kind::Labelled), None),
        "a.svm: all 2 rows have the label 3; there must be at least two classes",
    );
}

#[test]
fn svmlight_takes_labels_comments_queries_and_line_ends_as_they_come() {
    let text = "\u{feff}+1 qid:7 1:0.5 3:-2e-1 # c:1\r\n\r\n-1 2:1e0\t4:0\n1.0\n7 1:.5";
    let data = parse("a.svm", text).unwrap();
    assert_eq!((data.shape.rows, data.shape.columns, &data.shape.classes[..]), (4, 4, &[-1, 1, 7][..]));
    let options = ReadOptions { layout: Layout::Sparse, blocks: 1, ..ReadOptions::default() };
    let sparse = parse_with("a.svm", text.as_bytes(), &options, None).unwrap();
    let expected = SparseRows {
        offsets: vec![0, 2, 3, 3, 4],
        columns: vec![0, 2, 1, 0],
        values: vec![0.5, -0.2, 1.0, 0.5],
        classes: vec![1, 0, 1, 2],
        targets: Vec::new(),
    };
    assert_eq!(sparse.blocks[0].contents, Contents::Sparse(expected));
    let zero = ReadOptions { zero_based: true, ..options };
    assert_eq!(parse_with("a.svm", b"1 0:1\n2 4:1\n", &zero, None).unwrap().shape.columns, 5);
}

#[test]
fn test_rows_are_mapped_to_the_training_data() {
    let train = parse("a.svm", "1 1:1\n5 3:1\n").unwrap();
    let (test, notes) =
        read_from(Box::new(&b"5 2:1 9:1\n2 1:1\n"[..]), "b.svm", &ReadOptions::default(), Some(&train))
            .unwrap();
    assert_eq!((test.shape, notes.dropped_entries, notes.unknown_rows), (train.shape.clone(), 1, 1));
    let classes: Vec<u32> = test
        .blocks
        .iter()
        .flat_map(|block| match &block.contents {
            Contents::Sparse(rows) => rows.classes.clone(),
            _ => panic!("the training rows are sparse"),
        })
        .collect();
    assert_eq!(classes, [1, UNKNOWN]);
    refused(
        parse_with("b", b"1 1 3\n", &ReadOptions::default(), Some(&train)),
        "wanted here are labelled rows",
    );
}

#[test]
fn bad_ratings_are_refused_with_their_place() {
    let options = ReadOptions { format: Some(Format::Ratings), ..ReadOptions::default() };
    for (text, expected) in [
        ("1\t2\t3\n1\t2\n", "r:2: \"1\\t2\"; a line is: user item rating [time], separated by tabs"),
        ("1,2,3\n1,2,nan\n", "r:2: rating nan; it must be a finite number"),
        ("1,2,3\n1,2,x\n", "r:2: rating \"x\" is not a number"),
        ("1,2,nan\n", "r:1: rating nan"),
        ("1 2 3 4 5\n", "r:1: \"1 2 3 4 5\"; a line is"),
        ("user,item,rating\n", "r: no ratings"),
        ("1,2,1e39\n", "too large"),
    ] {
        refused(parse_with("r", text.as_bytes(), &options, None), expected);
    }
    refused(parse_with("r", b"1,\xff,3\n", &options, None), "is not UTF-8 text");
}

#[test]
fn ratings_are_read_with_any_separator_and_any_ids() {
    let options = ReadOptions { format: Some(Format::Ratings), blocks: 2, ..ReadOptions::default() };
    let expected = parse_with("r", b"10 7 3\n9 7 4.5\n10 8 1\n", &options, None).unwrap();
    assert_eq!(expected.names.rows, ["9", "10"]);
    assert_eq!(expected.names.columns, ["7", "8"]);
    assert_eq!((expected.blocks.len(), expected.shape.mean_target), (2, 8.5 / 3.0));
    let second = Ratings { users: vec![1, 1], items: vec![0, 1], ratings: vec![3.0, 1.0] };
    assert_eq!(expected.blocks[1].contents, Contents::Ratings(second));
    for text in [
        "user\titem\trating\n10\t7\t3\t881\n9\t7\t4.5\t882\n10\t8\t1\t883\n",
        "10::7::3::1\n9::7::4.5::1\r\n\n10::8::1::1",
        "userId,movieId,rating,timestamp\n10,7,3,1\n9,7,4.5,1\n10,8,1,1\n",
        "\"10\";\"7\";\"3\"\n\"9\";\"7\";\"4.5\"\n\"10\";\"8\";\"1\"\n",
    ] {
        assert_eq!(parse_with("r", text.as_bytes(), &options, None).unwrap(), expected, "{text}");
    }
    let named = parse_with("r", b"10 b 3\nanna b 1\n9 a 2\n", &options, None).unwrap();
    assert_eq!(
        (named.names.rows, named.names.columns),
        (vec!["10".to_string(), "anna".into(), "9".into()], vec!["b".to_string(), "a".into()],)
    );
}

#[test]
fn test_ratings_lie_in_the_blocks_of_their_users() {
    let options = ReadOptions { blocks: 3, ..wanting(Kind::Ratings) };
    let train = parse_with("r", b"1 1 1\n2 1 2\n3 2 3\n", &options, None).unwrap();
    let test = parse_with("t", b"3 1 5\n1 9 4\n8 1 3\n", &options, Some(&train)).unwrap();
    let bounds = |data: &Data| data.blocks.iter().map(|b| (b.id, b.first_row, b.end_row)).collect::<Vec<_>>();
    assert_eq!((bounds(&test), &test.shape, &test.names), (bounds(&train), &train.shape, &train.names));
    let parts: Vec<Contents> = test.blocks.into_iter().map(|block| block.contents).collect();
    let part = |users: &[u32], items: &[u32], ratings: &[f32]| {
        Contents::Ratings(Ratings { users: users.into(), items: items.into(), ratings: ratings.into() })
    };
    assert_eq!(parts[0], part(&[0], &[UNKNOWN], &[4.0]));
    assert_eq!(parts[1], part(&[], &[], &[]));
    assert_eq!(parts[2], part(&[2, UNKNOWN], &[0, 0], &[5.0, 3.0]));
}

#[test]
fn counts_that_would_fill_the_memory_are_refused_where_they_do() {
    let lines: String = (1..=200).map(|word| format!("1 {word} 1000000\n")).collect();
    let expected = "docword.x.txt:104: the counts up to here make 101,000,000 tokens; at most 100,010,100";
    refused(parse("docword.x.txt", &format!("1\n200\n200\n{lines}")), expected);
}

#[test]
fn bad_documents_are_refused_with_their_place() {
    for (text, expected) in [
        ("2\n3\n1\n1 4 1\n", "docword.x.txt:4: word 4; words go from 1 to 3 (line 2)"),
        ("2\n3\n1\n3 1 1\n", "docword.x.txt:4: document 3; documents go from 1 to 2 (line 1)"),
        ("2\n3\n1\n1 1 0\n", "docword.x.txt:4: count 0"),
        ("2\n3\n1\n1 0 1\n", "docword.x.txt:4: word 0"),
        ("2\n3\n2\n1 1 1\n1 1 2\n", "word 1 twice in document 1"),
        ("2\n3\n2\n2 1 1\n1 1 2\n", "docword.x.txt:5: document 1 after 2; documents must ascend"),
        ("2\n3\n3\n1 1 1\n", "1 entries, but line 3 says 3; is the file complete?"),
        ("2\n3\n1\n1 1\n", "docword.x.txt:4: \"1 1\"; a line is: document word count"),
        ("2\n3\n1\n1 1 1.5\n", "three whole numbers"),
        ("2\nx\n1\n", "docword.x.txt:2: \"x\" where the number of words should be"),
        ("2\n", "docword.x.txt:2: the file ends where the number of words should be"),
        ("1000000000000\n3\n1\n1 1 1\n", "docword.x.txt:1: 1000000000000 documents; at most"),
        (
            "2000000000\n3\n1\n1 1 1\n",
            "line 1 says 2,000,000,000 documents; with only 1 entries at most 1,000,064",
        ),
        (
            "1\n2000000000\n1\n1 1 1\n",
            "line 2 says 2,000,000,000 words; with only 1 entries at most 1,000,064",
        ),
        ("2\n3\n7\n1 1 1\n", "docword.x.txt:3: 7 entries; 2 documents of 3 words have at most 6"),
        ("2\n3\n18446744073709551615\n1 1 1\n", "docword.x.txt:3: "),
        ("2\n3\n1\n1 1 4294967295\n", "docword.x.txt:4: count 4294967295; counts go from 1 to 1000000"),
        ("2\n3\n1\n1 1 99999999999999999999\n", "docword.x.txt:4: "),
        ("2000000000\n3\n1\n2000000000 1 1\n", "after only 1 entries"),
        ("2\n3\n0\n", "no document has a word"),
        ("0\n3\n0\n", "docword.x.txt: no documents"),
    ] {
        refused(parse("docword.x.txt", text), expected);
    }
}

#[test]
fn documents_may_be_empty_and_words_unsorted() {
    let options = ReadOptions { blocks: 1, ..ReadOptions::default() };
    let data = parse_with("d", b"4\n5\n3\n2 5 1\n2 1 2\n3 2 1\n", &options, None).unwrap();
    let expected = Documents { offsets: vec![0, 0, 2, 3, 3], words: vec![0, 4, 1], counts: vec![2, 1, 1] };
    assert_eq!((&data.blocks[0].contents, data.shape.samples), (&Contents::Documents(expected), 4));
}

#[test]
fn words_of_test_documents_are_found_by_name() {
    let folder = Folder::new("words");
    folder.file("docword.a.train.txt", b"1\n2\n2\n1 1 1\n1 2 1\n");
    folder.file("vocab.a.txt", b"apple\npear\n");
    let train = read(&folder.path("docword.a.train.txt"), &ReadOptions::default(), None).unwrap();
    assert_eq!(train.names.columns, ["apple", "pear"]);
    folder.file("docword.b.txt", b"1\n2\n2\n1 1 3\n1 2 4\n");
    folder.file("vocab.b.txt", b"pear\nplum\n");
    let (test, notes) =
        read_noting(&folder.path("docword.b.txt"), &ReadOptions::default(), Some(&train)).unwrap();
    let expected = Documents { offsets: vec![0, 1], words: vec![1], counts: vec![3] };
    assert_eq!((&test.blocks[0].contents, notes.dropped_entries), (&Contents::Documents(expected), 1));
    folder.file("vocab.b.txt", b"pear\n");
    refused(read(&folder.path("docword.b.txt"), &ReadOptions::default(), None), "vocab.b.txt: 1 words, but");
}

#[test]
fn csv_is_read_by_its_header() {
    let text = "width,\"kind, of\",class\n1,0.5,b\n2,-1,a\n3,0,b\n";
    let data = parse("x.csv", text).unwrap();
    assert_eq!(data.names.columns, ["width", "kind, of"]);
    assert_eq!(data.names.classes, ["a", "b"]);
    assert_eq!(data.shape.classes, [0, 1]);
    let values: Vec<f32> = data
        .blocks
        .iter()
        .flat_map(|block| match &block.contents {
            Contents::Dense(rows) => rows.values.clone(),
            _ => panic!("these rows are dense"),
        })
        .collect();
    assert_eq!(values, [1.0, 0.5, 2.0, -1.0, 3.0, 0.0]);
    let test = "class;\"kind, of\";extra;width\nb;1;9;2\nc;1;9;2\n";
    let (test, notes) =
        read_from(Box::new(test.as_bytes()), "y.csv", &ReadOptions::default(), Some(&data)).unwrap();
    assert_eq!((notes.dropped_entries, notes.unknown_rows), (2, 1));
    let expected = DenseRows { width: 2, values: vec![2.0, 1.0], classes: vec![1], ..DenseRows::default() };
    assert_eq!(test.blocks[0].contents, Contents::Dense(expected));
    let named = ReadOptions { label: Some("width".into()), ..ReadOptions::default() };
    let numbered = ReadOptions { label: Some("0".into()), ..ReadOptions::default() };
    let text = "width,depth\n1,0.5\n2,1\n";
    let data = parse_with("x.csv", text.as_bytes(), &named, None).unwrap();
    assert_eq!(data.shape.classes, [1, 2]);
    assert_eq!(parse_with("x.csv", text.as_bytes(), &numbered, None).unwrap(), data);
}

#[test]
fn bad_csv_is_refused_with_its_place() {
    for (text, expected) in [
        ("a,b\n1,2\n1\n", "x.csv:3: 1 fields; the header has 2"),
        ("a,b\nx,2\n", "x.csv:2: value \"x\" is not a number (column \"a\")"),
        ("a,b\n,2\n", "x.csv:2: no value in column \"a\""),
        ("a,b\nnan,2\n", "x.csv:2: value nan; it must be a finite number"),
        ("a,b\n1,\n", "x.csv:2: no label in column \"b\""),
        ("1,2\n1,2\n", "x.csv:1: only numbers; a CSV file starts with a header"),
        ("a\n1\n", "x.csv:1: one column"),
        ("a,a\n1,2\n", "x.csv:1: two columns are called \"a\""),
        ("a,b\n", "x.csv: no rows"),
        ("a,b\n\"1,2\n", "x.csv:2: a quote that does not end"),
    ] {
        refused(parse("x.csv", text), expected);
    }
    let options = ReadOptions { label: Some("lable".into()), ..ReadOptions::default() };
    refused(parse_with("x.csv", b"a,label\n1,2\n", &options, None), "did you mean label?");
    let train = parse("x.csv", "a,b,class\n1,2,0\n").unwrap();
    let lacking = parse_with("y.csv", b"a,class\n1,0\n", &ReadOptions::default(), Some(&train));
    refused(lacking, "y.csv:1: no column \"b\", which the training data have");
}

/// A folder that goes when it is dropped.
struct Folder(std::path::PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let folder = std::env::temp_dir().join(format!("dunlin-data-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).to_string_lossy().into_owned()
    }

    fn file(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.0.join(name), bytes).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    packer.write_all(bytes).unwrap();
    packer.finish().unwrap()
}

#[test]
fn packed_files_are_read_and_broken_ones_named() {
    let text: String = (0..3000).map(|row| format!("{} {}:{}\n", row % 2, row % 7 + 1, row)).collect();
    let plain = parse("a.svm", &text).unwrap();
    let packed = gzip(text.as_bytes());
    let (first, second) = text.as_bytes().split_at(700);
    let members = [gzip(first), gzip(second)].concat();
    let zstandard = zstd::encode_all(text.as_bytes(), 3).unwrap();
    for bytes in [&packed, &members, &zstandard] {
        assert_eq!(parse_with("a.svm", bytes, &ReadOptions::default(), None).unwrap(), plain);
    }
    for (bytes, what) in [(&packed, "gzip"), (&zstandard, "Zstandard")] {
        let cut = &bytes[..bytes.len() - bytes.len() / 3];
        refused(
            parse_with("a.svm", cut, &ReadOptions::default(), None),
            &format!("the {what} file is truncated, or something that is not {what} follows in it"),
        );
        let mut damaged = bytes.to_vec();
        let middle = damaged.len() / 2;
        damaged[middle..middle + 40].fill(0xa5);
        let error = parse_with("a.svm", &damaged, &ReadOptions::default(), None).unwrap_err();
        assert!(matches!(error, Error::Data(_)), "{error:?}");
    }
}

#[test]
fn what_is_no_data_file_is_told_apart() {
    let folder = Folder::new("names");
    folder.file("train.svm", b"1 1:1\n");
    let options = ReadOptions::default();
    refused(
        read(&folder.path("trian.svm"), &options, None),
        "no such file; in that folder there is train.svm",
    );
    refused(read(&folder.path("zzz"), &options, None), "zzz: no such file");
    refused(read(&folder.path("no/such"), &options, None), "nor a folder");
    refused(read(&folder.path(""), &options, None), "is a directory without train-images-idx3-ubyte");
    refused(parse("x", "\0\u{1}\u{2}garbage"), "this is no text");
    refused(parse("x", "some words\n"), "the format cannot be told from the first line");
    refused(parse("x", ""), "x: the file is empty");
    refused(parse_with("x", b"1 1 3\n2 1 3\n", &wanting(Kind::Documents), None), "taken by the model mf");
    refused(
        parse_with("x", b"1 1:1\n", &wanting(Kind::Ratings), None),
        "taken by the models softmax, dml, kmeans and lasso",
    );
    refused(read("sample:digit", &options, None), "did you mean digits?");
}

fn idx(sizes: &[u32], bytes: &[u8]) -> Vec<u8> {
    let mut file = vec![0, 0, 8, sizes.len() as u8];
    sizes.iter().for_each(|size| file.extend(size.to_be_bytes()));
    file.extend(bytes);
    file
}

fn parse_idx(images: &[u8], labels: &[u8]) -> Result<Data> {
    let open = |bytes: &[u8]| Box::new(std::io::Cursor::new(bytes.to_vec()));
    Ok(read_idx(open(images), open(labels), &ReadOptions::default(), None)?.0)
}

#[test]
fn idx_files_must_fit_each_other() {
    let labels = idx(&[2], &[1, 0]);
    let data = parse_idx(&idx(&[2, 1, 2], &[0, 255, 51, 0]), &labels).unwrap();
    assert_eq!((data.shape.rows, data.shape.columns), (2, 2));
    let first = DenseRows { width: 2, values: vec![0.0, 1.0], classes: vec![1], ..DenseRows::default() };
    assert_eq!(data.blocks[0].contents, Contents::Dense(first));
    for (sizes, bytes, expected) in [
        (&[3, 1, 2][..], &[0; 6][..], "labels: sizes [2]; images has 3 images"),
        (&[2, 1, 2], &[0; 3], "images: the file ends within item 1 of 2"),
        (&[2, 1, 2], &[0; 5], "images: more bytes than its 2 items"),
        (&[2, u32::MAX, u32::MAX], &[0; 5], "1 to 67108864 an image"),
        (&[2, u32::MAX, u32::MAX, u32::MAX], &[0; 5], "1 to 67108864 an image"),
        (&[2, 0, 5], &[], "1 to 67108864 an image"),
    ] {
        refused(parse_idx(&idx(sizes, bytes), &labels), expected);
    }
    refused(parse_idx(b"\0\0\x09\x01", &labels), "IDX bytes start with 00 00 08");
    refused(parse_idx(&idx(&[2, 1], &[1, 2])[..6], &labels), "ends within its header");
}

#[test]
fn an_idx_folder_has_training_and_test_images() {
    let folder = Folder::new("idx");
    folder.file("train-images-idx3-ubyte.gz", &gzip(&idx(&[2, 1, 2], &[0, 255, 51, 0])));
    folder.file("train-labels-idx1-ubyte", &idx(&[2], &[1, 0]));
    folder.file("t10k-images-idx3-ubyte", &idx(&[1, 1, 2], &[0, 255]));
    let train = read(&folder.path(""), &ReadOptions::default(), None).unwrap();
    refused(read(&folder.path(""), &ReadOptions::default(), Some(&train)), "no labels for these images");
    folder.file("t10k-labels-idx1-ubyte", &idx(&[1], &[9]));
    let test = read(&folder.path(""), &ReadOptions::default(), Some(&train)).unwrap();
    let expected =
        DenseRows { width: 2, values: vec![0.0, 1.0], classes: vec![UNKNOWN], ..DenseRows::default() };
    assert_eq!(test.blocks[0].contents, Contents::Dense(expected));
}

/// One small valid file of each format.
fn valid() -> Vec<(Format, Vec<u8>)> {
    let written = |source: &str, format| {
        let data = read(source, &ReadOptions::default(), None).unwrap();
        let mut bytes = Vec::new();
        write(&data, format, &mut bytes).unwrap();
        bytes
    };
    vec![
        (Format::Svmlight, written("synth:softmax?n=12&columns=30&nonzeros=4&classes=3", Format::Svmlight)),
        (Format::Ratings, written("synth:mf?n=20&users=7&items=6", Format::Ratings)),
        (Format::Ratings, b"user,item,rating\nanna,x,3\nbert,y,4.5\n".to_vec()),
        (Format::Docword, written("synth:lda?docs=8&words=12&length=6", Format::Docword)),
        (
            Format::MatrixMarket,
            b"%%MatrixMarket matrix coordinate real general\n%\n3 4 3\n3 4 2\n1 1 5\n3 1 7\n".to_vec(),
        ),
        (Format::MatrixMarket, b"%%MatrixMarket matrix array integer symmetric\n2 2\n1\n0\n3\n".to_vec()),
        (Format::Csv, b"a,b,\"c\"\"d\",class\n1,2,3,x\n-1e3,0.5,0,y\n\"4\",5,6,x\n".to_vec()),
        (Format::Idx, idx(&[3, 2, 2], &[0, 9, 8, 0, 0, 0, 1, 2, 3, 4, 5, 6])),
    ]
}

fn mutate(rng: &mut Stream, bytes: &mut Vec<u8>) {
    const PIECES: [&[u8]; 14] = [
        b"nan",
        b"-",
        b":",
        b"::",
        b"\n",
        b"\0",
        b"99999999999999999999",
        b"4294967296",
        b"1e400",
        b"\"",
        b",",
        b"#",
        b"\xff\xfe",
        b" 2147483647 ",
    ];
    for _ in 0..1 + rng.below(4) {
        let at = rng.below(bytes.len() + 1);
        match rng.below(6) {
            0 if at < bytes.len() => bytes[at] = rng.next() as u8,
            1 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            2 => bytes.truncate(at),
            3 => drop(bytes.splice(at..at, PIECES[rng.below(PIECES.len())].iter().copied())),
            4 => drop(bytes.drain(at..(at + 1 + rng.below(9)).min(bytes.len()))),
            _ => {
                let piece = bytes[rng.below(at + 1)..at].to_vec();
                drop(bytes.splice(at..at, piece));
            }
        }
    }
}

#[test]
fn no_bytes_make_a_reader_panic() {
    let files = valid();
    let labels = idx(&[3], &[1, 0, 1]);
    let (mut read, mut refused) = (0, 0);
    for seed in 0..20_000u64 {
        let mut rng = stream(seed, "mutations", &[]);
        let (format, valid) = &files[rng.below(files.len())];
        let mut bytes = valid.clone();
        mutate(&mut rng, &mut bytes);
        let forced = if rng.below(3) == 0 { None } else { Some(*format) };
        let zero_based = rng.below(2) == 0;
        let options =
            ReadOptions { format: forced, zero_based, blocks: 1 + rng.below(5), ..ReadOptions::default() };
        let outcome = std::panic::catch_unwind(|| match format {
            Format::Idx => parse_idx(&bytes, &labels),
            _ => parse_with("x", &bytes, &options, None),
        });
        match outcome {
            Ok(Ok(data)) => {
                check(&data);
                read += 1;
            }
            Ok(Err(error)) => {
                assert!(!error.to_string().is_empty());
                refused += 1;
            }
            Err(_) => panic!("seed {seed}: panicked on {:?}", String::from_utf8_lossy(&bytes)),
        }
    }
    assert!(read > 1000 && refused > 1000, "{read} read, {refused} refused");
}

#[test]
fn no_packed_bytes_make_a_reader_panic() {
    let plain = &valid()[0].1;
    for (what, packed) in [("gzip", gzip(plain)), ("zstd", zstd::encode_all(&plain[..], 3).unwrap())] {
        for seed in 0..2_000u64 {
            let mut rng = stream(seed, "packed mutations", &[]);
            let mut bytes = packed.clone();
            mutate(&mut rng, &mut bytes);
            let outcome = std::panic::catch_unwind(|| parse_with("x", &bytes, &ReadOptions::default(), None));
            assert!(outcome.is_ok(), "{what}, seed {seed}");
        }
    }
}

/// What every data set promises, whatever it was read from.
fn check(data: &Data) {
    let mut row = 0;
    let (mut entries, mut samples) = (0, 0);
    for (at, block) in data.blocks.iter().enumerate() {
        assert_eq!((block.id as usize, block.first_row), (at, row));
        assert!(block.rows() > 0);
        (row, entries, samples) = (block.end_row, entries + block.entries(), samples + block.samples());
        let below = |columns: &[u32]| columns.iter().all(|column| (*column as usize) < data.shape.columns);
        match &block.contents {
            Contents::Sparse(rows) => {
                assert!(below(&rows.columns) && rows.values.iter().all(|v| v.is_finite() && *v != 0.0));
                assert_eq!((rows.offsets.len(), rows.classes.len()), (block.rows() + 1, block.rows()));
                assert_eq!(rows.offsets[block.rows()] as usize, rows.values.len());
                let ascends = |pair: &[u32]| {
                    rows.columns[pair[0] as usize..pair[1] as usize].is_sorted_by(|a, b| a < b)
                };
                assert!(rows.offsets.windows(2).all(ascends));
                assert!(rows.classes.iter().all(|class| (*class as usize) < data.shape.classes.len()));
            }
            Contents::Dense(rows) => {
                assert_eq!((rows.width, rows.classes.len()), (data.shape.columns, block.rows()));
                assert_eq!(rows.values.len(), rows.width * block.rows());
                assert!(rows.classes.iter().all(|class| (*class as usize) < data.shape.classes.len()));
            }
            Contents::Pairs(_) => unreachable!("nobody asked for pairs"),
            Contents::Ratings(ratings) => {
                assert!(below(&ratings.items) && ratings.users.is_sorted());
                assert!(
                    ratings
                        .users
                        .iter()
                        .all(|user| (block.first_row..block.end_row).contains(&(*user as usize)))
                );
            }
            Contents::Documents(documents) => {
                assert!(below(&documents.words) && documents.counts.iter().all(|count| *count > 0));
                assert_eq!(documents.offsets.len(), block.rows() + 1);
                assert_eq!(documents.offsets[block.rows()] as usize, documents.words.len());
            }
        }
    }
    assert_eq!((row, entries, samples), (data.shape.rows, data.shape.entries, data.shape.samples));
    assert!(data.shape.classes.is_sorted_by(|a, b| a < b));
}

#[test]
fn what_is_written_reads_back_the_same() {
    for (source, format) in [
        ("synth:softmax?n=500&columns=300&nonzeros=30", Format::Svmlight),
        ("synth:softmax?n=300&columns=12&nonzeros=12", Format::Svmlight),
        ("synth:dml?n=200", Format::Svmlight),
        ("sample:digits", Format::Svmlight),
        ("synth:mf?n=3000&users=200&items=90", Format::Ratings),
        ("synth:lda?docs=200", Format::Docword),
    ] {
        let data = read(source, &ReadOptions::default(), None).unwrap();
        check(&data);
        let mut bytes = Vec::new();
        write(&data, format, &mut bytes).unwrap();
        let back = parse_with("back", &bytes, &ReadOptions::default(), None).unwrap();
        assert_eq!(back, data, "{source}");
        assert_eq!(read(source, &ReadOptions::default(), None).unwrap(), data, "{source} twice");
    }
    let mut out = Vec::new();
    let data = read("synth:lda", &ReadOptions::default(), None).unwrap();
    assert!(write(&data, Format::Ratings, &mut out).is_err() && write(&data, Format::Csv, &mut out).is_err());
}

#[test]
fn generators_refuse_what_they_do_not_know() {
    for (source, expected) in [
        ("synth:softmx", "did you mean softmax?"),
        ("synth:mf?user=3", "did you mean users?"),
        ("synth:mf?users", "wanted is key=value"),
        ("synth:mf?users=0", "users=0; a whole number from 1 to"),
        ("synth:mf?n=1.5", "n=1.5; a whole number"),
        ("synth:mf?noise=nan", "noise=nan; a number from 0"),
        ("synth:mf?part=half", "part=half; train or test"),
        ("synth:lda?words=1e9&topics=1e6", "too many numbers"),
        ("synth:softmax?nonzeros=2000", "nonzeros=2000; a whole number from 1 to 1000"),
    ] {
        refused(read(source, &ReadOptions::default(), None), expected);
    }
    refused(read("synth:mf", &wanting(Kind::Documents), None), "taken by the model mf");
    assert_eq!(read("synth:mf?n=1e3", &ReadOptions::default(), None).unwrap().shape.samples, 1000);
    for (source, _) in generators() {
        assert!(read(&source, &ReadOptions::default(), None).is_ok(), "{source}");
    }
}

#[test]
fn held_out_parts_share_the_truth_and_not_the_rows() {
    let train = read("synth:mf?noise=0", &ReadOptions::default(), None).unwrap();
    let test = read("synth:mf?noise=0&part=test&n=5000", &ReadOptions::default(), Some(&train)).unwrap();
    let cells = |data: &Data| {
        let mut cells = std::collections::BTreeMap::new();
        for block in &data.blocks {
            let Contents::Ratings(part) = &block.contents else { panic!("ratings") };
            for at in 0..part.ratings.len() {
                cells.insert((part.users[at], part.items[at]), part.ratings[at]);
            }
        }
        cells
    };
    let (train, test) = (cells(&train), cells(&test));
    let both = test.iter().filter_map(|(cell, rating)| train.get(cell).map(|other| (rating, other)));
    let both: Vec<_> = both.collect();
    // With no noise the same cell has the same rating in both parts; and most cells are in one only.
    assert!(
        both.len() > 100 && both.len() < 2500 && both.iter().all(|(test, train)| test == train),
        "{}",
        both.len()
    );
}

#[test]
fn samples_are_there() {
    let train = read("sample:digits", &wanting(Kind::Labelled), None).unwrap();
    let test = read("sample:digits-test", &wanting(Kind::Labelled), Some(&train)).unwrap();
    assert_eq!((train.shape.rows, train.shape.columns, train.shape.classes.len()), (1438, 64, 10));
    assert_eq!(test.blocks.iter().map(Block::rows).sum::<usize>(), 359);
    for (name, _) in SAMPLES {
        assert!(read(&format!("sample:{name}"), &ReadOptions::default(), None).is_ok(), "{name}");
    }
}

#[test]
fn a_summary_counts_what_is_there() {
    let options = ReadOptions { blocks: 2, ..ReadOptions::default() };
    let data = parse_with("a.svm", b"1 1:1 5:3\n2 2:-1\n2\n", &options, None).unwrap();
    let sum = summary(&data);
    assert_eq!((sum.rows, sum.columns, sum.nonzeros, sum.blocks, sum.dense), (3, 5, 3, 2, false));
    assert_eq!((sum.min, sum.mean, sum.max, sum.density), (-1.0, 1.0, 3.0, 0.2));
    assert_eq!(sum.classes, [("1".to_string(), 1), ("2".to_string(), 2)]);
    let shown = sum.to_string();
    assert!(shown.contains("non-zeros        3 (20.000 %, stored sparse)"), "{shown}");
    assert!(shown.ends_with("blocks           2 of 1 to 2 entries"), "{shown}");
    assert!(serde_json::to_string(&sum).unwrap().contains("\"nonzeros\":3"));
}

#[test]
fn targets_are_read_where_a_model_asks_for_them() {
    let options = ReadOptions { targets: true, blocks: 2, ..wanting(Kind::Labelled) };
    let targets = |data: &Data| -> Vec<f32> {
        let of = |block: &Block| match &block.contents {
            Contents::Sparse(rows) => rows.targets.clone(),
            Contents::Dense(rows) => rows.targets.clone(),
            _ => panic!("labelled"),
        };
        data.blocks.iter().flat_map(of).collect()
    };
    let svm = parse_with("a.svm", b"-6.5 1:1\n2e-1 2:3\n7 1:2 2:1\n", &options, None).unwrap();
    assert_eq!(targets(&svm), [-6.5, 0.2, 7.0]);
    assert_eq!((svm.shape.min_target, svm.shape.max_target, svm.shape.classes.len()), (-6.5, 7.0, 0));
    assert!((svm.shape.mean_target - 0.7 / 3.0).abs() < 1e-7);
    assert_eq!((svm.blocks.len(), summary(&svm).unknown), (2, 0));
    let csv = parse_with("a.csv", b"x,target,z\n1,-6.5,2\n3,0.2,0\n1,7,9\n", &options, None).unwrap();
    assert_eq!((targets(&csv), csv.shape.columns), (vec![-6.5, 0.2, 7.0], 2));
    let mut mixed = targets(&mix(csv.clone()));
    mixed.sort_by(f32::total_cmp);
    assert_eq!(mixed, [-6.5, 0.2, 7.0]);
    let test = parse_with("b.svm", b"99.25 1:1 3:4\n", &options, Some(&svm)).unwrap();
    assert_eq!((targets(&test), &test.shape), (vec![99.25], &svm.shape));
    let mut written = Vec::new();
    write(&svm, Format::Svmlight, &mut written).unwrap();
    assert_eq!(written, b"-6.5 1:1\n0.2 2:3\n7 1:2 2:1\n");
    // Without the wish labels are classes as ever; class labels make targets where a format has nothing else.
    assert!(targets(&parse("a.svm", "1 1:1\n2 1:1\n").unwrap()).is_empty());
    let made = read("synth:softmax?n=20&columns=5&nonzeros=5&classes=3", &options, None).unwrap();
    assert!(targets(&made).iter().all(|target| [1.0, 2.0, 3.0].contains(target)));
    // All alike is no fault of a target.
    assert_eq!(targets(&parse_with("a.svm", b"3 1:1\n3 2:1\n", &options, None).unwrap()), [3.0, 3.0]);
    for (name, text, expected) in [
        ("a.svm", "1 1:1\nnan 1:1\n", "a.svm:2: target nan; it must be a finite number"),
        ("a.svm", "inf 1:1\n", "a.svm:1: target inf; it must be a finite number"),
        ("a.svm", "1e39 1:1\n", "a.svm:1: target 1e39 is too large"),
        ("a.svm", "x 1:1\n", "a.svm:1: target \"x\" is not a number"),
        ("a.svm", "1:1 2:1\n", "a.svm:1: \"1:1\" where the label should be"),
        ("a.csv", "x,y\n1,2\n1,nan\n", "a.csv:3: value nan; it must be a finite number (column \"y\")"),
        ("a.csv", "x,y\n1,\n", "a.csv:2: no label in column \"y\""),
    ] {
        refused(parse_with(name, text.as_bytes(), &options, None), expected);
    }
}

#[test]
fn made_up_regression_data_have_their_noise() {
    let options = ReadOptions { targets: true, ..ReadOptions::default() };
    let source = "synth:lasso?n=2000&columns=8&support=8&correlation=0.9&noise=0";
    let data = read(source, &options, None).unwrap();
    assert_eq!((data.shape.rows, data.shape.columns), (2000, 8));
    let part = read(&format!("{source}&part=test"), &options, Some(&data)).unwrap();
    assert_ne!(data.blocks[0].contents, part.blocks[0].contents);
    let Contents::Dense(rows) = &data.blocks[0].contents else { panic!("dense") };
    assert_eq!(rows.targets.len(), rows.values.len() / 8);
    refused(read(source, &wanting(Kind::Labelled), None), "wanted here are rows with classes");
    refused(read("synth:lasso?correlation=2", &options, None), "correlation=2; a number from 0 to 1");
    refused(read("synth:lasso?support=2000", &options, None), "support=2000; a whole number from 0 to 1000");
}
