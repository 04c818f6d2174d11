//! A simulator of GB/T 28181 devices: SIP as cameras and recorders speak it, and program streams in RTP when they are invited.
//!
//! It is written from the standard, and shares no code with the server's side of it, so that each checks the other. One thread, one wait,
//! however many devices: `fleet.rs` owns their sockets, `device.rs` is one of them, `mod.rs` runs them until they are to end.

mod agent;
mod answers;
pub mod args;
mod calls;
mod date;
mod device;
mod digest;
pub mod fleet;
mod flv;
mod media;
mod notify;
mod packs;
mod ps;
mod registration;
mod rtp;
mod sdp;
mod sender;
mod sip;
pub mod start;
mod talk;
#[cfg(test)]
mod tests;
mod turn;
mod xml;

use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use args::DeviceArgs;
use fleet::Fleet;

use crate::poll::{NANOS_PER_SECOND, Poll, Ready, Token, now};
use crate::tally::Tally;

/// How long devices wait for the answer to their goodbye.
const GOODBYE_LIMIT: u64 = 2 * NANOS_PER_SECOND;

/// Runs until a signal, or until the time is over; then the devices unregister.
pub fn run(args: &DeviceArgs) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let signals = signals()?;
    poll.add(signals.as_raw_fd(), Token::Signal, false)?;
    // A file or nothing cannot be waited for, and has no commands.
    let _ = poll.add(io::stdin().as_raw_fd(), Token::Input, false);
    let mut input = Input::default();
    let mut tally = Tally::new(args.devices.into());
    let mut fleet = Fleet::open(args, &poll)?;
    let mut ready = Vec::new();
    let mut ends_at = args.r#for.map_or(u64::MAX, |seconds| now() + seconds * NANOS_PER_SECOND);
    let mut leaving = false;
    while now() < ends_at || !leaving {
        poll.wait(fleet.next_due().min(ends_at), &mut ready)?;
        let mut asked = now() >= ends_at;
        for Ready { token, readable, writable, .. } in ready.drain(..) {
            match token {
                Token::Device { at, socket } => fleet.ready(at, socket, readable || writable, &poll, &mut tally)?,
                Token::Signal => asked = true,
                Token::Input => {
                    for line in input.read(&poll)? {
                        fleet.command(&line, &poll, &mut tally)?;
                    }
                }
                Token::Timer | Token::Publisher { .. } | Token::Viewer { .. } | Token::Visitor { .. } | Token::Relay { .. } => {}
            }
        }
        fleet.run_due(&poll, &mut tally)?;
        if asked && !leaving {
            leaving = true;
            ends_at = now() + GOODBYE_LIMIT;
            fleet.leave(&poll, &mut tally)?;
        }
        tell(&mut fleet)?;
        if leaving && fleet.has_left() {
            break;
        }
    }
    tell(&mut fleet)
}

/// Events go out line by line, at once.
fn tell(fleet: &mut Fleet) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for event in fleet.events.drain(..) {
        writeln!(out, "{event}")?;
    }
    out.flush()
}

/// A descriptor that is readable when this process is asked to end, which then does not end by itself.
fn signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised before it is used, and lives through all calls; the result is checked before it is owned.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        libc::sigaddset(&raw mut set, libc::SIGINT);
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd: RawFd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}

/// The standard input, line by line.
#[derive(Default)]
struct Input {
    kept: Vec<u8>,
}

impl Input {
    /// The whole lines of what has come.
    fn read(&mut self, poll: &Poll) -> io::Result<Vec<String>> {
        let mut buffer = [0; 4096];
        let count = io::stdin().lock().read(&mut buffer)?;
        if count == 0 {
            poll.remove(io::stdin().as_raw_fd())?;
        }
        self.kept.extend_from_slice(&buffer[..count]);
        let mut lines = Vec::new();
        while let Some(end) = self.kept.iter().position(|byte| *byte == b'\n') {
            lines.push(String::from_utf8_lossy(&self.kept[..end]).trim().to_owned());
            self.kept.drain(..=end);
        }
        Ok(lines)
    }
}
