//! Places that are to be written: whether they can be is asked before anything long is done.

use dunlin::{Error, Result};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

/// Refuses a folder that cannot be made, or in which nothing can be made. What is made to find out is taken away again.
///
/// # Errors
/// [`Error::Usage`] with `flag`, the folder and the cause.
pub(crate) fn check_folder(flag: &str, folder: &Path) -> Result<()> {
    let wrong = |what: &str, cause: &dyn std::fmt::Display| {
        Error::Usage(format!("{flag} {}: {what}: {cause}", folder.display()))
    };
    let missing: Vec<PathBuf> = folder
        .ancestors()
        .take_while(|place| !place.as_os_str().is_empty() && !place.exists())
        .map(Path::to_path_buf)
        .collect();
    if folder.exists() && !folder.is_dir() {
        return Err(wrong("a run needs a folder", &"this is a file"));
    }
    let made = std::fs::create_dir_all(folder);
    let probe = folder.join(format!(".dunlin-{}", std::process::id()));
    let written = made.is_ok().then(|| OpenOptions::new().write(true).create_new(true).open(&probe));
    let _ = std::fs::remove_file(&probe); // it may not be there
    for place in missing {
        let _ = std::fs::remove_dir(place); // only what is empty goes
    }
    made.map_err(|error| wrong("the folder cannot be made", &error))?;
    written.transpose().map_err(|error| wrong("nothing can be written there", &error)).map(drop)
}

/// Refuses a file that cannot be written. One that is there stays as it is.
///
/// # Errors
/// [`Error::Usage`] with `flag`, the file and the cause.
pub(crate) fn check_file(flag: &str, file: &Path) -> Result<()> {
    let wrong = |cause: String| Error::Usage(format!("{flag} {}: cannot write it: {cause}", file.display()));
    if file.as_os_str().is_empty() {
        return Err(Error::Usage(format!("{flag}: the name is empty; give a file")));
    }
    if file.is_dir() {
        return Err(wrong("this is a folder; give a file".into()));
    }
    let is_new = !file.exists();
    OpenOptions::new().append(true).create(true).open(file).map_err(|error| wrong(error.to_string()))?;
    if is_new {
        let _ = std::fs::remove_file(file); // empty, and ours
    }
    Ok(())
}
