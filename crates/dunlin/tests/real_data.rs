//! The real files in `../shared/data`, where they are: their sizes are those of its README.

use dunlin::data::{Contents, Data, Kind, ReadOptions, UNKNOWN, read};
use std::path::{Path, PathBuf};

/// The folder of real data: `shared/data` beside the repository or a folder above it.
fn shared() -> Option<PathBuf> {
    let mut found = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().map(|up| up.join("shared/data"));
    let found = found.find(|folder| folder.is_dir());
    if found.is_none() {
        eprintln!("NOT TESTED: no folder ../shared/data, so no real file was read");
    }
    found
}

fn load(folder: &Path, name: &str, like: Option<&Data>) -> Data {
    read(&folder.join(name).to_string_lossy(), &ReadOptions::default(), like)
        .unwrap_or_else(|error| panic!("{error}"))
}

/// (rows, columns, non-zeros) as the blocks have them; checks the blocks on the way.
fn sizes(data: &Data) -> (usize, usize, usize) {
    let (mut rows, mut entries) = (0, 0);
    for (at, block) in data.blocks.iter().enumerate() {
        assert_eq!((block.id as usize, block.first_row), (at, rows));
        rows = block.end_row;
        assert!(block.rows() > 0);
        match &block.contents {
            Contents::Sparse(sparse) => {
                assert_eq!(sparse.classes.len(), block.rows());
                assert_eq!(sparse.offsets.len(), block.rows() + 1);
                for pair in sparse.offsets.windows(2) {
                    let columns = &sparse.columns[pair[0] as usize..pair[1] as usize];
                    assert!(columns.is_sorted_by(|a, b| a < b));
                    assert!(columns.iter().all(|column| (*column as usize) < data.shape.columns));
                }
                entries += sparse.values.len();
            }
            Contents::Dense(dense) => {
                assert_eq!((dense.width, dense.classes.len()), (data.shape.columns, block.rows()));
                assert_eq!(dense.values.len(), dense.width * block.rows());
                entries += dense.values.iter().filter(|value| **value != 0.0).count();
            }
            Contents::Pairs(_) => unreachable!("nobody asked for pairs"),
            Contents::Ratings(ratings) => {
                assert!(ratings.users.is_sorted());
                let mut known = ratings.users.iter().filter(|user| **user != UNKNOWN);
                assert!(known.all(|user| (block.first_row..block.end_row).contains(&(*user as usize))));
                entries += ratings.ratings.len();
            }
            Contents::Documents(documents) => {
                assert_eq!(documents.offsets.len(), block.rows() + 1);
                assert!(documents.counts.iter().all(|count| *count > 0));
                entries += documents.words.len();
            }
        }
    }
    (rows, data.shape.columns, entries)
}

#[test]
fn svmlight_files_have_the_sizes_of_the_readme() {
    let Some(folder) = shared() else { return };
    let train = load(&folder, "20news/20news.tfidf.train.svm.gz", None);
    assert_eq!(sizes(&train), (11_314, 130_107, 1_787_565));
    assert_eq!((train.blocks.len(), train.shape.classes.len()), (256, 20));
    assert!(matches!(train.blocks[0].contents, Contents::Sparse(_)));
    let test = load(&folder, "20news/20news.tfidf.test.svm.gz", Some(&train));
    assert_eq!(sizes(&test), (7_532, 130_107, 1_107_956));
    assert_eq!(test.shape, train.shape);

    let letter = load(&folder, "letter/letter.train.svm.gz", None);
    assert_eq!(sizes(&letter), (15_000, 16, 233_723));
    assert!(matches!(letter.blocks[0].contents, Contents::Dense(_)));
    let satimage = load(&folder, "satimage/satimage.train.svm.gz", None);
    assert_eq!(sizes(&satimage), (4_435, 36, 159_660));
    assert_eq!(satimage.shape.classes, [1, 2, 3, 4, 5, 7]);
    let adult = load(&folder, "a9a/a9a.train.svm.gz", None);
    assert_eq!(sizes(&adult), (32_561, 123, 451_592));
    assert_eq!(adult.shape.classes, [-1, 1]);
    let money = load(&folder, "reuters-money-fx/reuters.train.svm.gz", None);
    assert_eq!(sizes(&money), (7_770, 8_315, 339_837));
    let extreme = load(&folder, "lshtc1-small/rdf.train.svm.gz", None);
    assert_eq!((sizes(&extreme), extreme.shape.classes.len()), ((4_463, 26_969, 57_495), 1_139));
}

