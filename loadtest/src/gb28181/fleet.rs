//! Many devices in one thread: their SIP sockets, one each or one for all, and whose turn it is.

use std::collections::HashMap;
use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::rc::Rc;

use serde_json::{Value, json};

use super::agent::Agent;
use super::args::{DeviceArgs, Quirks, SipTransport};
use super::calls::addressee;
use super::device::{Device, Settings};
use super::media::Media;
use super::registration::State;
use super::sip::Message;
use super::turn::{Scratch, Turn};
use crate::clip::Shape;
use crate::poll::{NANOS_PER_SECOND, Poll, Token, now};
use crate::schedule::Schedule;
use crate::tally::Tally;

/// Devices begin to register one after the other, so that a socket's buffer is enough for all.
const REGISTER_PAUSE: u64 = NANOS_PER_SECOND / 1000;
/// A connection that was lost is tried again.
const RECONNECT_PAUSE: u64 = NANOS_PER_SECOND;
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;

/// What carries SIP.
enum Wire {
    Udp(UdpSocket),
    Tcp { stream: Option<TcpStream>, received: Vec<u8>, out: Vec<u8>, watched: bool, retry_at: u64 },
}

pub struct Fleet {
    server: SocketAddr,
    devices: Vec<Device>,
    /// One for each device, or one for all.
    wires: Vec<Wire>,
    shared: bool,
    /// All numbers of devices and channels.
    owners: HashMap<String, usize>,
    schedule: Schedule<usize>,
    /// Per device: the turn in the schedule that counts.
    scheduled: Vec<u64>,
    scratch: Scratch,
    /// When which device begins to register.
    begins: Vec<u64>,
    pub events: Vec<Value>,
}

impl Fleet {
    pub fn open(args: &DeviceArgs, poll: &Poll) -> io::Result<Fleet> {
        let server = args.server.to_socket_addrs()?.next();
        let server = server.ok_or_else(|| io::Error::other(format!("{}: the host has no address", args.server)))?;
        let settings = Rc::new(settings(args)?);
        let count = usize::from(args.devices);
        let wires: Vec<Wire> =
            (0..if args.shared_socket { 1 } else { count }).map(|_| Wire::open(args.sip, server)).collect::<io::Result<_>>()?;
        for (at, wire) in wires.iter().enumerate() {
            wire.watch(at, poll)?;
        }
        let began = now();
        let mut devices = Vec::new();
        for number in 0..count {
            let local = wires[if args.shared_socket { 0 } else { number }].local()?;
            devices.push(Device::new(settings.clone(), number, local, began));
        }
        let mut owners = HashMap::new();
        for (at, device) in devices.iter().enumerate() {
            let ids = device.inventory.channels.iter().map(|channel| &channel.id).chain(&device.inventory.speaker);
            owners.extend(ids.chain([&device.inventory.device]).map(|id| (id.clone(), at)));
        }
        let begins: Vec<u64> = (0..count as u64).map(|number| began + number * REGISTER_PAUSE).collect();
        let mut schedule = Schedule::default();
        begins.iter().enumerate().for_each(|(at, begin)| schedule.add(*begin, at));
        Ok(Fleet {
            server,
            devices,
            wires,
            shared: args.shared_socket,
            owners,
            schedule,
            scheduled: begins.clone(),
            scratch: Scratch::new(),
            begins,
            events: Vec::new(),
        })
    }

    pub fn next_due(&self) -> u64 {
        let wires = self.wires.iter().map(|wire| match wire {
            Wire::Tcp { retry_at, .. } => *retry_at,
            Wire::Udp(_) => u64::MAX,
        });
        wires.min().unwrap_or(u64::MAX).min(self.schedule.next())
    }

    pub fn all_registered(&self) -> bool {
        self.devices.iter().all(|device| device.registration.state == State::On)
    }

    /// Whether each device sends.
    pub fn all_send(&self) -> bool {
        self.devices.iter().all(|device| device.sent().any(|sent| sent.units > 0))
    }

    /// Packets that the server reports as lost on their way to it; `None`: no report has come.
    pub fn reported_lost(&self) -> Option<i64> {
        let lost: Vec<i64> = self.devices.iter().flat_map(Device::sent).filter_map(|sent| sent.lost).collect();
        (!lost.is_empty()).then(|| lost.iter().sum())
    }

