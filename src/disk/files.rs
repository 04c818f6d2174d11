//! Names and plain calls: what a file is called while it is written, how it is opened, and how much room there is.

use std::ffi::{CString, OsString};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;

/// What the kernel takes in one call (IOV_MAX).
const SLICES_MAX: usize = 1024;

/// A name in the same folder with something in front and behind.
pub fn beside(path: &Path, front: &str, behind: &str) -> PathBuf {
    let mut name = OsString::from(front);
    name.push(path.file_name().unwrap_or_default());
    name.push(behind);
    path.with_file_name(name)
}

/// What a file is called while it is written.
pub fn part_of(path: &Path) -> PathBuf {
    beside(path, ".", ".part")
}

/// What is known of it then.
pub fn start_of(path: &Path) -> PathBuf {
    beside(path, ".", ".start")
}

/// What is known of it later.
pub fn sidecar_of(path: &Path) -> PathBuf {
    beside(path, "", ".json")
}

/// The name of the file whose `.NAME.part` or `.NAME.start` this is.
pub fn named_by(path: &Path, behind: &str) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?.strip_prefix('.')?.strip_suffix(behind)?;
    (!name.is_empty()).then(|| path.with_file_name(name))
}

/// Makes a file that was not there; links are not followed.
pub fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(path)
}

/// Opens a file that is there; links are not followed.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(path)
}

/// Opens a file that is there to change it; links are not followed.
pub fn open_to_write(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC).open(path)
}

/// Whether a file is there, and no link.
pub fn is_file(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_file())
}

/// Removes a file; one that is not there is as good.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Writes a file by another name and then puts it in its place: it is there whole or not at all. Only one that `is_synced` outlives a loss
/// of power for sure.
pub fn replace(path: &Path, bytes: &[u8], is_synced: bool) -> io::Result<()> {
    let unfinished = beside(path, ".", ".new");
    // Of a try that was cut short, or of somebody else.
    remove(&unfinished)?;
    let written = create(&unfinished).and_then(|mut file| {
        file.write_all(bytes)?;
        if is_synced { file.sync_all() } else { Ok(()) }
    });
    written.and_then(|()| fs::rename(&unfinished, path)).inspect_err(|_| drop(fs::remove_file(&unfinished)))
}

/// A new name is on the disk only when its folder is.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// Writes all parts behind one another.
pub fn write_all(file: &mut File, parts: &[Bytes]) -> io::Result<()> {
    let mut slices: Vec<IoSlice<'_>> = parts.iter().filter(|part| !part.is_empty()).map(|part| IoSlice::new(part)).collect();
    let mut rest = &mut slices[..];
    while !rest.is_empty() {
        let some = rest.len().min(SLICES_MAX);
        match file.write_vectored(&rest[..some]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => IoSlice::advance_slices(&mut rest, count),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Bytes that we may still write where `folder` is.
pub fn free_bytes(folder: &Path) -> io::Result<u64> {
    let path = CString::new(folder.as_os_str().as_bytes())?;
    // SAFETY: all zeros is a value of this plain structure.
    let mut found: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with a zero, and `found` is a valid place for the result.
    if unsafe { libc::statvfs(path.as_ptr(), &raw mut found) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((found.f_bavail as u64).saturating_mul(found.f_frsize as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_one_another() {
        let path = Path::new("a/b/22-00-00.000.mp4");
        assert_eq!(part_of(path), Path::new("a/b/.22-00-00.000.mp4.part"));
        assert_eq!(named_by(&part_of(path), ".part").as_deref(), Some(path));
        assert_eq!(sidecar_of(path), Path::new("a/b/22-00-00.000.mp4.json"));
        assert_eq!(named_by(Path::new("a/..part"), ".part"), None);
        assert_eq!(named_by(path, ".part"), None);
    }
}
