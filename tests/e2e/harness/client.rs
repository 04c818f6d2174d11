//! Client programs as child processes with bounded time.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::server::signal_process;
use super::{SOON, fresh_folder, skip, wait_for};

/// Where a program is, if it is installed.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Whether one of `programs` is missing; says so. `SHARDCAST_E2E_WITHOUT` names one that this system does not offer.
pub fn missing(programs: &[&str]) -> bool {
    let absent = programs.iter().find(|program| find(program).is_none());
    let Some(program) = absent else { return false };
    if std::env::var_os("SHARDCAST_E2E_WITHOUT").is_some_and(|without| without == *program) {
        println!("skipped: no {program} on this system");
    } else {
        skip(&format!("no {program}"));
    }
    true
}

/// The system's ffmpeg.
pub fn ffmpeg() -> Command {
    ffmpeg_at("ffmpeg")
}

/// An ffmpeg that speaks Enhanced RTMP: named by `SHARDCAST_FFMPEG_NEW`, or the one of Python's `imageio_ffmpeg`.
pub fn ffmpeg_new() -> Option<Command> {
    static PATH: OnceLock<Option<PathBuf>> = OnceLock::new();
    let path = PATH.get_or_init(|| {
        let named = std::env::var_os("SHARDCAST_FFMPEG_NEW").map(PathBuf::from);
        named.or_else(ask_python).filter(|path| path.is_file())
    });
    if path.is_none() {
        skip("no newer ffmpeg");
    }
    path.as_ref().map(ffmpeg_at)
}

fn ask_python() -> Option<PathBuf> {
    let script = "import imageio_ffmpeg as i; print(i.get_ffmpeg_exe())";
    let output = Command::new("python3").args(["-c", script]).output().ok()?;
    output.status.success().then(|| PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()))
}

fn ffmpeg_at(path: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(path);
    command.args(["-nostdin", "-hide_banner", "-v", "error", "-y"]);
    command
}

/// A running program; killed when dropped.
pub struct Client {
    child: Child,
    what: String,
    folder: PathBuf,
}

impl Client {
    #[track_caller]
    pub fn start(command: &mut Command) -> Self {
        let folder = fresh_folder("client");
        let output = std::fs::File::create(folder.join("output")).unwrap();
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let what = format!("{command:?}");
        let child = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        Client { child, what, folder }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        std::fs::read(self.folder.join("output")).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    #[track_caller]
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let child = &mut self.child;
        wait_for(&self.what, patience, || child.try_wait().unwrap())
    }

    /// Waits for its end, which must be a success.
    #[track_caller]
    pub fn succeed(mut self) -> String {
        let status = self.wait(SOON);
        assert!(status.success(), "{}: {status}\n{}", self.what, self.output());
        self.output()
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, signal: i32) {
        signal_process(self.pid(), signal);
    }

    /// SIGKILL, and waits until it is dead.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- {}\n{}", self.what, self.output());
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