    /// Packets that could not be sent.
    pub fn unsent(&self) -> u64 {
        self.devices.iter().flat_map(Device::sent).map(|sent| sent.unsent).sum()
    }

    /// Does what is due, of all devices.
    pub fn run_due(&mut self, poll: &Poll, tally: &mut Tally) -> io::Result<()> {
        self.reconnect(poll, tally)?;
        let until = now();
        while let Some(at) = self.schedule.take_due(until) {
            if self.scheduled[at] > until {
                continue;
            }
            self.scheduled[at] = u64::MAX;
            let begins = std::mem::replace(&mut self.begins[at], u64::MAX) <= until;
            self.turn(at, poll, tally, |device, turn| {
                if begins {
                    device.register_now(turn);
                }
                device.timeout(turn);
            })?;
        }
        Ok(())
    }

    /// Lets one device do something, and sends what it says.
    fn turn(
        &mut self,
        at: usize,
        poll: &Poll,
        tally: &mut Tally,
        run: impl FnOnce(&mut Device, &mut Turn<'_>),
    ) -> io::Result<()> {
        let mut out = Vec::new();
        let device = &mut self.devices[at];
        let scratch = &mut self.scratch;
        let mut turn = Turn { now: now(), poll, device: at, out: &mut out, events: &mut self.events, tally, scratch };
        run(device, &mut turn);
        // A device that has not begun has nothing that is due.
        let next = device.next_due().min(self.begins[at]);
        if next < self.scheduled[at] {
            self.scheduled[at] = next;
            self.schedule.add(next, at);
        }
        let wire = if self.shared { 0 } else { at };
        out.iter().try_for_each(|bytes| self.wires[wire].send(wire, bytes, poll))
    }

    /// A socket has something, or has room again. `socket`: 0 is for SIP; `at` then names the wire, else the device.
    pub fn ready(&mut self, at: usize, socket: usize, ready: bool, poll: &Poll, tally: &mut Tally) -> io::Result<()> {
        if !ready {
            return Ok(());
        }
        if socket > 0 {
            return self.turn(at, poll, tally, |device, turn| device.ready(socket, turn));
        }
        let mut messages = Vec::new();
        if let Err(error) = self.wires[at].receive(at, &mut messages, poll) {
            self.events.push(json!({ "event": "disconnected", "error": error.to_string() }));
            self.wires[at].lose();
        }
        for message in messages {
            let owner = if self.shared { self.owner(&message) } else { Some(at) };
            if let Some(owner) = owner {
                self.turn(owner, poll, tally, |device, turn| device.message(&message, turn))?;
            }
        }
        Ok(())
    }

    fn owner(&self, message: &Message) -> Option<usize> {
        match message.method() {
            None => Agent::number_of(message).filter(|at| *at < self.devices.len()),
            Some(_) => self.owners.get(addressee(message)).copied(),
        }
    }

    fn reconnect(&mut self, poll: &Poll, tally: &mut Tally) -> io::Result<()> {
        for at in 0..self.wires.len() {
            if !self.wires[at].reconnect(at, self.server, poll)? {
                continue;
            }
            let devices = if self.shared { 0..self.devices.len() } else { at..at + 1 };
            let local = self.wires[at].local()?;
            for device in devices {
                self.devices[device].agent.identity.local = local;
                self.turn(device, poll, tally, |device, turn| device.reconnected(turn))?;
            }
        }
        Ok(())
    }

    /// A command for all.
    pub fn command(&mut self, line: &str, poll: &Poll, tally: &mut Tally) -> io::Result<()> {
        (0..self.devices.len()).try_for_each(|at| self.turn(at, poll, tally, |device, turn| device.command(line, turn)))
    }

    pub fn leave(&mut self, poll: &Poll, tally: &mut Tally) -> io::Result<()> {
        (0..self.devices.len()).try_for_each(|at| {
            self.turn(at, poll, tally, |device, turn| {
                if !device.vanished {
                    device.end_calls(turn);
                    device.unregister(turn);
                }
            })
        })
    }

    pub fn has_left(&self) -> bool {
        self.devices.iter().all(|device| device.vanished || matches!(device.registration.state, State::Off | State::Registering))
    }
}

fn settings(args: &DeviceArgs) -> io::Result<Settings> {
    let file = |path: &Path| {
        let told = |error: String| io::Error::other(format!("{}: {error}", path.display()));
        let bytes = fs::read(path).map_err(|error| told(error.to_string()))?;
        Media::from_file(&bytes).map(Rc::new).map_err(|error| told(error.to_owned()))
    };
    let quirks = Quirks::of(&args.quirk);
    let first = match &args.clip {
        Some(path) => file(path)?,
        None => {
            let shape = Shape { frames_per_second: args.fps, gop_ms: args.gop_ms, bits_per_second: args.rate.0 };
            Rc::new(Media::from_clip(shape))
        }
    };
    let second = args.then.as_ref().filter(|_| quirks.changes_codec).map(|path| file(path)).transpose()?;
    if quirks.changes_codec && second.is_none() {
        return Err(io::Error::other("--quirk changes-codec needs a second clip: --then FLV"));
    }
    Ok(Settings { args: args.clone(), quirks, clips: [first].into_iter().chain(second).collect() })
}

impl Wire {
    fn open(transport: SipTransport, server: SocketAddr) -> io::Result<Wire> {
        match transport {
            SipTransport::Udp => {
                let any: SocketAddr = if server.is_ipv4() { ([0; 4], 0).into() } else { ([0u16; 8], 0).into() };
                let socket = UdpSocket::bind(any)?;
                socket.connect(server)?;
                socket.set_nonblocking(true)?;
                Ok(Wire::Udp(socket))
            }
            SipTransport::Tcp => {
                let stream = Some(connect(server).map_err(|error| io::Error::other(format!("{server}: {error}")))?);
                Ok(Wire::Tcp { stream, received: Vec::new(), out: Vec::new(), watched: false, retry_at: u64::MAX })
            }
        }
    }