#[test]
fn a_regression_target_is_refused_with_its_line() {
    let Some(folder) = shared() else { return };
    let path = folder.join("riboflavin/riboflavin.svm.gz");
    let error = read(&path.to_string_lossy(), &ReadOptions::default(), None).unwrap_err().to_string();
    assert!(error.contains("riboflavin.svm.gz:1: label -6.6438562; labels are classes"), "{error}");
}

#[test]
fn several_labels_are_refused_with_their_line() {
    let Some(folder) = shared() else { return };
    let path = folder.join("bibtex/bibtex_train.txt.gz");
    let error = read(&path.to_string_lossy(), &ReadOptions::default(), None).unwrap_err().to_string();
    assert!(error.contains("bibtex_train.txt.gz:"), "{error}");
}

#[test]
fn movielens_has_the_sizes_of_the_readme() {
    let Some(folder) = shared() else { return };
    let whole = load(&folder, "movielens-100k/u.data.gz", None);
    assert_eq!(sizes(&whole), (943, 1_682, 100_000));
    assert_eq!((whole.shape.min_target, whole.shape.max_target), (1.0, 5.0));
    let train = load(&folder, "movielens-100k/u1.base.gz", None);
    assert_eq!((sizes(&train).0, sizes(&train).2), (943, 80_000));
    assert_eq!(train.names.rows[..3], ["1", "2", "3"]);
    let test = load(&folder, "movielens-100k/u1.test.gz", Some(&train));
    assert_eq!((sizes(&test).2, test.blocks.len()), (20_000, train.blocks.len()));
    for (test, train) in test.blocks.iter().zip(&train.blocks) {
        assert_eq!((test.first_row, test.end_row), (train.first_row, train.end_row));
    }
    let fold = load(&folder, "epinions/ratings.fold1.tsv.gz", None);
    assert_eq!(sizes(&fold).2, 183_781);
}

#[test]
fn documents_have_the_sizes_of_the_readme() {
    let Some(folder) = shared() else { return };
    let kos = load(&folder, "kos/docword.kos.txt.gz", None);
    assert_eq!((sizes(&kos), kos.shape.samples), ((3_430, 6_906, 353_160), 467_714));
    assert_eq!((kos.shape.kind, kos.names.columns.len()), (Kind::Documents, 6_906));
    let news = load(&folder, "20news/docword.20news.train.txt.gz", None);
    assert_eq!((sizes(&news), news.shape.samples), ((11_314, 12_454, 812_849), 1_192_174));
    assert_eq!(news.names.columns.len(), 12_454);
    let test = load(&folder, "20news/docword.20news.test.txt.gz", Some(&news));
    assert_eq!(sizes(&test), (7_532, 12_454, 518_509));
}

#[test]
fn mnist_is_read_from_its_folder() {
    let Some(folder) = shared() else { return };
    let train = load(&folder, "mnist", None);
    assert_eq!((train.shape.rows, train.shape.columns), (60_000, 784));
    assert_eq!(train.shape.classes, (0..10).collect::<Vec<i64>>());
    assert_eq!(sizes(&train), (60_000, 784, 8_994_156));
    assert!(matches!(train.blocks[0].contents, Contents::Sparse(_)));
    let test = load(&folder, "mnist", Some(&train));
    assert_eq!(test.blocks.iter().map(|block| block.rows()).sum::<usize>(), 10_000);
}
