//! What survives a restart, as one JSON file in the folder `server.data`.
//!
//! Written to a second name first and then put in the place of the old one, so that a reader finds either the old or the new text whole,
//! also after a loss of power. A file that cannot be understood is set aside under the name with `.broken` behind it. These calls block:
//! not for the runtime's thread. Not here: what is in the file, and when it is written (`host.rs`).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// A larger file is not ours.
const FILE_BYTES_MAX: u64 = 256 * 1024 * 1024;

/// The name of a file and of those beside it.
#[derive(Clone, Debug)]
pub struct StateFile {
    folder: PathBuf,
    name: &'static str,
}

/// What was found at the start.
#[derive(Debug)]
pub enum Found<T> {
    Nothing,
    Whole(T),
    /// It is set aside; one sentence of why.
    Broken(String),
}

impl StateFile {
    pub fn new(folder: &Path, name: &'static str) -> Self {
        StateFile { folder: folder.to_owned(), name }
    }

    pub fn path(&self) -> PathBuf {
        self.folder.join(self.name)
    }

    fn beside(&self, ending: &str) -> PathBuf {
        self.folder.join(format!("{}.{ending}", self.name))
    }

    /// Never fails: a server without its memory is better than none.
    pub fn read<T: DeserializeOwned>(&self) -> Found<T> {
        let path = self.path();
        let why = match read_some(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(state) => return Found::Whole(state),
                Err(error) => error.to_string(),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Found::Nothing,
            Err(error) => error.to_string(),
        };
        let aside = self.beside("broken");
        let set_aside = match fs::rename(&path, &aside) {
            Ok(()) => format!("it is now {}", aside.display()),
            Err(error) => format!("it cannot be set aside: {error}"),
        };
        Found::Broken(format!("{} cannot be understood ({why}); {set_aside}", path.display()))
    }

    /// Whole or not at all. Makes the folder if there is none.
    pub fn write(&self, state: &impl Serialize) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        let unfinished = self.beside("new");
        let mut file = File::create(&unfinished)?;
        let text = serde_json::to_vec(state)?;
        file.write_all(&text)?;
        file.sync_all()?;
        drop(file);
        fs::rename(&unfinished, self.path())?;
        // The new name is in the folder, and the folder has to reach the disk as well.
        File::open(&self.folder)?.sync_all()
    }
}

fn read_some(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing::Folder;

    #[test]
    fn what_is_written_is_read_again() {
        let folder = Folder::new("written");
        let file = StateFile::new(&folder.path().join("deep/data"), "state.json");
        assert!(matches!(file.read::<Vec<u32>>(), Found::Nothing));
        for state in [vec![1, 2, 3], vec![4]] {
            file.write(&state).unwrap();
            assert!(matches!(file.read::<Vec<u32>>(), Found::Whole(read) if read == state));
        }
        let names: Vec<_> =
            fs::read_dir(folder.path().join("deep/data")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["state.json"], "nothing is left over");
    }

    #[test]
    fn a_broken_file_is_set_aside() {
        let folder = Folder::new("broken");
        let file = StateFile::new(folder.path(), "state.json");
        for text in ["[1, 2", "", "{\"a\": 1}", "\0\0\0\0"] {
            fs::write(file.path(), text).unwrap();
            let Found::Broken(why) = file.read::<Vec<u32>>() else { panic!("{text:?} is taken") };
            assert!(why.contains("state.json.broken"), "{why}");
            assert_eq!(fs::read_to_string(file.beside("broken")).unwrap(), text);
            assert!(matches!(file.read::<Vec<u32>>(), Found::Nothing), "the next start is not troubled");
        }
    }

    #[test]
    fn half_a_write_leaves_the_old_state() {
        let folder = Folder::new("half");
        let file = StateFile::new(folder.path(), "state.json");
        file.write(&vec![1]).unwrap();
        fs::write(file.beside("new"), "[2").unwrap();
        assert!(matches!(file.read::<Vec<u32>>(), Found::Whole(state) if state == [1]));
        file.write(&vec![3]).unwrap();
        assert!(matches!(file.read::<Vec<u32>>(), Found::Whole(state) if state == [3]));
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_an_error() {
        let folder = Folder::new("none");
        fs::write(folder.path().join("data"), "a file").unwrap();
        assert!(StateFile::new(&folder.path().join("data"), "state.json").write(&1).is_err());
    }
}
