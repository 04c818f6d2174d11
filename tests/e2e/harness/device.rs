//! GB28181 devices: the load generator's simulator as a child process, what it tells, and what the API says of devices and calls.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Instant;

use serde_json::Value;

use super::api::{Response, request, request_with};
use super::server::signal_process;
use super::{Options, Runtime, SOON, Server, fresh_folder, wait_for};

pub const PASSWORD: &str = "secret";
pub const DEVICE: &str = "34020000001110000001";
pub const CHANNEL: &str = "34020000001310000001";
/// The first channel of the first device.
pub const STREAM: &str = "gb/34020000001110000001/34020000001310000001";

/// A server that devices can register with, on free ports.
pub fn platform(runtime: Runtime) -> Options {
    Options::new(runtime)
        .set("gb28181.enabled", true)
        .set("gb28181.listen", "[127.0.0.1:0]")
        .set("gb28181.password", PASSWORD)
        .set("viewer.wait_ms", 40_000)
}

/// The simulator's program, built now if it is not there or old: `cargo test` builds the programs of its own package only.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = Path::new(env!("CARGO_BIN_EXE_shardcast")).parent().unwrap();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--locked", "--package", "shardcast-loadtest"]).current_dir(env!("CARGO_MANIFEST_DIR"));
        build.arg("--target-dir").arg(folder.parent().unwrap());
        if folder.ends_with("release") {
            build.arg("--release");
        }
        let built = build.status();
        let program = folder.join("shardcast-loadtest");
        let is_there = built.as_ref().is_ok_and(ExitStatus::success) && program.is_file();
        assert!(is_there, "the device simulator, a program of the package shardcast-loadtest, cannot be built: {built:?}");
        program
    })
}

/// What a simulator has told.
#[derive(Default)]
struct Told {
    events: Mutex<(Vec<Value>, bool)>,
    changed: Condvar,
}

/// A running simulator; killed when dropped.
pub struct Device {
    child: Child,
    commands: ChildStdin,
    told: Arc<Told>,
}

impl Device {
    /// With further options, separated by blanks.
    #[track_caller]
    pub fn start(server: &Server, options: &str) -> Self {
        Device::start_with(server, options, None)
    }

    /// With a clip of its own.
    #[track_caller]
    pub fn start_with(server: &Server, options: &str, clip: Option<&Path>) -> Self {
        let mut command = Command::new(program());
        command.args(["gb28181-device", "--server", &server.address("gb28181 udp").to_string()]);
        if !options.contains("--password") {
            command.args(["--password", PASSWORD]);
        }
        command.args(options.split_whitespace());
        if let Some(clip) = clip {
            command.arg("--clip").arg(clip);
        }
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let told = Arc::new(Told::default());
        let (writer, lines) = (told.clone(), BufReader::new(child.stdout.take().unwrap()).lines());
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let event = serde_json::from_str(&line).unwrap_or(Value::String(line));
                writer.events.lock().unwrap().0.push(event);
                writer.changed.notify_all();
            }
            writer.events.lock().unwrap().1 = true;
            writer.changed.notify_all();
        });
        let commands = child.stdin.take().unwrap();
        Device { child, commands, told }
    }

    /// All events so far of that name.
    pub fn events(&self, name: &str) -> Vec<Value> {
        let events = self.told.events.lock().unwrap();
        events.0.iter().filter(|event| event["event"] == name).cloned().collect()
    }

    /// Waits until it has told of something so often; the last of those.
    #[track_caller]
    pub fn wait_times(&self, name: &str, times: usize) -> Value {
        self.wait_for(name, times, |_| true)
    }

    #[track_caller]
    pub fn wait(&self, name: &str) -> Value {
        self.wait_times(name, 1)
    }

    /// Waits for the event of that name that is the `times`th of which `wanted` is true.
    #[track_caller]
    pub fn wait_for(&self, name: &str, times: usize, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + SOON;
        let mut events = self.told.events.lock().unwrap();
        loop {
            let mut matching = events.0.iter().filter(|event| event["event"] == name && wanted(event));
            if let Some(event) = matching.nth(times - 1) {
                return event.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero() && !events.1, "the device never told {name} {times} times: {:#?}", events.0);
            events = self.told.changed.wait_timeout(events, left).unwrap().0;
        }
    }

    pub fn command(&mut self, line: &str) {
        writeln!(self.commands, "{line}").unwrap();
    }

    /// SIGTERM: it unregisters, and ends.
    #[track_caller]
    pub fn leave(mut self) {
        signal_process(self.child.id(), libc::SIGTERM);
        let child = &mut self.child;
        let status = wait_for("the device ends", SOON, || child.try_wait().unwrap());
        assert!(status.success(), "{status}");
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("---- what the device has told");
            let events = self.told.events.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            events.0.iter().for_each(|event| eprintln!("{event}"));
        }
    }
}

impl Server {
    /// A server whose devices, and what is known of them, are in a folder of their own; removed by its owner.
    #[track_caller]
    pub fn start_platform(options: Options) -> Self {
        Server::start(options.set("server.data", fresh_folder("platform").display()))
    }

    #[track_caller]
    pub fn gb(&self, path: &str) -> Value {
        self.api(&format!("gb28181/{path}"))
    }

    /// Any answer.
    #[track_caller]
    pub fn post_gb(&self, path: &str, body: &Value) -> Response {
        let path = format!("/api/v1/gb28181/{path}");
        request_with(self.control, "POST", &path, &["Content-Type: application/json"], &body.to_string())
    }

    /// An answer that must be good; `Null` where it is empty.
    #[track_caller]
    pub fn ask_gb(&self, path: &str, body: &Value) -> Value {
        let response = self.post_gb(path, body);
        assert!((200..300).contains(&response.status), "{path} {body}: {} {}", response.status, response.text());
        if response.body.is_empty() { Value::Null } else { response.json() }
    }

    #[track_caller]
    pub fn delete_gb(&self, path: &str) -> u16 {
        request(self.control, "DELETE", &format!("/api/v1/gb28181/{path}"), &[]).status
    }

    /// Waits until a device is online or not; what the API says of it then.
    #[track_caller]
    pub fn wait_device(&self, id: &str, online: bool) -> Value {
        wait_for(&format!("device {id}: online is {online}"), SOON, || {
            let response = request(self.control, "GET", &format!("/api/v1/gb28181/devices/{id}"), &[]);
            (response.status == 200).then(|| response.json()).filter(|device| device["online"] == online)
        })
    }

    /// Waits until the catalog of a device has come.
    #[track_caller]
    pub fn wait_channels(&self, id: &str, count: usize) -> Vec<Value> {
        self.wait_device(id, true);
        wait_for(&format!("device {id} has {count} channels"), SOON, || {
            let channels = self.gb(&format!("devices/{id}/channels"))["channels"].as_array().unwrap().clone();
            (channels.len() == count).then_some(channels)
        })
    }

    /// The newest call first.
    pub fn calls(&self) -> Vec<Value> {
        self.gb("calls")["calls"].as_array().unwrap().clone()
    }

    /// Waits until the newest call of a stream is in that state; what it says then.
    #[track_caller]
    pub fn wait_call(&self, stream: &str, state: &str) -> Value {
        let mut last = Value::Null;
        wait_for(&format!("the call of {stream} is {state}"), SOON, || {
            let newest = self.calls().into_iter().find(|call| call["stream"] == stream)?;
            if newest["state"] != last["state"] {
                println!("call {}: {}: {}", newest["id"], newest["state"], newest["detail"]);
            }
            last = newest.clone();
            (newest["state"] == state).then_some(newest)
        })
    }
}