    fn watch(&self, at: usize, poll: &Poll) -> io::Result<()> {
        let fd = match self {
            Wire::Udp(socket) => socket.as_raw_fd(),
            Wire::Tcp { stream: Some(stream), .. } => stream.as_raw_fd(),
            Wire::Tcp { stream: None, .. } => return Ok(()),
        };
        poll.add(fd, Token::Device { at, socket: 0 }, false)
    }

    fn local(&self) -> io::Result<SocketAddr> {
        match self {
            Wire::Udp(socket) => socket.local_addr(),
            Wire::Tcp { stream: Some(stream), .. } => stream.local_addr(),
            Wire::Tcp { stream: None, .. } => Err(ErrorKind::NotConnected.into()),
        }
    }

    fn send(&mut self, at: usize, bytes: &[u8], poll: &Poll) -> io::Result<()> {
        match self {
            Wire::Udp(socket) => match socket.send(bytes) {
                Ok(_) => Ok(()),
                // It is repeated; the server may not be there yet.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionRefused) => Ok(()),
                Err(error) => Err(error),
            },
            Wire::Tcp { out, .. } => {
                out.extend_from_slice(bytes);
                self.flush(at, poll)
            }
        }
    }

    fn flush(&mut self, at: usize, poll: &Poll) -> io::Result<()> {
        let Wire::Tcp { stream: Some(stream), out, watched, .. } = self else { return Ok(()) };
        while !out.is_empty() {
            match stream.write(out) {
                Ok(count) => drop(out.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The next read says what has happened.
                Err(_) => return Ok(()),
            }
        }
        let blocked = !out.is_empty();
        if std::mem::replace(watched, blocked) != blocked {
            poll.change(stream.as_raw_fd(), Token::Device { at, socket: 0 }, blocked)?;
        }
        Ok(())
    }

    /// Takes all that has come. What is no SIP message is left out, on a connection it is the end.
    fn receive(&mut self, at: usize, messages: &mut Vec<Message>, poll: &Poll) -> io::Result<()> {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        match self {
            Wire::Udp(socket) => loop {
                match socket.recv(&mut buffer) {
                    Ok(count) => messages.extend(Message::parse(&buffer[..count])),
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(error),
                }
            },
            Wire::Tcp { stream: Some(stream), received, .. } => {
                match stream.read(&mut buffer) {
                    Ok(0) => return Err(io::Error::other("the server closed the connection")),
                    Ok(count) => received.extend_from_slice(&buffer[..count]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
                while let Some(message) = Message::take(received).map_err(io::Error::other)? {
                    messages.push(message);
                }
                self.flush(at, poll)
            }
            Wire::Tcp { stream: None, .. } => Ok(()),
        }
    }

    fn lose(&mut self) {
        if let Wire::Tcp { stream, received, out, watched, retry_at } = self {
            (*stream, *watched, *retry_at) = (None, false, now() + RECONNECT_PAUSE);
            received.clear();
            out.clear();
        }
    }

    /// Whether there is a new connection.
    fn reconnect(&mut self, at: usize, server: SocketAddr, poll: &Poll) -> io::Result<bool> {
        let Wire::Tcp { stream, retry_at, .. } = self else { return Ok(false) };
        if *retry_at > now() {
            return Ok(false);
        }
        *retry_at = u64::MAX;
        match connect(server) {
            Ok(new) => {
                *stream = Some(new);
                self.watch(at, poll)?;
                Ok(true)
            }
            Err(_) => {
                *retry_at = now() + RECONNECT_PAUSE;
                Ok(false)
            }
        }
    }
}

fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::{Action, Args};
    use crate::poll::Ready;

    /// Runs a fleet until it has told of something so often. `answer`: what the platform says to each message.
    fn run(options: &str, event: &str, times: usize, mut answer: impl FnMut(&Message) -> Vec<Message>) -> Fleet {
        let platform = UdpSocket::bind("127.0.0.1:0").unwrap();
        platform.set_nonblocking(true).unwrap();
        let address = platform.local_addr().unwrap().to_string();
        let words = ["loadtest", "gb28181-device", "--server", &address].into_iter().chain(options.split(' '));
        let Some(Action::Gb28181Device(args)) = Args::try_parse_from(words).unwrap().action else { panic!("devices") };
        let (mut poll, mut tally) = (Poll::new().unwrap(), Tally::new(1));
        let mut fleet = Fleet::open(&args, &poll).unwrap();
        let (mut ready, mut buffer) = (Vec::new(), vec![0; DATAGRAM_BYTES_MAX]);
        for _ in 0..2_000 {
            if fleet.events.iter().filter(|told| told["event"] == event).count() >= times {
                return fleet;
            }
            poll.wait(fleet.next_due().min(now() + 5_000_000), &mut ready).unwrap();
            for Ready { token, .. } in ready.drain(..) {
                if let Token::Device { at, socket } = token {
                    fleet.ready(at, socket, true, &poll, &mut tally).unwrap();
                }
            }
            fleet.run_due(&poll, &mut tally).unwrap();
            while let Ok((count, peer)) = platform.recv_from(&mut buffer) {
                for message in answer(&Message::parse(&buffer[..count]).unwrap()) {
                    platform.send_to(&message.write(false), peer).unwrap();
                }
            }
        }
        panic!("never told {event} {times} times: {:?}", fleet.events);
    }

    #[test]
    fn devices_share_a_socket_or_have_one_each() {
        for options in ["--devices 5 --channels 2", "--devices 5 --channels 2 --shared-socket"] {
            let mut asked = 0;
            // Each is asked as soon as it is there, the last one through its second channel.
            let fleet = run(options, "query", 5, |message| {
                let mut answers: Vec<Message> =
                    message.method().map(|_| Message::response(message, 200, "OK")).into_iter().collect();
                if message.method() == Some("REGISTER") {
                    asked += 1;
                    let device = super::super::sip::user(message.header("From").unwrap()).to_owned();
                    let target = if device.ends_with('5') { "34020000001310000010".to_owned() } else { device };
                    let query = Message::request("MESSAGE", &format!("sip:{target}@h"))
                        .with("Via", format!("SIP/2.0/UDP h;branch=z9hG4bK{asked}"))
                        .with("CSeq", "1 MESSAGE")
                        .with_body("x", b"<Query><CmdType>DeviceInfo</CmdType></Query>".to_vec());
                    answers.push(query);
                }
                answers
            });
            assert_eq!(fleet.wires.len(), if options.contains("shared") { 1 } else { 5 });
            let mut who: Vec<&str> =
                fleet.events.iter().filter(|told| told["event"] == "query").filter_map(|told| told["device"].as_str()).collect();
            who.sort_unstable();
            who.dedup();
            assert_eq!(who.len(), 5, "{options}: {who:?}");
            assert!(fleet.all_registered() && !fleet.all_send());
        }
    }
}
