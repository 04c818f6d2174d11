//! The server as a child process: configuration file, ports, log, and its end.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use super::{Runtime, SOON, fresh_folder, wait_for};

/// How a server is started.
#[derive(Clone, Debug)]
pub struct Options {
    runtime: &'static str,
    shards: u16,
    demo: bool,
    set: Vec<String>,
    files_max: Option<u64>,
    without_io_uring: bool,
    memlock_bytes: Option<u64>,
}

/// No viewer is to skip because the machine is busy. Tests of slow viewers set their own.
const LAG_MS_MAX: u64 = 10_000;

impl Options {
    pub fn new(runtime: Runtime) -> Self {
        Options {
            runtime: runtime.name(),
            shards: 1,
            demo: false,
            set: vec![format!("viewer.lag_ms_max={LAG_MS_MAX}")],
            files_max: None,
            without_io_uring: false,
            memlock_bytes: None,
        }
    }

    /// `runtime: auto` in a process to which the kernel refuses io_uring.
    pub fn auto_without_io_uring() -> Self {
        Options { runtime: "auto", without_io_uring: true, ..Options::new(Runtime::Epoll) }
    }

    /// `runtime: auto` in a process that may lock so much memory and no more, even as root.
    pub fn auto_with_memlock(memlock_bytes: u64) -> Self {
        Options { runtime: "auto", memlock_bytes: Some(memlock_bytes), ..Options::new(Runtime::Epoll) }
    }

    pub fn shards(mut self, shards: u16) -> Self {
        self.shards = shards;
        self
    }

    /// Publishes the built-in clip as `live/demo`.
    pub fn demo(mut self) -> Self {
        self.demo = true;
        self
    }

    /// `--set key=value`.
    pub fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.set.push(format!("{key}={value}"));
        self
    }

    /// The most files that the server can have open.
    pub fn files_max(mut self, files_max: u64) -> Self {
        self.files_max = Some(files_max);
        self
    }

    fn yaml(&self, folder: &std::path::Path) -> String {
        let Options { runtime, shards, .. } = self;
        let data = folder.join("data");
        let listen = "listen: [\"127.0.0.1:0\"]";
        format!(
            "server: {{runtime: {runtime}, shards: {shards}, data: {}}}\nrtmp: {{{listen}}}\nhttp: {{{listen}}}\nrtsp: {{{listen}}}\n\
             control: {{{listen}}}\ngb28181: {{{listen}}}\n",
            data.display()
        )
    }

    /// The command that starts it, with its configuration in `folder`.
    pub fn command(&self, folder: &std::path::Path) -> Command {
        let config = folder.join("config.yaml");
        std::fs::write(&config, self.yaml(folder)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_shardcast"));
        command.arg("--config").arg(config).env_remove("RUST_LOG").stdin(Stdio::null());
        for option in &self.set {
            command.arg("--set").arg(option);
        }
        if self.demo {
            command.arg("demo");
        }
        if let Some(files_max) = self.files_max {
            // SAFETY: between fork and exec only system calls are made.
            unsafe { command.pre_exec(move || limit_files(files_max)) };
        }
        if let Some(memlock_bytes) = self.memlock_bytes {
            // SAFETY: as above.
            unsafe { command.pre_exec(move || limit_memlock(memlock_bytes)) };
        }
        if self.without_io_uring {
            // SAFETY: as above.
            unsafe { command.pre_exec(refuse_io_uring) };
        }
        command
    }
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    log: Arc<Log>,
    folder: PathBuf,
    pub rtmp: SocketAddr,
    pub http: SocketAddr,
    pub rtsp: SocketAddr,
    pub control: SocketAddr,
}

impl Server {
    #[track_caller]
    pub fn start(options: Options) -> Self {
        let folder = fresh_folder("server");
        let mut child = options.command(&folder).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Log::follow(child.stderr.take().unwrap());
        let unset = SocketAddr::from(([0; 4], 0));
        let mut server = Server { child, log, folder, rtmp: unset, http: unset, rtsp: unset, control: unset };
        server.wait_log("ready", |line| line.ends_with("ready"));
        (server.rtmp, server.http) = (server.address("rtmp"), server.address("http"));
        (server.rtsp, server.control) = (server.address("rtsp"), server.address("control"));
        server
    }

    /// Where it listens under that name, as its log says.
    #[track_caller]
    pub fn address(&self, name: &str) -> SocketAddr {
        let log = self.log();
        let found = log.lines().find_map(|line| line.split_once(&format!("listening {name} "))?.1.parse().ok());
        found.unwrap_or_else(|| panic!("no address of {name} in the log:\n{log}"))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The whole log so far.
    pub fn log(&self) -> String {
        // Also while a test fails that was reading it.
        self.log.state.lock().unwrap_or_else(PoisonError::into_inner).text.clone()
    }

    /// Waits for a line of the log and returns it.
    #[track_caller]
    pub fn wait_log(&self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + SOON;
        let mut state = self.log.state.lock().unwrap();
        loop {
            if let Some(line) = state.text.lines().find(|line| wanted(line)) {
                return line.to_owned();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !state.ended, "the log never said: {what}\n{}", state.text);
            state = self.log.changed.wait_timeout(state, left).unwrap().0;
        }
    }

    pub fn signal(&self, signal: i32) {
        signal_process(self.pid(), signal);
    }

    /// Waits for the process to end by itself.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let child = &mut self.child;
        wait_for("the server ends", SOON, || child.try_wait().unwrap())
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Resident memory in bytes.
    pub fn rss_bytes(&self) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{}/statm", self.pid())).unwrap();
        statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
    }

    pub fn rtmp_url(&self, key: &str) -> String {
        format!("rtmp://{}/{key}", self.rtmp)
    }

    pub fn flv_url(&self, key: &str) -> String {
        format!("http://{}/{key}.flv", self.http)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("---- the server's log, newest last ----");
            tail.iter().rev().for_each(|line| eprintln!("{line}"));
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// What the server has said.
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    text: String,
    ended: bool,
}

impl Log {
    fn follow(stderr: ChildStderr) -> Arc<Log> {
        let log = Arc::new(Log { state: Mutex::default(), changed: Condvar::new() });
        let writer = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut state = writer.state.lock().unwrap();
                state.text.push_str(&line);
                state.text.push('\n');
                writer.changed.notify_all();
            }
            writer.state.lock().unwrap().ended = true;
            writer.changed.notify_all();
        });
        log
    }
}

pub fn signal_process(pid: u32, signal: i32) {
    // SAFETY: takes no pointers.
    let result = unsafe { libc::kill(pid as i32, signal) };
    assert_eq!(result, 0, "cannot signal {pid}");
}

fn limit_files(files_max: u64) -> std::io::Result<()> {
    let limit = libc::rlimit { rlim_cur: files_max, rlim_max: files_max };
    // SAFETY: `limit` is valid for the call.
    match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } {
        0 => Ok(()),
        _ => Err(std::io::Error::last_os_error()),
    }
}

fn limit_memlock(bytes: u64) -> std::io::Result<()> {
    const CAP_IPC_LOCK: libc::c_ulong = 14;
    let limit = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
    // SAFETY: `limit` is valid for the call; the other takes no pointers. Who is not root has nothing to drop.
    unsafe {
        libc::prctl(libc::PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0);
        match libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
}

/// A filter that answers ENOSYS to io_uring's three system calls, as a kernel does that has none.
fn refuse_io_uring() -> std::io::Result<()> {
    const FIRST: u32 = libc::SYS_io_uring_setup as u32;
    const LAST: u32 = libc::SYS_io_uring_register as u32;
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 2, FIRST),
        op(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K, 1, 0, LAST),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: `program` points to `filter`, which outlives both calls; the kernel copies it.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    };
    if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
